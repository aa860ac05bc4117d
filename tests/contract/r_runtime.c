/* R1, R4, R5, R9, R10: runtimes, their end, and who runs what. */
#include "contract.h"

static int read_current(void *arg, void **result)
{
    (void)result;
    *(struct weft_runtime **)arg = weft_runtime_current();
    return 0;
}

PROMISE(R1_null_is_the_callers_runtime_else_the_default, EVERYWHERE)
{
    struct weft_runtime *seen = NULL, *wanted = in_task ? runtime : weft_runtime_default();
    struct weft_task *task;
    check_eq(weft_task_spawn(NULL, read_current, &seen, NULL, &task), 0);
    ends_ok(task);
    check(seen == wanted && seen != NULL);
    check(weft_runtime_current() == (in_task ? runtime : NULL));
}

PROMISE(R1_the_default_starts_at_first_use, ONCE)
{
    struct weft_runtime *seen = NULL;
    struct weft_task *task;
    check_eq(weft_task_spawn(NULL, read_current, &seen, NULL, &task), 0);
    ends_ok(task);
    check(seen != runtime && seen == weft_runtime_default());
}

PROMISE(R1_many_live_side_by_side_and_ending_one_disturbs_no_other, WORKERS)
{
    struct weft_runtime *others[5];
    struct gate gate = { 0 };
    struct weft_task *tasks[5], *mine = task_spawn(pass_gate, &gate);
    for (int i = 0; i < 5; i++) {
        others[i] = runtime_with(1);
        check_eq(weft_task_spawn(others[i], do_nothing, NULL, NULL, &tasks[i]), 0);
    }
    for (int i = 0; i < 5; i++) {
        check_eq(weft_runtime_destroy(others[i]), 0);
        ends_ok(task_spawn(do_nothing, NULL));
        check(weft_task_finished(tasks[i]));
        check(!weft_task_finished(mine));
    }
    weft_tasks_release(tasks, 5);
    gate_open(&gate);
    ends_ok(mine);
}

PROMISE(R1_destroy_of_null_does_nothing, EVERYWHERE)
{
    check_eq(weft_runtime_destroy(NULL), 0);
    ends_ok(task_spawn(do_nothing, NULL));
}

/* ---- R4 ---- */

static int run_on(void *arg, void **result)
{
    (void)result;
    struct gate *gate = arg;
    check_eq(gate_pass(gate), 0);
    check_eq(weft_task_spawn(NULL, count_run, NULL, NULL, NULL), 0);
    a_add(&ran, 100u, SEQ_CST);
    return 0;
}

static int call_destroy(void *arg) { return weft_runtime_destroy(arg); }

