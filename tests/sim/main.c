/* The command line of every kernel, and the loop over seeds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define SILENCE_SECONDS 30u

enum plan { PLAN_BOTH, PLAN_RANDOM, PLAN_PCT };

/* Hashes of the schedules seen, to say how many were different: a table that forgets nothing until it is nearly full. */
#define SEEN_SLOTS ((size_t)1 << 20)
static uint64_t *seen;

static bool is_new_schedule(void)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sim->length; i++) {
        hash = (hash ^ sim->schedule[i]) * UINT64_C(0x100000001b3);
    }
    hash |= 1;
    size_t slot = hash >> 44;
    while (seen[slot] != 0 && seen[slot] != hash) {
        slot = (slot + 1) % SEEN_SLOTS;
    }
    bool found = seen[slot] != 0;
    seen[slot] = hash;
    return !found;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--seeds N] [--first SEED] [--strategy random|pct|both] [--seconds S] [--trace]\n"
            "       %s --replay FILE [--trace]\n",
            program, program);
    return 2;
}

int sim_main(int argc, char **argv, const struct sim_kernel *kernel)
{
    sim_memory_begin();
    uint64_t first = 1, seeds = 1000;
    enum plan plan = PLAN_BOTH;
    unsigned seconds = 0;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(option, "--trace") == 0) {
            sim->tracing = true;
            continue;
        }
        if (value == NULL) {
            return usage(argv[0]);
        }
        if (strcmp(option, "--seeds") == 0) {
            seeds = strtoull(value, NULL, 10);
        } else if (strcmp(option, "--first") == 0) {
            first = strtoull(value, NULL, 10);
        } else if (strcmp(option, "--seconds") == 0) {
            seconds = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(option, "--strategy") == 0) {
            plan = strcmp(value, "random") == 0 ? PLAN_RANDOM : strcmp(value, "pct") == 0 ? PLAN_PCT : PLAN_BOTH;
        } else if (strcmp(option, "--replay") == 0) {
            sim_schedule_read(value);
            seeds = 1;
        } else {
            return usage(argv[0]);
        }
        i++;
    }
    seen = sim_outside(SEEN_SLOTS * sizeof *seen);
    sim_catch_signals();
    sim_memory_freeze();
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    double elapsed = 0;
    uint64_t runs = 0, steps = 0, different = 0;
    while (runs < seeds && (seconds == 0 || elapsed < seconds)) {
        if (runs % 256 == 0) {
            alarm(SILENCE_SECONDS);
        }
        uint64_t seed = first + runs;
        bool pct = plan == PLAN_PCT || (plan == PLAN_BOTH && seed % 2 == 1);
        sim_run(kernel, seed, pct ? SIM_PCT : SIM_RANDOM);
        different += different < SEEN_SLOTS * 3 / 4 && is_new_schedule();
        steps += sim->step;
        runs++;
        clock_gettime(CLOCK_MONOTONIC, &now);
        elapsed = (double)(now.tv_sec - begin.tv_sec) + 1e-9 * (double)(now.tv_nsec - begin.tv_nsec);
    }
    alarm(0);
    printf("sim_%s: %llu runs (%s%llu different), %llu points a run, %.2f s, no failure\n", kernel->name, (unsigned long long)runs,
           different < SEEN_SLOTS * 3 / 4 ? "" : "at least ", (unsigned long long)different,
           (unsigned long long)(runs ? steps / runs : 0), elapsed);
    sim_report_counts();
    return 0;
}
