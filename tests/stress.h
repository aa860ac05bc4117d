/* What the programs stress_*.c share: `[SEED [SECONDS]]`, numbers that follow from the seed, and somebody who sees when nothing goes on. */
#ifndef WEFT_STRESS_H
#define WEFT_STRESS_H

#include "testing.h"

#include "os.h"

struct stress {
    uint64_t seed;
    int64_t end_ns;
};

static inline uint64_t next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Says the seed at once: a run that hangs or crashes can be begun again. */
static inline struct stress stress_begin(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)os_now();
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : weft_test_full() ? 60 : 2;
    (void)printf("seed %llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    return (struct stress){ seed, os_now() + seconds * INT64_C(1000000000) };
}

static inline bool stress_goes_on(const struct stress *stress) { return os_now() < stress->end_ns; }

/* Ends the process if `rounds` stands still for twenty seconds; `report` tells of what. The program ends it by setting `over`. */
struct stress_watch {
    const struct stress *stress;
    _Atomic uint64_t rounds;
    _Atomic uint32_t over;
    void (*report)(void);
    struct os_thread thread;
};

static inline void stress_watch_run(void *arg)
{
    enum { PATIENCE_S = 20 };
    struct stress_watch *watch = arg;
    uint64_t before = UINT64_MAX, now;
    int64_t since = os_now();
    while (a_load(&watch->over, SEQ_CST) == 0) {
        now = a_load(&watch->rounds, SEQ_CST);
        if (now != before) {
            before = now;
            since = os_now();
        } else if (os_now() - since > PATIENCE_S * INT64_C(1000000000)) {
            (void)fprintf(stderr, "seed %llu: round %llu hangs\n", (unsigned long long)watch->stress->seed,
                          (unsigned long long)now);
            watch->report();
            abort();
        }
        (void)os_futex_wait(&watch->over, 0, os_now() + 100000000);
    }
}

static inline void stress_watch_begin(struct stress_watch *watch)
{
    if (os_thread_start(&watch->thread, stress_watch_run, watch, "watcher") != 0) {
        abort();
    }
}

static inline void stress_watch_end(struct stress_watch *watch)
{
    a_store(&watch->over, 1u, SEQ_CST);
    os_futex_wake(&watch->over, 1);
    os_thread_join(watch->thread);
}

#endif
