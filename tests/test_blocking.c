/* weft_blocking_call (contract B4): what blocks a thread blocks no worker; bounded, in order, killed only before it begins. */
#include "testing.h"

#include <pthread.h>
#include <semaphore.h>

#include "tasks.h"

enum { BOUND = 3, CALLS = 20 };

static struct weft_runtime *runtime;
static pthread_mutex_t thread_gate = PTHREAD_MUTEX_INITIALIZER; /* held by the test: a call that wants it blocks its thread */
static _Atomic int begun, ended, most;
static size_t next_begun;
static int order[CALLS];

static void setup(void)
{
    struct weft_runtime_options options = { .struct_size = sizeof options,
                                            .workers = weft_test_workers(),
                                            .max_blocking_threads = BOUND };
    cr_assert_eq(weft_runtime_create(&options, &runtime), 0);
    pthread_mutex_lock(&thread_gate);
}
static void teardown(void) { cr_assert_eq(weft_runtime_destroy(runtime), 0); }

TestSuite(blocking, .init = setup, .fini = teardown);

static void note_most(int now)
{
    int seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {
    }
}

static void through_the_thread_gate(void *arg)
{
    note_most(atomic_fetch_add(&begun, 1) + 1 - atomic_load(&ended));
    pthread_mutex_lock(&thread_gate);
    order[next_begun++] = arg ? *(int *)arg : 0;
    pthread_mutex_unlock(&thread_gate);
    gate_open(&ended);
}

static int call(void *arg, void **value)
{
    (void)value;
    return weft_blocking_call(NULL, through_the_thread_gate, arg);
}

Test(blocking, holds_no_worker_and_is_bounded_B4)
{
    struct weft_task *tasks[CALLS];
    for (int i = 0; i < CALLS; i++) {
        tasks[i] = spawn_in(runtime, call, NULL);
    }
    gate_wait(&begun, BOUND);
    cr_assert_eq(run_in(runtime, do_nothing, NULL), 0, "workers are free although all helpers are blocked");
    pthread_mutex_unlock(&thread_gate);
    for (int i = 0; i < CALLS; i++) {
        cr_assert_eq(finish_task(tasks[i]).error, 0);
    }
    cr_assert_eq(atomic_load(&ended), CALLS);
    cr_assert_leq(atomic_load(&most), BOUND);
}

static int spawn_calls(void *arg, void **value)
{
    static int numbers[CALLS];
    struct weft_task **tasks = arg;
    (void)value;
    for (int i = 0; i < CALLS; i++) {
        numbers[i] = i;
        struct weft_runtime_stats stats = { .struct_size = sizeof stats };
        tasks[i] = spawn_in(NULL, call, &numbers[i]);
        do { /* it has parked: its call is queued */
            weft_yield();
            CHECK(weft_runtime_read_stats(NULL, &stats) == 0);
        } while (stats.blocked < (size_t)i + 1);
    }
    return 0;
}

Test(blocking, calls_at_the_bound_go_in_the_order_of_coming_B4)
{
    pthread_mutex_unlock(&thread_gate);
    (void)weft_runtime_destroy(runtime);
    struct weft_runtime_options options = { .struct_size = sizeof options,
                                            .workers = weft_test_workers(),
                                            .max_blocking_threads = 1 };
    cr_assert_eq(weft_runtime_create(&options, &runtime), 0);
    pthread_mutex_lock(&thread_gate);
    struct weft_task *tasks[CALLS];
    cr_assert_eq(run_in(runtime, spawn_calls, tasks), 0);
    pthread_mutex_unlock(&thread_gate);
    for (int i = 0; i < CALLS; i++) {
        cr_assert_eq(finish_task(tasks[i]).error, 0);
    }
    for (int i = 0; i < CALLS; i++) {
        cr_assert_eq(order[i], i);
    }
}

static void note_thread(void *arg) { *(pthread_t *)arg = pthread_self(); }

static int call_and_compare(void *arg, void **value)
{
    (void)arg, (void)value;
    pthread_t there = pthread_self();
    CHECK(weft_blocking_call(NULL, note_thread, &there) == 0);
    CHECK(!pthread_equal(there, pthread_self()));
    pthread_t again = pthread_self();
    CHECK(weft_blocking_call(NULL, note_thread, &again) == 0);
    CHECK(pthread_equal(there, again)); /* the helper is used again */
    return 0;
}

