/* imap: the calls, and the life of an imap. */
#include "imap.h"

#include "slab.h"

#include <stdlib.h>

static struct weft_slab imaps;

/* ---- the end of the work ---- */

void weft_imap_end_work(struct weft_imap *imap)
{
    weft_drain_remove(weft_instance_of(imap->crew.runtime), &imap->drain);
    weft_crew_revoke(&imap->crew); /* no request outlives the stay in the group */
    weft_group_end_work(&imap->crew.work);
    weft_crew_release(&imap->crew);
}

/* A kill of the group: what has not begun is finished, as cancelled. Or a close, which has dropped it already. */
static void stopped(struct weft_crew *crew)
{
    struct weft_imap *imap = weft_imap_of(crew);
    weft_lock(&crew->lock);
    int reason = crew->stop_reason;
    for (struct weft_entry *entry = imap->pending, *next; entry; entry = next) {
        next = entry->next;
        entry->state = WEFT_ENTRY_DONE;
        entry->status = WEFT_CANCELLED;
        entry->error = reason;
        if (!imap->ordered) {
            weft_imap_append(&imap->done, &imap->done_last, entry);
        }
    }
    imap->pending = NULL;
    if (!imap->ordered) {
        imap->first = imap->last = NULL;
    }
    bool over = weft_imap_is_over(imap), started = imap->source_started;
    weft_unlock(&crew->lock);
    if (started) { /* else it will see the stop */
        /* A close may follow a kill. */
        (void)weft_task_kill_once(imap->source_task, reason != 0 ? reason : -ECANCELED);
    }
    weft_imap_wake(&imap->permits, true);
    weft_imap_wake(&imap->readers, true);
    if (over) {
        weft_imap_end_work(imap);
    }
}

static void imap_free(struct weft_crew *crew)
{
    struct weft_imap *imap = weft_imap_of(crew);
    struct weft_instance *instance = weft_instance_of(crew->runtime);
    weft_imap_drop(imap, weft_imap_detach(imap));
    if (imap->reserve) {
        weft_entry_free(imap->reserve);
    }
    weft_task_release(imap->source_task);
    free(imap->sources);
    weft_slab_free(&imaps, NULL, imap);
    a_sub(&instance->objects, 1u, RELEASE);
    weft_instance_released(instance);
}

/* Nothing is claimed ahead, so there is nothing to hand back. */
static void shed(struct weft_crew *crew, struct weft_participant *participant)
{
    (void)crew;
    (void)participant;
}

static void count(struct weft_crew *crew, const struct weft_participant *participant)
{
    (void)crew;
    (void)participant;
}

static const struct weft_crew_ops imap_ops = {
    .has_work = weft_imap_has_work, .work = weft_imap_work, .shed = shed, .count = count, .stopped = stopped, .free = imap_free
};

/* ---- life ---- */

static void drain_retain(struct weft_drain *drain) { weft_crew_retain(&weft_container_of(drain, struct weft_imap, drain)->crew); }

static void drain_run(struct weft_drain *drain)
{
    struct weft_imap *imap = weft_container_of(drain, struct weft_imap, drain);
    weft_imap_close(imap);
    weft_crew_release(&imap->crew);
}

