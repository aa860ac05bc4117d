/* os: what every layer above takes for granted about clock, futex, memory, threads and fork. */
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "child.h"
#include "memory.h"
#include "os.h"

/* ---- Time ---- */

Test(os, now_is_the_monotonic_clock_H27)
{
    struct timespec t;
    int64_t before = os_now();
    cr_assert_eq(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    int64_t after = os_now();
    int64_t between = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
    cr_assert(before <= between && between <= after);
}

Test(os, cycle_counter_is_calibrated_once)
{
    uint64_t rate = os_cycles_per_us();
    double best = 1; /* of several tries: any of them may be interrupted between its two readings */
    for (int i = 0; i < 10; i++) {
        int64_t begin = os_now();
        uint64_t cycles = weft_cpu_cycles();
        while (os_now() < begin + 2000000) {
        }
        cycles = weft_cpu_cycles() - cycles;
        double expected = (double)(os_now() - begin) * (double)rate / 1000;
        double off = (double)cycles > expected ? (double)cycles / expected - 1 : 1 - (double)cycles / expected;
        best = off < best ? off : best;
    }
    cr_assert_lt(best, 0.01);
    cr_assert_eq(os_cycles_per_us(), rate);
}

/* ---- Futex ---- */

static _Atomic uint32_t word;
static _Atomic int stage;

Test(os, futex_wait_returns_when_the_word_differs_H26)
{
    a_store(&word, 5, RELAXED);
    cr_assert_eq(os_futex_wait(&word, 4, OS_FOREVER), 0);
    cr_assert_eq(os_futex_wait(&word, 4, 0), 0);
}

Test(os, futex_calls_leave_errno_alone_H08)
{
    a_store(&word, 1u, RELAXED);
    errno = 4711;
    cr_assert_eq(os_futex_wait(&word, 0, OS_FOREVER), 0, "the word differs");
    cr_assert_eq(errno, 4711);
    cr_assert_eq(os_futex_wait(&word, 1, os_now() + 1), -ETIMEDOUT);
    cr_assert_eq(errno, 4711);
    os_futex_wake(NULL, 1); /* nothing is there */
    cr_assert_eq(errno, 4711);
}

Test(os, futex_wait_never_ends_before_its_deadline_H27)
{
    for (int i = 0; i < 50; i++) {
        int64_t deadline = os_now() + 50000 + i * 1001;
        int rc;
        while ((rc = os_futex_wait(&word, 0, deadline)) == 0) { /* spurious */
        }
        cr_assert_eq(rc, -ETIMEDOUT);
        cr_assert_geq(os_now(), deadline);
    }
}

Test(os, futex_wait_with_a_past_deadline_ends_at_once_H27, .timeout = 10)
{
    cr_assert_eq(os_futex_wait(&word, 0, 1), -ETIMEDOUT);
    cr_assert_eq(os_futex_wait(&word, 0, 0), -ETIMEDOUT);
    cr_assert_eq(os_futex_wait(&word, 0, -1), -ETIMEDOUT);
    cr_assert_eq(os_futex_wait(&word, 0, INT64_MIN), -ETIMEDOUT);
}

static void wait_for_word(void *arg)
{
    int64_t deadline = *(int64_t *)arg;
    while (a_load(&word, ACQUIRE) == 0) {
        cr_assert_eq(os_futex_wait(&word, 0, deadline), 0);
    }
    a_add(&stage, 1, RELEASE);
}

Test(os, futex_wake_wakes_waiters_with_and_without_a_deadline)
{
    int64_t deadlines[] = { OS_FOREVER, os_now() + INT64_C(3600) * 1000000000, OS_FOREVER - 1 };
    struct os_thread threads[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(os_thread_start(&threads[i], wait_for_word, &deadlines[i], "waiter"), 0);
    }
    cr_assert_eq(a_load(&stage, RELAXED), 0);
    a_store(&word, 1, RELEASE);
    os_futex_wake(&word, UINT32_MAX);
    for (int i = 0; i < 3; i++) {
        os_thread_join(threads[i]);
    }
    cr_assert_eq(a_load(&stage, RELAXED), 3);
}

static _Atomic int handled;

static void on_signal(int signal)
{
    (void)signal;
    a_add(&handled, 1, RELAXED);
}

static void *wait_interrupted(void *arg)
{
    *(int *)arg = os_futex_wait(&word, 0, OS_FOREVER);
    a_store(&stage, 1, RELEASE);
    return NULL;
}

/* A handler without SA_RESTART ends the system call: that is a spurious wake for the caller, not a timeout and not a failure. */
Test(os, futex_wait_interrupted_by_a_signal_returns_0_H26)
{
    struct sigaction action = { .sa_handler = on_signal };
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    int rc = 1;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, wait_interrupted, &rc), 0);
    while (a_load(&stage, ACQUIRE) == 0) { /* until one came while it slept */
        (void)pthread_kill(thread, SIGUSR1);
        os_thread_yield();
    }
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(rc, 0);
    cr_assert_gt(a_load(&handled, RELAXED), 0);
}

