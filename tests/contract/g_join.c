/* G5, G6, G9, G10: joining, closing, destroying groups. */
#include "contract.h"

PROMISE(G5_join_returns_when_the_group_was_empty_and_any_number_may, EVERY)
{
    struct gate gate = { 0 };
    struct call call = { .group = pool, .deadline = WEFT_FOREVER };
    struct actor actors[4];
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0); /* empty: at once */
    check_eq(weft_group_join(pool, WEFT_NOWAIT), 0);
    pool_fill(&gate);
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    for (int i = 0; i < 4; i++) {
        actor_start(&actors[i], i % 2, call_group_join, &call);
    }
    ends_ok(task_spawn(do_nothing, NULL));
    for (int i = 0; i < 4; i++) {
        check(!actor_done(&actors[i]));
    }
    gate_open(&gate);
    for (int i = 0; i < 4; i++) {
        check_eq(actor_end(&actors[i]), 0);
    }
}

/* gevent: join of 0.2 s on a task of 10 s. */
PROMISE(G5_a_join_that_times_out_is_not_early_and_leaves_the_task, ONCE)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    int64_t begin = weft_now();
    check_eq(weft_group_join(pool, weft_after(200 * WEFT_MSEC)), -ETIMEDOUT);
    check(weft_now() - begin >= 200 * WEFT_MSEC && weft_now() - begin < 8 * WEFT_SEC);
    check(!weft_task_finished(task));
    gate_open(&gate);
    ends_ok(task);
}

static int join_mine(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(weft_group_join(pool, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, NULL, NULL), -EDEADLK);
    return 0;
}

static int join_in_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return join_mine(ctx, NULL);
}

static int join_in_element(void *ctx, void *item, void **result)
{
    (void)item;
    return join_mine(ctx, result);
}

PROMISE(G5_join_from_a_member_or_an_item_is_edeadlk, EVERY)
{
    static const int thing;
    struct weft_array array = { &thing, sizeof thing, 1, 0 };
    struct weft_imap *imap;
    struct weft_item item;
    ends_ok(member_spawn(pool, join_mine, NULL));
    check_eq(weft_group_map(pool, join_in_item, NULL, 3, NULL, 0, NULL, 0, NULL), 0);
    check_eq(weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, join_in_element, NULL, NULL, &imap),
             0);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    check_eq(item.status, WEFT_OK);
    check_eq(weft_imap_destroy(imap), 0);
}

static int source_waits(void *gate, void **item)
{
    (void)item;
    int rc = gate_pass(gate);
    return rc < 0 ? rc : 0;
}

static int call_apply(void *arg)
{
    struct call *call = arg;
    struct weft_outcome outcome;
    return weft_group_apply(call->group, call->fn, call->arg, &outcome);
}

static int pass_item(void *gate, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return gate_pass(gate);
}

static int call_map(void *arg)
{
    struct call *call = arg;
    return weft_group_map(call->group, pass_item, call->arg, 2, NULL, 0, NULL, 0, NULL);
}

/* Whoever queues comes before whoever joins is told that all is empty. */
PROMISE(G5_who_waits_for_a_slot_keeps_the_group_non_empty, EVERY)
{
    act_fn *const acts[] = { call_spawn, call_apply, call_map };
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (int what = 0; what < 4; what++) {
        struct gate first = { 0 }, second = { 0 };
        struct call call = { .group = pool, .fn = pass_gate, .arg = &second, .deadline = WEFT_FOREVER };
        struct call join = { .group = pool, .deadline = WEFT_FOREVER };
        struct weft_task *queued = NULL;
        struct actor actor, joiner;
        pool_fill(&first);
        if (what < 3) {
            actor_start(&actor, in_task, acts[what], &call);
        } else {
            check_eq(weft_group_apply_async(pool, pass_gate, &second, NULL, &queued), 0);
        }
        until(pool_queued(pool) >= 1);
        actor_start(&joiner, !in_task, call_group_join, &join);
        gate_open(&first);
        until(gate_waiting(&second) >= 1);
        check(!actor_done(&joiner));
        gate_open(&second);
        if (what < 3) {
            check_eq(actor_end(&actor), 0);
        } else {
            ends_ok(queued);
        }
        check_eq(actor_end(&joiner), 0);
        if (what == 0) {
            ends_ok(call.out);
        }
    }
}

PROMISE(G5_a_running_imap_keeps_the_group_non_empty, EVERY)
{
    struct gate gate = { 0 };
    struct weft_imap *imap;
    struct weft_item item;
    check_eq(weft_group_imap(pool, &(struct weft_source){ source_waits, &gate, NULL }, 1, element_nothing, NULL, NULL, &imap), 0);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_group_join(pool, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    gate_open(&gate);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_group_join(pool, weft_after(PATIENCE)), 0);
    check_eq(weft_imap_destroy(imap), 0);
}

/* ---- G6 ---- */

