/* task: what a task's life promises (contract T). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tasks.h"

static struct weft_runtime *runtime;
static int freed, result_freed, result; /* of the test that runs */

static void setup(void) { runtime = runtime_make(); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(task, .init = setup, .fini = teardown);

static void count_free(void *arg) { ++*(int *)arg; }

static void count_result_free(void *value) { result_freed += value == &result; }

static int give_result(void *arg, void **value)
{
    *value = &result;
    return arg ? *(int *)arg : 0;
}

static int return_arg(void *arg, void **value)
{
    (void)value;
    return *(int *)arg;
}

/* Blocks until it is killed; returns what `arg` says, or what the wait said. */
static int block_with_result(void *arg, void **value)
{
    *value = &result;
    gate_open(&begun);
    int rc = weft_sleep_until(WEFT_FOREVER);
    return arg ? *(int *)arg : rc;
}

/* ---- T1: states, handles ---- */

Test(task, null_out_detaches_T1)
{
    cr_assert_eq(weft_task_spawn(runtime, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), NULL), 0);
    gate_open(&open_gate);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&ended), 1);
    cr_assert_eq(freed, 1);
}

Test(task, created_task_is_new_until_it_is_started_T1)
{
    struct weft_task *task;
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, NULL, &task), 0);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0, "it is not the runtime's business yet");
    cr_assert_eq(weft_task_join(task, WEFT_NOWAIT), -ETIMEDOUT);
    cr_assert_eq(atomic_load(&begun), 0);
    cr_assert_eq(weft_task_start(task), 0);
    gate_wait(&begun, 1);
    cr_assert_not(weft_task_finished(task));
    gate_open(&open_gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert(weft_task_finished(task));
    weft_task_release(task);
}

Test(task, create_wants_a_place_for_the_handle_and_a_function_T1)
{
    struct weft_task *task = (struct weft_task *)&freed;
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_task_create(runtime, NULL, NULL, NULL, &task), -EINVAL);
    cr_assert_null(task);
    cr_assert_eq(weft_task_spawn(runtime, NULL, NULL, NULL, NULL), -EINVAL);
}

/* The value lives as long as the longest reference. */
Test(task, retain_keeps_task_and_value_T1)
{
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(
        weft_task_spawn(runtime, give_result, NULL, WEFT_OPTIONS(weft_task_options, .result_free = count_result_free), &task), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_retain(task);
    weft_task_release(task);
    cr_assert_eq(result_freed, 0);
    cr_assert_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.value, &result);
    weft_task_release(task);
    cr_assert_eq(result_freed, 1);
    weft_task_release(NULL);
}

Test(task, tasks_release_takes_all_and_clears_the_handles_T1)
{
    struct weft_task *tasks[3] = { NULL };
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(
            weft_task_create(runtime, return_arg, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free), &tasks[i]), 0);
    }
    weft_tasks_release(tasks, 3);
    cr_assert_eq(freed, 2);
    for (int i = 0; i < 3; i++) {
        cr_assert_null(tasks[i]);
    }
}

static int see_myself(void *arg, void **value)
{
    (void)value;
    struct weft_task **me = arg;
    gate_wait(&open_gate, 1);
    CHECK(weft_task_current() == *me);
    weft_yield();
    CHECK(weft_task_current() == *me);
    CHECK(weft_sleep_until(weft_after(WEFT_MSEC)) == 0);
    CHECK(weft_task_current() == *me);
    return 0;
}

Test(task, current_is_the_task_that_runs)
{
    struct weft_task *task = NULL;
    cr_assert_null(weft_task_current());
    cr_assert_eq(weft_task_spawn(runtime, see_myself, &task, NULL, &task), 0);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
}

