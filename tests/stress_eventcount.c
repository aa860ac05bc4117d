/* Workers that fall asleep beside work that comes, for a while (H01, H37).
 *
 *     stress_eventcount [SEED [SECONDS]]
 *
 * Submitters outside wait for each task that they spawn, so whenever a wake-up is lost all workers sleep, nobody makes another, and the
 * program ends with a message. Between two rounds they are silent for a random time, mostly about as long as a worker searches before
 * it sleeps. Tasks sleep, too: then the timekeeper must wake. */
#include "testing.h"

#include <pthread.h>
#include <time.h>

#include "os.h"
#include "tasks.h"

enum { SUBMITTERS = 2, WORKERS = 3 };

struct submitter {
    uint64_t random, rounds;
    struct weft_runtime *runtime;
};

static _Atomic int stop;

static unsigned next_random(struct submitter *me)
{
    me->random = me->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(me->random >> 40);
}

static void be_silent(unsigned ns)
{
    struct timespec time = { .tv_nsec = (long)ns };
    (void)nanosleep(&time, NULL);
}

static int do_nothing(void *arg, void **value)
{
    (void)arg, (void)value;
    return 0;
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
        unsigned kind = next_random(me) % 8, n = 1 + next_random(me) % 4;
        /* Mostly shorter than a worker searches, sometimes longer: then it is the timekeeper's. */
        int64_t sleep = next_random(me) % (next_random(me) % 4 == 0 ? 4000000 : 200000);
        for (unsigned i = 0; i < n; i++) {
            tasks[i] = kind == 0   ? spawn_in(me->runtime, sleep_a_little, &sleep)
                       : kind == 1 ? spawn_in(me->runtime, spawn_and_join, &sleep)
                                   : spawn_in(me->runtime, do_nothing, NULL);
        }
        int rc = weft_tasks_wait(tasks, n, n, weft_after(GATE_PATIENCE));
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
        switch (next_random(me) % 8) {
        case 0: be_silent(900000 + next_random(me) % 300000); break; /* a searcher gives up after a millisecond */
        case 1: be_silent(next_random(me) % 100000); break;
        case 2: be_silent(next_random(me) % 3000000); break;
        default: break;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)os_now();
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : weft_test_full() ? 60 : 2;
    (void)printf("seed %llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    struct weft_runtime *runtime = runtime_with(WORKERS);
    struct submitter submitters[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){ .random = seed + i, .runtime = runtime };
        if (pthread_create(&threads[i], NULL, submit, &submitters[i]) != 0) {
            return 2;
        }
    }
    if (weft_sleep_until(weft_after(seconds * WEFT_SEC)) != 0) {
        return 2;
    }
    atomic_store(&stop, 1);
    uint64_t rounds = 0;
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        (void)pthread_join(threads[i], NULL);
        rounds += submitters[i].rounds;
    }
    int rc = weft_runtime_join(runtime, weft_after(GATE_PATIENCE));
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    if (rc != 0 || (rc = weft_runtime_read_stats(runtime, &stats)) != 0) {
        end("the end", rounds, rc);
    }
    (void)printf("%llu rounds, %llu parks, %llu wakeups, a timer at most %lld us late\n", (unsigned long long)rounds,
                 (unsigned long long)stats.parks, (unsigned long long)stats.wakeups, (long long)(stats.timer_late_max / 1000));
    (void)weft_runtime_destroy(runtime);
    return stats.parks > 10 ? 0 : 1; /* else the window was never there */
}
