/* E5: time; E7: where a call may be made, and that nothing blocks a worker. */
#include "contract.h"

PROMISE(E5_now_is_the_monotonic_clock, EVERYWHERE)
{
    struct timespec time;
    int64_t before = weft_now();
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    int64_t clock = time.tv_sec * WEFT_SEC + time.tv_nsec;
    check(before <= clock && clock <= weft_now());
}

PROMISE(E5_after_saturates, ONCE)
{
    check_eq(weft_after(INT64_MAX), WEFT_FOREVER);
    check_eq(weft_after(INT64_MAX - 1), WEFT_FOREVER);
    check(weft_after(WEFT_SEC) > weft_now());
    check(weft_after(-WEFT_SEC) < weft_now());
    (void)weft_after(INT64_MIN);
}

PROMISE(E5_deadlines_are_absolute_and_the_past_is_now, EVERY)
{
    struct gate gate = { 0 };
    pool_fill(&gate);
    int64_t begin = weft_now();
    check_eq(weft_group_join(pool, 1), -ETIMEDOUT);
    check_eq(weft_group_join(pool, -5), -ETIMEDOUT);
    check_eq(weft_group_join(pool, begin - 1), -ETIMEDOUT);
    check_eq(weft_sleep_until(begin), 0);
    check_eq(weft_sleep_until(-1), 0);
    check(weft_now() < begin + 10 * WEFT_SEC);
    pool_empty(&gate);
}

PROMISE(E5_a_wait_never_ends_early, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    struct weft_outcome outcome;
    for (int64_t ns = 1; ns < 3 * WEFT_MSEC; ns = ns * 7 + 1000) {
        int64_t deadline = weft_after(ns);
        check_eq(weft_task_join(task, deadline), -ETIMEDOUT);
        check(weft_now() >= deadline);
        deadline = weft_after(ns);
        check_eq(weft_task_get(task, deadline, &outcome), -ETIMEDOUT);
        check(weft_now() >= deadline);
        deadline = weft_after(ns);
        check_eq(weft_tasks_wait(&task, 1, 1, deadline), 0);
        check(weft_now() >= deadline);
        deadline = weft_after(ns);
        check_eq(weft_group_join(pool, deadline), -ETIMEDOUT);
        check(weft_now() >= deadline);
        deadline = weft_after(ns);
        check_eq(weft_sleep_until(deadline), 0);
        check(weft_now() >= deadline);
    }
    gate_open(&gate);
    ends_ok(task);
}

PROMISE(E5_in_options_0_is_no_deadline, EVERYWHERE)
{
    struct weft_task *task;
    count_reset();
    check_eq(weft_task_spawn(runtime, count_run, NULL, WEFT_OPTIONS(weft_task_options, .deadline = 0), &task), 0);
    ends_ok(task);
    check_eq(ran, 1);
}

/* The only worker is busy until the deadline of the other's wait has passed: kill and timeout meet. */
struct meeting {
    struct gate gate;
    struct weft_task *waits_for;
    int64_t deadline;
    _Atomic bool waits;
    int rc, next_rc;
};

static int wait_for_gate(void *arg, void **result)
{
    (void)result;
    struct meeting *meeting = arg;
    meeting->rc = gate_pass_until(&meeting->gate, meeting->deadline);
    return meeting->rc;
}

static int kill_late(void *arg, void **result)
{
    (void)result;
    struct meeting *meeting = arg;
    while (weft_now() <= meeting->deadline) {
    }
    check_eq(weft_task_kill(meeting->waits_for, -EIO, WEFT_NOWAIT), 0);
    return 0;
}

