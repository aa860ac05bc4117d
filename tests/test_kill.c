/* kill: what can be cancelled, where, and what is never lost by it (contract C). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include <pthread.h>

#include "tasks.h"

static struct weft_runtime *runtime;
static int freed;

static void setup(void) { runtime = runtime_make(); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(kill, .init = setup, .fini = teardown);

static void count_free(void *arg) { ++*(int *)arg; }

/* ---- C1, C2 ---- */

Test(kill, reason_0_is_ecanceled_and_a_positive_one_einval_C1)
{
    struct weft_task *task = spawn_in(runtime, block, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, EPIPE, WEFT_NOWAIT), -EINVAL);
    cr_assert_eq(weft_runtime_kill(runtime, EPIPE), -EINVAL);
    cr_assert_eq(weft_task_kill(NULL, 0, WEFT_NOWAIT), -EINVAL);
    cr_assert_eq(weft_task_join(task, weft_after(WEFT_MSEC)), -ETIMEDOUT, "it lives");
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -ECANCELED);
}

static struct weft_outcome linked;

static void note_outcome(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)arg;
    linked = *outcome;
}

Test(kill, unstarted_task_is_cancelled_at_once_without_running_C2)
{
    struct weft_task *task;
    cr_assert_eq(weft_task_create(runtime, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &task), 0);
    cr_assert_eq(weft_task_link(task, note_outcome, NULL, WEFT_ON_CANCELLED | WEFT_LINK_RAW, NULL), 0);
    cr_assert_eq(weft_task_kill(task, -EOWNERDEAD, WEFT_NOWAIT), 0);
    cr_assert(weft_task_finished(task));
    cr_assert_eq(freed, 1);
    cr_assert_eq(linked.status, WEFT_CANCELLED);
    cr_assert_eq(linked.error, -EOWNERDEAD);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0, "finished");
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.error, -EOWNERDEAD);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&begun), 0);
}

static int be_stuck(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    while (atomic_load(&open_gate) == 0) {
    }
    return 0;
}

Test(kill, queued_task_is_cancelled_at_once_without_running_C2)
{
    struct weft_runtime *small = runtime_with(1);
    struct weft_task *stuck = spawn_in(small, be_stuck, NULL), *queued[3];
    gate_wait(&begun, 1);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_task_spawn(small, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &queued[i]),
                     0);
    }
    cr_assert_eq(weft_task_kill(queued[1], 0, WEFT_FOREVER), 0);
    cr_assert(weft_task_finished(queued[1]));
    cr_assert_eq(freed, 1);
    cr_assert_not(weft_task_finished(queued[0]));
    gate_open(&open_gate);
    cr_assert_eq(finish_task(stuck).status, WEFT_OK);
    cr_assert_eq(finish_task(queued[0]).status, WEFT_OK);
    cr_assert_eq(finish_task(queued[1]).status, WEFT_CANCELLED);
    cr_assert_eq(finish_task(queued[2]).status, WEFT_OK);
    cr_assert_eq(weft_runtime_destroy(small), 0);
    cr_assert_eq(atomic_load(&begun), 3);
}

/* ---- C4: blocked ---- */

Test(kill, blocked_task_wakes_with_ecanceled_C4)
{
    struct weft_task *task = spawn_in(runtime, block, NULL);
    until(atomic_load(&begun) == 1);
    cr_assert_eq(weft_task_kill(task, -EPIPE, WEFT_FOREVER), 0);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EPIPE);
}

struct given {
    struct weft_task *target;
    int join, next;
};

static int join_target(void *arg, void **value)
{
    (void)value;
    struct given *given = arg;
    gate_open(&begun);
    given->join = weft_task_join(given->target, WEFT_FOREVER);
    given->next = weft_sleep_until(WEFT_NOWAIT);
    return 0;
}

static int yield_once_then_kill(void *arg, void **value)
{
    (void)value;
    gate_wait(&begun, 1);
    gate_open(&open_gate);
    weft_yield(); /* the target ends now, and makes its joiner ready behind this task */
    return weft_task_kill(arg, 0, WEFT_NOWAIT);
}

/* On one worker the queue of ready fibers is first in, first out: the joiner was given what it waited for when the kill comes. */
Test(kill, what_was_given_already_succeeds_and_the_kill_comes_next_C4)
{
    struct weft_runtime *small = runtime_with(1);
    struct given given = { .target = spawn_in(small, at_gate, NULL) };
    gate_wait(&begun, 1);
    atomic_store(&begun, 0);
    struct weft_task *joiner = spawn_in(small, join_target, &given);
    gate_wait(&begun, 1);
    cr_assert_eq(run_in(small, yield_once_then_kill, joiner), 0);
    cr_assert_eq(finish_task(joiner).status, WEFT_OK);
    cr_assert_eq(given.join, 0);
    cr_assert_eq(given.next, -ECANCELED);
    weft_task_release(given.target);
    cr_assert_eq(weft_runtime_destroy(small), 0);
}

