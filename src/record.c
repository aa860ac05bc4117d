#include "record.h"

#include <stdlib.h>
#include <string.h>

static struct weft_slab_cache *cache_of(struct weft_runtime *runtime, struct weft_worker *worker)
{
    return worker && worker->runtime == runtime ? &worker->tasks_cache : NULL;
}

void weft_record_put_fiber(struct weft_task_ext *ext)
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
    weft_record_put_fiber(ext);
    free(ext->stay);
    free(ext);
    a_store(&task->ext, NULL, RELAXED);
}

void weft_record_free(struct weft_task *task, struct weft_worker *worker)
{
    struct weft_instance *instance = weft_slab_owner(task);
    weft_assert(a_load(&task->refs, RELAXED) == 0);
    if (weft_unlikely(a_load(&task->state, RELAXED) & WEFT_TASK_NOTED)) {
        weft_task_forget(task);
    }
    ext_free(task);
    a_store(&task->state, WEFT_TASK_FREE, RELEASE);
    weft_slab_free(&instance->tasks, cache_of(&instance->runtime, worker), task);
    weft_instance_released(instance);
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
    struct weft_slab_cache *cache = cache_of(runtime, weft_worker_self());
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
            weft_instance_released(instance);
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
    const uint32_t own = handle ? 2u : 1u;
    uint32_t refs = own;
    while (!a_cas(&task->refs, &refs, 0u, ACQ_REL, RELAXED)) { /* all at once, so that no walker's release is the last */
        os_thread_yield();
        refs = own;
    }
}

void weft_task_unmake(struct weft_task *task)
{
    struct weft_instance *instance = weft_slab_owner(task);
    ext_free(task);
    weft_slab_free(&instance->tasks, cache_of(&instance->runtime, weft_worker_self()), task);
    weft_instance_released(instance);
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
void weft_record_drop_value(struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (ext && ext->result_free && task->value && !(a_load(&task->state, RELAXED) & WEFT_TASK_TAKEN)) {
        ext->result_free(task->value);
    }
}

/* True: it was not the last one. The last one cancels the task first, for nobody can start it any more (T4): while it is NEW a record
 * never has no references, so the walks that look for unstarted tasks see it (T6). */
static bool release_new(struct weft_task *task)
{
    uint32_t refs = a_load(&task->refs, ACQUIRE);
    while (refs > 1) {
        if (a_cas(&task->refs, &refs, refs - 1, ACQ_REL, ACQUIRE)) {
            return true;
        }
    }
    (void)weft_task_cancel_unstarted(task, -ECANCELED);
    return false;
}

void weft_task_release(struct weft_task *task)
{
    if (!task) {
        return;
    }
    enum weft_task_state state = weft_task_state(task);
    if (weft_unlikely(state == WEFT_TASK_NEW) && release_new(task)) {
        return;
    }
    if (weft_unlikely(state == WEFT_TASK_ENDING)) {
        (void)weft_task_settled(task); /* its end has a reference still; whoever saw it leave its group is to be the last (T6) */
    }
    if (a_sub(&task->refs, 1u, ACQ_REL) != 1) {
        return;
    }
    if (a_load(&task->waitq.word, ACQUIRE) != 0) { /* T4, pairs with T3 */
        weft_waitq_unlock(&task->waitq, weft_waitq_lock(&task->waitq));
    }
    weft_assert(weft_task_state(task) == WEFT_TASK_FINISHED);
    weft_record_drop_value(task);
    weft_record_free(task, weft_worker_self());
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
