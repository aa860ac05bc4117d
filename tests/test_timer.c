/* timer: order, what `earliest` shows, and what cancel promises. */
#include "testing.h"

#include "os.h"
#include "timer.h"

static struct weft_timer_heap heap;
static struct weft_timer **fired; /* in order */
static size_t fired_count;

static void note(struct weft_timer *timer, void *context)
{
    cr_assert_eq(context, &heap, "the caller's context comes through");
    fired[fired_count++] = timer;
}

static struct weft_timer *make(size_t count)
{
    struct weft_timer *timers = calloc(count, sizeof(*timers));
    fired = calloc(count, sizeof(struct weft_timer *));
    fired_count = 0;
    for (size_t i = 0; i < count; i++) {
        timers[i].fire = note;
    }
    weft_timer_heap_init(&heap);
    return timers;
}

static void drop(struct weft_timer *timers)
{
    free(timers);
    free(fired);
}

static int64_t earliest(void) { return a_load(&heap.earliest, RELAXED); }

static uint64_t seed = 12345;

static uint64_t next_random(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return seed >> 33;
}

Test(timer, fires_what_is_due_and_nothing_else)
{
    struct weft_timer *timers = make(3);
    (void)weft_timer_arm(&heap, &timers[0], 300);
    (void)weft_timer_arm(&heap, &timers[1], 100);
    (void)weft_timer_arm(&heap, &timers[2], 200);
    cr_assert_eq(weft_timer_expire(&heap, 99, &heap), -1);
    cr_assert_eq(fired_count, 0);
    cr_assert_eq(weft_timer_expire(&heap, 200, &heap), 100);
    cr_assert_eq(fired_count, 2);
    cr_assert_eq(fired[0], &timers[1]);
    cr_assert_eq(fired[1], &timers[2]);
    cr_assert_eq(weft_timer_expire(&heap, 299, &heap), -1);
    cr_assert_eq(weft_timer_expire(&heap, 300, &heap), 0);
    cr_assert_eq(fired_count, 3);
    cr_assert_eq(weft_timer_expire(&heap, INT64_MAX, &heap), -1);
    drop(timers);
}

/* Whoever arms the first deadline must wake the timekeeper, and whoever only looks must see it. */
Test(timer, earliest_is_the_root_and_arm_says_so_H37)
{
    struct weft_timer *timers = make(4);
    cr_assert_eq(earliest(), OS_FOREVER);
    cr_assert(weft_timer_arm(&heap, &timers[0], 300));
    cr_assert_eq(earliest(), 300);
    cr_assert(weft_timer_arm(&heap, &timers[1], 100));
    cr_assert_eq(earliest(), 100);
    cr_assert_not(weft_timer_arm(&heap, &timers[2], 200));
    cr_assert_not(weft_timer_arm(&heap, &timers[3], 100), "an equal one is not earlier");
    cr_assert_eq(earliest(), 100);
    weft_timer_cancel(&timers[1]);
    cr_assert_eq(earliest(), 100);
    weft_timer_cancel(&timers[3]);
    cr_assert_eq(earliest(), 200);
    (void)weft_timer_expire(&heap, 250, &heap);
    cr_assert_eq(earliest(), 300);
    weft_timer_cancel(&timers[0]);
    cr_assert_eq(earliest(), OS_FOREVER);
    cr_assert_null(heap.root);
    drop(timers);
}

Test(timer, lateness_is_that_of_the_latest_and_never_overflows_H27)
{
    struct weft_timer *timers = make(4);
    (void)weft_timer_arm(&heap, &timers[0], 50);
    (void)weft_timer_arm(&heap, &timers[1], 990);
    cr_assert_eq(weft_timer_expire(&heap, 1000, &heap), 950);
    (void)weft_timer_arm(&heap, &timers[2], INT64_MIN);
    (void)weft_timer_arm(&heap, &timers[3], OS_FOREVER);
    cr_assert_eq(weft_timer_expire(&heap, INT64_MAX - 1, &heap), INT64_MAX - 1);
    cr_assert_eq(fired_count, 3, "forever never comes");
    cr_assert_eq(earliest(), OS_FOREVER);
    weft_timer_cancel(&timers[3]);
    drop(timers);
}

