#include "task.h"

#include <stdlib.h>
#include <string.h>

static struct weft_task_leave leave;

void weft_task_set_leave(const struct weft_task_leave *given) { leave = *given; }

/* ---- records ---- */

static struct weft_slab_cache *cache_of(struct weft_runtime *runtime)
{
    struct weft_worker *worker = weft_worker_self();
    return worker && worker->runtime == runtime ? &worker->tasks_cache : NULL;
}

static void put_fiber(struct weft_task_ext *ext)
{
    struct weft_fiber *fiber = a_load(&ext->fiber, RELAXED);
    if (fiber) {
        a_store(&ext->fiber, NULL, RELAXED);
        weft_fiber_put(fiber);
    }
}

static void ext_free(struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext) {
        return;
    }
    put_fiber(ext);
    free(ext->stay);
    free(ext);
    a_store(&task->ext, NULL, RELAXED);
}

static void record_free(struct weft_task *task)
{
    struct weft_instance *instance = weft_slab_owner(task);
    weft_assert(a_load(&task->refs, RELAXED) == 0);
    if (weft_unlikely(a_load(&task->state, RELAXED) & WEFT_TASK_NOTED)) {
        leave.forget(task);
    }
    ext_free(task);
    a_store(&task->state, WEFT_TASK_FREE, RELEASE);
    weft_slab_free(&instance->tasks, cache_of(&instance->runtime), task);
    weft_instance_released(instance);
}

static void set_state(struct weft_task *task, enum weft_task_state from, enum weft_task_state to, uint32_t flags)
{
    uint32_t word = a_load(&task->state, RELAXED);
    (void)from;
    weft_assert((word & WEFT_TASK_STATE) == (uint32_t)from);
    a_store(&task->state, (word & ~WEFT_TASK_STATE) | (uint32_t)to | flags, RELEASE); /* T2 */
}

/* The one step that a race decides: who starts it, runs it or cancels it. */
static bool claim_state(struct weft_task *task, enum weft_task_state from, enum weft_task_state to, uint32_t flags)
{
    uint32_t word = a_load(&task->state, ACQUIRE);
    while ((word & WEFT_TASK_STATE) == (uint32_t)from) {
        if (a_cas(&task->state, &word, (word & ~WEFT_TASK_STATE) | (uint32_t)to | flags, SEQ_CST, ACQUIRE)) {
            return true;
        }
    }
    return false;
}

struct weft_task_ext *weft_task_extend(struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext) {
        struct weft_task_ext *made = calloc(1, sizeof *made);
        if (made) {
            made->task = task;
            if (a_cas(&task->ext, &ext, made, ACQ_REL, ACQUIRE)) {
                ext = made;
            } else {
                free(made);
            }
        }
    }
    return ext;
}

/* ---- options ---- */

static void deadline_fire(struct weft_timer *timer, void *context);
static void deadline_run(struct weft_deferred *deferred);

void weft_task_options_merge(struct weft_task_options *options, const struct weft_task_options *base)
{
    options->name = options->name ? options->name : base->name;
    options->stack_size = options->stack_size ? options->stack_size : base->stack_size;
    options->guard_size = options->guard_size ? options->guard_size : base->guard_size;
    options->deadline = options->deadline ? options->deadline : base->deadline;
    options->arg_free = options->arg_free ? options->arg_free : base->arg_free;
    options->result_free = options->result_free ? options->result_free : base->result_free;
    options->hooks = options->hooks ? options->hooks : base->hooks;
}

static int ext_make(struct weft_task *task, struct weft_runtime *runtime, const struct weft_task_options *options)
{
    size_t name_bytes = options->name ? strlen(options->name) + 1 : 0;
    struct weft_task_ext *ext = calloc(1, sizeof *ext + name_bytes);
    if (!ext) {
        return -ENOMEM;
    }
    ext->task = task;
    ext->arg_free = options->arg_free;
    ext->result_free = options->result_free;
    ext->deadline = options->deadline;
    if (options->hooks) {
        ext->hooks = *options->hooks;
        ext->has_hooks = true;
    }
    if (name_bytes) {
        ext->name = memcpy(ext + 1, options->name, name_bytes);
    }
    size_t stack = options->stack_size ? options->stack_size : weft_instance_of(runtime)->stack_bytes;
    size_t guard = options->guard_size ? options->guard_size : runtime->guard_bytes;
    if ((options->stack_size || options->guard_size) && !weft_fiber_pool_fits(&runtime->runners, stack, guard)) {
        struct weft_fiber_pool *pool = weft_sched_pool(runtime, stack, guard);
        ext->fiber = pool ? weft_fiber_get(pool) : NULL;
        if (!ext->fiber) {
            free(ext);
            return -ENOMEM;
        }
        ext->own_stack = true;
    }
    a_store(&task->ext, ext, RELEASE);
    return 0;
}

