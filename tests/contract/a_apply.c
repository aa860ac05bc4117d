/* A1 to A3: apply. */
#include "contract.h"

static int square(void *arg, void **result)
{
    int *n = arg;
    *n *= *n;
    *result = n;
    return 0;
}

static int fail_with_result(void *arg, void **result)
{
    *result = arg;
    return -EIO;
}

PROMISE(A1_apply_waits_and_hands_over_the_value, EVERY)
{
    int n = 7;
    struct weft_outcome outcome;
    check_eq(weft_group_apply(pool, square, &n, &outcome), 0);
    check(outcome.status == WEFT_OK && outcome.value == &n && n == 49);
    check_eq(weft_group_len(pool), 0);
    n = 3;
    check_eq(weft_group_apply(NULL, square, &n, &outcome), 0);
    check_eq(n, 9);
}

PROMISE(A1_a_failure_has_no_value_and_its_result_is_freed, EVERY)
{
    int thing;
    struct weft_outcome outcome;
    count_reset();
    const struct weft_apply_options *options = WEFT_OPTIONS(
        weft_apply_options, .task_options = WEFT_OPTIONS(weft_task_options, .result_free = count_result, .arg_free = count_arg));
    check_eq(weft_group_apply_cb(pool, fail_with_result, &thing, options, &outcome), 0);
    check(outcome.status == WEFT_FAILED && outcome.error == -EIO && !outcome.value);
    check_eq(results_freed, 1);
    check_eq(args_freed, 1);
    check_eq(weft_group_apply_cb(pool, square, &(int){ 2 }, options, &outcome), 0);
    check_eq(results_freed, 1); /* the caller's */
}

struct apply {
    struct gate killed, gate;
    struct weft_outcome outcome;
    int rc;
    _Atomic bool inside;
};

static int stubborn(void *arg, void **result)
{
    struct apply *apply = arg;
    *result = arg;
    a_store(&apply->inside, true, SEQ_CST);
    check_eq(gate_pass(&apply->killed), -ECANCELED); /* it was passed on */
    check_eq(weft_cancel_reason(), -EIO);
    check_eq(gate_pass(&apply->gate), 0);
    a_store(&apply->inside, false, SEQ_CST);
    return 0;
}

static int call_apply(void *arg)
{
    struct apply *apply = arg;
    apply->outcome = (struct weft_outcome){ WEFT_OK, 1, arg };
    apply->rc = weft_group_apply_cb(
        pool, stubborn, apply,
        WEFT_OPTIONS(weft_apply_options, .task_options = WEFT_OPTIONS(weft_task_options, .result_free = count_result)),
        &apply->outcome);
    check(!a_load(&apply->inside, SEQ_CST));
    return apply->rc;
}

PROMISE(A1_a_kill_of_the_caller_is_passed_on_waited_for_and_reported, EVERY)
{
    struct apply apply = { 0 };
    struct actor actor;
    count_reset();
    actor_start(&actor, false, call_apply, &apply);
    until(gate_waiting(&apply.killed) == 1);
    check_eq(weft_task_kill(actor.task, -EIO, WEFT_NOWAIT), 0);
    until(gate_waiting(&apply.gate) == 1);
    check(!actor_done(&actor));
    gate_open(&apply.gate);
    check_eq(actor_end(&actor), -ECANCELED);
    check(apply.outcome.status == WEFT_PENDING && apply.outcome.error == 0 && !apply.outcome.value);
    check_eq(results_freed, 1);
}

static int apply_again(void *arg, void **result)
{
    (void)result;
    int *depth = arg;
    struct weft_outcome outcome;
    if (--*depth > 0) {
        check_eq(weft_group_apply(pool, apply_again, depth, &outcome), 0);
        check_eq(outcome.status, WEFT_OK);
    }
    return 0;
}

PROMISE(A1_apply_of_apply_in_a_full_pool_ends, EVERY)
{
    int depth = 5;
    struct weft_outcome outcome;
    check_eq(weft_group_apply(pool, apply_again, &depth, &outcome), 0);
    check_eq(outcome.status, WEFT_OK);
    check_eq(depth, 0);
}

