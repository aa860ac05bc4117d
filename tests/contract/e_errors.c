/* E1 to E4, E7: codes, and where a call may be made. */
#include "contract.h"

/* ---- E1 ---- */

PROMISE(E1_failure_is_a_negative_errno_value, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate, &gate);
    struct weft_outcome outcome;
    check_eq(weft_task_join(task, WEFT_NOWAIT), -ETIMEDOUT);
    check_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), -ETIMEDOUT);
    check_eq(weft_task_kill(task, 1, WEFT_NOWAIT), -EINVAL);
    check_eq(weft_task_unlink(task, 77), -ENOENT);
    gate_open(&gate);
    ends_ok(task);
}

PROMISE(E1_success_is_zero_or_a_positive_count, EVERYWHERE)
{
    struct weft_task *tasks[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] = task_spawn(do_nothing, NULL);
    }
    check_eq(weft_tasks_wait(tasks, 3, 3, WEFT_FOREVER), 3);
    check_eq(weft_task_join(tasks[0], WEFT_FOREVER), 0);
    check_eq(weft_pool_wait_available(pool, WEFT_FOREVER), size);
    weft_tasks_release(tasks, 3);
    check(tasks[0] == NULL && tasks[2] == NULL);
}

/* A code is a return value alone: what errno was before, no failing call needs. */
PROMISE(E1_errno_tells_nothing, EVERYWHERE)
{
    errno = 0;
    check_eq(weft_task_spawn(runtime, NULL, NULL, NULL, NULL), -EINVAL);
    check_eq(errno, 0);
    check_eq(weft_pool_create(runtime, 1, NULL, NULL), -EINVAL);
    check_eq(errno, 0);
}

/* ---- E2: a situation for each code ---- */

