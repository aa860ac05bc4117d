/* Memberships at random: finish against discard against add against start against kill, in groups and pools whose sizes change, with
 * applies of both kinds in between (contract G3, G4, G7, G8, P4, P5, A).
 *
 * usage: stress_membership [seed [seconds]]
 *
 * A round has a few tasks and three groups. Foreign threads and tasks do to them what can be done. Tasks sleep, yield, or wait for
 * others, and so lend slots that are discarded meanwhile. At the end of a round nothing is left in any group: len 0, every slot free, no
 * extras, no loan open; every argument was freed once; and every failure of a member was reported at most once. */
#include "testing.h"

#include "gate.h"

enum { GROUPS = 3, TASKS = 48, THREADS = 2, ACTORS = 3, STEPS = 150, PATIENCE_S = 30 };

static uint64_t seed;
static struct weft_runtime *runtime;
static struct weft_group *groups[GROUPS];
static struct weft_task *tasks[TASKS];
static _Atomic uint64_t rounds, done_steps;
static _Atomic uint64_t doing[THREADS + ACTORS]; /* for whoever looks at a hang */
static _Atomic uint32_t n_doing;
static _Atomic uint64_t frees, owed, failed, reported;
static _Atomic uint64_t added, refused_twice, too_late, started, killed_between, discarded, missed, killed, unknown, full, shut,
    circles, applied, apply_killed, queued;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, SEQ_CST);
}

/* What its number says. Waiting for a task of a lower number makes no circle. */
static int body(void *arg, void **result)
{
    (void)result;
    uint64_t n = (uint64_t)(uintptr_t)arg;
    switch (n % 6) {
    case 0: weft_yield(); return 0;
    case 1: return weft_sleep_until(weft_after((int64_t)(n / 8 % 100) * 1000));
    case 2: a_add(&failed, 1u, SEQ_CST); return -EIO;
    case 3:
        if (n >> 32) {
            int rc = weft_task_join(tasks[n / 8 % (n >> 32)], weft_after(WEFT_MSEC));
            return rc == -ETIMEDOUT ? 0 : rc;
        }
        return 0;
    default: return 0;
    }
}

static int64_t some_deadline(uint64_t random)
{
    return random % 3 == 0 ? WEFT_NOWAIT : weft_after((int64_t)(random / 4 % 300) * 1000);
}

/* Those of a call that may have to wait for a slot. */
static void count_refusal(int rc)
{
    switch (rc) {
    case -EAGAIN:
    case -ETIMEDOUT: a_add(&full, 1u, RELAXED); break;
    case -ESHUTDOWN: a_add(&shut, 1u, RELAXED); break;
    case -EDEADLK: a_add(&circles, 1u, RELAXED); break;
    default: check_eq(rc, -ECANCELED);
    }
}

static void apply_once(struct weft_group *group, uint64_t random)
{
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    const struct weft_apply_options *how = WEFT_OPTIONS(weft_apply_options, .task_options = options);
    void *arg = (void *)(uintptr_t)(random / 64 % 6 == 3 ? 0 : random / 64 % 6); /* it waits for nobody */
    struct weft_outcome outcome;
    if (random % 2) {
        struct weft_task *task;
        int rc = weft_group_apply_async(group, body, arg, how, &task);
        check_eq(rc, 0);
        a_add(&owed, 1u, SEQ_CST);
        a_add(&queued, weft_group_contains(group, task) || weft_task_finished(task) ? 0u : 1u, RELAXED);
        if (random / 4 % 3 == 0) {
            (void)weft_task_kill(task, 0, random / 16 % 2 ? WEFT_NOWAIT : WEFT_FOREVER);
        }
        weft_task_release(task);
        return;
    }
    static const struct weft_apply_options plain = { .struct_size = sizeof plain };
    int rc = weft_group_apply_cb(group, body, arg, &plain, &outcome);
    if (rc == 0) {
        a_add(&applied, 1u, RELAXED);
        check(outcome.status != WEFT_PENDING);
    } else {
        check_eq(outcome.status, WEFT_PENDING);
        check(rc == -ECANCELED || rc == -ESHUTDOWN);
        a_add(&apply_killed, 1u, RELAXED);
    }
}

static void look(struct weft_group *group)
{
    struct weft_task *some[4], *failure;
    struct weft_outcome outcome;
    size_t n = weft_group_snapshot(group, some, 4);
    weft_tasks_release(some, n < 4 ? n : 4);
    int rc = weft_group_join_outcome(group, WEFT_NOWAIT, &outcome, &failure);
    check(rc == 0 || rc == -ETIMEDOUT || rc == -EDEADLK);
    if (outcome.status == WEFT_FAILED) {
        a_add(&reported, 1u, SEQ_CST);
        check_eq(outcome.error, -EIO);
    }
    weft_task_release(failure);
}

