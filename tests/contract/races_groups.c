/* Races of membership and slots: finish || discard, finish || add, last finish || join, kill || hand-over, add timeout || hand-over,
 * resize || release, loan || return, close || blocked spawn. */
#include "contract.h"
#include "race.h"

static struct race race;

static int finish(void *arg, void **result)
{
    (void)arg, (void)result;
    race_start(&race, false);
    return 0;
}

PROMISE(G4_race_discard_beside_finish, ONCE)
{
    race_begin(&race, "finish || discard");
    while (race_on(&race)) {
        struct weft_task *task = member_spawn(pool, finish, NULL);
        race_start(&race, true);
        int rc = weft_group_discard(pool, task);
        check(rc == 0 || rc == 1);
        check(!weft_group_contains(pool, task));
        ends_ok(task);
        check_eq(weft_group_len(pool), 0);
        check_eq(weft_pool_free_count(pool), size);
        race_won(&race, rc == 1);
    }
    race_end(&race);
}

PROMISE(G3_race_add_beside_finish, ONCE)
{
    race_begin(&race, "finish || add");
    while (race_on(&race)) {
        struct weft_task *task = task_spawn(finish, NULL);
        race_start(&race, true);
        int rc = weft_group_add(pool, task, WEFT_FOREVER);
        check(rc == 0 || rc == 1);
        ends_ok(task);
        check_eq(weft_group_len(pool), 0);
        check_eq(weft_pool_free_count(pool), size);
        race_won(&race, rc == 1);
    }
    race_end(&race);
}

PROMISE(G5_race_join_beside_the_last_finish, ONCE)
{
    race_begin(&race, "last finish || join");
    while (race_on(&race)) {
        struct weft_task *task = member_spawn(pool, finish, NULL);
        race_start(&race, true);
        bool first = weft_group_len(pool) == 0;
        check_eq(weft_group_join(pool, weft_after(PATIENCE)), 0);
        check(weft_task_finished(task));
        ends_ok(task);
        race_won(&race, !first);
    }
    race_end(&race);
}

/* ---- the slot is handed over while its receiver is killed, late, or turned away ---- */

static struct weft_group *one;

static int act_spawn(void *arg)
{
    struct call *call = arg;
    return weft_group_spawn_with(one, count_run, NULL, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), call->deadline,
                                 NULL);
}

/* After each round the slot is there, and the task ran if and only if the spawn said so. */
static void settle(int rc, int other)
{
    check(rc == 0 || rc == other);
    check_eq(weft_group_join(one, weft_after(PATIENCE)), 0);
    check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
    check_eq(ran, rc == 0);
    check_eq(args_freed, rc == 0);
    check_eq(weft_pool_free_count(one), 1);
    check_eq(weft_group_len(one), 0);
}

PROMISE(P4_race_kill_beside_hand_over, ONCE)
{
    one = pool_make(runtime, 1);
    race_begin(&race, "hand-over || kill");
    while (race_on(&race)) {
        struct call call = { .deadline = WEFT_FOREVER };
        struct actor spawner;
        count_reset();
        check_eq(weft_group_spawn(one, finish, NULL, NULL), 0);
        actor_start(&spawner, false, act_spawn, &call);
        until(pool_queued(one) == 1);
        race_start(&race, true);
        (void)weft_task_kill(spawner.task, 0, WEFT_NOWAIT);
        int rc = actor_end(&spawner);
        settle(rc, -ECANCELED);
        race_won(&race, rc != 0);
    }
    race_end(&race);
    check_eq(weft_group_destroy(one), 0);
}

static int act_add(void *arg)
{
    struct call *call = arg;
    return weft_group_add(one, call->task, call->deadline);
}

PROMISE(P4_race_add_timeout_beside_hand_over, ONCE)
{
    one = pool_make(runtime, 1);
    race_begin(&race, "hand-over || add timeout");
    while (race_on(&race)) {
        struct gate gate = { 0 };
        struct actor adder;
        struct call call = { .task = task_spawn(pass_gate, &gate) };
        check_eq(weft_group_spawn(one, finish, NULL, NULL), 0);
        call.deadline = weft_after(300000 + race.lead); /* the timer takes the second's part */
        actor_start(&adder, true, act_add, &call);
        int64_t at = call.deadline - race.lead;
        while (weft_now() < at) {
        }
        race.lead = 0;
        a_add(&race.ready, 1u, SEQ_CST); /* lets the member go */
        int rc = actor_end(&adder);
        race.lead = call.deadline - at;
        check(rc == 1 || rc == -ETIMEDOUT);
        check(weft_group_contains(one, call.task) == (rc == 1));
        gate_open(&gate);
        ends_ok(call.task);
        check_eq(weft_group_join(one, weft_after(PATIENCE)), 0);
        check_eq(weft_pool_free_count(one), 1);
        check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
        race_won(&race, rc != 1);
    }
    race_end(&race);
    check_eq(weft_group_destroy(one), 0);
}