Test(timer, cancel_of_what_is_not_armed_does_nothing)
{
    struct weft_timer zero = { .fire = note };
    weft_timer_cancel(&zero);
    struct weft_timer *timers = make(1);
    (void)weft_timer_arm(&heap, &timers[0], 10);
    (void)weft_timer_expire(&heap, 10, &heap);
    weft_timer_cancel(&timers[0]); /* it has fired */
    weft_timer_cancel(&timers[0]);
    cr_assert(weft_timer_arm(&heap, &timers[0], 20), "and it can be armed again");
    weft_timer_cancel(&timers[0]);
    weft_timer_cancel(&timers[0]);
    cr_assert_eq(weft_timer_expire(&heap, 1000, &heap), -1);
    cr_assert_eq(fired_count, 1);
    drop(timers);
}

/* Against a plain array: random arming, cancelling and expiring, with many equal deadlines. */
Test(timer, agrees_with_a_plain_array)
{
    enum { TIMERS = 300, STEPS = 100000 };
    struct weft_timer *timers = make(STEPS);
    int64_t model[TIMERS]; /* deadline, -1: not armed */
    for (int i = 0; i < TIMERS; i++) {
        model[i] = -1;
    }
    int64_t now = 0;
    for (int step = 0; step < STEPS; step++) {
        size_t i = next_random() % TIMERS;
        if (model[i] < 0) {
            model[i] = now + (int64_t)(next_random() % 64);
            (void)weft_timer_arm(&heap, &timers[i], model[i]);
        } else if (next_random() % 4 != 0) {
            weft_timer_cancel(&timers[i]);
            model[i] = -1;
        } else {
            now += (int64_t)(next_random() % 8);
            fired_count = 0;
            (void)weft_timer_expire(&heap, now, &heap);
            int64_t last = -1;
            for (size_t f = 0; f < fired_count; f++) {
                int64_t deadline = model[fired[f] - timers];
                cr_assert(deadline >= last && deadline <= now, "armed, due, and in order");
                last = deadline;
                model[fired[f] - timers] = -1;
            }
        }
        int64_t least = OS_FOREVER;
        for (int t = 0; t < TIMERS; t++) {
            least = model[t] >= 0 && model[t] < least ? model[t] : least;
        }
        cr_assert_eq(earliest(), least, "step %d", step);
    }
    drop(timers);
}

/* A list of 10⁶ children, the worst case for whoever would recurse over it; and each shape's cost stays far from quadratic. */
Test(timer, a_million_timers_need_no_stack, .timeout = 120)
{
    enum { TIMERS = 1000000 };
    struct weft_timer *timers = make(TIMERS);
    for (int shape = 0; shape < 3; shape++) {
        for (int i = 0; i < TIMERS; i++) {
            int64_t deadline = shape == 0 ? i : shape == 1 ? TIMERS - i : (int64_t)(next_random() % TIMERS);
            (void)weft_timer_arm(&heap, &timers[i], deadline + 1);
        }
        for (int i = 0; i < TIMERS; i += 2) {
            weft_timer_cancel(&timers[i]);
        }
        fired_count = 0;
        cr_assert_geq(weft_timer_expire(&heap, TIMERS + 1, &heap), 0);
        cr_assert_eq(fired_count, TIMERS / 2);
        for (size_t i = 1; i < fired_count; i++) {
            cr_assert_geq(fired[i]->deadline_ns, fired[i - 1]->deadline_ns);
        }
    }
    drop(timers);
}

/* ---- Several threads ---- */

static _Atomic bool firing, cancelled, done;

/* Goes on only when the canceller sleeps on the heap's lock, or has come back too early. */
static void fire_slowly(struct weft_timer *timer, void *context)
{
    (void)timer, (void)context;
    a_store(&firing, true, RELEASE);
    while (a_load(&heap.lock.word, RELAXED) != 2u && !a_load(&cancelled, ACQUIRE)) {
        os_thread_yield();
    }
    a_store(&done, true, RELAXED);
}

static void expire(void *arg)
{
    (void)arg;
    (void)weft_timer_expire(&heap, 10, NULL);
}