static void act(uint64_t random)
{
    struct weft_group *group = groups[random % GROUPS];
    struct weft_task *task = tasks[random / 8 % TASKS];
    uint64_t more = random >> 16;
    int rc;
    switch (random / 256 % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        rc = weft_group_add(group, task, some_deadline(more));
        if (rc == 1 || rc == 0) {
            a_add(rc ? &added : &too_late, 1u, RELAXED);
        } else if (rc == -EALREADY) {
            a_add(&refused_twice, 1u, RELAXED);
        } else {
            count_refusal(rc);
        }
        break;
    case 4:
    case 5:
        rc = weft_group_start(group, task, some_deadline(more));
        if (rc == 1 || rc == 0) {
            a_add(rc ? &started : &killed_between, 1u, RELAXED);
        } else if (rc != -EALREADY) {
            count_refusal(rc);
        }
        break;
    case 6:
    case 7:
    case 8: a_add(weft_group_discard(group, task) ? &discarded : &missed, 1u, RELAXED); break;
    case 9:
        rc = weft_group_kill_one(group, task, 0, WEFT_NOWAIT);
        a_add(rc == -ENOENT ? &unknown : &killed, 1u, RELAXED);
        break;
    case 10: (void)weft_task_kill(task, 0, WEFT_NOWAIT); break;
    case 11:
        if (more % 16 == 0) {
            (void)weft_group_kill(group, 0, WEFT_NOWAIT);
        }
        break;
    case 12:
        if (group != groups[0]) {
            check_eq(weft_pool_resize(group, 1 + more % 4), 0);
        }
        break;
    case 13:
    case 14: apply_once(group, more); break;
    default: look(group); break;
    }
}

static void act_often(uint64_t state)
{
    _Atomic uint64_t *now = &doing[a_add(&n_doing, 1u, RELAXED) % (THREADS + ACTORS)];
    for (int step = 0; step < STEPS; step++) {
        uint64_t random = next_random(&state);
        a_store(now, random, RELAXED);
        act(random);
        a_add(&done_steps, 1u, RELAXED);
    }
    a_store(now, 0u, RELAXED);
}

static void act_in_thread(void *arg) { act_often((uint64_t)(uintptr_t)arg); }

static int act_in_task(void *arg, void **result)
{
    (void)result;
    act_often((uint64_t)(uintptr_t)arg);
    return 0;
}

static void watch(void *arg)
{
    (void)arg;
    uint64_t before = UINT64_MAX, now;
    int64_t since = os_now();
    while (a_load(&rounds, SEQ_CST) != 0) {
        if ((now = a_load(&rounds, SEQ_CST) + a_load(&done_steps, SEQ_CST)) != before) {
            before = now;
            since = os_now();
        } else if (os_now() - since > PATIENCE_S * WEFT_SEC) {
            fprintf(stderr, "seed %llu: round %llu hangs\n", (unsigned long long)seed, (unsigned long long)rounds);
            for (int i = 0; i < GROUPS; i++) {
                fprintf(stderr, "  size %zu: len %zu, extras %zu, free %zu, %zu queued, %u loans open\n", weft_pool_size(groups[i]),
                        weft_group_len(groups[i]), a_load(&groups[i]->extras, RELAXED), weft_pool_free_count(groups[i]),
                        pool_queued(groups[i]), a_load(&groups[i]->admission.loan_count, RELAXED));
            }
            for (int i = 0; i < THREADS + ACTORS; i++) {
                uint64_t random = a_load(&doing[i], RELAXED);
                fprintf(stderr, "  an actor does %llu to group %llu, task %llu, %llu\n", (unsigned long long)(random / 256 % 16),
                        (unsigned long long)(random % GROUPS), (unsigned long long)(random / 8 % TASKS),
                        (unsigned long long)(random >> 16));
            }
            abort();
        }
        check_eq(weft_sleep_until(weft_after(WEFT_MSEC)), 0);
    }
}

static void begin_round(uint64_t *state)
{
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    runtime = runtime_with(1 + (unsigned)(next_random(state) % 4));
    check_eq(weft_group_create(runtime, NULL, &groups[0]), 0);
    for (int i = 1; i < GROUPS; i++) {
        groups[i] = pool_make(runtime, 1 + next_random(state) % 3);
    }
    for (uint64_t i = 0; i < TASKS; i++) {
        void *arg = (void *)(uintptr_t)(i << 32 | (next_random(state) & 0xffffffff));
        check_eq((next_random(state) % 2 ? weft_task_create : weft_task_spawn)(runtime, body, arg, options, &tasks[i]), 0);
        a_add(&owed, 1u, SEQ_CST);
    }
    a_add(&rounds, 1u, SEQ_CST);
}

