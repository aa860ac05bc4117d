/* R2, R3, R6, R7, R8: what a runtime does to its process, and the process to it. */
#include "contract.h"

#include <sched.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "child.h"
#include "memory.h"
#include "sanitize.h"

static unsigned workers_made(unsigned wanted)
{
    struct weft_runtime *made = runtime_with(wanted);
    unsigned n = weft_runtime_workers(made);
    check_eq(weft_runtime_destroy(made), 0);
    return n;
}

PROMISE(R2_workers_are_the_option_else_the_variable_else_the_processors, ONCE)
{
    cpu_set_t set;
    (void)unsetenv("WEFT_WORKERS");
    check_eq(sched_getaffinity(0, sizeof set, &set), 0);
    unsigned n = workers_made(0);
    check(n >= 1 && n <= (unsigned)CPU_COUNT(&set));
    check_eq(workers_made(3), 3);
    check_eq(setenv("WEFT_WORKERS", "5", 1), 0);
    check_eq(workers_made(0), 5);
    check_eq(workers_made(3), 3);
    (void)unsetenv("WEFT_WORKERS");
}

static const char *variable;

static void make_two(void)
{
    (void)alarm(0);
    (void)setenv("WEFT_WORKERS", variable, 1);
    if (workers_made(0) < 1 || workers_made(0) < 1) {
        _exit(1);
    }
}

PROMISE(R2_a_malformed_variable_is_named_once_and_ignored, ONCE)
{
    static const char *const texts[] = { "", "0", "-3", "two", "4 " };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        variable = texts[i];
        struct child child = child_run(make_two);
        check_eq(child.status, 0);
        const char *named = strstr(child.text, "WEFT_WORKERS");
        check(named && !strstr(named + 1, "WEFT_WORKERS"));
    }
}

PROMISE(R2_fewer_threads_make_a_smaller_runtime_and_none_an_error, ONCE)
{
    bool fewer = false, none = false;
    for (size_t mib = 1; mib <= 640 && !(fewer && none); mib += fewer ? 40 : mib < 16 ? 3 : 20) {
        struct weft_runtime *made = NULL;
        if (!memory_limit(mib << 20)) {
            return; /* sanitizers */
        }
        int rc = weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 64), &made);
        memory_unlimit();
        if (rc == 0) {
            struct weft_task *task;
            fewer |= weft_runtime_workers(made) < 64;
            check(weft_runtime_workers(made) >= 1);
            check_eq(weft_task_spawn(made, do_nothing, NULL, NULL, &task), 0);
            ends_ok(task);
            check_eq(weft_runtime_destroy(made), 0);
        } else {
            none |= rc < 0 && made == NULL;
        }
    }
    check(fewer && none);
}

#if !WEFT_ASAN && !WEFT_TSAN
/* What this thread does not account for in 100 ms, the workers have done: nothing. */
static bool workers_do_nothing(void)
{
    struct rusage all[2], own[2];
    struct weft_runtime_stats before = stats_of(runtime);
    (void)getrusage(RUSAGE_SELF, &all[0]);
    (void)getrusage(RUSAGE_THREAD, &own[0]);
    (void)poll(NULL, 0, 100); /* idleness lasts: this is what is measured */
    (void)getrusage(RUSAGE_THREAD, &own[1]);
    (void)getrusage(RUSAGE_SELF, &all[1]);
    struct weft_runtime_stats after = stats_of(runtime);
    return before.workers_parked == before.workers && after.parks == before.parks &&
           all[1].ru_nvcsw - all[0].ru_nvcsw == own[1].ru_nvcsw - own[0].ru_nvcsw &&
           all[1].ru_nivcsw - all[0].ru_nivcsw == own[1].ru_nivcsw - own[0].ru_nivcsw;
}
#endif

PROMISE(R3_idle_workers_use_nothing, WORKERS)
{
#if !WEFT_ASAN && !WEFT_TSAN
    ends_ok(task_spawn(do_nothing, NULL));
    until(workers_do_nothing());
#endif
}

static int look_at_signals(void *arg, void **result)
{
    (void)arg, (void)result;
    sigset_t set;
    check_eq(pthread_sigmask(SIG_SETMASK, NULL, &set), 0);
    check(sigismember(&set, SIGINT) && sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1) && sigismember(&set, SIGALRM));
    check(!sigismember(&set, SIGSEGV) && !sigismember(&set, SIGFPE));
    return 0;
}

