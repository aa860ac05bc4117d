/* imap: a stream through a crew, in order or as it comes, within a window (contract I).
 *
 *   source → pulled → begun → finished → read
 *
 * A task of its own calls the source; participants of the crew begin items in source order; readers take results. All that moves an
 * entry happens under the crew's lock; user code runs outside it.
 *
 *   maxsize m > 0:  begun - read <= m,  pulled - read <= m + 1.
 *   m = 0:          pulled - begun <= 1.
 *
 * The source sleeps in `permits` while it may not pull; who reads (m > 0) or begins (m = 0) an item wakes it. Readers sleep in `readers`;
 * each finished item that can be read wakes one, the end wakes all. The imap is over, and leaves its group, when the source has
 * ended and every entry is finished or dropped; readers need nothing of the group after that. */
#include "crew.h"

#include "slab.h"

#include <stdlib.h>

enum entry_state { PULLED, RUNNING, DONE };

struct entry {
    struct entry *next;
    size_t index;
    void *item, *value;
    int error;
    enum weft_status status;
    enum entry_state state;
    uint32_t unused;
    uint64_t slab_link;
};

struct weft_imap {
    struct weft_crew crew; /* first */
    weft_imap_fn *fn;
    void *ctx;
    weft_free_fn *result_free;
    size_t maxsize, n_sources;
    bool ordered;
    struct weft_source *sources;
    struct weft_task *source_task;
    struct weft_drain drain;
    struct weft_waitq permits, readers;
    /* Under the crew's lock. */
    struct entry *first, *last;     /* ordered: all that is not read; unordered: PULLED ones */
    struct entry *pending;          /* the oldest PULLED */
    struct entry *done, *done_last; /* unordered: results */
    size_t pulled, begun, read, running;
    bool source_started, source_ended, closed, over;
    struct entry *reserve; /* the source's, for the news that there is no memory */
    struct entry *failure; /* of the source, not yet read */
    uint64_t slab_link;
};

static struct weft_slab imaps, entries;

static struct weft_imap *imap_of(struct weft_crew *crew) { return (struct weft_imap *)crew; }

/* ---- entries ---- */

static void item_free(struct weft_imap *imap, void *item)
{
    if (imap->n_sources == 1) {
        if (imap->sources[0].item_free && item) {
            imap->sources[0].item_free(item);
        }
        return;
    }
    void **elements = item;
    for (size_t i = 0; elements && i < imap->n_sources; i++) {
        if (imap->sources[i].item_free && elements[i]) {
            imap->sources[i].item_free(elements[i]);
        }
    }
    free(elements);
}

/* A list of entries that nobody will read. */
static void drop(struct weft_imap *imap, struct entry *list)
{
    while (list) {
        struct entry *entry = list;
        list = entry->next;
        if (entry->item) {
            item_free(imap, entry->item);
        }
        if (entry->value && imap->result_free) {
            imap->result_free(entry->value);
        }
        weft_slab_free(&entries, NULL, entry);
    }
}

/* Under the lock: unread results and pulled items, which become a list for drop. Running entries stay. */
static struct entry *detach(struct weft_imap *imap)
{
    struct entry *dropped = imap->done, *kept = NULL, **kept_end = &kept, *last = NULL, *next;
    for (struct entry *entry = imap->first; entry; entry = next) {
        next = entry->next;
        if (entry->state == RUNNING) {
            *kept_end = entry;
            kept_end = &entry->next;
            last = entry;
        } else {
            entry->next = dropped;
            dropped = entry;
        }
    }
    *kept_end = NULL;
    imap->first = kept;
    imap->last = last;
    imap->pending = imap->done = imap->done_last = NULL;
    if (imap->failure) {
        imap->failure->next = dropped;
        dropped = imap->failure;
        imap->failure = NULL;
    }
    return dropped;
}

static void append(struct entry **first, struct entry **last, struct entry *entry)
{
    entry->next = NULL;
    *(*last ? &(*last)->next : first) = entry;
    *last = entry;
}

/* Under the lock. True: the caller ends the work, unlocked. */
static bool is_over(struct weft_imap *imap)
{
    bool now = !imap->over && imap->source_ended && imap->running == 0 && !imap->pending;
    imap->over = imap->over || now;
    return now;
}

static void end_work(struct weft_imap *imap)
{
    weft_drain_remove(weft_instance_of(imap->crew.runtime), &imap->drain);
    weft_crew_revoke(&imap->crew); /* no request outlives the stay in the group */
    weft_group_end_work(&imap->crew.work);
    weft_crew_release(&imap->crew);
}

