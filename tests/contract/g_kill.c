/* G7, G8: killing groups and members. */
#include "contract.h"

PROMISE(G7_kill_kills_every_member_and_who_waited_sees_them_finished, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *tasks[10];
    check_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0); /* empty */
    for (size_t i = 0; i < pool_width(); i++) {
        tasks[i] = member_spawn(pool, pass_gate, &gate);
    }
    until(gate_waiting(&gate) == pool_width());
    check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
    check_eq(weft_group_len(pool), 0);
    for (size_t i = 0; i < pool_width(); i++) {
        check(weft_task_finished(tasks[i]));
        ends_with(tasks[i], WEFT_CANCELLED, -EIO);
    }
    ends_ok(member_spawn(pool, do_nothing, NULL)); /* the group lives on */
}

PROMISE(G7_kill_without_waiting_makes_one_pass, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate_masked, &gate);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_group_kill(pool, 0, WEFT_NOWAIT), 0);
    check_eq(weft_group_kill(pool, 0, WEFT_NOWAIT), 0);
    check(!weft_task_finished(task));
    check_eq(weft_group_kill(pool, 0, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    gate_open(&gate);
    ends_ok(task);
}

PROMISE(G7_kill_takes_in_members_added_meanwhile, EVERY)
{
    struct gate gate = { 0 }, late_gate = { 0 };
    struct call kill = { .group = pool, .reason = -EIO, .deadline = WEFT_FOREVER };
    if (pool_width() < 2) {
        return;
    }
    for (int foreign = 0; foreign < 2; foreign++) {
        struct actor killer;
        gate = (struct gate){ 0 };
        struct weft_task *stubborn = member_spawn(pool, pass_gate_masked, &gate), *late = task_spawn(pass_gate, &late_gate);
        until(gate_waiting(&gate) == 1 && gate_waiting(&late_gate) == 1);
        actor_start(&killer, foreign, call_group_kill, &kill);
        until(weft_task_kill(stubborn, 0, WEFT_NOWAIT) == -EALREADY); /* marked: the killer has been there, or we have */
        int rc = weft_group_add(pool, late, WEFT_FOREVER);
        check(rc == 1 || (rc == -ESHUTDOWN && !weft_task_finished(late)));
        if (rc == 1) {
            check_eq(weft_task_join(late, weft_after(PATIENCE)), 0); /* killed, though nobody opens its gate */
        } else {
            check_eq(weft_task_kill(late, -EIO, WEFT_FOREVER), 0);
        }
        check(!actor_done(&killer));
        ends_with(late, WEFT_CANCELLED, -EIO);
        gate_open(&gate);
        ends_ok(stubborn);
        check_eq(actor_end(&killer), 0);
    }
}

static int call_apply(void *arg)
{
    struct call *call = arg;
    return weft_group_apply(call->group, count_run, NULL, &call->outcome);
}

static int count_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

static int call_map(void *arg)
{
    struct call *call = arg;
    return weft_group_map(call->group, count_item, NULL, 5, NULL, 0, NULL, 0, NULL);
}

static int count_element(void *ctx, void *item, void **result)
{
    (void)ctx, (void)item, (void)result;
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

PROMISE(G7_kill_ends_what_waits_for_a_slot, EVERY)
{
    static const int things[2];
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (int foreign = 0; foreign < 2; foreign++) {
        struct gate gate = { 0 };
        struct call call = { .group = pool, .deadline = WEFT_FOREVER };
        struct actor spawner, applier, mapper;
        struct weft_array array = { things, sizeof *things, 2, 0 };
        struct weft_task *queued;
        struct weft_imap *imap;
        struct weft_item item;
        struct weft_outcome outcome;
        count_reset();
        pool_fill(&gate);
        check_eq(weft_group_apply_async(pool, count_run, NULL, NULL, &queued), 0);
        actor_start(&spawner, foreign, call_spawn, &call);
        actor_start(&applier, foreign, call_apply, &call);
        actor_start(&mapper, foreign, call_map, &call);
        check_eq(weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, count_element, NULL, NULL, &imap),
                 0);
        until(pool_queued(pool) >= 5);
        check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
        check_eq(actor_end(&spawner), -ESHUTDOWN);
        int rc = actor_end(&applier);
        check(rc == -ESHUTDOWN || (rc == 0 && call.outcome.status == WEFT_CANCELLED));
        rc = actor_end(&mapper);
        check(rc == -ESHUTDOWN || rc == -ECANCELED);
        check_eq(weft_task_get(queued, WEFT_NOWAIT, &outcome), 0);
        check(outcome.status == WEFT_CANCELLED && outcome.error == -EIO);
        weft_task_release(queued);
        while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
            check_eq(item.status, WEFT_CANCELLED);
        }
        check_eq(rc, 0);
        check_eq(weft_imap_destroy(imap), 0);
        check_eq(ran, 0);
        check_eq(args_freed, 0);
    }
}

static int kill_mine(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), -ECANCELED); /* the caller's own, delivered */
    check_eq(weft_cancel_reason(), -EIO);
    check_eq(weft_sleep_until(0), 0);
    check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), -EDEADLK);
    return -ECANCELED;
}

PROMISE(G7_kill_from_a_member_marks_all_and_delivers_the_callers, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *tasks[10];
    for (size_t i = 1; i < pool_width(); i++) {
        tasks[i] = member_spawn(pool, pass_gate, &gate);
    }
    until(gate_waiting(&gate) == pool_width() - 1);
    ends_with(member_spawn(pool, kill_mine, NULL), WEFT_CANCELLED, -EIO);
    for (size_t i = 1; i < pool_width(); i++) {
        ends_with(tasks[i], WEFT_CANCELLED, -EIO);
    }
}

/* ---- G8 ---- */

PROMISE(G8_kill_one_of_no_member_is_enoent, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *stranger = task_spawn(pass_gate, &gate), *done = member_spawn(pool, do_nothing, NULL);
    check_eq(weft_task_join(done, WEFT_FOREVER), 0);
    check_eq(weft_group_kill_one(pool, stranger, 0, WEFT_FOREVER), -ENOENT);
    check_eq(weft_group_kill_one(pool, done, 0, WEFT_NOWAIT), -ENOENT);
    gate_open(&gate);
    ends_ok(stranger);
    ends_ok(done);
}

static int call_kill_one(void *arg)
{
    struct call *call = arg;
    return weft_group_kill_one(call->group, call->task, 0, call->deadline);
}

PROMISE(G8_kill_one_with_a_deadline_waits_for_a_dying_one_too, EVERY)
{
    for (int foreign = 0; foreign < 2; foreign++) {
        struct gate gate = { 0 };
        struct actor killer;
        struct weft_task *task = member_spawn(pool, pass_gate_masked, &gate);
        struct call call = { .group = pool, .task = task, .deadline = WEFT_FOREVER };
        until(gate_waiting(&gate) == 1);
        check_eq(weft_group_kill_one(pool, task, 0, WEFT_NOWAIT), 0);
        check_eq(weft_group_kill_one(pool, task, 0, WEFT_NOWAIT), -EALREADY);
        check_eq(weft_group_kill_one(pool, task, 0, weft_after(WEFT_MSEC)), -ETIMEDOUT);
        actor_start(&killer, foreign, call_kill_one, &call);
        ends_ok(task_spawn(do_nothing, NULL));
        check(!actor_done(&killer));
        gate_open(&gate);
        int rc = actor_end(&killer);
        check(rc == 0 || rc == -ENOENT); /* the second: it had gone before the call began */
        check(weft_task_finished(task));
        weft_task_release(task);
    }
}
