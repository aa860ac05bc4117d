/* What others do with a task: start it, wait for it, read its outcome, kill it. The public half of task.h. */
#include "task.h"

#include <limits.h>
#include <stdlib.h>

bool weft_task_settled(struct weft_task *task)
{
    unsigned spins = 0;
    for (;;) {
        uint32_t word = a_load(&task->state, ACQUIRE); /* T2 */
        if ((word & WEFT_TASK_STATE) != WEFT_TASK_ENDING) {
            return (word & WEFT_TASK_STATE) == WEFT_TASK_FINISHED;
        }
        if (++spins < 100) {
            weft_spin_pause();
        } else {
            os_thread_yield(); /* whoever ends it has lost its processor */
        }
    }
}

bool weft_task_is_finished(void *task) { return weft_task_state(task) == WEFT_TASK_FINISHED; }

static int usable(const struct weft_task *task) { return task ? weft_runtime_usable(weft_task_runtime(task)) : -EINVAL; }

static struct weft_task *current(void)
{
    struct weft_thread *thread = weft_thread_self();
    return thread ? thread->slot->task : NULL;
}

/* ---- making and starting ---- */

int weft_task_create(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                     struct weft_task **out)
{
    struct weft_task *task;
    if (!out) {
        return -EINVAL;
    }
    *out = NULL;
    int rc = weft_runtime_resolve(&runtime);
    if (rc == 0 && (rc = weft_task_make(runtime, fn, arg, options, NULL, &task)) == 0) {
        rc = weft_task_publish(task, WEFT_TASK_NEW, 0, true);
        if (rc == 0) {
            *out = task;
        } else {
            weft_task_unmake(task);
        }
    }
    return rc;
}

int weft_task_spawn(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                    struct weft_task **out)
{
    struct weft_task *task;
    if (out) {
        *out = NULL;
    }
    int rc = weft_runtime_resolve(&runtime);
    if (rc != 0 || (rc = weft_task_make(runtime, fn, arg, options, NULL, &task)) != 0) {
        return rc;
    }
    if (out) {
        *out = task; /* before it can run */
    }
    rc = weft_task_send(task, out != NULL);
    if (rc != 0) {
        if (out) {
            *out = NULL;
        }
        weft_task_unmake(task);
    }
    return rc;
}

int weft_task_start(struct weft_task *task)
{
    int rc = usable(task);
    return rc != 0 ? rc : weft_task_set_going(task, WEFT_TASK_NEW);
}

static void start_run(struct weft_deferred *deferred)
{
    struct weft_task *task = weft_container_of(deferred, struct weft_task_ext, start_due)->task;
    weft_sched_push(weft_task_runtime(task), task); /* with the reference that the timer had */
}

static void start_fire(struct weft_timer *timer, void *context)
{
    weft_deferred_add(context, &weft_container_of(timer, struct weft_task_ext, start_timer)->start_due);
}

int weft_task_start_at(struct weft_task *task, int64_t when)
{
    int rc = usable(task);
    if (rc != 0) {
        return rc;
    }
    if (os_now() >= when) {
        return weft_task_start(task);
    }
    struct weft_task_ext *ext = weft_task_extend(task);
    if (!ext) {
        return -ENOMEM;
    }
    ext->start_timer.fire = start_fire;
    ext->start_due.run = start_run;
    weft_task_retain(task); /* a kill may end it before this call has armed the timer */
    rc = weft_task_launch(task, WEFT_TASK_NEW);
    if (rc == 0) {
        weft_sched_arm(weft_task_runtime(task), &ext->start_timer, when);
        uint32_t word = a_load(&task->state, SEQ_CST); /* either this sees the claim, or the claimer's cancel sees the timer */
        if ((word & WEFT_TASK_STATE) != WEFT_TASK_QUEUED && weft_timer_cancel(&ext->start_timer)) {
            weft_task_release(task); /* its end came before the timer was there to be cancelled */
        }
    }
    weft_task_release(task);
    return rc;
}

/* ---- waiting ---- */

int weft_task_join(struct weft_task *task, int64_t deadline)
{
    int rc = usable(task);
    if (rc != 0) {
        return rc;
    }
    if (task == current()) {
        return -EDEADLK;
    }
    struct weft_wait wait = { .deadline = deadline, .cancellable = true, .awaited = task };
    (void)weft_task_settled(task);
    return weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
}