PROMISE(R4_destroy_lets_running_tasks_end_and_spawn_and_cancels_unstarted_ones, WORKERS)
{
    struct gate gate = { 0 };
    struct weft_runtime *dying = runtime_with(workers);
    struct weft_task *running, *unstarted;
    struct weft_outcome outcome;
    struct actor actor;
    count_reset();
    check_eq(weft_task_spawn(dying, run_on, &gate, NULL, &running), 0);
    check_eq(weft_task_create(dying, count_run, NULL, NULL, &unstarted), 0);
    check_eq(weft_task_start_at(unstarted, weft_after(3600 * WEFT_SEC)), 0);
    until(gate_waiting(&gate) == 1);
    actor_start(&actor, true, call_destroy, dying);
    check_eq(weft_task_get(unstarted, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, WEFT_CANCELLED);
    check(!actor_done(&actor));
    check_eq(weft_task_spawn(dying, count_run, NULL, NULL, NULL), -ESHUTDOWN);
    gate_open(&gate);
    check_eq(actor_end(&actor), 0);
    check_eq(ran, 101);
    weft_task_release(unstarted);
    ends_ok(running);
}

static size_t threads_now(void)
{
    size_t n = 0;
    FILE *file = fopen("/proc/self/status", "r");
    for (char line[256]; file && fgets(line, sizeof line, file);) {
        (void)sscanf(line, "Threads: %zu", &n);
    }
    (void)fclose(file);
    return n;
}

PROMISE(R4_destroy_joins_every_worker, WORKERS)
{
    size_t before = threads_now();
    struct weft_runtime *dying = runtime_with(workers);
    check_eq(threads_now(), before + workers);
    check_eq(weft_runtime_destroy(dying), 0);
    until(threads_now() == before); /* the kernel counts a joined thread for a moment longer */
}

static int destroy_own(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(weft_runtime_destroy(runtime), -EDEADLK);
    check_eq(weft_runtime_join(runtime, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_runtime_join(runtime, WEFT_NOWAIT), -EDEADLK);
    return 0;
}

PROMISE(R4_a_task_can_neither_destroy_nor_join_its_own, EVERYWHERE) { ends_ok(task_spawn(destroy_own, NULL)); }

static int call_runtime_join(void *arg) { return weft_runtime_join(arg, WEFT_FOREVER); }

PROMISE(R4_join_waits_until_there_is_no_task, WORKERS)
{
    struct gate gate = { 0 };
    struct actor actor;
    check_eq(weft_runtime_join(runtime, WEFT_NOWAIT), 0);
    struct weft_task *task = task_spawn(pass_gate, &gate);
    check_eq(weft_runtime_join(runtime, WEFT_NOWAIT), -ETIMEDOUT);
    check_eq(weft_runtime_join(runtime, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    actor_start(&actor, true, call_runtime_join, runtime);
    ends_ok(task_spawn(do_nothing, NULL));
    check(!actor_done(&actor));
    gate_open(&gate);
    check_eq(actor_end(&actor), 0);
    check(weft_task_finished(task));
    weft_task_release(task);
}

PROMISE(R4_kill_kills_every_task_and_does_not_wait, WORKERS)
{
    struct gate gate = { 0 }, masked = { 0 };
    struct weft_task *tasks[4], *stubborn = task_spawn(pass_gate_masked, &masked), *unstarted = task_create(count_run, NULL);
    count_reset();
    check_eq(weft_task_start_at(unstarted, weft_after(3600 * WEFT_SEC)), 0);
    for (int i = 0; i < 4; i++) {
        tasks[i] = task_spawn(pass_gate, &gate);
    }
    until(gate_waiting(&gate) == 4 && gate_waiting(&masked) == 1);
    check_eq(weft_runtime_kill(runtime, -EIO), 0);
    for (int i = 0; i < 4; i++) {
        ends_with(tasks[i], WEFT_CANCELLED, -EIO);
    }
    ends_with(unstarted, WEFT_CANCELLED, -EIO);
    check_eq(ran, 0);
    check(!weft_task_finished(stubborn));
    gate_open(&masked);
    ends_ok(stubborn);
}

/* ---- R5 ---- */

PROMISE(R5_handles_groups_and_imaps_outlive_their_runtime, WORKERS)
{
    static const int things[3];
    struct weft_array array = { things, sizeof *things, 0, 0 };
    struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_runtime *dying = runtime_with(workers);
    struct weft_group *group;
    struct weft_imap *imap;
    struct weft_task *task, *other;
    struct weft_outcome outcome;
    int thing;
    check_eq(weft_group_create(dying, NULL, &group), 0);
    check_eq(weft_group_spawn(group, return_arg, &thing, &task), 0);
    check_eq(weft_group_imap(group, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    check_eq(weft_group_join(group, weft_after(PATIENCE)), 0);
    check_eq(weft_runtime_destroy(dying), 0);
    check(weft_task_finished(task));
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check(outcome.status == WEFT_OK && outcome.value == &thing);
    check_eq(weft_group_len(group), 0);
    check_eq(weft_group_spawn(group, do_nothing, NULL, &other), -ESHUTDOWN);
    check_eq(weft_pool_wait_available(group, WEFT_FOREVER), -ESHUTDOWN);
    check_eq(weft_group_map(group, item_nothing, NULL, 1, NULL, 0, NULL, 0, NULL), -ESHUTDOWN);
    check_eq(weft_imap_destroy(imap), 0);
    check_eq(weft_group_destroy(group), 0);
    weft_task_release(task);
}

/* ---- R9 ---- */

struct stuck {
    _Atomic bool go_on;
    struct weft_task *tasks[50];
    struct gate *wakes;
};

/* Never gives its worker up until what it has queued there was done by another. */
static int be_stuck(void *arg, void **result)
{
    (void)result;
    struct stuck *stuck = arg;
    for (int i = 0; i < 50; i++) {
        check_eq(weft_task_spawn(NULL, count_run, NULL, NULL, &stuck->tasks[i]), 0);
    }
    gate_open(stuck->wakes);
    while (!a_load(&stuck->go_on, SEQ_CST)) {
    }
    return 0;
}

PROMISE(R9_what_is_ready_runs_beside_a_stuck_worker, WORKERS)
{
    struct gate wakes = { 0 };
    struct stuck stuck = { .wakes = &wakes };
    if (workers == 1) {
        return;
    }
    count_reset();
    struct weft_task *sleeper = task_spawn(pass_gate, &wakes);
    until(gate_waiting(&wakes) == 1);
    struct weft_task *task = task_spawn(be_stuck, &stuck);
    until(a_load(&ran, SEQ_CST) == 50);
    ends_ok(sleeper);
    ends_ok(task_spawn(do_nothing, NULL));
    struct weft_task *timed = task_create(do_nothing, NULL);
    check_eq(weft_task_start_at(timed, weft_after(WEFT_MSEC)), 0);
    ends_ok(timed);
    a_store(&stuck.go_on, true, SEQ_CST);
    ends_ok(task);
    weft_tasks_release(stuck.tasks, 50);
}

/* ---- R10 ---- */

static _Atomic uint32_t hooked[3], started_on, stopped_on;

static void hook_worker_start(unsigned index, void *ctx)
{
    check(index == weft_worker_index() && ctx == &started_on);
    check_eq(a_or(&started_on, 1u << index, SEQ_CST) & 1u << index, 0);
}

static void hook_worker_stop(unsigned index, void *ctx)
{
    check(index == weft_worker_index() && ctx == &started_on);
    check_eq(a_or(&stopped_on, 1u << index, SEQ_CST) & 1u << index, 0);
}

static void hook_spawn(struct weft_task *task, void *ctx) { a_add(&((_Atomic uint32_t *)ctx)[task ? 0 : 9], 1u, SEQ_CST); }
static void hook_start(struct weft_task *task, void *ctx) { a_add(&((_Atomic uint32_t *)ctx)[task ? 1 : 9], 1u, SEQ_CST); }
static void hook_finish(struct weft_task *task, void *ctx) { a_add(&((_Atomic uint32_t *)ctx)[task ? 2 : 9], 1u, SEQ_CST); }

PROMISE(R10_hooks_are_called_once_each, WORKERS)
{
    static const struct weft_task_hooks hooks = { hook_spawn, hook_start, hook_finish, (void *)hooked };
    struct weft_runtime *other;
    struct weft_task *unstarted;
    started_on = stopped_on = hooked[0] = hooked[1] = hooked[2] = 0;
    check_eq(
        weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = workers, .worker_start = hook_worker_start,
                                         .worker_stop = hook_worker_stop, .worker_ctx = (void *)&started_on, .task_hooks = &hooks),
                            &other),
        0);
    for (int i = 0; i < 10; i++) {
        check_eq(weft_task_spawn(other, do_nothing, NULL, NULL, NULL), 0);
    }
    check_eq(weft_task_create(other, do_nothing, NULL, NULL, &unstarted), 0);
    check_eq(weft_task_kill(unstarted, 0, WEFT_NOWAIT), 0);
    weft_task_release(unstarted);
    check_eq(weft_runtime_join(other, WEFT_FOREVER), 0);
    check_eq(weft_runtime_destroy(other), 0);
    check_eq(started_on, (1u << workers) - 1);
    check_eq(stopped_on, (1u << workers) - 1);
    check_eq(hooked[0], 11);
    check_eq(hooked[1], 10); /* none for the one that never ran */
    check_eq(hooked[2], 11);
}

PROMISE(R10_stats_count_each_task_once, WORKERS)
{
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    int code = -EIO;
    struct weft_runtime *other = runtime_with(workers);
    struct weft_task *killed;
    for (int i = 0; i < 7; i++) {
        check_eq(weft_task_spawn(other, do_nothing, NULL, NULL, NULL), 0);
    }
    check_eq(weft_task_spawn(other, return_code, &code, NULL, NULL), 0);
    check_eq(weft_task_create(other, do_nothing, NULL, NULL, &killed), 0);
    check_eq(weft_task_kill(killed, 0, WEFT_FOREVER), 0);
    weft_task_release(killed);
    check_eq(weft_runtime_join(other, WEFT_FOREVER), 0);
    check_eq(weft_runtime_read_stats(other, &stats), 0);
    check_eq(stats.workers, workers);
    check_eq(stats.spawned, 9);
    check_eq(stats.finished, 9);
    check_eq(stats.failed, 1);
    check_eq(stats.cancelled, 1);
    check_eq(stats.queued, 0);
    check_eq(stats.blocked, 0);
    check_eq(weft_runtime_destroy(other), 0);
}
