/* map: failures, kills and deadlines (contract M3, M5). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct gate gate;
static _Atomic uint32_t begun;

static struct weft_group *begin(size_t size)
{
    runtime = runtime_make();
    return pool_make(runtime, size);
}

static void end(struct weft_group *pool)
{
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

enum { N = 1000 };
static int status[N];
static struct weft_map_report report = { .struct_size = sizeof report };

static struct weft_map_options options_with(enum weft_on_error on_error)
{
    memset(status, 0x11, sizeof status);
    report = (struct weft_map_report){ .struct_size = sizeof report };
    return (struct weft_map_options){
        .struct_size = sizeof(struct weft_map_options), .on_error = on_error, .status = status, .report = &report
    };
}

/* What each item says stands in the input; a positive code is a failure, too. */
static int say(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)out;
    a_add(&begun, 1u, SEQ_CST);
    return *(const int *)in;
}

static int codes[N];

static void fill_codes(void)
{
    memset(codes, 0, sizeof codes);
    codes[700] = -EIO;
    codes[300] = 5;
    codes[900] = -ECANCELED; /* said by itself, without a kill */
}

Test(map_error, run_all_runs_all_and_returns_the_lowest)
{
    struct weft_group *pool = begin(4);
    struct weft_map_options options = options_with(WEFT_RUN_ALL);
    fill_codes();
    cr_assert_eq(weft_group_map(pool, say, NULL, N, codes, sizeof *codes, NULL, 0, &options), -EINVAL);
    cr_assert_eq(begun, N);
    cr_assert_eq(report.ok, N - 3);
    cr_assert_eq(report.failed, 3);
    cr_assert_eq(report.cancelled, 0);
    cr_assert_eq(report.first_failed, 300);
    cr_assert_eq(report.first_error, -EINVAL);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(status[i], i == 300 ? -EINVAL : codes[i], "status %d is %d", i, status[i]);
    }
    end(pool);
}

Test(map_error, collect_returns_0_if_all_ran)
{
    struct weft_group *pool = begin(4);
    struct weft_map_options options = options_with(WEFT_COLLECT);
    fill_codes();
    cr_assert_eq(weft_group_map(pool, say, NULL, N, codes, sizeof *codes, NULL, 0, &options), 0);
    cr_assert_eq(report.failed, 3);
    cr_assert_eq(report.first_failed, 300);
    cr_assert_eq(status[700], -EIO);
    end(pool);
}

/* After the failure nobody begins more than one. On one worker the order is known, so the count is exact. */
Test(map_error, fail_fast_begins_at_most_one_more_each)
{
    struct weft_group *pool = begin(4);
    memset(codes, 0, sizeof codes);
    codes[0] = -EIO; /* the caller begins with it */
    for (int round = 0; round < 50; round++) {
        struct weft_map_options options = options_with(WEFT_FAIL_FAST);
        a_store(&begun, 0u, SEQ_CST);
        cr_assert_eq(weft_group_map(pool, say, NULL, N, codes, sizeof *codes, NULL, 0, &options), -EIO);
        if (weft_test_workers() == 1) {
            cr_assert_leq(begun, 2);
        }
        cr_assert_eq(report.ok + report.failed, begun);
        cr_assert_eq(report.ok + report.failed + report.cancelled, N);
        size_t never = 0;
        for (int i = 0; i < N; i++) {
            never += status[i] == -ECANCELED;
            cr_assert(status[i] == 0 || status[i] == -ECANCELED || (i == 0 && status[i] == -EIO));
        }
        cr_assert_eq(never, report.cancelled);
    }
    end(pool);
}

static struct gate first_gate;
static _Atomic bool failed;

static int fail_or_pass(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    a_add(&begun, 1u, SEQ_CST);
    if (index == 0) {
        check_eq(gate_pass(&first_gate), 0);
        a_store(&failed, true, SEQ_CST);
        return -EIO;
    }
    return gate_pass(ctx);
}

static int open_both(void *arg, void **result)
{
    (void)result;
    until(gate_waiting(arg) == 3 && gate_waiting(&first_gate) == 1);
    gate_open(&first_gate);
    until(a_load(&failed, SEQ_CST));
    gate_open(arg);
    return 0;
}

/* Running items are not killed by a neighbour's failure: they come to their own end. */
Test(map_error, fail_fast_kills_nobody)
{
    struct weft_group *pool = begin(4);
    struct weft_map_options options = options_with(WEFT_FAIL_FAST);
    cr_assert_eq(weft_task_spawn(runtime, open_both, &gate, NULL, NULL), 0);
    cr_assert_eq(weft_group_map(pool, fail_or_pass, &gate, N, NULL, 0, NULL, 0, &options), -EIO);
    cr_assert_eq(report.failed, 1);
    cr_assert_eq(report.ok + 1, begun);
    cr_assert_geq(report.ok, 3);
    cr_assert_leq(begun, 8);
    end(pool);
}