static void wake(struct weft_waitq *queue, bool all)
{
    if (!weft_waitq_empty(queue)) {
        (all ? weft_waitq_wake_all : weft_waitq_wake_one)(queue);
    }
}

/* ---- the crew's side ---- */

static bool may_begin(struct weft_imap *imap)
{
    return imap->pending && (imap->maxsize == 0 || imap->begun - imap->read < imap->maxsize);
}

static bool has_work(struct weft_crew *crew) { return may_begin(imap_of(crew)); }

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

static struct entry *begin_next(struct weft_imap *imap)
{
    struct entry *entry = NULL;
    weft_lock(&imap->crew.lock);
    if (!a_load(&imap->crew.stop, RELAXED) && may_begin(imap)) {
        entry = imap->pending;
        imap->pending = entry->next;
        entry->state = RUNNING;
        imap->begun++;
        imap->running++;
        if (!imap->ordered) {
            imap->first = imap->pending;
            imap->last = imap->first ? imap->last : NULL;
        }
    }
    weft_unlock(&imap->crew.lock);
    if (entry && imap->maxsize == 0) {
        wake(&imap->permits, true);
    }
    return entry;
}

static void finish(struct weft_imap *imap, struct entry *entry)
{
    struct entry *dropped = NULL;
    weft_lock(&imap->crew.lock);
    entry->state = DONE;
    imap->running--;
    if (imap->closed) {
        if (imap->ordered) {
            dropped = detach(imap);
        } else {
            entry->next = NULL;
            dropped = entry;
        }
    } else if (!imap->ordered) {
        append(&imap->done, &imap->done_last, entry);
    }
    bool readable = !imap->closed && (!imap->ordered || imap->first == entry);
    bool over = is_over(imap);
    weft_unlock(&imap->crew.lock);
    drop(imap, dropped);
    if (over) {
        wake(&imap->readers, true);
        end_work(imap);
    } else if (readable) {
        wake(&imap->readers, false);
    }
}

static void work(struct weft_crew *crew, struct weft_participant *participant)
{
    struct weft_imap *imap = imap_of(crew);
    struct entry *entry;
    while ((entry = begin_next(imap)) != NULL) {
        weft_crew_invite(crew);
        void *value = NULL;
        int rc = imap->fn(imap->ctx, entry->item, &value);
        entry->status = weft_participant_judge(participant, rc, &entry->error);
        weft_participant_renew(participant);
        if (entry->status == WEFT_OK) {
            entry->value = value;
        } else if (value && imap->result_free) {
            imap->result_free(value);
        }
        if (imap->n_sources > 1) {
            free(entry->item); /* the elements were fn's */
            entry->item = NULL;
        }
        finish(imap, entry);
        weft_participant_relent(participant);
    }
}

/* A kill of the group: what has not begun is finished, as cancelled. Or a close, which has dropped it already. */
static void stopped(struct weft_crew *crew)
{
    struct weft_imap *imap = imap_of(crew);
    weft_lock(&crew->lock);
    int reason = crew->stop_reason;
    for (struct entry *entry = imap->pending, *next; entry; entry = next) {
        next = entry->next;
        entry->state = DONE;
        entry->status = WEFT_CANCELLED;
        entry->error = reason;
        if (!imap->ordered) {
            append(&imap->done, &imap->done_last, entry);
        }
    }
    imap->pending = NULL;
    if (!imap->ordered) {
        imap->first = imap->last = NULL;
    }
    bool over = is_over(imap), started = imap->source_started;
    weft_unlock(&crew->lock);
    if (started) { /* else it will see the stop */
        (void)weft_task_kill(imap->source_task, reason, WEFT_NOWAIT);
    }
    wake(&imap->permits, true);
    wake(&imap->readers, true);
    if (over) {
        end_work(imap);
    }
}

static void imap_free(struct weft_crew *crew)
{
    struct weft_imap *imap = imap_of(crew);
    struct weft_instance *instance = weft_instance_of(crew->runtime);
    drop(imap, detach(imap));
    if (imap->reserve) {
        weft_slab_free(&entries, NULL, imap->reserve);
    }
    weft_task_release(imap->source_task);
    free(imap->sources);
    weft_slab_free(&imaps, NULL, imap);
    a_sub(&instance->objects, 1u, RELEASE);
    weft_instance_released(instance);
}

static const struct weft_crew_ops imap_ops = {
    .has_work = has_work, .work = work, .shed = shed, .count = count, .stopped = stopped, .free = imap_free
};

