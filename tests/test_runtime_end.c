/* runtime: join, kill, destroy, and what lives on (contract R4, R5). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include <pthread.h>

#include "tasks.h"

static struct weft_runtime *runtime;
static int freed, result;

static void setup(void) { runtime = runtime_make(); }

TestSuite(runtime_end, .init = setup);

static void count_free(void *arg) { ++*(int *)arg; }

static void note(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    gate_open(&ended);
}

/* ---- R4: join and kill ---- */

Test(runtime_end, join_waits_until_it_has_no_task_R4)
{
    cr_assert_eq(weft_runtime_join(runtime, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(weft_task_spawn(runtime, at_gate, NULL, NULL, NULL), 0);
    }
    cr_assert_eq(weft_runtime_join(runtime, WEFT_NOWAIT), -ETIMEDOUT);
    int64_t deadline = weft_after(2 * WEFT_MSEC);
    cr_assert_eq(weft_runtime_join(runtime, deadline), -ETIMEDOUT);
    cr_assert_geq(weft_now(), deadline);
    gate_open(&open_gate);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&ended), 10);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int spawn_children(void *arg, void **value)
{
    (void)value;
    int depth = (int)(intptr_t)arg;
    for (int i = 0; depth > 0 && i < 3; i++) {
        CHECK(weft_task_spawn(NULL, spawn_children, (void *)(intptr_t)(depth - 1), NULL, NULL) == 0);
    }
    gate_open(&ended);
    return 0;
}

