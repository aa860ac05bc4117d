/* The seam to the operating system: all that weft asks of it, in one place (Linux: os_linux.c; simulator: tests/sim).
 *
 * Nothing here keeps state that the layers above share, except the calibration of the cycle counter. Times are int64 nanoseconds
 * of CLOCK_MONOTONIC; OS_FOREVER never comes. No function returns through errno: failures are negative errno values. */
#ifndef WEFT_OS_H
#define WEFT_OS_H

#include "atomic.h"

#define OS_FOREVER INT64_MAX

/* Time. */
int64_t os_now(void);
uint64_t os_cycles_per_us(void); /* of weft_cpu_cycles; measured at the first call */

/* Futex, private to the process. wait returns 0 when woken, spuriously (H26) or because *word was not `expected`; -ETIMEDOUT at
 * the absolute deadline, never before it. wake wakes at most n. */
int os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline);
void os_futex_wake(const _Atomic uint32_t *word, unsigned n);

/* Gives the rest of this thread's time slice away: for spins that wait for a preempted thread. */
void os_thread_yield(void);

/* Memory. `map` gives zeroed, unreserved, private memory without huge pages, or NULL. It is never unmapped while the process
 * lives except by `unmap` of a whole mapping. `guard` makes pages fault on touch and tells how: */
enum os_guard { OS_GUARD_MADVISE, OS_GUARD_MPROTECT, OS_GUARD_NONE };
void *os_map(size_t size_bytes);
void os_unmap(void *base, size_t size_bytes);
size_t os_page_size(void);
bool os_guard_madvise(void *base, size_t size_bytes);  /* MADV_GUARD_INSTALL (Linux 6.13): costs no mapping */
bool os_guard_mprotect(void *base, size_t size_bytes); /* costs two mappings */
void os_discard(void *base, size_t size_bytes);        /* the content becomes zero, the memory goes back */
size_t os_max_mappings(void);                          /* vm.max_map_count */

/* Threads. `thread_start` blocks asynchronous signals in the new thread (H38); it fails with a negative errno (H35). */
struct os_thread {
    uint64_t opaque;
};
int os_thread_start(struct os_thread *thread, void (*entry)(void *), void *arg, const char *name);
void os_thread_join(struct os_thread thread);
void os_thread_detach(struct os_thread thread); /* instead of joining it */
void os_thread_id(struct os_thread *self);
bool os_thread_is(struct os_thread thread);

/* How many workers this process deserves: min(affinity, cgroup v1 or v2 quota rounded up), at least 1 (H34). */
unsigned os_cpu_count(void);
unsigned os_cpu_quota(const char *cgroup_file, const char *mount_root); /* for tests: 0 = no quota */

/* True where the processor checks return addresses against a shadow stack, which fcontext does not switch (H11). */
bool os_shadow_stack_active(void);

/* Counts forks: the child of a fork sees a number that its parent does not (H39). `prepare` and `resume` run around fork in the
 * parent and the child, so that no lock of ours is held by a thread that the child does not have. */
extern _Atomic uint32_t os_forks;
static inline uint32_t os_fork_generation(void) { return a_load(&os_forks, RELAXED); }
void os_fork_hooks(void (*prepare)(void), void (*resume)(void));

/* Writes to standard error without allocating; safe in a signal handler. */
void os_write_stderr(const char *text, size_t length);

#endif