static void end_round(void)
{
    for (int i = 0; i < TASKS; i++) {
        (void)weft_task_kill(tasks[i], 0, WEFT_FOREVER);
    }
    for (int i = 0; i < GROUPS; i++) {
        check_eq(weft_group_join(groups[i], WEFT_FOREVER), 0);
    }
    for (int i = 0; i < GROUPS; i++) {
        struct weft_group *group = groups[i];
        check_eq(weft_group_len(group), 0);
        check_eq(a_load(&group->extras, RELAXED), 0);
        check_eq(pool_queued(group), 0);
        check_eq(a_load(&group->admission.loan_count, RELAXED), 0);
        check_eq(weft_pool_free_count(group), i == 0 ? 1 : weft_pool_size(group));
        for (int k = 0; k < TASKS; k++) {
            check(!weft_group_contains(group, tasks[k]));
        }
        check_eq(weft_group_destroy(group), 0);
    }
    weft_tasks_release(tasks, TASKS);
    check_eq(weft_runtime_destroy(runtime), 0);
    check_eq(a_load(&frees, SEQ_CST), a_load(&owed, SEQ_CST));
    check(a_load(&reported, SEQ_CST) <= GROUPS * a_load(&failed, SEQ_CST));
}

static void play(uint64_t *state)
{
    struct os_thread threads[THREADS];
    struct weft_task *actors[ACTORS];
    begin_round(state);
    for (int i = 0; i < ACTORS; i++) { /* the first one is a member of a pool */
        void *arg = (void *)(uintptr_t)next_random(state);
        check_eq(i > 0 ? weft_task_spawn(runtime, act_in_task, arg, NULL, &actors[i])
                       : weft_group_spawn(groups[1], act_in_task, arg, &actors[i]),
                 0);
    }
    for (int i = 0; i < THREADS; i++) {
        check_eq(os_thread_start(&threads[i], act_in_thread, (void *)(uintptr_t)next_random(state), "actor"), 0);
    }
    for (int i = 0; i < 10; i++) {
        (void)weft_task_kill(actors[next_random(state) % ACTORS], 0, WEFT_NOWAIT);
        check_eq(weft_sleep_until(weft_after((int64_t)(next_random(state) % 300) * 1000)), 0);
    }
    for (int i = 0; i < TASKS; i++) { /* a member that is never started would hold its slot for ever */
        (void)weft_task_kill(tasks[i], 0, WEFT_NOWAIT);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(threads[i]);
    }
    check_eq(weft_tasks_wait(actors, ACTORS, ACTORS, WEFT_FOREVER), ACTORS);
    weft_tasks_release(actors, ACTORS);
    end_round();
}

int main(int argc, char **argv)
{
    struct os_thread watcher;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)os_now();
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 0) : weft_test_full() ? 60 : 2;
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    uint64_t state = seed;
    int64_t end = os_now() + seconds * WEFT_SEC;
    a_store(&rounds, 1u, SEQ_CST);
    check_eq(os_thread_start(&watcher, watch, NULL, "watcher"), 0);
    do {
        play(&state);
    } while (os_now() < end);
    uint64_t all = a_swap(&rounds, 0u, SEQ_CST) - 1;
    os_thread_join(watcher);
    printf("%llu rounds; add: %llu, %llu twice, %llu too late; start: %llu, %llu killed between; discard: %llu, %llu no member; "
           "kill_one: %llu, %llu no member; %llu full, %llu shut out, %llu in a circle; apply: %llu, %llu killed, %llu queued; "
           "%llu of %llu failures reported\n",
           (unsigned long long)all, (unsigned long long)added, (unsigned long long)refused_twice, (unsigned long long)too_late,
           (unsigned long long)started, (unsigned long long)killed_between, (unsigned long long)discarded,
           (unsigned long long)missed, (unsigned long long)killed, (unsigned long long)unknown, (unsigned long long)full,
           (unsigned long long)shut, (unsigned long long)circles, (unsigned long long)applied, (unsigned long long)apply_killed,
           (unsigned long long)queued, (unsigned long long)reported, (unsigned long long)failed);
    if (added == 0 || refused_twice == 0 || discarded == 0 || started == 0 || killed == 0 || full == 0 || applied == 0 ||
        queued == 0 || reported == 0) {
        printf("one of these never happened: nothing was tested\n");
        return 1;
    }
    return 0;
}
