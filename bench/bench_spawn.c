/* What a task costs that never blocks: spawned by a task on the same worker, run, finished; the group is joined at the end of each
 * batch. One worker. */
#include <stdlib.h>
#include <weft.h>

#include "inside.h"
#include "measure.h"

enum { BATCH = 4096, MANY = 1000000, BATCHES_A_SAMPLE = 64, MOST_SAMPLES = 25 };

static struct bench bench;

static int nothing(void *arg, void **result)
{
    (void)arg, (void)result;
    return 0;
}

static void spawn_and_join(struct weft_group *group, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        must(weft_group_spawn(group, nothing, NULL, NULL), "weft_group_spawn");
    }
    must(weft_group_join(group, WEFT_FOREVER), "weft_group_join");
}

/* `batches` batches of n a sample; the first sample warms up and is not counted. */
static void measure_batches(struct weft_group *group, const char *question, size_t n, size_t batches, size_t samples, double budget)
{
    double ns[MOST_SAMPLES];
    for (size_t sample = 0; sample <= samples; sample++) {
        int64_t start = now_ns();
        for (size_t batch = 0; batch < batches; batch++) {
            spawn_and_join(group, n);
        }
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)(n * batches);
    }
    bench_report(&bench, question, 1, "ns", ns, samples, budget);
}

static void without_handle(void *arg)
{
    (void)arg;
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    size_t samples = bench.quick ? 5 : 21;
    if (bench_wants(&bench, "spawn + run + finish, 4096 outstanding")) {
        measure_batches(group, "spawn + run + finish, 4096 outstanding", BATCH, BATCHES_A_SAMPLE, samples, 60);
    }
    if (bench_wants(&bench, "spawn + run + finish, 10^6 outstanding, warm")) {
        measure_batches(group, "spawn + run + finish, 10^6 outstanding, warm", MANY, 1, bench.quick ? 3 : 11, 80);
    }
    must(weft_group_destroy(group), "weft_group_destroy");
}

static void in_a_pool(void *arg)
{
    (void)arg;
    static const char question[] = "the same in a bounded pool, slot free, 4096 outstanding";
    if (!bench_wants(&bench, question)) {
        return;
    }
    struct weft_group *pool;
    must(weft_pool_create(NULL, BATCH, NULL, &pool), "weft_pool_create");
    measure_batches(pool, question, BATCH, BATCHES_A_SAMPLE, bench.quick ? 5 : 21, 70);
    must(weft_group_destroy(pool), "weft_group_destroy");
}

/* One by one: the joiner parks each time, since the task has not begun when it is joined. */
static void one_by_one(struct weft_group *group, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct weft_task *task;
        must(weft_group_spawn(group, nothing, NULL, &task), "weft_group_spawn");
        must(weft_task_join(task, WEFT_FOREVER), "weft_task_join");
        weft_task_release(task);
    }
}

static void all_then_join(struct weft_group *group, size_t n)
{
    static struct weft_task *tasks[BATCH];
    for (size_t done = 0; done < n; done += BATCH) {
        for (size_t i = 0; i < BATCH; i++) {
            must(weft_group_spawn(group, nothing, NULL, &tasks[i]), "weft_group_spawn");
        }
        for (size_t i = 0; i < BATCH; i++) {
            must(weft_task_join(tasks[i], WEFT_FOREVER), "weft_task_join");
            weft_task_release(tasks[i]);
        }
    }
}

static void measure_handles(const char *question, void (*body)(struct weft_group *group, size_t n), double budget)
{
    if (!bench_wants(&bench, question)) {
        return;
    }
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    double ns[MOST_SAMPLES];
    size_t samples = bench.quick ? 5 : 21;
    const size_t n = (size_t)BATCH * BATCHES_A_SAMPLE;
    for (size_t sample = 0; sample <= samples; sample++) {
        int64_t start = now_ns();
        body(group, n);
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)n;
    }
    bench_report(&bench, question, 1, "ns", ns, samples, budget);
    must(weft_group_destroy(group), "weft_group_destroy");
}

static void with_handle(void *arg)
{
    (void)arg;
    measure_handles("with handle and join, one by one", one_by_one, 120);
    measure_handles("with handle and join, 4096 spawned, then joined", all_then_join, NO_BUDGET);
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "What does a task cost that never blocks?");
    run_inside(1, without_handle, NULL);
    run_inside(1, with_handle, NULL);
    run_inside(1, in_a_pool, NULL);
    return bench_close(&bench);
}
