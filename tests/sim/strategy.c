/* Who goes on at each point: a seeded choice.
 *
 * RANDOM takes any ready thread, and stays with the current one as often as this run's draw says; in half of the runs a thread is
 * now and then held back for a while, as if it were preempted, which is how late killers and late wakers come about. PCT
 * (Burckhardt, Kothari, Musuvathi and Nagarakatti, ASPLOS 2010) always runs the thread of the highest priority; priorities are
 * random, and at `depth` random points the running thread falls below all others; a bug that needs d ordered events is found with
 * probability at least 1/(n·k^(d-1)). Strict priorities starve, so whoever spins falls behind everybody, and a run far longer
 * than the kernel's typical length goes on at random.
 *
 * Two choices belong to no thread. The clock may jump to the earliest deadline although others could run, so that timeouts
 * collide with everything else; under PCT it has a priority of its own. A sleeper may wake without cause (H26): in some runs
 * only, and a few times only, because a spurious wake can hide a lost one. */
#include "engine.h"

#define FIRST_PRIORITY 64

uint64_t sim_random(void)
{
    uint64_t x = sim->random; /* xorshift64*, Vigna 2016 */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sim->random = x;
    return x * UINT64_C(0x2545f4914f6cdd1d) >> 24;
}

static int64_t random_priority(void) { return FIRST_PRIORITY + (int64_t)(sim_random() & 0xffffff); }

void sim_strategy_begin(void)
{
    struct sim_engine *e = sim;
    e->random = (e->seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 4; i++) {
        sim_random();
    }
    static const unsigned stay[] = { 0, 1, 3, 15 };
    static const unsigned chance[] = { 0, 4, 40, 256 }; /* of 1024 */
    e->stay_mask = stay[sim_random() % 4];
    e->clock_chance = chance[sim_random() % 4];
    e->spurious = sim_random() % 4 == 0 ? 2 : 0;
    e->preempts = sim_random() % 2 == 0;
    e->held = 0;
    e->depth = 1 + (unsigned)(sim_random() % 6);
    /* Events may all lie in a small part of the run, or after it was delayed: draw its length, too. */
    uint64_t length = (e->kernel->length ? e->kernel->length : 1000) * (1 + sim_random() % 4) / 2 + 1;
    for (unsigned i = 0; i < e->depth; i++) {
        e->change_at[i] = 1 + sim_random() % length;
    }
    e->clock_priority = random_priority();
    e->lowest_priority = 0;
}

void sim_strategy_new_thread(struct sim_thread *thread) { thread->priority = random_priority(); }

void sim_strategy_spun(struct sim_thread *thread)
{
    sim->spinning |= sim_bit(thread);
    thread->priority = --sim->lowest_priority;
}

static uint8_t nth_of(uint64_t set, uint64_t n)
{
    while (n-- > 0) {
        set &= set - 1;
    }
    return (uint8_t)__builtin_ctzll(set);
}

static uint8_t any_of(uint64_t set)
{
    unsigned count = (unsigned)__builtin_popcountll(set);
    return nth_of(set, count == 1 ? 0 : sim_random() % count);
}

/* At most one thread is held at a time. */
static void hold_or_release(uint64_t self)
{
    struct sim_engine *e = sim;
    uint64_t length = e->kernel->length ? e->kernel->length : 1000;
    if (e->held != 0 && (e->step >= e->held_until || (e->ready & ~e->held) == 0)) {
        e->held = 0;
    }
    if (e->held == 0 && self != 0 && sim_random() % length < 4) {
        e->held = self;
        e->held_until = e->step + sim_random() % (length / 2 + 2);
    }
}

static uint8_t choose_at_random(void)
{
    struct sim_engine *e = sim;
    uint64_t self = e->current != &e->outside ? sim_bit(e->current) & e->ready & ~e->spinning : 0;
    if (e->preempts) {
        hold_or_release(self);
        self &= ~e->held;
    }
    if (self != 0 && e->stay_mask != 0 && (sim_random() & e->stay_mask) != 0) {
        return (uint8_t)__builtin_ctzll(self);
    }
    bool can_jump = e->timed != 0 || e->kernel->tick != 0;
    if (can_jump && e->clock_chance != 0 && sim_random() % 1024 < e->clock_chance) {
        return SIM_TOKEN_CLOCK;
    }
    uint64_t free = e->ready & ~e->held;
    uint64_t candidates = free & ~e->spinning;
    if (candidates == 0) {
        /* Everybody waits: for one another, for time, or for ever. */
        if (e->ready == 0 || sim_random() % 4 == 0) {
            return SIM_TOKEN_CLOCK;
        }
        candidates = e->ready; /* the held one, too: it may be the one they spin for */
    } else if (e->spinning != 0 && sim_random() % 8 == 0) {
        candidates = free;
    }
    return any_of(candidates);
}

static uint8_t choose_by_priority(void)
{
    struct sim_engine *e = sim;
    for (unsigned i = 0; i < e->depth; i++) {
        if (e->change_at[i] == e->step && e->current != &e->outside) {
            e->current->priority = (int64_t)i + 1;
        }
    }
    uint8_t best = SIM_TOKEN_CLOCK;
    bool can_jump = e->timed != 0 || e->kernel->tick != 0;
    int64_t highest = can_jump ? e->clock_priority : INT64_MIN;
    for (uint64_t set = e->ready; set != 0; set &= set - 1) {
        unsigned i = (unsigned)__builtin_ctzll(set);
        if (e->threads[i].priority > highest) {
            highest = e->threads[i].priority;
            best = (uint8_t)i;
        }
    }
    if (best == SIM_TOKEN_CLOCK) {
        e->clock_priority = sim_random() % 2 ? random_priority() : --e->lowest_priority;
    }
    return best;
}

uint8_t sim_strategy_choose(void)
{
    struct sim_engine *e = sim;
    if (e->spurious != 0 && e->sleeping != 0 && sim_random() % 32 == 0) {
        e->spurious--;
        return (uint8_t)(SIM_TOKEN_SPURIOUS + any_of(e->sleeping));
    }
    uint64_t fair_after = 16 * (e->kernel->length ? e->kernel->length : 1000);
    return e->strategy == SIM_PCT && e->step < fair_after ? choose_by_priority() : choose_at_random();
}
