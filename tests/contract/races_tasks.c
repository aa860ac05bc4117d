/* Races of a task's end and start: kill || start, finish || kill, two killers, unlink || fire, release || finish, kill from a link. */
#include "contract.h"
#include "race.h"

static struct race race;

static int finish(void *arg, void **result)
{
    *result = arg;
    race_start(&race, false);
    return 0;
}

static int act_start(void *arg)
{
    race_start(&race, true);
    return weft_task_start(arg);
}

PROMISE(T7_race_start_beside_kill, ONCE)
{
    race_begin(&race, "kill || start");
    while (race_on(&race)) {
        struct actor starter;
        struct weft_task *task;
        struct weft_outcome outcome;
        count_reset();
        check_eq(weft_task_create(runtime, count_run, NULL, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), &task), 0);
        actor_start(&starter, true, act_start, task);
        race_start(&race, false);
        check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
        int rc = actor_end(&starter);
        check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
        check(rc == 0 || (rc == -EALREADY && outcome.status == WEFT_CANCELLED));
        check(ran == (outcome.status == WEFT_OK) && args_freed == 1); /* it ran, or was cancelled */
        race_won(&race, rc == 0);
        weft_task_release(task);
    }
    race_end(&race);
}

PROMISE(C6_race_kill_beside_finish, ONCE)
{
    race_begin(&race, "finish || kill");
    while (race_on(&race)) {
        struct weft_task *task = task_spawn(finish, &race);
        struct weft_outcome outcome;
        race_start(&race, true);
        bool first = weft_task_finished(task);
        check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
        check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
        check(outcome.status == WEFT_OK && outcome.value == &race); /* T3 */
        race_won(&race, !first);
        weft_task_release(task);
    }
    race_end(&race);
}

static int wait_to_be_killed(void *gate, void **result)
{
    (void)result;
    check_eq(gate_pass(gate), -ECANCELED);
    check_eq(weft_checkpoint(), -ECANCELED);
    return weft_cancel_reason();
}

static int act_kill(void *arg)
{
    race_start(&race, true);
    return weft_task_kill(arg, -ENOTTY, WEFT_NOWAIT);
}

PROMISE(C6_race_two_killers, ONCE)
{
    race_begin(&race, "two killers");
    while (race_on(&race)) {
        struct gate gate = { 0 };
        struct actor killer;
        struct weft_outcome outcome;
        struct weft_task *task = task_spawn(wait_to_be_killed, &gate);
        until(gate_waiting(&gate) == 1);
        actor_start(&killer, true, act_kill, task);
        race_start(&race, false);
        int mine = weft_task_kill(task, -EIO, WEFT_NOWAIT), other = actor_end(&killer);
        check((mine == 0 || mine == -EALREADY) && (other == 0 || other == -EALREADY) && (mine == 0 || other == 0));
        check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
        check(outcome.status == WEFT_CANCELLED && (outcome.error == -EIO ? mine == 0 : outcome.error == -ENOTTY && other == 0));
        race_won(&race, outcome.error == -ENOTTY);
        weft_task_release(task);
    }
    race_end(&race);
}

static void count_link(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    a_add(&called, 1u, SEQ_CST);
}

PROMISE(T8_race_unlink_beside_fire, ONCE)
{
    race_begin(&race, "fire || unlink");
    while (race_on(&race)) {
        uint64_t id;
        count_reset();
        struct weft_task *task = task_create(finish, &race);
        check_eq(weft_task_link(task, count_link, NULL, WEFT_ON_ANY | (race.rounds % 2 ? WEFT_LINK_RAW : 0), &id), 0);
        check_eq(weft_task_start(task), 0);
        race_start(&race, true);
        int rc = weft_task_unlink(task, id);
        check(rc == 0 || rc == -ENOENT);
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
        if (rc != 0) {
            until(a_load(&called, SEQ_CST) == 1);
        } else {
            check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
            check_eq(called, 0);
        }
        race_won(&race, rc == 0);
    }
    race_end(&race);
}

PROMISE(T5_race_release_beside_finish, ONCE)
{
    race_begin(&race, "finish || release");
    while (race_on(&race)) {
        struct weft_task *task;
        count_reset();
        check_eq(weft_task_spawn(runtime, finish, &race,
                                 WEFT_OPTIONS(weft_task_options, .arg_free = count_arg, .result_free = count_result), &task),
                 0);
        race_start(&race, true);
        bool first = weft_task_finished(task);
        weft_task_release(task);
        check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
        until(a_load(&results_freed, SEQ_CST) == 1);
        check(args_freed == 1 && results_freed == 1);
        race_won(&race, !first);
    }
    race_end(&race);
}

static int act_finish(void *arg, void **result)
{
    (void)result;
    race_start(&race, false);
    return gate_pass_until(arg, WEFT_NOWAIT) == 0 ? 0 : -EIO;
}

static void kill_other(struct weft_task *task, const struct weft_outcome *outcome, void *other)
{
    (void)task, (void)outcome;
    race_start(&race, true);
    int rc = weft_task_kill(other, 0, WEFT_NOWAIT);
    check(rc == 0 || rc == -EALREADY);
    a_add(&called, weft_task_finished(other) ? 1u : 2u, SEQ_CST);
}

PROMISE(T8_race_kill_from_a_link, ONCE)
{
    race_begin(&race, "finish || kill from a link");
    while (race_on(&race)) {
        struct gate gate = { .open = 1 };
        count_reset();
        struct weft_task *other = task_create(act_finish, &gate), *task = task_create(do_nothing, NULL);
        check_eq(weft_task_link(task, kill_other, other, WEFT_ON_ANY, NULL), 0);
        check_eq(weft_task_start(other), 0);
        until(weft_task_state(other) == WEFT_TASK_RUNNING);
        bool first = false;
        check_eq(weft_task_start(task), 0);
        until(a_load(&called, SEQ_CST) != 0);
        first = called == 1;
        check_eq(weft_task_join(other, WEFT_FOREVER), 0);
        ends_ok(other);
        ends_ok(task);
        check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
        race_won(&race, !first);
    }
    race_end(&race);
}