Test(timer, cancel_waits_for_a_fire_that_is_running)
{
    struct weft_timer timer = { .fire = fire_slowly };
    struct os_thread thread;
    weft_timer_heap_init(&heap);
    (void)weft_timer_arm(&heap, &timer, 5);
    cr_assert_eq(os_thread_start(&thread, expire, NULL, "expire"), 0);
    while (!a_load(&firing, ACQUIRE)) {
        os_thread_yield();
    }
    weft_timer_cancel(&timer);
    bool was_done = a_load(&done, RELAXED);
    a_store(&cancelled, true, RELEASE);
    os_thread_join(thread);
    cr_assert(was_done);
}

/* One arms and then cancels what the other, by then, may have cancelled: exactly one of them gets it, and nothing stays armed. */
static struct weft_timer contested;
static _Atomic int contest, other_at;
static _Atomic bool reason, other_got;

static void cancel_contested(void *arg)
{
    (void)arg;
    for (int n = 1; n <= 20000; n++) {
        while (a_load(&contest, ACQUIRE) != n) {
            weft_cpu_relax();
        }
        a_store(&reason, true, SEQ_CST);
        a_store(&other_got, weft_timer_cancel(&contested), RELAXED);
        a_store(&other_at, n, RELEASE);
    }
}

Test(timer, cancel_beside_arm_is_not_missed)
{
    struct os_thread thread;
    int mine = 0, others = 0;
    contested.fire = note;
    weft_timer_heap_init(&heap);
    cr_assert_eq(os_thread_start(&thread, cancel_contested, NULL, "cancel"), 0);
    for (int n = 1; n <= 20000; n++) {
        a_store(&reason, false, RELAXED);
        a_store(&contest, n, RELEASE);
        for (volatile int delay = n % 100; delay > 0; delay--) {
        }
        (void)weft_timer_arm(&heap, &contested, 5);
        bool saw = a_load(&reason, SEQ_CST);
        mine += saw && weft_timer_cancel(&contested);
        while (a_load(&other_at, ACQUIRE) != n) {
            os_thread_yield();
        }
        others += a_load(&other_got, RELAXED);
        cr_assert_eq(mine + others, n);
        cr_assert_null(heap.root);
    }
    os_thread_join(thread);
    cr_log_info("who armed it cancelled %d, the other %d\n", mine, others);
}

enum { ARMERS = 3, ROUNDS = 20000 };
static _Atomic int fires, finished;

struct round {
    struct weft_timer timer;
    int fires; /* under the heap's lock, and after cancel the armer's */
};

static void count_fire(struct weft_timer *timer, void *context)
{
    (void)context;
    weft_container_of(timer, struct round, timer)->fires++;
    a_add(&fires, 1, RELAXED);
}

static void arm_and_cancel(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct round round = { .timer.fire = count_fire }; /* on this stack: a fire after cancel would write into the next one */
        (void)weft_timer_arm(&heap, &round.timer, i % 3);
        if (i % 5 == 0) {
            os_thread_yield();
        }
        weft_timer_cancel(&round.timer);
        *(int *)arg += round.fires;
        round.fires = 0;
    }
    a_add(&finished, 1, RELEASE);
}

Test(timer, each_timer_fires_at_most_once_before_cancel_returns)
{
    struct os_thread threads[ARMERS];
    int seen[ARMERS] = { 0 };
    weft_timer_heap_init(&heap);
    for (int i = 0; i < ARMERS; i++) {
        cr_assert_eq(os_thread_start(&threads[i], arm_and_cancel, &seen[i], "arm"), 0);
    }
    while (a_load(&finished, ACQUIRE) < ARMERS) {
        if (earliest() <= 2) {
            (void)weft_timer_expire(&heap, 1, NULL);
        }
    }
    int sum = 0;
    for (int i = 0; i < ARMERS; i++) {
        os_thread_join(threads[i]);
        sum += seen[i];
    }
    cr_log_info("%d of %d fired\n", sum, ARMERS * ROUNDS);
    cr_assert_eq(sum, a_load(&fires, RELAXED));
    cr_assert_gt(sum, 0, "the window was hit");
    cr_assert_null(heap.root);
    cr_assert_eq(earliest(), OS_FOREVER);
}
