/* G1 to G4, G11: who is a member. */
#include "contract.h"

PROMISE(G1_given_live_tasks_count_at_once, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *tasks[] = { task_create(do_nothing, NULL), task_spawn(pass_gate, &gate), task_spawn(do_nothing, NULL), NULL };
    struct weft_group *group;
    check_eq(weft_task_join(tasks[2], WEFT_FOREVER), 0);
    tasks[3] = tasks[1]; /* named twice is one membership */
    check_eq(weft_pool_create(runtime, 3, WEFT_OPTIONS(weft_group_options, .tasks = tasks, .n_tasks = 4), &group), 0);
    check_eq(weft_group_len(group), 2);
    check_eq(weft_pool_free_count(group), 1);
    check(weft_group_contains(group, tasks[0]) && weft_group_contains(group, tasks[1]) && !weft_group_contains(group, tasks[2]));
    check_eq(weft_task_start(tasks[0]), 0);
    gate_open(&gate);
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_pool_free_count(group), 3);
    weft_task_release(tasks[0]);
    weft_task_release(tasks[1]);
    weft_task_release(tasks[2]);
    check_eq(weft_group_destroy(group), 0);
}

PROMISE(G1_more_than_one_way_is_one_membership, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    check_eq(weft_group_add(pool, task, WEFT_FOREVER), -EALREADY);
    check_eq(weft_group_len(pool), 1);
    struct weft_task *other = task_create(do_nothing, NULL);
    if (pool_width() > 1) {
        check_eq(weft_group_add(pool, other, WEFT_FOREVER), 1);
        check_eq(weft_group_start(pool, other, WEFT_FOREVER), -EALREADY); /* it is in it already, and is not started */
        check_eq(weft_group_len(pool), 2);
        check_eq(weft_task_start(other), 0);
        check_eq(weft_task_join(other, WEFT_FOREVER), 0);
        check_eq(weft_group_len(pool), 1);
    }
    weft_task_release(other);
    gate_open(&gate);
    ends_ok(task);
}

PROMISE(G2_len_and_snapshot_tell_the_members, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *tasks[3], *seen[5] = { 0 };
    size_t n = pool_width() < 3 ? pool_width() : 3;
    check_eq(weft_group_snapshot(pool, seen, 5), 0);
    for (size_t i = 0; i < n; i++) {
        tasks[i] = member_spawn(pool, pass_gate, &gate);
    }
    check_eq(weft_group_len(pool), n);
    check_eq(weft_group_snapshot(pool, seen, 5), n);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++) {
            found |= seen[k] == tasks[i];
        }
        check(found);
    }
    check_eq(weft_group_snapshot(pool, NULL, 0), n);
    gate_open(&gate);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    weft_tasks_release(tasks, n);
    for (size_t i = 0; i < n; i++) {
        ends_ok(seen[i]); /* retained: still there */
    }
}

static struct weft_group *seen_from_user_code;

static void use_group(void *arg)
{
    (void)arg;
    struct weft_task *seen[4];
    size_t n = weft_group_snapshot(seen_from_user_code, seen, 4);
    weft_tasks_release(seen, n < 4 ? n : 4);
    (void)weft_group_len(seen_from_user_code);
    (void)weft_group_discard(seen_from_user_code, weft_task_current());
    a_add(&args_freed, 1u, SEQ_CST);
}

static void use_group_hook(struct weft_task *task, void *ctx)
{
    (void)ctx;
    (void)weft_group_contains(seen_from_user_code, task);
    (void)weft_group_len(seen_from_user_code);
}