/* What the options ask for, in an extension. */
static int apply_options(struct weft_task *task, struct weft_runtime *runtime, const struct weft_task_options *options,
                         const struct weft_task_options *base)
{
    struct weft_task_options merged;
    int rc = weft_options_read(&merged, sizeof merged, options);
    if (rc == 0 && base) {
        weft_task_options_merge(&merged, base);
    }
    if (rc == 0 && (merged.stack_size > WEFT_STACK_LARGEST || merged.guard_size > WEFT_STACK_LARGEST)) {
        rc = -EINVAL;
    }
    return rc != 0 ? rc : ext_make(task, runtime, &merged);
}

static int make(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                const struct weft_task_options *base, struct weft_task **out)
{
    struct weft_instance *instance = weft_instance_of(runtime);
    struct weft_slab_cache *cache = cache_of(runtime);
    struct weft_task *task = weft_slab_alloc(&instance->tasks, cache);
    if (!task) {
        return -ENOMEM;
    }
    task->fn = fn;
    task->arg = arg;
    a_store(&task->group, NULL, RELAXED);
    a_store(&task->waitq.word, 0u, RELAXED);
    weft_scope_init(&task->scope);
    a_store(&task->ext, NULL, RELAXED);
    if (weft_unlikely(options || base)) {
        int rc = apply_options(task, runtime, options, base);
        if (rc != 0) {
            weft_slab_free(&instance->tasks, cache, task);
            return rc;
        }
    }
    *out = task;
    return 0;
}

int weft_task_make_internal(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, struct weft_task **out)
{
    return make(runtime, fn, arg, NULL, NULL, out);
}

int weft_task_make_wrapper(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                           struct weft_task **out)
{
    if (!options) {
        return make(runtime, fn, arg, NULL, NULL, out);
    }
    struct weft_task_options kept = {
        .name = options->name, .stack_size = options->stack_size, .guard_size = options->guard_size, .hooks = options->hooks
    };
    int rc = make(runtime, fn, arg, NULL, &kept, out);
    if (rc == -ENOMEM &&
        (kept.stack_size || kept.guard_size)) { /* no such stack is to be had: the work goes on all the same (R7) */
        kept.stack_size = kept.guard_size = 0;
        rc = make(runtime, fn, arg, NULL, &kept, out);
    }
    return rc;
}

int weft_task_make(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                   const struct weft_task_options *base, struct weft_task **out)
{
    if (!fn) {
        return -EINVAL;
    }
    if (weft_unlikely(a_load(&runtime->starved, RELAXED) && !weft_sched_stacks_left(runtime))) {
        return -ENOMEM; /* R7: no stack is left for it */
    }
    return make(runtime, fn, arg, options, base, out);
}

void weft_task_reserve(struct weft_task *task, bool handle)
{
    a_store(&task->state, WEFT_TASK_RESERVED, RELAXED);
    a_store(&task->refs, handle ? 2u : 1u, RELEASE); /* pairs with try_retain */
}

void weft_task_unreserve(struct weft_task *task, bool handle)
{
    a_store(&task->state, WEFT_TASK_FREE, RELEASE); /* lets walkers go */
    a_sub(&task->refs, handle ? 2u : 1u, ACQ_REL);
    while (a_load(&task->refs, ACQUIRE) != 0) {
        os_thread_yield();
    }
}

