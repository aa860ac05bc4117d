#include "record.h"

static struct weft_task_leave leave;

void weft_task_set_leave(const struct weft_task_leave *given) { leave = *given; }

void weft_task_forget(struct weft_task *task) { leave.forget(task); }

static void set_state(struct weft_task *task, enum weft_task_state from, enum weft_task_state to, uint32_t flags)
{
    uint32_t word = a_load(&task->state, RELAXED);
    (void)from;
    weft_assert((word & WEFT_TASK_STATE) == (uint32_t)from);
    a_store(&task->state, (word & ~WEFT_TASK_STATE) | (uint32_t)to | flags, RELEASE); /* T2 */
}

/* The one step that a race decides: who starts it, runs it or cancels it. */
bool weft_task_claim(struct weft_task *task, enum weft_task_state from, enum weft_task_state to, uint32_t flags)
{
    uint32_t word = a_load(&task->state, ACQUIRE);
    while ((word & WEFT_TASK_STATE) == (uint32_t)from) {
        if (a_cas(&task->state, &word, (word & ~WEFT_TASK_STATE) | (uint32_t)to | flags, SEQ_CST, ACQUIRE)) {
            return true;
        }
    }
    return false;
}

static const struct weft_task_hooks *hooks_of(struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_instance *instance = weft_slab_owner(task);
    if (ext && ext->has_hooks) {
        return &ext->hooks;
    }
    return instance->has_hooks && !(a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL) ? &instance->hooks : NULL;
}

/* The opposite of count_queued, for what has not become a task. */
void weft_task_uncount(struct weft_runtime *runtime)
{
    a_add(&runtime->foreign.begun, 1u, RELAXED);
    a_add(&runtime->foreign.ended, 1u, SEQ_CST);
    weft_instance_look(weft_instance_of(runtime));
}

/* T5: counted before the look at the phase; destroy sets the phase before it looks at the counts. The first look keeps those who are
 * refused again and again from being counted again and again, which destroy would see. */
int weft_task_count_queued(struct weft_runtime *runtime, struct weft_worker *worker, bool forced)
{
    if (weft_likely(worker && worker->runtime == runtime)) {
        a_count(&worker->counters.queued, 1u);
        return 0;
    }
    if (!forced && a_load(&runtime->phase, RELAXED) != WEFT_PHASE_RUNNING) {
        return -ESHUTDOWN;
    }
    a_add(&runtime->foreign.queued, 1u, SEQ_CST); /* T5, pairs with T6 */
    if (!forced && a_load(&runtime->phase, SEQ_CST) != WEFT_PHASE_RUNNING) {
        weft_task_uncount(runtime);
        return -ESHUTDOWN;
    }
    return 0;
}

static void count_ended(struct weft_runtime *runtime, struct weft_worker *worker)
{
    if (weft_likely(worker && worker->runtime == runtime)) {
        a_store(&worker->counters.ended, a_load(&worker->counters.ended, RELAXED) + 1,
                RELEASE); /* pairs with weft_sched_quiescent */
    } else {
        a_add(&runtime->foreign.ended, 1u, SEQ_CST);
        weft_instance_look(weft_instance_of(runtime));
    }
}

int weft_runtime_enter(struct weft_runtime *runtime)
{
    struct weft_worker *worker = weft_worker_self();
    int rc = weft_task_count_queued(runtime, worker, weft_runtime_is_mine(runtime));
    if (rc == 0) {
        weft_count_on(runtime, worker, begun, 1);
    }
    return rc;
}

void weft_runtime_leave(struct weft_runtime *runtime) { count_ended(runtime, weft_worker_self()); }

/* The spawn hook, and the deadline. The caller holds a reference: a kill may end the task at any point of this. */
static void announce(struct weft_task *task, struct weft_runtime *runtime)
{
    const struct weft_task_hooks *hooks = hooks_of(task);
    if (hooks && hooks->spawn && !(a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL)) {
        hooks->spawn(task, hooks->ctx);
    }
    weft_task_arm_deadline(task, runtime);
}

int weft_task_publish(struct weft_task *task, enum weft_task_state state, unsigned flags, bool handle)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    struct weft_worker *worker = weft_worker_self();
    bool foreign = !worker || worker->runtime != runtime;
    uint32_t phase = a_load(&runtime->phase, RELAXED);
    bool forced = (flags & WEFT_TASK_LATE) != 0;
    if (foreign && phase != WEFT_PHASE_RUNNING && !forced) {
        return -ESHUTDOWN;
    }
    if (state == WEFT_TASK_QUEUED) {
        int rc = weft_task_count_queued(runtime, worker, forced);
        if (rc != 0) {
            return rc;
        }
        flags |= WEFT_TASK_STARTED;
    }
    if (phase != WEFT_PHASE_RUNNING) {
        flags |= WEFT_TASK_LATE;
    }
    if (!(flags & WEFT_TASK_INTERNAL)) {
        weft_count_on(runtime, worker, spawned, 1);
    }
    bool slow = a_load(&task->ext, RELAXED) != NULL || weft_instance_of(runtime)->has_hooks;
    if (a_load(&task->refs, RELAXED) == 0) {
        a_store(&task->state, (uint32_t)state | flags, RELAXED);
        a_store(&task->refs, (handle && state == WEFT_TASK_QUEUED ? 2u : 1u) + slow, RELEASE); /* pairs with try_retain */
    } else {
        if (weft_unlikely(slow)) {
            weft_task_retain(task);
        }
        a_store(&task->state, (uint32_t)state | flags, RELEASE);
    }
    if (weft_unlikely(slow)) {
        announce(task, runtime);
        weft_task_release(task); /* it may have ended meanwhile */
    }
    return 0;
}
/* ---- the end ---- */

