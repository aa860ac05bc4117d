/* Links: what shall happen when a task has ended (contract T8).
 *
 * Until the end a link waits in the task's queue, in its turn among the joiners. The end moves the links to the chain in the
 * extension, from where they are called one after another: a link runs in a task of its own, made when the link was, and when it has
 * returned, or is about to block for the first time (a frame tells), it sets the next one going. Raw links run where the chain has
 * got to, between the others. A link made after the end joins the chain.
 *
 * A link of an unfinished task holds no reference to it (the runtime, or whoever may start it, does); from the end on each holds one.
 *
 * A link that was accepted fires. Whoever takes a chain on is counted as work of its runtime while it does: it runs in a task, or ends
 * one that is counted, or is a visitor (task.h, T5); so the runtime still has workers when the next link's task is queued, and it ends
 * only after that one. Visitors are refused with -ESHUTDOWN from the moment the runtime begins to end; what nobody started is cancelled
 * while there are workers (shutdown.c). */
#include "task.h"

#include <stdlib.h>

struct weft_link {
    struct weft_waiter waiter; /* kind LINK, while the task lives */
    struct weft_link *next;    /* in the chain */
    struct weft_task *of;
    struct weft_task *task; /* in which it will run */
    weft_link_fn *fn;       /* one of the two */
    weft_callback_fn *callback;
    void *arg;
    uint64_t id;
    unsigned flags;
    bool passed_on; /* the next one has been set going */
    struct weft_frame frame;
    struct weft_scope scope;
};

static _Atomic uint64_t ids;

static void dispose(struct weft_link *link)
{
    struct weft_task *of = link->of;
    free(link);
    weft_task_release(of);
}

static void pass_on(struct weft_link *link)
{
    if (!link->passed_on) {
        link->passed_on = true;
        weft_links_advance(link->of);
    }
}

static void link_blocks(struct weft_frame *frame) { pass_on(frame->work); }

static void link_resumes(struct weft_frame *frame) { (void)frame; }

/* A kill of the link's task finds its own scope, not one outside it. */
static void *link_retain(struct weft_frame *frame)
{
    (void)frame;
    return NULL;
}

static void link_kill(void *retained, int reason)
{
    (void)retained;
    (void)reason;
}

static const struct weft_frame_ops link_ops = { link_blocks, link_resumes, link_retain, link_kill };

static void call(struct weft_link *link)
{
    struct weft_outcome outcome;
    weft_task_read_outcome(link->of, &outcome);
    if (link->callback) {
        link->callback(&outcome, link->arg);
    } else {
        link->fn(link->of, &outcome, link->arg);
    }
}

static int run_link(void *arg, void **result)
{
    (void)result;
    struct weft_link *link = arg;
    struct weft_slot *slot = weft_slot_self();
    struct weft_frame *frame = &link->frame;
    *frame = (struct weft_frame){ .work = link, .ops = &link_ops, .scope = a_load(&slot->scope, RELAXED) };
    weft_frame_push(slot, frame, slot->task);
    call(link);
    weft_frame_pop(slot, frame);
    return 0;
}

/* At the end of the link's task, whether it ran or was killed before. */
static void link_ended(void *arg)
{
    struct weft_link *link = arg;
    pass_on(link);
    dispose(link);
}

static bool wanted(struct weft_link *link)
{
    struct weft_outcome outcome;
    weft_task_read_outcome(link->of, &outcome);
    return (link->flags & (1u << (outcome.status - WEFT_OK))) != 0;
}

static void call_raw(struct weft_link *link)
{
    struct weft_slot *slot = weft_slot_self();
    if (slot) {
        slot->raw++;
    }
    call(link);
    if (slot) {
        slot->raw--;
    }
}

/* Takes the chain on until a link runs in its own task, or none is left. */
void weft_links_advance(struct weft_task *task)
{
    weft_task_retain(task); /* the last link may have the last reference */
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_link_chain *chain = &ext->links;
    for (;;) {
        struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
        struct weft_link *link = chain->first;
        chain->first = link ? link->next : NULL;
        chain->last = chain->first ? chain->last : NULL;
        chain->busy = link != NULL;
        weft_waitq_unlock(&task->waitq, tail);
        if (!link) {
            break;
        }
        struct weft_runtime *runtime = weft_task_runtime(task);
        bool runs = wanted(link);
        weft_assert(a_load(&runtime->phase, ACQUIRE) != WEFT_PHASE_ENDED);
        if (runs && !(link->flags & WEFT_LINK_RAW)) {
            struct weft_task *own = link->task;
            (void)weft_task_publish(own, WEFT_TASK_QUEUED, WEFT_TASK_LATE, false);
            weft_sched_push(runtime, own);
            break; /* it disposes of the link */
        }
        if (runs) {
            call_raw(link);
        }
        weft_task_unmake(link->task);
        dispose(link);
    }
    weft_task_release(task);
}

