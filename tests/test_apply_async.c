/* apply_async: one call in a group that is not waited for (contract A2, A3, C2, P2, T4). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"

static struct gate gate;
static _Atomic uint32_t arg_frees, begun, callbacks;

static void arg_free(void *p)
{
    (void)p;
    a_add(&arg_frees, 1u, SEQ_CST);
}

static const struct weft_task_options with_free = { .struct_size = sizeof with_free, .arg_free = arg_free };

static int note_begin(void *arg, void **result)
{
    a_add(&begun, 1u, SEQ_CST);
    *result = arg;
    return 0;
}

static int fail(void *arg, void **result)
{
    (void)arg, (void)result;
    return -EIO;
}

static struct weft_task *apply(weft_task_fn *fn, void *arg)
{
    struct weft_task *task;
    check_eq(weft_group_apply_async(pool, fn, arg, WEFT_OPTIONS(weft_apply_options, .task_options = &with_free), &task), 0);
    return task;
}

Test(apply_async, does_not_wait_and_becomes_a_member_when_it_is_admitted)
{
    begin(1);
    struct weft_outcome outcome;
    struct weft_task *first = apply(pass_gate, &gate), *second = apply(note_begin, (void *)3);
    cr_assert(weft_group_contains(pool, first));
    cr_assert_not(weft_group_contains(pool, second));
    cr_assert_eq(weft_group_len(pool), 1);
    cr_assert_eq(weft_group_discard(pool, second), 0);
    cr_assert_eq(weft_group_add(pool, second, WEFT_NOWAIT), -EALREADY, "it is on its way in");
    cr_assert_eq(weft_group_kill_one(pool, second, 0, WEFT_NOWAIT), -ENOENT);
    cr_assert_eq(weft_task_start(second), -EALREADY);
    cr_assert_eq(weft_group_destroy(pool), -EBUSY);
    cr_assert_eq(weft_task_get(second, weft_after(10 * WEFT_MSEC), &outcome), -ETIMEDOUT);
    cr_assert_eq(begun, 0);
    cr_assert_eq(weft_group_discard(pool, first), 1, "its slot is for the next");
    cr_assert_eq(weft_task_get(second, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.value, (void *)3);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(first, WEFT_FOREVER), 0);
    cr_assert_eq(arg_frees, 2);
    weft_task_release(first);
    weft_task_release(second);
    end();
}

Test(apply_async, keeps_the_group_non_empty_while_it_is_queued)
{
    begin(0);
    struct weft_task *task = apply(note_begin, NULL);
    cr_assert_eq(weft_group_len(pool), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    cr_assert_eq(weft_pool_resize(pool, 1), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 1);
    weft_task_release(task);
    end();
}

Test(apply_async, killed_while_queued_it_never_runs)
{
    begin(1);
    struct weft_task *holder = apply(pass_gate, &gate), *task = apply(note_begin, NULL), *next = apply(note_begin, NULL);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_NOWAIT), 0);
    cr_assert(weft_task_finished(task));
    cr_assert_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(arg_frees, 1);
    cr_assert_eq(pool_queued(pool), 1);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(next, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 1);
    weft_task_release(holder);
    weft_task_release(task);
    weft_task_release(next);
    end();
}

Test(apply_async, its_own_deadline_ends_it_in_the_queue)
{
    begin(0);
    struct weft_task *task;
    struct weft_outcome outcome;
    const struct weft_task_options *late = WEFT_OPTIONS(weft_task_options, .deadline = weft_after(5 * WEFT_MSEC));
    cr_assert_eq(weft_group_apply_async(pool, note_begin, NULL, WEFT_OPTIONS(weft_apply_options, .task_options = late), &task), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.error, -ETIMEDOUT);
    cr_assert_eq(begun, 0);
    weft_task_release(task);
    end();
}

Test(apply_async, of_a_runtime_that_ends_queued_ones_are_cancelled)
{
    begin(1);
    struct weft_task *tasks[3];
    struct weft_outcome outcome;
    cr_assert_eq(weft_pool_resize(pool, 0), 0);
    for (int i = 0; i < 3; i++) {
        tasks[i] = apply(note_begin, NULL);
    }
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_task_get(tasks[i], WEFT_NOWAIT, &outcome), 0);
        cr_assert_eq(outcome.status, WEFT_CANCELLED);
    }
    weft_tasks_release(tasks, 3);
    cr_assert_eq(begun, 0);
    cr_assert_eq(arg_frees, 3);
    cr_assert_eq(weft_group_len(pool), 0);
    cr_assert_eq(weft_group_add(pool, NULL, WEFT_NOWAIT), -ESHUTDOWN);
    cr_assert_eq(weft_group_destroy(pool), 0);
}

static int apply_and_get(void *arg, void **result)
{
    (void)arg, (void)result;
    struct weft_outcome outcome;
    struct weft_task *task = apply(note_begin, (void *)7);
    check_eq(pool_queued(pool), 1); /* it holds the only slot itself */
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check_eq((uintptr_t)outcome.value, 7);
    weft_task_release(task);
    return 0;
}

Test(apply_async, a_member_that_waits_for_a_queued_one_lends_it_its_slot)
{
    begin(1);
    cr_assert_eq(weft_group_spawn(pool, apply_and_get, NULL, NULL), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 1);
    end();
}

/* ---- callback ---- */

static void called(const struct weft_outcome *outcome, void *arg)
{
    struct weft_task *task = weft_task_current();
    check(task != NULL);
    check(!weft_group_contains(pool, task));
    check_eq(outcome->status, (uintptr_t)arg);
    check_eq(gate_pass(&gate), 0); /* it is slow, and costs no slot */
    a_add(&callbacks, 1u, SEQ_CST);
}

static struct weft_task *apply_with_callback(weft_task_fn *fn, unsigned when, enum weft_status expected)
{
    struct weft_task *task;
    const struct weft_apply_options *options =
        WEFT_OPTIONS(weft_apply_options, .callback = called, .when = when, .callback_arg = (void *)(uintptr_t)expected);
    check_eq(weft_group_apply_async(pool, fn, NULL, options, &task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    return task;
}

Test(apply_async, calls_back_in_an_untracked_task_for_the_outcomes_that_are_wanted)
{
    begin(1);
    struct weft_task *tasks[] = { apply_with_callback(note_begin, 0, WEFT_OK), apply_with_callback(fail, 0, WEFT_OK),
                                  apply_with_callback(fail, WEFT_ON_FAILED, WEFT_FAILED),
                                  apply_with_callback(note_begin, WEFT_ON_FAILED, WEFT_FAILED) };
    until(gate_waiting(&gate) == 2);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0, "the group does not wait for callbacks");
    cr_assert_eq(weft_pool_free_count(pool), 1);
    gate_open(&gate);
    until(a_load(&callbacks, SEQ_CST) == 2);
    weft_tasks_release(tasks, 4);
    end();
}

Test(apply_async, in_a_private_group)
{
    begin(1);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_group_apply_async(NULL, note_begin, (void *)5, NULL, &task), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.value, (void *)5);
    weft_task_release(task);
    cr_assert_eq(weft_group_apply_async(NULL, note_begin, NULL, NULL, NULL), 0);
    until(a_load(&begun, SEQ_CST) == 2);
    end();
}