/* ---- Memory ---- */

Test(os, mapped_memory_is_zero_and_not_yet_resident)
{
    size_t bytes = (size_t)256 << 20;
    char *base = os_map(bytes);
    cr_assert_not_null(base);
    cr_assert_eq(memory_resident_pages(base, bytes / 64), 0);
    for (size_t i = 0; i < bytes; i += bytes / 16) {
        cr_assert_eq(base[i], 0);
    }
    os_unmap(base, bytes);
    cr_assert(memory_faults(base));
}

/* VmFlags of the mapping that begins at or holds `address`. */
static bool has_vm_flag(const void *address, const char *flag)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    cr_assert_not_null(file);
    char line[512];
    bool inside = false, found = false;
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long low, high;
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2) {
            inside = low <= (uintptr_t)address && (uintptr_t)address < high;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, flag) != NULL;
        }
    }
    (void)fclose(file);
    return found;
}

Test(os, mapped_memory_takes_no_huge_pages_H19)
{
    void *base = os_map((size_t)8 << 20);
    void *plain = mmap(NULL, (size_t)8 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool kernel_has_them = madvise(plain, os_page_size(), MADV_NOHUGEPAGE) == 0;
    cr_assert_eq(has_vm_flag(base, " nh"), kernel_has_them);
    os_unmap(base, (size_t)8 << 20);
}

Test(os, mapping_fails_with_null) { cr_assert_null(os_map(SIZE_MAX / 2)); }

Test(os, discarded_memory_goes_back_and_is_zero_H19)
{
    size_t bytes = 8 * os_page_size();
    char *base = os_map(bytes);
    memset(base, 'x', bytes);
    cr_assert_eq(memory_resident_pages(base, bytes), 8);
    os_discard(base + os_page_size(), bytes - os_page_size());
    cr_assert_eq(memory_resident_pages(base, bytes), 1);
    cr_assert_eq(base[0], 'x');
    for (size_t i = os_page_size(); i < bytes; i++) {
        cr_assert_eq(base[i], 0);
    }
    os_unmap(base, bytes);
}

Test(os, discarded_memory_is_zero_even_if_locked)
{
    char *base = os_map(os_page_size());
    if (mlock(base, os_page_size()) != 0) {
        cr_skip("mlock is not allowed here");
    }
    memset(base, 'x', os_page_size());
    os_discard(base, os_page_size());
    for (size_t i = 0; i < os_page_size(); i++) {
        cr_assert_eq(base[i], 0);
    }
    os_unmap(base, os_page_size());
}

static void check_guard(bool (*guard)(void *, size_t))
{
    size_t page = os_page_size();
    char *base = os_map(4 * page);
    memset(base, 'x', 4 * page);
    cr_assert_not(memory_faults(base + page));
    cr_assert(guard(base + page, 2 * page));
    cr_assert_not(memory_faults(base + page - 1));
    cr_assert(memory_faults(base + page));
    cr_assert(memory_faults(base + 3 * page - 1));
    cr_assert_not(memory_faults(base + 3 * page));
    os_unmap(base, 4 * page);
}

Test(os, mprotect_guard_faults_on_touch) { check_guard(os_guard_mprotect); }

Test(os, madvise_guard_faults_on_touch_or_is_refused)
{
    if (memory_has_guards()) {
        check_guard(os_guard_madvise);
    } else {
        char *base = os_map(os_page_size());
        cr_assert_not(os_guard_madvise(base, os_page_size()));
        os_unmap(base, os_page_size());
    }
}

Test(os, max_mappings_is_what_the_system_says)
{
    size_t expected = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file == NULL) {
        cr_skip("no /proc");
    }
    cr_assert_eq(fscanf(file, "%zu", &expected), 1);
    (void)fclose(file);
    cr_assert_eq(os_max_mappings(), expected);
}

/* ---- Threads ---- */

struct seen {
    sigset_t mask;
    int cancel_state;
    char name[64];
    struct os_thread self;
    bool is_self, is_other;
    struct os_thread other;
};

static void look(void *arg)
{
    struct seen *seen = arg;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &seen->cancel_state);
    (void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    os_thread_id(&seen->self);
    seen->is_self = os_thread_is(seen->self);
    seen->is_other = os_thread_is(seen->other);
}

