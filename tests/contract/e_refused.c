/* E4 of add and of apply: what was refused has changed nothing. */
#include "contract.h"

static int call_add(void *arg)
{
    struct call *call = arg;
    return weft_group_add(call->group, call->task, call->deadline);
}

/* It is no member, nobody stands in the queue, and it goes on as before. */
static void check_stranger(struct weft_group *group, struct weft_task *task, size_t members)
{
    check(!weft_group_contains(group, task) && !weft_task_finished(task));
    check_eq(weft_group_len(group), members);
    check_eq(pool_queued(group), 0);
    check_eq(args_freed, 0);
}

/* Each way to refuse the task a slot of the full pool. */
static void refuse_in_full_pool(struct weft_task *task)
{
    struct gate gate = { 0 };
    struct call call = { .group = pool, .task = task, .deadline = WEFT_NOWAIT };
    struct actor actor;
    pool_fill(&gate);
    check_eq(call_add(&call), -EAGAIN);
    check_stranger(pool, task, size);
    call.deadline = weft_after(WEFT_MSEC);
    check_eq(call_add(&call), -ETIMEDOUT);
    check_stranger(pool, task, size);
    call.deadline = WEFT_FOREVER;
    actor_start(&actor, false, call_add, &call);
    until(pool_queued(pool) == 1);
    check_eq(weft_task_kill(actor.task, -EIO, WEFT_NOWAIT), 0);
    check_eq(actor_end(&actor), -ECANCELED);
    check_stranger(pool, task, size);
    check_eq(weft_pool_free_count(pool), 0);
    actor_start(&actor, !in_task, call_add, &call);
    until(pool_queued(pool) == 1);
    check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0); /* not the task: it is no member */
    check_eq(actor_end(&actor), -ESHUTDOWN);
    check_stranger(pool, task, 0);
    check_eq(weft_pool_free_count(pool), size);
}

PROMISE(E4_a_refused_add_changes_nothing, EVERY)
{
    struct weft_runtime *other = runtime_with(1);
    struct weft_group *others = pool_make(other, 1), *closed = pool_make(runtime, 1), *open = group_make();
    for (int started = 0; started < 2; started++) {
        struct gate own = { 0 };
        struct weft_task *task;
        count_reset();
        check_eq(weft_task_create(runtime, pass_gate, &own, WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), &task), 0);
        if (started) {
            check_eq(weft_task_start(task), 0);
            until(gate_waiting(&own) == 1);
        }
        if (size != WEFT_UNLIMITED) {
            refuse_in_full_pool(task);
        }
        check_eq(weft_group_add(others, task, WEFT_FOREVER), -EXDEV);
        check_stranger(others, task, 0);
        weft_group_close(closed);
        check_eq(weft_group_add(closed, task, WEFT_FOREVER), -ESHUTDOWN);
        check_stranger(closed, task, 0);
        check_eq(weft_group_add(open, task, WEFT_FOREVER), 1); /* another may have it, */
        check_eq(weft_group_len(open), 1);
        check_eq(weft_task_start(task), started ? -EALREADY : 0); /* and it starts, if it was not */
        gate_open(&own);
        ends_ok(task);
        check_eq(weft_group_join(open, WEFT_FOREVER), 0);
        check_eq(weft_runtime_join(other, WEFT_FOREVER), 0);
        until(a_load(&args_freed, SEQ_CST) == 1);
    }
    check_eq(weft_runtime_destroy(other), 0);
    check_eq(weft_group_destroy(others), 0);
    check_eq(weft_group_destroy(closed), 0);
    check_eq(weft_group_destroy(open), 0);
}

/* ---- apply ---- */

struct apply {
    struct weft_group *group;
    struct weft_outcome outcome;
    _Atomic bool begun, go;
};

static void count_callback(const struct weft_outcome *outcome, void *arg)
{
    (void)outcome, (void)arg;
    a_add(&called, 1u, SEQ_CST);
}

static int call_apply(void *arg)
{
    struct apply *apply = arg;
    apply->outcome = (struct weft_outcome){ WEFT_OK, 1, arg };
    return weft_group_apply_cb(
        apply->group, count_run, apply,
        WEFT_OPTIONS(weft_apply_options, .callback = count_callback, .when = WEFT_ON_ANY,
                     .task_options = WEFT_OPTIONS(weft_task_options, .arg_free = count_arg, .result_free = count_result)),
        &apply->outcome);
}

/* Is killed before the call. */
static int call_apply_late(void *arg)
{
    struct apply *apply = arg;
    a_store(&apply->begun, true, SEQ_CST);
    while (!a_load(&apply->go, SEQ_CST)) {
        weft_yield();
    }
    return call_apply(arg);
}

static void check_untouched(const struct apply *apply)
{
    check(apply->outcome.status == WEFT_PENDING && apply->outcome.error == 0 && !apply->outcome.value);
    check_eq(args_freed + results_freed + ran + called, 0);
    check_eq(pool_queued(apply->group), 0);
}

PROMISE(E4_an_apply_that_never_began_leaves_the_argument, EVERY)
{
    struct gate gate = { 0 };
    struct apply apply = { .group = pool };
    struct actor actor;
    count_reset();
    actor_start(&actor, false, call_apply_late, &apply);
    until(a_load(&apply.begun, SEQ_CST));
    check_eq(weft_task_kill(actor.task, -EIO, WEFT_NOWAIT), 0);
    a_store(&apply.go, true, SEQ_CST);
    check_eq(actor_end(&actor), -ECANCELED); /* on entry */
    check_untouched(&apply);
    check_eq(weft_group_len(pool), 0);
    if (size != WEFT_UNLIMITED) {
        pool_fill(&gate);
        actor_start(&actor, false, call_apply, &apply);
        until(pool_queued(pool) == 1);
        check_eq(weft_task_kill(actor.task, -EIO, WEFT_NOWAIT), 0);
        check_eq(actor_end(&actor), -ECANCELED); /* in the queue */
        check_untouched(&apply);
        check_eq(weft_group_len(pool), size);
        actor_start(&actor, !in_task, call_apply, &apply);
        until(pool_queued(pool) == 1);
        check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
        check_eq(actor_end(&actor), -ESHUTDOWN);
        check_untouched(&apply);
        check_eq(weft_group_len(pool), 0);
    }
    apply.group = pool_make(runtime, 1);
    weft_group_close(apply.group);
    check_eq(call_apply(&apply), -ESHUTDOWN);
    check_untouched(&apply);
    check_eq(weft_group_destroy(apply.group), 0);
}

PROMISE(E4_an_apply_with_bad_options_leaves_the_argument, EVERYWHERE)
{
    struct apply apply = { .group = pool };
    struct weft_task *task;
    const struct weft_task_options good = { .struct_size = sizeof good, .arg_free = count_arg },
                                   bad = { .struct_size = 0, .arg_free = count_arg };
    const struct weft_apply_options all[] = { { .struct_size = 0, .task_options = &good },
                                              { .struct_size = sizeof *all, .task_options = &bad } };
    count_reset();
    for (size_t i = 0; i < 2; i++) {
        apply.outcome = (struct weft_outcome){ WEFT_OK, 1, &apply };
        check_eq(weft_group_apply_cb(pool, count_run, &apply, &all[i], &apply.outcome), -EINVAL);
        check_untouched(&apply);
        check_eq(weft_group_apply_async(pool, count_run, &apply, &all[i], &task), -EINVAL);
        check_untouched(&apply);
    }
    check_eq(weft_group_len(pool), 0);
}