PROMISE(E5_when_kill_and_timeout_meet_kill_wins, ONCE)
{
    struct weft_runtime *one = runtime_with(1);
    for (int round = 0, met = 0; met < 3; round++) {
        check(round < 1000);
        struct meeting meeting = { .deadline = weft_after(2 * WEFT_MSEC) };
        struct weft_task *killer;
        check_eq(weft_task_spawn(one, wait_for_gate, &meeting, NULL, &meeting.waits_for), 0);
        until(gate_waiting(&meeting.gate) == 1 || weft_task_finished(meeting.waits_for));
        check_eq(weft_task_spawn(one, kill_late, &meeting, NULL, &killer), 0);
        check_eq(weft_task_join(killer, WEFT_FOREVER), 0);
        check_eq(weft_task_join(meeting.waits_for, WEFT_FOREVER), 0);
        check(meeting.rc == -ECANCELED || meeting.rc == -ETIMEDOUT); /* the second: it had woken before the killer began */
        met += meeting.rc == -ECANCELED;
        weft_task_release(killer);
        weft_task_release(meeting.waits_for);
    }
    check_eq(weft_runtime_destroy(one), 0);
}

static int wait_for_task(void *arg, void **result)
{
    (void)result;
    struct meeting *meeting = arg;
    a_store(&meeting->waits, true, SEQ_CST);
    meeting->rc = weft_task_join(meeting->waits_for, meeting->deadline);
    meeting->next_rc = weft_sleep_until(0);
    return meeting->next_rc;
}

static int outlast(void *arg, void **result)
{
    (void)result;
    struct meeting *meeting = arg;
    check_eq(gate_pass(&meeting->gate), 0);
    while (weft_now() <= meeting->deadline) {
    }
    return 0;
}

static void kill_waiter(struct weft_task *task, const struct weft_outcome *outcome, void *waiter)
{
    (void)task, (void)outcome;
    (void)weft_task_kill(waiter, -EIO, WEFT_NOWAIT);
    a_add(&called, 1u, SEQ_CST);
}

