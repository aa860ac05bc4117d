/* apply: one call in a group that is waited for (contract A1, A2, P6, C3, C8, E4). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"

static struct gate gate;
static _Atomic uint32_t arg_frees, result_frees, begun, callbacks;

static void arg_free(void *p)
{
    (void)p;
    a_add(&arg_frees, 1u, SEQ_CST);
}

static void result_free(void *p)
{
    (void)p;
    a_add(&result_frees, 1u, SEQ_CST);
}

static const struct weft_task_options *frees(void)
{
    static const struct weft_task_options options = { .struct_size = sizeof options,
                                                      .arg_free = arg_free,
                                                      .result_free = result_free };
    return &options;
}

static int twice(void *arg, void **result)
{
    *result = (void *)((uintptr_t)arg * 2);
    return 0;
}

/* Sets a result, and returns what it is told. */
static int give_and_return(void *arg, void **result)
{
    a_add(&begun, 1u, SEQ_CST);
    *result = &begun;
    return *(int *)arg;
}

static int give_when_killed(void *arg, void **result)
{
    a_add(&begun, 1u, SEQ_CST);
    *result = &begun;
    (void)gate_pass(arg);
    return 0;
}

static int call(weft_task_fn *fn, void *arg, struct weft_outcome *outcome)
{
    return weft_group_apply_cb(pool, fn, arg, WEFT_OPTIONS(weft_apply_options, .task_options = frees()), outcome);
}

