/* process: weft inside a process that forks, exits, takes signals, overflows stacks, or idles (contract R3, R6, R8). Most cases run in
 * a child process. */
#include "testing.h"

#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "child.h"
#include "sanitize.h"
#include "tasks.h"

static struct weft_runtime *runtime;

static void note_element(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
}

/* ---- R6: fork ---- */

static struct weft_task *inherited, *unstarted;
static struct weft_group *pool;
static struct weft_imap *imap;
static struct weft_array array;
static const struct weft_source source = { weft_array_next, &array, NULL };

static void be_the_child(void)
{
    struct weft_task *task;
    struct weft_outcome outcome;
    struct weft_item item;
    struct weft_group *group;
    struct weft_imap *other;
    uint64_t id;
    void *value;
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    must(weft_runtime_join(runtime, WEFT_FOREVER) == -EPERM);
    must(weft_runtime_join(runtime, WEFT_NOWAIT) == -EPERM);
    must(weft_runtime_kill(runtime, 0) == -EPERM);
    must(weft_runtime_destroy(runtime) == -EPERM);
    must(weft_runtime_read_stats(runtime, &stats) == -EPERM);
    must(weft_task_spawn(runtime, do_nothing, NULL, NULL, NULL) == -EPERM);
    must(weft_task_create(runtime, do_nothing, NULL, NULL, &task) == -EPERM);
    must(weft_task_start(unstarted) == -EPERM);
    must(weft_task_start_at(unstarted, weft_after(WEFT_SEC)) == -EPERM);
    must(weft_task_join(inherited, WEFT_FOREVER) == -EPERM);
    must(weft_task_get(inherited, WEFT_FOREVER, &outcome) == -EPERM);
    must(weft_task_take(inherited, &value) == -EPERM);
    must(weft_task_kill(inherited, 0, WEFT_FOREVER) == -EPERM);
    must(weft_task_link(inherited, note_element, NULL, WEFT_ON_ANY, &id) == -EPERM);
    must(weft_task_unlink(inherited, 1) == -EPERM);
    must(weft_tasks_wait(&inherited, 1, 1, WEFT_FOREVER) == -EPERM);
    must(weft_group_create(runtime, NULL, &group) == -EPERM);
    must(weft_pool_create(runtime, 1, NULL, &group) == -EPERM);
    must(weft_group_spawn(pool, do_nothing, NULL, NULL) == -EPERM);
    must(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL) == -EPERM);
    must(weft_group_join(pool, WEFT_FOREVER) == -EPERM);
    must(weft_group_kill(pool, 0, WEFT_FOREVER) == -EPERM);
    must(weft_group_add(pool, inherited, WEFT_NOWAIT) == -EPERM);
    must(weft_group_start(pool, unstarted, WEFT_NOWAIT) == -EPERM);
    must(weft_group_discard(pool, inherited) == -EPERM);
    must(weft_group_kill_one(pool, inherited, 0, WEFT_NOWAIT) == -EPERM);
    must(weft_group_join_outcome(pool, WEFT_NOWAIT, &outcome, &task) == -EPERM);
    must(weft_group_set_task_options(pool, NULL) == -EPERM);
    must(weft_group_apply(pool, do_nothing, NULL, &outcome) == -EPERM);
    must(weft_group_apply_async(pool, do_nothing, NULL, NULL, &task) == -EPERM);
    must(weft_pool_resize(pool, 2) == -EPERM);
    must(weft_group_snapshot(pool, NULL, 0) == 0);
    weft_group_close(pool); /* does nothing here, and nothing to the parent's */
    must(weft_group_destroy(pool) == -EPERM);
    must(weft_pool_wait_available(pool, WEFT_FOREVER) == -EPERM);
    must(weft_group_map(pool, item_nothing, NULL, 1, NULL, 0, NULL, 0, NULL) == -EPERM);
    must(weft_group_for(pool, 0, 1, range_nothing, NULL, NULL) == -EPERM);
    must(weft_group_imap(pool, &source, 1, element_nothing, NULL, NULL, &other) == -EPERM);
    must(weft_imap_next(imap, &item, WEFT_FOREVER) == -EPERM);
    must(weft_imap_destroy(imap) == -EPERM);

    must(weft_task_spawn(NULL, do_nothing, NULL, NULL, &task) == 0); /* a new default */
    until(weft_task_finished(task)); /* a task's own child cannot block: the workers of its fiber are not there */
    weft_task_release(task);
    struct weft_runtime *made = runtime_with(2);
    must(weft_task_spawn(made, do_nothing, NULL, NULL, &task) == 0);
    until(weft_task_finished(task));
    weft_task_release(task);
    must(weft_runtime_destroy(made) == 0);
}

