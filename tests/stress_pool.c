/* usage: stress_pool [SEED [SECONDS]]
 * Two small pools; actors in threads and tasks spawn, map, imap and wait in them, nested in one another and to and fro between the
 * two, with deadlines that are about to pass, while somebody kills actors, members and whole groups. Whatever comes of each call, in
 * the end every slot is back, every loan closed, every argument freed as often as it was taken over (P4, P6, H21, H23, H24, H28).
 *
 * What each actor does follows from the seed; how they meet does not, so the end says how often each outcome was seen. */
#include "testing.h"

#include "gate.h"
#include "stress.h"

enum { THREADS = 3, TASKS = 5, STEPS = 40 };

static struct weft_runtime *runtime;
static struct weft_group *pools[2];
static size_t sizes[2];
static _Atomic uint32_t taken_over, frees, ran;
static _Atomic uint64_t done_steps, given, late, refused, killed, shut, circles, items;

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, RELAXED);
}

static void count(int rc)
{
    switch (rc) {
    case 0: a_add(&given, 1u, RELAXED); break;
    case -ETIMEDOUT: a_add(&late, 1u, RELAXED); break;
    case -EAGAIN: a_add(&refused, 1u, RELAXED); break;
    case -ECANCELED: a_add(&killed, 1u, RELAXED); break;
    case -ESHUTDOWN: a_add(&shut, 1u, RELAXED); break;
    case -EDEADLK: a_add(&circles, 1u, RELAXED); break;
    default: (void)fprintf(stderr, "what is %d?\n", rc); abort();
    }
}

/* ---- what is done inside ---- */

struct deed {
    uint64_t state;
    unsigned depth;
};

static void act(struct deed *deed, bool member);

static struct deed inner_deed(const struct deed *outer, uint64_t salt)
{
    struct deed deed = { outer->state ^ (salt + 1) * UINT64_C(0x2545f4914f6cdd1d), outer->depth - 1 };
    return deed;
}

static int run_member(void *arg, void **result)
{
    (void)result;
    struct deed deed = { (uint64_t)(uintptr_t)arg, 1 };
    a_add(&ran, 1u, RELAXED);
    if (next_random(&deed.state) % 2 == 0) {
        act(&deed, true);
    }
    return 0;
}

static int map_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    struct deed deed = inner_deed(ctx, index);
    a_add(&items, 1u, RELAXED);
    act(&deed, true);
    return 0;
}

static int imap_item(void *ctx, void *item, void **result)
{
    (void)result;
    return map_item(ctx, (size_t)item, NULL, NULL);
}

static void run_imap(struct deed *deed, struct weft_group *pool, uint64_t random)
{
    static const char things[4];
    struct weft_array array = { .base = things, .stride = 1, .n = 1 + random % 4 };
    struct weft_imap *imap;
    struct weft_item item;
    int rc = weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, imap_item, deed,
                             WEFT_OPTIONS(weft_imap_options, .maxsize = random / 4 % 3), &imap);
    if (rc == 0) {
        while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
        }
        check_eq(weft_imap_destroy(imap), 0);
    }
    count(rc);
}

static void run_spawn(struct deed *deed, struct weft_group *pool, uint64_t random, bool member)
{
    static const int64_t patience_us[] = { 0, 1, 20, 100, 1000 };
    struct weft_task *task;
    int64_t wait_us = patience_us[random % 5];
    /* A member's wait for the other pool's slot may be half of a circle that P7 does not promise to see: it does not wait for ever. */
    int64_t deadline = wait_us == 0 ? WEFT_NOWAIT : !member && random % 7 == 0 ? WEFT_FOREVER : weft_after(wait_us * 1000);
    int rc = weft_group_spawn_with(pool, run_member, (void *)(uintptr_t)(next_random(&deed->state) | 1),
                                   WEFT_OPTIONS(weft_task_options, .arg_free = count_free), deadline, &task);
    count(rc);
    if (rc == 0) {
        a_add(&taken_over, 1u, RELAXED);
        if (random % 3 == 0) {
            (void)weft_task_kill(task, 0, WEFT_NOWAIT);
        }
        if (random % 2 == 0) {
            count(weft_task_join(task, WEFT_FOREVER));
        }
        weft_task_release(task);
    }
}