PROMISE(G6_join_outcome_reports_each_failure_once, EVERYWHERE)
{
    int codes[] = { -EIO, -ENOTTY };
    struct weft_outcome outcome;
    struct weft_task *tasks[2], *task = (struct weft_task *)pool;
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, &task), 0);
    check(outcome.status == WEFT_OK && outcome.error == 0 && task == NULL);
    for (int i = 0; i < 2; i++) {
        tasks[i] = member_spawn(pool, return_code, &codes[i]);
        check_eq(weft_task_join(tasks[i], WEFT_FOREVER), 0); /* failed before the call */
    }
    unsigned seen = 0;
    for (int i = 0; i < 2; i++) {
        check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, &task), 0);
        check_eq(outcome.status, WEFT_FAILED);
        int which = outcome.error == codes[1];
        check(task == tasks[which]);
        check_eq(outcome.error, codes[which]);
        check_eq(seen & 1u << which, 0);
        seen |= 1u << which;
        weft_task_release(task);
    }
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, &task), 0);
    check(outcome.status == WEFT_OK && task == NULL);
    weft_tasks_release(tasks, 2);
}

PROMISE(G6_the_task_is_null_if_it_is_gone, EVERYWHERE)
{
    int code = -EIO;
    struct weft_outcome outcome;
    struct weft_task *task = NULL;
    check_eq(weft_group_spawn(pool, return_code, &code, NULL), 0);
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, &task), 0);
    check(outcome.status == WEFT_FAILED && outcome.error == -EIO);
    if (task) { /* not gone yet: then it is this one */
        ends_with(task, WEFT_FAILED, -EIO);
    }
}

PROMISE(G6_forget_errors_forgets_what_failed_before_the_call, EVERYWHERE)
{
    int code = -EIO;
    struct weft_group *group;
    struct weft_outcome outcome;
    check_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .forget_errors = true), &group), 0);
    ends_with(member_spawn(group, return_code, &code), WEFT_FAILED, -EIO);
    check_eq(weft_group_join_outcome(group, WEFT_FOREVER, &outcome, NULL), 0);
    check_eq(outcome.status, WEFT_OK);
    check_eq(weft_group_destroy(group), 0);
}

PROMISE(G6_it_does_not_return_early_and_after_a_timeout_reports_what_there_is, EVERYWHERE)
{
    struct gate gate = { 0 };
    int code = -EIO;
    struct weft_outcome outcome;
    struct weft_task *task = NULL, *busy = member_spawn(pool, pass_gate, &gate), *failing = member_spawn(pool, return_code, &code);
    int64_t deadline = weft_after(2 * WEFT_MSEC);
    check_eq(weft_task_join(failing, WEFT_FOREVER), 0);
    check_eq(weft_group_join_outcome(pool, deadline, &outcome, &task), -ETIMEDOUT);
    check(weft_now() >= deadline);
    check(outcome.status == WEFT_FAILED && outcome.error == -EIO && task == failing);
    weft_task_release(task);
    gate_open(&gate);
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, &task), 0);
    check(outcome.status == WEFT_OK && !task); /* reported once */
    ends_ok(busy);
    weft_task_release(failing);
}

PROMISE(G6_cancelled_is_not_failed, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_outcome outcome;
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_task_kill(task, -EIO, WEFT_FOREVER), 0);
    check_eq(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, NULL), 0);
    check_eq(outcome.status, WEFT_OK);
    weft_task_release(task);
}

/* ---- G9, G10 ---- */

PROMISE(G9_close_refuses_what_is_new, EVERYWHERE)
{
    struct weft_group *group = pool_make(runtime, 2);
    struct weft_outcome outcome;
    struct weft_task *task = task_create(do_nothing, NULL), *out;
    weft_group_close(group);
    weft_group_close(group);
    check_eq(weft_group_spawn(group, do_nothing, NULL, &out), -ESHUTDOWN);
    check_eq(weft_group_add(group, task, WEFT_FOREVER), -ESHUTDOWN);
    check_eq(weft_group_start(group, task, WEFT_FOREVER), -ESHUTDOWN);
    check_eq(weft_group_apply(group, do_nothing, NULL, &outcome), -ESHUTDOWN);
    check_eq(weft_group_apply_async(group, do_nothing, NULL, NULL, &out), -ESHUTDOWN);
    check_eq(weft_group_len(group), 0);
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_task_start(task), 0); /* the claim was given back */
    ends_ok(task);
    check_eq(weft_group_destroy(group), 0);
}

PROMISE(G9_close_turns_spawners_away_and_lets_applies_and_maps_finish, EVERYWHERE)
{
    struct gate first = { 0 }, second = { 0 };
    struct weft_group *group = pool_make(runtime, 1);
    struct call spawn = { .group = group, .deadline = WEFT_FOREVER }, map = { .group = group, .arg = &second };
    struct actor spawner, mapper;
    struct weft_task *queued, *member = member_spawn(group, pass_gate, &first);
    count_reset();
    check_eq(weft_group_apply_async(group, pass_gate, &second, NULL, &queued), 0);
    actor_start(&mapper, in_task, call_map, &map);
    actor_start(&spawner, !in_task, call_spawn, &spawn);
    until(pool_queued(group) >= 3);
    weft_group_close(group);
    check_eq(actor_end(&spawner), -ESHUTDOWN);
    gate_open(&second);
    gate_open(&first);
    ends_ok(member);
    ends_ok(queued);
    check_eq(actor_end(&mapper), 0);
    check_eq(ran, 0);
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(group), 0);
}

