/* scheduler: whatever is ready runs as soon as a worker is free (contract R9), nobody starves (H32), and waits need no memory (R7).
 * WEFT_TEST_WORKERS says with how many workers, where the case does not ask for its own number. */
#include "testing.h"

#include "sanitize.h"
#include "scheduler.h"
#include "tasks.h"

static struct weft_runtime *runtime;
static _Atomic int stuck;

/* A worker that is stuck: it neither yields nor blocks until the counter has come to `value`; a minute at most. */
static bool spin_until(_Atomic int *counter, int value)
{
    int64_t deadline = weft_after(PATIENCE);
    gate_open(&stuck);
    while (atomic_load(counter) < value && weft_now() < deadline) {
    }
    return atomic_load(counter) >= value;
}

static int count(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&ended);
    return 0;
}

/* ---- R9 ---- */

static int spawn_and_be_stuck(void *arg, void **value)
{
    (void)value;
    int children = *(int *)arg;
    for (int i = 0; i < children; i++) {
        CHECK(weft_task_spawn(NULL, count, NULL, NULL, NULL) == 0);
    }
    CHECK(spin_until(&ended, children));
    return 0;
}

Test(scheduler, what_a_stuck_worker_has_spawned_is_stolen_R9)
{
    runtime = runtime_with(2);
    int children = 1000;
    cr_assert_eq(run_in(runtime, spawn_and_be_stuck, &children), 0);
    cr_assert_geq(stats_of(runtime).stolen, 1000);
    cr_assert_eq(atomic_load(&ended), 1000, "each once");
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int block_then_count(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    int rc = weft_sleep_until(WEFT_FOREVER);
    gate_open(&ended);
    return rc;
}

static int wake_and_be_stuck(void *arg, void **value)
{
    (void)value;
    CHECK(weft_task_kill(arg, 0, WEFT_NOWAIT) == 0); /* it is ready now, in this worker's queue */
    CHECK(spin_until(&ended, 1));
    return 0;
}

Test(scheduler, what_a_stuck_worker_has_woken_is_stolen_R9)
{
    runtime = runtime_with(2);
    struct weft_task *blocked = spawn_in(runtime, block_then_count, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(run_in(runtime, wake_and_be_stuck, blocked), 0);
    cr_assert_eq(finish_task(blocked).status, WEFT_CANCELLED);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int be_stuck(void *arg, void **value)
{
    (void)value;
    CHECK(spin_until(&ended, *(int *)arg));
    return 0;
}

static int yield_to_the_stuck(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_task *task;
    int one = 1;
    CHECK(weft_task_spawn(NULL, be_stuck, &one, NULL, &task) == 0);
    until(atomic_load(&stuck) == 1); /* by yielding: it may begin on this very worker */
    gate_open(&ended);
    CHECK(weft_task_join(task, WEFT_FOREVER) == 0);
    weft_task_release(task);
    return 0;
}

Test(scheduler, who_yielded_to_a_stuck_task_goes_on_elsewhere_R9)
{
    runtime = runtime_with(2);
    for (int round = 0; round < 20; round++) {
        atomic_store(&stuck, 0);
        atomic_store(&ended, 0);
        cr_assert_eq(run_in(runtime, yield_to_the_stuck, NULL), 0);
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int sleep_beside_the_stuck(void *arg, void **value)
{
    (void)value;
    struct weft_task *task;
    CHECK(weft_task_spawn(NULL, be_stuck, arg, NULL, &task) == 0);
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0); /* this worker goes on with the stuck one, and has the timer */
    gate_open(&ended);
    CHECK(weft_task_join(task, WEFT_FOREVER) == 0);
    weft_task_release(task);
    return 0;
}

Test(scheduler, timer_of_a_stuck_worker_fires_R9_H37)
{
    runtime = runtime_with(2);
    int one = 1;
    for (int round = 0; round < 20; round++) {
        atomic_store(&ended, 0);
        cr_assert_eq(run_in(runtime, sleep_beside_the_stuck, &one), 0);
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

Test(scheduler, what_comes_from_outside_runs_beside_stuck_workers_R9)
{
    runtime = runtime_with(3);
    int all = 101; /* 100 tasks, and the word to go */
    struct weft_task *tasks[2] = { spawn_in(runtime, be_stuck, &all), spawn_in(runtime, be_stuck, &all) };
    gate_wait(&stuck, 2);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(weft_task_spawn(runtime, count, NULL, NULL, NULL), 0);
    }
    gate_wait(&ended, 100);
    cr_assert_eq(stats_of(runtime).queued, 0);
    gate_open(&ended);
    cr_assert_eq(finish_task(tasks[0]).error, 0);
    cr_assert_eq(finish_task(tasks[1]).error, 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

Test(scheduler, each_of_many_runs_once)
{
    const int many = WEFT_TSAN || WEFT_ASAN ? 20000 : 200000; /* the queues grow */
    runtime = runtime_with(weft_test_workers());
    struct weft_task *spawner = spawn_in(runtime, spawn_and_be_stuck, &(int){ 0 });
    for (int i = 0; i < many; i++) {
        cr_assert_eq(weft_task_spawn(runtime, count, NULL, NULL, NULL), 0);
    }
    cr_assert_eq(finish_task(spawner).error, 0);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&ended), many);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* ---- H32: nobody starves on one worker ---- */

/* Always one task, and it is always the newest. */
static int replace_myself(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    if (atomic_load(&open_gate) == 0) {
        CHECK(weft_task_spawn(NULL, replace_myself, NULL, NULL, NULL) == 0);
    }
    return 0;
}

static int open_it(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&open_gate);
    return 0;
}

Test(scheduler, newest_first_starves_nobody_outside_H32)
{
    runtime = runtime_with(1);
    cr_assert_eq(weft_task_spawn(runtime, replace_myself, NULL, NULL, NULL), 0);
    gate_wait(&begun, 100);
    struct weft_task *task = spawn_in(runtime, open_it, NULL);
    cr_assert_eq(weft_task_join(task, weft_after(PATIENCE)), 0);
    weft_task_release(task);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int bury_one(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_task_spawn(NULL, open_it, NULL, NULL, NULL) == 0); /* the oldest */
    CHECK(weft_task_spawn(NULL, replace_myself, NULL, NULL, NULL) == 0);
    return 0;
}

Test(scheduler, newest_first_starves_not_the_oldest_H32)
{
    runtime = runtime_with(1);
    cr_assert_eq(weft_task_spawn(runtime, bury_one, NULL, NULL, NULL), 0);
    cr_assert_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
    cr_assert_lt(atomic_load(&begun), 1000, "one turn of 61 is for the oldest");
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int yield_until_open(void *arg, void **value)
{
    (void)value;
    gate_open(&begun);
    while (atomic_load(&open_gate) == 0) {
        weft_yield();
        gate_open(arg);
    }
    return 0;
}

static _Atomic int turns[2];

static int spawn_two_that_yield(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_task *tasks[2];
    for (int i = 0; i < 2; i++) {
        CHECK(weft_task_spawn(NULL, yield_until_open, &turns[i], NULL, &tasks[i]) == 0);
    }
    CHECK(weft_tasks_wait(tasks, 2, 2, WEFT_FOREVER) == 2);
    weft_tasks_release(tasks, 2);
    return 0;
}

Test(scheduler, who_yields_lets_tasks_fibers_and_timers_run_H32)
{
    runtime = runtime_with(1);
    struct weft_task *both = spawn_in(runtime, spawn_two_that_yield, NULL), *blocked = spawn_in(runtime, block_then_count, NULL);
    gate_wait(&begun, 3);
    gate_wait(&turns[0], 1000);
    gate_wait(&turns[1], 1000);
    cr_assert_eq(weft_task_kill(blocked, 0, weft_after(PATIENCE)), 0, "a fiber woken from outside");
    weft_task_release(blocked);
    struct weft_task *late;
    cr_assert_eq(weft_task_create(runtime, open_it, NULL, NULL, &late), 0);
    cr_assert_eq(weft_task_start_at(late, weft_after(WEFT_MSEC)), 0);
    cr_assert_eq(weft_task_join(late, weft_after(PATIENCE)), 0, "a timer, and a task from outside");
    weft_task_release(late);
    cr_assert_eq(finish_task(both).error, 0);
    int difference = atomic_load(&turns[0]) - atomic_load(&turns[1]);
    cr_assert(difference >= -50 && difference <= 50, "they take turns: %d", difference);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* ---- R7: few stacks ---- */

static struct weft_task *key; /* whoever joins it blocks until it is started */

static int block_twice(void *arg, void **value)
{
    (void)value;
    gate_open(&begun);
    CHECK(weft_task_join(arg, weft_after(WEFT_MSEC)) == -ETIMEDOUT || weft_task_finished(arg));
    CHECK(weft_task_join(arg, WEFT_FOREVER) == 0);
    gate_open(&ended);
    return 0;
}

static int freed;
static void count_free(void *arg) { ++*(int *)arg; }

/* Spawns tasks that block, until there is no stack for another. Returns how many were accepted. */
static int spawn_until_full(struct weft_runtime *of)
{
    int accepted = 0, rc = 0;
    int64_t deadline = weft_after(PATIENCE);
    while (rc == 0 && weft_now() < deadline) {
        rc = weft_task_spawn(of, block_twice, key, NULL, NULL);
        accepted += rc == 0;
    }
    cr_assert_eq(rc, -ENOMEM);
    return accepted;
}

Test(scheduler, few_stacks_waits_never_fail_and_spawn_gives_enomem_R7_H16)
{
    for (unsigned workers = 1; workers <= 3; workers++) {
        struct weft_runtime *of;
        cr_assert_eq(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = workers, .max_fibers = 10), &of), 0);
        struct weft_runtime *other = runtime_with(1);
        cr_assert_eq(weft_task_create(other, count, NULL, NULL, &key), 0);
        atomic_store(&begun, 0);
        atomic_store(&ended, 0);
        int accepted = spawn_until_full(of);
        cr_log_info("%u workers: %d accepted, %d begun\n", workers, accepted, atomic_load(&begun));
        cr_assert_geq(accepted, 10 - (int)workers);
        cr_assert_leq(stats_of(of).fibers, 10);
        cr_assert_leq(atomic_load(&begun), 10, "the others wait unstarted");
        struct weft_task *task = NULL;
        cr_assert_eq(weft_task_spawn(of, count, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &task), -ENOMEM);
        cr_assert_null(task);
        cr_assert_eq(freed, 0);
        cr_assert_eq(stats_of(of).spawned, (uint64_t)accepted, "nothing is half counted");
        cr_assert_eq(weft_task_start(key), 0);
        cr_assert_eq(weft_runtime_join(of, weft_after(PATIENCE)), 0);
        cr_assert_eq(atomic_load(&ended), accepted + 1, "the key counts, too");
        cr_assert_eq(stats_of(of).failed, 0, "no wait failed");
        cr_assert_eq(run_in(of, count, NULL), 0, "there are stacks again");
        weft_task_release(key);
        cr_assert_eq(weft_runtime_destroy(of), 0);
        cr_assert_eq(weft_runtime_destroy(other), 0);
    }
}

Test(scheduler, task_with_a_stack_of_its_own_that_is_not_there_is_enomem_R7)
{
    struct weft_runtime *of;
    cr_assert_eq(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 1, .max_fibers = 3), &of), 0);
    const struct weft_task_options *own = WEFT_OPTIONS(weft_task_options, .stack_size = 1 << 20, .arg_free = count_free);
    struct weft_task *first, *second = NULL;
    cr_assert_eq(weft_task_create(of, count, &freed, own, &first), 0);
    cr_assert_eq(weft_task_create(of, count, &freed, own, &second), -ENOMEM);
    cr_assert_null(second);
    cr_assert_eq(freed, 0);
    weft_task_release(first);
    cr_assert_eq(freed, 1);
    cr_assert_eq(weft_task_spawn(of, count, &freed, own, &second), 0, "its stack came back");
    cr_assert_eq(finish_task(second).status, WEFT_OK);
    cr_assert_eq(weft_runtime_destroy(of), 0);
}

/* ---- H29: a stack that waits is nobody else's ---- */

static struct weft_fiber *holder;
static _Atomic int held, intruders, passed_by;

/* What holds a lock and waits must not find others on top of it: they might want that lock. */
static int look_beneath(void *arg, void **value)
{
    (void)arg, (void)value;
    if (weft_worker_self()->current == holder && atomic_load(&held) != 0) {
        gate_open(&intruders);
    }
    gate_open(&passed_by);
    return 0;
}

static int hold_and_wait(void *arg, void **value)
{
    (void)value;
    enum { OTHERS = 20 };
    struct weft_task *others[OTHERS];
    struct weft_group *group = arg;
    holder = weft_worker_self()->current;
    gate_open(&held);
    for (int round = 0; round < 3; round++) {
        int before = atomic_load(&passed_by);
        for (int i = 0; i < OTHERS; i++) {
            CHECK(weft_task_spawn(NULL, look_beneath, NULL, NULL, &others[i]) == 0);
            CHECK(weft_group_spawn(group, look_beneath, NULL, NULL) == 0);
        }
        switch (round) {
        case 0: CHECK(weft_task_join(others[0], WEFT_FOREVER) == 0); break;
        case 1: CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0); break;
        default: break;
        }
        CHECK(weft_tasks_wait(others, OTHERS, OTHERS, WEFT_FOREVER) == OTHERS);
        CHECK(weft_group_join(group, WEFT_FOREVER) == 0);
        CHECK(atomic_load(&passed_by) == before + 2 * OTHERS);
        weft_tasks_release(others, OTHERS);
    }
    atomic_store(&held, 0);
    return 0;
}

Test(scheduler, nothing_else_runs_on_a_stack_that_waits_H29)
{
    struct weft_group *group;
    runtime = runtime_with(1);
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    cr_assert_eq(run_in(runtime, hold_and_wait, group), 0);
    cr_assert_eq(atomic_load(&intruders), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
