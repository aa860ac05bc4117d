/* join_outcome: which members failed (contract G6). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct weft_group *group;
static struct gate gate;
static _Atomic uint32_t frees;

static void begin(bool forget)
{
    runtime = runtime_make();
    check_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .forget_errors = forget), &group), 0);
}

static void end(void)
{
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(group), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static int fail(void *arg, void **result)
{
    *result = arg;
    return -(int)(uintptr_t)arg;
}

static int fail_later(void *arg, void **result)
{
    (void)result;
    check_eq(gate_pass(&gate), 0);
    return -(int)(uintptr_t)arg;
}

static int wait_there(void *arg, void **result)
{
    (void)arg, (void)result;
    return gate_pass(&gate);
}

static void spawn(weft_task_fn *fn, int error, struct weft_task **out)
{
    check_eq(weft_group_spawn(group, fn, (void *)(uintptr_t)error, out), 0);
}

/* The error that is reported; 0: none. */
static int report(int64_t deadline, int expected_rc, struct weft_task **task)
{
    struct weft_outcome outcome = { .error = 1 };
    check_eq(weft_group_join_outcome(group, deadline, &outcome, task), expected_rc);
    check_eq(outcome.status, outcome.error ? WEFT_FAILED : WEFT_OK);
    return outcome.error;
}

Test(group_join, each_failure_is_reported_once_with_its_task)
{
    begin(false);
    struct weft_task *first, *second, *task;
    struct weft_outcome outcome;
    spawn(fail, 5, &first);
    cr_assert_eq(weft_task_join(first, WEFT_FOREVER), 0);
    spawn(do_nothing, 0, NULL);
    spawn(fail, 7, &second);
    cr_assert_eq(weft_task_join(second, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_join_outcome(group, WEFT_FOREVER, &outcome, &task), 0);
    cr_assert_eq(task, first, "before the call, too, the oldest first");
    cr_assert_eq(outcome.status, WEFT_FAILED);
    cr_assert_eq(outcome.error, -5);
    cr_assert_eq(outcome.value, (void *)5, "lent with the task");
    weft_task_release(task);
    weft_task_release(first);
    cr_assert_eq(report(WEFT_FOREVER, 0, &task), -7);
    cr_assert_eq(task, second);
    weft_task_release(task);
    weft_task_release(second);
    cr_assert_eq(report(WEFT_FOREVER, 0, &task), 0);
    cr_assert_null(task);
    end();
}

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, SEQ_CST);
}

Test(group_join, a_failed_task_that_nobody_has_is_gone_and_its_error_is_not)
{
    begin(false);
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .result_free = count_free);
    struct weft_task *task, *kept;
    for (uintptr_t i = 0; i < 100; i++) {
        cr_assert_eq(weft_group_spawn_with(group, fail, (void *)(i < 50 ? (uintptr_t)1 : i), options, WEFT_FOREVER, NULL), 0);
        cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    }
    until(a_load(&frees, SEQ_CST) == 100); /* no failure keeps a result */
    spawn(fail, 200, &kept);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    weft_task_release(kept); /* gone after it was noted */
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(report(WEFT_FOREVER, 0, &task), i < 50 ? -1 : -i);
        cr_assert_null(task);
    }
    cr_assert_eq(report(WEFT_FOREVER, 0, &task), -200);
    cr_assert_null(task);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), 0);
    end();
}

Test(group_join, a_group_with_notes_may_be_destroyed_and_the_tasks_live_on)
{
    begin(false);
    struct weft_group *other;
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_group_create(runtime, NULL, &other), 0);
    spawn(fail_later, 3, &task);
    cr_assert_eq(weft_group_add(other, task, WEFT_FOREVER), 1);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(other, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(other), 0);
    struct weft_task *reported;
    cr_assert_eq(report(WEFT_FOREVER, 0, &reported), -3);
    cr_assert_eq(reported, task);
    weft_task_release(reported);
    cr_assert_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.error, -3);
    weft_task_release(task);
    end();
}

Test(group_join, it_does_not_return_early_and_after_a_timeout_reports_what_there_is)
{
    begin(false);
    struct weft_task *task, *failed;
    spawn(wait_there, 0, NULL);
    cr_assert_eq(weft_group_len(group), 1);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    a_store(&gate.open, 0u, SEQ_CST);
    spawn(fail_later, 9, NULL);
    cr_assert_eq(report(WEFT_NOWAIT, -ETIMEDOUT, &task), 0);
    cr_assert_null(task);
    spawn(fail, 4, &failed);
    int64_t before = weft_now();
    cr_assert_eq(weft_task_join(failed, WEFT_FOREVER), 0);
    cr_assert_eq(report(weft_after(50 * WEFT_MSEC), -ETIMEDOUT, &task), -4);
    cr_assert_geq(weft_now() - before, 50 * WEFT_MSEC);
    cr_assert_eq(task, failed);
    weft_task_release(task);
    weft_task_release(failed);
    gate_open(&gate);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), -9);
    end();
}

Test(group_join, cancelled_is_not_failed_and_a_discarded_task_is_no_member)
{
    begin(false);
    struct weft_task *task, *gone;
    spawn(fail_later, 9, &gone);
    cr_assert_eq(weft_group_discard(group, gone), 1);
    spawn(wait_there, 0, &task);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_NOWAIT), 0);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), 0);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(gone, WEFT_FOREVER), 0);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), 0);
    weft_task_release(task);
    weft_task_release(gone);
    end();
}

static void hear(void *arg) { a_store((_Atomic int *)arg, report(WEFT_FOREVER, 0, NULL), SEQ_CST); }

Test(group_join, forget_errors_reports_only_what_fails_meanwhile)
{
    begin(true);
    struct os_thread listener;
    _Atomic int heard = 1;
    spawn(fail, 5, NULL);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), 0);
    spawn(fail_later, 6, NULL);
    spawn(fail_later, 6, NULL);
    cr_assert_eq(os_thread_start(&listener, hear, &heard, "listener"), 0);
    until(!weft_waitq_empty(&group->joiners));
    gate_open(&gate);
    os_thread_join(listener);
    cr_assert_eq(heard, -6);
    cr_assert_eq(report(WEFT_FOREVER, 0, NULL), 0, "the other one was forgotten when nobody listened any more");
    end();
}

static int join_own(void *arg, void **result)
{
    (void)result;
    struct weft_outcome outcome = { .status = WEFT_OK };
    struct weft_task *task = weft_task_current();
    check_eq(weft_group_join_outcome(arg, WEFT_FOREVER, &outcome, &task), -EDEADLK);
    check_eq(outcome.status, WEFT_PENDING);
    check(task == NULL);
    return 0;
}

Test(group_join, a_member_would_wait_for_itself)
{
    begin(false);
    cr_assert_eq(weft_group_spawn(group, join_own, group, NULL), 0);
    cr_assert_eq(weft_group_join_outcome(NULL, WEFT_FOREVER, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_group_join_outcome(group, WEFT_FOREVER, NULL, NULL), 0);
    end();
}
