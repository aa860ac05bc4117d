/* Spawning into a group or pool. */
#include "membership.h"

#include <stdlib.h>

/* Waits as one that keeps the group non-empty without being a member. */
int weft_group_wait_for_slot(struct weft_group *group, struct weft_request *request, int64_t deadline, bool *entered)
{
    bool killing = false;
    if (weft_admission_try(&group->admission, request)) {
        return 0;
    }
    if (deadline == WEFT_NOWAIT) {
        return -EAGAIN;
    }
    request->shuts = a_load(&group->admission.shuts, ACQUIRE); /* pairs with A4 */
    a_add(&group->extras, 1u, ACQ_REL);
    int rc = weft_group_enter(group, &killing);
    if (rc == 0) {
        rc = killing ? -ESHUTDOWN : weft_admission_wait(&group->admission, request, deadline);
        a_sub(&group->extras, 1u, ACQ_REL);
        *entered = rc == 0;
        if (rc != 0) {
            weft_group_leave(group);
        }
    } else {
        a_sub(&group->extras, 1u, ACQ_REL);
    }
    return rc;
}

/* A borrowed slot needs to be remembered where its lender finds it. */
static int keep_token(struct weft_group *group, struct weft_task *task, struct weft_token *token)
{
    if (!a_load(&token->loan, RELAXED)) {
        return 0;
    }
    struct weft_task_ext *ext = weft_task_extend(task);
    struct weft_stay *stay = ext ? calloc(1, sizeof *stay) : NULL;
    if (!stay) {
        return -ENOMEM;
    }
    stay->task = task;
    stay->group = group;
    weft_token_move(token, &stay->token);
    ext->stay = stay;
    return 0;
}

/* In place in a spawn, whose cost is counted in nanoseconds. */
static inline __attribute__((always_inline)) int launch(struct weft_group *group, struct weft_task *task, struct weft_token *token,
                                                        bool entered, bool accepted, struct weft_task **out)
{
    bool killing = false;
    int rc = keep_token(group, task, token);
    if (rc != 0) {
        weft_admission_release(token);
        if (entered) {
            weft_group_leave(group);
        }
        return rc;
    }
    a_store(&task->group, group, RELAXED);
    weft_task_reserve(task, out != NULL);
    if (entered) { /* the kill's view of the record needs an update of word after the line above (G3) */
        uint64_t word = a_add(&group->word, (uint64_t)0, ACQ_REL);
        killing = (word & WEFT_GROUP_KILLING) != 0;
        rc = (word & WEFT_GROUP_CLOSED) && !accepted ? -ESHUTDOWN : 0;
    } else {
        rc = weft_group_enter(group, &killing);
        entered = rc == 0;
    }
    if (rc == 0) {
        if (out) {
            *out = task; /* before it can run */
        }
        if (killing) {
            weft_task_retain(task);
        }
        rc = weft_task_send(task, out != NULL);
        if (rc == 0) {
            if (killing) {
                (void)weft_task_kill_once(task, a_load(&group->kill_reason, RELAXED)); /* taken in by the kill that goes on */
                weft_task_release(task);
            }
            return 0;
        }
        if (killing) {
            a_sub(&task->refs, 1u, RELAXED);
        }
    }
    if (out) {
        *out = NULL;
    }
    struct weft_task_ext *ext = a_load(&task->ext, RELAXED);
    weft_admission_release(ext && ext->stay ? &ext->stay->token : token);
    weft_task_unreserve(task, out != NULL);
    if (entered) {
        weft_group_leave(group); /* the last: after it the group may go */
    }
    return rc;
}

int weft_group_launch(struct weft_group *group, struct weft_task *task, struct weft_token *token, bool entered, bool accepted,
                      struct weft_task **out)
{
    return launch(group, task, token, entered, accepted, out);
}

int weft_group_spawn_with(struct weft_group *group, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                          int64_t deadline, struct weft_task **out)
{
    if (out) {
        *out = NULL;
    }
    int rc = weft_group_usable(group);
    if (rc == 0 && deadline != WEFT_NOWAIT) {
        rc = weft_cancel_point();
    }
    struct weft_task *task;
    if (rc != 0 || (rc = weft_task_make(group->runtime, fn, arg, options, weft_group_defaults(group), &task)) != 0) {
        return rc;
    }
    struct weft_token token = { 0 };
    bool entered = false;
    if (weft_admission_bounded(&group->admission) && !weft_admission_try_free(&group->admission, &token)) {
        struct weft_request request = { .token = &token, .caller = weft_caller_self() };
        request.member = weft_caller_holds(request.caller, &group->admission);
        rc = weft_group_wait_for_slot(group, &request, deadline, &entered);
    }
    if (rc != 0 || (rc = launch(group, task, &token, entered, false, out)) != 0) {
        weft_task_unmake(task);
    }
    return rc;
}

int weft_group_spawn(struct weft_group *group, weft_task_fn *fn, void *arg, struct weft_task **out)
{
    return weft_group_spawn_with(group, fn, arg, NULL, WEFT_FOREVER, out);
}
