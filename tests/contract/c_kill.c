/* C1, C2, C4 to C6: killing tasks. Which calls hear of a kill: c_points.c. */
#include "contract.h"

PROMISE(C1_reason_0_is_ecanceled_and_a_positive_one_is_refused, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_create(do_nothing, NULL), *member = member_spawn(pool, pass_gate, &gate);
    check_eq(weft_task_kill(task, 1, WEFT_NOWAIT), -EINVAL);
    check_eq(weft_group_kill(pool, 5, WEFT_FOREVER), -EINVAL);
    check_eq(weft_group_kill_one(pool, member, 5, WEFT_FOREVER), -EINVAL);
    check_eq(weft_runtime_kill(runtime, 1), -EINVAL);
    check(!weft_task_finished(task) && !weft_task_finished(member));
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    ends_with(task, WEFT_CANCELLED, -ECANCELED);
    gate_open(&gate);
    ends_ok(member);
}

static void note_cancelled(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)arg;
    check_eq(outcome->status, WEFT_CANCELLED);
    a_add(&called, 1u, SEQ_CST);
}

/* Killed before they start, by three routes: none runs, all end at once. */
PROMISE(C2_what_is_killed_before_it_starts_never_runs, EVERY)
{
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_arg);
    count_reset();
    for (int route = 0; route < 3; route++) {
        struct weft_task *task;
        struct weft_outcome outcome;
        args_freed = called = 0;
        check_eq(weft_task_create(runtime, count_run, NULL, options, &task), 0);
        check_eq(weft_task_link(task, note_cancelled, NULL, WEFT_ON_ANY, NULL), 0);
        check_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
        switch (route) {
        case 0: check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0); break;
        case 1: check_eq(weft_group_kill(pool, -EIO, WEFT_NOWAIT), 0); break;
        default: check_eq(weft_group_kill_one(pool, task, -EIO, WEFT_NOWAIT), 0); break;
        }
        check_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0); /* at once */
        check(outcome.status == WEFT_CANCELLED && outcome.error == -EIO);
        check_eq(args_freed, 1);
        check_eq(weft_group_len(pool), 0);
        until(a_load(&called, SEQ_CST) == 1);
        weft_task_release(task);
    }
    check_eq(ran, 0);
}

static int spin(void *go, void **result)
{
    (void)result;
    while (!a_load((_Atomic bool *)go, SEQ_CST)) {
    }
    return 0;
}

/* Queued behind others that keep all workers. */
PROMISE(C2_what_is_killed_in_the_queue_never_runs, WORKERS)
{
    _Atomic bool go = false;
    struct weft_task *busy[8], *queued;
    count_reset();
    for (unsigned i = 0; i < workers; i++) {
        busy[i] = task_spawn(spin, (void *)&go);
    }
    queued = task_spawn(count_run, NULL);
    if (weft_task_kill(queued, 0, WEFT_NOWAIT) == 0 && weft_task_finished(queued) && ran == 0) {
        ends_with(queued, WEFT_CANCELLED, -ECANCELED);
        a_store(&go, true, SEQ_CST);
    } else { /* a busy task had not begun: this one came first */
        a_store(&go, true, SEQ_CST);
        check_eq(weft_task_join(queued, WEFT_FOREVER), 0);
        weft_task_release(queued);
        check_eq(ran, 1);
    }
    for (unsigned i = 0; i < workers; i++) {
        ends_ok(busy[i]);
    }
}

/* ---- C4 ---- */

struct given {
    struct weft_task *waits_for;
    _Atomic uint32_t begun;
    int rc, next_rc;
};

static int wait_twice(void *arg, void **result)
{
    (void)result;
    struct given *given = arg;
    struct weft_outcome outcome;
    a_store(&given->begun, 1u, SEQ_CST);
    given->rc = weft_task_get(given->waits_for, WEFT_FOREVER, &outcome);
    given->next_rc = weft_sleep_until(0);
    return given->next_rc;
}

static void kill_raw(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)outcome, (void)task;
    check_eq(weft_task_kill(arg, -EIO, WEFT_NOWAIT), 0);
}

