/* map_async: a map that nobody waits for (contract M8, M5, M3, G5, G7, G9, A2, R4). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

enum { N = 50, SIZE = 3, UNTOUCHED = 0x11111111 };

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct gate gate;
static _Atomic uint32_t begun, called_back;
static int status[N];
static struct weft_map_report report;

static void setup(void)
{
    runtime = runtime_make();
    pool = pool_make(runtime, SIZE);
    memset(status, 0x11, sizeof status);
    report = (struct weft_map_report){ .struct_size = sizeof report };
}

TestSuite(map_async, .init = setup);

static void end(void)
{
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_pool_free_count(pool), SIZE);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static struct weft_map_options with_status(void)
{
    return (struct weft_map_options){ .struct_size = sizeof(struct weft_map_options), .status = status, .report = &report };
}

static int item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index;
    check(weft_task_current() != NULL);
    a_add(&begun, 1u, SEQ_CST);
    if (ctx) {
        int rc = gate_pass(ctx);
        if (rc != 0) {
            return rc;
        }
    }
    if (out) {
        *(int *)out = *(const int *)in + 1;
    }
    return in ? *(const int *)in : 0; /* what each says stands in the input */
}

static struct weft_task *map_async(struct weft_group *group, void *ctx, const int *in, int *out,
                                   const struct weft_map_options *options)
{
    struct weft_task *handle;
    check_eq(weft_group_map_async(group, item, ctx, N, in, sizeof *in, out, sizeof *out, options, &handle), 0);
    check(handle != NULL);
    return handle;
}

static struct weft_outcome finish(struct weft_task *handle)
{
    struct weft_outcome outcome;
    check_eq(weft_task_get(handle, WEFT_FOREVER, &outcome), 0);
    check(outcome.value == NULL);
    weft_task_release(handle);
    return outcome;
}

static void expect(struct weft_task *handle, enum weft_status wanted, int error)
{
    struct weft_outcome outcome = finish(handle);
    check_eq(outcome.status, wanted);
    check_eq(outcome.error, error);
}

static void check_all_cancelled(void)
{
    check_eq(a_load(&begun, SEQ_CST), 0);
    check(report.started);
    check_eq(report.cancelled, N);
    check_eq(report.ok + report.failed, 0);
    for (int i = 0; i < N; i++) {
        check_eq(status[i], -ECANCELED);
    }
}

/* ---- how it ends ---- */

Test(map_async, it_ends_ok_with_what_was_written_M8)
{
    int in[N] = { 0 }, out[N] = { 0 };
    struct weft_map_options options = with_status();
    struct weft_task *handle = map_async(pool, NULL, in, out, &options);
    expect(handle, WEFT_OK, 0);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(out[i], 1);
        cr_assert_eq(status[i], 0);
    }
    cr_assert_eq(report.ok, N);
    expect(map_async(NULL, NULL, in, out, NULL), WEFT_OK, 0);
    cr_assert_eq(weft_group_map_async(pool, item, NULL, 0, NULL, 0, NULL, 0, &options, &handle), 0);
    expect(handle, WEFT_OK, 0);
    cr_assert(report.started && report.ok + report.cancelled == 0);
    end();
}

Test(map_async, it_fails_with_the_maps_code_M8)
{
    int in[N] = { 0 };
    in[30] = -EIO;
    in[20] = 5;
    struct weft_map_options options = with_status();
    expect(map_async(pool, NULL, in, NULL, &options), WEFT_FAILED, -EINVAL);
    cr_assert_eq(report.first_failed, 20);
    cr_assert_eq(report.failed, 2);
    cr_assert_eq(status[30], -EIO);
    in[20] = 0;
    in[30] = -ECANCELED; /* said by itself: nobody was killed */
    expect(map_async(pool, NULL, in, NULL, &options), WEFT_FAILED, -ECANCELED);
    options.on_error = WEFT_COLLECT;
    expect(map_async(pool, NULL, in, NULL, &options), WEFT_OK, 0);
    end();
}

Test(map_async, its_deadline_fails_it_with_ETIMEDOUT_M8)
{
    struct weft_map_options options = with_status();
    options.deadline = weft_after(50 * WEFT_MSEC);
    expect(map_async(pool, &gate, NULL, NULL, &options), WEFT_FAILED, -ETIMEDOUT);
    cr_assert_geq(weft_now(), options.deadline);
    cr_assert_eq(report.ok, 0);
    cr_assert_eq(report.cancelled, N);
    end();
}

/* ---- it does not block ---- */

