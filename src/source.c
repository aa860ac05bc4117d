/* The source of an imap: a task of its own that pulls items while the window has room, and ends what it was given when nobody wants it
 * any more. */
#include "imap.h"

#include <stdlib.h>

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
        weft_imap_item_free(imap, elements);
        elements = NULL;
    }
    *item = elements;
    return rc;
}

/* False: nobody wants it any more. */
static bool push(struct weft_imap *imap, struct weft_entry *entry)
{
    weft_lock(&imap->crew.lock);
    bool wanted = !imap->closed && !a_load(&imap->crew.stop, RELAXED);
    bool killed = !wanted && !imap->closed;
    if (wanted || killed) {
        entry->index = imap->pulled++;
        entry->state = wanted ? WEFT_ENTRY_PULLED : WEFT_ENTRY_DONE;
        entry->status = wanted ? WEFT_PENDING : WEFT_CANCELLED;
        entry->error = wanted ? 0 : imap->crew.stop_reason;
        if (imap->ordered || wanted) {
            weft_imap_append(&imap->first, &imap->last, entry);
            imap->pending = wanted && !imap->pending ? entry : imap->pending;
        } else {
            weft_imap_append(&imap->done, &imap->done_last, entry);
        }
    }
    weft_unlock(&imap->crew.lock);
    if (!wanted && !killed) {
        entry->next = NULL;
        weft_imap_drop(imap, entry);
    }
    return wanted;
}

static void source_ended(struct weft_imap *imap, struct weft_entry *failure)
{
    weft_lock(&imap->crew.lock);
    imap->source_ended = true;
    if (failure && !imap->closed && !a_load(&imap->crew.stop, RELAXED)) {
        imap->failure = failure;
        failure = NULL;
    }
    bool over = weft_imap_is_over(imap);
    weft_unlock(&imap->crew.lock);
    if (failure) {
        failure->next = NULL;
        weft_imap_drop(imap, failure);
    }
    weft_imap_wake(&imap->readers, true);
    if (over) {
        weft_imap_end_work(imap);
    }
}

int weft_imap_source(void *arg, void **result)
{
    (void)result;
    struct weft_imap *imap = arg;
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
    struct weft_entry *entry = NULL;
    int rc = 0;
    for (;;) {
        entry = weft_entry_make();
        if (!entry) {
            entry = imap->reserve; /* to tell of it */
            imap->reserve = NULL;
            rc = -ENOMEM;
            break;
        }
        *entry = (struct weft_entry){ .index = WEFT_NO_INDEX };
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
        weft_imap_invite(imap);
    }
    if (entry && rc < 0) {
        entry->status = WEFT_FAILED;
        entry->error = rc;
    } else if (entry) {
        weft_entry_free(entry);
        entry = NULL;
    }
    source_ended(imap, entry);
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
