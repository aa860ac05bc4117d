/* Loans: who may have the slot of a member that waits for work (contract P6).
 *
 * A loan is for a request if the lender waits for what has made it:
 *   1. the work that the lender waits for stands in the request's chain of callers: its map, the task it gets, a member of the group it
 *      joins, the imap it reads;
 *   2. or in the chain of somebody who waits for a piece of that chain: a task that is got, an imap that is read;
 *   3. or the lender's work stands in the queue of a pool, and the chain holds a slot of that pool, or of one that is waited for in turn:
 *      then the lender waits for that slot. This is what ends A -> B in one place and B -> A in another.
 * The first is looked at whenever a request or a loan is new, under that pool's lock. The others need all that wait for work, which are
 * listed in `waiting` as long as there are pools, and all queues at once: look_again takes pools_lock and then every queue with waiters in
 * it; nobody else holds two queues. It runs when a wait for work or for a slot begins, and when a loan comes back, as long as any loan is
 * open. Each of them puts itself where look_again finds it before it looks at `loans_open` (seq_cst); whoever opens a loan counts it
 * (seq_cst) and then looks: one of the two sees the other. What is walked stands still: callers wait for what they called, and who is
 * listed cannot leave the list while pools_lock is held. Memberships alone may come and go meanwhile: they are looked at under their
 * task's queue lock, the innermost one (pools_lock, then queues of pools, then queues of tasks). */
#include "membership.h"

/* All pools of the process that may have loans. */
static struct weft_lock pools_lock;
static struct weft_admission *pools;
static _Atomic uint32_t loans_open, pool_count;
static struct weft_waiting *waiting;

void weft_loans_add_pool(struct weft_admission *admission)
{
    weft_lock(&pools_lock);
    admission->next_pool = pools;
    pools = admission;
    a_add(&pool_count, 1u, SEQ_CST);
    weft_unlock(&pools_lock);
}

void weft_loans_remove_pool(struct weft_admission *admission)
{
    weft_lock(&pools_lock);
    for (struct weft_admission **link = &pools; *link; link = &(*link)->next_pool) {
        if (*link == admission) {
            *link = admission->next_pool;
            a_sub(&pool_count, 1u, RELAXED);
            break;
        }
    }
    weft_unlock(&pools_lock);
}

/* ---- chains ---- */

struct weft_caller weft_caller_self(void)
{
    struct weft_thread *thread = weft_thread_self();
    struct weft_slot *slot = thread ? thread->slot : NULL;
    return slot ? (struct weft_caller){ .frame = slot->frame, .task = slot->task } : (struct weft_caller){ 0 };
}

/* The innermost participation, links' frames left out. */
struct weft_frame *weft_participation(struct weft_frame *frame)
{
    while (frame && !weft_frame_token(frame)) {
        frame = frame->outer;
    }
    return frame;
}

bool weft_caller_holds(struct weft_caller caller, const struct weft_admission *admission)
{
    struct weft_frame *frame = weft_participation(caller.frame);
    if (frame) {
        return weft_frame_token(frame)->admission == admission;
    }
    return caller.task && weft_group_has(admission->group, caller.task);
}

/* Does whoever waits so wait for `object`, a task (then `task` is the same) or tagged work; directly? */
static bool names(const struct weft_wait *wait, const void *object, struct weft_task *task)
{
    if (wait->awaited == object) {
        return true;
    }
    for (size_t i = 0; i < wait->n_tasks; i++) {
        if (wait->tasks[i] == task) {
            return true;
        }
    }
    return task && wait->awaited && weft_task_works_for(task, wait->awaited);
}

bool weft_caller_outward(struct weft_caller *at, const void **work, struct weft_group **group)
{
    struct weft_frame *frame = weft_participation(at->frame);
    if (!frame) {
        at->frame = NULL;
        return false;
    }
    weft_frame_work(frame, work, group, at);
    return true;
}

bool weft_loan_is_for(const struct weft_loan *loan, const struct weft_request *request)
{
    if (request->work && names(loan->wait, request->work, NULL)) {
        return true;
    }
    struct weft_caller at = request->caller;
    const void *work;
    struct weft_group *group;
    while (weft_caller_outward(&at, &work, &group)) {
        if (names(loan->wait, work, NULL) || (group && loan->wait->awaited == WEFT_WORK(group))) {
            return true;
        }
    }
    return at.task && names(loan->wait, at.task, at.task);
}

/* ---- the walk upward; under pools_lock ---- */

/* What is looked for: work that `wait` names, or, if that is NULL, a caller that holds a slot of a pool that is reached. */
struct search {
    const struct weft_wait *wait;
    struct weft_waiting *todo; /* waiters for what the walk has met, whose chains are still to be walked */
};

static bool at_object(struct search *search, const void *object, struct weft_task *task, struct weft_group *group)
{
    const void *group_work = group ? WEFT_WORK(group) : NULL;
    if (search->wait && (names(search->wait, object, task) || (group && search->wait->awaited == group_work))) {
        return true;
    }
    for (struct weft_waiting *other = waiting; other; other = other->next) {
        if (!other->seen && (names(other->wait, object, task) || (group && other->wait->awaited == group_work))) {
            other->seen = true;
            other->todo = search->todo;
            search->todo = other;
        }
    }
    return false;
}

static bool holds_reached_slot(struct weft_caller at)
{
    for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
        if (pool->held && pool->reached && weft_caller_holds(at, pool)) {
            return true;
        }
    }
    return false;
}

