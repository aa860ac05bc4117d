/* The end of a runtime: what it waits for, and in which order its parts go. task.h tells why nothing is missed (T5, T6). */
#include "runtime.h"

static bool cancel_early(struct weft_task *task, void *unused)
{
    (void)unused;
    if (!(a_load(&task->state, RELAXED) & WEFT_TASK_LATE)) {
        (void)weft_task_cancel_unstarted(task, -ECANCELED);
    }
    return true;
}

/* Not what is queued, LATE: that runs. */
static bool cancel_new(struct weft_task *task, void *cancelled)
{
    enum weft_task_state state = weft_task_state(task); /* CLAIMED: a start that will be refused gives it back */
    if ((state == WEFT_TASK_NEW || state == WEFT_TASK_CLAIMED) && weft_task_cancel_unstarted(task, -ECANCELED)) {
        *(bool *)cancelled = true;
    }
    return true;
}

void weft_drain_add(struct weft_instance *instance, struct weft_drain *drain)
{
    weft_lock(&instance->drains_lock);
    drain->previous = NULL;
    drain->next = instance->drains;
    if (drain->next) {
        drain->next->previous = drain;
    }
    instance->drains = drain;
    weft_unlock(&instance->drains_lock);
}

void weft_drain_remove(struct weft_instance *instance, struct weft_drain *drain)
{
    weft_lock(&instance->drains_lock);
    if (drain->previous || instance->drains == drain) {
        *(drain->previous ? &drain->previous->next : &instance->drains) = drain->next;
        if (drain->next) {
            drain->next->previous = drain->previous;
        }
        drain->next = drain->previous = NULL;
    }
    weft_unlock(&instance->drains_lock);
}

/* Takes them off one by one, so that one may remove itself or others meanwhile. */
static void drain_all(struct weft_instance *instance)
{
    struct weft_drain *drain;
    do {
        weft_lock(&instance->drains_lock);
        drain = instance->drains;
        if (drain) {
            drain->retain(drain);
        }
        weft_unlock(&instance->drains_lock);
        if (drain) {
            weft_drain_remove(instance, drain);
            drain->run(drain);
        }
    } while (drain);
}

static void await_quiet(struct weft_instance *instance)
{
    struct weft_wait wait = { .deadline = OS_FOREVER };
    while (weft_instance_wait_quiet(instance, &wait) != 0) {
        os_thread_yield(); /* no memory to wait with: the tasks still end */
    }
}

/* How often anything was counted as started. */
static uint64_t started(struct weft_runtime *runtime)
{
    uint64_t sum = a_add(&runtime->foreign.queued, (uint64_t)0, SEQ_CST); /* T6: not before the loads of the walk */
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        sum += a_load(&runtime->workers[i]->counters.queued, SEQ_CST);
    }
    return sum;
}

/* All tasks end; those that nobody has started are cancelled, for that may set links going. Done when a walk over the records, with
 * nothing started from before a quiet moment to its end, has had nothing to cancel (T6). */
static void end_all(struct weft_instance *instance)
{
    struct weft_runtime *runtime = &instance->runtime;
    uint64_t before;
    bool cancelled;
    weft_tasks_each(runtime, cancel_early, NULL);
    do {
        before = started(runtime);
        await_quiet(instance);
        cancelled = false;
        weft_tasks_each(runtime, cancel_new, &cancelled);
    } while (cancelled || started(runtime) != before);
}

/* No worker is left: what the queues still have are tombstones. */
static void sweep(struct weft_runtime *runtime)
{
    struct weft_injector_node *node;
    while ((node = weft_injector_pop(&runtime->tasks_in)) != NULL) {
        weft_task_release(weft_task_of_node(node));
    }
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        struct weft_task *task;
        while ((task = weft_deque_steal(&runtime->workers[i]->tasks)) != NULL) {
            weft_task_release(task);
        }
    }
}

int weft_runtime_destroy(struct weft_runtime *runtime)
{
    if (!runtime) {
        return 0;
    }
    int rc = weft_runtime_usable(runtime);
    if (rc != 0) {
        return rc;
    }
    if (weft_runtime_is_mine(runtime)) {
        return -EDEADLK;
    }
    uint32_t phase = WEFT_PHASE_RUNNING;
    if (!a_cas(&runtime->phase, &phase, WEFT_PHASE_DRAINING, SEQ_CST, RELAXED)) {
        return -ESHUTDOWN;
    }
    struct weft_instance *instance = weft_instance_of(runtime);
    weft_instance_no_default(instance);
    drain_all(instance);
    end_all(instance);
    if (weft_blocking_end(&instance->blocking)) { /* before the workers leave: its last step makes a fiber ready */
        end_all(instance);
    }
    weft_sched_stop(runtime);
    weft_waitq_unlock(&instance->quiet,
                      weft_waitq_lock(&instance->quiet)); /* who looked before "stop" has left the workers alone */
    sweep(runtime);
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        weft_slab_cache_drain(&instance->tasks, &runtime->workers[i]->tasks_cache);
    }
    weft_sched_fini(runtime);
    a_store(&runtime->phase, WEFT_PHASE_ENDED, SEQ_CST);
    weft_instance_released(instance);
    return 0;
}
