/* wait: the protocol, on fibers and on foreign threads, against signal, timeout and kill (E5, H21 to H23, H02). WEFT_TEST_WORKERS says
 * with how many workers. */
#include "testing.h"

#include <pthread.h>

#include "task.h"
#include "tasks.h"

static struct weft_runtime *runtime;

static void setup(void) { runtime = runtime_make(); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(wait, .init = setup, .fini = teardown);

/* A counter of tokens. `give` hands one to the oldest waiter that can be had, else puts it down. */
struct tokens {
    struct weft_waitq queue;
    unsigned free;
};

static bool take(void *arg)
{
    struct tokens *tokens = arg;
    bool some = tokens->free > 0;
    tokens->free -= some;
    return some;
}

/* True if the oldest waiter was on its way out, so that the next one was tried. */
static bool give(struct tokens *tokens)
{
    struct weft_waiter *tail = weft_waitq_lock(&tokens->queue), *ready = NULL;
    bool missed = false, given = false;
    while (tail && !(given = weft_waitq_claim(&tail, tail->next, NULL, &ready))) {
        missed = true;
    }
    tokens->free += !given;
    weft_waitq_unlock(&tokens->queue, tail);
    weft_waitq_ready(ready);
    return missed;
}

static int take_until(struct tokens *tokens, int64_t deadline, bool cancellable)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = cancellable };
    return weft_wait_until(&tokens->queue, take, tokens, &wait);
}

static unsigned waiting(struct tokens *tokens)
{
    unsigned n = 0;
    struct weft_waiter *tail = weft_waitq_lock(&tokens->queue), *waiter = tail;
    if (tail) {
        do {
            waiter = waiter->next;
            n++;
        } while (waiter != tail);
    }
    weft_waitq_unlock(&tokens->queue, tail);
    return n;
}

/* The same function as a task and on a thread. */
static void *as_thread(void *fn)
{
    void *value = NULL;
    return (void *)(intptr_t)(*(weft_task_fn **)fn)(NULL, &value);
}

static void run_on_both(weft_task_fn *fn)
{
    pthread_t thread;
    void *rc;
    int error = run_in(runtime, fn, NULL);
    cr_assert_eq(error, 0, "line %d in a task", -error - 10000);
    cr_assert_eq(pthread_create(&thread, NULL, as_thread, &fn), 0);
    (void)pthread_join(thread, &rc);
    cr_assert_eq((intptr_t)rc, 0, "line %ld on a thread", -(long)(intptr_t)rc - 10000);
}

/* ---- Alone ---- */

static int wait_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct tokens tokens = { .free = 3 };
    CHECK(take_until(&tokens, WEFT_WAIT_NOW, true) == 0);
    CHECK(take_until(&tokens, 1, true) == 0); /* what is there wins over a deadline in the past */
    CHECK(take_until(&tokens, OS_FOREVER, true) == 0);
    CHECK(take_until(&tokens, WEFT_WAIT_NOW, true) == -ETIMEDOUT);
    CHECK(take_until(&tokens, 1, true) == -ETIMEDOUT);
    for (int64_t us = 1; us < 5000; us *= 3) {
        int64_t deadline = os_now() + us * 1000;
        CHECK(take_until(&tokens, deadline, us % 2 == 0) == -ETIMEDOUT);
        CHECK(os_now() >= deadline);
    }
    CHECK(waiting(&tokens) == 0); /* nothing was left behind */
    return 0;
}

Test(wait, ends_with_what_is_there_or_not_before_its_deadline_E5) { run_on_both(wait_alone); }

/* Epochs just below the end of their 56 bits. */
static int wait_at_the_last_epoch(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_slot *slot = weft_slot_self();
    uint64_t before = weft_claim_epoch(a_load(&slot->claim, RELAXED)), last = (UINT64_C(1) << 56) - 1;
    a_store(&slot->claim, weft_claim_make(last - 3, WEFT_CLAIM_IDLE), SEQ_CST);
    struct tokens tokens = { .free = 0 };
    for (int i = 0; i < 1000 && weft_claim_epoch(a_load(&slot->claim, RELAXED)) != 4; i++) {
        CHECK(take_until(&tokens, os_now() + 10000, true) == -ETIMEDOUT);
    }
    CHECK(weft_claim_epoch(a_load(&slot->claim, RELAXED)) == 4); /* 0 was one, too */
    a_store(&slot->claim, weft_claim_make(before, WEFT_CLAIM_IDLE), SEQ_CST);
    return 0;
}

Test(wait, epoch_wraps_without_notice_H02) { run_on_both(wait_at_the_last_epoch); }

/* ---- Several ---- */

enum { MANY = 12 };
static struct tokens shared;
static _Atomic int order[MANY], next_place, places;
static pthread_t threads[MANY];
static struct weft_task *tasks[MANY];
static int numbers[MANY];