static void prepare_family(void)
{
    runtime = runtime_with(2);
    inherited = spawn_in(runtime, block, NULL);
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &unstarted), 0);
    cr_assert_eq(weft_pool_create(runtime, 1, NULL, &pool), 0);
    cr_assert_eq(weft_group_imap(pool, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    gate_wait(&begun, 1);
}

static void end_family(void)
{
    cr_assert_eq(weft_task_kill(inherited, 0, WEFT_FOREVER), 0, "the parent's runtime works on");
    weft_task_release(inherited);
    weft_task_release(unstarted);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

Test(process, child_of_fork_gets_eperm_and_a_new_default_R6_H39)
{
    prepare_family();
    wait_until_idle(weft_runtime_default());
    wait_until_idle(runtime);
    struct child child = child_run(be_the_child);
    cr_assert_eq(child.status, 0, "%s", child.text);
    cr_assert_eq(run_in(NULL, do_nothing, NULL), 0, "the parent's default works on");
    end_family();
    cr_assert_eq(weft_runtime_destroy(weft_runtime_default()), 0);
}

static int fork_in_a_task(void *arg, void **value)
{
    (void)arg, (void)value;
    wait_until_idle(weft_runtime_current());
    struct child child = child_run(be_the_child);
    if (child.status != 0) {
        (void)fputs(child.text, stderr);
    }
    return child.status == 0 ? 0 : -EIO;
}

Test(process, fork_in_a_task_gives_the_same_child_R6_H39)
{
    prepare_family();
    cr_assert_eq(run_in(runtime, fork_in_a_task, NULL), 0);
    end_family();
}

/* Other threads are making and giving back stacks, with the locks of their shelves held for much of the time: in the child nobody is
 * there to give those back. */
static _Atomic int churn_ends;

static void *churn(void *arg)
{
    (void)arg;
    while (atomic_load(&churn_ends) == 0) {
        struct weft_runtime *made = runtime_with(1);
        struct weft_task *tasks[24];
        for (int i = 0; i < 24; i++) {
            must(weft_task_create(made, do_nothing, NULL, WEFT_OPTIONS(weft_task_options, .stack_size = 300000), &tasks[i]) == 0);
        }
        gate_open(&begun);
        weft_tasks_release(tasks, 24);
        must(weft_runtime_destroy(made) == 0);
    }
    return NULL;
}

static void use_stacks(void)
{
    (void)alarm(20);
    struct weft_runtime *made = runtime_with(1);
    struct weft_task *task;
    must(weft_task_spawn(made, do_nothing, NULL, WEFT_OPTIONS(weft_task_options, .stack_size = 300000), &task) == 0);
    until(weft_task_finished(task));
    weft_task_release(task);
    must(weft_runtime_destroy(made) == 0);
}

Test(process, fork_beside_threads_that_hold_locks_R6_H39, .timeout = 120)
{
#if WEFT_ASAN
    cr_skip("the sanitizer's own allocator may be locked at the fork, for ever in the child");
#endif
    enum { CHURNERS = 2 };
    const int forks = WEFT_TSAN ? 20 : 60;
    pthread_t churners[CHURNERS];
    for (int i = 0; i < CHURNERS; i++) {
        cr_assert_eq(pthread_create(&churners[i], NULL, churn, NULL), 0);
    }
    gate_wait(&begun, CHURNERS);
    for (int i = 0; i < forks; i++) {
        struct child child = child_run(use_stacks);
        cr_assert_eq(child.status, 0, "fork %d: status %x: %s", i, (unsigned)child.status, child.text);
    }
    gate_open(&churn_ends);
    for (int i = 0; i < CHURNERS; i++) {
        (void)pthread_join(churners[i], NULL);
    }
}

/* ---- The end of the process ---- */

#if !WEFT_ASAN /* its leak check at exit complains of what lives on in other threads */
static int call_exit(void *arg, void **value)
{
    (void)arg, (void)value;
    exit(7);
}

static void say_goodbye(void)
{
    static const char line[] = "atexit\n";
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
}

static void exit_from_a_task(void)
{
    runtime = runtime_with(2);
    (void)spawn_in(runtime, block, NULL);
    (void)atexit(say_goodbye);
    (void)run_in(runtime, call_exit, NULL);
}

static void exit_beside_tasks(void)
{
    runtime = runtime_with(2);
    (void)spawn_in(runtime, block, NULL);
    gate_wait(&begun, 1);
    (void)atexit(say_goodbye);
    exit(7);
}

static bool exited(const struct child *child, int code) { return WIFEXITED(child->status) && WEXITSTATUS(child->status) == code; }

Test(process, exit_works_in_a_task_and_beside_tasks_H40)
{
    struct child child = child_run(exit_from_a_task);
    cr_assert(exited(&child, 7), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_str_eq(child.text, "atexit\n");
    child = child_run(exit_beside_tasks);
    cr_assert(exited(&child, 7), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_str_eq(child.text, "atexit\n");
}
#endif

#if !WEFT_TSAN /* its own pthread_exit does not bear being called on a fiber */
static int call_pthread_exit(void *arg, void **value)
{
    (void)arg, (void)value;
    pthread_exit(NULL);
}

static void leave_by_pthread_exit(void)
{
    (void)alarm(20);
    runtime = runtime_with(1);
    (void)run_in(runtime, call_pthread_exit, NULL);
}

Test(process, pthread_exit_in_a_task_is_named_and_aborts_H41)
{
    struct child child = child_run(leave_by_pthread_exit);
    cr_assert(child_died_by(&child, SIGABRT), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_not_null(strstr(child.text, "weft: "), "%s", child.text);
    cr_assert_not_null(strstr(child.text, "pthread_exit"), "%s", child.text);
}
#endif

/* ---- R8: stacks ---- */

static weft_noinline int recurse(volatile char *above, int depth)
{
    volatile char frame[512];
    frame[0] = above[0];
    return depth == 0 ? frame[0] : recurse(frame, depth - 1) + frame[0];
}

static int overflow(void *arg, void **value)
{
    (void)arg, (void)value;
    volatile char first = 1;
    weft_yield();
    return recurse(&first, 1 << 30);
}

static void overflow_a_default_stack(void)
{
    runtime = runtime_with(2);
    (void)run_in(runtime, overflow, NULL);
}

static void overflow_a_stack_of_its_own(void)
{
    struct weft_task *task;
    runtime = runtime_with(2);
    must(weft_task_spawn(runtime, overflow, NULL, WEFT_OPTIONS(weft_task_options, .name = "deep", .stack_size = 200000), &task) ==
         0);
    (void)finish_task(task);
}

Test(process, overflow_names_the_task_its_stack_and_the_option_R8_H18)
{
    struct child child = child_run(overflow_a_default_stack);
    cr_assert(child_died_by(&child, SIGSEGV), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_not_null(strstr(child.text, "weft: stack overflow in an unnamed task: its stack of "), "%s", child.text);
    cr_assert_not_null(strstr(child.text, "raise weft_runtime_options.stack_size\n"), "%s", child.text);
    child = child_run(overflow_a_stack_of_its_own);
    cr_assert(child_died_by(&child, SIGSEGV), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_not_null(strstr(child.text, "weft: stack overflow in task \"deep\": its stack of 2"), "%s", child.text);
    cr_assert_not_null(strstr(child.text, "raise weft_task_options.stack_size\n"), "%s", child.text);
}

#if !WEFT_ASAN && !WEFT_TSAN /* there a stack is four times as large, and such a frame fits */
/* Built without -fstack-clash-protection: the first touch of the frame is at its far end, past whatever is just below the stack. */
#ifdef __clang__
#define UNPROBED weft_noinline
#else
#define UNPROBED weft_noinline __attribute__((optimize("no-stack-clash-protection")))
#endif
static UNPROBED int use_a_big_frame(int depth)
{
    volatile char frame[128 * 1024];
    frame[0] = (char)depth;
    return depth == 0 ? frame[0] : use_a_big_frame(depth - 1) + frame[0];
}

static int overflow_by_a_big_frame(void *arg, void **value)
{
    (void)arg, (void)value;
    return use_a_big_frame(*(int *)arg);
}

static int frames;

static void overflow_at_once(void)
{
    runtime = runtime_with(2);
    (void)run_in(runtime, overflow_by_a_big_frame, &frames);
}

Test(process, a_frame_of_128_kib_is_an_overflow_too_R8_H17)
{
    struct child child = child_run(overflow_at_once);
    cr_assert(child_died_by(&child, SIGSEGV), "status %x: %s", (unsigned)child.status, child.text);
    cr_assert_not_null(strstr(child.text, "weft: stack overflow in an unnamed task: its stack of "), "%s", child.text);
}
#endif

/* ---- H42 ---- */

Test(process, runtimes_come_and_go_H42, .timeout = 120)
{
    const int rounds = WEFT_TSAN ? 300 : WEFT_ASAN ? 1000 : 10000;
    for (int i = 0; i < rounds; i++) {
        struct weft_runtime *made = runtime_with(1 + (unsigned)i % 2);
        if (i % 2 == 0) {
            cr_assert_eq(run_in(made, do_nothing, NULL), 0);
        }
        cr_assert_eq(weft_runtime_destroy(made), 0);
    }
}