Test(blocking, a_helper_is_used_again_B4) { cr_assert_eq(run_in(runtime, call_and_compare, NULL), 0); }

Test(blocking, on_a_foreign_thread_fn_runs_in_place_B4)
{
    pthread_t there;
    cr_assert_eq(weft_blocking_call(runtime, note_thread, &there), 0);
    cr_assert(pthread_equal(there, pthread_self()));
    cr_assert_eq(weft_blocking_call(runtime, NULL, NULL), -EINVAL);
}

Test(blocking, a_kill_ends_a_queued_call_and_fn_never_runs_B4)
{
    struct weft_task *running[BOUND];
    for (int i = 0; i < BOUND; i++) {
        running[i] = spawn_in(runtime, call, NULL);
    }
    gate_wait(&begun, BOUND);
    struct weft_task *queued = spawn_in(runtime, call, NULL);
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    do {
        weft_yield();
        cr_assert_eq(weft_runtime_read_stats(runtime, &stats), 0);
    } while (stats.blocked < BOUND + 1);
    cr_assert_eq(weft_task_kill(queued, 0, WEFT_FOREVER), 0, "it ends although no helper is free");
    cr_assert_eq(finish_task(queued).status, WEFT_CANCELLED);
    pthread_mutex_unlock(&thread_gate);
    for (int i = 0; i < BOUND; i++) {
        cr_assert_eq(finish_task(running[i]).status, WEFT_OK);
    }
    cr_assert_eq(atomic_load(&begun), BOUND);
}

static int call_then_check(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_blocking_call(NULL, through_the_thread_gate, NULL) == 0);
    CHECK(atomic_load(&ended) == 1);
    return weft_checkpoint() == -ECANCELED ? weft_sleep_until(WEFT_FOREVER) : -EIO;
}

Test(blocking, a_kill_waits_for_a_call_that_has_begun_B4)
{
    struct weft_task *task = spawn_in(runtime, call_then_check, NULL);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(atomic_load(&ended), 0);
    pthread_mutex_unlock(&thread_gate);
    struct weft_outcome outcome = finish_task(task);
    cr_assert_eq(outcome.status, WEFT_CANCELLED, "%s", weft_strerror(outcome.error));
}

static void end_the_runtime(void *arg)
{
    int *codes = arg;
    codes[0] = weft_runtime_destroy(runtime);
    codes[1] = weft_runtime_join(runtime, WEFT_FOREVER);
}

static int end_it_from_a_helper(void *codes, void **value)
{
    (void)value;
    return weft_blocking_call(NULL, end_the_runtime, codes);
}

Test(blocking, a_runtime_cannot_be_ended_from_a_call_of_its_own_R4)
{
    int codes[2] = { 0, 0 };
    cr_assert_eq(run_in(runtime, end_it_from_a_helper, codes), 0);
    cr_assert_eq(codes[0], -EDEADLK);
    cr_assert_eq(codes[1], -EDEADLK);
}

static void count(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

static int many_calls(void *arg, void **value)
{
    (void)value;
    for (int i = 0; i < 200; i++) {
        CHECK(weft_blocking_call(NULL, count, arg) == 0);
    }
    return 0;
}

/* Calls, helpers that fall asleep and wake, and the end of the runtime right behind the last call. */
Test(blocking, none_is_lost_until_the_runtime_ends_B4)
{
    enum { ROUNDS = 20, TASKS = 8 };
    _Atomic int counted = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct weft_runtime_options options = { .struct_size = sizeof options,
                                                .workers = weft_test_workers(),
                                                .max_blocking_threads = BOUND };
        struct weft_runtime *mine;
        cr_assert_eq(weft_runtime_create(&options, &mine), 0);
        struct weft_task *tasks[TASKS];
        for (int i = 0; i < TASKS; i++) {
            tasks[i] = spawn_in(mine, many_calls, &counted);
        }
        for (int i = 0; i < TASKS; i++) {
            cr_assert_eq(finish_task(tasks[i]).error, 0);
        }
        cr_assert_eq(weft_runtime_destroy(mine), 0);
    }
    cr_assert_eq(atomic_load(&counted), ROUNDS * TASKS * 200);
}
