/* M8, and M5 and A2 of it: map_async. */
#include "contract.h"

enum { N = 20 };

/* One map that somebody else runs. */
struct async {
    struct gate gate;
    int code; /* of items 5 and later */
    int status[N];
    struct weft_map_report report;
    struct weft_task *handle;
    bool masked; /* whether items outlive a kill */
    _Atomic uint32_t ran;
};

static int pass_and_fail(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    struct async *async = ctx;
    a_add(&async->ran, 1u, SEQ_CST);
    (void)weft_cancel_mask(async->masked);
    int rc = gate_pass(&async->gate);
    (void)weft_cancel_mask(false);
    return rc != 0 ? rc : index >= 5 ? async->code : 0;
}

static void async_map_in(struct async *async, struct weft_group *group, enum weft_on_error on_error, int64_t deadline)
{
    async->report = (struct weft_map_report){ .struct_size = sizeof async->report };
    check_eq(weft_group_map_async(group, pass_and_fail, async, N, NULL, 0, NULL, 0,
                                  WEFT_OPTIONS(weft_map_options, .on_error = on_error, .deadline = deadline,
                                               .status = async->status, .report = &async->report),
                                  &async->handle),
             0);
}

static void async_map(struct async *async, enum weft_on_error on_error, int64_t deadline)
{
    async_map_in(async, pool, on_error, deadline);
}

/* ---- M8: it never blocks ---- */

PROMISE(M8_map_async_never_blocks, EVERY)
{
    struct gate gate = { 0 };
    struct async async = { 0 };
    struct weft_task *task;
    pool_fill(&gate);
    count_reset();
    task = task_spawn(count_run, NULL);
    if (workers > 1 || !in_task) {
        until(a_load(&ran, SEQ_CST) == 1);
    }
    async_map(&async, WEFT_RUN_ALL, 0); /* no slot is free */
    if (workers == 1 && in_task) {
        check_eq(ran, 0); /* this task has had the only worker all the time */
    }
    check(!weft_task_finished(async.handle));
    check(!weft_group_contains(pool, async.handle)); /* it is no member, */
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    if (size != WEFT_UNLIMITED) {
        until(pool_queued(pool) >= 1);
        check_eq(async.ran, 0);
    }
    gate_open(&gate);
    until(a_load(&async.ran, SEQ_CST) >= 1); /* its items block, */
    check(!weft_task_finished(async.handle));
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT); /* but the group has it */
    gate_open(&async.gate);
    ends_ok(async.handle);
    ends_ok(task);
    check_eq(async.ran, N);
    check(async.report.started && async.report.ok == N);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
}