/* Each membership is left by whoever takes it out of where it is written (membership.h). `alone`: nobody has a handle, so nobody
 * else can; then taking it out needs no exchange. */
static void leave_groups(struct weft_task *task, bool alone)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (weft_unlikely(ext && ext->stay && leave.withdraw(task, ext->stay))) {
        a_sub(&task->refs, 1u, RELEASE); /* the queue's; not the last: the caller has one */
    }
    struct weft_group *group = a_load(&task->group, RELAXED);
    if (group) {
        if (alone) {
            a_store(&task->group, NULL, RELAXED);
        } else {
            group = a_swap(&task->group, NULL, ACQ_REL); /* M1 */
        }
        if (group) {
            leave.spawned(group, task);
        }
    }
    while (ext && a_load(&ext->memberships, RELAXED)) {
        struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
        struct weft_membership *membership = a_load(&ext->memberships, RELAXED);
        a_store(&ext->memberships, membership ? membership->next : NULL, RELAXED);
        weft_waitq_unlock(&task->waitq, tail);
        if (membership) {
            leave.added(membership, task);
            a_sub(&task->refs, 1u, RELEASE); /* not the last: the caller has one */
        }
    }
}

/* A membership that was made beside the end: whoever made it held the lock, and had seen the task live. */
static struct weft_waiter *lock_without_memberships(struct weft_task *task)
{
    for (;;) {
        struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
        struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
        if (!ext || !a_load(&ext->memberships, RELAXED)) {
            return tail;
        }
        weft_waitq_unlock(&task->waitq, tail);
        leave_groups(task, false);
    }
}

/* ENDING → FINISHED, in one step with the waking of joiners and the release of links, so that a link made after the end queues behind
 * those made before. The reference is given up first: whoever sees FINISHED holds one of the last (T5). Others' last release waits for
 * the unlock, which is this function's last access to the record unless it says true: then nobody holds it any more. */
static bool settle(struct weft_task *task)
{
    struct weft_waiter *ready = NULL;
    bool advance = false;
    struct weft_waiter *tail = lock_without_memberships(task);
    while (tail) {
        struct weft_waiter *waiter = tail->next;
        switch (waiter->kind) {
        case WEFT_WAITER_ONE: (void)weft_waitq_claim(&tail, waiter, NULL, &ready); break;
        case WEFT_WAITER_TALLY: weft_waitq_tally(&tail, waiter, &ready); break;
        case WEFT_WAITER_LINK:
            weft_waitq_unlink(&tail, waiter);
            advance |= weft_link_release(task, waiter);
            break;
        }
    }
    if (advance) {
        weft_task_retain(task); /* the links' references may go with them before they are called: unlink */
    }
    bool last = a_sub(&task->refs, 1u, ACQ_REL) == 1; /* T3 */
    set_state(task, WEFT_TASK_ENDING, WEFT_TASK_FINISHED, 0);
    weft_waitq_unlock(&task->waitq, NULL);
    weft_waitq_ready(ready);
    if (advance) {
        weft_links_advance(task);
        weft_task_release(task);
    }
    return last;
}