Test(apply, hands_the_value_to_the_caller)
{
    begin(1);
    struct weft_outcome outcome;
    cr_assert_eq(weft_group_apply(pool, twice, (void *)21, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_eq(outcome.value, (void *)42);
    cr_assert_eq(weft_group_apply(NULL, twice, (void *)4, &outcome), 0, "a private group");
    cr_assert_eq(outcome.value, (void *)8);
    cr_assert_eq(call(twice, (void *)1, &outcome), 0);
    cr_assert_eq(outcome.value, (void *)2);
    cr_assert_eq(arg_frees, 1);
    cr_assert_eq(result_frees, 0, "the value is the caller's");
    cr_assert_eq(call(twice, (void *)1, NULL), 0);
    cr_assert_eq(result_frees, 1, "unless nobody wants it");
    cr_assert_eq(arg_frees, 2);
    end();
}

Test(apply, of_a_failed_call_the_outcome_tells_and_the_result_is_ended)
{
    begin(1);
    struct weft_outcome outcome;
    int rc = -EIO;
    cr_assert_eq(call(give_and_return, &rc, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_FAILED);
    cr_assert_eq(outcome.error, -EIO);
    cr_assert_null(outcome.value);
    cr_assert_eq(result_frees, 1);
    cr_assert_eq(arg_frees, 1);
    end();
}

Test(apply, bad_input_is_refused)
{
    begin(1);
    struct weft_outcome outcome = { .status = WEFT_OK };
    const struct weft_apply_options *when = WEFT_OPTIONS(weft_apply_options, .when = WEFT_LINK_RAW);
    cr_assert_eq(weft_group_apply(pool, NULL, NULL, &outcome), -EINVAL);
    cr_assert_eq(outcome.status, WEFT_PENDING);
    cr_assert_eq(weft_group_apply_cb(pool, twice, NULL, when, &outcome), -EINVAL);
    cr_assert_eq(weft_group_apply_async(pool, twice, NULL, when, NULL), -EINVAL);
    cr_assert_eq(weft_group_apply_async(pool, NULL, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_group_apply_cb(pool, twice, NULL, &(struct weft_apply_options){ .when = 0 }, &outcome), -EINVAL);
    end();
}

/* ---- nesting ---- */

static int apply_deeper(void *arg, void **result)
{
    uintptr_t depth = (uintptr_t)arg;
    struct weft_outcome outcome = { .value = NULL };
    if (depth > 0) {
        check_eq(weft_group_apply(pool, apply_deeper, (void *)(depth - 1), &outcome), 0);
        check_eq(outcome.status, WEFT_OK);
    }
    check_eq(weft_group_len(pool), depth == 5 ? 1 : weft_group_len(pool));
    *result = (void *)((uintptr_t)outcome.value + 1);
    return 0;
}

Test(apply, nests_in_a_pool_of_every_size_H28)
{
    for (size_t size = 1; size <= 3; size++) {
        begin(size);
        struct weft_outcome outcome;
        cr_assert_eq(weft_group_apply(pool, apply_deeper, (void *)5, &outcome), 0);
        cr_assert_eq(outcome.value, (void *)6);
        end();
    }
}

static struct weft_group *other;

static int there_and_back(void *arg, void **result)
{
    uintptr_t depth = (uintptr_t)arg;
    struct weft_outcome outcome = { .value = NULL };
    (void)result;
    if (depth > 0) {
        check_eq(weft_group_apply(depth % 2 ? pool : other, there_and_back, (void *)(depth - 1), &outcome), 0);
        check_eq(outcome.status, WEFT_OK);
    }
    return 0;
}

Test(apply, from_pool_to_pool_and_back_several_at_once)
{
    begin(1);
    other = pool_make(runtime, 1);
    struct weft_task *tasks[6];
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(weft_task_spawn(runtime, there_and_back, (void *)(uintptr_t)(5 + i % 2), NULL, &tasks[i]), 0);
    }
    cr_assert_eq(weft_tasks_wait(tasks, 6, 6, WEFT_FOREVER), 6);
    weft_tasks_release(tasks, 6);
    cr_assert_eq(weft_group_join(other, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(other), 1);
    cr_assert_eq(weft_group_destroy(other), 0);
    end();
}

static int apply_in_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)ctx;
    struct weft_outcome outcome;
    int rc = weft_group_apply(pool, twice, (void *)index, &outcome);
    *(uintptr_t *)out = (uintptr_t)outcome.value;
    return rc;
}

Test(apply, in_an_item_of_a_map_of_the_same_pool)
{
    for (size_t size = 1; size <= 2; size++) {
        begin(size);
        uintptr_t out[50];
        cr_assert_eq(weft_group_map(pool, apply_in_item, NULL, 50, NULL, 0, out, sizeof *out, NULL), 0);
        for (uintptr_t i = 0; i < 50; i++) {
            cr_assert_eq(out[i], 2 * i);
        }
        end();
    }
}

/* ---- kills ---- */

struct caller {
    void *arg;
    weft_task_fn *fn;
    struct weft_outcome outcome;
    int rc, reason;
};

static int apply_in_task(void *arg, void **result)
{
    (void)result;
    struct caller *caller = arg;
    caller->rc = call(caller->fn, caller->arg, &caller->outcome);
    caller->reason = weft_cancel_reason();
    return 0;
}

Test(apply, a_kill_of_the_caller_is_passed_on_waited_for_and_reported_C8)
{
    begin(1);
    struct weft_task *task;
    struct caller caller = { .fn = give_when_killed, .arg = &gate };
    cr_assert_eq(weft_task_spawn(runtime, apply_in_task, &caller, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(caller.rc, -ECANCELED);
    cr_assert_eq(caller.reason, -EINTR);
    cr_assert_eq(caller.outcome.status, WEFT_PENDING, "although fn returned 0");
    cr_assert_null(caller.outcome.value);
    cr_assert_eq(begun, 1);
    cr_assert_eq(result_frees, 1);
    cr_assert_eq(arg_frees, 1);
    weft_task_release(task);
    end();
}

static int hold_on(void *arg, void **result)
{
    (void)result;
    a_add(&begun, 1u, SEQ_CST);
    struct weft_wait wait = { .deadline = WEFT_FOREVER };
    return weft_wait_until(&((struct gate *)arg)->queue, gate_is_open, arg, &wait);
}

Test(apply, it_does_not_return_before_fn_has_ended)
{
    begin(1);
    struct weft_task *task;
    struct caller caller = { .fn = hold_on, .arg = &gate };
    cr_assert_eq(weft_task_spawn(runtime, apply_in_task, &caller, NULL, &task), 0);
    until(a_load(&begun, SEQ_CST) == 1);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(20 * WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(weft_group_len(pool), 1);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(caller.rc, -ECANCELED);
    weft_task_release(task);
    end();
}

Test(apply, a_call_that_never_began_leaves_the_argument_with_its_caller_E4)
{
    begin(1);
    struct weft_task *holder, *task;
    int rc = 0;
    struct caller caller = { .fn = give_and_return, .arg = &rc };
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &holder), 0);
    cr_assert_eq(weft_task_spawn(runtime, apply_in_task, &caller, NULL, &task), 0);
    until(pool_queued(pool) == 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    cr_assert_eq(caller.rc, -ECANCELED);
    cr_assert_eq(begun + arg_frees, 0);
    weft_task_release(task);
    cr_assert_eq(weft_task_spawn(runtime, apply_in_task, &caller, NULL, &task), 0);
    until(pool_queued(pool) == 1);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(caller.rc, -ESHUTDOWN);
    cr_assert_eq(begun + arg_frees, 0);
    weft_group_close(pool);
    cr_assert_eq(call(give_and_return, &rc, &caller.outcome), -ESHUTDOWN);
    cr_assert_eq(begun + arg_frees, 0);
    weft_task_release(task);
    weft_task_release(holder);
    end();
}

static int killed_on_entry(void *arg, void **result)
{
    (void)result;
    int rc = 0;
    struct weft_outcome outcome;
    gate_open(arg);
    until(weft_checkpoint() != 0);
    check_eq(call(give_and_return, &rc, &outcome), -ECANCELED);
    check_eq(begun, 0);
    check_eq(call(give_and_return, &rc, &outcome), 0); /* delivered once: cleanup may call */
    return 0;
}

Test(apply, is_a_cancellation_point_on_entry_C3)
{
    begin(1);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, killed_on_entry, &gate, NULL, &task), 0);
    cr_assert_eq(gate_pass(&gate), 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 1);
    weft_task_release(task);
    end();
}

Test(apply, a_kill_of_the_group_is_in_the_outcome)
{
    begin(1);
    struct weft_task *task;
    struct caller caller = { .fn = pass_gate, .arg = &gate };
    cr_assert_eq(weft_task_spawn(runtime, apply_in_task, &caller, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(caller.rc, 0);
    cr_assert_eq(caller.outcome.status, WEFT_CANCELLED);
    cr_assert_eq(caller.outcome.error, -EINTR);
    cr_assert_eq(arg_frees, 1);
    weft_task_release(task);
    end();
}

/* ---- callback ---- */

static void called(const struct weft_outcome *outcome, void *arg)
{
    check_eq(weft_group_len(pool), 0); /* it holds no slot */
    check_eq(weft_pool_free_count(pool), 1);
    check(!weft_task_current());
    *(struct weft_outcome *)arg = *outcome;
    a_add(&callbacks, 1u, SEQ_CST);
}

Test(apply, calls_back_in_the_caller_for_the_outcomes_that_are_wanted)
{
    begin(1);
    struct weft_outcome heard, outcome;
    int rc = 0, fails = -EIO;
    const struct weft_apply_options *on_ok = WEFT_OPTIONS(weft_apply_options, .callback = called, .callback_arg = &heard);
    const struct weft_apply_options *on_failed =
        WEFT_OPTIONS(weft_apply_options, .callback = called, .callback_arg = &heard, .when = WEFT_ON_FAILED);
    cr_assert_eq(weft_group_apply_cb(pool, give_and_return, &rc, on_ok, &outcome), 0);
    cr_assert_eq(callbacks, 1);
    cr_assert_eq(heard.value, &begun);
    cr_assert_eq(weft_group_apply_cb(pool, give_and_return, &fails, on_ok, &outcome), 0);
    cr_assert_eq(weft_group_apply_cb(pool, give_and_return, &rc, on_failed, &outcome), 0);
    cr_assert_eq(callbacks, 1);
    cr_assert_eq(weft_group_apply_cb(pool, give_and_return, &fails, on_failed, &outcome), 0);
    cr_assert_eq(callbacks, 2);
    cr_assert_eq(heard.error, -EIO);
    end();
}
