/* A small parallel region: 64 items of a microsecond, on a runtime of two workers (serial 64, ideal 32), when it follows
 * another one at once, when it follows a millisecond of serial work, and when the caller slept for five.
 *
 * From a foreign thread (the budgets) and from a task. The caller takes part, so two threads work in either case. */
#include <stdlib.h>
#include <time.h>
#include <weft.h>

#include "inside.h"
#include "measure.h"

enum { ITEMS = 64, WORKERS = 2, MOST_SAMPLES = 2000 };

static struct bench bench;
static uint64_t steps_a_microsecond;

static uint64_t spin(uint64_t steps)
{
    uint64_t x = steps + 1;
    for (; steps > 0; steps--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static volatile uint64_t sink; /* so that spin is not optimised away */

static void calibrate(void)
{
    enum { STEPS = 1000000, TRIES = 20 };
    int64_t best = INT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        int64_t start = now_ns();
        sink = spin(STEPS);
        int64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    steps_a_microsecond = (uint64_t)STEPS * 1000 / (uint64_t)best;
}

static int work_range(void *ctx, size_t begin, size_t end)
{
    uint64_t *out = ctx;
    for (size_t i = begin; i < end; i++) {
        out[i] = spin(steps_a_microsecond);
    }
    return 0;
}

static void before_hot(bool in_task) { (void)in_task; }

static void before_serial(bool in_task)
{
    (void)in_task;
    sink = spin(1000 * steps_a_microsecond);
}

static void before_sleep(bool in_task)
{
    if (in_task) {
        must(weft_sleep_until(weft_after(5 * WEFT_MSEC)), "weft_sleep_until");
    } else {
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
}

static void measure_region(struct weft_group *group, bool in_task)
{
    static const struct {
        const char *questions[2]; /* from a foreign thread, from a task */
        void (*before)(bool in_task);
        size_t samples;
        double budget;
    } cases[] = {
        { { "region of 64 us, hot", "region of 64 us, hot, from a task" }, before_hot, 2000, 40 },
        { { "region of 64 us, after 1 ms of serial work", "region of 64 us, after 1 ms, from a task" }, before_serial, 500, 60 },
        { { "region of 64 us, after 5 ms of sleep", "region of 64 us, after 5 ms, from a task" }, before_sleep, 200, 80 },
    };
    static double us[MOST_SAMPLES];
    static uint64_t out[ITEMS];
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const char *question = cases[c].questions[in_task];
        if (!bench_wants(&bench, question)) {
            continue;
        }
        size_t samples = bench.quick ? cases[c].samples / 4 : cases[c].samples;
        for (size_t i = 0; i < samples; i++) {
            cases[c].before(in_task);
            int64_t start = now_ns();
            must(weft_group_for(group, 0, ITEMS, work_range, out, NULL), "weft_group_for");
            us[i] = (double)(now_ns() - start) / 1e3;
        }
        bench_report(&bench, question, WORKERS, "us", us, samples, in_task ? NO_BUDGET : cases[c].budget);
    }
}

static void measure_serial(void)
{
    static double us[MOST_SAMPLES];
    static uint64_t out[ITEMS];
    for (size_t i = 0; i < MOST_SAMPLES; i++) {
        int64_t start = now_ns();
        must(work_range(out, 0, ITEMS), "serial");
        us[i] = (double)(now_ns() - start) / 1e3;
    }
    struct summary serial = summarise(us, MOST_SAMPLES);
    bench_note("serial: %.2f us (%.2f to %.2f)", serial.median, serial.min, serial.max);
}

static void from_a_task(void *arg)
{
    (void)arg;
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    measure_region(group, true);
    must(weft_group_destroy(group), "weft_group_destroy");
}

static void from_outside(void)
{
    struct weft_runtime *runtime;
    struct weft_group *group;
    must(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = WORKERS), &runtime), "weft_runtime_create");
    must(weft_group_create(runtime, NULL, &group), "weft_group_create");
    measure_region(group, false);
    must(weft_group_destroy(group), "weft_group_destroy");
    must(weft_runtime_destroy(runtime), "weft_runtime_destroy");
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "How soon does a small region pay?");
    if (machine_cpus() < WORKERS) {
        bench_note("one CPU: nothing to measure");
        return bench_close(&bench);
    }
    calibrate();
    measure_serial();
    from_outside();
    run_inside(WORKERS, from_a_task, NULL);
    return bench_close(&bench);
}
