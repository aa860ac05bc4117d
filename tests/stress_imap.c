/* usage: stress_imap [SEED [SECONDS]]
 * imaps of every shape, read by hasty, patient and killed readers, and closed, killed or destroyed at any moment. Every thing that a
 * source made and every result is freed or read exactly once, no reader gets one twice, every reader sees the end, the window holds
 * (I2, I4, I6, I7, H20, H21, H24).
 *
 * What is done follows from the seed; when it meets does not, so the end says how often each way to end was caught in the middle. */
#include "testing.h"

#include "stream.h"
#include "stress.h"

enum { READERS = 4 };
enum ending { READ_ON, CLOSE, KILL, DESTROY_EARLY, RUNTIME_ENDS, ENDINGS };

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct weft_imap *imap;
static struct stream stream;
static uint64_t items, waits_ran_out, caught[ENDINGS];
static _Atomic uint32_t got, ran_out;
static size_t maxsize;
static bool ordered;

/* Some yield, some sleep a little, some fail. */
static int item_fn(void *ctx, void *item, void **result)
{
    size_t id = ((struct thing *)item)->id;
    uint64_t state = *(uint64_t *)ctx ^ id, random = next_random(&state);
    stream_enter();
    *result = value_make(id);
    int rc = 0;
    if (random % 4 == 0) {
        weft_yield();
    } else if (random % 16 == 1) {
        rc = weft_sleep_until(weft_after((int64_t)(random % 30000)));
    } else if (random % 16 == 2) {
        rc = -EIO;
    }
    a_sub(&stream_running, 1u, SEQ_CST);
    return rc;
}

static void read_on(uint64_t state, bool hasty)
{
    struct weft_item item;
    size_t last = WEFT_NO_INDEX;
    for (;;) {
        int64_t deadline = hasty ? weft_after((int64_t)(next_random(&state) % 20000)) : WEFT_FOREVER;
        int rc = weft_imap_next(imap, &item, hasty && next_random(&state) % 4 == 0 ? WEFT_NOWAIT : deadline);
        if (rc == 1) {
            stream_took(&item);
            check(item.index == WEFT_NO_INDEX || !ordered || last == WEFT_NO_INDEX || item.index > last);
            last = item.index == WEFT_NO_INDEX ? last : item.index;
            a_add(&got, 1u, RELAXED);
        } else if (rc == -ETIMEDOUT) {
            a_add(&ran_out, 1u, RELAXED);
        } else {
            check(rc == 0 || rc == -ECANCELED || rc == -ESHUTDOWN);
            return;
        }
    }
}

static void read_in_thread(void *arg) { read_on((uint64_t)(uintptr_t)arg, (uintptr_t)arg & 1); }

static int read_in_task(void *arg, void **result)
{
    (void)result;
    read_in_thread(arg);
    return 0;
}

static void report(void)
{
    fprintf(stderr, "%s, maxsize %zu, %u pulled of %zu, %u begun, %u running, %u read\n", ordered ? "ordered" : "unordered",
            maxsize, stream.pulled, stream.n, stream_begun, stream_running, a_load(&got, RELAXED));
}

static struct stress stress;
static struct stress_watch watch = { .stress = &stress, .report = report };

static void play(uint64_t *state)
{
    uint64_t random = next_random(state), salt = next_random(state);
    enum ending ending = (enum ending)(random % ENDINGS);
    struct os_thread threads[READERS];
    struct weft_task *tasks[READERS];
    unsigned readers = (unsigned)(random / 8 % (READERS + 1));
    ordered = random / 64 & 1;
    maxsize = random / 128 % 6;
    stream = (struct stream){ .n = random / 1024 % 200, .end = random / 4096 % 2 ? -EPROTO : 0 };
    a_store(&got, 0u, SEQ_CST);
    runtime = runtime_with(1 + (unsigned)(random / 8192 % 4));
    pool = pool_make(runtime, 1 + random / 65536 % 4);
    struct weft_source source = { stream_next, &stream, thing_free };
    const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = maxsize, .result_free = value_free);
    check_eq((ordered ? weft_group_imap : weft_group_imap_unordered)(pool, &source, 1, item_fn, &salt, options, &imap), 0);
    a_add(&watch.rounds, 1u, SEQ_CST);
    for (unsigned i = 0; i < readers; i++) {
        void *reader = (void *)(uintptr_t)next_random(state);
        if (i % 2 == 0) {
            check_eq(os_thread_start(&threads[i], read_in_thread, reader, "reader"), 0);
        } else {
            check_eq(weft_task_spawn(runtime, read_in_task, reader, NULL, &tasks[i]), 0);
        }
    }
    for (int64_t end_ns = os_now() + (int64_t)(next_random(state) % 300000); os_now() < end_ns;) {
    }
    if (readers > 1 && random / (1 << 20) % 2) {
        (void)weft_task_kill(tasks[1], 0, WEFT_NOWAIT);
    }
    bool midway = a_load(&got, RELAXED) < stream.n && a_load(&stream.pulled, RELAXED) > 0;
    caught[ending] += midway;
    if (ending == KILL) {
        check_eq(weft_group_kill(pool, 0, random / (1 << 21) % 2 ? WEFT_NOWAIT : WEFT_FOREVER), 0);
    } else if (ending == CLOSE || (ending == READ_ON && readers == 0)) {
        weft_imap_close(imap);
    }
    if (ending == READ_ON) {
        read_on(salt, false);
    }
    if (ending == DESTROY_EARLY) {
        weft_imap_close(imap); /* readers must have left before destroy; this sends them away */
    }
    if (ending == RUNTIME_ENDS) {
        check_eq(weft_runtime_destroy(runtime), 0);
    }
    for (unsigned i = 0; i < readers; i++) {
        if (i % 2 == 0) {
            os_thread_join(threads[i]);
        } else {
            if (ending != RUNTIME_ENDS) {
                check_eq(weft_task_join(tasks[i], WEFT_FOREVER), 0);
            }
            weft_task_release(tasks[i]);
        }
    }
    items += stream.pulled;
    check_eq(weft_imap_destroy(imap), 0);
    if (ending != RUNTIME_ENDS) {
        check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    }
    check_eq(weft_group_len(pool), 0);
    check_eq(pool_queued(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    if (ending != RUNTIME_ENDS) {
        check_eq(weft_runtime_destroy(runtime), 0);
    }
    check(maxsize == 0 || stream_peak <= maxsize);
    stream_settle();
}

int main(int argc, char **argv)
{
    stress = stress_begin(argc, argv);
    uint64_t state = stress.seed;
    play(&state);
    stress_watch_begin(&watch);
    while (stress_goes_on(&stress)) {
        play(&state);
    }
    stress_watch_end(&watch);
    uint64_t all = a_load(&watch.rounds, RELAXED);
    waits_ran_out = a_load(&ran_out, RELAXED);
    printf(
        "%llu rounds, %llu items, %llu waits ran out; caught midway: %llu read on, %llu closed, %llu killed, %llu destroyed, %llu "
        "left by their runtime\n",
        (unsigned long long)all, (unsigned long long)items, (unsigned long long)waits_ran_out, (unsigned long long)caught[READ_ON],
        (unsigned long long)caught[CLOSE], (unsigned long long)caught[KILL], (unsigned long long)caught[DESTROY_EARLY],
        (unsigned long long)caught[RUNTIME_ENDS]);
    for (int i = 0; i < ENDINGS; i++) {
        if (caught[i] == 0 && all >= 500) { /* a slow machine may be done before every ending has had its turn */
            printf("one of them never was: nothing was tested\n");
            return 1;
        }
    }
    return 0;
}