Test(runtime_end, join_waits_for_what_is_spawned_meanwhile_R4)
{
    for (int round = 1; round <= 100; round++) {
        cr_assert_eq(weft_task_spawn(runtime, spawn_children, (void *)3, NULL, NULL), 0);
        cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
        cr_assert_eq(atomic_load(&ended), 40 * round, "1 + 3 + 9 + 27");
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int end_my_own(void *arg, void **value)
{
    (void)value;
    CHECK(weft_runtime_join(arg, WEFT_FOREVER) == -EDEADLK);
    CHECK(weft_runtime_join(NULL, WEFT_NOWAIT) == -EDEADLK);
    CHECK(weft_runtime_destroy(arg) == -EDEADLK);
    CHECK(weft_task_spawn(NULL, do_nothing, NULL, NULL, NULL) == 0); /* nothing has changed */
    return 0;
}

Test(runtime_end, a_task_can_neither_join_nor_destroy_its_own_R4)
{
    cr_assert_eq(run_in(runtime, end_my_own, runtime), 0);
    cr_assert_eq(run_in(runtime, do_nothing, NULL), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int join_and_destroy(void *arg, void **value)
{
    (void)value;
    CHECK(weft_runtime_join(arg, WEFT_FOREVER) == 0);
    CHECK(weft_runtime_destroy(arg) == 0);
    return 0;
}

Test(runtime_end, a_task_of_another_may_do_both_R4)
{
    struct weft_runtime *other = runtime_with(2);
    cr_assert_eq(weft_task_spawn(runtime, at_gate, NULL, NULL, NULL), 0);
    struct weft_task *task = spawn_in(other, join_and_destroy, runtime);
    gate_wait(&begun, 1);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(weft_runtime_destroy(other), 0);
}

Test(runtime_end, kill_kills_every_task_and_does_not_wait_R4)
{
    struct weft_task *tasks[12];
    for (int i = 0; i < 12; i++) {
        cr_assert_eq((i < 8 ? weft_task_spawn : weft_task_create)(runtime, i < 6 ? block : at_gate, NULL, NULL, &tasks[i]), 0);
    }
    gate_wait(&begun, 8);
    cr_assert_eq(weft_runtime_kill(runtime, -EPIPE), 0);
    cr_assert_not(weft_task_finished(tasks[6]), "it has not been waited for");
    for (int i = 0; i < 6; i++) {
        struct weft_outcome outcome = finish_task(tasks[i]);
        cr_assert_eq(outcome.status, WEFT_CANCELLED);
        cr_assert_eq(outcome.error, -EPIPE);
    }
    for (int i = 8; i < 12; i++) {
        cr_assert_eq(finish_task(tasks[i]).error, -EPIPE, "not even started");
    }
    gate_open(&open_gate);
    cr_assert_eq(finish_task(tasks[6]).status, WEFT_OK);
    cr_assert_eq(finish_task(tasks[7]).status, WEFT_OK);
    cr_assert_eq(run_in(runtime, do_nothing, NULL), 0, "later ones are not meant");
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int kill_my_own(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_runtime_kill(NULL, -EPIPE) == -ECANCELED);
    CHECK(weft_cancel_reason() == -EPIPE);
    return -ECANCELED;
}

Test(runtime_end, kill_from_within_reaches_the_caller_last_R4)
{
    struct weft_task *task = spawn_in(runtime, block, NULL);
    gate_wait(&begun, 1);
    struct weft_outcome outcome = finish_task(spawn_in(runtime, kill_my_own, NULL));
    cr_assert_eq(outcome.error, -EPIPE, "line %d", -outcome.error - 10000);
    cr_assert_eq(finish_task(task).error, -EPIPE);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* ---- R4: destroy ---- */

static void *destroy_it(void *arg) { return (void *)(intptr_t)weft_runtime_destroy(arg); }

static struct weft_task *unstarted;

/* Knows that destroy has begun when the unstarted task has been cancelled. */
static int go_on_during_destroy(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    until(weft_task_finished(unstarted));
    struct weft_task *child, *idle;
    CHECK(weft_task_spawn(NULL, spawn_children, (void *)2, NULL, &child) == 0);
    CHECK(weft_task_join(child, WEFT_FOREVER) == 0);
    weft_task_release(child);
    CHECK(weft_task_create(NULL, do_nothing, NULL, NULL, &idle) == 0);
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0);
    CHECK(!weft_task_finished(idle)); /* those made during it run */
    CHECK(weft_task_start(idle) == 0);
    CHECK(weft_task_join(idle, WEFT_FOREVER) == 0);
    weft_task_release(idle);
    gate_wait(&open_gate, 1);
    return 0;
}

Test(runtime_end, destroy_lets_running_tasks_end_cancels_unstarted_ones_and_refuses_foreign_spawns_R4)
{
    pthread_t destroyer;
    void *rc;
    cr_assert_eq(weft_task_create(runtime, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &unstarted),
                 0);
    struct weft_task *running = spawn_in(runtime, go_on_during_destroy, NULL), *task = NULL;
    gate_wait(&begun, 1);
    cr_assert_eq(pthread_create(&destroyer, NULL, destroy_it, runtime), 0);
    until(weft_task_finished(unstarted));
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(unstarted, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(freed, 1);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &task),
                 -ESHUTDOWN);
    cr_assert_eq(weft_task_create(runtime, do_nothing, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &task),
                 -ESHUTDOWN);
    cr_assert_null(task);
    cr_assert_eq(freed, 1, "a refused spawn leaves its argument alone (E4)");
    cr_assert_not(weft_task_finished(running));
    gate_open(&open_gate);
    (void)pthread_join(destroyer, &rc);
    cr_assert_eq((intptr_t)rc, 0);
    cr_assert(weft_task_finished(running));
    cr_assert_eq(atomic_load(&ended), 13, "1 + 3 + 9");
    cr_assert_eq(weft_task_get(running, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.error, 0, "line %d", -outcome.error - 10000);
    weft_task_release(running);
    weft_task_release(unstarted);
}

/* Foreign spawns beside destroy: each runs, is cancelled, or is refused; none is lost. */
static _Atomic int accepted, freed_now;

static void count_free_now(void *arg)
{
    (void)arg;
    gate_open(&freed_now);
}

static void *spawn_until_refused(void *arg)
{
    int rc;
    do {
        rc = weft_task_spawn(arg, do_nothing, NULL, WEFT_OPTIONS(weft_task_options, .arg_free = count_free_now), NULL);
        if (rc == 0) {
            gate_open(&accepted);
        }
    } while (rc == 0);
    return (void *)(intptr_t)rc;
}

Test(runtime_end, spawn_beside_destroy_is_refused_or_ends_R4)
{
    for (int round = 0; round < 30; round++) {
        struct weft_runtime *victim = runtime_with(2);
        int before = atomic_load(&accepted);
        pthread_t spawners[2];
        void *rc;
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pthread_create(&spawners[i], NULL, spawn_until_refused, victim), 0);
        }
        until(atomic_load(&accepted) > before + 10 * (round % 5));
        /* Whoever spawns must not outlive the runtime's memory: a handle keeps it. */
        struct weft_task *keeper = NULL;
        cr_assert_eq(weft_task_create(victim, do_nothing, NULL, NULL, &keeper), 0);
        cr_assert_eq(weft_runtime_destroy(victim), 0);
        for (int i = 0; i < 2; i++) {
            (void)pthread_join(spawners[i], &rc);
            cr_assert_eq((intptr_t)rc, -ESHUTDOWN);
        }
        weft_task_release(keeper);
        cr_assert_eq(atomic_load(&accepted), atomic_load(&freed_now), "round %d", round);
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* Made while the runtime ends: from outside it is refused and changes nothing, from a task of it it fires; also those of a task that
 * nobody will ever start, before destroy returns. */
static struct weft_task *left_behind;
static _Atomic int outside_tried;

static int link_during_destroy(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    until(weft_task_finished(unstarted));
    CHECK(weft_task_create(NULL, do_nothing, NULL, NULL, &left_behind) == 0);
    CHECK(weft_task_link(left_behind, note, NULL, WEFT_ON_CANCELLED, NULL) == 0);
    CHECK(weft_task_link(left_behind, note, NULL, WEFT_ON_CANCELLED | WEFT_LINK_RAW, NULL) == 0);
    CHECK(weft_task_link(unstarted, note, NULL, WEFT_ON_CANCELLED, NULL) == 0);
    gate_wait(&outside_tried, 1);
    return 0;
}

Test(runtime_end, a_link_fires_before_destroy_returns_or_is_refused_R5_T8)
{
    pthread_t destroyer;
    void *rc;
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, NULL, &unstarted), 0);
    struct weft_task *running = spawn_in(runtime, link_during_destroy, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(pthread_create(&destroyer, NULL, destroy_it, runtime), 0);
    until(weft_task_finished(unstarted));
    uint64_t id = 7;
    cr_assert_eq(weft_task_link(running, note, NULL, WEFT_ON_ANY, &id), -ESHUTDOWN);
    cr_assert_eq(weft_task_link(unstarted, note, NULL, WEFT_ON_ANY, &id), -ESHUTDOWN);
    cr_assert_eq(id, 7);
    gate_open(&outside_tried);
    (void)pthread_join(destroyer, &rc);
    cr_assert_eq((intptr_t)rc, 0);
    cr_assert_eq(atomic_load(&ended), 3, "each once, and none of those that were refused");
    cr_assert_eq(finish_task(running).error, 0);
    cr_assert_eq(finish_task(left_behind).status, WEFT_CANCELLED);
    weft_task_release(unstarted);
}

/* A map that a thread outside has called is work of the runtime, also if only that thread works on it. */
static int item_at_gate(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    return at_gate(NULL, NULL);
}

static void *map_outside(void *group)
{
    return (void *)(intptr_t)weft_group_map(group, item_at_gate, NULL, 1, NULL, 0, NULL, 0, NULL);
}

Test(runtime_end, destroy_waits_for_a_map_that_was_called_from_outside_R4)
{
    pthread_t mapper, destroyer;
    void *rc;
    struct weft_group *group;
    struct weft_task *task;
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    cr_assert_eq(pthread_create(&mapper, NULL, map_outside, group), 0);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_NOWAIT), -ETIMEDOUT);
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &unstarted), 0);
    cr_assert_eq(pthread_create(&destroyer, NULL, destroy_it, runtime), 0);
    until(weft_task_finished(unstarted));
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &task), -ESHUTDOWN);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_NOWAIT), -ETIMEDOUT, "it has not ended, nor is it quiet");
    gate_open(&open_gate);
    (void)pthread_join(mapper, &rc);
    cr_assert_eq((intptr_t)rc, 0);
    (void)pthread_join(destroyer, &rc);
    cr_assert_eq((intptr_t)rc, 0);
    cr_assert_eq(atomic_load(&ended), 1);
    weft_task_release(unstarted);
    cr_assert_eq(weft_group_destroy(group), 0);
}

