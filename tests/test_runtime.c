/* runtime: which one is meant, how many workers it has, and how it ends (contract R1, R2, R4, R5, R10). WEFT_TEST_WORKERS says with how
 * many workers, where the number does not matter. */
#include "testing.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "child.h"
#include "memory.h"
#include "os.h"
#include "sanitize.h"
#include "tasks.h"

static _Atomic int hooked[3];

/* ---- R1 ---- */

static int see_runtime(void *arg, void **value)
{
    (void)value;
    CHECK(weft_runtime_current() == arg);
    CHECK(weft_worker_index() < weft_runtime_workers(NULL));
    return 0;
}

static int spawn_with_null(void *arg, void **value)
{
    (void)value;
    CHECK(weft_runtime_current() == arg);
    struct weft_task *task;
    CHECK(weft_task_spawn(NULL, see_runtime, arg, NULL, &task) == 0);
    CHECK(weft_task_join(task, WEFT_FOREVER) == 0);
    weft_task_release(task);
    return 0;
}

Test(runtime, null_is_the_callers_own_else_the_default_R1)
{
    struct weft_runtime *runtime = runtime_make();
    cr_assert_null(weft_runtime_current());
    cr_assert_eq(weft_worker_index(), UINT_MAX);
    cr_assert_eq(run_in(runtime, spawn_with_null, runtime), 0);
    struct weft_runtime *standard = weft_runtime_default();
    cr_assert_neq(standard, runtime);
    cr_assert_eq(weft_runtime_default(), standard, "there is one");
    cr_assert_eq(run_in(NULL, spawn_with_null, standard), 0);
    cr_assert_eq(weft_runtime_workers(NULL), weft_runtime_workers(standard));
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    cr_assert_eq(weft_runtime_destroy(standard), 0);
    cr_assert_eq(run_in(NULL, do_nothing, NULL), 0, "a new default");
    cr_assert_eq(weft_runtime_destroy(weft_runtime_default()), 0);
}

static int threads(void)
{
    char text[4096];
    FILE *file = fopen("/proc/self/status", "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        (void)fclose(file);
    }
    text[length] = '\0';
    const char *at = strstr(text, "\nThreads:");
    return at ? atoi(at + 9) : -1;
}

Test(runtime, default_starts_at_first_use_and_destroy_joins_every_worker_R1_R4)
{
    int before = threads();
    cr_assert_eq(weft_sleep_until(WEFT_NOWAIT), 0);
    cr_assert_eq(threads(), before, "not before");
    cr_assert_eq(run_in(NULL, do_nothing, NULL), 0);
    struct weft_runtime *runtime = weft_runtime_default();
    cr_assert_eq(threads(), before + (int)weft_runtime_workers(runtime));
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    until(threads() == before); /* the kernel takes a joined thread off its list a moment later */
}

Test(runtime, many_live_side_by_side_and_ending_one_disturbs_no_other_R1)
{
    enum { MANY = 5 };
    struct weft_runtime *runtimes[MANY];
    struct weft_task *blocked[MANY];
    for (int i = 0; i < MANY; i++) {
        runtimes[i] = runtime_make();
        blocked[i] = spawn_in(runtimes[i], block, NULL);
    }
    gate_wait(&begun, MANY);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(weft_task_kill(blocked[i], 0, WEFT_FOREVER), 0);
        cr_assert_eq(weft_runtime_destroy(runtimes[i]), 0);
        for (int j = i + 1; j < MANY; j++) {
            cr_assert_not(weft_task_finished(blocked[j]));
            cr_assert_eq(run_in(runtimes[j], spawn_with_null, runtimes[j]), 0);
        }
    }
    weft_tasks_release(blocked, MANY);
    cr_assert_eq(weft_runtime_destroy(NULL), 0);
}

static int join_in_the_other(void *arg, void **value)
{
    (void)value;
    CHECK(weft_task_join(arg, WEFT_FOREVER) == 0);
    return 0;
}

Test(runtime, tasks_wait_for_tasks_of_another_R1_E7)
{
    struct weft_runtime *one = runtime_make(), *two = runtime_make();
    struct weft_task *target = spawn_in(two, at_gate, NULL), *joiner = spawn_in(one, join_in_the_other, target);
    gate_wait(&begun, 1);
    cr_assert_not(weft_task_finished(joiner));
    gate_open(&open_gate);
    cr_assert_eq(finish_task(joiner).error, 0);
    weft_task_release(target);
    cr_assert_eq(weft_runtime_destroy(one), 0);
    cr_assert_eq(weft_runtime_destroy(two), 0);
}

/* ---- R2 ---- */

static unsigned workers_made(unsigned option)
{
    struct weft_runtime *runtime = runtime_with(option);
    unsigned workers = weft_runtime_workers(runtime);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    return workers;
}

