/* worker: what a worker's thread does to its surroundings (R3), and what tasks see of the threads below them. */
#include "testing.h"

#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "sanitize.h"
#include "tasks.h"

/* ---- R3: idle ---- */

#if !WEFT_ASAN && !WEFT_TSAN /* their own threads and signals are no business of ours */

struct usage {
    long ticks, switches, threads, asleep;
};

static long number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

static size_t read_file(const char *path, char *text, size_t room)
{
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, room - 1, file) : 0;
    if (file) {
        (void)fclose(file);
    }
    text[length] = '\0';
    return length;
}

/* Of the threads whose name begins with `name`. */
static struct usage usage_of(const char *name)
{
    struct usage usage = { 0 };
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
        char path[300], text[4096];
        (void)snprintf(path, sizeof path, "/proc/self/task/%.200s/comm", entry->d_name);
        if (read_file(path, text, sizeof text) == 0 || strncmp(text, name, strlen(name)) != 0) {
            continue;
        }
        usage.threads++;
        (void)snprintf(path, sizeof path, "/proc/self/task/%.200s/status", entry->d_name);
        (void)read_file(path, text, sizeof text);
        usage.switches += number_after(text, "\nvoluntary_ctxt_switches:") + number_after(text, "\nnonvoluntary_ctxt_switches:");
        (void)snprintf(path, sizeof path, "/proc/self/task/%.200s/stat", entry->d_name);
        (void)read_file(path, text, sizeof text);
        const char *at = strrchr(text, ')'); /* then state, 10 numbers, utime, stime */
        usage.asleep += at && at[2] == 'S';
        for (int field = 0; at && field < 12; field++) {
            at = strchr(at + 1, ' ');
        }
        if (at) {
            char *end;
            usage.ticks += strtol(at, &end, 10);
            usage.ticks += strtol(end, NULL, 10);
        }
    }
    if (directory) {
        (void)closedir(directory);
    }
    return usage;
}

static struct weft_runtime *named(const char *name, unsigned workers)
{
    return runtime_of(WEFT_OPTIONS(weft_runtime_options, .workers = workers, .name = name));
}

/* Parked in the library's eyes, on the way into the futex or there, and asleep in the kernel's. */
static bool all_asleep(struct weft_runtime *runtime, const char *name, unsigned workers)
{
    struct weft_runtime_stats stats = stats_of(runtime);
    return stats.workers_parked == workers && stats.parks - stats.wakeups == workers && usage_of(name).asleep == (long)workers;
}

/* The one test that has to let time pass: how much is used in it is what is measured. Also with tasks that wait without a deadline, and one that waits for long. */
Test(worker, idle_workers_use_no_cpu_and_make_no_context_switches_R3_H33)
{
    struct weft_runtime *runtime = named("idle", 4);
    struct weft_task *tasks[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] = spawn_in(runtime, block, NULL);
    }
    gate_wait(&begun, 3);
    until(all_asleep(runtime, "idle/", 4));
    struct usage before = usage_of("idle/");
    cr_assert_eq(before.threads, 4);
    cr_assert_eq(weft_sleep_until(weft_after((weft_test_full() ? 10 : 2) * WEFT_SEC)), 0);
    struct usage after = usage_of("idle/");
    cr_assert_eq(after.ticks - before.ticks, 0, "%ld ticks", after.ticks - before.ticks);
    cr_assert_eq(after.switches - before.switches, 0, "%ld switches", after.switches - before.switches);
    cr_assert_eq(weft_runtime_kill(runtime, 0), 0);
    weft_tasks_release(tasks, 3);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
#endif

/* ---- H38: signals ---- */

static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

static bool is_fault(int signal)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (faults[i] == signal) {
            return true;
        }
    }
    return false;
}

static int look_at_mask(void *arg, void **value)
{
    (void)arg, (void)value;
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
    for (int signal = 1; signal < 32; signal++) {
        if (signal != SIGKILL && signal != SIGSTOP) {
            CHECK(is_fault(signal) || sigismember(&mask, signal) == 1);
        }
    }
    CHECK(sigismember(&mask, SIGSEGV) == 0);
    return 0;
}