/* ---- R5: what outlives it ---- */

static int give_result(void *arg, void **value)
{
    *value = arg;
    return 0;
}

static struct weft_array array;
static const struct weft_source source = { weft_array_next, &array, NULL };

Test(runtime_end, handles_groups_and_imaps_outlive_it_R5)
{
    struct weft_task *task, *other;
    struct weft_group *group, *made;
    struct weft_imap *imap, *new_imap;
    struct weft_outcome outcome;
    uint64_t id;
    void *value;
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    cr_assert_eq(weft_task_spawn(runtime, give_result, &result, NULL, &task), 0);
    cr_assert_eq(weft_pool_create(runtime, 1, NULL, &group), 0);
    cr_assert_eq(weft_group_imap(group, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);

    cr_assert(weft_task_finished(task));
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_eq(outcome.value, &result);
    cr_assert_eq(weft_group_len(group), 0);

    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_task_take(task, &value), -ESHUTDOWN);
    cr_assert_eq(weft_task_start(task), -ESHUTDOWN);
    cr_assert_eq(weft_task_start_at(task, WEFT_NOWAIT), -ESHUTDOWN);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_task_link(task, note, NULL, WEFT_ON_ANY, &id), -ESHUTDOWN);
    cr_assert_eq(weft_task_unlink(task, 1), -ESHUTDOWN);
    cr_assert_eq(weft_tasks_wait(&task, 1, 1, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &other), -ESHUTDOWN);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_runtime_kill(runtime, 0), -ESHUTDOWN);
    cr_assert_eq(weft_runtime_read_stats(runtime, &stats), -ESHUTDOWN);
    cr_assert_eq(weft_runtime_destroy(runtime), -ESHUTDOWN);
    cr_assert_eq(weft_group_create(runtime, NULL, &made), -ESHUTDOWN);
    cr_assert_eq(weft_pool_create(runtime, 1, NULL, &made), -ESHUTDOWN);
    cr_assert_eq(weft_group_spawn(group, do_nothing, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_add(group, task, WEFT_NOWAIT), -ESHUTDOWN);
    cr_assert_eq(weft_group_start(group, task, WEFT_NOWAIT), -ESHUTDOWN);
    cr_assert_eq(weft_group_discard(group, task), -ESHUTDOWN);
    cr_assert_eq(weft_group_kill_one(group, task, 0, WEFT_NOWAIT), -ESHUTDOWN);
    cr_assert_eq(weft_group_join_outcome(group, WEFT_NOWAIT, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_set_task_options(group, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_apply(group, do_nothing, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_apply_async(group, do_nothing, NULL, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_pool_resize(group, WEFT_UNLIMITED), -ESHUTDOWN);
    cr_assert_not(weft_group_contains(group, task));
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_group_kill(group, 0, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_pool_wait_available(group, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_group_map(group, item_nothing, NULL, 1, NULL, 0, NULL, 0, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_imap(group, &source, 1, element_nothing, NULL, NULL, &new_imap), -ESHUTDOWN);

    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
    weft_task_retain(task);
    weft_task_release(task);
    weft_task_release(task);
}

/* The memory of an ended runtime serves another while a handle of a third is still held. */
Test(runtime_end, a_handle_keeps_its_own_runtime_through_many_others_R5)
{
    struct weft_task *task = spawn_in(runtime, give_result, &result);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    for (int i = 0; i < 20; i++) {
        struct weft_runtime *next = runtime_with(1);
        cr_assert_eq(run_in(next, give_result, NULL), 0);
        cr_assert_eq(weft_runtime_destroy(next), 0);
    }
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_eq(outcome.value, &result);
}