/* ---- the source's side ---- */

/* Under permits' lock. */
static bool may_pull(void *arg)
{
    struct weft_imap *imap = arg;
    weft_lock(&imap->crew.lock);
    bool may = imap->closed || a_load(&imap->crew.stop, RELAXED) ||
               (imap->maxsize == 0 ? imap->pulled == imap->begun : imap->pulled - imap->read <= imap->maxsize);
    weft_unlock(&imap->crew.lock);
    return may;
}

/* One item of every source: 1, 0 when the shortest has ended, negative. */
static int pull(struct weft_imap *imap, void **item)
{
    if (imap->n_sources == 1) {
        return imap->sources[0].next(imap->sources[0].ctx, item);
    }
    void **elements = calloc(imap->n_sources, sizeof *elements);
    int rc = elements ? 1 : -ENOMEM;
    for (size_t i = 0; i < imap->n_sources && rc == 1; i++) {
        rc = imap->sources[i].next(imap->sources[i].ctx, &elements[i]);
    }
    if (rc != 1) {
        item_free(imap, elements);
        elements = NULL;
    }
    *item = elements;
    return rc;
}

/* False: nobody wants it any more. */
static bool push(struct weft_imap *imap, struct entry *entry)
{
    weft_lock(&imap->crew.lock);
    bool wanted = !imap->closed && !a_load(&imap->crew.stop, RELAXED);
    bool killed = !wanted && !imap->closed;
    if (wanted || killed) {
        entry->index = imap->pulled++;
        entry->state = wanted ? PULLED : DONE;
        entry->status = wanted ? WEFT_PENDING : WEFT_CANCELLED;
        entry->error = wanted ? 0 : imap->crew.stop_reason;
        if (imap->ordered || wanted) {
            append(&imap->first, &imap->last, entry);
            imap->pending = wanted && !imap->pending ? entry : imap->pending;
        } else {
            append(&imap->done, &imap->done_last, entry);
        }
    }
    weft_unlock(&imap->crew.lock);
    if (!wanted && !killed) {
        entry->next = NULL;
        drop(imap, entry);
    }
    return wanted;
}

static void source_ended(struct weft_imap *imap, struct entry *failure)
{
    weft_lock(&imap->crew.lock);
    imap->source_ended = true;
    if (failure && !imap->closed && !a_load(&imap->crew.stop, RELAXED)) {
        imap->failure = failure;
        failure = NULL;
    }
    bool over = is_over(imap);
    weft_unlock(&imap->crew.lock);
    if (failure) {
        failure->next = NULL;
        drop(imap, failure);
    }
    wake(&imap->readers, true);
    if (over) {
        end_work(imap);
    }
}

static int source(void *arg, void **result)
{
    (void)result;
    struct weft_imap *imap = arg;
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
    struct entry *entry = NULL;
    int rc = 0;
    for (;;) {
        entry = weft_slab_alloc(&entries, NULL);
        if (!entry) {
            entry = imap->reserve; /* to tell of it */
            imap->reserve = NULL;
            rc = -ENOMEM;
            break;
        }
        *entry = (struct entry){ .index = WEFT_NO_INDEX };
        do {
            rc = weft_wait_until(&imap->permits, may_pull, imap, &wait);
        } while (rc == 0 && !may_pull(imap));
        if (rc != 0 || a_load(&imap->crew.stop, SEQ_CST)) {
            break;
        }
        rc = pull(imap, &entry->item);
        if (rc != 1) {
            rc = rc > 1 ? -EINVAL : rc;
            entry->item = NULL;
            break;
        }
        bool wanted = push(imap, entry);
        entry = NULL;
        if (!wanted) {
            break;
        }
        weft_crew_invite(&imap->crew);
    }
    if (entry && rc < 0) {
        entry->status = WEFT_FAILED;
        entry->error = rc;
    } else if (entry) {
        weft_slab_free(&entries, NULL, entry);
        entry = NULL;
    }
    source_ended(imap, entry);
    weft_crew_release(&imap->crew);
    return 0;
}

/* ---- the reader's side ---- */

struct reading {
    struct weft_imap *imap;
    struct weft_item *item;
    int rc;    /* 1 an item, 0 the end, -1 neither */
    bool more; /* the next one can be read, too */
};

