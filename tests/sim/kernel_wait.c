/* Waiting against signal, timeout and kill, on fibers and on foreign threads (H21, H22, H23, H45).
 *
 * A waiter first waits under a scope that is killed `kills` times and must be told so each time; then under another scope that
 * nobody kills, until it has got `need` tokens. Signals are as many as are needed. What is lost shows as a hang: a kill, because
 * the waiter waits where no token ever comes; a token, because it is missing at the end.
 *
 * Two kinds of wait: `weft_wait_until`, and a waiter that is handed a value (as admission does), whose node is freed as soon as
 * the wait returns, so that a waker which touches it late is seen. */
#include "jobs.h"
#include "sim.h"
#include "wait.h"

#include <stdlib.h>
#include <string.h>

#define MAX_WAITERS 3
#define MAX_VALUES 32

struct object {
    struct weft_waitq queue;
    unsigned tokens;
};

static struct object tokens, nothing; /* nobody ever signals `nothing` */
static unsigned given, got;
static bool value_seen[MAX_VALUES];

static struct waiter {
    struct job job;
    struct weft_scope first, second;
    bool foreign, has_own;
    unsigned kills, requested, cancelled, need, got;
} waiters[MAX_WAITERS];

static unsigned n_waiters, n_workers, signals, foreigners_left;
static _Atomic uint32_t foreigners_done; /* futex */

static bool take(void *arg)
{
    struct object *object = arg;
    if (object->tokens == 0) {
        return false;
    }
    object->tokens--;
    return true;
}

/* Overwrites what a wait that has returned left on the stack: a late waker would read it. */
static weft_noinline void scribble(void)
{
    volatile unsigned char dead[512];
    for (unsigned i = 0; i < sizeof dead; i++) {
        dead[i] = 0xdd;
    }
}

static void enter_scope(struct weft_scope *scope)
{
    struct weft_slot *slot = weft_slot_self();
    if (scope != NULL) {
        a_store(&scope->slot, slot, SEQ_CST);
    }
    weft_lock(weft_slot_lock(slot));
    a_store(&slot->scope, scope, SEQ_CST);
    weft_unlock(weft_slot_lock(slot));
}

/* One wait with a value handed over. As weft_wait_until, but a hint that no kill follows is checked. */
static int wait_for_value(struct object *object, const struct weft_wait *wait, bool may_be_killed)
{
    int rc = wait->cancellable ? weft_cancel_point() : 0;
    if (rc != 0) {
        return rc;
    }
    struct weft_slot *slot = weft_slot_self();
    struct weft_waiter *tail = weft_waitq_lock(&object->queue);
    if (take(object)) {
        weft_waitq_unlock(&object->queue, tail);
        return 0;
    }
    struct weft_waiter *node = malloc(sizeof *node);
    *node = (struct weft_waiter){ .slot = slot, .kind = WEFT_WAITER_ONE, .epoch = weft_wait_begin(slot) };
    weft_waitq_link(&tail, node);
    weft_waitq_unlock(&object->queue, tail);
    unsigned reason = weft_wait_end(slot, wait);
    if (reason != WEFT_CLAIM_WOKEN) {
        tail = weft_waitq_lock(&object->queue);
        if (node->linked) {
            weft_waitq_unlink(&tail, node);
        }
        weft_waitq_unlock(&object->queue, tail);
    }
    bool fired = node->fired, linked = node->linked;
    uintptr_t value = (uintptr_t)node->value;
    memset(node, 0xdd, sizeof *node);
    free(node);
    SIM_CHECK(!linked);
    switch (reason & ~WEFT_CLAIM_EARLY) {
    case WEFT_CLAIM_WOKEN:
        SIM_CHECK(fired);
        SIM_CHECK(value > 0 && value < MAX_VALUES && !value_seen[value]);
        value_seen[value] = true;
        sim_count(reason & WEFT_CLAIM_EARLY ? "woken before asleep" : "woken");
        return 0;
    case WEFT_CLAIM_KILLED:
        SIM_CHECK(!fired);
        if (!may_be_killed) {
            sim_fail("a kill of another scope ended this wait (H45)");
        }
        sim_count(reason & WEFT_CLAIM_EARLY ? "killed before asleep" : "killed");
        if (weft_scope_deliver(a_load(&slot->scope, RELAXED))) {
            return -ECANCELED;
        }
        if (wait->cancellable) { /* it would go back to the end of the queue */
            sim_fail("a kill that was delivered before ended this wait");
        }
        return -EAGAIN;
    default:
        SIM_CHECK(!fired);
        SIM_CHECK(os_now() >= wait->deadline);
        sim_count(reason & WEFT_CLAIM_EARLY ? "timed out before asleep" : "timed out");
        return -ETIMEDOUT;
    }
}

static int wait_once(struct waiter *self, struct object *object, bool may_be_killed, bool for_ever)
{
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
    if (!for_ever && sim_choose(2) == 0) {
        wait.deadline = os_now() + 1 + (int64_t)sim_choose(3) * 1000;
    }
    if (!may_be_killed) {
        wait.cancellable = sim_choose(2) == 0;
    }
    int rc =
        sim_choose(2) == 0 ? wait_for_value(object, &wait, may_be_killed) : weft_wait_until(&object->queue, take, object, &wait);
    scribble();
    switch (rc) {
    case 0:
        SIM_CHECK(object != &nothing);
        got++;
        self->got++;
        break;
    case -ECANCELED:
        SIM_CHECK(may_be_killed);
        self->cancelled++;
        SIM_CHECK(self->cancelled <= self->requested);
        break;
    case -ETIMEDOUT: SIM_CHECK(wait.deadline != OS_FOREVER && os_now() >= wait.deadline); break;
    case -EAGAIN: break;
    default: sim_fail("a wait returned %d", rc);
    }
    return rc;
}