PROMISE(E2_eagain_is_no_slot_and_not_waiting, EVERY)
{
    struct gate gate = { 0 };
    if (size == WEFT_UNLIMITED) {
        return;
    }
    pool_fill(&gate);
    check_eq(weft_group_spawn_with(pool, count_run, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    check(WEFT_IS_FULL(-EAGAIN) && WEFT_IS_FULL(-ETIMEDOUT) && !WEFT_IS_FULL(0) && !WEFT_IS_FULL(-ECANCELED));
    pool_empty(&gate);
}

PROMISE(E2_etimedout_is_this_wait_and_the_thing_goes_on, EVERY)
{
    struct gate gate = { 0 };
    pool_fill(&gate);
    check_eq(weft_group_join(pool, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    if (size != WEFT_UNLIMITED) {
        check_eq(weft_group_spawn_with(pool, count_run, NULL, NULL, weft_after(WEFT_MSEC), NULL), -ETIMEDOUT);
    }
    check_eq(weft_group_len(pool), pool_width());
    check_eq(gate_waiting(&gate), pool_width());
    pool_empty(&gate);
}

static int sleep_long(void *arg, void **result)
{
    (void)result;
    struct gate *gate = arg;
    check_eq(gate_pass(gate), -ECANCELED);
    check_eq(weft_cancel_reason(), -EIO);
    return -ECANCELED;
}

PROMISE(E2_ecanceled_is_the_callers_kill_whatever_its_reason, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(sleep_long, &gate);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    ends_with(task, WEFT_CANCELLED, -EIO);
}

static int join_oneself(void *arg, void **result)
{
    (void)arg, (void)result;
    struct weft_task *self = weft_task_current();
    check_eq(weft_task_join(self, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_tasks_wait(&self, 1, 1, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_runtime_join(runtime, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_group_join(pool, WEFT_FOREVER), -EDEADLK);
    return 0;
}

PROMISE(E2_edeadlk_is_a_wait_for_oneself, EVERY) { ends_ok(member_spawn(pool, join_oneself, NULL)); }

PROMISE(E2_ealready_is_started_dying_or_taken, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate_masked, &gate);
    void *value;
    until(gate_waiting(&gate) == 1);
    check_eq(weft_task_start(task), -EALREADY);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), -EALREADY);
    gate_open(&gate);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check_eq(weft_task_take(task, &value), 0);
    check_eq(weft_task_take(task, &value), -EALREADY);
    weft_task_release(task);
}

PROMISE(E2_eshutdown_is_a_group_killed_while_one_waited_for_a_slot, EVERY)
{
    struct gate gate = { 0 };
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (int foreign = 0; foreign < 2; foreign++) {
        struct call call = { .group = pool, .deadline = WEFT_FOREVER };
        struct actor actor;
        pool_fill(&gate);
        actor_start(&actor, foreign, call_spawn, &call);
        until(pool_queued(pool) == 1);
        check_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
        check_eq(actor_end(&actor), -ESHUTDOWN);
    }
}

static void wait_raw(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)outcome;
    struct gate *gate = arg;
    check_eq(weft_sleep_until(weft_after(WEFT_MSEC)), -EPERM);
    check_eq(weft_group_join(pool, WEFT_FOREVER), -EPERM);
    (void)task;
    gate_open(gate);
}

PROMISE(E2_eperm_is_not_allowed_here, EVERYWHERE)
{
    struct gate done = { 0 };
    struct weft_task *task = task_create(do_nothing, NULL);
    check_eq(weft_task_link(task, wait_raw, &done, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    check_eq(weft_task_start(task), 0);
    check_eq(gate_pass(&done), 0);
    ends_ok(task);
}

PROMISE(E2_exdev_is_a_task_of_another_runtime, EVERYWHERE)
{
    struct weft_runtime *other = runtime_with(1);
    struct gate gate = { 0 };
    struct weft_task *task;
    struct weft_group *group;
    check_eq(weft_task_spawn(other, pass_gate, &gate, NULL, &task), 0);
    check_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .tasks = &task, .n_tasks = 1), &group), -EXDEV);
    gate_open(&gate);
    ends_ok(task);
    check_eq(weft_runtime_destroy(other), 0);
}

PROMISE(E2_ebusy_eoverflow_e2big_are_as_usual, EVERY)
{
    struct gate gate = { 0 };
    struct weft_task *task = member_spawn(pool, pass_gate, &gate);
    check_eq(weft_group_destroy(pool), -EBUSY);
    check_eq(weft_tasks_wait(&task, (size_t)INT32_MAX + 1, 1, WEFT_NOWAIT), -EOVERFLOW);
    struct {
        struct weft_task_options known;
        size_t unknown;
    } options = { { .struct_size = sizeof options }, 1 };
    check_eq(weft_task_spawn(runtime, do_nothing, NULL, &options.known, NULL), -E2BIG);
    gate_open(&gate);
    ends_ok(task);
}

PROMISE(E2_strerror_words_each_code, ONCE)
{
    static const int own[] = { -EAGAIN, -ETIMEDOUT, -ECANCELED, -EDEADLK, -ENOENT, -EALREADY, -ESHUTDOWN, -EPERM, -EXDEV };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *words = weft_strerror(own[i]);
        check(words && *words && strcmp(words, strerror(-own[i])) != 0);
        for (size_t j = 0; j < i; j++) {
            check(strcmp(words, weft_strerror(own[j])) != 0);
        }
    }
    check(strcmp(weft_strerror(-EIO), strerror(EIO)) == 0);
    check(strcmp(weft_strerror(-ENOTTY), strerror(ENOTTY)) == 0);
    check(weft_strerror(0) && *weft_strerror(0) && weft_strerror(INT32_MIN) && weft_strerror(1));
}

/* ---- E3 ---- */

PROMISE(E3_get_returns_0_whatever_became_of_the_task, EVERYWHERE)
{
    int failed = -ENOTTY;
    struct weft_task *failing = task_spawn(return_code, &failed), *killed = task_create(do_nothing, NULL);
    struct weft_outcome outcome;
    check_eq(weft_task_kill(killed, -EIO, WEFT_NOWAIT), 0);
    check_eq(weft_task_get(failing, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, WEFT_FAILED);
    check_eq(outcome.error, -ENOTTY);
    check_eq(weft_task_get(killed, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, WEFT_CANCELLED);
    check_eq(outcome.error, -EIO);
    weft_task_release(failing);
    weft_task_release(killed);
}

/* A failure's code that looks like one of a wait is still no wait's. */
PROMISE(E3_a_tasks_timeout_is_not_the_waits, EVERYWHERE)
{
    static const int codes[] = { -ETIMEDOUT, -ECANCELED, -EAGAIN, -EDEADLK };
    for (size_t i = 0; i < 4; i++) {
        int code = codes[i];
        ends_with(task_spawn(return_code, &code), WEFT_FAILED, code);
    }
}

static int fail_item(void *ctx, void *item, void **result)
{
    (void)ctx, (void)item, (void)result;
    return -ETIMEDOUT;
}

PROMISE(E3_imap_next_returns_1_whatever_became_of_the_item, EVERY)
{
    static const int things[2];
    struct weft_array array = { things, sizeof *things, 2, 0 };
    struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_imap *imap;
    struct weft_item item;
    check_eq(weft_group_imap(pool, &source, 1, fail_item, NULL, NULL, &imap), 0);
    for (size_t i = 0; i < 2; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check_eq(item.index, i);
        check_eq(item.status, WEFT_FAILED);
        check_eq(item.error, -ETIMEDOUT);
    }
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
}

/* ---- E4 ---- */

PROMISE(E4_a_create_or_spawn_that_fails_leaves_the_argument, EVERYWHERE)
{
    int64_t thing = 42;
    struct weft_task *task;
    struct weft_task_options bad = { .struct_size = 0, .arg_free = count_arg };
    count_reset();
    check_eq(weft_task_create(runtime, count_run, &thing, &bad, &task), -EINVAL);
    check_eq(weft_task_spawn(runtime, count_run, &thing, &bad, &task), -EINVAL);
    check_eq(weft_group_spawn_with(pool, count_run, &thing, &bad, WEFT_FOREVER, &task), -EINVAL);
    check_eq(args_freed, 0);
    check_eq(ran, 0);
    check_eq(weft_group_len(pool), 0);
}

PROMISE(E4_a_refused_group_spawn_leaves_the_argument, EVERY)
{
    struct gate gate = { 0 };
    if (size == WEFT_UNLIMITED) {
        return;
    }
    count_reset();
    pool_fill(&gate);
    static const int64_t waits[] = { 0, 1, WEFT_MSEC };
    for (size_t i = 0; i < 3; i++) {
        struct call call = { .group = pool, .deadline = i == 0 ? WEFT_NOWAIT : weft_after(waits[i]) };
        check_eq(call_spawn(&call), i == 0 ? -EAGAIN : -ETIMEDOUT);
    }
    struct call call = { .group = pool, .deadline = WEFT_FOREVER };
    struct actor actor;
    actor_start(&actor, false, call_spawn, &call);
    until(pool_queued(pool) == 1);
    check_eq(weft_task_kill(actor.task, 0, WEFT_NOWAIT), 0);
    check_eq(actor_end(&actor), -ECANCELED);
    check_eq(weft_group_len(pool), pool_width());
    pool_empty(&gate);
    check_eq(args_freed, 0);
    check_eq(ran, 0);
}

static void call_link(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
    a_add(&called, 1u, SEQ_CST);
}

PROMISE(E4_a_refused_start_or_link_changes_nothing, EVERYWHERE)
{
    count_reset();
    struct weft_task *task = task_create(count_run, NULL);
    uint64_t id = 0;
    check_eq(weft_task_link(task, call_link, NULL, 0, &id), -EINVAL);
    check_eq(weft_task_link(task, call_link, NULL, WEFT_LINK_RAW, &id), -EINVAL);
    check_eq(weft_task_start(task), 0);
    check_eq(weft_task_start(task), -EALREADY);
    ends_ok(task);
    check_eq(ran, 1);
    check_eq(called, 0);
}

static int count_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

PROMISE(E4_a_map_that_never_began_says_so, EVERYWHERE)
{
    struct weft_map_report report = { .struct_size = sizeof report, .started = true };
    struct weft_map_options options = { .struct_size = sizeof options, .report = &report, .on_error = (enum weft_on_error)99 };
    count_reset();
    check_eq(weft_group_map(pool, count_item, NULL, 5, NULL, 0, NULL, 0, &options), -EINVAL);
    check(!report.started);
    check_eq(ran, 0);
    options.on_error = WEFT_RUN_ALL;
    check_eq(weft_group_map(pool, count_item, NULL, 5, NULL, 0, NULL, 0, &options), 0);
    check(report.started);
    check_eq(ran, 5);
}
