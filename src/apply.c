/* Apply: one call in a group, waited for or not (contract A).
 *
 * A synchronous apply waits twice, for a slot and for the end, and lends its caller's slots from the first to the last (lending.c): its
 * own request for a slot is what they are lent to, so it nests in a pool of 1. Its function runs by way of `run`, whose record is on
 * the caller's stack, because only then the caller knows afterwards whether fn began: if it did not and the call failed, the argument
 * is the caller's still (E4). So `arg_free` is not the task's here.
 *
 * An asynchronous one that finds no slot publishes its task as QUEUED, and its request stands in the pool's queue in place of the task
 * in a deque, with the runtime's reference: membership.h has the argument. */
#include "membership.h"

#include <stdlib.h>

struct call {
    weft_task_fn *fn;
    void *arg;
    weft_free_fn *arg_free;
    bool began;
};

static int run(void *arg, void **result)
{
    struct call *call = arg;
    call->began = true;
    int rc = call->fn(call->arg, result);
    if (call->arg_free) {
        call->arg_free(call->arg);
    }
    return rc;
}

/* Where it will run, and a checked copy of the options. */
static int prepare(struct weft_group *group, weft_task_fn *fn, const struct weft_apply_options *given,
                   struct weft_apply_options *options, struct weft_runtime **runtime)
{
    int rc = weft_options_read(options, sizeof *options, given);
    if (rc != 0 || !fn || (options->when & ~(unsigned)WEFT_ON_ANY)) {
        return rc != 0 ? rc : -EINVAL;
    }
    options->when = options->when ? options->when : (unsigned)WEFT_ON_OK;
    *runtime = group ? group->runtime : NULL;
    return group ? weft_group_usable(group) : weft_runtime_resolve(runtime);
}

/* The task of a call that is waited for; `call` takes over what it needs to know of the argument. */
static int make(struct weft_runtime *runtime, struct weft_group *group, const struct weft_task_options *given, struct call *call,
                struct weft_task **out)
{
    const struct weft_task_options *base = group ? weft_group_defaults(group) : NULL;
    if (!given && !base) {
        return weft_task_make(runtime, run, call, NULL, NULL, out);
    }
    struct weft_task_options options;
    int rc = weft_options_read(&options, sizeof options, given);
    if (rc != 0) {
        return rc;
    }
    if (base) {
        weft_task_options_merge(&options, base);
    }
    call->arg_free = options.arg_free;
    options.arg_free = NULL;
    options.struct_size = sizeof options;
    return weft_task_make(runtime, run, call, &options, NULL, out);
}

/* Publishes it, with a handle, once there is a slot. */
static int launch(struct weft_group *group, struct weft_task *task)
{
    struct weft_task *handle;
    if (!group) {
        return weft_task_send(task, true);
    }
    struct weft_token token = { 0 };
    struct weft_request request = { .token = &token, .work = task, .group = group, .caller = weft_caller_self(), .stays = true };
    bool entered = false;
    int rc = weft_group_wait_for_slot(group, &request, WEFT_FOREVER, &entered);
    return rc != 0 ? rc : weft_group_launch(group, task, &token, entered, true, &handle);
}

/* 0, or -ECANCELED: the caller was killed, and the task with it. */
static int wait_for_end(struct weft_task *task)
{
    struct weft_wait wait = { .deadline = WEFT_FOREVER, .cancellable = true }; /* the slots are lent already */
    int rc = weft_task_settled(task) ? 0 : weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
    if (rc == -ECANCELED) {
        (void)weft_task_kill_once(task, weft_cancel_reason());
        wait.cancellable = false;
        (void)weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
    }
    return rc;
}

/* If the caller wants it, an OK task's value is the caller's; else it goes with the task. */
static void hand_out(struct weft_task *task, struct weft_outcome *outcome, bool wanted)
{
    weft_task_read_outcome(task, outcome);
    if (outcome->status != WEFT_OK || (wanted && (a_or(&task->state, WEFT_TASK_TAKEN, ACQ_REL) & WEFT_TASK_TAKEN))) {
        outcome->value = NULL;
    }
}