static int fail_at_once(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)in, (void)out;
    return index % 2 == 0 ? -EIO : 0;
}

Test(map_error, the_largest_n_can_be_counted_H27)
{
    struct weft_group *pool = begin(2);
    report = (struct weft_map_report){ .struct_size = sizeof report };
    const struct weft_map_options *options = WEFT_OPTIONS(weft_map_options, .on_error = WEFT_FAIL_FAST, .report = &report);
    cr_assert_eq(weft_group_map(pool, fail_at_once, NULL, SIZE_MAX, NULL, 0, NULL, 0, options), -EIO);
    cr_assert_geq(report.failed, 1);
    cr_assert_eq(report.ok + report.failed + report.cancelled, SIZE_MAX);
    options = WEFT_OPTIONS(weft_map_options, .on_error = WEFT_FAIL_FAST, .grain = SIZE_MAX, .report = &report);
    cr_assert_eq(weft_group_map(pool, fail_at_once, NULL, SIZE_MAX, NULL, 0, NULL, 0, options), -EIO);
    end(pool);
}

/* ---- kills and deadlines ---- */

static int pass_or_go_on(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)in;
    a_add(&begun, 1u, SEQ_CST);
    *(int *)out = gate_pass(&gate);
    check(*(int *)out != 0 ? weft_cancel_reason() != 0 : weft_cancel_reason() == 0);
    return index % 2 == 0 ? *(int *)out : 0; /* odd ones are told and return 0 all the same */
}

struct call {
    struct weft_group *pool;
    struct weft_map_options options;
    int out[N];
    int rc;
    int after; /* what the next cancellation point says */
};

static void map_pass(void *arg)
{
    struct call *call = arg;
    call->rc = weft_group_map(call->pool, pass_or_go_on, NULL, N, NULL, 0, call->out, sizeof *call->out, &call->options);
}

static int map_pass_task(void *arg, void **result)
{
    (void)result;
    struct call *call = arg;
    map_pass(arg);
    call->after = weft_sleep_until(weft_now());
    return call->rc;
}

static struct call call;

/* Items 0…5 were running and told; the even ones say so, the odd ones are values all the same. */
static void check_cut_short(int rc)
{
    enum { SIZE = 6 };
    check_eq(call.rc, rc);
    check_eq(a_load(&begun, SEQ_CST), SIZE);
    check_eq(report.failed, 0);
    check_eq(report.ok + report.cancelled, N);
    size_t ok = 0;
    for (int i = 0; i < N; i++) {
        ok += status[i] == 0;
        if (status[i] == 0) {
            check(i % 2 == 1);
            check_eq(call.out[i], -ECANCELED);
        }
    }
    check_eq(ok, report.ok);
    check(report.first_failed == WEFT_NO_INDEX);
}

Test(map_error, a_kill_of_the_group_ends_it_for_a_foreign_caller)
{
    call.pool = begin(6);
    call.options = options_with(WEFT_RUN_ALL);
    struct os_thread thread;
    cr_assert_eq(os_thread_start(&thread, map_pass, &call, "caller"), 0);
    until(gate_waiting(&gate) == 6);
    cr_assert_eq(weft_group_kill(call.pool, -EINTR, WEFT_FOREVER), 0);
    os_thread_join(thread);
    check_cut_short(-ECANCELED);
    end(call.pool);
}

Test(map_error, a_kill_of_the_group_ends_it_for_a_task)
{
    call.pool = begin(6);
    call.options = options_with(WEFT_COLLECT);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, map_pass_task, &call, NULL, &task), 0);
    until(gate_waiting(&gate) == 6);
    cr_assert_eq(weft_group_kill(call.pool, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check_cut_short(-ECANCELED);
    cr_assert_eq(call.after, 0, "the caller itself was not killed");
    weft_task_release(task);
    end(call.pool);
}

/* C8, and E2: it was the caller that was killed; the map's return is the delivery. */
Test(map_error, a_kill_of_the_caller_ends_it)
{
    call.pool = begin(6);
    call.options = options_with(WEFT_RUN_ALL);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, map_pass_task, &call, NULL, &task), 0);
    until(gate_waiting(&gate) == 6);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check_cut_short(-ECANCELED);
    cr_assert_eq(call.after, 0, "a kill is delivered once");
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    weft_task_release(task);
    end(call.pool);
}