static int take_a_place(void *arg, void **value)
{
    (void)value;
    CHECK(take_until(&shared, OS_FOREVER, true) == 0);
    atomic_store(&order[*(int *)arg], atomic_fetch_add(&next_place, 1));
    gate_open(&places);
    return 0;
}

static void *take_a_place_on_a_thread(void *arg)
{
    void *value;
    return (void *)(intptr_t)take_a_place(arg, &value);
}

/* Fibers and threads in turn, each behind the one before. */
static void queue_up(void)
{
    for (int i = 0; i < MANY; i++) {
        numbers[i] = i;
        if (i % 2 == 0) {
            tasks[i] = spawn_in(runtime, take_a_place, &numbers[i]);
        } else {
            cr_assert_eq(pthread_create(&threads[i], NULL, take_a_place_on_a_thread, &numbers[i]), 0);
        }
        until(waiting(&shared) == (unsigned)i + 1);
    }
}

static void see_them_off(void)
{
    for (int i = 0; i < MANY; i++) {
        void *rc = NULL;
        if (i % 2 == 0) {
            cr_assert_eq(finish_task(tasks[i]).error, 0);
        } else {
            (void)pthread_join(threads[i], &rc);
            cr_assert_null(rc);
        }
    }
}

Test(wait, oldest_is_woken_first)
{
    queue_up();
    for (int i = 0; i < MANY; i++) {
        cr_assert_not(give(&shared));
        until(atomic_load(&places) == i + 1);
        cr_assert_eq(atomic_load(&order[i]), i);
    }
    see_them_off();
}

Test(wait, wake_all_wakes_all)
{
    queue_up();
    weft_waitq_wake_all(&shared.queue);
    see_them_off();
    cr_assert_eq(waiting(&shared), 0);
}

/* The oldest waiter is from a wait that has ended, though its slot waits again; what it was offered goes to the next. */
Test(wait, signal_to_one_that_has_left_goes_to_the_next_H23)
{
    struct weft_slot *slot = weft_slot_self();
    struct weft_waiter stale = { .slot = slot, .kind = WEFT_WAITER_ONE, .epoch = weft_wait_begin(slot) };
    weft_wait_abandon(slot);
    (void)weft_wait_begin(slot);
    struct weft_waiter *tail = weft_waitq_lock(&shared.queue);
    weft_waitq_link(&tail, &stale);
    weft_waitq_unlock(&shared.queue, tail);
    numbers[0] = 0;
    struct weft_task *task = spawn_in(runtime, take_a_place, &numbers[0]);
    for (int64_t end = os_now() + PATIENCE; waiting(&shared) < 2 && os_now() < end;) { /* without a wait of its own */
        os_thread_yield();
    }
    cr_assert(give(&shared));
    weft_wait_abandon(slot);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_not(stale.fired);
    cr_assert_not(stale.linked);
    cr_assert_eq(shared.free, 0);
}

/* A claim says KILLED, but nobody has killed: the wait goes on. */
Test(wait, kill_that_was_not_meant_does_not_end_a_wait_H45)
{
    numbers[0] = 0;
    struct weft_task *task = spawn_in(runtime, take_a_place, &numbers[0]);
    for (int i = 0; i < 100; i++) {
        until(waiting(&shared) == 1);
        weft_scope_wake(&task->scope, -ECANCELED); /* no request: nothing is deliverable */
        struct weft_slot *slot = a_load(&task->scope.slot, ACQUIRE);
        uint64_t word = a_load(&slot->claim, SEQ_CST);
        if (weft_claim_state(word) == WEFT_CLAIM_PARKED &&
            a_cas(&slot->claim, &word, weft_claim_make(weft_claim_epoch(word), WEFT_CLAIM_KILLED), SEQ_CST, RELAXED)) {
            weft_slot_ready(slot);
        }
    }
    cr_assert_not(weft_task_finished(task));
    until(waiting(&shared) == 1);
    (void)give(&shared);
    cr_assert_eq(finish_task(task).error, 0);
}

/* Both have come before the waiter runs again: the claim says TIMEOUT, the scope has a kill. */
static int be_late_and_killed(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(take_until(&shared, OS_FOREVER, true) == -ECANCELED);
    CHECK(weft_sleep_until(WEFT_NOWAIT) == 0); /* delivered */
    return 0;
}

Test(wait, kill_wins_over_a_timeout_E5)
{
    struct weft_task *task = spawn_in(runtime, be_late_and_killed, NULL);
    until(waiting(&shared) == 1);
    struct weft_slot *slot = a_load(&task->scope.slot, ACQUIRE);
    uint64_t word;
    until(weft_claim_state(word = a_load(&slot->claim, SEQ_CST)) == WEFT_CLAIM_PARKED);
    cr_assert(a_cas(&slot->claim, &word, weft_claim_make(weft_claim_epoch(word), WEFT_CLAIM_TIMEOUT), SEQ_CST, RELAXED));
    cr_assert_eq(weft_scope_request(&task->scope, -EPIPE, true), 0); /* and nobody is woken for it */
    weft_slot_ready(slot);
    cr_assert_eq(finish_task(task).error, 0);
}