PROMISE(G9_race_close_beside_a_blocked_spawn, ONCE)
{
    race_begin(&race, "hand-over || close");
    while (race_on(&race)) {
        struct call call = { .deadline = WEFT_FOREVER };
        struct actor spawner;
        one = pool_make(runtime, 1);
        count_reset();
        check_eq(weft_group_spawn(one, finish, NULL, NULL), 0);
        actor_start(&spawner, true, act_spawn, &call);
        until(pool_queued(one) == 1);
        race_start(&race, true);
        weft_group_close(one);
        int rc = actor_end(&spawner);
        settle(rc, -ESHUTDOWN);
        race_won(&race, rc != 0);
        check_eq(weft_group_destroy(one), 0);
    }
    race_end(&race);
}

PROMISE(P5_race_resize_down_beside_release, ONCE)
{
    one = pool_make(runtime, 2);
    race_begin(&race, "release || resize down");
    while (race_on(&race)) {
        struct gate gate = { 0 };
        struct weft_task *first = member_spawn(one, finish, NULL), *second = member_spawn(one, pass_gate, &gate);
        race_start(&race, true);
        bool was_first = weft_task_finished(first);
        check_eq(weft_pool_resize(one, 1), 0);
        ends_ok(first);
        check_eq(weft_pool_free_count(one), 0); /* the other one has the slot that is left */
        gate_open(&gate);
        ends_ok(second);
        check_eq(weft_pool_free_count(one), 1);
        check_eq(weft_pool_resize(one, 2), 0);
        check_eq(weft_pool_free_count(one), 2);
        race_won(&race, !was_first);
    }
    race_end(&race);
    check_eq(weft_group_destroy(one), 0);
}

/* A member of a pool of 1 waits for a task that spawns into the pool: its slot is lent, while the waiting ends by a kill. */
struct loan {
    struct weft_task *helper, *member;
    int rc;
    bool returned_first;
};

static int spawn_helper(void *arg, void **result)
{
    (void)result;
    struct loan *loan = arg;
    struct weft_task *task = NULL;
    race_start(&race, false);
    int rc = weft_group_spawn_with(one, count_run, NULL, NULL, weft_after(WEFT_MSEC), &task);
    check(rc == 0 || rc == -ETIMEDOUT);
    loan->returned_first = weft_task_finished(loan->member);
    weft_task_release(task);
    return rc;
}

static int lend(void *arg, void **result)
{
    (void)result;
    struct loan *loan = arg;
    loan->rc = weft_task_join(loan->helper, WEFT_FOREVER);
    return 0;
}

PROMISE(P6_race_loan_beside_return, ONCE)
{
    one = pool_make(runtime, 1);
    race_begin(&race, "loan || return");
    while (race_on(&race)) {
        struct loan loan = { 0 };
        loan.helper = task_create(spawn_helper, &loan);
        struct weft_outcome outcome;
        count_reset();
        struct weft_task *member = loan.member = member_spawn(one, lend, &loan);
        check_eq(weft_task_start(loan.helper), 0);
        race_start(&race, true);
        check_eq(weft_task_kill(member, 0, WEFT_NOWAIT), 0);
        check_eq(weft_task_get(loan.helper, WEFT_FOREVER, &outcome), 0);
        weft_task_release(loan.helper);
        check_eq(weft_task_join(member, WEFT_FOREVER), 0);
        weft_task_release(member);
        check_eq(weft_group_join(one, weft_after(PATIENCE)), 0);
        check_eq(ran, outcome.status == WEFT_OK);
        check_eq(weft_pool_free_count(one), 1);
        race_won(&race, loan.returned_first);
    }
    race_end(&race);
    check_eq(weft_group_destroy(one), 0);
}