static void read_outcome(struct weft_task *task, struct weft_outcome *outcome)
{
    uint32_t word = a_load(&task->state, ACQUIRE);
    outcome->status = (enum weft_status)((word & WEFT_TASK_STATUS) >> WEFT_TASK_STATUS_SHIFT);
    outcome->error = weft_scope_given(a_load(&task->scope.word, RELAXED));
    outcome->value = outcome->status == WEFT_CANCELLED || (word & WEFT_TASK_TAKEN) ? NULL : task->value;
}

void weft_task_read_outcome(struct weft_task *task, struct weft_outcome *outcome) { read_outcome(task, outcome); }

int weft_task_get(struct weft_task *task, int64_t deadline, struct weft_outcome *outcome)
{
    struct weft_outcome ignored;
    struct weft_outcome *into = outcome ? outcome : &ignored;
    *into = (struct weft_outcome){ .status = WEFT_PENDING };
    int rc = task ? weft_runtime_usable(weft_task_runtime(task)) : -EINVAL;
    if (rc == -ESHUTDOWN && deadline == WEFT_NOWAIT) {
        rc = 0;
    }
    if (rc == -ESHUTDOWN) {
        rc = weft_task_settled(task) ? weft_cancel_point() : -ESHUTDOWN;
    } else if (rc == 0) {
        rc = task == current() ? -EDEADLK : 0;
        if (rc == 0) {
            struct weft_wait wait = { .deadline = deadline, .cancellable = true, .awaited = task };
            (void)weft_task_settled(task);
            rc = weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
        }
    }
    if (rc == 0) {
        read_outcome(task, into);
    }
    return rc;
}

int weft_task_take(struct weft_task *task, void **value)
{
    int rc = usable(task);
    if (rc != 0 || !value) {
        return rc != 0 ? rc : -EINVAL;
    }
    if (!weft_task_settled(task)) {
        return -EAGAIN;
    }
    if (a_or(&task->state, WEFT_TASK_TAKEN, ACQ_REL) & WEFT_TASK_TAKEN) {
        return -EALREADY;
    }
    *value = task->value;
    return 0;
}

bool weft_task_finished(const struct weft_task *task) { return task && weft_task_settled((struct weft_task *)(uintptr_t)task); }

const char *weft_task_name(const struct weft_task *task)
{
    struct weft_task_ext *ext = task ? a_load(&task->ext, ACQUIRE) : NULL;
    return ext ? ext->name : NULL;
}

/* Nodes for a wait on many: a few on the stack. */
enum { FEW = 16 };

static size_t count_finished(struct weft_task *const tasks[], size_t n)
{
    size_t finished = 0;
    for (size_t i = 0; i < n; i++) {
        finished += weft_task_settled(tasks[i]);
    }
    return finished;
}

/* One wait until `left` more of the entries are finished. Nodes go into each queue in turn; a task that has finished meanwhile counts
 * itself. Returns the claim's reason, or WOKEN when the count was reached while linking. */
static unsigned tally(struct weft_slot *slot, struct weft_task *const tasks[], size_t n, struct weft_waiter *nodes, size_t wanted,
                      const struct weft_wait *wait)
{
    _Atomic size_t left;
    bool reached = false;
    a_store(&left, wanted, RELAXED);
    uint64_t epoch = weft_wait_begin(slot);
    for (size_t i = 0; i < n; i++) {
        nodes[i] = (struct weft_waiter){ .slot = slot, .epoch = epoch, .kind = WEFT_WAITER_TALLY, .left = (size_t *)&left };
    }
    for (size_t i = 0; i < n && !reached; i++) {
        struct weft_waiter *tail = weft_waitq_lock(&tasks[i]->waitq);
        if (weft_task_is_finished(tasks[i])) {
            reached = a_sub(&left, 1u, ACQ_REL) == 1;
        } else {
            weft_waitq_link(&tail, &nodes[i]);
        }
        weft_waitq_unlock(&tasks[i]->waitq, tail);
    }
    unsigned reason = WEFT_CLAIM_WOKEN;
    if (reached) {
        weft_wait_abandon(slot);
    } else {
        reason = weft_wait_end(slot, wait) & ~WEFT_CLAIM_EARLY;
    }
    for (size_t i = 0; i < n; i++) {
        struct weft_waiter *tail =
            weft_waitq_lock(&tasks[i]->waitq); /* also when it was popped: its waker may hold the lock still */
        if (nodes[i].linked) {
            weft_waitq_unlink(&tail, &nodes[i]);
        }
        weft_waitq_unlock(&tasks[i]->waitq, tail);
    }
    return reason;
}

