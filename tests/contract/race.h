/* Two calls at once, again and again, steered into each other's way: whoever came first has to wait a little longer next time, so
 * that the order soon changes from round to round. A round that ended otherwise than the one before is a hit: in between lies the
 * window. The delays follow from the seed (WEFT_TEST_SEED, else the clock), which is told with the hits at the end. */
#ifndef WEFT_CONTRACT_RACE_H
#define WEFT_CONTRACT_RACE_H

#include "contract.h"

enum { RACE_ROUNDS = 400 };

struct race {
    const char *name;
    uint64_t seed, state;
    _Atomic int64_t lead; /* ns that the second waits; the first, if negative */
    int64_t step;
    uint32_t first, second; /* rounds that each has won */
    uint32_t hits, rounds;
    bool last;
    int64_t until;
    _Atomic uint32_t ready;
};

static inline uint64_t race_random(struct race *race)
{
    race->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = race->state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void race_begin(struct race *race, const char *name)
{
    const char *text = getenv("WEFT_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)weft_now();
    *race = (struct race){ .name = name, .seed = seed, .state = seed, .step = 200, .until = weft_after(2 * WEFT_SEC) };
    size_t length = strlen(promise_where);
    (void)snprintf(promise_where + length - 1, sizeof promise_where - length, ", seed %llu\n", (unsigned long long)seed);
}

/* At least RACE_ROUNDS, and on until each has won; sanitizers and busy machines get fewer. */
static inline bool race_on(struct race *race)
{
    a_store(&race->ready, 0u, SEQ_CST);
    bool enough = race->rounds >= RACE_ROUNDS || weft_now() > race->until;
    return !enough || ((race->first == 0 || race->second == 0) && weft_now() < race->until + 5 * WEFT_SEC);
}

/* Both come here; each leaves in its time. */
static inline void race_start(struct race *race, bool second)
{
    int64_t wait = second ? race->lead : -race->lead;
    a_add(&race->ready, 1u, SEQ_CST);
    while (a_load(&race->ready, SEQ_CST) < 2) {
        weft_yield();
    }
    for (int64_t end = weft_now() + wait; wait > 0 && weft_now() < end;) {
    }
}

static inline void race_won(struct race *race, bool second)
{
    race->hits += race->rounds > 0 && second != race->last;
    race->step = race->rounds > 0 && second == race->last ? race->step * 3 / 2 + 1 : race->step / 2 + 1;
    if (race->step > 3 * WEFT_MSEC) {
        race->step = 3 * WEFT_MSEC;
    }
    int64_t by = race->step / 2 + (int64_t)(race_random(race) % (uint64_t)race->step);
    race->lead += second ? by : -by;
    race->last = second;
    *(second ? &race->second : &race->first) += 1;
    race->rounds++;
}

static inline void race_end(struct race *race)
{
    fprintf(stderr, "%s: %u rounds, %u to the first, %u to the second, %u hits, seed %llu\n", race->name, race->rounds, race->first,
            race->second, race->hits, (unsigned long long)race->seed);
    check(race->first > 0 && race->second > 0);
}

#endif