PROMISE(M8_map_async_in_a_pool_of_0_waits_for_a_slot_not_the_caller, EVERYWHERE)
{
    struct async async = { 0 };
    struct weft_group *none = pool_make(runtime, 0);
    gate_open(&async.gate);
    async_map_in(&async, none, WEFT_RUN_ALL, 0);
    until(pool_queued(none) == 1);
    check_eq(async.ran, 0);
    check_eq(weft_task_join(async.handle, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    check_eq(weft_pool_resize(none, 1), 0);
    ends_ok(async.handle);
    check_eq(async.ran, N);
    check_eq(weft_group_join(none, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(none), 0);
}

PROMISE(M8_without_a_handle_the_map_runs_and_the_group_waits_for_it, EVERY)
{
    struct async async = { 0 };
    check_eq(weft_group_map_async(pool, pass_and_fail, &async, N, NULL, 0, NULL, 0, NULL, NULL), 0);
    until(gate_waiting(&async.gate) >= 1);
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    gate_open(&async.gate);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(async.ran, N);
}

/* ---- M8: how its handle ends ---- */

PROMISE(M8_the_handle_is_ok_or_failed_with_the_maps_code, EVERY)
{
    static const int codes[] = { 0, -EIO, 3, -ETIMEDOUT, -ECANCELED }; /* nobody is killed: that is a failure */
    for (int i = 0; i < 15; i++) {
        struct async async = { .code = codes[i / 3] };
        enum weft_on_error policy = (enum weft_on_error)(i % 3);
        int code = async.code > 0 ? -EINVAL : async.code;
        gate_open(&async.gate);
        async_map(&async, policy, 0);
        ends_with(async.handle, code && policy != WEFT_COLLECT ? WEFT_FAILED : WEFT_OK, policy == WEFT_COLLECT ? 0 : code);
        check_eq(async.report.ok + async.report.failed, async.ran);
        check_eq(async.report.first_error, code);
        check(policy == WEFT_FAIL_FAST || async.report.first_failed == (code ? 5 : WEFT_NO_INDEX));
    }
    struct weft_task *handle;
    check_eq(weft_group_map_async(pool, pass_and_fail, NULL, 0, NULL, 0, NULL, 0, NULL, &handle), 0); /* no item */
    ends_ok(handle);
}

/* Nothing of it runs, and each item has its code. */
static void check_all_cut(struct async *async, int code)
{
    check_eq(gate_waiting(&async->gate), 0);
    size_t begun = 0;
    for (int i = 0; i < N; i++) {
        check(async->status[i] == -ECANCELED || async->status[i] == code);
        begun += async->status[i] == code;
    }
    check(code == -ECANCELED || begun <= async->ran);
    if (async->report.started) {
        check_eq(async->report.cancelled, N);
    }
}

PROMISE(M8_the_handle_is_failed_with_etimedout_at_the_deadline, EVERY)
{
    for (int full = 0; full < 2; full++) {
        struct gate gate = { 0 };
        struct async async = { 0 };
        if (full) {
            pool_fill(&gate); /* it may stand in the queue at that time, too */
        }
        async_map(&async, WEFT_RUN_ALL, weft_after(3 * WEFT_MSEC));
        ends_with(async.handle, WEFT_FAILED, -ETIMEDOUT);
        check_all_cut(&async, -ETIMEDOUT);
        check_eq(pool_queued(pool), 0);
        if (full) {
            check(size == WEFT_UNLIMITED || async.ran == 0);
            check_eq(gate_waiting(&gate), pool_width()); /* a deadline is the map's alone */
            pool_empty(&gate);
        }
    }
}

PROMISE(M8_the_handle_is_cancelled_when_it_or_the_group_is_killed, EVERY)
{
    for (int how = 0; how < 4; how++) {
        bool full = how >= 2, by_group = how % 2;
        struct gate gate = { 0 };
        struct async async = { 0 };
        if (full) {
            pool_fill(&gate);
        }
        async_map(&async, WEFT_COLLECT, 0);
        if (!full || size == WEFT_UNLIMITED) {
            until(gate_waiting(&async.gate) >= 1);
        }
        if (by_group) {
            check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
        } else {
            check_eq(weft_task_kill(async.handle, -EIO, WEFT_FOREVER), 0);
            check(weft_task_finished(async.handle));
        }
        ends_with(async.handle, WEFT_CANCELLED, -EIO);
        check_all_cut(&async, -EIO);
        check(!full || size == WEFT_UNLIMITED || async.ran == 0);
        check_eq(pool_queued(pool), 0);
        if (full && !by_group) {
            check_eq(gate_waiting(&gate), pool_width());
            pool_empty(&gate);
        }
        gate_open(&gate);
        check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    }
}

/* ---- M5: the handle's kill ---- */

static int odd_return_0(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    struct async *async = ctx;
    a_add(&async->ran, 1u, SEQ_CST);
    int rc = gate_pass(&async->gate);
    check(rc == 0 || weft_cancel_reason() == -EIO); /* running ones get the flag */
    return index % 2 ? 0 : rc;
}

PROMISE(M5_a_kill_of_the_async_handle_cancels_what_has_not_begun, EVERY)
{
    struct async async = { .report = { .struct_size = sizeof async.report } };
    check_eq(weft_group_map_async(pool, odd_return_0, &async, N, NULL, 0, NULL, 0,
                                  WEFT_OPTIONS(weft_map_options, .status = async.status, .report = &async.report), &async.handle),
             0);
    until(gate_waiting(&async.gate) >= 1);
    check_eq(weft_task_kill(async.handle, -EIO, WEFT_FOREVER), 0);
    check_eq(gate_waiting(&async.gate), 0);
    ends_with(async.handle, WEFT_CANCELLED, -EIO);
    size_t ok = 0;
    for (int i = 0; i < N; i++) {
        check(async.status[i] == 0 ? i % 2 == 1 : async.status[i] == -ECANCELED || async.status[i] == -EIO);
        ok += async.status[i] == 0;
    }
    check(ok <= async.ran);
    check(async.report.started && async.report.ok == ok && async.report.failed == 0 && async.report.cancelled == N - ok);
}

/* Each item is running, and returns 0 all the same: none was cancelled. */
PROMISE(M5_a_killed_async_map_whose_items_all_return_0_is_ok, EVERYWHERE)
{
    struct async async = { .masked = true };
    struct weft_group *wide = group_make();
    async_map_in(&async, wide, WEFT_RUN_ALL, 0);
    until(gate_waiting(&async.gate) == N);
    check_eq(weft_task_kill(async.handle, -EIO, WEFT_NOWAIT), 0);
    check_eq(weft_task_join(async.handle, weft_after(WEFT_MSEC)), -ETIMEDOUT); /* they run */
    gate_open(&async.gate);
    ends_ok(async.handle);
    check_eq(async.report.ok, N);
    check_eq(weft_group_join(wide, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(wide), 0);
}

/* ---- A2: its callback ---- */

static struct weft_outcome called_with;
static struct gate *callback_waits;

static void note_outcome(const struct weft_outcome *outcome, void *arg)
{
    check(arg == &called_with && weft_task_current() != NULL);
    check(outcome->value == NULL);
    called_with = *outcome;
    a_add(&called, 1u, SEQ_CST);
    if (callback_waits) {
        check_eq(gate_pass(callback_waits), 0);
    }
}

/* In a runtime of its own, whose end waits for callbacks, too: after it there comes no more. */
static void check_callback(unsigned when, enum weft_status status, bool wanted)
{
    struct weft_runtime *other = runtime_with(workers);
    struct weft_group *group = pool_make(other, size);
    struct async async = { .code = status == WEFT_FAILED ? -ENOTTY : 0 };
    int error = status == WEFT_FAILED ? -ENOTTY : status == WEFT_CANCELLED ? -EIO : 0;
    count_reset();
    check_eq(
        weft_group_map_async(group, pass_and_fail, &async, N, NULL, 0, NULL, 0,
                             WEFT_OPTIONS(weft_map_options, .callback = note_outcome, .callback_arg = &called_with, .when = when),
                             &async.handle),
        0);
    until(gate_waiting(&async.gate) >= 1);
    check_eq(called, 0);
    if (status == WEFT_CANCELLED) {
        check_eq(weft_task_kill(async.handle, -EIO, WEFT_NOWAIT), 0);
    } else {
        gate_open(&async.gate);
    }
    ends_with(async.handle, status, error);
    check_eq(weft_runtime_join(other, weft_after(PATIENCE)), 0);
    check_eq(called, wanted);
    check(!wanted || (called_with.status == status && called_with.error == error));
    check_eq(weft_runtime_destroy(other), 0);
    check_eq(weft_group_destroy(group), 0);
}

PROMISE(A2_map_async_calls_back_once_by_default_only_on_ok, EVERY)
{
    static const unsigned flag[] = { [WEFT_OK] = WEFT_ON_OK, [WEFT_FAILED] = WEFT_ON_FAILED, [WEFT_CANCELLED] = WEFT_ON_CANCELLED };
    callback_waits = NULL;
    for (int status = WEFT_OK; status <= WEFT_CANCELLED; status++) {
        for (unsigned when = 0; when <= WEFT_ON_ANY; when++) {
            check_callback(when, (enum weft_status)status, (when ? when : WEFT_ON_OK) & flag[status]);
        }
    }
}

PROMISE(A2_map_async_refuses_a_when_that_means_nothing, EVERYWHERE)
{
    static const unsigned bad[] = { WEFT_LINK_RAW, WEFT_ON_ANY | WEFT_LINK_RAW, 16, UINT32_MAX };
    struct async async = { 0 };
    count_reset();
    for (size_t i = 0; i < 4; i++) {
        check_eq(weft_group_map_async(
                     pool, pass_and_fail, &async, N, NULL, 0, NULL, 0,
                     WEFT_OPTIONS(weft_map_options, .callback = note_outcome, .callback_arg = &called_with, .when = bad[i]),
                     &async.handle),
                 -EINVAL);
    }
    check_eq(weft_group_join(pool, WEFT_NOWAIT), 0);
    check_eq(async.ran + called, 0);
}

PROMISE(A2_a_slow_callback_of_map_async_holds_no_slot, EVERY)
{
    struct async async = { 0 };
    struct gate gate = { 0 };
    callback_waits = &gate;
    count_reset();
    gate_open(&async.gate);
    check_eq(weft_group_map_async(pool, pass_and_fail, &async, N, NULL, 0, NULL, 0,
                                  WEFT_OPTIONS(weft_map_options, .callback = note_outcome, .callback_arg = &called_with),
                                  &async.handle),
             0);
    until(gate_waiting(&gate) == 1);
    check(weft_task_finished(async.handle));
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
    ends_ok(async.handle);
    gate_open(&gate);
    until(gate_waiting(&gate) == 0); /* the gate is of this call */
}
