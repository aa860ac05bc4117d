/* What the simulator's own files share: the state of a run. Kernels include sim.h alone. */
#ifndef WEFT_SIM_ENGINE_H
#define WEFT_SIM_ENGINE_H

#include <stddef.h>

#include "atomic.h"
#include "fcontext.h"
#include "sim.h"

#define SIM_MAX_THREADS 32u
#define SIM_MAX_STEPS 200000u
#define SIM_STACK_BYTES ((size_t)256 * 1024)
#define SIM_TRACE_EVENTS 4096u
#define SIM_COUNTERS 32u

/* A run is a string of these bytes: a thread goes on; the clock jumps; a sleeper wakes for no reason; a kernel's choice. */
#define SIM_TOKEN_CLOCK 64u
#define SIM_TOKEN_SPURIOUS 65u
#define SIM_TOKEN_CHOICE 128u

struct header;

enum sim_state { SIM_FREE, SIM_READY, SIM_SLEEPING, SIM_JOINING, SIM_ENDED };

struct sim_thread {
    enum sim_state state;
    fcontext_t context; /* while another thread runs */
    char *stack;        /* lowest address; kept from run to run */
    void (*entry)(void *);
    void *arg, *tls;
    char name[16];
    const _Atomic uint32_t *word; /* sleeping on it */
    int64_t deadline;             /* … until then */
    int result;                   /* … and this is what the futex returns */
    bool forgotten;               /* joined, so that its place may be used again */
    struct sim_thread *joined;    /* waiting for its end */
    int64_t priority;             /* PCT */
    const void *site;             /* the code that reached the last point */
    void *fake_stack;             /* AddressSanitizer's */
    const void *bounds_low;
    size_t bounds_bytes;
};

/* What --trace remembers of a point. */
struct sim_event {
    const char *what;
    char thread[16];
    const volatile void *address;
    const void *site;
    unsigned id;
    uint64_t step;
};

enum sim_strategy { SIM_RANDOM, SIM_PCT };

struct sim_engine {
    const struct sim_kernel *kernel;
    bool inside; /* on a logical thread */
    struct sim_thread threads[SIM_MAX_THREADS], outside, *current;
    unsigned n_threads;
    uint64_t ready, spinning, timed, sleeping; /* one bit per thread; spinning ⊆ ready, timed ⊆ sleeping */
    uint64_t step, max_steps;
    int64_t now;
    uint64_t cycles;

    uint64_t seed, random;
    enum sim_strategy strategy;
    unsigned depth;                             /* PCT: priority changes in this run */
    unsigned stay_mask, clock_chance, spurious; /* drawn per run: see strategy.c */
    bool preempts;
    uint64_t held, held_until;
    int64_t clock_priority, lowest_priority;
    uint64_t change_at[8];

    uint8_t *schedule;
    size_t length, capacity;
    bool replaying;
    size_t position;

    bool tracing;
    struct sim_event events[SIM_TRACE_EVENTS];
    uint64_t n_events;
    struct {
        const char *what;
        uint64_t times;
    } counters[SIM_COUNTERS];

    char *outside_next, *arena, *maps; /* memory.c: next free bytes */
    struct header *newest;             /* allocations of this run */
    size_t live;                       /* those not yet freed */
};

extern struct sim_engine *sim;

/* engine.c */
void sim_run(const struct sim_kernel *kernel, uint64_t seed, enum sim_strategy strategy);
struct sim_thread *sim_start(void (*entry)(void *), void *arg, const char *name);
void sim_step(const char *what, const volatile void *address, const void *site);
void sim_pass(void); /* the current thread is not ready: somebody else goes on */
void sim_wake(struct sim_thread *thread, int result);
void sim_record(uint8_t token);
uint8_t sim_replayed(void);
void sim_clock_jump(void);
static inline uint64_t sim_bit(const struct sim_thread *thread) { return UINT64_C(1) << (thread - sim->threads); }

/* memory.c */
void sim_memory_begin(void);          /* once; makes `sim` */
void sim_memory_freeze(void);         /* once, last thing before the runs */
void sim_memory_reset(void);          /* before each run: all that weft and the kernel own is as it was when frozen */
void *sim_outside(size_t size_bytes); /* zeroed memory of the simulator, which a reset leaves alone */
void *sim_map(size_t size_bytes);
void sim_memory_check(void); /* after each run */
void sim_clear(void *base, size_t size_bytes);

/* strategy.c */
void sim_strategy_begin(void);
void sim_strategy_new_thread(struct sim_thread *thread);
void sim_strategy_spun(struct sim_thread *thread);
uint8_t sim_strategy_choose(void);
uint64_t sim_random(void);

/* report.c */
_Noreturn void sim_report_failure(const char *why);
void sim_trace_add(const char *what, const volatile void *address, const void *site);
void sim_report_counts(void);
void sim_catch_signals(void);
void sim_schedule_read(const char *path);

#endif
