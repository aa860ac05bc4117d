/* src/os.h on the virtual clock: what src/os_linux.c does with the kernel, done with logical threads. src/overflow.h does nothing.
 *
 * The futex is atomic: between the comparison and falling asleep there is no point. Which sleeper wakes is a choice. */
#include "os.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "overflow.h"

#define SITE __builtin_return_address(0)

int64_t os_now(void) { return sim->now; }

/* Each look at the cycle counter costs 10 us of it, so that the 50 us of a spin are five rounds. */
uint64_t os_cycles_per_us(void) { return 1000; }
uint64_t sim_cycles(void) { return sim->cycles += 10000; }

int os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    sim_step("sleep", word, SITE);
    if (atomic_load_explicit(word, memory_order_relaxed) != expected) {
        return 0;
    }
    if (deadline <= sim->now) {
        return -ETIMEDOUT;
    }
    if (!sim->inside) {
        sim_fail("the setup of a kernel blocks");
    }
    struct sim_thread *self = sim->current;
    self->state = SIM_SLEEPING;
    self->word = word;
    self->deadline = deadline;
    sim->ready &= ~sim_bit(self);
    sim->sleeping |= sim_bit(self);
    if (deadline != OS_FOREVER) {
        sim->timed |= sim_bit(self);
    }
    sim_pass();
    return self->result;
}

void os_futex_wake(const _Atomic uint32_t *word, unsigned n)
{
    sim_step("wake", word, SITE);
    while (n-- > 0) {
        struct sim_thread *waiting[SIM_MAX_THREADS];
        unsigned found = 0;
        for (uint64_t set = sim->sleeping; set != 0; set &= set - 1) {
            struct sim_thread *thread = &sim->threads[__builtin_ctzll(set)];
            if (thread->word == word) {
                waiting[found++] = thread;
            }
        }
        if (found == 0) {
            return;
        }
        sim_wake(waiting[found == 1 ? 0 : sim_choose(found)], 0);
    }
}

void os_thread_yield(void)
{
    if (sim->inside) {
        sim_strategy_spun(sim->current);
        sim_step("yield", NULL, SITE);
    }
}

void *os_map(size_t size_bytes) { return sim_map(size_bytes); }
void os_unmap(void *base, size_t size_bytes) { sim_clear(base, size_bytes); }
size_t os_page_size(void) { return 4096; }
size_t os_max_mappings(void) { return 65530; }

/* Guards would have to be taken away before the next run, and kernels do not overflow their stacks. */
bool os_guard_madvise(void *base, size_t size_bytes)
{
    (void)base, (void)size_bytes;
    return true;
}

bool os_guard_mprotect(void *base, size_t size_bytes)
{
    (void)base, (void)size_bytes;
    return false;
}

void os_discard(void *base, size_t size_bytes) { sim_clear(base, size_bytes); }

int os_thread_start(struct os_thread *thread, void (*entry)(void *), void *arg, const char *name)
{
    sim_step("start", NULL, SITE);
    struct sim_thread *started = sim_start(entry, arg, name);
    if (started == NULL) {
        return -EAGAIN;
    }
    thread->opaque = (uint64_t)(started - sim->threads);
    return 0;
}

void os_thread_detach(struct os_thread thread) { (void)thread; }

void os_thread_join(struct os_thread thread)
{
    struct sim_thread *other = &sim->threads[thread.opaque];
    struct sim_thread *self = sim->current;
    sim_step("join", NULL, SITE);
    if (other->state != SIM_ENDED) {
        if (!sim->inside) {
            sim_fail("the setup of a kernel blocks");
        }
        self->state = SIM_JOINING;
        self->joined = other;
        sim->ready &= ~sim_bit(self);
        sim_pass();
    }
    other->forgotten = true;
}

void os_thread_id(struct os_thread *self) { self->opaque = (uint64_t)(sim->current - sim->threads); }
bool os_thread_is(struct os_thread thread) { return sim->current == &sim->threads[thread.opaque]; }

unsigned os_cpu_count(void) { return 2; }

unsigned os_cpu_quota(const char *cgroup_file, const char *mount_root)
{
    (void)cgroup_file, (void)mount_root;
    return 0;
}

bool os_shadow_stack_active(void) { return false; }
_Atomic uint32_t os_forks;

void os_fork_hooks(void (*prepare)(void), void (*resume)(void)) { (void)prepare, (void)resume; }

void os_write_stderr(const char *text, size_t length)
{
    ssize_t written = write(STDERR_FILENO, text, length);
    (void)written;
}

/* src/thread.c keeps the current thread's state here. */
void *sim_tls_get(void);
void sim_tls_set(void *value);
void *sim_tls_get(void) { return sim->current->tls; }
void sim_tls_set(void *value) { sim->current->tls = value; }

int weft_overflow_install(weft_overflow_query *query)
{
    (void)query;
    return 0;
}

int weft_overflow_thread_enter(void) { return 0; }
void weft_overflow_thread_leave(void) {}

void weft_overflow_die(const struct weft_overflow *what)
{
    sim_fail("the stack of '%s' overflowed", what->task_name ? what->task_name : "");
}