/* ---- A2 ---- */

static void note_value(const struct weft_outcome *outcome, void *arg)
{
    *(int *)arg = outcome->value ? *(int *)outcome->value : outcome->error;
    a_add(&called, 1u, SEQ_CST);
}

static void note_caller(const struct weft_outcome *outcome, void *arg)
{
    (void)outcome;
    check(*(struct weft_task **)arg == weft_task_current());
    check_eq(weft_group_len(pool), 0); /* neither slot nor membership is held while it is slow */
    a_add(&called, 1u, SEQ_CST);
}

PROMISE(A2_apply_cb_calls_back_in_the_caller_before_it_returns, EVERY)
{
    struct weft_task *self = weft_task_current();
    struct weft_outcome outcome;
    int code = -EIO;
    count_reset();
    const struct weft_apply_options *options = WEFT_OPTIONS(weft_apply_options, .callback = note_caller, .callback_arg = &self);
    check_eq(weft_group_apply_cb(pool, do_nothing, NULL, options, &outcome), 0);
    check_eq(called, 1);
    check_eq(weft_group_apply_cb(pool, return_code, &code, options, &outcome), 0);
    check_eq(called, 1); /* only on OK */
    options = WEFT_OPTIONS(weft_apply_options, .callback = note_caller, .callback_arg = &self, .when = WEFT_ON_FAILED);
    check_eq(weft_group_apply_cb(pool, return_code, &code, options, &outcome), 0);
    check_eq(called, 2);
}

/* gevent: the callback comes once, with 49. */
PROMISE(A2_apply_async_calls_back_once_by_default_only_on_ok, EVERY)
{
    int n = 7, seen = 0, code = -EIO;
    struct weft_task *task;
    count_reset();
    check_eq(weft_group_apply_async(pool, square, &n,
                                    WEFT_OPTIONS(weft_apply_options, .callback = note_value, .callback_arg = &seen), &task),
             0);
    until(a_load(&called, SEQ_CST) == 1);
    check_eq(seen, 49);
    ends_ok(task);
    check_eq(weft_group_apply_async(pool, return_code, &code,
                                    WEFT_OPTIONS(weft_apply_options, .callback = note_value, .callback_arg = &seen), &task),
             0);
    ends_with(task, WEFT_FAILED, -EIO);
    check_eq(weft_group_apply_async(
                 pool, return_code, &code,
                 WEFT_OPTIONS(weft_apply_options, .callback = note_value, .callback_arg = &seen, .when = WEFT_ON_ANY), &task),
             0);
    until(a_load(&called, SEQ_CST) == 2);
    check_eq(seen, -EIO);
    ends_with(task, WEFT_FAILED, -EIO);
}

static void be_slow(const struct weft_outcome *outcome, void *gate)
{
    (void)outcome;
    check_eq(gate_pass(gate), 0);
}

PROMISE(A2_a_slow_callback_holds_neither_slot_nor_result, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task;
    check_eq(weft_group_apply_async(pool, do_nothing, NULL,
                                    WEFT_OPTIONS(weft_apply_options, .callback = be_slow, .callback_arg = &gate), &task),
             0);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
    ends_ok(task);
    gate_open(&gate);
    until(gate_waiting(&gate) == 0); /* the callback has left it */
}

/* ---- A3 ---- */

PROMISE(A3_apply_async_never_blocks_and_becomes_a_member_when_admitted, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task, *killed;
    if (size == WEFT_UNLIMITED) {
        return;
    }
    count_reset();
    pool_fill(&gate);
    check_eq(weft_group_apply_async(pool, count_run, NULL, NULL, &task), 0);
    check_eq(weft_group_apply_async(pool, count_run, NULL, NULL, &killed), 0);
    check_eq(weft_group_len(pool), size);
    check(!weft_group_contains(pool, task));
    check_eq(weft_task_kill(killed, 0, WEFT_FOREVER), 0);
    ends_with(killed, WEFT_CANCELLED, -ECANCELED);
    check_eq(pool_queued(pool), 1);
    gate_open(&gate);
    ends_ok(task);
    check_eq(ran, 1);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
}