/* What the waiter waits for ends past the waiter's deadline, before the one worker can see that, and then kills it. */
PROMISE(E5_what_was_waited_for_wins_over_both, ONCE)
{
    struct weft_runtime *one = runtime_with(1);
    for (int round = 0, met = 0; met < 3; round++) {
        check(round < 1000);
        struct meeting meeting = { .deadline = weft_after(5 * WEFT_MSEC) };
        struct weft_task *waiter;
        count_reset();
        check_eq(weft_task_spawn(one, outlast, &meeting, NULL, &meeting.waits_for), 0);
        check_eq(weft_task_spawn(one, wait_for_task, &meeting, NULL, &waiter), 0);
        check_eq(weft_task_link(meeting.waits_for, kill_waiter, waiter, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
        until(a_load(&meeting.waits, SEQ_CST));
        gate_open(&meeting.gate);
        check_eq(weft_task_join(waiter, WEFT_FOREVER), 0);
        until(a_load(&called, SEQ_CST) == 1); /* the link has its waiter till then */
        check(meeting.rc == 0 || meeting.rc == -ETIMEDOUT);
        check(meeting.rc != 0 || meeting.next_rc == -ECANCELED);
        met += meeting.rc == 0;
        weft_task_release(meeting.waits_for);
        weft_task_release(waiter);
    }
    check_eq(weft_runtime_destroy(one), 0);
}

/* ---- E7 ---- */

static int use_everything(void *arg)
{
    (void)arg;
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate), *tasks[2];
    struct weft_outcome outcome;
    check_eq(weft_task_join(task, weft_after(1000)), -ETIMEDOUT);
    gate_open(&gate);
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    weft_task_release(task);
    tasks[0] = task_spawn(do_nothing, NULL);
    tasks[1] = task_create(do_nothing, NULL);
    check_eq(weft_task_start(tasks[1]), 0);
    check_eq(weft_tasks_wait(tasks, 2, 2, WEFT_FOREVER), 2);
    weft_tasks_release(tasks, 2);
    check(weft_pool_wait_available(pool, WEFT_FOREVER) >= 1);
    check_eq(weft_sleep_until(weft_after(1000)), 0);
    weft_yield();
    check_eq(weft_checkpoint(), 0);
    check_eq(weft_cancel_reason(), 0);
    check(!weft_cancel_mask(false));
    return 0;
}

static int use_everything_elsewhere(void *arg, void **result)
{
    (void)result;
    return use_everything(arg);
}

/* Main, a thread, a task, a task of another runtime, all at once. */
PROMISE(E7_any_thread_may_call, EVERYWHERE)
{
    struct weft_runtime *other = runtime_with(1);
    struct weft_task *task;
    struct actor actors[2];
    check_eq(weft_task_spawn(other, use_everything_elsewhere, NULL, NULL, &task), 0);
    actor_start(&actors[0], false, use_everything, NULL);
    actor_start(&actors[1], true, use_everything, NULL);
    check_eq(use_everything(NULL), 0);
    check_eq(actor_end(&actors[0]), 0);
    check_eq(actor_end(&actors[1]), 0);
    ends_ok(task);
    check_eq(weft_runtime_destroy(other), 0);
}

struct blocked {
    struct gate gate;
    struct weft_task *holder;
    struct weft_group *full;
    struct weft_imap *imap;
    struct weft_runtime *other;
    _Atomic uint32_t begun;
};

static int block_join(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_task_join(blocked->holder, WEFT_FOREVER);
}

static int block_get(void *arg)
{
    struct blocked *blocked = arg;
    struct weft_outcome outcome;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_task_get(blocked->holder, WEFT_FOREVER, &outcome);
}

static int block_tasks_wait(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_tasks_wait(&blocked->holder, 1, 1, WEFT_FOREVER) - 1;
}

static int block_group_join(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_group_join(blocked->full, WEFT_FOREVER);
}

static int block_spawn(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_group_spawn(blocked->full, do_nothing, NULL, NULL);
}

static int block_available(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    int rc = weft_pool_wait_available(blocked->full, WEFT_FOREVER);
    return rc < 0 ? rc : 0;
}

static int block_next(void *arg)
{
    struct blocked *blocked = arg;
    struct weft_item item;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_imap_next(blocked->imap, &item, WEFT_FOREVER);
}

static int block_map(void *arg);

static int block_runtime_join(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_runtime_join(blocked->other, WEFT_FOREVER);
}

static int pass_gate_item(void *gate, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return gate_pass(gate);
}

static int block_map(void *arg)
{
    struct blocked *blocked = arg;
    a_add(&blocked->begun, 1u, SEQ_CST);
    return weft_group_map(NULL, pass_gate_item, &blocked->gate, 3, NULL, 0, NULL, 0, NULL);
}

static int source_gate(void *gate, void **item)
{
    (void)item;
    return gate_pass(gate);
}

/* One worker; as many as block, another task still runs on it. */
PROMISE(E7_nothing_blocks_a_worker, WORKERS)
{
    act_fn *const acts[] = { block_join,      block_get,  block_tasks_wait, block_group_join,  block_spawn,
                             block_available, block_next, block_map,        block_runtime_join };
    enum { ACTS = sizeof acts / sizeof *acts };
    struct blocked blocked = { .full = pool_make(runtime, 1), .other = runtime_with(1) };
    struct weft_source source = { source_gate, &blocked.gate, NULL };
    struct actor actors[ACTS];
    blocked.holder = member_spawn(blocked.full, pass_gate, &blocked.gate);
    check_eq(weft_task_spawn(blocked.other, pass_gate, &blocked.gate, NULL, NULL), 0);
    check_eq(weft_group_imap(NULL, &source, 1, element_nothing, NULL, NULL, &blocked.imap), 0);
    for (size_t i = 0; i < ACTS; i++) {
        actor_start(&actors[i], false, acts[i], &blocked);
    }
    until(a_load(&blocked.begun, SEQ_CST) == ACTS);
    for (int i = 0; i < 100; i++) {
        ends_ok(task_spawn(do_nothing, NULL));
    }
    for (size_t i = 0; i < ACTS; i++) {
        check(!actor_done(&actors[i]));
    }
    gate_open(&blocked.gate);
    for (size_t i = 0; i < ACTS; i++) {
        check_eq(actor_end(&actors[i]), 0);
    }
    weft_task_release(blocked.holder);
    check_eq(weft_imap_destroy(blocked.imap), 0);
    check_eq(weft_group_join(blocked.full, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(blocked.full), 0);
    check_eq(weft_runtime_destroy(blocked.other), 0);
}
