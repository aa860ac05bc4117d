/* link: what happens when a task has ended (contract T8). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include <limits.h>
#include <pthread.h>

#include "memory.h"
#include "tasks.h"

static struct weft_runtime *runtime;
static _Atomic int fired;
static _Atomic int order[64]; /* which link fired as the n-th, plus one */

static void setup(void) { runtime = runtime_make(); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(link, .init = setup, .fini = teardown);

static int numbers[64];

static int *number(int i)
{
    numbers[i] = i;
    return &numbers[i];
}

static void note(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome;
    int place = atomic_fetch_add(&begun, 1);
    atomic_store(&order[place], *(int *)arg + 1);
    gate_open(&fired);
}

static int return_at_gate(void *arg, void **value)
{
    (void)value;
    gate_wait(&open_gate, 1);
    return arg ? *(int *)arg : 0;
}

/* All links have fired and ended. */
static void settle(int links)
{
    gate_wait(&fired, links);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&fired), links, "each once");
}

Test(link, fires_once_in_the_order_made_T8)
{
    enum { LINKS = 40 };
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    for (int i = 0; i < LINKS; i++) {
        unsigned raw = i % 3 == 1 ? WEFT_LINK_RAW : 0;
        cr_assert_eq(weft_task_link(task, note, number(i), WEFT_ON_ANY | raw, NULL), 0);
    }
    gate_open(&open_gate);
    settle(LINKS);
    for (int i = 0; i < LINKS; i++) {
        cr_assert_eq(atomic_load(&order[i]), i + 1);
    }
    weft_task_release(task);
}

Test(link, fires_only_on_the_outcomes_asked_for_T8)
{
    int fail = -EPIPE, killed = -ECANCELED;
    int *returns[] = { NULL, &fail, &killed };
    unsigned flags[] = { WEFT_ON_OK, WEFT_ON_FAILED, WEFT_ON_CANCELLED };
    for (int o = 0; o < 3; o++) {
        atomic_store(&open_gate, 0);
        atomic_store(&fired, 0);
        atomic_store(&begun, 0);
        struct weft_task *task = spawn_in(runtime, return_at_gate, returns[o]);
        for (int f = 0; f < 3; f++) {
            cr_assert_eq(weft_task_link(task, note, number(f), flags[f], NULL), 0);
            cr_assert_eq(weft_task_link(task, note, number(f), flags[f] | WEFT_LINK_RAW, NULL), 0);
        }
        if (o == 2) {
            until(weft_task_kill(task, 0, WEFT_NOWAIT) == -EALREADY || weft_task_finished(task));
        }
        gate_open(&open_gate);
        settle(2);
        cr_assert_eq(atomic_load(&order[0]), o + 1);
        cr_assert_eq(atomic_load(&order[1]), o + 1);
        weft_task_release(task);
    }
}

Test(link, wrong_arguments_are_einval_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    uint64_t id = 7;
    cr_assert_eq(weft_task_link(task, note, NULL, 0, &id), -EINVAL);
    cr_assert_eq(weft_task_link(task, note, NULL, WEFT_LINK_RAW, &id), -EINVAL);
    cr_assert_eq(weft_task_link(task, note, NULL, 1u << 20 | WEFT_ON_OK, &id), -EINVAL);
    cr_assert_eq(weft_task_link(task, NULL, NULL, WEFT_ON_OK, &id), -EINVAL);
    cr_assert_eq(weft_task_link(NULL, note, NULL, WEFT_ON_OK, &id), -EINVAL);
    cr_assert_eq(id, 7);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    cr_assert_eq(atomic_load(&fired), 0);
}

static _Atomic int second_gate, saw_second;

static void block_then_look(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome;
    /* The next one is the one that ends this wait, so it begins although this one has not returned. */
    if (weft_task_join(arg, WEFT_FOREVER) == 0) {
        gate_open(&saw_second);
    }
    gate_open(&fired);
}

