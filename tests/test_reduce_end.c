/* reduce: how it ends when something fails, or is killed, or is late (contract M7, M3, M5, C8). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "reductions.h"

static struct gate gate;

Test(reduce_end, a_failed_call_is_named_by_its_begin_and_every_partial_ends_M3)
{
    begin(3);
    tally = (struct tally){ .fail_at = 1234, .gaps = true };
    struct interval acc;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        struct weft_map_options options = {
            .struct_size = sizeof options, .grain = 10, .report = &report, .deterministic = deterministic
        };
        cr_assert_eq(reduce(0, N, &options, &acc), -EIO);
        cr_assert_eq(report.first_failed, 1230);
        cr_assert_eq(report.first_error, -EIO);
        cr_assert_eq(report.failed, 1);
        cr_assert_eq(report.ok, N / 10 - 1);
        cr_assert(acc.begin == 0 && acc.end == N, "what was made is joined all the same");
        options.on_error = WEFT_COLLECT;
        cr_assert_eq(reduce(0, N, &options, &acc), 0);
        options.on_error = WEFT_FAIL_FAST;
        cr_assert_eq(reduce(1230, N, &options, &acc), -EIO);
        cr_assert_eq(report.ok + report.failed + report.cancelled, N / 10);
        cr_assert_eq(report.ok + report.failed, tally.calls);
        if (weft_test_workers() == 1) {
            cr_assert_leq(tally.calls, 2, "the first call failed");
        }
    }
    end();
}

Test(reduce_end, an_init_that_fails_is_its_calls_failure_M7)
{
    begin(2);
    tally = (struct tally){ .fail_at = WEFT_NO_INDEX, .gaps = true };
    struct interval acc;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        const struct weft_map_options *options =
            WEFT_OPTIONS(weft_map_options, .grain = 10, .report = &report, .deterministic = deterministic);
        tally.fail_init = 1;
        cr_assert_eq(reduce(0, N, options, &acc), -ENOSPC);
        cr_assert_eq(report.failed, 1);
        cr_assert_eq(tally.calls, N / 10 - 1);
        cr_assert_eq(tally.joined, tally.made);
    }
    end();
}

Test(reduce_end, a_join_that_fails_is_the_last_and_is_told_M7)
{
    begin(2);
    tally = (struct tally){ .fail_at = WEFT_NO_INDEX };
    struct interval acc;
    for (int on_error = WEFT_RUN_ALL; on_error <= WEFT_COLLECT; on_error++) {
        tally.fail_join = 2;
        cr_assert_eq(
            reduce(0, N, WEFT_OPTIONS(weft_map_options, .deterministic = true, .on_error = (enum weft_on_error)on_error), &acc),
            -EDOM);
        cr_assert_eq(tally.joined, 2);
        if (on_error != WEFT_FAIL_FAST) {
            cr_assert_eq(tally.calls, 500, "20000 indices, 40 a call");
        }
    }
    end();
}

enum cut { BY_GROUP, BY_TASK, BY_DEADLINE };

static int reduce_until_cut(void *arg, void **result)
{
    (void)result;
    struct interval acc;
    return reduce(0, N, arg, &acc);
}

static void cut_short(enum cut cut)
{
    begin(3);
    tally = (struct tally){ .gate = &gate, .block_at = N / 2, .fail_at = WEFT_NO_INDEX, .gaps = true };
    struct weft_map_options options = { .struct_size = sizeof options, .grain = 10, .report = &report };
    options.deadline = cut == BY_DEADLINE ? weft_after(100 * WEFT_MSEC) : 0;
    struct weft_task *task;
    struct weft_outcome outcome;
    check_eq(weft_task_spawn(runtime, reduce_until_cut, &options, NULL, &task), 0);
    if (cut != BY_DEADLINE) {
        until(gate_waiting(&gate) == 1);
    }
    if (cut == BY_GROUP) {
        check_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    } else if (cut == BY_TASK) {
        check_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    }
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, cut == BY_TASK ? WEFT_CANCELLED : WEFT_FAILED);
    check_eq(outcome.error, cut == BY_TASK ? -EINTR : cut == BY_GROUP ? -ECANCELED : -ETIMEDOUT);
    check(report.cancelled >= 1 && report.failed == 0);
    check_eq(report.ok + report.cancelled, N / 10);
    weft_task_release(task);
    end();
}

Test(reduce_end, a_kill_of_the_group_ends_every_partial_M5) { cut_short(BY_GROUP); }
Test(reduce_end, a_kill_of_the_caller_ends_every_partial_C8) { cut_short(BY_TASK); }
Test(reduce_end, its_deadline_ends_every_partial_M5) { cut_short(BY_DEADLINE); }

/* A kill that comes while nothing runs but a join: the call was made, and is joined; nothing more begins. */
static int join_and_wait(void *ctx, void *left, void *right)
{
    int rc = gate_pass(ctx);
    return rc != 0 ? rc : add(NULL, left, right);
}

static int reduce_join_waits(void *arg, void **result)
{
    (void)result;
    static const struct weft_reduce_ops waits = {
        .struct_size = sizeof waits, .acc_size = sizeof(float), .init = zero, .body = do_zero, .join = join_and_wait
    };
    float acc = 0;
    return weft_group_reduce(pool, 0, 100, &waits, arg, &acc, WEFT_OPTIONS(weft_map_options, .deterministic = true));
}

Test(reduce_end, a_join_may_block_and_be_killed_C8)
{
    begin(2);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, reduce_join_waits, &gate, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    weft_task_release(task);
    end();
}

/* C8: killing a task cancels the reduce it is in, and the map inside that, and the reduce inside that. */
static _Atomic uint32_t inner_calls;

static int innermost(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx, (void)from, (void)to, (void)acc;
    a_add(&inner_calls, 1u, SEQ_CST);
    return gate_pass(&gate);
}

static const struct weft_reduce_ops innermost_ops = {
    .struct_size = sizeof innermost_ops, .acc_size = sizeof(float), .init = zero, .body = innermost, .join = add
};

static int middle(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    float acc = 0;
    return weft_group_reduce(NULL, 0, 3, &innermost_ops, NULL, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1));
}

static int outermost(void *ctx, size_t from, size_t to, void *acc)
{
    (void)from, (void)to, (void)acc;
    return weft_group_map(ctx, middle, NULL, 2, NULL, 0, NULL, 0, NULL);
}

static int nested(void *arg, void **result)
{
    (void)result;
    static const struct weft_reduce_ops outer = {
        .struct_size = sizeof outer, .acc_size = sizeof(float), .init = zero, .body = outermost, .join = add
    };
    float acc = 0;
    int rc = weft_group_reduce(arg, 0, 2, &outer, arg, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1, .report = &report));
    check_eq(weft_sleep_until(WEFT_NOWAIT), 0); /* the kill was delivered, once */
    check_eq(weft_cancel_reason(), -EINTR);
    return rc;
}

Test(reduce_end, a_kill_reaches_the_innermost_of_nested_maps_and_reduces_C8)
{
    begin(4);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, nested, pool, NULL, &task), 0);
    until(gate_waiting(&gate) == 2 * 2 * 3);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(a_load(&inner_calls, SEQ_CST), 2 * 2 * 3);
    cr_assert_eq(report.cancelled, 2);
    cr_assert_eq(gate_waiting(&gate), 0);
    weft_task_release(task);
    end();
}