int weft_tasks_wait(struct weft_task *const tasks[], size_t n, size_t count, int64_t deadline)
{
    if (count > n || (n > 0 && !tasks)) {
        return -EINVAL;
    }
    if (n > INT_MAX) {
        return -EOVERFLOW;
    }
    struct weft_task *me = current();
    size_t others = 0;
    for (size_t i = 0; i < n; i++) {
        int rc = usable(tasks[i]);
        if (rc != 0) {
            return rc;
        }
        others += tasks[i] != me;
    }
    if (others < count) {
        return -EDEADLK;
    }
    struct weft_slot *slot = weft_slot_self();
    int rc = slot ? 0 : -ENOMEM;
    if (rc == 0 && deadline != WEFT_NOWAIT) {
        rc = weft_cancel_point();
    }
    if (rc != 0) {
        return rc;
    }
    struct weft_waiter few[FEW], *nodes = few;
    struct weft_wait wait = {
        .deadline = deadline, .cancellable = true, .awaited = n > 0 ? tasks[0] : NULL, .tasks = tasks, .n_tasks = n
    };
    bool killed = false;
    for (;;) {
        size_t finished = count_finished(tasks, n);
        if (finished >= count) {
            rc = (int)finished;
            break;
        }
        struct weft_scope *scope = a_load(&slot->scope, RELAXED);
        if (killed && scope && weft_scope_deliver(scope)) {
            rc = -ECANCELED;
            break;
        }
        if (deadline == WEFT_NOWAIT || (deadline != WEFT_FOREVER && os_now() >= deadline)) {
            rc = (int)finished;
            break;
        }
        if (n > FEW && nodes == few) {
            nodes = malloc(n * sizeof *nodes);
            if (!nodes) {
                nodes = few;
                rc = -ENOMEM;
                break;
            }
        }
        unsigned reason = tally(slot, tasks, n, nodes, count, &wait);
        killed = killed || reason == WEFT_CLAIM_KILLED || reason == WEFT_CLAIM_TIMEOUT;
    }
    if (nodes != few) {
        free(nodes);
    }
    return rc;
}

/* ---- killing ---- */

static int kill_self(struct weft_task *task, int reason, int64_t deadline)
{
    struct weft_slot *slot = weft_slot_self();
    int rc = weft_scope_request(&task->scope, reason, true);
    if (rc == 0) {
        weft_scope_wake(&task->scope, reason); /* into the map that it has called, if that is where it is */
    }
    struct weft_scope *here = a_load(&slot->scope, RELAXED);
    if (weft_scope_deliver(here)) {
        return -ECANCELED;
    }
    return deadline == WEFT_NOWAIT ? rc : -EDEADLK; /* masked */
}

int weft_task_kill(struct weft_task *task, int reason, int64_t deadline)
{
    int rc = usable(task);
    if (rc != 0 || reason > 0 || reason < -0xffff) {
        return rc != 0 ? rc : -EINVAL;
    }
    reason = reason == 0 ? -ECANCELED : reason;
    if (task == current()) {
        return kill_self(task, reason, deadline);
    }
    if (deadline != WEFT_NOWAIT && weft_slot_self() && weft_slot_self()->raw > 0) {
        return -EPERM;
    }
    for (;;) {
        enum weft_task_state state = weft_task_state(task);
        if (state == WEFT_TASK_RUNNING) {
            rc = weft_scope_request(&task->scope, reason, true);
            if (rc == 0) {
                weft_scope_wake(&task->scope, reason);
            }
            break;
        }
        if (weft_task_cancel_unstarted(task, reason)) {
            break;
        }
        if (weft_task_settled(task)) {
            return 0;
        }
        if (state == WEFT_TASK_DOOMED) {
            rc = -EALREADY;
            break;
        }
        if (a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL) {
            return 0; /* a carrier that has not begun: its crew ends it */
        }
    }
    if (deadline == WEFT_NOWAIT) {
        return rc;
    }
    struct weft_wait wait = { .deadline = deadline, .awaited = task };
    return weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
}