PROMISE(R3_workers_have_asynchronous_signals_blocked, WORKERS) { ends_ok(task_spawn(look_at_signals, NULL)); }

/* ---- R6 ---- */

#if !WEFT_TSAN && !WEFT_ASAN /* whose own locks may be held at the fork; tests/test_process.c makes sure of that */
static struct weft_task *old_task;

static void be_the_child(void)
{
    struct weft_outcome outcome;
    struct weft_task *task;
    check_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &task), -EPERM);
    check_eq(weft_task_get(old_task, WEFT_FOREVER, &outcome), -EPERM);
    check_eq(weft_task_kill(old_task, 0, WEFT_NOWAIT), -EPERM);
    check_eq(weft_group_spawn(pool, do_nothing, NULL, &task), -EPERM);
    check_eq(weft_group_join(pool, WEFT_FOREVER), -EPERM);
    check_eq(weft_runtime_join(runtime, WEFT_FOREVER), -EPERM);
    check_eq(weft_runtime_destroy(runtime), -EPERM);
    check_eq(weft_task_spawn(NULL, do_nothing, NULL, NULL, &task), 0);
    until(weft_task_finished(task)); /* the child of a task cannot block: the workers of its fiber are not there */
    check_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    struct weft_runtime *made = runtime_with(2);
    check_eq(weft_task_spawn(made, do_nothing, NULL, NULL, &task), 0);
    until(weft_task_finished(task));
    check_eq(weft_runtime_destroy(made), 0);
}
#endif

PROMISE(R6_after_fork_the_child_gets_eperm_and_a_new_default, EVERYWHERE)
{
#if !WEFT_TSAN && !WEFT_ASAN
    old_task = task_spawn(do_nothing, NULL);
    check_eq(weft_task_join(old_task, WEFT_FOREVER), 0);
    check(weft_runtime_default() != NULL);
    wait_until_idle(runtime);
    wait_until_idle(weft_runtime_default());
    struct child child = child_run(be_the_child);
    if (child.status != 0) {
        fputs(child.text, stderr);
    }
    check_eq(child.status, 0);
    weft_task_release(old_task);
#endif
}

/* ---- R7 ---- */

static int block_twice(void *gate, void **result)
{
    (void)result;
    check_eq(gate_pass(gate), 0);
    check_eq(weft_sleep_until(weft_after(1000)), 0);
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

PROMISE(R7_for_want_of_stacks_no_wait_fails_tasks_wait_and_spawn_is_refused, WORKERS)
{
    struct weft_runtime *few;
    struct gate gate = { 0 };
    uint32_t accepted = 0;
    int rc;
    count_reset();
    check_eq(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = workers, .max_fibers = 2 * workers + 4), &few), 0);
    do {
        rc = weft_task_spawn(few, block_twice, &gate, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), NULL);
        accepted += rc == 0;
        weft_yield();
    } while (rc == 0);
    check_eq(rc, -ENOMEM);
    check(accepted >= 4);
    check_eq(args_freed, 0);
    gate_open(&gate);
    check_eq(weft_runtime_join(few, weft_after(PATIENCE)), 0);
    check_eq(ran, accepted);
    check_eq(args_freed, accepted);
    check_eq(weft_runtime_destroy(few), 0);
}

/* ---- R8 ---- */

static weft_noinline int recurse(volatile char *above, int depth)
{
    volatile char here[256];
    here[0] = *above;
    return depth == 0 ? here[0] : recurse(here, depth - 1) + here[0];
}

static int overflow(void *arg, void **result)
{
    (void)arg, (void)result;
    volatile char first = 1;
    return recurse(&first, 1 << 24);
}

static void overflow_in_child(void)
{
    struct weft_runtime *doomed = runtime_with(2);
    struct weft_task *task;
    (void)signal(SIGABRT, SIG_DFL);
    check_eq(weft_task_spawn(doomed, overflow, NULL, WEFT_OPTIONS(weft_task_options, .name = "the deep one"), &task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
}

PROMISE(R8_a_stack_overflow_names_the_task_its_stack_and_the_option, ONCE)
{
    struct child child = child_run(overflow_in_child);
    check(child.status != 0);
    check(strstr(child.text, "the deep one"));
    check(strstr(child.text, "stack_size"));
#if !WEFT_ASAN && !WEFT_TSAN /* whose stacks are larger */
    check(strstr(child.text, "65536") || strstr(child.text, "64 KiB"));
#endif
}
