/* What it costs to keep step: a mutex, a semaphore, a channel, an event.
 *
 * The mutex is measured beside a pthread mutex in the same run, sample by sample. Round trips are between two tasks on one worker: there
 * and back again is two waits and two wakes, and two changes of fiber. */
#include <pthread.h>
#include <stdlib.h>
#include <weft.h>

#include "inside.h"
#include "measure.h"

enum { MOST_SAMPLES = 25, CONTENDERS = 8, CONTENDED_WORKERS = 2 };

static struct bench bench;

static size_t n_samples(void) { return bench.quick ? 5 : 21; }

static void report_ratio(const char *question, unsigned workers, const double ours[], const double theirs[])
{
    double ratio[MOST_SAMPLES];
    for (size_t i = 0; i < n_samples(); i++) {
        ratio[i] = ours[i] / theirs[i];
    }
    bench_report(&bench, question, workers, "x", ratio, n_samples(), NO_BUDGET);
}

/* ---- mutex ---- */

static struct weft_mutex mutex;
static pthread_mutex_t peer = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counter; /* under either */

static int lock_ours(void *arg, void **result)
{
    (void)result;
    for (size_t n = *(size_t *)arg; n > 0; n--) {
        must(weft_mutex_lock(&mutex, WEFT_FOREVER), "weft_mutex_lock");
        counter++;
        weft_mutex_unlock(&mutex);
    }
    return 0;
}

static void *lock_theirs(void *arg)
{
    for (size_t n = *(size_t *)arg; n > 0; n--) {
        must(-pthread_mutex_lock(&peer), "pthread_mutex_lock");
        counter++;
        must(-pthread_mutex_unlock(&peer), "pthread_mutex_unlock");
    }
    return NULL;
}

static void uncontended(void *arg)
{
    (void)arg;
    if (!bench_wants(&bench, "uncontended lock + unlock")) {
        return;
    }
    size_t n = bench.quick ? 500000 : 2000000;
    double ours[MOST_SAMPLES], theirs[MOST_SAMPLES];
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        size_t at = sample == 0 ? 0 : sample - 1;
        int64_t start = now_ns();
        (void)lock_ours(&n, NULL);
        int64_t middle = now_ns();
        (void)lock_theirs(&n);
        ours[at] = (double)(middle - start) / (double)n;
        theirs[at] = (double)(now_ns() - middle) / (double)n;
    }
    report_ratio("uncontended lock + unlock, by pthread_mutex", 1, ours, theirs);
    bench_report(&bench, "uncontended lock + unlock", 1, "ns", ours, n_samples(), NO_BUDGET);
    bench_report(&bench, "uncontended lock + unlock of a pthread_mutex", 1, "ns", theirs, n_samples(), NO_BUDGET);
}

static void contended(void *arg)
{
    (void)arg;
    if (!bench_wants(&bench, "contended lock + unlock")) {
        return;
    }
    size_t n = bench.quick ? 20000 : 100000;
    double ours[MOST_SAMPLES], theirs[MOST_SAMPLES];
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        size_t at = sample == 0 ? 0 : sample - 1;
        pthread_t threads[CONTENDERS];
        int64_t start = now_ns();
        for (size_t i = 0; i < CONTENDERS; i++) {
            must(weft_group_spawn(group, lock_ours, &n, NULL), "weft_group_spawn");
        }
        must(weft_group_join(group, WEFT_FOREVER), "weft_group_join");
        int64_t middle = now_ns();
        for (size_t i = 0; i < CONTENDERS; i++) {
            must(-pthread_create(&threads[i], NULL, lock_theirs, &n), "pthread_create");
        }
        for (size_t i = 0; i < CONTENDERS; i++) {
            must(-pthread_join(threads[i], NULL), "pthread_join");
        }
        ours[at] = (double)(middle - start) / (double)(CONTENDERS * n);
        theirs[at] = (double)(now_ns() - middle) / (double)(CONTENDERS * n);
    }
    must(weft_group_destroy(group), "weft_group_destroy");
    report_ratio("contended lock + unlock, 8 tasks, by 8 threads and a pthread_mutex", CONTENDED_WORKERS, ours, theirs);
    bench_report(&bench, "contended lock + unlock, 8 tasks", CONTENDED_WORKERS, "ns", ours, n_samples(), NO_BUDGET);
    bench_report(&bench, "contended lock + unlock, 8 threads and a pthread_mutex", CONTENDED_WORKERS, "ns", theirs, n_samples(),
                 NO_BUDGET);
}