void weft_task_unmake(struct weft_task *task)
{
    struct weft_instance *instance = weft_slab_owner(task);
    ext_free(task);
    weft_slab_free(&instance->tasks, cache_of(&instance->runtime), task);
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

/* A foreign spawn is counted before it looks at the phase, and destroy sets the phase before it looks at the counts: either the spawn
 * is refused, or destroy waits for its task. */
static int count_queued(struct weft_runtime *runtime, struct weft_worker *worker, bool forced)
{
    if (weft_likely(worker && worker->runtime == runtime)) {
        a_count(&worker->counters.queued, 1u);
        return 0;
    }
    a_add(&runtime->foreign.queued, 1u, SEQ_CST);
    if (!forced && a_load(&runtime->phase, SEQ_CST) != WEFT_PHASE_RUNNING) {
        a_add(&runtime->foreign.ended, 1u, SEQ_CST);
        a_add(&runtime->foreign.begun, 1u, RELAXED);
        weft_instance_look(weft_instance_of(runtime));
        return -ESHUTDOWN;
    }
    return 0;
}

/* The spawn hook, and the deadline. The caller holds a reference: a kill may end the task at any point of this. */
static void announce(struct weft_task *task, struct weft_runtime *runtime)
{
    const struct weft_task_hooks *hooks = hooks_of(task);
    if (hooks && hooks->spawn) {
        hooks->spawn(task, hooks->ctx);
    }
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
        int rc = count_queued(runtime, worker, forced);
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
/* ---- references ---- */

bool weft_task_try_retain(struct weft_task *task)
{
    uint32_t refs = a_load(&task->refs, ACQUIRE);
    while (refs != 0) {
        if (a_cas(&task->refs, &refs, refs + 1, ACQUIRE, ACQUIRE)) {
            return true;
        }
    }
    return false;
}

void weft_task_retain(struct weft_task *task) { a_add(&task->refs, 1u, RELAXED); }

/* The result of a finished task that nobody took. */
static void drop_value(struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (ext && ext->result_free && task->value && !(a_load(&task->state, RELAXED) & WEFT_TASK_TAKEN)) {
        ext->result_free(task->value);
    }
}

void weft_task_release(struct weft_task *task)
{
    if (!task) {
        return;
    }
    if (weft_unlikely(weft_task_state(task) == WEFT_TASK_ENDING)) {
        (void)weft_task_settled(task); /* its end has a reference still; whoever saw it leave its group is to be the last (T6) */
    }
    if (a_sub(&task->refs, 1u, ACQ_REL) != 1) {
        return;
    }
    if (weft_task_state(task) != WEFT_TASK_NEW) {
        if (a_load(&task->waitq.word, ACQUIRE) != 0) { /* T4, pairs with T3 */
            weft_waitq_unlock(&task->waitq, weft_waitq_lock(&task->waitq));
        }
        weft_assert(weft_task_state(task) == WEFT_TASK_FINISHED);
        drop_value(task);
        record_free(task);
        return;
    }
    /* Nobody can start it any more (T4). It is ours alone: take the reference back, and cancel it. */
    a_store(&task->refs, 1u, RELEASE);
    (void)weft_task_cancel_unstarted(task, -ECANCELED);
    weft_task_release(task);
}

void weft_tasks_release(struct weft_task *tasks[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        weft_task_release(tasks[i]);
        tasks[i] = NULL;
    }
}

void weft_tasks_each(struct weft_runtime *runtime, bool (*visit)(struct weft_task *task, void *context), void *context)
{
    struct weft_slab *slab = &weft_instance_of(runtime)->tasks;
    for (struct weft_slab_chunk *chunk = a_load(&slab->chunks, ACQUIRE); chunk; chunk = chunk->next) {
        size_t carved = a_load(&chunk->carved, ACQUIRE);
        for (size_t i = 0; i < carved; i++) {
            struct weft_task *task = (struct weft_task *)(void *)(chunk->objects + i * chunk->object_bytes);
            if (a_load(&task->refs, RELAXED) != 0 && weft_task_try_retain(task)) {
                bool go_on = visit(task, context);
                weft_task_release(task);
                if (!go_on) {
                    return;
                }
            }
        }
    }
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
    bool last = a_sub(&task->refs, 1u, ACQ_REL) == 1; /* T3 */
    set_state(task, WEFT_TASK_ENDING, WEFT_TASK_FINISHED, 0);
    weft_waitq_unlock(&task->waitq, NULL);
    weft_waitq_ready(ready);
    if (advance) {
        weft_links_advance(task); /* a link holds a reference: it is not the last */
    }
    return last;
}

/* RUNNING or DOOMED → FINISHED. The caller's reference (the runtime's, or its own for a task that never started) is given up. */
static void finish(struct weft_task *task, enum weft_task_state from, enum weft_status status, int error, void *value)
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
            put_fiber(ext); /* it never ran; the pool may be gone when the record goes */
        }
        if (ext && ext->arg_free && !(word & WEFT_TASK_INTERNAL)) {
            ext->arg_free(task->arg);
        }
        const struct weft_task_hooks *hooks = hooks_of(task);
        if (hooks && hooks->finish) {
            hooks->finish(task, hooks->ctx);
        }
    }
    task->value = value;
    uint64_t scope = a_load(&task->scope.word, RELAXED);
    while (weft_scope_given(scope) != error &&
           !a_cas(&task->scope.word, &scope, weft_scope_make(weft_scope_reason(scope), error, (unsigned)(scope & WEFT_SCOPE_FLAGS)),
                  RELAXED, RELAXED)) {
    }
    set_state(task, from, WEFT_TASK_ENDING, (uint32_t)status << WEFT_TASK_STATUS_SHIFT);
    uint32_t refs = 1;
    bool alone = !ext && a_cas(&task->refs, &refs, 0u, ACQ_REL, RELAXED); /* nobody has a handle, and nobody will */
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
        record_free(task); /* nobody waits for it */
    } else if (settle(task)) {
        drop_value(task);
        record_free(task);
    }
    if (word & WEFT_TASK_STARTED) {
        if (weft_likely(worker && worker->runtime == runtime)) {
            a_store(&worker->counters.ended, a_load(&worker->counters.ended, RELAXED) + 1,
                    RELEASE); /* pairs with weft_sched_quiescent */
        } else {
            a_add(&runtime->foreign.ended, 1u, SEQ_CST);
            weft_instance_look(weft_instance_of(runtime));
        }
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
        if (hooks && hooks->start) {
            hooks->start(task, hooks->ctx);
        }
    }
    int rc = task->fn(task->arg, &result);
    int error;
    enum weft_status status = weft_scope_judge(rc == 0 ? 0 : a_load(&task->scope.word, RELAXED), rc, &error);
    finish(task, WEFT_TASK_RUNNING, status, error, result);
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
    if (!claim_state(task, WEFT_TASK_QUEUED, WEFT_TASK_RUNNING, 0)) { /* T1 */
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

/* ---- starting and cancelling ---- */

bool weft_task_lay_claim(struct weft_task *task) { return claim_state(task, WEFT_TASK_NEW, WEFT_TASK_CLAIMED, 0); }

bool weft_task_drop_claim(struct weft_task *task) { return claim_state(task, WEFT_TASK_CLAIMED, WEFT_TASK_NEW, 0); }

int weft_task_launch(struct weft_task *task, enum weft_task_state from)
{
    struct weft_runtime *runtime = weft_task_runtime(task);
    if (weft_task_state(task) != from) {
        return -EALREADY;
    }
    int rc = count_queued(runtime, weft_worker_self(), false);
    if (rc != 0) {
        return rc;
    }
    weft_task_retain(task); /* the runtime's */
    if (!claim_state(task, from, WEFT_TASK_QUEUED, WEFT_TASK_STARTED)) {
        a_sub(&task->refs, 1u, RELEASE);
        a_add(&runtime->foreign.ended, 1u, SEQ_CST);
        a_add(&runtime->foreign.begun, 1u, RELAXED);
        weft_instance_look(weft_instance_of(runtime));
        return -EALREADY;
    }
    return 0;
}

/* From whichever of the states before RUNNING it is in: it may change among these meanwhile. */
static bool doom(struct weft_task *task, bool *was_queued)
{
    uint32_t word = a_load(&task->state, ACQUIRE);
    for (;;) {
        uint32_t state = word & WEFT_TASK_STATE;
        *was_queued = state == WEFT_TASK_QUEUED;
        if (state != WEFT_TASK_NEW && state != WEFT_TASK_CLAIMED && state != WEFT_TASK_QUEUED) {
            return false;
        }
        if (a_cas(&task->state, &word, (word & ~WEFT_TASK_STATE) | (uint32_t)WEFT_TASK_DOOMED, SEQ_CST, ACQUIRE)) {
            return true;
        }
    }
}

bool weft_task_cancel_unstarted(struct weft_task *task, int reason)
{
    bool was_queued = false;
    if (a_load(&task->state, RELAXED) & WEFT_TASK_INTERNAL) {
        return false; /* its crew ends it */
    }
    weft_task_retain(task); /* finish gives one up */
    if (!doom(task, &was_queued)) {
        weft_task_release(task);
        return false;
    }
    if (was_queued) {
        struct weft_runtime *runtime = weft_task_runtime(task);
        struct weft_worker *worker = weft_worker_self();
        weft_count_on(runtime, worker, begun, 1);
    }
    a_store(&task->scope.word, weft_scope_make(reason, reason, WEFT_SCOPE_DELIVERED), RELAXED);
    finish(task, WEFT_TASK_DOOMED, WEFT_CANCELLED, reason, NULL);
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

/* ---- carriers ---- */

int weft_task_make_carrier(struct weft_runtime *runtime, struct weft_task **out)
{
    struct weft_task *task;
    struct weft_worker *worker = weft_worker_self();
    int rc = count_queued(runtime, worker, false); /* the runtime does not end under the items that it carries */
    if (rc != 0) {
        return rc;
    }
    weft_count_on(runtime, worker, begun, 1);
    rc = make(runtime, NULL, NULL, NULL, NULL, &task);
    if (rc != 0) {
        a_add(&runtime->foreign.ended, 1u, SEQ_CST);
        weft_instance_look(weft_instance_of(runtime));
        return rc;
    }
    a_store(&task->state, WEFT_TASK_RUNNING | WEFT_TASK_INTERNAL | WEFT_TASK_STARTED, RELAXED);
    a_store(&task->refs, 1u, RELEASE);
    *out = task;
    return 0;
}

void weft_task_end_carrier(struct weft_task *task) { finish(task, WEFT_TASK_RUNNING, WEFT_OK, 0, NULL); }