PROMISE(G2_no_lock_is_held_while_user_code_runs, EVERYWHERE)
{
    static const struct weft_task_hooks hooks = { use_group_hook, use_group_hook, use_group_hook, NULL };
    struct weft_task *task;
    seen_from_user_code = pool;
    count_reset();
    const struct weft_task_options *options =
        WEFT_OPTIONS(weft_task_options, .arg_free = use_group, .result_free = use_group, .hooks = &hooks);
    check_eq(weft_group_spawn_with(pool, return_arg, &task, options, WEFT_FOREVER, &task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    check_eq(weft_task_create(runtime, count_run, NULL, options, &task), 0);
    check_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
    check_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    until(a_load(&args_freed, SEQ_CST) == 3);
}

/* ---- G3 ---- */

PROMISE(G3_add_is_1_or_0_of_the_finished, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate, &gate), *done = task_spawn(do_nothing, NULL);
    check_eq(weft_task_join(done, WEFT_FOREVER), 0);
    check_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
    check_eq(weft_group_len(pool), 1);
    check_eq(weft_group_add(pool, done, WEFT_NOWAIT), 0); /* also when it is full: no slot */
    check_eq(weft_group_add(pool, done, WEFT_FOREVER), 0);
    check_eq(weft_group_len(pool), 1);
    check_eq(weft_group_add(pool, task, WEFT_NOWAIT), -EALREADY);
    check_eq(weft_group_len(pool), 1);
    gate_open(&gate);
    ends_ok(task);
    ends_ok(done);
    check_eq(weft_group_len(pool), 0);
}

/* gevent: a running task added to a pool of 1: free 1 -> 0; a second task's add times out, and nothing has changed. */
PROMISE(G3_an_add_that_times_out_changes_nothing, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *tasks[11], *late;
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        tasks[i] = task_spawn(pass_gate, &gate);
        check_eq(weft_pool_free_count(pool), size - i);
        check_eq(weft_group_add(pool, tasks[i], WEFT_FOREVER), 1);
    }
    check_eq(weft_pool_free_count(pool), 0);
    late = task_spawn(pass_gate, &gate);
    check_eq(weft_group_add(pool, late, WEFT_NOWAIT), -EAGAIN);
    check_eq(weft_group_add(pool, late, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    check(!weft_group_contains(pool, late));
    check_eq(weft_pool_free_count(pool), 0);
    check_eq(weft_group_len(pool), size);
    check_eq(pool_queued(pool), 0);
    check(!weft_task_finished(late));
    gate_open(&gate);
    for (size_t i = 0; i < size; i++) {
        ends_ok(tasks[i]);
    }
    ends_ok(late);
}

PROMISE(G3_start_starts_it_as_a_member, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_create(pass_gate, &gate), *killed = task_create(count_run, NULL);
    check_eq(weft_group_start(pool, task, WEFT_FOREVER), 1);
    check(weft_group_contains(pool, task));
    check_eq(weft_group_start(pool, task, WEFT_FOREVER), -EALREADY);
    check_eq(weft_task_kill(killed, 0, WEFT_NOWAIT), 0);
    check_eq(weft_group_start(pool, killed, WEFT_FOREVER), -EALREADY); /* killed before */
    gate_open(&gate);
    ends_ok(task);
    weft_task_release(killed);
}

static int call_start(void *arg)
{
    struct call *call = arg;
    return weft_group_start(call->group, call->task, call->deadline);
}

PROMISE(G3_start_claims_first_and_a_refusal_gives_the_claim_back, EVERY)
{
    struct gate gate = { 0 };
    struct actor actor;
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (int foreign = 0; foreign < 2; foreign++) {
        struct weft_task *task = task_create(count_run, NULL);
        struct call call = { .group = pool, .task = task, .deadline = WEFT_FOREVER };
        count_reset();
        gate = (struct gate){ 0 };
        pool_fill(&gate);
        actor_start(&actor, foreign, call_start, &call);
        until(pool_queued(pool) == 1);
        check_eq(weft_task_start(task), -EALREADY); /* claimed */
        check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
        check_eq(actor_end(&actor), 0); /* killed after the claim */
        ends_with(task, WEFT_CANCELLED, -ECANCELED);
        task = task_create(count_run, NULL);
        check_eq(weft_group_start(pool, task, weft_after(WEFT_MSEC)), -ETIMEDOUT);
        check_eq(weft_group_start(pool, task, WEFT_NOWAIT), -EAGAIN);
        check(!weft_group_contains(pool, task));
        check_eq(weft_task_start(task), 0); /* as new */
        ends_ok(task);
        check_eq(ran, 1);
        pool_empty(&gate);
    }
}

PROMISE(G3_a_task_may_be_in_several_groups_and_leaves_each, EVERY)
{
    struct gate gate = { 0 };
    struct weft_group *others[6];
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    for (int i = 0; i < 6; i++) {
        others[i] = i % 2 ? group_make() : pool_make(runtime, 1);
        check_eq(weft_group_add(others[i], task, WEFT_FOREVER), 1);
    }
    check_eq(weft_group_discard(others[2], task), 1);
    gate_open(&gate);
    check_eq(weft_group_join(others[5], WEFT_FOREVER), 0);
    check(weft_task_finished(task));
    for (int i = 0; i < 6; i++) {
        check_eq(weft_group_len(others[i]), 0);
        check(!weft_group_contains(others[i], task));
        check_eq(weft_pool_free_count(others[i]), 1);
        check_eq(weft_group_destroy(others[i]), 0);
    }
    ends_ok(task);
}

/* ---- G4 ---- */

PROMISE(G4_discard_frees_the_slot_of_a_member_and_nothing_else, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate), *other = task_create(do_nothing, NULL);
    size_t free_before = weft_pool_free_count(pool);
    check_eq(weft_group_discard(pool, other), 0);
    check_eq(weft_pool_free_count(pool), free_before);
    check_eq(weft_group_len(pool), 1);
    check_eq(weft_group_discard(pool, task), 1);
    check_eq(weft_group_discard(pool, task), 0);
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
    check_eq(weft_group_join(pool, WEFT_NOWAIT), 0);
    check(!weft_task_finished(task)); /* it runs on */
    gate_open(&gate);
    ends_ok(task);
    weft_task_release(other);
}

PROMISE(G4_discard_hands_the_slot_on_and_may_make_the_group_empty, EVERY)
{
    struct gate gate = { 0 }, second = { 0 };
    struct call join = { .group = pool, .deadline = WEFT_FOREVER };
    struct call spawn = { .group = pool, .fn = pass_gate, .arg = &second, .deadline = WEFT_FOREVER };
    struct actor joiner, spawner;
    struct weft_task *members[10];
    for (size_t i = 0; i < pool_width(); i++) {
        members[i] = member_spawn(pool, pass_gate, &gate);
    }
    if (size != WEFT_UNLIMITED) {
        actor_start(&spawner, false, call_spawn, &spawn);
        until(pool_queued(pool) == 1);
        check_eq(weft_group_discard(pool, members[0]), 1);
        check_eq(actor_end(&spawner), 0);
        check_eq(weft_group_discard(pool, spawn.out), 1);
        gate_open(&second);
        ends_ok(spawn.out);
        check_eq(weft_group_add(pool, members[0], WEFT_FOREVER), 1);
    }
    actor_start(&joiner, true, call_group_join, &join);
    for (size_t i = 0; i < pool_width(); i++) {
        check(!actor_done(&joiner));
        check_eq(weft_group_discard(pool, members[i]), 1);
    }
    check_eq(actor_end(&joiner), 0);
    gate_open(&gate);
    for (size_t i = 0; i < pool_width(); i++) {
        ends_ok(members[i]);
    }
}

/* ---- G11 ---- */

static void count_hook(struct weft_task *task, void *ctx)
{
    check(task != NULL);
    a_add((_Atomic uint32_t *)ctx, 1u, SEQ_CST);
}

static int name_is_common(void *arg, void **result)
{
    *result = arg;
    const char *name = weft_task_name(weft_task_current());
    return name && strcmp(name, "common") == 0 ? 0 : -EIO;
}

PROMISE(G11_task_options_apply_to_every_task_the_group_makes, EVERYWHERE)
{
    static _Atomic uint32_t hooked;
    static const struct weft_task_hooks hooks = { count_hook, NULL, NULL, (void *)&hooked };
    struct weft_group *group;
    struct weft_task *task;
    struct weft_outcome outcome;
    hooked = 0;
    count_reset();
    const struct weft_task_options *common =
        WEFT_OPTIONS(weft_task_options, .name = "common", .hooks = &hooks, .arg_free = count_arg, .result_free = count_result);
    check_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .task_options = common), &group), 0);
    task = member_spawn(group, name_is_common, &group);
    ends_ok(task);
    check_eq(weft_group_apply(group, name_is_common, &group, &outcome), 0);
    check_eq(outcome.status, WEFT_OK);
    check_eq(weft_group_apply_async(group, name_is_common, &group, NULL, &task), 0);
    ends_ok(task);
    check_eq(hooked, 3);
    until(a_load(&args_freed, SEQ_CST) == 3 && a_load(&results_freed, SEQ_CST) == 2); /* apply's went to the caller */
    check_eq(
        weft_group_spawn_with(group, name_is_common, NULL, WEFT_OPTIONS(weft_task_options, .name = "own"), WEFT_FOREVER, &task), 0);
    check(strcmp(weft_task_name(task), "own") == 0);
    ends_with(task, WEFT_FAILED, -EIO);
    check_eq(hooked, 4); /* what the call leaves unset comes from the group */
    check_eq(weft_group_set_task_options(group, WEFT_OPTIONS(weft_task_options, .name = "later")), 0);
    task = member_spawn(group, do_nothing, NULL);
    check(strcmp(weft_task_name(task), "later") == 0);
    ends_ok(task);
    check_eq(hooked, 4);
    check_eq(weft_group_set_task_options(group, NULL), 0);
    task = member_spawn(group, do_nothing, NULL);
    check(weft_task_name(task) == NULL);
    ends_ok(task);
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(group), 0);
}
