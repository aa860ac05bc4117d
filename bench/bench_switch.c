/* What it costs to change from one fiber to another on one worker: by a yield, and by blocking and being woken.
 *
 * Two tasks wake each other by turns and then block until they are woken: by a semaphore; and, for what a kill's delivery costs on top,
 * by weft_task_kill of a task in weft_sleep_until(WEFT_FOREVER). Where one spawns into a full pool, block + wake comes on top of
 * spawn + run + finish. */
#include <stdlib.h>
#include <weft.h>

#include "inside.h"
#include "measure.h"

enum { MOST_SAMPLES = 25 };

static struct bench bench;

static size_t n_samples(void) { return bench.quick ? 5 : 21; }

static int yield_often(void *arg, void **result)
{
    (void)result;
    for (size_t n = *(size_t *)arg; n > 0; n--) {
        weft_yield();
    }
    return 0;
}

static void yields(void *arg)
{
    (void)arg;
    static const char question[] = "yield between two fibers";
    if (!bench_wants(&bench, question)) {
        return;
    }
    size_t n = bench.quick ? 200000 : 1000000;
    double ns[MOST_SAMPLES];
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        int64_t start = now_ns();
        must(weft_group_spawn(group, yield_often, &n, NULL), "weft_group_spawn");
        must(weft_group_spawn(group, yield_often, &n, NULL), "weft_group_spawn");
        must(weft_group_join(group, WEFT_FOREVER), "weft_group_join");
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)(2 * n);
    }
    must(weft_group_destroy(group), "weft_group_destroy");
    bench_report(&bench, question, 1, "ns", ns, n_samples(), 20);
}

struct turns {
    size_t n;
    struct weft_semaphore mine, *others;
};

static int take_turns(void *arg, void **result)
{
    (void)result;
    struct turns *turns = arg;
    for (size_t i = 0; i < turns->n; i++) {
        must(weft_semaphore_acquire(&turns->mine, WEFT_FOREVER), "weft_semaphore_acquire");
        weft_semaphore_release(turns->others, 1);
    }
    return 0;
}

static void blocks(void *arg)
{
    (void)arg;
    static const char question[] = "block + wake";
    if (!bench_wants(&bench, question)) {
        return;
    }
    size_t n = bench.quick ? 50000 : 250000;
    double ns[MOST_SAMPLES];
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        struct turns first = { .n = n }, second = { .n = n, .others = &first.mine };
        first.others = &second.mine;
        int64_t start = now_ns();
        must(weft_group_spawn(group, take_turns, &first, NULL), "weft_group_spawn");
        must(weft_group_spawn(group, take_turns, &second, NULL), "weft_group_spawn");
        weft_semaphore_release(&first.mine, 1);
        must(weft_group_join(group, WEFT_FOREVER), "weft_group_join");
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)(2 * n);
    }
    must(weft_group_destroy(group), "weft_group_destroy");
    bench_report(&bench, question, 1, "ns", ns, n_samples(), 60);
}

struct player {
    struct weft_task *task, *other;
    size_t n;
    bool *second_runs; /* a kill before it runs would end it */
};

static void block(void) { must(weft_sleep_until(WEFT_FOREVER) == -ECANCELED ? 0 : -EIO, "weft_sleep_until"); }

static void wake(struct weft_task *task) { must(weft_task_kill(task, 0, WEFT_NOWAIT), "weft_task_kill"); }

static int play_first(void *arg, void **result)
{
    (void)result;
    struct player *player = arg;
    while (!*player->second_runs) {
        weft_yield();
    }
    for (size_t i = 0; i < player->n; i++) {
        wake(player->other);
        block();
    }
    return 0;
}

static int play_second(void *arg, void **result)
{
    (void)result;
    struct player *player = arg;
    *player->second_runs = true;
    for (size_t i = 0; i < player->n; i++) {
        block();
        wake(player->other);
    }
    return 0;
}

static double play(size_t n)
{
    bool second_runs = false;
    struct player first = { .n = n, .second_runs = &second_runs };
    struct player second = first;
    must(weft_task_create(NULL, play_first, &first, NULL, &first.task), "weft_task_create");
    must(weft_task_create(NULL, play_second, &second, NULL, &second.task), "weft_task_create");
    first.other = second.task;
    second.other = first.task;
    int64_t start = now_ns();
    must(weft_task_start(second.task), "weft_task_start");
    must(weft_task_start(first.task), "weft_task_start");
    must(weft_task_join(first.task, WEFT_FOREVER), "weft_task_join");
    must(weft_task_join(second.task, WEFT_FOREVER), "weft_task_join");
    double ns = (double)(now_ns() - start);
    weft_task_release(first.task);
    weft_task_release(second.task);
    return ns;
}

static void blocks_and_kills(void *arg)
{
    (void)arg;
    static const char question[] = "block + wake, by a kill";
    if (!bench_wants(&bench, question)) {
        return;
    }
    size_t n = bench.quick ? 50000 : 250000;
    double ns[MOST_SAMPLES];
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        ns[sample == 0 ? 0 : sample - 1] = play(n) / (double)(2 * n);
    }
    bench_report(&bench, question, 1, "ns", ns, n_samples(), NO_BUDGET);
}

static int nothing(void *arg, void **result)
{
    (void)arg, (void)result;
    return 0;
}

static void full_pool(void *arg)
{
    (void)arg;
    static const char question[] = "spawn into a full pool of 1 (block + wake + run)";
    if (!bench_wants(&bench, question)) {
        return;
    }
    size_t n = bench.quick ? 50000 : 250000;
    double ns[MOST_SAMPLES];
    struct weft_group *pool;
    must(weft_pool_create(NULL, 1, NULL, &pool), "weft_pool_create");
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        int64_t start = now_ns();
        for (size_t i = 0; i < n; i++) {
            must(weft_group_spawn(pool, nothing, NULL, NULL), "weft_group_spawn");
        }
        must(weft_group_join(pool, WEFT_FOREVER), "weft_group_join");
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)n;
    }
    must(weft_group_destroy(pool), "weft_group_destroy");
    bench_report(&bench, question, 1, "ns", ns, n_samples(), NO_BUDGET);
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "What does a change of fiber cost?");
    run_inside(1, yields, NULL);
    run_inside(1, blocks, NULL);
    run_inside(1, blocks_and_kills, NULL);
    run_inside(1, full_pool, NULL);
    return bench_close(&bench);
}