/* ---- round trips ---- */

struct trip {
    size_t n;
    struct weft_semaphore there, back;
    struct weft_event event_there, event_back;
    struct weft_channel *to, *from;
};

static int by_semaphore(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        weft_semaphore_release(&trip->there, 1);
        must(weft_semaphore_acquire(&trip->back, WEFT_FOREVER), "weft_semaphore_acquire");
    }
    return 0;
}

static int answer_by_semaphore(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        must(weft_semaphore_acquire(&trip->there, WEFT_FOREVER), "weft_semaphore_acquire");
        weft_semaphore_release(&trip->back, 1);
    }
    return 0;
}

static int by_event(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        weft_event_set(&trip->event_there);
        must(weft_event_wait(&trip->event_back, WEFT_FOREVER), "weft_event_wait");
        weft_event_clear(&trip->event_back);
    }
    return 0;
}

static int answer_by_event(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        must(weft_event_wait(&trip->event_there, WEFT_FOREVER), "weft_event_wait");
        weft_event_clear(&trip->event_there);
        weft_event_set(&trip->event_back);
    }
    return 0;
}

static int by_channel(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        size_t answer = 0;
        must(weft_channel_send(trip->to, &i, WEFT_FOREVER), "weft_channel_send");
        must(weft_channel_receive(trip->from, &answer, WEFT_FOREVER), "weft_channel_receive");
        must(answer == i ? 0 : -EIO, "the answer");
    }
    return 0;
}

static int answer_by_channel(void *arg, void **result)
{
    (void)result;
    struct trip *trip = arg;
    for (size_t i = 0; i < trip->n; i++) {
        size_t item = 0;
        must(weft_channel_receive(trip->to, &item, WEFT_FOREVER), "weft_channel_receive");
        must(weft_channel_send(trip->from, &item, WEFT_FOREVER), "weft_channel_send");
    }
    return 0;
}

static void round_trips(const char *question, weft_task_fn *asks, weft_task_fn *answers, double budget)
{
    if (!bench_wants(&bench, question)) {
        return;
    }
    struct trip trip = { .n = bench.quick ? 50000 : 250000 };
    double ns[MOST_SAMPLES];
    struct weft_group *group;
    must(weft_group_create(NULL, NULL, &group), "weft_group_create");
    must(weft_channel_create(sizeof(size_t), 0, &trip.to), "weft_channel_create");
    must(weft_channel_create(sizeof(size_t), 0, &trip.from), "weft_channel_create");
    for (size_t sample = 0; sample <= n_samples(); sample++) {
        int64_t start = now_ns();
        must(weft_group_spawn(group, answers, &trip, NULL), "weft_group_spawn");
        must(weft_group_spawn(group, asks, &trip, NULL), "weft_group_spawn");
        must(weft_group_join(group, WEFT_FOREVER), "weft_group_join");
        ns[sample == 0 ? 0 : sample - 1] = (double)(now_ns() - start) / (double)trip.n;
    }
    weft_channel_destroy(trip.to);
    weft_channel_destroy(trip.from);
    must(weft_group_destroy(group), "weft_group_destroy");
    bench_report(&bench, question, 1, "ns", ns, n_samples(), budget);
}

static void all_round_trips(void *arg)
{
    (void)arg;
    round_trips("semaphore, there and back", by_semaphore, answer_by_semaphore, 80);
    round_trips("channel of capacity 0, there and back", by_channel, answer_by_channel, 120);
    round_trips("event set + wait, there and back", by_event, answer_by_event, NO_BUDGET);
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "What does it cost to keep step?");
    run_inside(1, uncontended, NULL);
    run_inside(CONTENDED_WORKERS, contended, NULL);
    run_inside(1, all_round_trips, NULL);
    return bench_close(&bench);
}
