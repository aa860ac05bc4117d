/* The window of an imap: its entries, and who moves them: participants begin and finish them, readers take them. */
#include "imap.h"

#include "slab.h"

#include <stdlib.h>

static struct weft_slab entries;

/* ---- entries ---- */

struct weft_entry *weft_entry_make(void) { return weft_slab_alloc(&entries, NULL); }

void weft_entry_free(struct weft_entry *entry) { weft_slab_free(&entries, NULL, entry); }

void weft_entries_hold(bool hold) { (hold ? weft_lock : weft_unlock)(&entries.lock); }

void weft_imap_item_free(struct weft_imap *imap, void *item)
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

void weft_imap_drop(struct weft_imap *imap, struct weft_entry *list)
{
    while (list) {
        struct weft_entry *entry = list;
        list = entry->next;
        if (entry->item) {
            weft_imap_item_free(imap, entry->item);
        }
        if (entry->value && imap->result_free) {
            imap->result_free(entry->value);
        }
        weft_entry_free(entry);
    }
}

struct weft_entry *weft_imap_detach(struct weft_imap *imap)
{
    struct weft_entry *dropped = imap->done, *kept = NULL, **kept_end = &kept, *last = NULL, *next;
    for (struct weft_entry *entry = imap->first; entry; entry = next) {
        next = entry->next;
        if (entry->state == WEFT_ENTRY_RUNNING) {
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

void weft_imap_append(struct weft_entry **first, struct weft_entry **last, struct weft_entry *entry)
{
    entry->next = NULL;
    *(*last ? &(*last)->next : first) = entry;
    *last = entry;
}

bool weft_imap_is_over(struct weft_imap *imap)
{
    bool now = !imap->over && imap->source_ended && imap->running == 0 && !imap->pending;
    imap->over = imap->over || now;
    return now;
}

void weft_imap_wake(struct weft_waitq *queue, bool all)
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

bool weft_imap_has_work(struct weft_crew *crew) { return may_begin(weft_imap_of(crew)); }

static struct weft_entry *begin_next(struct weft_imap *imap)
{
    struct weft_entry *entry = NULL;
    weft_lock(&imap->crew.lock);
    if (!a_load(&imap->crew.stop, RELAXED) && may_begin(imap)) {
        entry = imap->pending;
        imap->pending = entry->next;
        entry->state = WEFT_ENTRY_RUNNING;
        imap->begun++;
        imap->running++;
        if (!imap->ordered) {
            imap->first = imap->pending;
            imap->last = imap->first ? imap->last : NULL;
        }
    }
    weft_unlock(&imap->crew.lock);
    if (entry && imap->maxsize == 0) {
        weft_imap_wake(&imap->permits, true);
    }
    return entry;
}

static void finish(struct weft_imap *imap, struct weft_entry *entry)
{
    struct weft_entry *dropped = NULL;
    weft_lock(&imap->crew.lock);
    entry->state = WEFT_ENTRY_DONE;
    imap->running--;
    if (imap->closed) {
        if (imap->ordered) {
            dropped = weft_imap_detach(imap);
        } else {
            entry->next = NULL;
            dropped = entry;
        }
    } else if (!imap->ordered) {
        weft_imap_append(&imap->done, &imap->done_last, entry);
    }
    bool readable = !imap->closed && (!imap->ordered || imap->first == entry);
    bool over = weft_imap_is_over(imap);
    weft_unlock(&imap->crew.lock);
    weft_imap_drop(imap, dropped);
    if (over) {
        weft_imap_wake(&imap->readers, true);
        weft_imap_end_work(imap);
    } else if (readable) {
        weft_imap_wake(&imap->readers, false);
    }
}

void weft_imap_work(struct weft_crew *crew, struct weft_participant *participant)
{
    struct weft_imap *imap = weft_imap_of(crew);
    struct weft_entry *entry;
    while ((entry = begin_next(imap)) != NULL) {
        (void)weft_crew_invite(crew);
        void *value = NULL;
        int rc = imap->fn(imap->ctx, entry->item, &value);
        entry->status = weft_participant_judge(participant, rc, &entry->error);
        (void)weft_participant_renew(participant); /* begin_next looks under the lock */
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

void weft_imap_invite(struct weft_imap *imap)
{
    struct weft_entry *entry;
    if (weft_crew_invite(&imap->crew)) {
        return;
    }
    while ((entry = begin_next(imap)) != NULL) {
        if (imap->n_sources > 1) {
            weft_imap_item_free(imap, entry->item);
            entry->item = NULL;
        }
        entry->status = WEFT_FAILED;
        entry->error = -ENOMEM;
        finish(imap, entry);
    }
}

/* ---- the reader's side ---- */

struct reading {
    struct weft_imap *imap;
    struct weft_item *item;
    void *zipped; /* what was given to an item that never began */
    int rc;       /* 1 an item, 0 the end, -1 neither */
    bool more;    /* the next one can be read, too */
};

static struct weft_entry *take_result(struct weft_imap *imap)
{
    struct weft_entry *entry = imap->ordered ? imap->first : imap->done;
    if (entry && entry->state == WEFT_ENTRY_DONE) {
        struct weft_entry **first = imap->ordered ? &imap->first : &imap->done,
                          **last = imap->ordered ? &imap->last : &imap->done_last;
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
    struct weft_entry *entry = imap->closed ? NULL : take_result(imap);
    bool next_ready = entry && imap->ordered && imap->first && imap->first->state == WEFT_ENTRY_DONE;
    bool end =
        imap->closed || (!entry && imap->source_ended && imap->running == 0 && !imap->pending && !imap->first && !imap->done);
    weft_unlock(&imap->crew.lock);
    if (entry && imap->n_sources > 1) {
        reading->zipped = entry->item;
        entry->item = NULL;
    }
    if (entry) {
        *reading->item = (struct weft_item){
            .index = entry->index, .status = entry->status, .error = entry->error, .input = entry->item, .value = entry->value
        };
        weft_entry_free(entry);
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
    if (reading.zipped) {
        weft_imap_item_free(imap, reading.zipped);
    }
    if (reading.more) {
        weft_imap_wake(&imap->readers, false); /* it became first without anybody having been woken for it */
    }
    if (reading.rc == 1 && imap->maxsize > 0) {
        weft_imap_wake(&imap->permits, true);
        if (weft_runtime_enter(imap->crew.runtime) == 0) {
            weft_imap_invite(imap);
            weft_runtime_leave(imap->crew.runtime);
        } else { /* it began while its runtime was ending already: nobody from outside sets anything going any more */
            weft_imap_close(imap);
        }
    }
    return reading.rc;
}

__attribute__((constructor)) static void start_entries(void)
{
    weft_slab_init(&entries, (sizeof(struct weft_entry) + 63) / 64 * 64, NULL);
}
