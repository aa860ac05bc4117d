/* T1 to T7, T9 to T11: a task's life, its outcome, its argument and its result. */
#include "contract.h"

PROMISE(T1_without_a_handle_a_task_is_detached, EVERYWHERE)
{
    count_reset();
    check_eq(weft_task_spawn(runtime, count_run, NULL, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), NULL), 0);
    until(a_load(&args_freed, SEQ_CST) == 1);
    check_eq(ran, 1);
}

/* Its name can be read as long as anybody has the task: the runtime while it runs, a group, a handle. */
PROMISE(T1_a_handle_keeps_a_task, EVERYWHERE)
{
    char name[] = "kept";
    struct gate gate = { 0 };
    struct weft_task *task;
    check_eq(weft_group_spawn_with(pool, pass_gate, &gate, WEFT_OPTIONS(weft_task_options, .name = name), WEFT_FOREVER, &task), 0);
    name[0] = 'K'; /* it was copied */
    weft_task_retain(task);
    weft_task_release(task);
    gate_open(&gate);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check(strcmp(weft_task_name(task), "kept") == 0);
    check(weft_task_finished(task));
    weft_task_release(task);
    weft_task_release(NULL);
}

PROMISE(T1_a_membership_keeps_a_task, EVERYWHERE)
{
    count_reset();
    struct weft_task *task, *seen[1];
    check_eq(weft_task_create(runtime, count_run, NULL, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), &task), 0);
    check_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
    check_eq(weft_group_snapshot(pool, seen, 1), 1);
    check(seen[0] == task);
    weft_task_release(seen[0]);
    check_eq(weft_group_discard(pool, task), 1);
    check_eq(args_freed, 0);
    weft_task_release(task);
    check_eq(args_freed, 1);
    check_eq(ran, 0);
}

/* ---- T2, T3 ---- */

PROMISE(T2_the_code_decides_between_ok_and_failed, EVERYWHERE)
{
    static const struct {
        int code;
        enum weft_status status;
        int error;
    } cases[] = { { 0, WEFT_OK, 0 },           { -EIO, WEFT_FAILED, -EIO },         { -12345, WEFT_FAILED, -12345 },
                  { 1, WEFT_FAILED, -EINVAL }, { INT32_MAX, WEFT_FAILED, -EINVAL }, { -ECANCELED, WEFT_FAILED, -ECANCELED } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code = cases[i].code;
        ends_with(task_spawn(return_code, &code), cases[i].status, cases[i].error);
    }
}

struct killed {
    struct gate gate;
    int code;
};

static int be_killed(void *arg, void **result)
{
    struct killed *killed = arg;
    check_eq(gate_pass(&killed->gate), -ECANCELED);
    *result = arg;
    return killed->code;
}

PROMISE(T2_a_killed_task_is_cancelled_if_it_returns_ecanceled_or_the_reason, EVERYWHERE)
{
    static const struct {
        int code;
        enum weft_status status;
        int error;
    } cases[] = { { -ECANCELED, WEFT_CANCELLED, -EIO },
                  { -EIO, WEFT_CANCELLED, -EIO },
                  { -ENOTTY, WEFT_FAILED, -ENOTTY },
                  { 5, WEFT_FAILED, -EINVAL } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct killed killed = { .code = cases[i].code };
        struct weft_task *task = task_spawn(be_killed, &killed);
        until(gate_waiting(&killed.gate) == 1);
        check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
        ends_with(task, cases[i].status, cases[i].error);
    }
}

/* Departure: gevent's GreenletExit is a value. */
PROMISE(T2_a_kill_never_becomes_a_value, EVERYWHERE)
{
    struct killed killed = { .code = -ECANCELED };
    struct weft_task *task = task_spawn(be_killed, &killed), *unstarted = task_create(return_arg, &killed);
    struct weft_outcome outcome;
    until(gate_waiting(&killed.gate) == 1);
    check_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check(outcome.status == WEFT_CANCELLED && outcome.error == -ECANCELED && !outcome.value);
    check_eq(weft_task_kill(unstarted, 0, WEFT_NOWAIT), 0);
    check_eq(weft_task_get(unstarted, WEFT_NOWAIT, &outcome), 0);
    check(outcome.status == WEFT_CANCELLED && !outcome.value);
    weft_task_release(task);
    weft_task_release(unstarted);
}

