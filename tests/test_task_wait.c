/* task: its end, its start, and waiting for it (contract T6, T7, T9 to T11). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include <pthread.h>

#include "task.h"
#include "tasks.h"

static struct weft_runtime *runtime;
static int freed;
static _Atomic int bad;

static void setup(void) { runtime = runtime_make(); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(task_wait, .init = setup, .fini = teardown);

static void count_free(void *arg) { ++*(int *)arg; }

static struct weft_task *created(weft_task_fn *fn, void *arg)
{
    struct weft_task *task = NULL;
    cr_assert_eq(weft_task_create(runtime, fn, arg, NULL, &task), 0);
    return task;
}

/* ---- T6: the order of the end ---- */

struct member {
    struct weft_group *pool;
    struct weft_task *task;
};

/* Whoever sees it finished sees the pool without it, however they see it. */
static int watch(void *arg, void **value)
{
    (void)value;
    struct member *member = arg;
    until(weft_task_finished(member->task));
    CHECK(weft_group_len(member->pool) == 0);
    CHECK(weft_pool_free_count(member->pool) == 1);
    return 0;
}

static int join_then_look(void *arg, void **value)
{
    (void)value;
    struct member *member = arg;
    CHECK(weft_task_join(member->task, WEFT_FOREVER) == 0);
    CHECK(weft_group_len(member->pool) == 0);
    CHECK(weft_pool_free_count(member->pool) == 1);
    return 0;
}

static int group_join_then_look(void *arg, void **value)
{
    (void)value;
    struct member *member = arg;
    CHECK(weft_group_join(member->pool, WEFT_FOREVER) == 0);
    CHECK(weft_task_finished(member->task));
    return 0;
}

static void look_from_link(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct member *member = arg;
    bool good = weft_task_finished(task) && outcome->status == WEFT_OK && weft_group_len(member->pool) == 0 &&
                weft_pool_free_count(member->pool) == 1;
    gate_open(good ? &ended : &bad);
}

Test(task_wait, whoever_sees_it_finished_sees_the_pool_without_it_T6)
{
    enum { ROUNDS = 300 };
    weft_task_fn *watchers[] = { watch, join_then_look, group_join_then_look };
    struct member member;
    cr_assert_eq(weft_pool_create(runtime, 1, NULL, &member.pool), 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct weft_task *seen[3];
        atomic_store(&open_gate, 0);
        cr_assert_eq(weft_group_spawn(member.pool, at_gate, NULL, &member.task), 0);
        cr_assert_eq(weft_task_link(member.task, look_from_link, &member, WEFT_ON_ANY, NULL), 0);
        cr_assert_eq(weft_task_link(member.task, look_from_link, &member, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
        for (int i = 0; i < 3; i++) {
            seen[i] = spawn_in(runtime, watchers[i], &member);
        }
        gate_open(&open_gate);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(finish_task(seen[i]).error, 0, "watcher %d in round %d", i, round);
        }
        until(atomic_load(&ended) + atomic_load(&bad) == 3 * (round + 1)); /* the task opens it, too */
        weft_task_release(member.task);
    }
    cr_assert_eq(atomic_load(&bad), 0);
    cr_assert_eq(weft_group_destroy(member.pool), 0);
}

/* ---- T7: the start ---- */

Test(task_wait, second_start_is_ealready_and_harmless_T7_H42)
{
    struct weft_task *task = created(at_gate, NULL);
    cr_assert_eq(weft_task_start(task), 0);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    cr_assert_eq(weft_task_start_at(task, WEFT_NOWAIT), -EALREADY);
    cr_assert_eq(weft_task_start_at(task, weft_after(WEFT_SEC)), -EALREADY);
    gate_open(&open_gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&begun), 1);
    weft_task_release(task);
}

static struct weft_task *contested;
static _Atomic int contest, started_by;

static void *start_contested(void *arg)
{
    for (int n = 1; n <= *(int *)arg; n++) {
        gate_wait(&contest, n);
        int rc = weft_task_start(contested);
        if (rc == 0 || rc == -EALREADY) {
            gate_open(rc == 0 ? &started_by : &bad);
        }
    }
    return NULL;
}

Test(task_wait, of_two_starts_at_once_one_wins_T7_H42)
{
    int rounds = 2000;
    pthread_t other;
    cr_assert_eq(pthread_create(&other, NULL, start_contested, &rounds), 0);
    for (int n = 1; n <= rounds; n++) {
        contested = created(do_nothing, NULL);
        gate_open(&contest);
        gate_open(weft_task_start(contested) == 0 ? &started_by : &bad);
        until(atomic_load(&started_by) + atomic_load(&bad) == 2 * n);
        cr_assert_eq(atomic_load(&started_by), n);
        cr_assert_eq(finish_task(contested).status, WEFT_OK);
    }
    (void)pthread_join(other, NULL);
}

