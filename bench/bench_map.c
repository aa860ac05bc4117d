/* How near do maps come to the serial time divided by the workers?
 *
 * The caller is a task of the runtime, so `workers` counts every thread that takes part. A serial loop over the same function and a
 * map run by turns; the figure is map ÷ (serial ÷ workers) of each pair. */
#include <stdlib.h>
#include <string.h>
#include <weft.h>

#include "inside.h"
#include "measure.h"

enum {
    TINY_ITEMS = 10000000,
    SKEWED_ITEMS = 400000,
    ONE_IN = 64,
    LIGHT_STEPS = 20,
    HEAVY_STEPS = ONE_IN * LIGHT_STEPS,
    MOST_SAMPLES = 25
};

static struct bench bench;

static size_t n_samples(void) { return bench.quick ? 5 : 15; }

struct timing {
    unsigned workers;
    double ratio[MOST_SAMPLES], serial_ns[MOST_SAMPLES], map_ns[MOST_SAMPLES]; /* the latter two: per item */
};

/* The first pair warms up and is not counted. */
static void measure_pairs(struct timing *timing, size_t n, void (*serial)(void *arg), void (*map)(void *arg), void *arg)
{
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        int64_t t0 = now_ns();
        serial(arg);
        int64_t t1 = now_ns();
        map(arg);
        int64_t t2 = now_ns();
        size_t at = sample == 0 ? 0 : sample - 1;
        timing->serial_ns[at] = (double)(t1 - t0) / (double)n;
        timing->map_ns[at] = (double)(t2 - t1) / (double)n;
        timing->ratio[at] = timing->map_ns[at] / (timing->serial_ns[at] / timing->workers);
    }
}

static void report(struct timing *timing, const char *question, double budget)
{
    size_t n = n_samples();
    struct summary serial = summarise(timing->serial_ns, n);
    struct summary map = summarise(timing->map_ns, n);
    bench_report(&bench, question, timing->workers, "x ideal", timing->ratio, n, budget);
    bench_note("serial %.3f ns an item, map %.3f", serial.median, map.median);
}

/* 10^7 tiny items, range body. */

struct tiny {
    uint32_t *in, *out;
};

static int mix_range(void *ctx, size_t begin, size_t end)
{
    const struct tiny *tiny = ctx;
    for (size_t i = begin; i < end; i++) {
        uint32_t x = tiny->in[i];
        for (int round = 0; round < 3; round++) { /* three rounds of a hash: about 3 ns, some of it memory */
            x = (x ^ (x >> 16)) * 0x7feb352du;
            x = (x ^ (x >> 15)) * 0x846ca68bu;
        }
        tiny->out[i] = x;
    }
    return 0;
}

static void tiny_serial(void *arg) { must(mix_range(arg, 0, TINY_ITEMS), "serial"); }

static void tiny_map(void *arg) { must(weft_group_for(NULL, 0, TINY_ITEMS, mix_range, arg, NULL), "weft_group_for"); }

static void measure_tiny(void *arg)
{
    static const char question[] = "map, 10^7 tiny items, range body";
    if (!bench_wants(&bench, question)) {
        return;
    }
    struct timing *timing = arg;
    struct tiny tiny = { malloc(TINY_ITEMS * sizeof *tiny.in), malloc(TINY_ITEMS * sizeof *tiny.out) };
    must(tiny.in == NULL || tiny.out == NULL ? -ENOMEM : 0, "malloc");
    for (uint32_t i = 0; i < TINY_ITEMS; i++) {
        tiny.in[i] = i;
    }
    memset(tiny.out, 0, TINY_ITEMS * sizeof *tiny.out);
    measure_pairs(timing, TINY_ITEMS, tiny_serial, tiny_map, &tiny);
    report(timing, question, 1.03);
    free(tiny.in);
    free(tiny.out);
}

/* Skewed items: one in 64 takes 64 times as long, so half of the work is in the heavy ones. */

struct skewed {
    uint32_t *steps;
    uint64_t *out;
};

static __attribute__((noinline)) int work_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx;
    uint64_t x = index + 1;
    for (uint32_t step = *(const uint32_t *)in; step > 0; step--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    *(uint64_t *)out = x;
    return 0;
}

static void skewed_serial(void *arg)
{
    struct skewed *skewed = arg;
    int rc = 0;
    for (size_t i = 0; i < SKEWED_ITEMS; i++) {
        rc |= work_item(NULL, i, &skewed->steps[i], &skewed->out[i]);
    }
    must(rc, "serial");
}

static void skewed_map(void *arg)
{
    struct skewed *skewed = arg;
    must(WEFT_MAP(NULL, work_item, NULL, SKEWED_ITEMS, skewed->steps, skewed->out, NULL), "weft_group_map");
}

static bool spread_out(size_t i) { return i % ONE_IN == 0; }

static bool at_the_front(size_t i) { return i < SKEWED_ITEMS / ONE_IN; }

static bool at_the_back(size_t i) { return i >= SKEWED_ITEMS - SKEWED_ITEMS / ONE_IN; }

static void measure_skewed(void *arg)
{
    static const struct {
        const char *question;
        bool (*heavy)(size_t i);
    } cases[] = {
        { "map, skewed, heavy items spread out", spread_out },
        { "map, skewed, heavy items first", at_the_front },
        { "map, skewed, heavy items last", at_the_back },
    };
    struct timing *timing = arg;
    struct skewed skewed = { malloc(SKEWED_ITEMS * sizeof *skewed.steps), malloc(SKEWED_ITEMS * sizeof *skewed.out) };
    must(skewed.steps == NULL || skewed.out == NULL ? -ENOMEM : 0, "malloc");
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        if (!bench_wants(&bench, cases[c].question)) {
            continue;
        }
        for (size_t i = 0; i < SKEWED_ITEMS; i++) {
            skewed.steps[i] = cases[c].heavy(i) ? HEAVY_STEPS : LIGHT_STEPS;
        }
        measure_pairs(timing, SKEWED_ITEMS, skewed_serial, skewed_map, &skewed);
        report(timing, cases[c].question, 1.05);
    }
    free(skewed.steps);
    free(skewed.out);
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "How near do maps come to serial / workers?");
    struct timing timing = { .workers = 1 };
    run_inside(1, measure_tiny, &timing);
    if (machine_cpus() < 2) {
        bench_note("one CPU: nothing to compare with two workers");
        return bench_close(&bench);
    }
    timing.workers = 2;
    run_inside(2, measure_tiny, &timing);
    run_inside(2, measure_skewed, &timing);
    return bench_close(&bench);
}