static struct seen look_from_thread(const char *name)
{
    struct seen seen = { .cancel_state = -1 };
    os_thread_id(&seen.other);
    struct os_thread thread;
    cr_assert_eq(os_thread_start(&thread, look, &seen, name), 0);
    os_thread_join(thread);
    cr_assert_eq(thread.opaque, seen.self.opaque);
    return seen;
}

Test(os, threads_have_asynchronous_signals_blocked_and_faults_not_H38)
{
    sigset_t before, after;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct seen seen = look_from_thread("signals");
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
    static const int blocked[] = {
        SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGPROF, SIGWINCH
    };
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        cr_assert_eq(sigismember(&seen.mask, faults[i]), 0, "signal %d", faults[i]);
    }
    for (size_t i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++) {
        cr_assert_eq(sigismember(&seen.mask, blocked[i]), 1, "signal %d", blocked[i]);
    }
    cr_assert_eq(sigismember(&seen.mask, SIGRTMIN), 1);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal < SIGRTMAX; signal++) {
        cr_assert_eq(sigismember(&before, signal), sigismember(&after, signal), "the caller's mask is as it was: %d", signal);
    }
}

Test(os, threads_cannot_be_cancelled_H41) { cr_assert_eq(look_from_thread("cancel").cancel_state, PTHREAD_CANCEL_DISABLE); }

Test(os, threads_are_named)
{
    cr_assert_str_eq(look_from_thread("weft/0").name, "weft/0");
    cr_assert_str_eq(look_from_thread("a name that is too long").name, "a name that is ", "cut, not refused");
}

Test(os, a_thread_knows_itself)
{
    struct seen seen = look_from_thread("self");
    cr_assert(seen.is_self);
    cr_assert_not(seen.is_other);
    cr_assert_not(os_thread_is(seen.self));
}

Test(os, thread_that_cannot_start_is_an_error_H35)
{
    struct seen seen = { .cancel_state = -1 };
    struct os_thread thread;
    if (!memory_limit(1 << 20)) { /* a stack takes more */
        cr_skip("the address space cannot be limited here");
    }
    int rc = os_thread_start(&thread, look, &seen, "never");
    memory_unlimit();
    cr_assert_eq(rc, -EAGAIN);
    cr_assert_eq(seen.cancel_state, -1);
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    cr_assert_eq(sigismember(&mask, SIGTERM), 0, "the mask is restored");
    (void)look_from_thread("now it works");
}

Test(os, shadow_stack_is_what_the_kernel_says_H11)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[512];
    bool active = false;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        active = active || (strncmp(line, "x86_Thread_features:", 20) == 0 && strstr(line, "shstk") != NULL);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    cr_assert_eq(os_shadow_stack_active(), active);
}

/* ---- Fork ---- */

static int prepared, resumed;
static uint32_t resumed_in;
static void prepare(void) { prepared++; }
static void resume(void)
{
    resumed++;
    resumed_in = os_fork_generation();
}

static void in_child(void)
{
    uint32_t mine = os_fork_generation();
    (void)fprintf(stderr, "%u %d %d %u\n", mine, prepared, resumed, resumed_in);
}

Test(os, a_child_has_another_generation_H39)
{
    uint32_t before = os_fork_generation();
    os_fork_hooks(prepare, resume);
    struct child child = child_run(in_child);
    char expected[64];
    (void)snprintf(expected, sizeof(expected), "%u 1 1 %u\n", before + 1, before + 1);
    cr_assert_str_eq(child.text, expected);
    cr_assert_eq(os_fork_generation(), before, "the parent's stays");
    cr_assert_eq(prepared, 1);
    cr_assert_eq(resumed, 1);
    os_fork_hooks(NULL, NULL);
    child = child_run(in_child);
    cr_assert_eq(prepared, 1);
}

/* ---- Messages ---- */

static void write_much(void)
{
    static char text[3000];
    memset(text, 'm', sizeof(text));
    errno = 1234;
    os_write_stderr(text, sizeof(text));
    if (errno == 1234) {
        os_write_stderr("end", 3);
    }
    (void)close(STDERR_FILENO);
    os_write_stderr("nowhere to go", 13);
    _exit(errno == 1234 ? 0 : 1);
}

Test(os, stderr_gets_all_of_it_and_errno_stays)
{
    struct child child = child_run(write_much);
    cr_assert_eq(child.status, 0);
    cr_assert_eq(strlen(child.text), 3003);
    cr_assert_str_eq(child.text + 2997, "mmmend");
}