Test(task_wait, start_after_kill_is_ealready_T7)
{
    struct weft_task *task = created(at_gate, NULL);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    cr_assert_eq(weft_task_start_at(task, weft_after(WEFT_MSEC)), -EALREADY);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&begun), 0);
    weft_task_release(task);
}

static int note_the_time(void *arg, void **value)
{
    (void)value;
    *(int64_t *)arg = weft_now();
    return 0;
}

Test(task_wait, start_at_is_never_early_and_in_the_past_is_now_T7)
{
    int64_t ran_at = 0;
    struct weft_task *task = created(note_the_time, &ran_at);
    cr_assert_eq(weft_task_start_at(task, weft_now() - WEFT_SEC), 0);
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    task = created(note_the_time, &ran_at);
    cr_assert_eq(weft_task_start_at(task, WEFT_NOWAIT), 0);
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    for (int ms = 1; ms <= 10; ms++) {
        int64_t when = weft_after(ms * WEFT_MSEC);
        task = created(note_the_time, &ran_at);
        cr_assert_eq(weft_task_start_at(task, when), 0);
        cr_assert_eq(weft_task_start(task), -EALREADY);
        cr_assert_eq(finish_task(task).status, WEFT_OK);
        cr_assert_geq(ran_at, when);
    }
}

Test(task_wait, task_that_waits_for_its_start_can_be_killed_T7)
{
    struct weft_task *task;
    cr_assert_eq(weft_task_create(runtime, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &task), 0);
    cr_assert_eq(weft_task_start_at(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_kill(task, -EOWNERDEAD, WEFT_NOWAIT), 0);
    cr_assert(weft_task_finished(task));
    cr_assert_eq(freed, 1);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EOWNERDEAD);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
}

/* ---- T9: waiting for several ---- */

Test(task_wait, tasks_wait_counts_what_is_finished_duplicates_too_T9)
{
    struct weft_task *done = created(do_nothing, NULL), *blocked = spawn_in(runtime, at_gate, NULL);
    struct weft_task *tasks[] = { done, blocked, done };
    cr_assert_eq(weft_tasks_wait(tasks, 3, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_tasks_wait(NULL, 0, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_start(done), 0);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 1, WEFT_FOREVER), 2);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 2, WEFT_FOREVER), 2);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 3, WEFT_NOWAIT), 2);
    int64_t deadline = weft_after(2 * WEFT_MSEC);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 3, deadline), 2, "fewer, since the deadline passed");
    cr_assert_geq(weft_now(), deadline);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 4, WEFT_FOREVER), -EINVAL);
    gate_open(&open_gate);
    cr_assert_eq(weft_tasks_wait(tasks, 3, 3, WEFT_FOREVER), 3);
    weft_task_release(done);
    weft_task_release(blocked);
}

/* More than the nodes on the stack; ends in a seeded order; every count up to all. */
Test(task_wait, tasks_wait_for_k_of_n_wakes_when_k_have_ended_T9)
{
    enum { N = 40 };
    struct weft_task *tasks[N];
    for (int k = 1; k <= N; k++) {
        for (int i = 0; i < N; i++) {
            tasks[i] = created(do_nothing, NULL);
        }
        for (int i = 0; i < k; i++) {
            cr_assert_eq(weft_task_start(tasks[(i * 7 + k) % N]), 0);
        }
        cr_assert_eq(weft_tasks_wait(tasks, N, (size_t)k, WEFT_FOREVER), k);
        cr_assert_eq(weft_tasks_wait(tasks, N, N, WEFT_NOWAIT), k);
        weft_tasks_release(tasks, N);
    }
}

struct several {
    struct weft_task *tasks[3];
};

static int wait_for_several(void *arg, void **value)
{
    (void)value;
    struct several *several = arg;
    gate_wait(&open_gate, 1);
    several->tasks[2] = weft_task_current();
    CHECK(weft_tasks_wait(several->tasks, 3, 3, WEFT_FOREVER) == -EDEADLK);
    CHECK(weft_tasks_wait(several->tasks, 3, 3, WEFT_NOWAIT) == -EDEADLK);
    CHECK(weft_tasks_wait(several->tasks, 3, 2, WEFT_FOREVER) == 2); /* oneself is not needed */
    return 0;
}

Test(task_wait, tasks_wait_for_oneself_is_edeadlk_only_if_needed_T9)
{
    struct several several = { { created(do_nothing, NULL), created(do_nothing, NULL), NULL } };
    struct weft_task *task = spawn_in(runtime, wait_for_several, &several);
    cr_assert_eq(weft_task_start(several.tasks[0]), 0);
    cr_assert_eq(weft_task_start(several.tasks[1]), 0);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
    weft_tasks_release(several.tasks, 2);
}