static void let_first_go_on(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    gate_open(&second_gate);
    gate_open(&fired);
}

static int at_second_gate(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_wait(&second_gate, 1);
    return 0;
}

Test(link, next_begins_when_the_one_before_has_blocked_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL), *other = spawn_in(runtime, at_second_gate, NULL);
    cr_assert_eq(weft_task_link(task, block_then_look, other, WEFT_ON_ANY, NULL), 0);
    cr_assert_eq(weft_task_link(task, let_first_go_on, NULL, WEFT_ON_ANY, NULL), 0);
    gate_open(&open_gate);
    settle(2);
    cr_assert_eq(atomic_load(&saw_second), 1);
    weft_task_release(task);
    weft_task_release(other);
}

static _Atomic int overtaken;

/* Yields, and so lets every other worker and every other task run, but does not block. */
static void yield_and_look(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    for (int i = 0; i < 500; i++) {
        weft_yield();
    }
    if (atomic_load(&fired) != 0) {
        gate_open(&overtaken);
    }
}

Test(link, next_does_not_begin_while_the_one_before_runs_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    cr_assert_eq(weft_task_link(task, yield_and_look, NULL, WEFT_ON_ANY, NULL), 0);
    cr_assert_eq(weft_task_link(task, note, number(0), WEFT_ON_ANY, NULL), 0);
    gate_open(&open_gate);
    settle(1);
    cr_assert_eq(atomic_load(&overtaken), 0);
    weft_task_release(task);
}

struct where {
    struct weft_task *task, *linked;
    unsigned worker;
    int sleep, join, group_join;
    struct weft_outcome outcome;
};

static struct where seen[3];
static struct weft_task *never_started;

static void look_around(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct where *where = arg;
    *where = (struct where){ .task = weft_task_current(), .linked = task, .worker = weft_worker_index(), .outcome = *outcome };
    where->sleep = weft_sleep_until(WEFT_NOWAIT);
    where->join = weft_task_join(never_started, weft_after(WEFT_MSEC));
    struct weft_group *group = NULL;
    int rc = weft_group_create(runtime, NULL, &group);
    where->group_join = rc != 0 ? rc : weft_group_join(group, WEFT_FOREVER);
    (void)weft_group_destroy(group);
    gate_open(&fired);
}

static _Atomic unsigned last_worker;

static int at_gate_then_where(void *arg, void **value)
{
    gate_wait(&open_gate, 1);
    *value = arg;
    atomic_store(&last_worker, weft_worker_index());
    return 0;
}

Test(link, each_runs_in_a_task_of_its_own_T8)
{
    cr_assert_eq(weft_task_create(runtime, return_at_gate, NULL, NULL, &never_started), 0);
    struct weft_task *task = spawn_in(runtime, at_gate_then_where, &fired);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(weft_task_link(task, look_around, &seen[i], WEFT_ON_ANY, NULL), 0);
    }
    gate_open(&open_gate);
    settle(2);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(seen[i].linked, task);
        cr_assert_not_null(seen[i].task);
        cr_assert_neq(seen[i].task, task);
        cr_assert_eq(seen[i].sleep, 0, "blocking calls are fine there");
        cr_assert_eq(seen[i].join, -ETIMEDOUT);
        cr_assert_eq(seen[i].group_join, 0);
        cr_assert_eq(seen[i].outcome.status, WEFT_OK);
        cr_assert_eq(seen[i].outcome.value, &fired);
    }
    weft_task_release(task);
    weft_task_release(never_started);
}

