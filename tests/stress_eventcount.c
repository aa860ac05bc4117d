/* Workers that fall asleep beside work that comes, for a while (H01, H37).
 *
 *     stress_eventcount [SEED [SECONDS]]
 *
 * Submitters outside wait for each task that they spawn, so whenever a wake-up is lost all workers sleep, nobody makes another, and the
 * program ends with a message. Between two rounds they are silent for a random time, mostly about as long as a worker searches before
 * it sleeps. Tasks sleep, too: then the timekeeper must wake. */
#include "testing.h"

#include <pthread.h>

#include "stress.h"
#include "tasks.h"

enum { SUBMITTERS = 2, WORKERS = 3 };

struct submitter {
    uint64_t random, rounds;
    struct weft_runtime *runtime;
};

static _Atomic int stop;

/* Until so many workers have said that they sleep, and are about to: the moment at which a wake-up may be lost. Or until the other
 * submitter has kept them awake for so long. */
static void until_parked(struct weft_runtime *runtime, unsigned workers, int64_t at_most_ns)
{
    int64_t end_ns = os_now() + at_most_ns;
    while (stats_of(runtime).workers_parked < workers && os_now() < end_ns) {
        weft_yield();
    }
}

/* A searcher gives up after a while: this is about as long. */
static void be_silent(int64_t ns)
{
    for (int64_t end_ns = os_now() + ns; os_now() < end_ns;) {
        weft_yield();
    }
}

static int sleep_a_little(void *arg, void **value)
{
    (void)value;
    return weft_sleep_until(weft_after(*(int64_t *)arg));
}

/* Wakes another fiber, and is woken by it. */
static int spawn_and_join(void *arg, void **value)
{
    (void)value;
    struct weft_task *task;
    CHECK(weft_task_spawn(NULL, arg ? spawn_and_join : do_nothing, NULL, NULL, &task) == 0);
    weft_yield();
    int rc = weft_task_join(task, WEFT_FOREVER);
    weft_task_release(task);
    return rc;
}

static void end(const char *what, uint64_t round, int rc)
{
    (void)fprintf(stderr, "%s in round %llu: %s\n", what, (unsigned long long)round, weft_strerror(rc));
    abort();
}

static void *submit(void *arg)
{
    struct submitter *me = arg;
    while (!atomic_load(&stop)) {
        struct weft_task *tasks[4];
        unsigned kind = (unsigned)(next_random(&me->random) % 8), n = 1 + (unsigned)(next_random(&me->random) % 4);
        /* Mostly shorter than a worker searches, sometimes longer: then it is the timekeeper's. */
        int64_t sleep = (int64_t)(next_random(&me->random) % (next_random(&me->random) % 4 == 0 ? 4000000 : 200000));
        for (unsigned i = 0; i < n; i++) {
            tasks[i] = kind == 0   ? spawn_in(me->runtime, sleep_a_little, &sleep)
                       : kind == 1 ? spawn_in(me->runtime, spawn_and_join, &sleep)
                                   : spawn_in(me->runtime, do_nothing, NULL);
        }
        int rc = weft_tasks_wait(tasks, n, n, weft_after(PATIENCE));
        if (rc != (int)n) {
            end("a task was not run", me->rounds, -ETIMEDOUT);
        }
        for (unsigned i = 0; i < n; i++) {
            struct weft_outcome outcome = finish_task(tasks[i]);
            if (outcome.status != WEFT_OK) {
                end("a task failed", me->rounds, outcome.error);
            }
        }
        me->rounds++;
        switch (next_random(&me->random) % 8) {
        case 0: be_silent(900000 + (int64_t)(next_random(&me->random) % 300000)); break;
        case 1: be_silent((int64_t)(next_random(&me->random) % 100000)); break;
        case 2: until_parked(me->runtime, 1 + (unsigned)(next_random(&me->random) % WORKERS), 3000000); break;
        default: break;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct stress stress = stress_begin(argc, argv);
    struct weft_runtime *runtime = runtime_with(WORKERS);
    struct submitter submitters[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){ .random = stress.seed + i, .runtime = runtime };
        if (pthread_create(&threads[i], NULL, submit, &submitters[i]) != 0) {
            return 2;
        }
    }
    if (weft_sleep_until(stress.end_ns) != 0) {
        return 2;
    }
    atomic_store(&stop, 1);
    uint64_t rounds = 0;
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        (void)pthread_join(threads[i], NULL);
        rounds += submitters[i].rounds;
    }
    int rc = weft_runtime_join(runtime, weft_after(PATIENCE));
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    if (rc != 0 || (rc = weft_runtime_read_stats(runtime, &stats)) != 0) {
        end("the end", rounds, rc);
    }
    (void)printf("%llu rounds, %llu parks, %llu wakeups, a timer at most %lld us late\n", (unsigned long long)rounds,
                 (unsigned long long)stats.parks, (unsigned long long)stats.wakeups, (long long)(stats.timer_late_max / 1000));
    (void)weft_runtime_destroy(runtime);
    return stats.parks > 10 ? 0 : 1; /* else the window was never there */
}