static int join_all(void *arg, void **value)
{
    (void)value;
    return weft_task_join(arg, WEFT_FOREVER);
}

Test(task_wait, any_number_may_join)
{
    enum { JOINERS = 50 };
    struct weft_task *task = spawn_in(runtime, at_gate, NULL), *joiners[JOINERS];
    for (int i = 0; i < JOINERS; i++) {
        joiners[i] = spawn_in(runtime, join_all, task);
    }
    gate_wait(&begun, 1);
    cr_assert_eq(weft_tasks_wait(joiners, JOINERS, 1, WEFT_NOWAIT), 0);
    gate_open(&open_gate);
    cr_assert_eq(weft_tasks_wait(joiners, JOINERS, JOINERS, WEFT_FOREVER), JOINERS);
    for (int i = 0; i < JOINERS; i++) {
        cr_assert_eq(finish_task(joiners[i]).status, WEFT_OK);
    }
    weft_task_release(task);
}

/* ---- T10: the deadline option ---- */

Test(task_wait, deadline_kills_a_running_task_T10)
{
    struct weft_task *task;
    int64_t deadline = weft_after(3 * WEFT_MSEC);
    cr_assert_eq(weft_task_spawn(runtime, block, NULL, WEFT_OPTIONS(weft_task_options, .deadline = deadline), &task), 0);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_geq(weft_now(), deadline);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -ETIMEDOUT);
}

Test(task_wait, deadline_kills_a_task_that_nobody_starts_T10)
{
    struct weft_task *task;
    int64_t deadline = weft_after(3 * WEFT_MSEC);
    cr_assert_eq(weft_task_create(runtime, at_gate, &freed,
                                  WEFT_OPTIONS(weft_task_options, .deadline = deadline, .arg_free = count_free), &task),
                 0);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_geq(weft_now(), deadline);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -ETIMEDOUT);
    cr_assert_eq(freed, 1);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    weft_task_release(task);
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, WEFT_OPTIONS(weft_task_options, .deadline = 1), &task), 0);
    outcome = finish_task(task);
    cr_assert_eq(outcome.error, -ETIMEDOUT, "long past");
    cr_assert_eq(atomic_load(&begun), 0);
}

Test(task_wait, task_that_ends_before_its_deadline_is_left_alone_T10)
{
    struct weft_task *task;
    cr_assert_eq(
        weft_task_spawn(runtime, do_nothing, NULL, WEFT_OPTIONS(weft_task_options, .deadline = weft_after(WEFT_SEC)), &task), 0);
    cr_assert_eq(finish_task(task).status, WEFT_OK);
}

/* ---- T11 ---- */

static int join_myself(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_outcome outcome;
    struct weft_task *me = weft_task_current();
    CHECK(weft_task_join(me, WEFT_FOREVER) == -EDEADLK);
    CHECK(weft_task_join(me, WEFT_NOWAIT) == -EDEADLK);
    CHECK(weft_task_get(me, WEFT_FOREVER, &outcome) == -EDEADLK);
    CHECK(outcome.status == WEFT_PENDING && outcome.error == 0 && outcome.value == NULL);
    return 0;
}

Test(task_wait, join_of_oneself_is_edeadlk_T11) { cr_assert_eq(run_in(runtime, join_myself, NULL), 0); }

/* Ended by its own spawn hook: the deadline is armed for nobody, and must not be left behind. */
static void kill_at_once(struct weft_task *task, void *ctx)
{
    if (weft_task_kill(task, 0, WEFT_NOWAIT) == 0) {
        gate_open(ctx);
    }
}

Test(task_wait, deadline_of_a_task_that_has_ended_already_is_not_left_armed_T10)
{
    const struct weft_task_hooks hooks = { .spawn = kill_at_once, .ctx = &begun };
    const struct weft_task_options *options =
        WEFT_OPTIONS(weft_task_options, .deadline = weft_after(3600 * WEFT_SEC), .hooks = &hooks);
    struct weft_task *tasks[2];
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, options, &tasks[0]), 0);
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, options, &tasks[1]), 0);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, options, NULL), 0);
    cr_assert_eq(atomic_load(&begun), 3);
    cr_assert_eq(finish_task(tasks[0]).status, WEFT_CANCELLED);
    cr_assert_eq(finish_task(tasks[1]).status, WEFT_CANCELLED);
    cr_assert_eq(a_load(&runtime->timers.earliest, SEQ_CST), OS_FOREVER, "armed on this thread, for the runtime");
}