/* RUNNING or DOOMED → FINISHED. The caller's reference (the runtime's, or its own for a task that never started) is given up. */
void weft_task_finish(struct weft_task *task, enum weft_task_state from, enum weft_status status, int error, void *value)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    uint32_t word = a_load(&task->state, RELAXED);
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    bool drop_queue_ref = false;
    if (weft_unlikely(ext || weft_instance_of(runtime)->has_hooks)) {
        if (ext && ext->deadline != 0) {
            (void)weft_timer_cancel(&ext->deadline_timer);
        }
        drop_queue_ref = ext && weft_timer_cancel(&ext->start_timer);
        if (ext) {
            weft_record_put_fiber(ext); /* it never ran; the pool may be gone when the record goes */
        }
        if (ext && ext->arg_free && !(word & WEFT_TASK_INTERNAL)) {
            ext->arg_free(task->arg);
        }
        const struct weft_task_hooks *hooks = hooks_of(task);
        if (hooks && hooks->finish) {
            hooks->finish(task, hooks->ctx);
        }
    }
    struct weft_task_ext *last = a_load(&task->ext, ACQUIRE); /* also what the hook and arg_free have set */
    if (weft_unlikely(last && last->locals)) {
        weft_locals_end(last);
    }
    task->value = value;
    uint64_t scope = a_load(&task->scope.word, RELAXED);
    while (weft_scope_given(scope) != error &&
           !a_cas(&task->scope.word, &scope, weft_scope_make(weft_scope_reason(scope), error, (unsigned)(scope & WEFT_SCOPE_FLAGS)),
                  RELAXED, RELAXED)) {
    }
    set_state(task, from, WEFT_TASK_ENDING, (uint32_t)status << WEFT_TASK_STATUS_SHIFT);
    uint32_t refs = 1;
    bool alone = !ext && a_load(&task->refs, RELAXED) == refs &&
                 a_cas(&task->refs, &refs, 0u, ACQ_REL, RELAXED); /* nobody has a handle, and nobody will */
    if (weft_unlikely(alone && a_load(&task->ext, ACQUIRE) != NULL)) {
        a_store(&task->refs, 1u, RELEASE); /* a link or a membership came late, and its maker has let go of the task since */
        alone = false;
    }
    leave_groups(task, alone);
    struct weft_worker *worker = weft_worker_self();
    if (!(word & WEFT_TASK_INTERNAL)) {
        weft_count_on(runtime, worker, finished, 1);
        if (weft_unlikely(status == WEFT_FAILED)) {
            weft_count_on(runtime, worker, failed, 1);
        } else if (weft_unlikely(status == WEFT_CANCELLED)) {
            weft_count_on(runtime, worker, cancelled, 1);
        }
    }
    if (drop_queue_ref) {
        a_sub(&task->refs, 1u, RELEASE); /* not the last: this call has one */
    }
    if (weft_likely(alone)) {
        weft_record_free(task, worker); /* nobody waits for it */
    } else if (settle(task)) {
        weft_record_drop_value(task);
        worker = weft_worker_self(); /* the user's function may have waited */
        weft_record_free(task, worker);
    }
    if (word & WEFT_TASK_STARTED) {
        count_ended(runtime, weft_worker_self()); /* a result_free may have waited since */
    }
}

enum weft_status weft_scope_judge(uint64_t word, int rc, int *error)
{
    *error = 0;
    if (weft_likely(rc == 0)) {
        return WEFT_OK;
    }
    if (rc < 0 && (word & (WEFT_SCOPE_REQUESTED | WEFT_SCOPE_DELIVERED))) {
        int given = weft_scope_given(word), pending = word & WEFT_SCOPE_REQUESTED ? weft_scope_reason(word) : 0;
        if (rc == -ECANCELED || (given != 0 && rc == given) || (pending != 0 && rc == pending)) {
            *error = rc != -ECANCELED ? rc : given != 0 ? given : pending;
            return WEFT_CANCELLED;
        }
    }
    *error = rc > 0 || rc < -0xffff ? -EINVAL : rc;
    return WEFT_FAILED;
}

/* On the stack where it will run; RUNNING already. */
static void call(struct weft_slot *slot, struct weft_task *task)
{
    void *result = NULL;
    slot->task = task;
    a_store(&slot->scope, &task->scope, RELAXED);
    if (weft_unlikely(a_load(&task->ext, RELAXED) != NULL || weft_instance_of(weft_task_runtime(task))->has_hooks)) {
        const struct weft_task_hooks *hooks = hooks_of(task);
        if (hooks && hooks->spawn && (a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL)) {
            hooks->spawn(task, hooks->ctx); /* it was granted its slot under locks, where no user code may run */
        }
        if (hooks && hooks->start) {
            hooks->start(task, hooks->ctx);
        }
    }
    int rc = task->fn(task->arg, &result);
    int error;
    enum weft_status status = weft_scope_judge(rc == 0 ? 0 : a_load(&task->scope.word, RELAXED), rc, &error);
    weft_task_finish(task, WEFT_TASK_RUNNING, status, error, result);
    a_store(&slot->scope, NULL, RELAXED);
    slot->task = NULL;
}

void weft_task_run(struct weft_worker *worker, struct weft_task *task)
{
    struct weft_fiber *here = worker->current;
    if (here->only == task) {
        call(&here->slot, task);
        return;
    }
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_fiber *own = ext ? a_load(&ext->fiber, RELAXED) : NULL;
    if (ext && ext->deadline != 0 && os_now() >= ext->deadline) {
        (void)weft_task_cancel_unstarted(task, -ETIMEDOUT);
    }
    if (weft_task_state(task) != WEFT_TASK_QUEUED) {
        weft_task_release(task); /* a tombstone */
        return;
    }
    a_store(&task->scope.slot, own ? &own->slot : &here->slot, RELAXED);
    if (!weft_task_claim(task, WEFT_TASK_QUEUED, WEFT_TASK_RUNNING, 0)) { /* T1 */
        weft_task_release(task);
        return;
    }
    a_count(&worker->counters.begun, 1);
    if (own) {
        a_store(&ext->fiber, NULL, RELAXED);
        own->only = task;
        weft_sched_enter(worker, own);
    } else {
        call(&here->slot, task);
    }
}
