/* A simulator of weft's real sources: what a kernel (a small concurrent program with a check at its end) sees.
 *
 * The sources are compiled with -DWEFT_SIM, so that every atomic access first calls sim_point, and are linked to os_sim.c in place
 * of src/os_linux.c. Threads are contexts on one OS thread; at each point the simulator chooses who goes on, from a seed. A run is
 * nothing but its sequence of choices, which is why it can be repeated exactly. Memory is sequentially consistent: what a weaker
 * memory would do is not seen here, and neither are races on plain variables between two points.
 *
 * Before each run all static variables, the kernel's too, and all allocations are put back to what they were when the program
 * started. A kernel's own bookkeeping uses plain variables: no other thread runs between two points. */
#ifndef WEFT_SIM_H
#define WEFT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_kernel {
    const char *name;
    void (*setup)(void);   /* before each run; spawns the first threads; on the simulator's own stack, so it must not block */
    void (*check)(void);   /* after each run, when every thread has ended; NULL = nothing to check */
    void (*observe)(void); /* at each point, before another thread may run: sees every state that any thread could; or NULL */
    uint64_t length;       /* points of a typical run: PCT spreads its priority changes over them */
    uint64_t max_steps;    /* points after which a run counts as a livelock; 0 = 200,000 */
    int64_t tick;          /* the clock may also jump this far while nobody sleeps with a deadline; 0 = it does not */
};

/* The main function of a kernel's executable; README.md lists the options. 0 = no failure, 1 = a failure, 2 = wrong usage. */
int sim_main(int argc, char **argv, const struct sim_kernel *kernel);

/* Starts a logical thread; from setup or from another logical thread. */
void sim_spawn(void (*entry)(void *), void *arg, const char *name);
/* A number below n (1 to 128) that is part of the run: kernels vary their scenario with it. */
unsigned sim_choose(unsigned n);
/* A point of its own, for kernels. */
void sim_yield(void);
/* The same for a loop that waits for another thread: somebody else goes on. */
void sim_spin(void);
/* Counts how often a run came here; the totals are printed at the end. The text is compared by address. */
void sim_count(const char *what);

/* Allocations that nobody has freed yet in this run. */
size_t sim_live_allocations(void);

/* Ends the run as failed, and with it the process. */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SIM_CHECK(condition) ((condition) ? (void)0 : sim_fail("%s:%d: %s", __FILE__, __LINE__, #condition))

#endif