/* A waiter for the pool's only slot is killed: the slot is still there for the next. */
static int spawn_into(void *arg, void **value)
{
    (void)value;
    gate_open(&ended);
    int rc = weft_group_spawn(arg, do_nothing, NULL, NULL);
    return rc == -ECANCELED ? 0 : rc == 0 ? -EIO : rc;
}

Test(kill, waiter_for_a_slot_loses_no_slot_C4)
{
    struct weft_group *pool;
    cr_assert_eq(weft_pool_create(runtime, 1, NULL, &pool), 0);
    cr_assert_eq(weft_group_spawn(pool, at_gate, NULL, NULL), 0);
    gate_wait(&begun, 1);
    struct weft_task *waiter = spawn_in(runtime, spawn_into, pool);
    gate_wait(&ended, 1);
    cr_assert_eq(weft_task_kill(waiter, 0, WEFT_FOREVER), 0);
    cr_assert_eq(finish_task(waiter).error, 0);
    gate_open(&open_gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_destroy(pool), 0);
}

/* ---- C5: edge and level ---- */

static int clean_up_after_kill(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_checkpoint() == 0);
    CHECK(weft_cancel_reason() == 0);
    gate_open(&begun);
    CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0); /* once: cleaning up may block */
    CHECK(weft_sleep_until(WEFT_NOWAIT) == 0);
    CHECK(weft_checkpoint() == -ECANCELED); /* still */
    CHECK(weft_checkpoint() == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    return weft_cancel_reason();
}

Test(kill, wait_delivers_once_and_checkpoint_stays_C5)
{
    struct weft_task *task = spawn_in(runtime, clean_up_after_kill, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, -EPIPE, WEFT_NOWAIT), 0);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.error, -EPIPE, "line %d", -outcome.error - 10000);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
}

static int checkpoint_uses_nothing_up(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    until(weft_checkpoint() == -ECANCELED);
    CHECK(weft_checkpoint() == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    CHECK(weft_sleep_until(WEFT_NOWAIT) == -ECANCELED); /* the delivery is still to come */
    CHECK(weft_sleep_until(WEFT_NOWAIT) == 0);
    return 0;
}

Test(kill, checkpoint_uses_nothing_up_C5)
{
    struct weft_task *task = spawn_in(runtime, checkpoint_uses_nothing_up, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, -EPIPE, WEFT_NOWAIT), 0);
    cr_assert_eq(finish_task(task).error, 0);
}

static int hold_it_back(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(!weft_cancel_mask(true));
    CHECK(weft_cancel_mask(true));
    gate_open(&begun);
    gate_wait(&open_gate, 1); /* killed */
    CHECK(weft_checkpoint() == 0);
    CHECK(weft_cancel_reason() == 0);
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0); /* blocks, and is not woken by it */
    CHECK(weft_sleep_until(WEFT_NOWAIT) == 0);
    CHECK(weft_cancel_mask(false));
    CHECK(weft_checkpoint() == -ECANCELED);
    CHECK(weft_sleep_until(WEFT_NOWAIT) == -ECANCELED);
    CHECK(!weft_cancel_mask(true));
    CHECK(weft_checkpoint() == 0);
    CHECK(weft_cancel_mask(false));
    return 0;
}

Test(kill, mask_holds_delivery_back_and_returns_the_state_before_C5)
{
    struct weft_task *task = spawn_in(runtime, hold_it_back, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
}

static int sleep_masked(void *arg, void **value)
{
    (void)value;
    (void)weft_cancel_mask(true);
    gate_open(&begun);
    CHECK(weft_task_join(arg, WEFT_FOREVER) == 0);
    (void)weft_cancel_mask(false);
    CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    return 0;
}

Test(kill, masked_sleeper_sleeps_on_C5)
{
    struct weft_task *target = spawn_in(runtime, at_gate, NULL), *task = spawn_in(runtime, sleep_masked, target);
    gate_wait(&begun, 2);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(2 * WEFT_MSEC)), -ETIMEDOUT);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
    weft_task_release(target);
}

Test(kill, foreign_thread_has_no_kill_and_no_mask_C5)
{
    cr_assert_eq(weft_checkpoint(), 0);
    cr_assert_eq(weft_cancel_reason(), 0);
    cr_assert_not(weft_cancel_mask(true));
    cr_assert_not(weft_cancel_mask(false));
}

/* ---- C6: what kill returns ---- */