/* Under the queue's lock. True if the caller has to advance. */
static bool append(struct weft_link_chain *chain, struct weft_link *link)
{
    link->next = NULL;
    if (chain->last) {
        chain->last->next = link;
    } else {
        chain->first = link;
    }
    chain->last = link;
    bool idle = !chain->busy;
    chain->busy = true;
    return idle;
}

bool weft_link_release(struct weft_task *task, struct weft_waiter *waiter)
{
    weft_task_retain(task);
    return append(&a_load(&task->ext, ACQUIRE)->links, weft_container_of(waiter, struct weft_link, waiter));
}

static int make(struct weft_task *task, const struct weft_link *shape, const struct weft_task_options *given, uint64_t *id)
{
    struct weft_link *link = weft_task_extend(task) ? calloc(1, sizeof *link) : NULL;
    struct weft_task_options options = { .struct_size = sizeof options, .name = "weft link" };
    if (given) {
        options = *given;
    }
    options.arg_free = link_ended;
    options.result_free = NULL;
    options.deadline = 0;
    int rc = link ? weft_task_make(weft_task_runtime(task), run_link, link, &options, NULL, &link->task) : -ENOMEM;
    if (rc != 0) {
        free(link);
        return rc;
    }
    link->of = task;
    link->fn = shape->fn;
    link->callback = shape->callback;
    link->arg = shape->arg;
    link->flags = shape->flags;
    link->id = a_add(&ids, 1u, RELAXED) + 1;
    link->waiter.kind = WEFT_WAITER_LINK;
    if (id) {
        *id = link->id;
    }
    bool idle = false;
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    if (weft_task_is_finished(task)) {
        link->flags &= ~(unsigned)WEFT_LINK_RAW; /* scheduled, never run inline */
        weft_task_retain(task);
        idle = append(&a_load(&task->ext, ACQUIRE)->links, link);
    } else {
        weft_waitq_link(&tail, &link->waiter);
    }
    weft_waitq_unlock(&task->waitq, tail);
    if (idle) {
        weft_links_advance(task);
    }
    return 0;
}

static int link_to(struct weft_task *task, const struct weft_link *shape, const struct weft_task_options *options, uint64_t *id)
{
    unsigned flags = shape->flags;
    if (!task || (!shape->fn && !shape->callback) || !(flags & WEFT_ON_ANY) || (flags & ~(unsigned)(WEFT_ON_ANY | WEFT_LINK_RAW))) {
        return -EINVAL;
    }
    struct weft_runtime *runtime = weft_task_runtime(task);
    int rc = weft_runtime_usable(runtime);
    if (rc != 0 || (rc = weft_runtime_enter(runtime)) != 0) {
        return rc;
    }
    rc = make(task, shape, options, id);
    weft_runtime_leave(runtime);
    return rc;
}

int weft_task_link(struct weft_task *task, weft_link_fn *fn, void *arg, unsigned flags, uint64_t *id)
{
    return link_to(task, &(struct weft_link){ .fn = fn, .arg = arg, .flags = flags }, NULL, id);
}

int weft_task_link_callback(struct weft_task *task, weft_callback_fn *callback, void *arg, unsigned flags,
                            const struct weft_task_options *options, uint64_t *id)
{
    return link_to(task, &(struct weft_link){ .callback = callback, .arg = arg, .flags = flags }, options, id);
}

/* Under the lock: out of the queue of an unfinished task. */
static struct weft_link *find_waiting(struct weft_waiter **tail, uint64_t id)
{
    struct weft_waiter *waiter = *tail;
    if (waiter) {
        do {
            struct weft_link *link = waiter->kind == WEFT_WAITER_LINK ? weft_container_of(waiter, struct weft_link, waiter) : NULL;
            if (link && link->id == id) {
                weft_waitq_unlink(tail, waiter);
                return link;
            }
            waiter = waiter->next;
        } while (waiter != *tail);
    }
    return NULL;
}

/* Under the lock: out of the chain, if its turn has not come. */
static struct weft_link *find_chained(struct weft_link_chain *chain, uint64_t id)
{
    struct weft_link *before = NULL;
    for (struct weft_link *link = chain->first; link; before = link, link = link->next) {
        if (link->id == id) {
            *(before ? &before->next : &chain->first) = link->next;
            if (chain->last == link) {
                chain->last = before;
            }
            return link;
        }
    }
    return NULL;
}

int weft_task_unlink(struct weft_task *task, uint64_t id)
{
    int rc = task ? weft_runtime_usable(weft_task_runtime(task)) : -EINVAL;
    if (rc != 0) {
        return rc;
    }
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    struct weft_link *link = find_waiting(&tail, id);
    bool chained = !link && ext && (link = find_chained(&ext->links, id)) != NULL;
    weft_waitq_unlock(&task->waitq, tail);
    if (!link) {
        return -ENOENT;
    }
    weft_task_unmake(link->task);
    if (chained) {
        dispose(link);
    } else {
        free(link);
    }
    return 0;
}