PROMISE(G10_destroy_is_ebusy_while_it_is_in_use_and_kills_nothing, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_group *group = pool_make(runtime, 1);
    struct weft_imap *imap;
    struct weft_item item;
    struct call map = { .group = group, .arg = &gate };
    struct actor mapper;
    check_eq(weft_group_destroy(NULL), 0);
    struct weft_task *task = member_spawn(group, pass_gate, &gate);
    check_eq(weft_group_destroy(group), -EBUSY);
    gate_open(&gate);
    ends_ok(task);
    gate = (struct gate){ 0 };
    actor_start(&mapper, in_task, call_map, &map);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_group_destroy(group), -EBUSY);
    gate_open(&gate);
    check_eq(actor_end(&mapper), 0);
    gate = (struct gate){ 0 };
    check_eq(weft_group_imap(group, &(struct weft_source){ source_waits, &gate, NULL }, 1, element_nothing, NULL, NULL, &imap), 0);
    check_eq(weft_group_destroy(group), -EBUSY);
    gate_open(&gate);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
    check_eq(weft_group_destroy(group), 0);
}

static int call_add(void *arg)
{
    struct call *call = arg;
    return weft_group_add(call->group, call->task, call->deadline);
}

static int call_available(void *arg)
{
    struct call *call = arg;
    return weft_pool_wait_available(call->group, call->deadline);
}

/* No slot, so no member: whoever waits for one keeps the group all the same, and so does who joins it meanwhile. */
PROMISE(G10_destroy_is_ebusy_with_waiters_and_joiners_alone, EVERYWHERE)
{
    act_fn *const acts[] = { call_spawn, call_apply, call_map, call_add, call_available, NULL /* an apply_async */ };
    for (size_t what = 0; what < sizeof acts / sizeof *acts; what++) {
        struct gate gate = { 0 };
        struct weft_group *group = pool_make(runtime, 0);
        struct weft_task *task = task_spawn(pass_gate, &gate), *queued = NULL;
        struct call call = { .group = group, .task = task, .fn = pass_gate, .arg = &gate, .deadline = WEFT_FOREVER };
        struct call join = { .group = group, .deadline = WEFT_FOREVER };
        struct actor actor, joiner;
        if (acts[what]) {
            actor_start(&actor, !in_task, acts[what], &call);
        } else {
            check_eq(weft_group_apply_async(group, pass_gate, &gate, NULL, &queued), 0);
        }
        until(acts[what] == call_available ? !weft_waitq_empty(&group->admission.watchers) : pool_queued(group) >= 1);
        check_eq(weft_group_destroy(group), -EBUSY);
        check_eq(weft_group_snapshot(group, NULL, 0), 0);
        actor_start(&joiner, in_task, call_group_join, &join);
        until(acts[what] == call_available ? actor_done(&joiner) : !weft_waitq_empty(&group->joiners));
        check_eq(weft_group_destroy(group), -EBUSY);
        check_eq(weft_pool_resize(group, 1), 0); /* it was refused: all goes on */
        if (acts[what] == call_add || acts[what] == call_available) {
            until(actor_done(&actor));
        }
        gate_open(&gate);
        check_eq(actor_end(&joiner), 0);
        if (acts[what]) {
            check_eq(actor_end(&actor), acts[what] == call_add || acts[what] == call_available ? 1 : 0);
        } else {
            ends_ok(queued);
        }
        if (call.out) {
            ends_ok(call.out);
        }
        ends_ok(task);
        check_eq(weft_group_join(group, WEFT_FOREVER), 0);
        check_eq(weft_group_destroy(group), 0);
    }
}

/* It is woken and has not yet returned: a destroy that is not refused does it no harm. */
PROMISE(G10_destroy_beside_a_woken_joiner, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_group *group = group_make();
    struct weft_task *task = member_spawn(group, pass_gate, &gate);
    struct call join = { .group = group, .deadline = WEFT_FOREVER };
    struct actor joiner;
    actor_start(&joiner, !in_task, call_group_join, &join);
    until(!weft_waitq_empty(&group->joiners));
    check_eq(weft_group_destroy(group), -EBUSY);
    check_eq(weft_group_discard(group, task), 1);
    int rc = weft_group_destroy(group);
    check(rc == 0 || rc == -EBUSY);
    check_eq(actor_end(&joiner), 0);
    check_eq(rc == 0 ? 0 : weft_group_destroy(group), 0);
    gate_open(&gate);
    ends_ok(task);
}