int weft_group_apply_cb(struct weft_group *group, weft_task_fn *fn, void *arg, const struct weft_apply_options *given,
                        struct weft_outcome *outcome)
{
    struct weft_outcome ignored;
    struct weft_outcome *into = outcome ? outcome : &ignored;
    struct weft_apply_options options;
    struct weft_runtime *runtime;
    struct weft_task *task;
    struct call call = { .fn = fn, .arg = arg };
    *into = (struct weft_outcome){ .status = WEFT_PENDING };
    int rc = prepare(group, fn, given, &options, &runtime);
    rc = rc != 0 ? rc : weft_cancel_point();
    if (rc != 0 || (rc = make(runtime, group, options.task_options, &call, &task)) != 0) {
        return rc;
    }
    struct weft_calling calling;
    weft_calling_begin(&calling, task);
    rc = launch(group, task);
    if (rc != 0) {
        weft_calling_end(&calling);
        weft_task_unmake(task);
        return rc;
    }
    rc = wait_for_end(task);
    weft_calling_end(&calling);
    if (rc == 0) {
        hand_out(task, into, outcome != NULL);
        if (!call.began && call.arg_free) {
            call.arg_free(arg);
        }
        if (options.callback && (options.when & (1u << (into->status - WEFT_OK)))) {
            options.callback(into, options.callback_arg);
        }
    }
    weft_task_release(task);
    return rc;
}

int weft_group_apply(struct weft_group *group, weft_task_fn *fn, void *arg, struct weft_outcome *outcome)
{
    return weft_group_apply_cb(group, fn, arg, NULL, outcome);
}

/* ---- without waiting ---- */

/* Under the pool's queue lock. */
static void granted(struct weft_request *request)
{
    struct weft_stay *stay = weft_container_of(request, struct weft_stay, request);
    struct weft_runtime *runtime = stay->group->runtime;
    weft_stay_begin(stay);
    weft_sched_push(runtime, stay->task);
}

/* In the pool's queue, until it is admitted or killed. */
static int stand_in_queue(struct weft_group *group, struct weft_task *task, struct weft_task **out)
{
    bool killing = false;
    struct weft_task_ext *ext = weft_task_extend(task);
    struct weft_stay *stay = ext ? calloc(1, sizeof *stay) : NULL;
    if (!stay) {
        return -ENOMEM;
    }
    stay->task = task;
    stay->group = group;
    stay->request = (struct weft_request){
        .token = &stay->token, .work = task, .group = group, .caller = { .task = task }, .essential = true, .grant = granted
    };
    ext->stay = stay;
    weft_task_reserve(task, out != NULL);
    a_add(&group->extras, 1u, ACQ_REL);
    int rc = weft_group_enter(group, &killing);
    bool entered = rc == 0;
    if (entered) {
        weft_task_retain(task);
        if (out) {
            *out = task; /* before it can run */
        }
        bool visits = false;
        rc = weft_runtime_visit(group->runtime, &visits);
        rc = rc != 0 ? rc : weft_task_publish(task, WEFT_TASK_QUEUED, 0, out != NULL);
        if (rc == 0) {
            if (killing) {
                (void)weft_task_kill_once(task, a_load(&group->kill_reason, RELAXED)); /* taken in by the kill that goes on */
            } else {
                weft_admission_queue(&group->admission, &stay->request);
            }
            weft_task_release(task);
        }
        if (visits) {
            weft_runtime_leave(group->runtime);
        }
        if (rc == 0) {
            return 0;
        }
        a_sub(&task->refs, 1u, RELAXED);
    }
    if (out) {
        *out = NULL;
    }
    weft_task_unreserve(task, out != NULL);
    a_sub(&group->extras, 1u, ACQ_REL);
    if (entered) {
        weft_group_leave(group); /* the last: after it the group may go */
    }
    return rc;
}

static int launch_async(struct weft_group *group, struct weft_task *task, struct weft_task **out)
{
    struct weft_token token = { 0 };
    struct weft_request request = { .token = &token, .work = task, .group = group, .caller = weft_caller_self() };
    if (group) {
        return weft_admission_try(&group->admission, &request) ? weft_group_launch(group, task, &token, false, false, out)
                                                               : stand_in_queue(group, task, out);
    }
    if (out) {
        *out = task;
    }
    int rc = weft_task_send(task, out != NULL);
    if (rc != 0 && out) {
        *out = NULL;
    }
    return rc;
}

int weft_group_apply_async(struct weft_group *group, weft_task_fn *fn, void *arg, const struct weft_apply_options *given,
                           struct weft_task **out)
{
    struct weft_apply_options options;
    struct weft_runtime *runtime;
    struct weft_task *task;
    uint64_t link = 0;
    if (out) {
        *out = NULL;
    }
    int rc = prepare(group, fn, given, &options, &runtime);
    const struct weft_task_options *base = rc == 0 && group ? weft_group_defaults(group) : NULL;
    if (rc != 0 || (rc = weft_task_make(runtime, fn, arg, options.task_options, base, &task)) != 0) {
        return rc;
    }
    if (options.callback) {
        rc = weft_task_link_callback(task, options.callback, options.callback_arg, options.when, base, &link);
    }
    if (rc == 0 && (rc = launch_async(group, task, out)) != 0 && options.callback) {
        (void)weft_task_unlink(task, link);
    }
    if (rc != 0) {
        weft_task_unmake(task);
    }
    return rc;
}