PROMISE(T3_a_killed_task_that_returns_0_is_ok_with_its_value, EVERYWHERE)
{
    struct killed killed = { .code = 0 };
    struct weft_task *task = task_spawn(be_killed, &killed);
    struct weft_outcome outcome;
    until(gate_waiting(&killed.gate) == 1);
    check_eq(weft_task_kill(task, -EIO, WEFT_FOREVER), 0);
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check(outcome.status == WEFT_OK && outcome.error == 0 && outcome.value == &killed);
    weft_task_release(task);
}

/* ---- T4, T5 ---- */

PROMISE(T4_arg_free_runs_once_whether_or_not_the_task_ran, EVERYWHERE)
{
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_arg);
    struct weft_task *task;
    count_reset();
    check_eq(weft_task_spawn(runtime, count_run, NULL, options, &task), 0);
    ends_ok(task);
    check_eq(args_freed, 1);
    check_eq(weft_task_create(runtime, count_run, NULL, options, &task), 0);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    check_eq(args_freed, 2);
    weft_task_release(task);
    check_eq(weft_task_create(runtime, count_run, NULL, options, &task), 0);
    weft_task_release(task);
    check_eq(args_freed, 3);
    check_eq(ran, 1);
}

static void note_outcome(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task;
    *(struct weft_outcome *)arg = *outcome;
    a_add(&called, 1u, SEQ_CST);
}

PROMISE(T4_the_last_release_of_an_unstarted_task_cancels_it, EVERYWHERE)
{
    struct weft_outcome outcome = { 0 };
    struct weft_task *task = task_create(count_run, NULL);
    count_reset();
    check_eq(weft_task_link(task, note_outcome, &outcome, WEFT_ON_ANY, NULL), 0);
    weft_task_release(task);
    until(a_load(&called, SEQ_CST) == 1);
    check(outcome.status == WEFT_CANCELLED && outcome.error == -ECANCELED);
    check_eq(ran, 0);
}

PROMISE(T5_get_lends_the_value_and_take_transfers_it_once, EVERYWHERE)
{
    int thing = 7;
    void *value = NULL;
    struct weft_outcome outcome;
    struct gate gate = { 0 };
    struct weft_task *task, *busy = task_spawn(pass_gate, &gate);
    count_reset();
    check_eq(weft_task_spawn(runtime, return_arg, &thing, WEFT_OPTIONS(weft_task_options, .result_free = count_result), &task), 0);
    for (int i = 0; i < 2; i++) {
        check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
        check(outcome.value == &thing);
    }
    check_eq(weft_task_take(task, &value), 0);
    check(value == &thing);
    check_eq(weft_task_take(task, &value), -EALREADY);
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check(outcome.status == WEFT_OK && !outcome.value);
    weft_task_release(task);
    check_eq(results_freed, 0);
    check_eq(weft_task_take(busy, &value), -EAGAIN);
    gate_open(&gate);
    ends_ok(busy);
}

static int fail_with_result(void *arg, void **result)
{
    *result = arg;
    return -EIO;
}

PROMISE(T5_a_result_that_nobody_took_is_freed_at_the_last_release, EVERYWHERE)
{
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .result_free = count_result);
    weft_task_fn *const functions[] = { return_arg, fail_with_result };
    int thing;
    for (int failing = 0; failing < 2; failing++) {
        struct weft_task *task;
        count_reset();
        check_eq(weft_task_spawn(runtime, functions[failing], &thing, options, &task), 0);
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        check_eq(results_freed, 0);
        weft_task_release(task);
        until(a_load(&results_freed, SEQ_CST) == 1); /* the runtime may have its reference for a moment longer */
        check_eq(weft_task_spawn(runtime, functions[failing], &thing, options, NULL), 0);
        until(a_load(&results_freed, SEQ_CST) == 2);
    }
}

PROMISE(T5_a_failed_tasks_result_can_be_taken, EVERYWHERE)
{
    int thing;
    void *value = NULL;
    struct weft_task *task = task_spawn(fail_with_result, &thing);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check_eq(weft_task_take(task, &value), 0);
    check(value == &thing);
    ends_with(task, WEFT_FAILED, -EIO);
}

PROMISE(T5_a_get_that_fails_gives_a_pending_outcome, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate, &gate);
    struct weft_outcome outcome = { WEFT_OK, 5, &gate };
    check_eq(weft_task_get(task, weft_after(1000), &outcome), -ETIMEDOUT);
    check(outcome.status == WEFT_PENDING && outcome.error == 0 && !outcome.value);
    gate_open(&gate);
    ends_ok(task);
}

