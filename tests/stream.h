/* What tests of imap share: a source of numbered things on the heap, and a ledger of what became of each thing and each result. */
#ifndef WEFT_STREAM_H
#define WEFT_STREAM_H

#include "gate.h"

enum { STREAM_MOST = 4096 };

struct thing {
    size_t id;
};

struct stream {
    size_t n, next;
    int end;            /* what it says after n things: 0, or an error */
    struct gate *ahead; /* passed before the end, if any */
    size_t gated_from;  /* ... and before each thing from this one on, if not 0 */
    _Atomic uint32_t pulled;
    _Atomic bool busy;
};

/* Per id: how often. */
static _Atomic uint8_t thing_made[STREAM_MOST], thing_freed[STREAM_MOST], thing_read[STREAM_MOST];
static _Atomic uint8_t value_made[STREAM_MOST], value_freed[STREAM_MOST], value_read[STREAM_MOST];
static _Atomic uint32_t stream_begun, stream_running, stream_peak;

static inline int stream_next(void *arg, void **item)
{
    struct stream *stream = arg;
    check(!a_swap(&stream->busy, true, SEQ_CST)); /* never concurrently with itself (I5) */
    check(weft_task_current() != NULL);
    int rc = 0;
    bool at_end = stream->next == stream->n;
    if (stream->ahead && (at_end || (stream->gated_from > 0 && stream->next >= stream->gated_from))) {
        rc = gate_pass(stream->ahead);
    }
    if (rc == 0 && at_end) {
        rc = stream->end;
    } else if (rc == 0) {
        struct thing *thing = malloc(sizeof *thing);
        thing->id = stream->next++;
        a_add(&thing_made[thing->id], 1u, RELAXED);
        *item = thing;
        a_add(&stream->pulled, 1u, SEQ_CST);
        rc = 1;
    }
    a_store(&stream->busy, false, SEQ_CST);
    return rc;
}

static inline void thing_free(void *p)
{
    struct thing *thing = p;
    a_add(&thing_freed[thing->id], 1u, RELAXED);
    free(thing);
}

static inline void value_free(void *p)
{
    struct thing *value = p;
    a_add(&value_freed[value->id], 1u, RELAXED);
    free(value);
}

static inline struct thing *value_make(size_t id)
{
    struct thing *value = malloc(sizeof *value);
    value->id = id;
    a_add(&value_made[id], 1u, RELAXED);
    return value;
}

static inline void stream_enter(void)
{
    a_add(&stream_begun, 1u, SEQ_CST);
    note_peak(&stream_peak, a_add(&stream_running, 1u, SEQ_CST) + 1);
    check(weft_task_current() != NULL);
}

/* The value is a copy. */
static inline int stream_copy(void *ctx, void *item, void **result)
{
    stream_enter();
    *result = value_make(((struct thing *)item)->id);
    int rc = ctx ? gate_pass(ctx) : 0;
    a_sub(&stream_running, 1u, SEQ_CST);
    return rc;
}

/* What was read is the reader's. */
static inline void stream_took(const struct weft_item *item)
{
    if (item->input) {
        struct thing *thing = item->input;
        check(thing->id == item->index);
        a_add(&thing_read[thing->id], 1u, RELAXED);
        free(thing);
    }
    if (item->value) {
        struct thing *value = item->value;
        check(value->id == item->index);
        check_eq(item->status, WEFT_OK);
        a_add(&value_read[value->id], 1u, RELAXED);
        free(value);
    }
}

/* Every thing and every value went exactly one way. */
static inline void stream_settle(void)
{
    for (size_t i = 0; i < STREAM_MOST; i++) {
        check(thing_made[i] == thing_freed[i] + thing_read[i] && thing_made[i] <= 1);
        check(value_made[i] == value_freed[i] + value_read[i] && value_made[i] <= 1);
        thing_made[i] = thing_freed[i] = thing_read[i] = value_made[i] = value_freed[i] = value_read[i] = 0;
    }
    check_eq(stream_running, 0);
    stream_begun = stream_peak = 0;
}

static inline struct weft_imap *stream_start(struct weft_group *group, bool ordered, struct stream *stream, size_t maxsize,
                                             struct gate *in_items)
{
    struct weft_source source = { stream_next, stream, thing_free };
    struct weft_imap *imap;
    const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = maxsize, .result_free = value_free);
    check_eq((ordered ? weft_group_imap : weft_group_imap_unordered)(group, &source, 1, stream_copy, in_items, options, &imap), 0);
    return imap;
}

/* Of the imap `arg`. */
static inline int stream_read_one(void *arg)
{
    struct weft_item item;
    int rc = weft_imap_next(arg, &item, WEFT_FOREVER);
    if (rc == 1) {
        stream_took(&item);
    }
    return rc;
}

#endif