static int take_three_kills(void *arg, void **value)
{
    (void)arg, (void)value;
    for (int i = 1; i <= 2; i++) {
        gate_open(&begun);
        CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
        CHECK(weft_cancel_reason() == (i == 1 ? -EPIPE : -EIO));
    }
    gate_open(&begun);
    gate_wait(&open_gate, 1);
    CHECK(weft_cancel_reason() == -EIO); /* the refused ones have changed nothing */
    CHECK(weft_sleep_until(WEFT_NOWAIT) == -ECANCELED);
    CHECK(weft_cancel_reason() == -ENOSPC);
    return 0;
}

Test(kill, second_kill_after_delivery_arms_a_new_one_and_a_refused_one_changes_nothing_C6)
{
    struct weft_task *task = spawn_in(runtime, take_three_kills, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, -EPIPE, WEFT_NOWAIT), 0);
    gate_wait(&begun, 2);
    cr_assert_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    gate_wait(&begun, 3);
    cr_assert_eq(weft_task_kill(task, -ENOSPC, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_task_kill(task, -EFBIG, WEFT_NOWAIT), -EALREADY, "dying");
    cr_assert_eq(weft_task_kill(task, -EFBIG, weft_after(WEFT_MSEC)), -ETIMEDOUT, "lives on");
    gate_open(&open_gate);
    cr_assert_eq(weft_task_kill(task, -EFBIG, WEFT_FOREVER), 0, "ended");
    cr_assert_eq(weft_task_kill(task, -EFBIG, WEFT_NOWAIT), 0, "finished");
    cr_assert_eq(finish_task(task).error, 0);
}

static int survive_group_kill(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    gate_open(&begun);
    CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    CHECK(weft_cancel_reason() == -EIO);
    return 0;
}

Test(kill, group_kill_never_arms_a_second_one_C6)
{
    struct weft_group *group;
    struct weft_task *task;
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    cr_assert_eq(weft_group_spawn(group, survive_group_kill, NULL, &task), 0);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_group_kill(group, -EPIPE, WEFT_NOWAIT), 0);
    gate_wait(&begun, 2);
    cr_assert_eq(weft_group_kill(group, -ENOSPC, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_task_join(task, weft_after(2 * WEFT_MSEC)), -ETIMEDOUT, "it was not woken again");
    cr_assert_eq(weft_task_kill(task, -EIO, WEFT_FOREVER), 0);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
}

static int kill_myself(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_task_kill(weft_task_current(), -EPIPE, WEFT_NOWAIT) == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    CHECK(weft_sleep_until(WEFT_NOWAIT) == 0); /* that was the delivery */
    CHECK(weft_task_kill(weft_task_current(), -EIO, WEFT_FOREVER) == -ECANCELED);
    CHECK(weft_cancel_reason() == -EIO);
    return -ECANCELED;
}

Test(kill, of_oneself_is_its_own_delivery_C6)
{
    struct weft_outcome outcome = finish_task(spawn_in(runtime, kill_myself, NULL));
    cr_assert_eq(outcome.error, -EIO, "line %d", -outcome.error - 10000);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
}

/* ---- C7 ---- */

static int never_look(void *arg, void **value)
{
    (void)arg;
    gate_open(&begun);
    while (atomic_load(&open_gate) == 0) {
        weft_yield();
    }
    *value = &freed;
    return 0;
}

Test(kill, loop_that_never_looks_goes_on_C7)
{
    struct weft_task *task = spawn_in(runtime, never_look, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(2 * WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_not(weft_task_finished(task));
    gate_open(&open_gate);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_OK, "nothing was unwound");
    cr_assert_eq(outcome.value, &freed);
}

/* ---- C8, and C7's map ---- */

static _Atomic int items;

static int item_at_gate(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    gate_open(&items);
    gate_wait(&open_gate, 1);
    return 0;
}

static struct weft_map_report report;

static int call_map(void *arg, void **value)
{
    (void)arg, (void)value;
    report.struct_size = sizeof report;
    int rc = weft_group_map(NULL, item_at_gate, NULL, 1000, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .grain = 1, .report = &report));
    CHECK(rc == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    return -ECANCELED;
}

Test(kill, of_a_task_cancels_the_map_it_is_in_between_items_C7_C8)
{
    struct weft_task *task = spawn_in(runtime, call_map, NULL);
    gate_wait(&items, 1);
    cr_assert_eq(weft_task_kill(task, -EPIPE, WEFT_NOWAIT), 0);
    gate_open(&open_gate);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.error, -EPIPE, "line %d", -outcome.error - 10000);
    cr_assert_gt(report.ok, 0, "what ran and returned 0 is ok");
    cr_assert_gt(report.cancelled, 0);
    cr_assert_eq(report.ok + report.cancelled, 1000);
}
