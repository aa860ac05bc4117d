/* os.h on Linux: clock, futex, memory, threads, fork. How many processors there are is in os_cpus.c.
 *
 * Nothing here knows what a task or a worker is. Errors of system calls that only our own mistake can cause end the process. */
#include "os.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* ---- Time ---- */

int64_t os_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Both clocks at one moment: of several tries the one least disturbed. */
static void read_both(int64_t *ns, uint64_t *cycles)
{
    int64_t narrowest = INT64_MAX;
    for (int i = 0; i < 8; i++) {
        int64_t before = os_now();
        uint64_t between = weft_cpu_cycles();
        int64_t after = os_now();
        if (after - before < narrowest) {
            narrowest = after - before;
            *ns = before + narrowest / 2;
            *cycles = between;
        }
    }
}

uint64_t os_cycles_per_us(void)
{
    static _Atomic uint64_t measured; /* two threads may both measure: the first result stays, so that it never changes */
    uint64_t rate = a_load(&measured, RELAXED);
    if (rate != 0) {
        return rate;
    }
    const int64_t window_ns = 500000; /* the readings are good to some 50 ns, so the rate is to 0.01 % */
    int64_t ns0 = 0, ns1 = 0;
    uint64_t cycles0 = 0, cycles1 = 0;
    read_both(&ns0, &cycles0);
    while (os_now() < ns0 + window_ns) {
        weft_cpu_relax();
    }
    read_both(&ns1, &cycles1);
    uint64_t elapsed = (uint64_t)(ns1 - ns0);
    uint64_t found = ((cycles1 - cycles0) * 1000 + elapsed / 2) / elapsed;
    found = found > 0 ? found : 1;
    return a_cas(&measured, &rate, found, RELAXED, RELAXED) ? found : rate;
}

/* ---- Futex ---- */

/* Neither changes errno, which is the fiber's: a lock may sleep between the end of a wait and its caller (H08). */
int os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    struct timespec until;
    struct timespec *timeout = NULL;
    if (deadline != OS_FOREVER) {
        int64_t ns = deadline > 0 ? deadline : 0;
        until = (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
        timeout = &until;
    }
    const int kept = errno;
    for (;;) {
        /* WAIT_BITSET, since its timeout is absolute and on the monotonic clock (H27). */
        long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
        const int error = rc == 0 ? 0 : errno;
        errno = kept;
        if (error == 0 || error == EAGAIN || error == EINTR) {
            return 0; /* the caller looks at its word again (H26) */
        }
        if (error != ETIMEDOUT) {
            weft_panic("futex wait: errno %d", error);
        }
        if (os_now() >= deadline) {
            return -ETIMEDOUT;
        }
    }
}

void os_futex_wake(const _Atomic uint32_t *word, unsigned n)
{
    const int kept = errno;
    (void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n < INT_MAX ? n : (unsigned)INT_MAX, NULL, NULL, 0);
    errno = kept;
}

void os_thread_yield(void) { (void)sched_yield(); }

/* ---- Memory ---- */

void *os_map(size_t size_bytes)
{
    void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return NULL;
    }
    /* A huge page would make one touched byte of one stack cost 2 MiB (H19). A kernel without huge pages refuses: all the same. */
    (void)madvise(base, size_bytes, MADV_NOHUGEPAGE);
    return base;
}

void os_unmap(void *base, size_t size_bytes)
{
    if (munmap(base, size_bytes) != 0) {
        weft_panic("munmap: errno %d", errno);
    }
}

size_t os_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* Whether the kernel guards, tried on a page of its own: user-mode emulators accept advice that they do not know and do nothing. A
 * system call that would write to the page says whether it is guarded, without a signal. */
static bool try_guard(void)
{
    size_t page = os_page_size();
    void *base = os_map(page);
    if (base == NULL) {
        return false;
    }
    bool guards =
        madvise(base, page, MADV_GUARD_INSTALL) == 0 && syscall(SYS_clock_gettime, CLOCK_MONOTONIC, base) == -1 && errno == EFAULT;
    os_unmap(base, page);
    return guards;
}

bool os_guard_madvise(void *base, size_t size_bytes)
{
    enum { UNKNOWN, GUARDS, DOES_NOT };
    static _Atomic int answer;
    int known = a_load(&answer, RELAXED);
    if (known == UNKNOWN) {
        known = try_guard() ? GUARDS : DOES_NOT;
        a_store(&answer, known, RELAXED);
    }
    return known == GUARDS && madvise(base, size_bytes, MADV_GUARD_INSTALL) == 0;
}

bool os_guard_mprotect(void *base, size_t size_bytes) { return mprotect(base, size_bytes, PROT_NONE) == 0; }