static struct entry *take_result(struct weft_imap *imap)
{
    struct entry *entry = imap->ordered ? imap->first : imap->done;
    if (entry && entry->state == DONE) {
        struct entry **first = imap->ordered ? &imap->first : &imap->done, **last = imap->ordered ? &imap->last : &imap->done_last;
        *first = entry->next;
        *last = *first ? *last : NULL;
        imap->read++;
        return entry;
    }
    if (imap->failure && (!imap->ordered || !imap->first)) {
        entry = imap->failure;
        imap->failure = NULL;
        return entry;
    }
    return NULL;
}

/* Under readers' lock. */
static bool take(void *arg)
{
    struct reading *reading = arg;
    struct weft_imap *imap = reading->imap;
    weft_lock(&imap->crew.lock);
    struct entry *entry = imap->closed ? NULL : take_result(imap);
    bool next_ready = entry && imap->ordered && imap->first && imap->first->state == DONE;
    bool end =
        imap->closed || (!entry && imap->source_ended && imap->running == 0 && !imap->pending && !imap->first && !imap->done);
    weft_unlock(&imap->crew.lock);
    if (entry) {
        *reading->item = (struct weft_item){
            .index = entry->index, .status = entry->status, .error = entry->error, .input = entry->item, .value = entry->value
        };
        weft_slab_free(&entries, NULL, entry);
    }
    reading->rc = entry ? 1 : end ? 0 : -1;
    reading->more = next_ready;
    return reading->rc >= 0;
}

int weft_imap_next(struct weft_imap *imap, struct weft_item *item, int64_t deadline)
{
    if (!imap || !item) {
        return -EINVAL;
    }
    *item = (struct weft_item){ .index = WEFT_NO_INDEX, .status = WEFT_PENDING };
    int rc = weft_runtime_usable(imap->crew.runtime);
    if (rc != 0) {
        return rc;
    }
    struct reading reading = { .imap = imap, .item = item, .rc = -1 };
    struct weft_wait wait = { .deadline = deadline, .cancellable = true, .awaited = WEFT_WORK(&imap->crew) };
    do {
        rc = weft_wait_until(&imap->readers, take, &reading, &wait);
    } while (rc == 0 && reading.rc < 0 && !take(&reading));
    if (reading.rc < 0) {
        return rc;
    }
    if (reading.more) {
        wake(&imap->readers, false); /* it became first without anybody having been woken for it */
    }
    if (reading.rc == 1 && imap->maxsize > 0) {
        wake(&imap->permits, true);
        weft_crew_invite(&imap->crew);
    }
    return reading.rc;
}

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
    imap->reserve = weft_slab_alloc(&entries, NULL);
    weft_crew_init(&imap->crew, &imap_ops, runtime, group);
    imap->crew.caller = (struct weft_caller){ 0 }; /* whoever makes it does not wait for it */
    imap->drain = (struct weft_drain){ .retain = drain_retain, .run = drain_run };
    if (imap->reserve) {
        *imap->reserve = (struct entry){ .index = WEFT_NO_INDEX };
    }
    rc = imap->reserve ? weft_group_make_wrapper(group, runtime, source, imap, &imap->source_task) : -ENOMEM;
    if (rc == 0 && weft_group_begin_work(group, &imap->crew.work) != 0) {
        weft_task_unmake(imap->source_task);
        rc = -ESHUTDOWN; /* closed, or being killed */
    }
    if (rc != 0) {
        if (imap->reserve) {
            weft_slab_free(&entries, NULL, imap->reserve);
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
    struct entry *dropped = first ? detach(imap) : NULL;
    weft_unlock(&imap->crew.lock);
    if (first) {
        weft_crew_stop(&imap->crew, 0);
        stopped(&imap->crew); /* once more, if a kill had stopped it: the source and the readers hear of the close */
    }
    drop(imap, dropped);
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
        weft_crew_wait_over(&imap->crew);
        weft_crew_return(&imap->crew);
    }
    weft_crew_release(&imap->crew);
    return 0;
}

int weft_array_next(void *array, void **item)
{
    struct weft_array *at = array;
    if (at->next >= at->n) {
        return 0;
    }
    *item = (void *)((uintptr_t)at->base + at->next++ * at->stride);
    return 1;
}

static void hold_for_fork(bool hold)
{
    (hold ? weft_lock : weft_unlock)(&imaps.lock);
    (hold ? weft_lock : weft_unlock)(&entries.lock);
}

__attribute__((constructor)) static void start_imaps(void)
{
    weft_fork_guard(hold_for_fork);
    weft_slab_init(&imaps, (sizeof(struct weft_imap) + 63) / 64 * 64, NULL);
    weft_slab_init(&entries, (sizeof(struct entry) + 63) / 64 * 64, NULL);
}