static _Atomic int handled;
static _Atomic unsigned handled_by;

static void handle(int signal)
{
    (void)signal;
    atomic_store(&handled_by, weft_worker_index());
    gate_open(&handled);
}

Test(worker, asynchronous_signals_are_blocked_on_workers_R3_H38)
{
    struct weft_runtime *runtime = runtime_with(4);
    cr_assert_eq(run_in(runtime, look_at_mask, NULL), 0);
    sigset_t mask;
    cr_assert_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    cr_assert_eq(sigismember(&mask, SIGUSR1), 0, "the creator's mask is as before");
    struct sigaction action = { .sa_handler = handle };
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 1; i <= 50; i++) {
        cr_assert_eq(kill(getpid(), SIGUSR1), 0);
        gate_wait(&handled, i);
        cr_assert_eq(atomic_load(&handled_by), (unsigned)-1, "on a thread that is not ours");
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* ---- H10: rounding ---- */

static int round_differently(void *arg, void **value)
{
    (void)value;
    int mode = *(int *)arg;
    CHECK(fegetround() == FE_TONEAREST); /* neither the creator's nor the last task's */
    CHECK(fesetround(mode) == 0);
    gate_open(&begun);
    for (int i = 0; i < 50; i++) {
        weft_yield();
        CHECK(fegetround() == mode);
    }
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0);
    CHECK(fegetround() == mode);
    return 0; /* and leaves it so */
}

Test(worker, rounding_mode_is_a_tasks_own_H10)
{
    static int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST };
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        cr_assert_eq(fesetround(FE_UPWARD), 0); /* of the creator: threads and fibers inherit it */
        struct weft_runtime *runtime = runtime_with(workers);
        struct weft_task *tasks[40];
        for (int i = 0; i < 40; i++) {
            tasks[i] = spawn_in(runtime, round_differently, &modes[i % 4]);
        }
        for (int i = 0; i < 40; i++) {
            int error = finish_task(tasks[i]).error;
            cr_assert_eq(error, 0, "line %d", -error - 10000);
        }
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        cr_assert_eq(fegetround(), FE_UPWARD);
        cr_assert_eq(fesetround(FE_TONEAREST), 0);
    }
}

/* ---- H08: errno ---- */

/* Found anew each time: a compiler may keep its address over a switch. */
static weft_noinline int errno_now(void)
{
    int now = errno;
    __asm__ volatile("" : "+r"(now) : : "memory");
    return now;
}

static weft_noinline void errno_put(int value)
{
    errno = value;
    __asm__ volatile("" : : : "memory");
}

static _Atomic int moved;

static int keep_errno(void *arg, void **value)
{
    (void)value;
    int mine = *(int *)arg;
    unsigned home = weft_worker_index();
    for (int i = 0; i < 100 || (atomic_load(&moved) == 0 && i < 100000); i++) {
        errno_put(mine);
        weft_yield();
        CHECK(errno_now() == mine);
        if (i % 20 == 0) {
            CHECK(weft_sleep_until(weft_after(1000)) == 0);
            CHECK(errno_now() == mine);
        }
        if (weft_worker_index() != home) {
            gate_open(&moved);
            home = weft_worker_index();
        }
    }
    return 0;
}

Test(worker, errno_is_a_fibers_own_E1_H08)
{
    struct weft_runtime *runtime = runtime_with(4);
    int values[20];
    struct weft_task *tasks[20];
    for (int i = 0; i < 20; i++) {
        values[i] = 1000 + i;
        tasks[i] = spawn_in(runtime, keep_errno, &values[i]);
    }
    for (int i = 0; i < 20; i++) {
        int error = finish_task(tasks[i]).error;
        cr_assert_eq(error, 0, "line %d", -error - 10000);
    }
    cr_log_info("resumed %d times on another worker\n", atomic_load(&moved));
    cr_assert_gt(atomic_load(&moved), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