void os_discard(void *base, size_t size_bytes)
{
    if (size_bytes > 0 && madvise(base, size_bytes, MADV_DONTNEED) != 0) {
        memset(base, 0, size_bytes); /* locked memory (mlockall) cannot go back, but the content is promised */
    }
}

size_t os_max_mappings(void)
{
    size_t limit = 65530; /* the kernel's default */
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        if (fscanf(file, "%zu", &limit) != 1) {
            limit = 65530;
        }
        (void)fclose(file);
    }
    return limit;
}

/* ---- Threads ---- */

#define NAME_BYTES 16 /* what the kernel keeps, with the zero */

struct start {
    void (*entry)(void *);
    void *arg;
    char name[NAME_BYTES];
};

static void *thread_main(void *opaque)
{
    struct start start = *(struct start *)opaque;
    free(opaque);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL); /* a cancelled worker would take its fibers with it (H41) */
    (void)pthread_setname_np(pthread_self(), start.name);
    start.entry(start.arg);
    return NULL;
}

/* Every signal but those that the thread itself causes: blocked, they would kill the process without running a handler. */
static void asynchronous_signals(sigset_t *set)
{
    static const int caused[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
    (void)sigfillset(set);
    for (size_t i = 0; i < sizeof(caused) / sizeof(caused[0]); i++) {
        (void)sigdelset(set, caused[i]);
    }
}

/* The thread's own stack has the system's default size: helper threads run users' functions on it, and it is only address space. */
int os_thread_start(struct os_thread *thread, void (*entry)(void *), void *arg, const char *name)
{
    struct start *start = malloc(sizeof(*start));
    if (start == NULL) {
        return -ENOMEM;
    }
    *start = (struct start){ .entry = entry, .arg = arg };
    (void)snprintf(start->name, sizeof(start->name), "%s", name != NULL ? name : "weft");

    sigset_t blocked, before;
    asynchronous_signals(&blocked);
    (void)pthread_sigmask(SIG_BLOCK, &blocked, &before); /* inherited, so there is no moment when it could take one (H38) */
    pthread_t id;
    int rc = pthread_create(&id, NULL, thread_main, start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(start);
        return -rc;
    }
    thread->opaque = (uint64_t)id;
    return 0;
}

void os_thread_join(struct os_thread thread)
{
    int rc = pthread_join((pthread_t)thread.opaque, NULL);
    if (rc != 0) {
        weft_panic("pthread_join: error %d", rc);
    }
}

void os_thread_detach(struct os_thread thread)
{
    int rc = pthread_detach((pthread_t)thread.opaque);
    if (rc != 0) {
        weft_panic("pthread_detach: error %d", rc);
    }
}

void os_thread_id(struct os_thread *self) { self->opaque = (uint64_t)pthread_self(); }

bool os_thread_is(struct os_thread thread) { return pthread_equal((pthread_t)thread.opaque, pthread_self()) != 0; }

bool os_shadow_stack_active(void)
{
#ifdef SYS_arch_prctl
    enum { SHADOW_STACK_STATUS = 0x5005, SHADOW_STACK_ENABLED = 1 };
    unsigned long features = 0;
    return syscall(SYS_arch_prctl, SHADOW_STACK_STATUS, &features) == 0 && (features & SHADOW_STACK_ENABLED) != 0;
#else
    return false;
#endif
}

/* ---- Fork ---- */

/* | O1 | store of a hook | O2 | a fork runs a hook whose data it does not see | */
_Atomic uint32_t os_forks;
static void (*_Atomic prepare_hook)(void);
static void (*_Atomic resume_hook)(void);

static void run_hook(void (*_Atomic *hook)(void))
{
    void (*function)(void) = a_load(hook, ACQUIRE); /* O2, pairs with O1 */
    if (function != NULL) {
        function();
    }
}

static void before_fork(void) { run_hook(&prepare_hook); }
static void after_fork_in_parent(void) { run_hook(&resume_hook); }

static void after_fork_in_child(void)
{
    (void)a_add(&os_forks, 1u, RELAXED); /* the child has one thread */
    run_hook(&resume_hook);
}

/* At load, so that no fork comes before it. */
__attribute__((constructor)) static void watch_forks(void)
{
    int rc = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (rc != 0) {
        weft_panic("pthread_atfork: error %d", rc);
    }
}

void os_fork_hooks(void (*prepare)(void), void (*resume)(void))
{
    a_store(&prepare_hook, prepare, RELEASE); /* O1, pairs with O2 */
    a_store(&resume_hook, resume, RELEASE);   /* O1, pairs with O2 */
}

/* ---- Messages ---- */

void os_write_stderr(const char *text, size_t length)
{
    int saved = errno; /* also called from signal handlers */
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            break;
        }
        text += written;
        length -= (size_t)written;
    }
    errno = saved;
}