static int kill_and_map(void *arg, void **result)
{
    (void)result;
    check_eq(weft_task_kill(weft_task_current(), -EINTR, WEFT_NOWAIT), -ECANCELED);
    check_eq(weft_task_kill(weft_task_current(), -EINTR, WEFT_NOWAIT), -ECANCELED);
    bool before = weft_cancel_mask(true);
    check_eq(weft_task_kill(weft_task_current(), -EPIPE, WEFT_NOWAIT), 0); /* pending */
    check_eq(weft_cancel_mask(before), true);
    *(struct weft_task **)arg = map_async(pool, &gate, NULL, NULL, NULL); /* no cancellation point */
    check_eq(weft_sleep_until(weft_now()), -ECANCELED);
    return 0;
}

Test(map_async, it_does_not_wait_for_a_slot_and_is_no_cancellation_point_M8)
{
    struct weft_task *members[SIZE], *handle, *task;
    for (int i = 0; i < SIZE; i++) {
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &members[i]), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    cr_assert_eq(weft_task_spawn(runtime, kill_and_map, &handle, NULL, &task), 0);
    expect(task, WEFT_OK, 0);
    cr_assert_not(weft_task_finished(handle));
    until(pool_queued(pool) == 1); /* its first participant stands in the pool's queue */
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    cr_assert_eq(begun, 0);
    cr_assert_eq(weft_group_len(pool), SIZE, "the handle is no member");
    gate_open(&gate);
    expect(handle, WEFT_OK, 0);
    cr_assert_eq(begun, N);
    for (int i = 0; i < SIZE; i++) {
        weft_task_release(members[i]);
    }
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    end();
}

/* G5: from the call on, though nothing of it has a slot, or a worker. */
Test(map_async, the_group_is_not_empty_until_it_has_ended_G5)
{
    struct weft_task *handle = map_async(pool, &gate, NULL, NULL, NULL);
    cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    cr_assert_eq(weft_group_destroy(pool), -EBUSY);
    until(gate_waiting(&gate) == SIZE);
    cr_assert_eq(weft_group_len(pool), SIZE);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(begun, N);
    expect(handle, WEFT_OK, 0);
    cr_assert_eq(weft_group_map_async(pool, item, &gate, N, NULL, 0, NULL, 0, NULL, NULL), 0, "detached");
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 2 * N);
    end();
}

/* ---- kills ---- */

/* While its items run: by the handle, or by the group. */
static void kill_running(bool group)
{
    struct weft_map_options options = with_status();
    struct weft_task *handle = map_async(pool, &gate, NULL, NULL, &options);
    until(gate_waiting(&gate) == SIZE);
    if (group) {
        check_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    } else {
        check_eq(weft_task_kill(handle, -EINTR, WEFT_FOREVER), 0);
    }
    expect(handle, WEFT_CANCELLED, -EINTR);
    check_eq(a_load(&begun, SEQ_CST), SIZE);
    check_eq(report.cancelled, N);
    for (int i = 0; i < N; i++) {
        check(status[i] == -EINTR || status[i] == -ECANCELED);
    }
    end();
}

Test(map_async, a_kill_of_the_handle_cancels_it_M5) { kill_running(false); }
Test(map_async, a_kill_of_the_group_cancels_it_M5) { kill_running(true); }

