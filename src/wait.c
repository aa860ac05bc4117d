#include "wait.h"

#include "scheduler.h"

static weft_wait_lender *lend;

void weft_wait_set_lender(weft_wait_lender *lender) { lend = lender; }

/* ---- what a fiber carries across a suspension beside its registers ---- */

/* Both are found through the thread pointer, which changes (H07, H08): every worker keeps their addresses on its own thread, and the
 * compiler never sees one that it could keep across the suspension. libstdc++ has the exceptions in flight per thread (Itanium C++ ABI
 * 2.2.2); a task may suspend in a catch block (H13). */
struct carried {
    int error;
    struct weft_cxx_globals cxx;
};

static void carry(struct carried *carried)
{
    struct weft_worker *worker = weft_worker_here();
    carried->error = *worker->errno_location;
    if (weft_unlikely(worker->cxx_globals != NULL)) {
        carried->cxx = *worker->cxx_globals;
        *worker->cxx_globals = (struct weft_cxx_globals){ 0 };
    }
}

static void uncarry(const struct carried *carried)
{
    struct weft_worker *worker = weft_worker_here();
    if (weft_unlikely(worker->cxx_globals != NULL)) {
        *worker->cxx_globals = carried->cxx;
    }
    *worker->errno_location = carried->error;
}

void weft_fiber_suspend_kept(void (*suspend)(void))
{
    struct carried carried;
    carry(&carried);
    suspend();
    uncarry(&carried);
}

/* ---- frames ---- */

void weft_frames_block(struct weft_slot *slot)
{
    for (struct weft_frame *frame = slot->frame; frame && !frame->blocked; frame = frame->outer) {
        frame->blocked = true;
        frame->ops->block(frame);
    }
}

void weft_frames_resume(struct weft_slot *slot)
{
    for (struct weft_frame *frame = slot->frame; frame && frame->blocked; frame = frame->outer) {
        frame->blocked = false;
        frame->ops->resume(frame);
    }
}

/* ---- the protocol ---- */

uint64_t weft_wait_begin(struct weft_slot *slot)
{
    uint64_t epoch = weft_claim_epoch(a_load(&slot->claim, RELAXED)) + 1;
    a_store(&slot->claim, weft_claim_make(epoch, WEFT_CLAIM_ARMED), RELEASE); /* W1; whoever misses it is seen by W2 and W3 */
    return epoch;
}

void weft_wait_abandon(struct weft_slot *slot)
{
    uint64_t epoch = weft_claim_epoch(a_load(&slot->claim, RELAXED));
    a_store(&slot->claim, weft_claim_make(epoch, WEFT_CLAIM_IDLE), SEQ_CST);
}

/* Moves the current wait to `reason`; true if this call did and the waiter slept. */
static bool claim_now(struct weft_slot *slot, unsigned reason)
{
    uint64_t word = a_load(&slot->claim, SEQ_CST);
    for (;;) {
        unsigned state = weft_claim_state(word);
        bool parked = state == WEFT_CLAIM_PARKED;
        if (!parked && state != WEFT_CLAIM_ARMED) {
            return false;
        }
        uint64_t next = weft_claim_make(weft_claim_epoch(word), reason | (parked ? 0 : WEFT_CLAIM_EARLY));
        if (a_cas(&slot->claim, &word, next, SEQ_CST, SEQ_CST)) {
            return parked;
        }
    }
}

/* The deadline has passed: under the heap's lock, so the wait that armed it has not returned. */
static void timer_fire(struct weft_timer *timer, void *context)
{
    struct weft_slot *slot = weft_container_of(timer, struct weft_slot, timer);
    struct weft_expired *expired = context;
    if (claim_now(slot, WEFT_CLAIM_TIMEOUT)) {
        struct weft_fiber *fiber = weft_container_of(slot, struct weft_fiber, slot);
        fiber->node.next = expired->fibers;
        expired->fibers = &fiber->node;
    }
}

/* W2 and W3. True: the wait has ended already, and nobody else will make the slot ready. `scope` and `epoch` were read before the
 * step to PARKED, after which a waker may let the owner run; a scope is type-stable, and the claim fails for a later epoch. */
static bool park(struct weft_slot *slot, uint64_t epoch, struct weft_scope *scope)
{
    uint64_t armed = weft_claim_make(epoch, WEFT_CLAIM_ARMED), parked = weft_claim_make(epoch, WEFT_CLAIM_PARKED);
    if (!a_cas(&slot->claim, &armed, parked, SEQ_CST, ACQUIRE)) { /* W2, pairs with X1 and Q3 */
        return true;
    }
    if (scope && weft_unlikely(weft_scope_deliverable(a_load(&scope->word, SEQ_CST)))) { /* W3, pairs with X1 */
        return a_cas(&slot->claim, &parked, weft_claim_make(epoch, WEFT_CLAIM_KILLED), SEQ_CST, RELAXED);
    }
    return false;
}

static void commit_cancellable(struct weft_worker *worker, struct weft_fiber *left)
{
    (void)worker;
    struct weft_slot *slot = &left->slot;
    if (park(slot, weft_claim_epoch(a_load(&slot->claim, RELAXED)), a_load(&slot->scope, RELAXED))) {
        weft_sched_ready(left);
    }
}

static void commit_masked(struct weft_worker *worker, struct weft_fiber *left)
{
    (void)worker;
    if (park(&left->slot, weft_claim_epoch(a_load(&left->slot.claim, RELAXED)), NULL)) {
        weft_sched_ready(left);
    }
}

