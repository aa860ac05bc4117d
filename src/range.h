/* A range of indices that its owner works off from the front while thieves take half from the back (design: a range is shared, so
 * nobody's remaining items are hostage to one long item).
 *
 * Both ends change under `lock`; they are read without it by who only looks for the largest. Owner: `take` what it will do next, and
 * `put_back` what it has not begun of that. A claim is made once per chunk of about 2 us, so the lock's 10 ns do not count. */
#ifndef WEFT_RANGE_H
#define WEFT_RANGE_H

#include "lock.h"

struct weft_range {
    struct weft_lock lock;
    _Atomic size_t begin, end;
};

static inline size_t weft_range_size(struct weft_range *range)
{
    size_t begin = a_load(&range->begin, RELAXED), end = a_load(&range->end, RELAXED);
    return begin < end ? end - begin : 0;
}

static inline void weft_range_set(struct weft_range *range, size_t begin, size_t end)
{
    weft_lock(&range->lock);
    a_store(&range->begin, begin, RELAXED);
    a_store(&range->end, end, RELAXED);
    weft_unlock(&range->lock);
}

/* Owner: up to `most` from the front, and no more than half of what is there unless that is one. */
static inline bool weft_range_take(struct weft_range *range, size_t most, bool whole, size_t *begin, size_t *end)
{
    weft_lock(&range->lock);
    size_t from = a_load(&range->begin, RELAXED), size = weft_range_size(range);
    size_t share = whole ? size : size - size / 2;
    size_t n = most < share ? most : share;
    a_store(&range->begin, from + n, RELAXED);
    weft_unlock(&range->lock);
    *begin = from;
    *end = from + n;
    return n > 0;
}

/* Owner: [begin, end) was taken last and has not been begun. */
static inline void weft_range_put_back(struct weft_range *range, size_t begin, size_t end)
{
    weft_lock(&range->lock);
    if (weft_range_size(range) == 0) {
        a_store(&range->end, end, RELAXED); /* thieves took all behind it */
    }
    a_store(&range->begin, begin, RELAXED);
    weft_unlock(&range->lock);
}

/* A thief: the back half, at least one. */
static inline bool weft_range_steal(struct weft_range *victim, size_t *begin, size_t *end)
{
    weft_lock(&victim->lock);
    size_t size = weft_range_size(victim), last = a_load(&victim->end, RELAXED), n = size - size / 2;
    a_store(&victim->end, last - n, RELAXED);
    weft_unlock(&victim->lock);
    *begin = last - n;
    *end = last;
    return n > 0;
}

#endif