Test(map_error, its_deadline_ends_it)
{
    call.pool = begin(6);
    call.options = options_with(WEFT_RUN_ALL);
    call.options.deadline = weft_after(200 * WEFT_MSEC);
    map_pass(&call);
    cr_assert_geq(weft_now(), call.options.deadline);
    check_eq(call.rc, -ETIMEDOUT);
    cr_assert_leq(begun, 6);
    cr_assert_eq(report.ok + report.cancelled, N);
    cr_assert(report.started);
    for (int64_t past = -1; past <= 1; past += 2) {
        call.options.deadline = past;
        a_store(&begun, 0u, SEQ_CST);
        map_pass(&call);
        check_eq(call.rc, -ETIMEDOUT);
        cr_assert_eq(begun, 0);
        cr_assert_eq(report.cancelled, N);
    }
    call.options.deadline = WEFT_FOREVER;
    gate_open(&gate);
    map_pass(&call);
    check_eq(call.rc, 0);
    end(call.pool);
}

/* The next item on the same participant does not inherit the last one's kill, nor its mask (H45). */
static int mask_myself(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    check_eq(weft_cancel_reason(), 0);
    check_eq(weft_checkpoint(), 0);
    (void)weft_cancel_mask(index % 3 == 0);
    return 0;
}

Test(map_error, masks_and_kills_stay_with_their_item_H45)
{
    struct weft_group *pool = begin(2);
    cr_assert_eq(weft_group_map(pool, mask_myself, NULL, N, NULL, 0, NULL, 0, NULL), 0);
    end(pool);
}

/* C8: a kill goes through a map into the maps that its items are in, wherever they run. */
static int inner_pass(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    a_add(&begun, 1u, SEQ_CST);
    return gate_pass(ctx);
}

static int map_inside(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    int rc = weft_group_map(ctx, inner_pass, &gate, 3, NULL, 0, NULL, 0, NULL);
    check_eq(rc, -ECANCELED);
    check_eq(weft_cancel_reason(), -EINTR);
    return rc;
}

static int map_outside(void *arg, void **result)
{
    (void)result;
    struct weft_map_options options = options_with(WEFT_RUN_ALL);
    return weft_group_map(arg, map_inside, NULL, 4, NULL, 0, NULL, 0, &options);
}

Test(map_error, a_kill_of_the_caller_reaches_the_maps_inside_C8)
{
    struct weft_group *pool = begin(4);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, map_outside, pool, NULL, &task), 0);
    until(gate_waiting(&gate) == 4 * 3);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(begun, 12);
    cr_assert_eq(report.cancelled, 4);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(status[i], -EINTR);
    }
    weft_task_release(task);
    end(pool);
}

/* G9: a map that has been accepted finishes, also if it has no slot yet. */
static void map_in_closed(void *arg)
{
    struct weft_map_options options = options_with(WEFT_RUN_ALL);
    check_eq(weft_group_map(arg, say, NULL, N, codes, sizeof *codes, NULL, 0, &options), 0);
}

Test(map_error, a_close_does_not_end_a_map_that_waits_for_its_slot_G9)
{
    struct weft_group *pool = begin(1);
    struct os_thread thread;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(os_thread_start(&thread, map_in_closed, pool, "caller"), 0);
    until(pool_queued(pool) == 1);
    weft_group_close(pool);
    cr_assert_eq(weft_group_map(pool, say, NULL, N, codes, sizeof *codes, NULL, 0, NULL), -ESHUTDOWN);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(begun, N);
    cr_assert_eq(report.ok, N);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    end(pool);
}

/* A pending kill is delivered on entry: nothing has run. */
static int map_after_kill(void *arg, void **result)
{
    (void)result;
    check_eq(weft_task_kill(weft_task_current(), -EINTR, WEFT_NOWAIT), -ECANCELED); /* that was the delivery */
    check_eq(weft_group_map(arg, say, NULL, 3, codes, sizeof *codes, NULL, 0, NULL), 0);
    check_eq(gate_pass(&gate), 0);
    until(weft_checkpoint() != 0 && a_load(&begun, SEQ_CST) > 3);
    struct weft_map_options options = options_with(WEFT_RUN_ALL);
    check_eq(weft_group_map(arg, say, NULL, 3, codes, sizeof *codes, NULL, 0, &options), -ECANCELED);
    check(!report.started);
    check_eq(status[0], 0x11111111);
    return 0;
}

Test(map_error, a_pending_kill_is_delivered_on_entry)
{
    struct weft_group *pool = begin(2);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, map_after_kill, pool, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    gate_open(&gate);
    until(gate_waiting(&gate) == 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    a_add(&begun, 1u, SEQ_CST);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    weft_task_release(task);
    end(pool);
}