Test(task, name_is_copied_or_null)
{
    char name[] = "first";
    struct weft_task *named, *unnamed;
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, WEFT_OPTIONS(weft_task_options, .name = name), &named), 0);
    cr_assert_eq(weft_task_create(runtime, at_gate, NULL, NULL, &unnamed), 0);
    memset(name, 'x', sizeof name - 1);
    cr_assert_str_eq(weft_task_name(named), "first");
    cr_assert_null(weft_task_name(unnamed));
    weft_task_release(named);
    weft_task_release(unnamed);
}

/* ---- T2, T3: outcomes ---- */

static struct weft_outcome outcome_of(weft_task_fn *fn, void *arg) { return finish_task(spawn_in(runtime, fn, arg)); }

Test(task, outcome_says_what_the_function_returned_T2)
{
    int fail = -EPIPE, positive = 3, lie = -ECANCELED;
    struct weft_outcome outcome = outcome_of(give_result, NULL);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_eq(outcome.error, 0);
    cr_assert_eq(outcome.value, &result);
    outcome = outcome_of(return_arg, &fail);
    cr_assert_eq(outcome.status, WEFT_FAILED);
    cr_assert_eq(outcome.error, -EPIPE);
    outcome = outcome_of(return_arg, &positive);
    cr_assert_eq(outcome.status, WEFT_FAILED);
    cr_assert_eq(outcome.error, -EINVAL);
    outcome = outcome_of(return_arg, &lie);
    cr_assert_eq(outcome.status, WEFT_FAILED, "nobody killed it");
    cr_assert_eq(outcome.error, -ECANCELED);
}

static struct weft_outcome outcome_of_killed(int reason, int *returns)
{
    atomic_store(&begun, 0);
    struct weft_task *task = spawn_in(runtime, block_with_result, returns);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, reason, WEFT_NOWAIT), 0);
    return finish_task(task);
}

Test(task, killed_task_that_says_so_is_cancelled_with_the_reason_T2)
{
    int canceled = -ECANCELED, reason = -EOWNERDEAD, other = -EPIPE;
    struct weft_outcome outcome = outcome_of_killed(reason, NULL); /* -ECANCELED of the wait, handed on */
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, reason);
    cr_assert_null(outcome.value, "a kill never becomes a value");
    outcome = outcome_of_killed(reason, &canceled);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, reason);
    outcome = outcome_of_killed(reason, &reason);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, reason);
    outcome = outcome_of_killed(reason, &other);
    cr_assert_eq(outcome.status, WEFT_FAILED, "another error is its own");
    cr_assert_eq(outcome.error, other);
}

Test(task, killed_task_that_returns_0_is_ok_T3)
{
    int zero = 0;
    struct weft_outcome outcome = outcome_of_killed(-EOWNERDEAD, &zero);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_eq(outcome.error, 0);
    cr_assert_eq(outcome.value, &result);
}

/* ---- T4: the argument ---- */