Test(runtime, workers_are_the_option_else_the_variable_else_the_processors_R2_H34)
{
    (void)unsetenv("WEFT_WORKERS");
    cr_assert_eq(workers_made(0), os_cpu_count());
    cr_assert_eq(workers_made(3), 3);
    (void)setenv("WEFT_WORKERS", "5", 1);
    cr_assert_eq(workers_made(0), 5);
    cr_assert_eq(workers_made(3), 3);
    (void)unsetenv("WEFT_WORKERS");
    cpu_set_t all, one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &one);
        }
    }
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_assert_eq(workers_made(0), 1);
}

static const char *malformed;

static void make_two_with_a_malformed_variable(void)
{
    (void)setenv("WEFT_WORKERS", malformed, 1);
    for (int i = 0; i < 2; i++) {
        struct weft_runtime *runtime = runtime_with(0);
        bool ignored = weft_runtime_workers(runtime) == os_cpu_count();
        if (weft_runtime_destroy(runtime) != 0 || !ignored) {
            _exit(1);
        }
    }
}

Test(runtime, malformed_variable_is_named_once_and_ignored_R2)
{
    const char *texts[] = { "", "0", "-1", "abc", "4x", " 4", "1.5", "0x10", "99999999999999999999999" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        malformed = texts[i];
        struct child child = child_run(make_two_with_a_malformed_variable);
        cr_assert_eq(child.status, 0, "\"%s\": %s", malformed, child.text);
        const char *first = strstr(child.text, "WEFT_WORKERS");
        cr_assert_not_null(first, "\"%s\" is not named", malformed);
        cr_assert_null(strstr(first + 1, "WEFT_WORKERS"), "\"%s\" is named twice", malformed);
    }
}

Test(runtime, runs_with_fewer_threads_if_the_system_gives_fewer_R2_H35)
{
    struct weft_runtime *runtime = runtime_with(1); /* what is made once is made now */
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    bool fewer = false;
    for (size_t mib = 40; mib <= 640 && !fewer; mib += 40) {
        if (!memory_limit(mib << 20)) {
            cr_skip("the address space cannot be limited here");
        }
        int rc = weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 64), &runtime);
        memory_unlimit();
        if (rc == 0) {
            unsigned workers = weft_runtime_workers(runtime);
            fewer = workers < 64;
            cr_assert_gt(workers, 0);
            cr_assert_eq(run_in(runtime, spawn_with_null, runtime), 0);
            struct weft_task *task = spawn_in(runtime, block, NULL);
            gate_wait(&begun, 1);
            cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
            weft_task_release(task);
            cr_assert_eq(weft_runtime_destroy(runtime), 0);
            atomic_store(&begun, 0);
        } else {
            cr_assert(rc == -EAGAIN || rc == -ENOMEM, "%d", rc);
            cr_assert_null(runtime);
        }
    }
    cr_assert(fewer, "no limit gave some threads and not all");
}

Test(runtime, create_fails_with_no_thread_at_all_R2_H35)
{
    int before = threads();
    bool no_thread = false;
    for (size_t mib = 1; mib < 8; mib++) { /* a thread's stack takes 8; no other thread has left one */
        struct weft_runtime *runtime = (struct weft_runtime *)&begun;
        if (!memory_limit(mib << 20)) {
            cr_skip("the address space cannot be limited here");
        }
        int rc = weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 2), &runtime);
        memory_unlimit();
        cr_assert(rc == -EAGAIN || rc == -ENOMEM, "%d", rc);
        cr_assert_null(runtime);
        no_thread = no_thread || rc == -EAGAIN;
    }
    cr_assert(no_thread, "memory for all but threads was never there");
    cr_assert_eq(threads(), before);
    cr_assert_eq(workers_made(2), 2, "and it works again");
}

/* ---- R10: worker hooks ---- */

struct worker_hooks {
    _Atomic int started[64], stopped[64];
    _Atomic int wrong;
    pthread_t threads[64];
};

static void worker_start(unsigned index, void *ctx)
{
    struct worker_hooks *hooks = ctx;
    hooks->threads[index] = pthread_self();
    gate_open(weft_worker_index() == index ? &hooks->started[index] : &hooks->wrong);
}

static void worker_stop(unsigned index, void *ctx)
{
    struct worker_hooks *hooks = ctx;
    bool good = weft_worker_index() == index && pthread_equal(hooks->threads[index], pthread_self());
    gate_open(good ? &hooks->stopped[index] : &hooks->wrong);
}