/* The kill comes right after what was waited for: on the one worker, before the waiter can go on. */
PROMISE(C4_what_was_given_before_the_kill_is_had_and_the_kill_comes_at_the_next_point, ONCE)
{
    struct weft_runtime *one = runtime_with(1);
    for (int i = 0; i < 50; i++) {
        struct gate gate = { 0 };
        struct given given = { 0 };
        struct weft_task *waiter, *after;
        check_eq(weft_task_spawn(one, pass_gate, &gate, NULL, &given.waits_for), 0);
        check_eq(weft_task_spawn(one, wait_twice, &given, NULL, &waiter), 0);
        check_eq(weft_task_link(given.waits_for, kill_raw, waiter, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
        until(gate_waiting(&gate) == 1 && a_load(&given.begun, SEQ_CST) == 1);
        check_eq(weft_task_spawn(one, do_nothing, NULL, NULL, &after), 0);
        ends_ok(after); /* when another has run on the one worker, the waiter is blocked */
        gate_open(&gate);
        check_eq(weft_task_join(waiter, WEFT_FOREVER), 0);
        check_eq(given.rc, 0);
        check_eq(given.next_rc, -ECANCELED);
        weft_task_release(given.waits_for);
        ends_with(waiter, WEFT_CANCELLED, -EIO);
    }
    check_eq(weft_runtime_destroy(one), 0);
}

PROMISE(C4_blocked_wakes_with_ecanceled, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct given given = { .waits_for = task_spawn(pass_gate, &gate) };
    struct weft_task *task = task_create(wait_twice, &given);
    check_eq(weft_task_start(task), 0);
    until(weft_task_state(task) == WEFT_TASK_RUNNING);
    check_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    check_eq(given.rc, -ECANCELED);
    check_eq(given.next_rc, 0);
    weft_task_release(task);
    check(!weft_task_finished(given.waits_for));
    gate_open(&gate);
    ends_ok(given.waits_for);
}

/* ---- C5 ---- */

static int hear_once(void *arg, void **result)
{
    (void)result;
    struct gate *gates = arg;
    check_eq(weft_cancel_reason(), 0);
    check_eq(weft_checkpoint(), 0);
    check_eq(gate_pass(&gates[0]), -ECANCELED);
    check_eq(weft_cancel_reason(), -EIO);
    check_eq(weft_sleep_until(weft_after(1000)), 0); /* cleanup may block */
    check_eq(gate_pass(&gates[1]), 0);
    check_eq(weft_checkpoint(), -ECANCELED); /* and the flag stays */
    check_eq(weft_checkpoint(), -ECANCELED);
    check_eq(weft_sleep_until(0), 0);
    return 0;
}

PROMISE(C5_waits_deliver_a_kill_once_and_checkpoint_stays, EVERYWHERE)
{
    struct gate gates[2] = { 0 };
    struct weft_task *task = task_spawn(hear_once, gates);
    until(gate_waiting(&gates[0]) == 1);
    check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    until(gate_waiting(&gates[1]) == 1);
    gate_open(&gates[1]);
    ends_ok(task);
}

struct flags {
    _Atomic bool begun, killed;
};

static int check_first(void *arg, void **result)
{
    (void)result;
    struct flags *flags = arg;
    a_store(&flags->begun, true, SEQ_CST);
    while (!a_load(&flags->killed, SEQ_CST)) {
        weft_yield();
    }
    check_eq(weft_checkpoint(), -ECANCELED);
    check_eq(weft_checkpoint(), -ECANCELED);
    check_eq(weft_sleep_until(0), -ECANCELED); /* checkpoint has used nothing up */
    check_eq(weft_sleep_until(0), 0);
    return 0;
}

PROMISE(C5_checkpoint_uses_nothing_up, EVERYWHERE)
{
    struct flags flags = { 0 };
    struct weft_task *task = task_spawn(check_first, &flags);
    until(a_load(&flags.begun, SEQ_CST));
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    a_store(&flags.killed, true, SEQ_CST);
    ends_ok(task);
}

static int mask(void *arg, void **result)
{
    (void)result;
    struct flags *flags = arg;
    check(!weft_cancel_mask(true));
    check(weft_cancel_mask(true));
    a_store(&flags->begun, true, SEQ_CST);
    while (!a_load(&flags->killed, SEQ_CST)) {
        weft_yield();
    }
    check_eq(weft_checkpoint(), 0);
    check_eq(weft_sleep_until(weft_after(1000)), 0);
    check_eq(weft_cancel_reason(), 0);
    check(weft_cancel_mask(false));
    check_eq(weft_checkpoint(), -ECANCELED);
    check_eq(weft_sleep_until(0), -ECANCELED);
    check_eq(weft_cancel_reason(), -EIO);
    return 0;
}

PROMISE(C5_mask_holds_delivery_back, EVERYWHERE)
{
    struct flags flags = { 0 };
    struct weft_task *task = task_spawn(mask, &flags);
    until(a_load(&flags.begun, SEQ_CST));
    check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    a_store(&flags.killed, true, SEQ_CST);
    ends_ok(task);
}

/* ---- C6 ---- */

PROMISE(C6_kill_without_waiting_marks_once, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate_masked, &gate);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), -EALREADY);
    check_eq(weft_task_kill(task, 0, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    gate_open(&gate);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    check_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
}

PROMISE(C6_kill_with_a_deadline_waits_for_the_end, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate, &gate);
    check_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    check(weft_task_finished(task));
    weft_task_release(task);
}