/* While it waits for its first slot. */
static void kill_waiting(bool group)
{
    struct weft_task *member, *handle;
    struct weft_map_options options = with_status();
    for (int i = 0; i < SIZE; i++) {
        check_eq(weft_group_spawn(pool, pass_gate, &gate, i == 0 ? &member : NULL), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    handle = map_async(pool, &gate, NULL, NULL, &options);
    until(pool_queued(pool) == 1);
    if (group) {
        check_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    } else {
        check_eq(weft_task_kill(handle, -EINTR, WEFT_FOREVER), 0);
        gate_open(&gate);
    }
    expect(handle, WEFT_CANCELLED, -EINTR);
    check_all_cancelled();
    check_eq(weft_task_join(member, WEFT_FOREVER), 0);
    weft_task_release(member);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    end();
}

Test(map_async, a_kill_of_the_handle_while_it_waits_for_a_slot_M5) { kill_waiting(false); }
Test(map_async, a_kill_of_the_group_while_it_waits_for_a_slot_M5) { kill_waiting(true); }

static _Atomic int busy;

static int hold_worker(void *arg, void **result)
{
    (void)result;
    a_add(&busy, 1, SEQ_CST);
    while (a_load((_Atomic bool *)arg, SEQ_CST) == false) {
        os_thread_yield();
    }
    return 0;
}

/* Before its task has run: every worker is busy. */
static void kill_unstarted(bool group)
{
    static _Atomic bool let_go;
    unsigned workers = weft_runtime_workers(runtime);
    struct weft_map_options options = with_status();
    for (unsigned i = 0; i < workers; i++) {
        check_eq(weft_task_spawn(runtime, hold_worker, (void *)&let_go, NULL, NULL), 0);
    }
    until(a_load(&busy, SEQ_CST) == (int)workers);
    struct weft_task *handle = map_async(pool, &gate, NULL, NULL, &options);
    if (group) {
        check_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0); /* the group is empty at once */
    } else {
        check_eq(weft_task_kill(handle, -EINTR, WEFT_FOREVER), 0);
        check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    }
    check_all_cancelled();
    expect(handle, WEFT_CANCELLED, -EINTR);
    a_store(&let_go, true, SEQ_CST);
    end();
}

Test(map_async, a_kill_of_the_handle_before_it_runs_M5) { kill_unstarted(false); }
Test(map_async, a_kill_of_the_group_before_it_runs_M5) { kill_unstarted(true); }

static int told_and_fine(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    (void)gate_pass(ctx);
    return 0;
}

/* M5: one that returned 0 all the same is ok; if that were all, nothing was cancelled. */
Test(map_async, a_kill_that_cancels_nothing_leaves_it_ok_M5)
{
    struct weft_task *handle;
    cr_assert_eq(weft_group_map_async(pool, told_and_fine, &gate, SIZE, NULL, 0, NULL, 0, NULL, &handle), 0);
    until(gate_waiting(&gate) == SIZE);
    cr_assert_eq(weft_task_kill(handle, -EINTR, WEFT_FOREVER), 0);
    expect(handle, WEFT_OK, 0);
    end();
}

/* Kills at every moment: whatever the group's kill or the handle's kill meets, the outcome says what became of the items. */
static void kill_group(void *arg)
{
    unsigned spins = *(unsigned *)arg;
    while (spins-- > 0) {
        weft_cpu_relax();
    }
    check_eq(weft_group_kill(pool, -EINTR, WEFT_NOWAIT), 0);
}

Test(map_async, kills_at_any_moment_are_told_as_they_were)
{
    unsigned cancelled = 0, ok = 0, refused = 0;
    for (unsigned round = 0; round < 600; round++) {
        struct os_thread killer;
        struct weft_task *handle;
        struct weft_map_options options = with_status();
        unsigned spins = round * 7919 % 4000;
        cr_assert_eq(os_thread_start(&killer, kill_group, &spins, "killer"), 0);
        int rc = weft_group_map_async(pool, item, NULL, N, NULL, 0, NULL, 0, &options, &handle);
        if (rc != 0) {
            cr_assert_eq(rc, -ESHUTDOWN);
            cr_assert_null(handle);
            refused++;
            os_thread_join(killer);
            continue;
        }
        struct weft_outcome outcome = finish(handle);
        os_thread_join(killer);
        size_t never = 0;
        for (int i = 0; i < N; i++) {
            cr_assert(status[i] == 0 || status[i] == -ECANCELED);
            never += status[i] != 0;
        }
        cr_assert_eq(never, report.cancelled);
        cr_assert_eq(report.ok + report.cancelled, N);
        cr_assert_eq(outcome.status, never > 0 ? WEFT_CANCELLED : WEFT_OK, "%zu never, status %d, error %d", never, outcome.status,
                     outcome.error);
        cr_assert_eq(outcome.error, never > 0 ? -EINTR : 0);
        ok += never == 0;
        cancelled += never > 0;
    }
    cr_log_info("%u ok, %u cancelled, %u refused\n", ok, cancelled, refused);
    end();
}

/* ---- closed, ended ---- */

Test(map_async, a_close_lets_it_finish_and_refuses_the_next_G9)
{
    struct weft_task *handle, *refused;
    for (int i = 0; i < SIZE; i++) {
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    handle = map_async(pool, NULL, NULL, NULL, NULL);
    until(pool_queued(pool) == 1);
    weft_group_close(pool);
    cr_assert_eq(weft_group_map_async(pool, item, NULL, N, NULL, 0, NULL, 0, NULL, &refused), -ESHUTDOWN);
    cr_assert_null(refused);
    gate_open(&gate);
    expect(handle, WEFT_OK, 0);
    cr_assert_eq(begun, N);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    end();
}

static void destroy_it(void *arg) { check_eq(weft_runtime_destroy(arg), 0); }

Test(map_async, destroy_waits_for_a_running_one_and_refuses_the_next_R4)
{
    struct os_thread destroyer;
    struct weft_map_options options = with_status();
    struct weft_task *handle = map_async(pool, &gate, NULL, NULL, &options), *refused;
    until(gate_waiting(&gate) == SIZE);
    cr_assert_eq(os_thread_start(&destroyer, destroy_it, runtime, "destroyer"), 0);
    until(!weft_waitq_empty(&weft_instance_of(runtime)->quiet));
    options.callback = (weft_callback_fn *)abort;
    cr_assert_eq(weft_group_map_async(pool, item, NULL, N, NULL, 0, NULL, 0, &options, &refused), -ESHUTDOWN);
    cr_assert_null(refused);
    gate_open(&gate);
    os_thread_join(destroyer);
    cr_assert(weft_task_finished(handle));
    cr_assert_eq(begun, N);
    weft_task_release(handle);
    cr_assert_eq(weft_group_destroy(pool), 0);
}

/* ---- callbacks (A2) ---- */

static struct weft_task *callback_of;

static void call_back(const struct weft_outcome *outcome, void *arg)
{
    check(arg == &gate);
    check(weft_task_finished(callback_of)); /* it is over when this is called, */
    check_eq(weft_group_len(pool), 0);
    check(weft_task_current() != NULL && weft_task_current() != callback_of); /* in a task of its own, which is no member */
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check(outcome->value == NULL);
    a_store(&called_back, 1u + (unsigned)outcome->status, SEQ_CST);
}

static void with_callback(unsigned when, bool fail, bool kill, bool called, enum weft_status wanted)
{
    int in[N] = { 0 };
    in[3] = fail ? -EIO : 0;
    struct weft_map_options options = { .struct_size = sizeof options, .callback = call_back, .callback_arg = &gate, .when = when };
    memset(&gate, 0, sizeof gate);
    a_store(&called_back, 0u, SEQ_CST);
    check_eq(weft_group_map_async(pool, item, &gate, N, in, sizeof *in, NULL, 0, &options, &callback_of), 0);
    until(gate_waiting(&gate) == SIZE);
    if (kill) {
        check_eq(weft_task_kill(callback_of, 0, WEFT_FOREVER), 0);
    } else {
        gate_open(&gate);
    }
    struct weft_outcome outcome;
    check_eq(weft_task_get(callback_of, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, wanted);
    check_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    check_eq(a_load(&called_back, SEQ_CST), called ? 1u + (unsigned)wanted : 0u);
    weft_task_release(callback_of);
}

Test(map_async, the_callback_is_called_for_what_it_is_wanted_for_A2)
{
    with_callback(0, false, false, true, WEFT_OK);
    with_callback(0, true, false, false, WEFT_FAILED);
    with_callback(0, false, true, false, WEFT_CANCELLED);
    with_callback(WEFT_ON_FAILED, true, false, true, WEFT_FAILED);
    with_callback(WEFT_ON_FAILED | WEFT_ON_CANCELLED, false, false, false, WEFT_OK);
    with_callback(WEFT_ON_ANY, false, true, true, WEFT_CANCELLED);
    end();
}

/* ---- nested: in a pool of 1, by one of its members, which waits for it ---- */

static int map_within(void *arg, void **result)
{
    (void)result;
    struct weft_task *handle;
    check_eq(weft_group_map_async(arg, item, NULL, N, NULL, 0, NULL, 0, NULL, &handle), 0);
    expect(handle, WEFT_OK, 0);
    return 0;
}

Test(map_async, a_member_that_waits_for_it_lends_its_slot_P6)
{
    struct weft_group *single = pool_make(runtime, 1);
    struct weft_task *member;
    cr_assert_eq(weft_group_spawn(single, map_within, single, &member), 0);
    expect(member, WEFT_OK, 0);
    cr_assert_eq(begun, N);
    cr_assert_eq(weft_group_join(single, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(single), 0);
    end();
}

/* ---- arguments ---- */

Test(map_async, what_is_wrong_is_refused_and_nothing_runs)
{
    struct weft_task *handle = (struct weft_task *)&gate;
    struct weft_map_options options = { .struct_size = sizeof options, .when = WEFT_ON_OK | WEFT_LINK_RAW };
    cr_assert_eq(weft_group_map_async(pool, NULL, NULL, N, NULL, 0, NULL, 0, NULL, &handle), -EINVAL);
    cr_assert_null(handle);
    cr_assert_eq(weft_group_map_async(pool, item, NULL, N, NULL, 0, NULL, 0, &options, &handle), -EINVAL);
    options = (struct weft_map_options){ .struct_size = sizeof options, .callback = call_back };
    cr_assert_eq(weft_group_map(pool, item, NULL, N, NULL, 0, NULL, 0, &options), -EINVAL, "a map that waits calls nobody back");
    options = (struct weft_map_options){ .struct_size = 0 };
    cr_assert_eq(weft_group_map_async(pool, item, NULL, N, NULL, 0, NULL, 0, &options, &handle), -EINVAL);
    cr_assert_eq(begun, 0);
    end();
}
