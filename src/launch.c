#include "record.h"

bool weft_task_lay_claim(struct weft_task *task) { return weft_task_claim(task, WEFT_TASK_NEW, WEFT_TASK_CLAIMED, 0); }

bool weft_task_drop_claim(struct weft_task *task) { return weft_task_claim(task, WEFT_TASK_CLAIMED, WEFT_TASK_NEW, 0); }

int weft_task_launch(struct weft_task *task, enum weft_task_state from)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    if (weft_task_state(task) != from) {
        return -EALREADY;
    }
    int rc = weft_task_count_queued(runtime, weft_worker_self(), false);
    if (rc != 0) {
        return rc;
    }
    weft_task_retain(task); /* the runtime's */
    if (!weft_task_claim(task, from, WEFT_TASK_QUEUED, WEFT_TASK_STARTED)) {
        a_sub(&task->refs, 1u, RELEASE);
        weft_task_uncount(runtime);
        return -EALREADY;
    }
    return 0;
}

/* From whichever of the states before RUNNING it is in: it may change among these meanwhile. What nobody has started is counted as if it
 * had been, before it is doomed: its end may set links going (T5). */
static bool doom(struct weft_task *task, bool *was_queued)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    uint32_t word = a_load(&task->state, ACQUIRE);
    for (;;) {
        uint32_t state = word & WEFT_TASK_STATE;
        *was_queued = state == WEFT_TASK_QUEUED;
        if (state != WEFT_TASK_NEW && state != WEFT_TASK_CLAIMED && state != WEFT_TASK_QUEUED) {
            return false;
        }
        if (!*was_queued) {
            (void)weft_task_count_queued(runtime, weft_worker_self(), true);
        }
        uint32_t doomed = (word & ~WEFT_TASK_STATE) | (uint32_t)WEFT_TASK_DOOMED | WEFT_TASK_STARTED;
        if (a_cas(&task->state, &word, doomed, SEQ_CST, ACQUIRE)) {
            return true;
        }
        if (!*was_queued) {
            weft_task_uncount(runtime);
        }
    }
}

int weft_runtime_visit(struct weft_runtime *runtime, bool *visits)
{
    struct weft_worker *worker = weft_worker_self();
    *visits = weft_unlikely(!worker || worker->runtime != runtime);
    return *visits ? weft_runtime_enter(runtime) : 0;
}

int weft_task_send(struct weft_task *task, bool handle)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    bool visits;
    int rc = weft_runtime_visit(runtime, &visits);
    if (rc != 0) {
        return rc;
    }
    rc = weft_task_publish(task, WEFT_TASK_QUEUED, 0, handle);
    if (rc == 0) {
        weft_sched_push(runtime, task);
    }
    if (visits) {
        weft_runtime_leave(runtime);
    }
    return rc;
}

int weft_task_set_going(struct weft_task *task, enum weft_task_state from)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    bool visits;
    int rc = weft_runtime_visit(runtime, &visits);
    if (rc != 0) {
        return rc;
    }
    rc = weft_task_launch(task, from);
    if (rc == 0) {
        weft_sched_push(runtime, task);
    }
    if (visits) {
        weft_runtime_leave(runtime);
    }
    return rc;
}

bool weft_task_cancel_unstarted(struct weft_task *task, int reason)
{
    if (a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL) {
        return false; /* its crew ends it */
    }
    weft_task_retain(task); /* finish gives one up */
    bool was_queued;
    if (!doom(task, &was_queued)) {
        weft_task_release(task);
        return false;
    }
    if (!was_queued) {
        weft_task_retain(task); /* so that the runtime, which may have ended, is not another's before this is counted */
    }
    struct weft_runtime *runtime = weft_task_runtime(task);
    struct weft_worker *worker = weft_worker_self();
    weft_count_on(runtime, worker, begun, 1);
    a_store(&task->scope.word, weft_scope_make(reason, reason, WEFT_SCOPE_DELIVERED), RELAXED);
    weft_task_finish(task, WEFT_TASK_DOOMED, WEFT_CANCELLED, reason, NULL);
    if (!was_queued) {
        weft_task_release(task);
    }
    return true;
}

int weft_task_kill_once(struct weft_task *task, int reason)
{
    if (weft_task_cancel_unstarted(task, reason)) {
        return 0;
    }
    if (weft_task_state(task) != WEFT_TASK_RUNNING) {
        return weft_task_state(task) == WEFT_TASK_DOOMED ? -EALREADY : 0;
    }
    int rc = weft_scope_request(&task->scope, reason, false);
    if (rc == 0) {
        weft_scope_wake(&task->scope, reason);
    }
    return rc;
}

static void deadline_fire(struct weft_timer *timer, void *context)
{
    struct weft_task_ext *ext = weft_container_of(timer, struct weft_task_ext, deadline_timer);
    weft_deferred_add(context, &ext->deadline_due);
    weft_task_retain(ext->task); /* it has one: its end cancels this timer first */
}

static void deadline_run(struct weft_deferred *deferred)
{
    struct weft_task_ext *ext = weft_container_of(deferred, struct weft_task_ext, deadline_due);
    struct weft_task *task = ext->task;
    (void)weft_task_kill(task, -ETIMEDOUT, WEFT_NOWAIT);
    weft_task_release(task);
}

void weft_task_arm_deadline(struct weft_task *task, struct weft_runtime *runtime)
{
    struct weft_task_ext *ext = a_load(&task->ext, RELAXED);
    if (ext && ext->deadline != 0 && ext->deadline != OS_FOREVER) {
        ext->deadline_timer.fire = deadline_fire;
        ext->deadline_due.run = deadline_run;
        weft_sched_arm(runtime, &ext->deadline_timer, ext->deadline);
        uint32_t ended = a_load(&task->state, SEQ_CST) & WEFT_TASK_STATE; /* either this sees the end, or the end sees the timer */
        if (ended == WEFT_TASK_DOOMED || ended == WEFT_TASK_ENDING || ended == WEFT_TASK_FINISHED) {
            (void)weft_timer_cancel(&ext->deadline_timer);
        }
    }
}

/* ---- carriers ---- */

int weft_task_make_carrier(struct weft_runtime *runtime, struct weft_task **out)
{
    struct weft_task *task;
    int rc = weft_task_make_internal(runtime, NULL, NULL, &task);
    if (rc == 0) {
        a_store(&task->state, WEFT_TASK_RUNNING | WEFT_TASK_INTERNAL, RELAXED);
        a_store(&task->refs, 1u, RELEASE);
        *out = task;
    }
    return rc;
}

void weft_task_end_carrier(struct weft_task *task) { weft_task_finish(task, WEFT_TASK_RUNNING, WEFT_OK, 0, NULL); }