static bool at_caller(struct search *search, struct weft_caller at)
{
    for (;;) {
        const void *work;
        struct weft_group *group;
        if (!search->wait && holds_reached_slot(at)) {
            return true;
        }
        if (!weft_caller_outward(&at, &work, &group)) {
            return at.task && at_object(search, at.task, at.task, NULL);
        }
        if (at_object(search, work, NULL, group)) {
            return true;
        }
    }
}

static bool search_upward(const struct weft_request *request, const struct weft_wait *wait)
{
    struct search search = { .wait = wait };
    for (struct weft_waiting *other = waiting; other; other = other->next) {
        other->seen = false;
    }
    if ((request->work && at_object(&search, request->work, NULL, request->group)) || at_caller(&search, request->caller)) {
        return true;
    }
    while (search.todo) {
        struct weft_waiting *next = search.todo;
        search.todo = next->todo;
        if (at_caller(&search, next->caller)) {
            return true;
        }
    }
    return false;
}

/* ---- all pools at once; under pools_lock, with every queue that has waiters held ---- */

typedef bool queued_test(const struct weft_request *request, const void *context);

static bool any_queued(const struct weft_admission *admission, queued_test *test, const void *context)
{
    struct weft_waiter *waiter = admission->tail;
    if (!waiter) {
        return false;
    }
    do {
        waiter = waiter->next;
        if (test(weft_request_of(waiter), context)) {
            return true;
        }
    } while (waiter != admission->tail);
    return false;
}

/* The lender cannot go on unless this request is granted. */
static bool needed_by(const struct weft_request *request, const void *loan)
{
    return request->essential && search_upward(request, ((const struct weft_loan *)loan)->wait);
}

static bool holds_reached(const struct weft_request *request, const void *unused)
{
    (void)unused;
    return search_upward(request, NULL);
}

/* Marks the pools whose slots the lender waits for, directly or through others that wait for slots. */
static void reach(const struct weft_loan *loan)
{
    bool more = false;
    for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
        pool->reached = pool->held && any_queued(pool, needed_by, loan);
        more = more || pool->reached;
    }
    while (more) {
        more = false;
        for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
            if (pool->held && !pool->reached && any_queued(pool, holds_reached, NULL)) {
                pool->reached = more = true;
            }
        }
    }
}

static bool lend_one(struct weft_admission *admission, struct weft_waiter **ready)
{
    for (struct weft_loan *loan = admission->loans; loan; loan = loan->next) {
        if (loan->borrower) {
            continue;
        }
        reach(loan);
        struct weft_waiter *waiter = admission->tail;
        do {
            waiter = waiter->next;
            struct weft_request *request = weft_request_of(waiter);
            if (search_upward(request, loan->wait) || holds_reached(request, NULL)) {
                (void)weft_admission_hand_over(admission, &admission->tail, request, loan, ready);
                return true;
            }
        } while (waiter != admission->tail);
    }
    return false;
}

void weft_loans_count(bool opened)
{
    if (opened) {
        a_add(&loans_open, 1u, SEQ_CST);
    } else {
        a_sub(&loans_open, 1u, RELAXED);
    }
}

void weft_loans_look_again(void)
{
    struct weft_waiter *ready = NULL;
    if (weft_likely(a_load(&loans_open, SEQ_CST) == 0)) {
        return;
    }
    weft_lock(&pools_lock);
    for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
        pool->held = weft_admission_has_waiters(pool);
        if (pool->held) {
            pool->tail = weft_waitq_lock(&pool->queue);
        }
    }
    for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
        while (pool->held && pool->tail && lend_one(pool, &ready)) {
        }
    }
    for (struct weft_admission *pool = pools; pool; pool = pool->next_pool) {
        if (pool->held) {
            weft_admission_note_waiters(pool, pool->tail);
            weft_waitq_unlock(&pool->queue, pool->tail);
            pool->held = false;
        }
    }
    weft_unlock(&pools_lock);
    weft_waitq_ready(ready);
}

void weft_waiting_begin(struct weft_waiting *me, const struct weft_wait *wait)
{
    me->wait = wait;
    me->caller = weft_caller_self();
    me->previous = NULL;
    weft_lock(&pools_lock);
    me->next = waiting;
    if (me->next) {
        me->next->previous = me;
    }
    waiting = me;
    weft_unlock(&pools_lock);
}

void weft_waiting_end(struct weft_waiting *me)
{
    weft_lock(&pools_lock);
    *(me->previous ? &me->previous->next : &waiting) = me->next;
    if (me->next) {
        me->next->previous = me->previous;
    }
    weft_unlock(&pools_lock);
}

void weft_lend_late(struct weft_task *task, struct weft_member *member, struct weft_group *group)
{
    if (!weft_admission_bounded(&group->admission)) {
        return;
    }
    weft_lock(&pools_lock);
    for (struct weft_waiting *other = waiting; other; other = other->next) {
        if (other->caller.task == task && !weft_participation(other->caller.frame)) {
            weft_lend_member(task, member, group, other->wait); /* L2 */
            break;
        }
    }
    weft_unlock(&pools_lock);
    weft_loans_look_again();
}

bool weft_pools_exist(void) { return a_load(&pool_count, RELAXED) > 0; }

/* The child knows no pool of its parent's: their queues may be held by threads that it does not have. */
static void hold_for_fork(bool hold)
{
    static uint32_t generation;
    if (hold) {
        weft_lock(&pools_lock);
        generation = os_fork_generation();
        return;
    }
    if (generation != os_fork_generation()) {
        pools = NULL;
        waiting = NULL;
        a_store(&loans_open, 0u, RELAXED);
        a_store(&pool_count, 0u, RELAXED);
    }
    weft_unlock(&pools_lock);
}

__attribute__((constructor)) static void start(void) { weft_fork_guard(hold_for_fork); }