static void act(struct deed *deed, bool member)
{
    uint64_t random = next_random(&deed->state);
    struct weft_group *pool = pools[random & 1];
    unsigned kind = (unsigned)(deed->depth > 0 ? random / 2 % 6 : 4 + random / 2 % 2);
    random /= 16;
    switch (kind) {
    case 0:
    case 1: {
        int64_t deadline = random % 5 == 0 ? weft_after((int64_t)(random % 100000)) : 0;
        count(weft_group_map(pool, map_item, deed, 1 + random % 4, NULL, 0, NULL, 0,
                             WEFT_OPTIONS(weft_map_options, .deadline = deadline)));
        break;
    }
    case 2: run_imap(deed, pool, random); break;
    case 3: run_spawn(deed, pool, random, member); break;
    case 4: {
        int rc = weft_pool_wait_available(pool, weft_after((int64_t)(random % 50000)));
        count(rc > 0 ? 0 : rc == 0 ? -ETIMEDOUT : rc);
        break;
    }
    default: weft_yield(); break;
    }
}

/* ---- the actors ---- */

static void act_often(uint64_t state)
{
    for (int step = 0; step < STEPS; step++) {
        struct deed deed = { next_random(&state), (unsigned)(next_random(&state) % 4) };
        act(&deed, false);
        a_add(&done_steps, 1u, RELAXED);
    }
}

static void act_in_thread(void *arg) { act_often((uint64_t)(uintptr_t)arg); }

static int act_in_task(void *arg, void **result)
{
    (void)result;
    act_often((uint64_t)(uintptr_t)arg);
    return 0;
}

static void report(void)
{
    fprintf(stderr, "%llu steps done\n", (unsigned long long)a_load(&done_steps, RELAXED));
    for (int i = 0; i < 2; i++) {
        fprintf(stderr, "  pool of %zu: len %zu, free %zu, %zu queued, %u loans open\n", sizes[i], weft_group_len(pools[i]),
                weft_pool_free_count(pools[i]), pool_queued(pools[i]), a_load(&pools[i]->admission.loan_count, RELAXED));
    }
}

static struct stress stress;
static struct stress_watch watch = { .stress = &stress, .report = report };

static void play(uint64_t *state)
{
    struct os_thread threads[THREADS];
    struct weft_task *tasks[TASKS];
    unsigned workers = 1 + (unsigned)(next_random(state) % 4), group_kills = next_random(state) % 4 == 0 ? 3 : 0;
    a_store(&taken_over, 0u, SEQ_CST);
    a_store(&frees, 0u, SEQ_CST);
    runtime = runtime_with(workers);
    for (int i = 0; i < 2; i++) {
        sizes[i] = 1 + next_random(state) % 3;
        pools[i] = pool_make(runtime, sizes[i]);
    }
    a_add(&watch.rounds, 1u, SEQ_CST);
    for (int i = 0; i < THREADS; i++) {
        check_eq(os_thread_start(&threads[i], act_in_thread, (void *)(uintptr_t)next_random(state), "actor"), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        check_eq(weft_task_spawn(runtime, act_in_task, (void *)(uintptr_t)next_random(state), NULL, &tasks[i]), 0);
    }
    for (unsigned i = 0; i < 12; i++) {
        uint64_t random = next_random(state);
        (void)weft_task_kill(tasks[random % TASKS], 0, WEFT_NOWAIT);
        if (i < group_kills) {
            (void)weft_group_kill(pools[random / 8 % 2], 0, random / 16 % 2 ? WEFT_NOWAIT : WEFT_FOREVER);
        }
        check_eq(weft_sleep_until(weft_after((int64_t)(random / 32 % 200) * 1000)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(threads[i]);
    }
    check_eq(weft_tasks_wait(tasks, TASKS, TASKS, WEFT_FOREVER), TASKS);
    weft_tasks_release(tasks, TASKS);
    for (int turn = 0; turn < 2; turn++) { /* members of one may have spawned in the other */
        check_eq(weft_group_join(pools[0], WEFT_FOREVER), 0);
        check_eq(weft_group_join(pools[1], WEFT_FOREVER), 0);
    }
    for (int i = 0; i < 2; i++) {
        check_eq(weft_group_len(pools[i]), 0);
        check_eq(weft_pool_free_count(pools[i]), sizes[i]);
        check_eq(pool_queued(pools[i]), 0);
        check_eq(a_load(&pools[i]->admission.loan_count, RELAXED), 0);
        check_eq(weft_group_destroy(pools[i]), 0);
    }
    check_eq(a_load(&frees, SEQ_CST), a_load(&taken_over, SEQ_CST));
    check_eq(weft_runtime_destroy(runtime), 0);
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
    printf(
        "%llu rounds, %llu items, %u members ran; calls: %llu went well, %llu late, %llu refused, %llu killed, %llu shut out, %llu "
        "in a circle\n",
        (unsigned long long)all, (unsigned long long)items, ran, (unsigned long long)given, (unsigned long long)late,
        (unsigned long long)refused, (unsigned long long)killed, (unsigned long long)shut, (unsigned long long)circles);
    if (given == 0 || late == 0 || refused == 0 || killed == 0) {
        printf("one of these never happened: nothing was tested\n");
        return 1;
    }
    return 0;
}