static void sleep_fiber(struct weft_slot *slot, const struct weft_wait *wait)
{
    if (wait->deadline != OS_FOREVER) {
        slot->timer.fire = timer_fire;
        weft_sched_arm(slot->runtime, &slot->timer, wait->deadline);
    }
    if (weft_claim_state(a_load(&slot->claim, ACQUIRE)) == WEFT_CLAIM_ARMED) {
        struct carried carried;
        carry(&carried);
        weft_sched_suspend(wait->cancellable ? commit_cancellable : commit_masked);
        uncarry(&carried);
    }
    if (wait->deadline != OS_FOREVER) {
        weft_timer_cancel(&slot->timer);
    }
}

#ifdef WEFT_SIM
#define FOREIGN_SPINS 1
#else
#define FOREIGN_SPINS 200 /* about 2 us: a wake by futex costs the waker 15 us; longer spins cost a worker its core */
#endif

static void sleep_thread(struct weft_slot *slot, const struct weft_wait *wait)
{
    uint64_t armed = a_load(&slot->claim, ACQUIRE), epoch = weft_claim_epoch(armed);
    for (unsigned i = 0; i < FOREIGN_SPINS && weft_claim_state(armed) == WEFT_CLAIM_ARMED; i++) {
        weft_spin_pause();
        armed = a_load(&slot->claim, ACQUIRE);
    }
    a_store(&slot->go, 0u, RELAXED);
    if (park(slot, epoch, wait->cancellable ? a_load(&slot->scope, RELAXED) : NULL)) {
        return;
    }
    int64_t deadline = wait->deadline;
    while (a_load(&slot->go, ACQUIRE) == 0) { /* not the claim: whoever made it may still be at the object's queue */
        if (os_futex_wait(&slot->go, 0u, deadline) == -ETIMEDOUT) {
            if (claim_now(slot, WEFT_CLAIM_TIMEOUT)) {
                return;
            }
            deadline = OS_FOREVER; /* somebody has claimed it, and is about to say so */
        }
    }
}

static void sleep_on(struct weft_slot *slot, const struct weft_wait *wait)
{
    (slot->runtime ? sleep_fiber : sleep_thread)(slot, wait);
}

unsigned weft_wait_end(struct weft_slot *slot, const struct weft_wait *wait)
{
    weft_frames_block(slot);
    if (wait->awaited && lend) {
        lend(slot, wait, sleep_on);
    } else {
        sleep_on(slot, wait);
    }
    uint64_t word = a_load(&slot->claim, ACQUIRE); /* W5, pairs with W4 */
    weft_assert(weft_claim_state(word) > WEFT_CLAIM_PARKED && weft_claim_state(word) < WEFT_CLAIM_STATES);
    weft_frames_resume(slot);
    return (unsigned)(word & 0xff);
}

/* Without a deadline ahead there is nothing to publish: a deadline in the past times out before it waits. */
static bool too_late(int64_t deadline) { return deadline != OS_FOREVER && (deadline == WEFT_WAIT_NOW || os_now() >= deadline); }

int weft_wait_enter(const struct weft_wait *wait, struct weft_slot **slot)
{
    *slot = weft_slot_self();
    if (weft_unlikely(!*slot)) {
        return -ENOMEM;
    }
    if (wait->deadline == WEFT_WAIT_NOW) {
        return 0;
    }
    if (weft_unlikely((*slot)->raw > 0)) {
        return -EPERM;
    }
    return wait->cancellable ? weft_cancel_point() : 0;
}

void weft_wait_link(struct weft_waiter **tail, struct weft_waiter *waiter, bool first)
{
    waiter->kind = WEFT_WAITER_ONE;
    waiter->fired = false;
    waiter->epoch = weft_wait_begin(waiter->slot);
    (first ? weft_waitq_link_first : weft_waitq_link)(tail, waiter);
}

bool weft_wait_sleep(struct weft_waitq *queue, struct weft_waiter **tail, struct weft_waiter *waiter, const struct weft_wait *wait)
{
    unsigned reason = weft_wait_end(waiter->slot, wait);
    if (reason == WEFT_CLAIM_WOKEN) {
        return true;
    }
    *tail = weft_waitq_lock(queue); /* also when it was woken early: whoever did has let go of the object then */
    if (waiter->linked) {
        weft_waitq_unlink(tail, waiter);
    }
    if ((reason & ~WEFT_CLAIM_EARLY) == WEFT_CLAIM_WOKEN) {
        weft_waitq_unlock(queue, *tail);
        return true;
    }
    return false;
}

int weft_wait_refused(struct weft_slot *slot, const struct weft_wait *wait, bool slept)
{
    struct weft_scope *scope = a_load(&slot->scope, RELAXED);
    if (slept && wait->cancellable && scope && weft_scope_deliver(scope)) {
        return -ECANCELED;
    }
    return too_late(wait->deadline) ? -ETIMEDOUT : 0;
}

int weft_wait_until(struct weft_waitq *queue, bool (*done)(void *arg), void *arg, const struct weft_wait *wait)
{
    struct weft_slot *slot;
    int rc = weft_wait_enter(wait, &slot);
    if (rc != 0) {
        return rc;
    }
    struct weft_waiter *tail = weft_waitq_lock(queue);
    for (bool slept = false;; slept = true) {
        if (done(arg) || (rc = weft_wait_refused(slot, wait, slept)) != 0) {
            weft_waitq_unlock(queue, tail);
            return rc;
        }
        struct weft_waiter waiter = { .slot = slot };
        weft_wait_link(&tail, &waiter, false);
        weft_waitq_unlock(queue, tail);
        if (weft_wait_sleep(queue, &tail, &waiter, wait)) {
            return 0;
        }
    }
}