Test(task, arg_is_freed_once_whether_or_not_it_ran_T4)
{
    struct weft_task *task;
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    cr_assert_eq(weft_task_spawn(runtime, return_arg, &freed, options, &task), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(freed, 1, "when it has ended, not at the last release");
    weft_task_release(task);
    cr_assert_eq(freed, 1);

    cr_assert_eq(weft_task_create(runtime, at_gate, &freed, options, &task), 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(freed, 2);
    weft_task_release(task);
    cr_assert_eq(freed, 2);
    cr_assert_eq(atomic_load(&begun), 0);
}

static int finish_hooks;
static struct weft_outcome seen_at_finish;

static void note_finish(struct weft_task *task, void *ctx)
{
    (void)task, (void)ctx;
    finish_hooks++;
}

static void note_outcome(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)arg;
    seen_at_finish = *outcome;
}

Test(task, last_release_of_an_unstarted_task_cancels_it_T4)
{
    struct weft_task *task;
    struct weft_task_hooks hooks = { .finish = note_finish };
    cr_assert_eq(
        weft_task_create(runtime, at_gate, &freed, WEFT_OPTIONS(weft_task_options, .arg_free = count_free, .hooks = &hooks), &task),
        0);
    cr_assert_eq(weft_task_link(task, note_outcome, NULL, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    weft_task_retain(task);
    weft_task_release(task);
    cr_assert_eq(freed, 0, "it was not the last");
    weft_task_release(task);
    cr_assert_eq(freed, 1);
    cr_assert_eq(finish_hooks, 1);
    cr_assert_eq(seen_at_finish.status, WEFT_CANCELLED);
    cr_assert_eq(seen_at_finish.error, -ECANCELED);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&begun), 0);
}

/* ---- T5: the value ---- */

static struct weft_task *finished_with_result(int *returns)
{
    struct weft_task *task;
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .result_free = count_result_free);
    cr_assert_eq(weft_task_spawn(runtime, give_result, returns, options, &task), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    return task;
}

Test(task, take_transfers_the_value_once_T5)
{
    struct weft_task *task = finished_with_result(NULL);
    struct weft_outcome outcome;
    void *value = NULL;
    cr_assert_eq(weft_task_take(task, &value), 0);
    cr_assert_eq(value, &result);
    cr_assert_eq(weft_task_take(task, &value), -EALREADY);
    cr_assert_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    cr_assert_null(outcome.value);
    weft_task_release(task);
    cr_assert_eq(result_freed, 0, "it is the taker's");
}

Test(task, take_works_on_a_failed_task_too_T5)
{
    int fail = -EPIPE;
    void *value = NULL;
    struct weft_task *task = finished_with_result(&fail);
    cr_assert_eq(weft_task_take(task, &value), 0);
    cr_assert_eq(value, &result);
    weft_task_release(task);
    cr_assert_eq(result_freed, 0);
}

Test(task, result_beside_an_error_is_freed_T5)
{
    int fail = -EPIPE;
    weft_task_release(finished_with_result(&fail));
    cr_assert_eq(result_freed, 1);

    struct weft_task *task;
    cr_assert_eq(
        weft_task_spawn(runtime, block_with_result, NULL, WEFT_OPTIONS(weft_task_options, .result_free = count_result_free), &task),
        0);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(result_freed, 2, "of a cancelled one as well");
}

Test(task, take_of_an_unfinished_task_is_eagain_and_get_is_pending_T5)
{
    struct weft_task *task = spawn_in(runtime, at_gate, NULL);
    struct weft_outcome outcome = { WEFT_FAILED, -EIO, &result };
    void *value = &freed;
    cr_assert_eq(weft_task_take(task, &value), -EAGAIN);
    cr_assert_eq(value, &freed);
    cr_assert_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), -ETIMEDOUT);
    cr_assert_eq(outcome.status, WEFT_PENDING);
    cr_assert_eq(outcome.error, 0);
    cr_assert_null(outcome.value);
    outcome = (struct weft_outcome){ WEFT_FAILED, -EIO, &result };
    cr_assert_eq(weft_task_get(NULL, WEFT_NOWAIT, &outcome), -EINVAL);
    cr_assert_eq(outcome.status, WEFT_PENDING);
    cr_assert_eq(outcome.error, 0);
    cr_assert_null(outcome.value);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0);
}

static void look_at_value(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)arg;
    gate_open(&begun);
    gate_wait(&open_gate, 1);
    if (outcome->value == &result && result_freed == 0) {
        gate_open(&ended);
    }
}

Test(task, pending_link_keeps_the_value_T5)
{
    struct weft_task *task;
    cr_assert_eq(
        weft_task_create(runtime, give_result, NULL, WEFT_OPTIONS(weft_task_options, .result_free = count_result_free), &task), 0);
    cr_assert_eq(weft_task_link(task, look_at_value, NULL, WEFT_ON_OK, NULL), 0);
    cr_assert_eq(weft_task_start(task), 0);
    weft_task_release(task);
    gate_wait(&begun, 1);
    gate_open(&open_gate);
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_assert_eq(atomic_load(&ended), 1, "the link saw the value, and it was not freed yet");
    cr_assert_eq(result_freed, 1);
}