static int start(struct weft_group *group, const struct weft_source sources[], size_t n, weft_imap_fn *fn, void *ctx,
                 const struct weft_imap_options *given, bool ordered, struct weft_imap **out)
{
    struct weft_imap_options options;
    if (!out || !fn || !sources || n == 0 || n > SIZE_MAX / sizeof *sources) {
        return -EINVAL;
    }
    *out = NULL;
    int rc = weft_options_read(&options, sizeof options, given);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = sources[i].next ? 0 : -EINVAL;
    }
    struct weft_runtime *runtime = group ? group->runtime : NULL;
    if (rc != 0 || (rc = group ? weft_group_usable(group) : weft_runtime_resolve(&runtime)) != 0) {
        return rc;
    }
    struct weft_imap *imap = weft_slab_alloc(&imaps, NULL);
    struct weft_source *copy = imap ? malloc(n * sizeof *copy) : NULL;
    if (!copy) {
        if (imap) {
            weft_slab_free(&imaps, NULL, imap);
        }
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = sources[i];
    }
    *imap = (struct weft_imap){ .fn = fn,
                                .ctx = ctx,
                                .maxsize = options.maxsize,
                                .result_free = options.result_free,
                                .ordered = ordered,
                                .sources = copy,
                                .n_sources = n };
    imap->reserve = weft_entry_make();
    weft_crew_init(&imap->crew, &imap_ops, runtime, group);
    imap->crew.caller = (struct weft_caller){ 0 }; /* whoever makes it does not wait for it */
    imap->drain = (struct weft_drain){ .retain = drain_retain, .run = drain_run };
    if (imap->reserve) {
        *imap->reserve = (struct weft_entry){ .index = WEFT_NO_INDEX };
    }
    rc = imap->reserve ? weft_group_make_wrapper(group, runtime, weft_imap_source, imap, &imap->source_task) : -ENOMEM;
    if (rc == 0 && weft_group_begin_work(group, &imap->crew.work) != 0) {
        weft_task_unmake(imap->source_task);
        rc = -ESHUTDOWN; /* closed, or being killed */
    }
    if (rc != 0) {
        if (imap->reserve) {
            weft_entry_free(imap->reserve);
        }
        free(copy);
        weft_slab_free(&imaps, NULL, imap);
        return rc;
    }
    a_add(&weft_instance_of(runtime)->objects, 1u, RELAXED);
    a_add(&imap->crew.refs, 2u, RELAXED); /* beside the handle's: the source's, and that of the work in the group */
    weft_drain_add(weft_instance_of(runtime), &imap->drain);
    rc = weft_task_publish(imap->source_task, WEFT_TASK_QUEUED, WEFT_TASK_INTERNAL, true);
    if (rc != 0) { /* the runtime is ending */
        weft_drain_remove(weft_instance_of(runtime), &imap->drain);
        weft_task_unmake(imap->source_task);
        imap->source_task = NULL;
        weft_group_end_work(&imap->crew.work);
        weft_crew_release(&imap->crew); /* the work's */
        weft_crew_release(&imap->crew); /* the source's */
        weft_crew_release(&imap->crew);
        return rc;
    }
    weft_lock(&imap->crew.lock);
    imap->source_started = true;
    weft_unlock(&imap->crew.lock);
    weft_sched_push(runtime, imap->source_task);
    *out = imap;
    return 0;
}

int weft_group_imap(struct weft_group *group, const struct weft_source sources[], size_t n_sources, weft_imap_fn *fn, void *ctx,
                    const struct weft_imap_options *options, struct weft_imap **out)
{
    return start(group, sources, n_sources, fn, ctx, options, true, out);
}

int weft_group_imap_unordered(struct weft_group *group, const struct weft_source sources[], size_t n_sources, weft_imap_fn *fn,
                              void *ctx, const struct weft_imap_options *options, struct weft_imap **out)
{
    return start(group, sources, n_sources, fn, ctx, options, false, out);
}

void weft_imap_close(struct weft_imap *imap)
{
    if (!imap) {
        return;
    }
    weft_lock(&imap->crew.lock);
    bool first = !imap->closed;
    imap->closed = true;
    struct weft_entry *dropped = first ? weft_imap_detach(imap) : NULL;
    weft_unlock(&imap->crew.lock);
    if (first) {
        weft_crew_stop(&imap->crew, 0);
        stopped(&imap->crew); /* once more, if a kill had stopped it: the source and the readers hear of the close */
    }
    weft_imap_drop(imap, dropped);
}

int weft_imap_destroy(struct weft_imap *imap)
{
    if (!imap) {
        return 0;
    }
    int rc = weft_runtime_usable(imap->crew.runtime);
    if (rc == -EPERM) {
        return rc;
    }
    struct weft_caller at = weft_caller_self();
    const void *work;
    struct weft_group *group;
    while (weft_caller_outward(&at, &work, &group)) {
        if (work == WEFT_WORK(&imap->crew)) {
            return -EDEADLK; /* an item of it, or a map in one */
        }
    }
    if (at.task == imap->source_task) {
        return -EDEADLK;
    }
    weft_imap_close(imap);
    struct weft_wait wait = { .deadline = OS_FOREVER };
    if (rc == 0) {
        weft_crew_call(&imap->crew); /* what still runs may need the caller's slot */
        (void)weft_wait_until(&imap->source_task->waitq, weft_task_is_finished, imap->source_task, &wait);
        weft_crew_wait_over(&imap->crew, false); /* running items are not killed (I6) */
        weft_crew_return(&imap->crew);
    }
    weft_crew_release(&imap->crew);
    return 0;
}

static void hold_for_fork(bool hold)
{
    (hold ? weft_lock : weft_unlock)(&imaps.lock);
    weft_entries_hold(hold);
}

__attribute__((constructor)) static void start_imaps(void)
{
    weft_fork_guard(hold_for_fork);
    weft_slab_init(&imaps, (sizeof(struct weft_imap) + 63) / 64 * 64, NULL);
}