Test(runtime, worker_hooks_are_called_once_per_worker_on_it_R10)
{
    static struct worker_hooks hooks;
    struct weft_runtime *runtime;
    cr_assert_eq(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = weft_test_workers(),
                                                  .worker_start = worker_start, .worker_stop = worker_stop, .worker_ctx = &hooks),
                                     &runtime),
                 0);
    unsigned workers = weft_runtime_workers(runtime);
    cr_assert_eq(run_in(runtime, spawn_with_null, runtime), 0);
    for (unsigned i = 0; i < 64; i++) {
        cr_assert_eq(atomic_load(&hooks.stopped[i]), 0);
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    cr_assert_eq(atomic_load(&hooks.wrong), 0);
    for (unsigned i = 0; i < 64; i++) {
        cr_assert_eq(atomic_load(&hooks.started[i]), i < workers ? 1 : 0);
        cr_assert_eq(atomic_load(&hooks.stopped[i]), i < workers ? 1 : 0);
    }
}

/* ---- R10: task hooks and stats ---- */

static void on_spawn(struct weft_task *task, void *ctx) { gate_open(task ? &hooked[0] : ctx); }
static void on_start(struct weft_task *task, void *ctx) { gate_open(task == weft_task_current() ? &hooked[1] : ctx); }
static void on_finish(struct weft_task *task, void *ctx) { gate_open(task ? &hooked[2] : ctx); }

static int fail(void *arg, void **value)
{
    (void)arg, (void)value;
    return -EIO;
}

/* 10 run, 4 fail, 3 are killed while blocked, 2 before they start, 1 is released unstarted. */
static void run_twenty(struct weft_runtime *runtime, const struct weft_task_options *options)
{
    struct weft_task *tasks[20];
    atomic_store(&begun, 0);
    for (int i = 0; i < 20; i++) {
        weft_task_fn *fn = i < 10 ? do_nothing : i < 14 ? fail : block;
        cr_assert_eq((i < 17 ? weft_task_spawn : weft_task_create)(runtime, fn, NULL, options, &tasks[i]), 0);
    }
    gate_wait(&begun, 3);
    for (int i = 14; i < 19; i++) {
        cr_assert_eq(weft_task_kill(tasks[i], 0, WEFT_FOREVER), 0);
    }
    weft_tasks_release(tasks, 20);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
}

Test(runtime, task_hooks_are_called_once_each_R10)
{
    static _Atomic int wrong;
    struct weft_task_hooks hooks = { on_spawn, on_start, on_finish, &wrong };
    for (int own = 0; own < 2; own++) {
        struct weft_runtime *runtime;
        cr_assert_eq(
            weft_runtime_create(
                WEFT_OPTIONS(weft_runtime_options, .workers = weft_test_workers(), .task_hooks = own ? NULL : &hooks), &runtime),
            0);
        struct weft_task_hooks copied = hooks;
        run_twenty(runtime, own ? WEFT_OPTIONS(weft_task_options, .hooks = &copied) : NULL);
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        cr_assert_eq(atomic_load(&wrong), 0);
        cr_assert_eq(atomic_load(&hooked[0]), 20 * (own + 1));
        cr_assert_eq(atomic_load(&hooked[1]), 17 * (own + 1), "none for one that never ran");
        cr_assert_eq(atomic_load(&hooked[2]), 20 * (own + 1));
    }
}

Test(runtime, stats_count_each_task_once_R10)
{
    struct weft_runtime *runtime = runtime_make();
    run_twenty(runtime, NULL);
    struct weft_runtime_stats stats = stats_of(runtime);
    cr_assert_eq(stats.workers, weft_runtime_workers(runtime));
    cr_assert_eq(stats.spawned, 20);
    cr_assert_eq(stats.finished, 20);
    cr_assert_eq(stats.failed, 4);
    cr_assert_eq(stats.cancelled, 6);
    cr_assert_eq(stats.queued, 0);
    cr_assert_eq(stats.blocked, 0);
    cr_assert(strcmp(stats.guard_mode, "madvise") == 0 || strcmp(stats.guard_mode, "mprotect") == 0 ||
              strcmp(stats.guard_mode, "canary") == 0);
    cr_assert_geq(stats.fibers, 2 * stats.workers);
    cr_assert_gt(stats.stack_bytes, stats.fibers * 4096);
    struct weft_task *tasks[5];
    atomic_store(&begun, 0);
    for (int i = 0; i < 5; i++) {
        tasks[i] = spawn_in(runtime, block, NULL);
    }
    gate_wait(&begun, 5);
    until(stats_of(runtime).blocked == 5);
    cr_assert_eq(stats_of(runtime).spawned, 25);
    cr_assert_eq(stats_of(runtime).finished, 20);
    cr_assert_eq(weft_runtime_kill(runtime, 0), 0);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(stats_of(runtime).cancelled, 11);
    cr_assert_eq(stats_of(runtime).blocked, 0);
    weft_tasks_release(tasks, 5);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