static void signal_one(struct object *object)
{
    struct weft_waiter *tail = weft_waitq_lock(&object->queue), *ready = NULL;
    uintptr_t value = ++given; /* another object's signaller may come in between */
    bool claimed = false;
    while (!claimed && tail != NULL) {
        claimed = weft_waitq_claim(&tail, weft_waitq_oldest(tail), (void *)value, &ready);
    }
    if (!claimed) {
        object->tokens++;
    }
    weft_waitq_unlock(&object->queue, tail);
    weft_waitq_ready(ready);
    scribble();
}

static void own_signaller(void *arg) { signal_one(arg); }

/* An object that is gone as soon as its one signal has arrived: the signaller must have let go of it by then (H20). */
static void wait_on_own(struct waiter *self)
{
    struct object *own = calloc(1, sizeof *own);
    sim_spawn(own_signaller, own, "own signaller");
    while (wait_once(self, own, false, false) != 0) {
    }
    memset(own, 0xdd, sizeof *own);
    free(own);
    self->got--;
}

static void wait_all(void *arg)
{
    struct waiter *self = arg;
    enter_scope(&self->first);
    while (self->cancelled < self->kills) {
        struct object *object = self->got < self->need && sim_choose(2) == 0 ? &tokens : &nothing;
        (void)wait_once(self, object, true, sim_choose(4) == 0);
    }
    if (self->kills > 0) { /* all are delivered: a killer that comes late does not end this one */
        struct weft_wait wait = { .deadline = os_now() + 1000, .cancellable = true };
        SIM_CHECK(wait_for_value(&nothing, &wait, true) == -ETIMEDOUT);
    }
    enter_scope(&self->second);
    while (self->got < self->need) {
        (void)wait_once(self, &tokens, false, false);
    }
    if (self->has_own) {
        wait_on_own(self);
    }
    enter_scope(self->foreign ? NULL : &self->job.scope);
}

static void foreign_waiter(void *arg)
{
    wait_all(arg);
    atomic_fetch_add(&foreigners_done, 1);
    os_futex_wake(&foreigners_done, 1);
}

static void signaller(void *arg)
{
    (void)arg;
    for (unsigned pause = sim_choose(3) == 0 ? sim_choose(64) : 0; pause > 0; pause--) {
        sim_yield();
    }
    while (signals > 0) {
        signals--;
        signal_one(&tokens);
    }
}

static void killer(void *arg)
{
    struct waiter *victim = arg;
    while (victim->requested < victim->kills) {
        /* Counted before, because the victim may be told at once. */
        victim->requested++;
        int rc = weft_scope_request(&victim->first, -EINTR, true);
        if (rc == 0) {
            weft_scope_wake(&victim->first, -EINTR);
        } else {
            SIM_CHECK(rc == -EALREADY);
            victim->requested--;
            weft_spin_pause();
        }
    }
}

static struct job signal_job;

static void driver(void *arg)
{
    (void)arg;
    if (n_workers > 0) {
        jobs_begin(n_workers);
    }
    bool signal_from_job = n_workers > 0 && sim_choose(2) == 0;
    for (unsigned i = 0; i < n_waiters; i++) {
        struct waiter *waiter = &waiters[i];
        if (waiter->foreign) {
            sim_spawn(foreign_waiter, waiter, "waiter");
        } else {
            jobs_submit(&waiter->job, wait_all, waiter);
        }
        if (waiter->kills > 0) {
            sim_spawn(killer, waiter, "killer");
        }
    }
    if (signal_from_job) {
        jobs_submit(&signal_job, signaller, NULL);
    } else {
        sim_spawn(signaller, NULL, "signaller");
    }
    if (sim_choose(3) == 0) {
        signaller(NULL);
    }
    uint32_t seen;
    while ((seen = atomic_load(&foreigners_done)) != foreigners_left) {
        (void)os_futex_wait(&foreigners_done, seen, OS_FOREVER);
    }
    if (n_workers > 0) {
        jobs_end();
    }
}

static void setup(void)
{
    n_waiters = 1 + sim_choose(MAX_WAITERS);
    bool all_foreign = sim_choose(3) == 0;
    unsigned kills = 3;
    for (unsigned i = 0; i < n_waiters; i++) {
        struct waiter *waiter = &waiters[i];
        weft_scope_init(&waiter->first);
        weft_scope_init(&waiter->second);
        waiter->foreign = all_foreign || sim_choose(2) == 0;
        waiter->has_own = sim_choose(2) == 0;
        waiter->need = sim_choose(3);
        waiter->kills = sim_choose(kills < 2 ? kills + 1 : 3);
        kills -= waiter->kills;
        signals += waiter->need;
        foreigners_left += waiter->foreign;
        n_workers = waiter->foreign ? n_workers : 1;
    }
    n_workers = n_workers == 0 ? 0 : 1 + sim_choose(2);
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    if (given != got + tokens.tokens) {
        sim_fail("%u tokens were given, %u got, %u left", given, got, tokens.tokens);
    }
    SIM_CHECK(weft_waitq_empty(&tokens.queue) && weft_waitq_empty(&nothing.queue));
    for (unsigned i = 0; i < n_waiters; i++) {
        SIM_CHECK(waiters[i].cancelled == waiters[i].kills);
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "wait", .setup = setup, .check = check, .length = 500, .tick = 1000 };
    return sim_main(argc, argv, &kernel);
}
