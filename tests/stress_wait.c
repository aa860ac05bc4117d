/* Waiters on fibers and on foreign threads, against signals, deadlines and kills, for a while (H21 to H23).
 *
 *     stress_wait [SEED [SECONDS]]
 *
 * A counter hands tokens to its waiters; each waits with a random deadline; fibers are killed at random. At the end the tokens given are
 * those got and those left, each kill that was accepted has been delivered or is still pending, and nobody hangs. */
#include "testing.h"

#include <pthread.h>

#include "stress.h"
#include "task.h"
#include "tasks.h"

enum { FIBERS = 12, FOREIGNERS = 3, GIVERS = 2 };

static struct weft_waitq queue;
static unsigned tokens; /* under the queue's lock */
static uint64_t seed;
static _Atomic bool stop;
static _Atomic uint64_t given, missed;
static _Atomic int leaving;

static bool take(void *arg)
{
    (void)arg;
    bool some = tokens > 0;
    tokens -= some;
    return some;
}

static void give(void)
{
    struct weft_waiter *tail = weft_waitq_lock(&queue), *ready = NULL;
    bool done = false;
    while (tail && !(done = weft_waitq_claim(&tail, tail->next, NULL, &ready))) {
        a_add(&missed, 1u, RELAXED); /* it was on its way out: H23 */
    }
    tokens += !done;
    weft_waitq_unlock(&queue, tail);
    weft_waitq_ready(ready);
    a_add(&given, 1u, RELAXED);
}

struct waiter {
    uint64_t random;
    struct weft_task *task;
    uint64_t got, late, killed;
    _Atomic uint64_t accepted; /* kills */
};

/* What a wait that has returned left on the stack: a late waker would read it. */
static weft_noinline void scribble(void)
{
    volatile unsigned char dead[512];
    for (unsigned i = 0; i < sizeof dead; i++) {
        dead[i] = 0xdd;
    }
}

static int64_t some_deadline(uint64_t *random)
{
    switch (next_random(random) % 4) {
    case 0: return WEFT_WAIT_NOW;
    case 1: return OS_FOREVER;
    default: return os_now() + 1000 + (int64_t)(next_random(random) % 30000);
    }
}

static int wait_again_and_again(void *arg, void **value)
{
    (void)value;
    struct waiter *waiter = arg;
    gate_open(&begun);
    while (!a_load(&stop, RELAXED)) {
        struct weft_wait wait = { .deadline = some_deadline(&waiter->random), .cancellable = true };
        switch (weft_wait_until(&queue, take, NULL, &wait)) {
        case 0: waiter->got++; break;
        case -ETIMEDOUT: waiter->late++; break;
        case -ECANCELED: waiter->killed++; break;
        default: abort();
        }
        scribble();
        if (next_random(&waiter->random) % 8 == 0) {
            weft_yield();
        }
    }
    if (weft_task_current() != NULL && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED) {
        waiter->killed++;
    }
    gate_open(&leaving);
    return 0;
}

static void *wait_on_a_thread(void *arg)
{
    void *value;
    (void)wait_again_and_again(arg, &value);
    return NULL;
}

static void *give_again_and_again(void *arg)
{
    uint64_t random = seed + 1000 + *(unsigned *)arg;
    while (atomic_load(&leaving) < FIBERS + FOREIGNERS) { /* until the last one has got what it waits for */
        give();
        for (volatile unsigned delay = next_random(&random) % 32768; delay > 0; delay--) {
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct waiter waiters[FIBERS + FOREIGNERS];
    pthread_t foreigners[FOREIGNERS], givers[GIVERS];
    unsigned numbers[GIVERS];
    struct stress stress = stress_begin(argc, argv);
    seed = stress.seed;
    struct weft_runtime *runtime = runtime_with(3);
    uint64_t random = seed;
    for (unsigned i = 0; i < FIBERS + FOREIGNERS; i++) {
        waiters[i].random = seed + 1 + i;
        if (i < FIBERS) {
            waiters[i].task = spawn_in(runtime, wait_again_and_again, &waiters[i]);
        } else if (pthread_create(&foreigners[i - FIBERS], NULL, wait_on_a_thread, &waiters[i]) != 0) {
            return 2;
        }
    }
    for (unsigned i = 0; i < GIVERS; i++) {
        numbers[i] = i;
        if (pthread_create(&givers[i], NULL, give_again_and_again, &numbers[i]) != 0) {
            return 2;
        }
    }
    gate_wait(&begun, FIBERS + FOREIGNERS); /* a task that is killed before would never begin */
    while (stress_goes_on(&stress)) {
        struct waiter *victim = &waiters[next_random(&random) % FIBERS];
        if (weft_task_kill(victim->task, 0, WEFT_NOWAIT) == 0) {
            a_add(&victim->accepted, 1u, RELAXED);
        }
        for (volatile unsigned delay = next_random(&random) % 4096; delay > 0; delay--) {
        }
    }
    a_store(&stop, true, RELAXED);
    gate_wait(&leaving, FIBERS + FOREIGNERS);
    uint64_t got, late = 0, killed = 0;
    int rc = 0;
    for (unsigned i = 0; i < GIVERS; i++) {
        (void)pthread_join(givers[i], NULL);
    }
    got = tokens;
    for (unsigned i = 0; i < FIBERS + FOREIGNERS; i++) {
        if (i < FIBERS) {
            struct weft_outcome outcome = finish_task(waiters[i].task);
            if (outcome.status != WEFT_OK || waiters[i].killed != a_load(&waiters[i].accepted, RELAXED)) {
                (void)printf("waiter %u: %llu kills accepted, %llu delivered\n", i,
                             (unsigned long long)a_load(&waiters[i].accepted, RELAXED), (unsigned long long)waiters[i].killed);
                rc = 1;
            }
        } else {
            (void)pthread_join(foreigners[i - FIBERS], NULL);
        }
        got += waiters[i].got;
        late += waiters[i].late;
        killed += waiters[i].killed;
    }
    if (got != a_load(&given, RELAXED)) {
        (void)printf("%llu tokens given, %llu accounted for\n", (unsigned long long)a_load(&given, RELAXED),
                     (unsigned long long)got);
        rc = 1;
    }
    (void)printf("%llu tokens, %llu timeouts, %llu kills; %llu signals met a waiter on its way out\n",
                 (unsigned long long)a_load(&given, RELAXED), (unsigned long long)late, (unsigned long long)killed,
                 (unsigned long long)a_load(&missed, RELAXED));
    (void)weft_runtime_destroy(runtime);
    return rc;
}