Test(link, raw_runs_on_the_finishing_worker_where_blocking_is_eperm_T8)
{
    cr_assert_eq(weft_task_create(runtime, return_at_gate, NULL, NULL, &never_started), 0);
    struct weft_task *task = spawn_in(runtime, at_gate_then_where, NULL);
    cr_assert_eq(weft_task_link(task, look_around, &seen[0], WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    gate_open(&open_gate);
    settle(1);
    cr_assert_eq(seen[0].worker, atomic_load(&last_worker));
    cr_assert_eq(seen[0].sleep, -EPERM);
    cr_assert_eq(seen[0].join, -EPERM);
    cr_assert_eq(seen[0].group_join, -EPERM);
    weft_task_release(task);

    cr_assert_eq(weft_task_create(runtime, return_at_gate, NULL, NULL, &task), 0);
    cr_assert_eq(weft_task_link(task, look_around, &seen[1], WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(atomic_load(&fired), 2, "on this thread, which has ended it");
    cr_assert_eq(seen[1].worker, UINT_MAX);
    cr_assert_eq(seen[1].sleep, -EPERM);
    cr_assert_eq(weft_sleep_until(WEFT_NOWAIT), 0, "that is over");
    weft_task_release(task);
    weft_task_release(never_started);
}

static int link_after_the_end(void *arg, void **value)
{
    (void)value;
    struct weft_task *task = arg;
    for (unsigned raw = 0; raw <= WEFT_LINK_RAW; raw += WEFT_LINK_RAW) {
        int before = atomic_load(&begun);
        CHECK(weft_task_link(task, note, number((int)raw), WEFT_ON_ANY | raw, NULL) == 0);
        CHECK(atomic_load(&begun) == before || weft_runtime_workers(NULL) > 1); /* with one worker it cannot have run yet */
        gate_wait(&fired, before + 1);
    }
    return 0;
}

Test(link, made_after_the_end_is_scheduled_never_inline_T8)
{
    cr_assert_eq(weft_task_create(runtime, return_at_gate, NULL, NULL, &never_started), 0);
    gate_open(&open_gate);
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(run_in(runtime, link_after_the_end, task), 0);
    atomic_store(&fired, 0);
    cr_assert_eq(weft_task_link(task, look_around, &seen[0], WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    settle(1);
    cr_assert_neq(seen[0].worker, UINT_MAX, "not on this thread");
    cr_assert_neq(seen[0].task, task);
    weft_task_release(task);
    weft_task_release(never_started);
}

Test(link, unlink_0_means_it_never_runs_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    uint64_t ids[4];
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(weft_task_link(task, note, number(i), WEFT_ON_ANY | (i == 2 ? WEFT_LINK_RAW : 0), &ids[i]), 0);
    }
    cr_assert_eq(weft_task_unlink(task, ids[1]), 0);
    cr_assert_eq(weft_task_unlink(task, ids[2]), 0);
    cr_assert_eq(weft_task_unlink(task, ids[1]), -ENOENT, "once");
    cr_assert_eq(weft_task_unlink(task, 0), -ENOENT);
    cr_assert_eq(weft_task_unlink(task, UINT64_MAX), -ENOENT);
    gate_open(&open_gate);
    settle(2);
    cr_assert_eq(atomic_load(&order[0]), 1);
    cr_assert_eq(atomic_load(&order[1]), 4);
    cr_assert_eq(weft_task_unlink(task, ids[0]), -ENOENT, "it has run");
    weft_task_release(task);
}

/* Against the end of the task: it ran, or unlink says that it never will. */
Test(link, unlink_beside_the_end_is_one_or_the_other_T8)
{
    const int rounds = weft_test_full() ? 10000 : 300;
    int unlinked = 0;
    for (int round = 0; round < rounds; round++) {
        uint64_t ids[2];
        atomic_store(&open_gate, 0);
        atomic_store(&fired, 0);
        atomic_store(&begun, 0);
        struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(weft_task_link(task, note, number(i), WEFT_ON_ANY | (round % 2 ? WEFT_LINK_RAW : 0), &ids[i]), 0);
        }
        gate_open(&open_gate);
        for (int spin = round % 64; spin > 0; spin--) {
            weft_yield();
        }
        int rc = weft_task_unlink(task, ids[1]);
        cr_assert(rc == 0 || rc == -ENOENT);
        cr_assert_eq(finish_task(task).status, WEFT_OK);
        settle(rc == 0 ? 1 : 2);
        unlinked += rc == 0;
    }
    cr_log_info("%d of %d unlinked\n", unlinked, rounds);
}

/* Made beside the end: in the queue or after it, but never lost. */
Test(link, made_beside_the_end_is_never_lost_T8)
{
    const int rounds = weft_test_full() ? 10000 : 300;
    for (int round = 0; round < rounds; round++) {
        atomic_store(&open_gate, 0);
        atomic_store(&fired, 0);
        atomic_store(&begun, 0);
        struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
        cr_assert_eq(weft_task_link(task, note, number(0), WEFT_ON_ANY, NULL), 0);
        gate_open(&open_gate);
        for (int spin = round % 64; round % 2 == 0 && spin > 0; spin--) {
            weft_yield();
        }
        while (round % 2 == 1 && !weft_task_finished(task)) { /* then between its end and its links */
        }
        cr_assert_eq(weft_task_link(task, note, number(1), WEFT_ON_ANY, NULL), 0);
        settle(2);
        cr_assert_eq(atomic_load(&order[0]), 1, "round %d", round);
        weft_task_release(task);
    }
}

/* With every allocation refused between the link and the end. */
Test(link, firing_needs_no_memory_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    cr_assert_eq(weft_task_link(task, note, number(0), WEFT_ON_ANY, NULL), 0);
    cr_assert_eq(weft_task_link(task, note, number(1), WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    if (!memory_limit(0)) {
        gate_open(&open_gate);
        (void)finish_task(task);
        cr_skip("the address space cannot be limited here");
    }
    void *hoard = NULL;
    for (size_t size = 1 << 20; size >= 16; size /= 2) { /* what malloc still has */
        void **block;
        while ((block = malloc(size)) != NULL) {
            *block = hoard;
            hoard = block;
        }
    }
    gate_open(&open_gate);
    gate_wait(&fired, 2);
    memory_unlimit();
    while (hoard) {
        void *next = *(void **)hoard;
        free(hoard);
        hoard = next;
    }
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    settle(2);
}

static void note_nothing(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    gate_open(&fired);
}

/* Killing a link's task cancels that link alone: the chain goes on. */
static void kill_myself(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    if (weft_task_kill(weft_task_current(), 0, WEFT_NOWAIT) == -ECANCELED) {
        gate_open(&fired);
    }
}

Test(link, killed_one_does_not_stop_the_next_T8)
{
    struct weft_task *task = spawn_in(runtime, return_at_gate, NULL);
    cr_assert_eq(weft_task_link(task, kill_myself, NULL, WEFT_ON_ANY, NULL), 0);
    cr_assert_eq(weft_task_link(task, note_nothing, NULL, WEFT_ON_ANY, NULL), 0);
    gate_open(&open_gate);
    settle(2);
    weft_task_release(task);
}

/* Nobody has a handle, nobody joins, no option was given: its end is the short one, until its finish hook makes a link. */
static void link_in_hook(struct weft_task *task, void *ctx)
{
    if (atomic_fetch_add((_Atomic int *)ctx, 1) == 0 && weft_task_link(task, note, number(0), WEFT_ON_ANY, NULL) != 0) {
        abort();
    }
}

Test(link, made_by_the_finish_hook_of_a_task_without_a_handle_fires_T8)
{
    static _Atomic int hooked;
    const struct weft_task_hooks hooks = { .finish = link_in_hook, .ctx = &hooked };
    struct weft_runtime *hooking = runtime_of(WEFT_OPTIONS(weft_runtime_options, .workers = 1, .task_hooks = &hooks));
    cr_assert_eq(weft_task_spawn(hooking, do_nothing, NULL, NULL, NULL), 0);
    cr_assert_eq(weft_runtime_join(hooking, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&fired), 1);
    cr_assert_eq(weft_runtime_destroy(hooking), 0);
}