static int kill_self(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(weft_task_kill(weft_task_current(), -EIO, WEFT_FOREVER), -ECANCELED);
    check_eq(weft_cancel_reason(), -EIO);
    check_eq(weft_sleep_until(0), 0); /* that was the delivery */
    check_eq(weft_task_kill(weft_task_current(), -ENOTTY, WEFT_NOWAIT), -ECANCELED);
    check_eq(weft_cancel_reason(), -ENOTTY);
    return -ENOTTY;
}

PROMISE(C6_kill_of_oneself_is_delivered_by_the_call, EVERYWHERE)
{
    ends_with(task_spawn(kill_self, NULL), WEFT_CANCELLED, -ENOTTY);
}

static int survive(void *arg, void **result)
{
    (void)result;
    struct gate *gates = arg;
    int kills = 0, rc;
    while ((rc = gate_pass(&gates[kills])) == -ECANCELED) {
        kills++;
    }
    check_eq(rc, 0);
    return -1000 - kills;
}

/* After a delivery a task kill arms a new one; group kills do not. */
PROMISE(C6_after_delivery_a_task_kill_counts_anew_and_a_group_kill_does_not, EVERYWHERE)
{
    struct gate gates[2][4] = { 0 };
    struct weft_task *tasks[2];
    for (int i = 0; i < 2; i++) {
        tasks[i] = member_spawn(pool, survive, gates[i]);
        until(gate_waiting(&gates[i][0]) == 1);
    }
    for (int again = 0; again < 3; again++) { /* two members that survive their first kill are killed once */
        check_eq(weft_group_kill(pool, 0, WEFT_NOWAIT), 0);
        until(gate_waiting(&gates[0][1]) == 1 && gate_waiting(&gates[1][1]) == 1);
    }
    check_eq(weft_group_kill(pool, 0, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    check_eq(weft_group_kill_one(pool, tasks[0], 0, WEFT_NOWAIT), -EALREADY);
    check_eq(gate_waiting(&gates[0][1]), 1);
    check_eq(weft_task_kill(tasks[0], 0, WEFT_NOWAIT), 0); /* and again by a task kill */
    until(gate_waiting(&gates[0][2]) == 1);
    gate_open(&gates[0][2]);
    gate_open(&gates[1][1]);
    ends_with(tasks[0], WEFT_FAILED, -1002);
    ends_with(tasks[1], WEFT_FAILED, -1001);
}

PROMISE(C6_a_refused_kill_changes_no_reason, EVERYWHERE)
{
    struct flags flags = { 0 };
    struct weft_task *task = task_spawn(mask, &flags); /* wants -EIO */
    until(a_load(&flags.begun, SEQ_CST));
    check_eq(weft_task_kill(task, 7, WEFT_NOWAIT), -EINVAL);
    check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    check_eq(weft_task_kill(task, -ENOTTY, WEFT_NOWAIT), -EALREADY);
    a_store(&flags.killed, true, SEQ_CST);
    ends_ok(task);
}