static _Atomic int on_its_way;

static int wait_uncancellably(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&on_its_way);
    CHECK(take_until(&shared, OS_FOREVER, false) == 0);
    CHECK(weft_sleep_until(WEFT_NOWAIT) == -ECANCELED);
    return 0;
}

Test(wait, uncancellable_one_sleeps_through_a_kill)
{
    struct weft_task *task = spawn_in(runtime, wait_uncancellably, NULL);
    until(waiting(&shared) == 1);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(2 * WEFT_MSEC)), -ETIMEDOUT);
    (void)give(&shared);
    cr_assert_eq(finish_task(task).error, 0);
}

/* ---- Collisions ---- */

static uint64_t seed = 20240607;

static unsigned next_random(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 40);
}

struct collision {
    struct tokens tokens;
    _Atomic int64_t deadline;
    int rc;
    _Atomic int begun;
};

static int collide(void *arg, void **value)
{
    (void)value;
    struct collision *collision = arg;
    gate_open(&collision->begun);
    collision->rc = take_until(&collision->tokens, collision->deadline, true);
    return 0;
}

/* One wait, its deadline, a token and a kill, all within a few microseconds: exactly one of them ends it, and neither token nor kill is
 * lost. The waiter's frame is gone right after: a late waker would be seen by a sanitizer. */
Test(wait, token_timeout_and_kill_at_once_lose_nothing_H21_H22_H23)
{
    const int rounds = weft_test_full() ? 200000 : 2000;
    int given = 0, late = 0, killed = 0;
    bool all = false; /* a busy machine may miss one of them for long */
    for (int round = 0; round < rounds || (!all && round < 40 * rounds); round++) {
        struct collision collision = { .deadline = os_now() + 2000 + next_random() % 20000 };
        struct weft_task *task = spawn_in(runtime, collide, &collision);
        if (round % 4 != 0) {
            gate_wait(&collision.begun, 1);
        }
        unsigned first = next_random() % 2, range = round % 2 ? 256 : 32768;
        for (unsigned turn = 0; turn < 2; turn++) {
            for (volatile unsigned delay = next_random() % range; delay > 0; delay--) {
            }
            if (turn == first) {
                (void)give(&collision.tokens);
            } else {
                cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
            }
        }
        struct weft_outcome outcome = finish_task(task);
        if (outcome.status == WEFT_CANCELLED) {
            cr_assert_eq(atomic_load(&collision.begun), 0, "before it began");
            continue;
        }
        cr_assert_eq(collision.tokens.free, collision.rc == 0 ? 0 : 1, "round %d: %d", round, collision.rc);
        cr_assert_eq(waiting(&collision.tokens), 0);
        given += collision.rc == 0;
        late += collision.rc == -ETIMEDOUT;
        killed += collision.rc == -ECANCELED;
        all = given > 0 && late > 0 && killed > 0;
    }
    cr_log_info("seed 20240607: %d got the token, %d timed out, %d were killed\n", given, late, killed);
    cr_assert(all);
}

/* The same for a foreign thread: token against timeout. The kernel's timers are some 50 us late. */
static void *collide_on_a_thread(void *arg)
{
    struct collision *collision = arg;
    for (int round = 1; round <= 1000; round++) {
        gate_wait(&collision->begun, 2 * round - 1);
        int64_t deadline = os_now() + 5000;
        a_store(&collision->deadline, deadline, RELEASE);
        collision->rc = take_until(&collision->tokens, deadline, true);
        gate_open(&collision->begun);
    }
    return NULL;
}

Test(wait, token_and_timeout_at_once_on_a_thread_lose_nothing_H21_H23)
{
    static struct collision collision;
    pthread_t thread;
    int given = 0, late = 0;
    cr_assert_eq(pthread_create(&thread, NULL, collide_on_a_thread, &collision), 0);
    for (int round = 1; round <= 1000; round++) {
        a_store(&collision.deadline, 0, RELAXED);
        gate_open(&collision.begun);
        until(a_load(&collision.deadline, ACQUIRE) != 0);
        int64_t strike = a_load(&collision.deadline, RELAXED) + next_random() % 150000;
        while (os_now() < strike) {
        }
        (void)give(&collision.tokens);
        gate_wait(&collision.begun, 2 * round);
        cr_assert_eq(collision.tokens.free, collision.rc == 0 ? 0 : 1, "round %d: %d", round, collision.rc);
        given += collision.rc == 0;
        late += collision.rc == -ETIMEDOUT;
        collision.tokens.free = 0;
    }
    (void)pthread_join(thread, NULL);
    cr_log_info("%d got the token, %d timed out\n", given, late);
    cr_assert_gt(given, 0);
    cr_assert_gt(late, 0);
}