static void see_value(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct gate *gate = arg;
    check_eq(gate_pass(gate), 0);
    check(outcome->value == gate && weft_task_finished(task));
    check_eq(results_freed, 0);
    a_add(&called, 1u, SEQ_CST);
}

PROMISE(T5_a_pending_link_keeps_the_value, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task;
    count_reset();
    check_eq(weft_task_spawn(runtime, return_arg, &gate, WEFT_OPTIONS(weft_task_options, .result_free = count_result), &task), 0);
    check_eq(weft_task_link(task, see_value, &gate, WEFT_ON_ANY, NULL), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    until(gate_waiting(&gate) == 1);
    gate_open(&gate);
    until(a_load(&results_freed, SEQ_CST) == 1);
    check_eq(called, 1);
}

/* ---- T6 ---- */

PROMISE(T6_who_sees_a_task_finished_sees_its_groups_without_it, EVERY)
{
    for (int i = 0; i < 30; i++) {
        struct weft_task *task = member_spawn(pool, do_nothing, NULL);
        if (i % 2) {
            until(weft_task_finished(task));
        } else {
            check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        }
        check_eq(weft_group_len(pool), 0);
        check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
        check(!weft_group_contains(pool, task));
        weft_task_release(task);
    }
}

PROMISE(T6_who_returns_from_a_groups_join_sees_its_tasks_finished, EVERY)
{
    for (int i = 0; i < 30; i++) {
        struct weft_task *tasks[3];
        for (int k = 0; k < 3; k++) {
            tasks[k] = member_spawn(pool, do_nothing, NULL);
        }
        check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
        for (int k = 0; k < 3; k++) {
            check(weft_task_finished(tasks[k]));
        }
        weft_tasks_release(tasks, 3);
    }
}

/* ---- T7, T10, T11 ---- */

PROMISE(T7_a_second_start_is_ealready_and_harmless, EVERYWHERE)
{
    struct weft_task *task = task_create(count_run, NULL), *killed = task_create(count_run, NULL);
    count_reset();
    check_eq(weft_task_start(task), 0);
    check_eq(weft_task_start(task), -EALREADY);
    check_eq(weft_task_start_at(task, 0), -EALREADY);
    check_eq(weft_group_start(pool, task, WEFT_FOREVER), -EALREADY);
    ends_ok(task);
    check_eq(weft_task_kill(killed, 0, WEFT_NOWAIT), 0);
    check_eq(weft_task_start(killed), -EALREADY);
    check_eq(weft_task_start_at(killed, 0), -EALREADY);
    ends_with(killed, WEFT_CANCELLED, -ECANCELED);
    check_eq(ran, 1);
}

PROMISE(T7_start_at_in_the_past_is_now, EVERYWHERE)
{
    struct weft_task *task = task_create(do_nothing, NULL);
    check_eq(weft_task_start_at(task, weft_after(-WEFT_SEC)), 0);
    ends_ok(task);
    int64_t when = weft_after(2 * WEFT_MSEC);
    task = task_create(do_nothing, NULL);
    check_eq(weft_task_start_at(task, when), 0);
    ends_ok(task);
    check(weft_now() >= when);
}

PROMISE(T10_the_deadline_option_kills_with_etimedout, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *running, *unstarted;
    count_reset();
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .deadline = weft_after(2 * WEFT_MSEC));
    check_eq(weft_task_spawn(runtime, pass_gate, &gate, options, &running), 0);
    check_eq(weft_task_create(runtime, count_run, NULL, options, &unstarted), 0);
    ends_with(running, WEFT_CANCELLED, -ETIMEDOUT);
    ends_with(unstarted, WEFT_CANCELLED, -ETIMEDOUT);
    check(weft_now() >= options->deadline);
    check_eq(ran, 0);
}

static int join_self(void *arg, void **result)
{
    (void)arg, (void)result;
    struct weft_outcome outcome = { WEFT_OK, 1, arg };
    check_eq(weft_task_join(weft_task_current(), WEFT_FOREVER), -EDEADLK);
    check_eq(weft_task_get(weft_task_current(), WEFT_FOREVER, &outcome), -EDEADLK);
    check(outcome.status == WEFT_PENDING && outcome.error == 0);
    return 0;
}

PROMISE(T11_join_of_oneself_is_edeadlk, EVERYWHERE) { ends_ok(task_spawn(join_self, NULL)); }
