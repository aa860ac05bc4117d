/* Select: the wait in one or several channels at once. */
#include "channel.h"

#include <stdlib.h>

enum { FEW = 8 };

struct select {
    struct weft_select_case *cases;
    size_t n;
    struct weft_offer *offers;
    size_t *order; /* the cases by the addresses of their channels */
};

static int by_address(const void *left, const void *right, void *cases)
{
    const struct weft_select_case *of = cases;
    uintptr_t a = (uintptr_t)of[*(const size_t *)left].channel, b = (uintptr_t)of[*(const size_t *)right].channel;
    return (a > b) - (a < b);
}

/* Each channel once; cases without one come first, and are passed over. */
static void lock_all(const struct select *select, bool lock)
{
    struct weft_channel *last = NULL;
    for (size_t i = 0; i < select->n; i++) {
        struct weft_channel *channel = select->cases[select->order[i]].channel;
        if (channel != last) {
            (lock ? weft_lock : weft_unlock)(&channel->lock);
            last = channel;
        }
    }
}

/* A number below n, each as likely, whoever draws in between: a counter, mixed as by Steele, Lea and Flood (OOPSLA 2014). */
static size_t draw(const struct weft_slot *slot, size_t n)
{
    static _Atomic uint64_t turn;
    uint64_t mixed = ((uint64_t)(uintptr_t)slot + a_add(&turn, (uint64_t)1, RELAXED)) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (size_t)(mixed >> 32) % n;
}

/* Under all locks. The case that could be had, or n. Of several that are ready each is as likely: the one that is tried first is drawn
 * anew until it is ready, or all have been tried. */
static size_t try_all(const struct select *select, const struct weft_slot *slot, struct weft_waiter **ready)
{
    size_t left = select->n, *untried = select->order + select->n;
    for (size_t i = 0; i < left; i++) {
        untried[i] = i;
    }
    while (left > 0) {
        size_t pick = left == 1 ? 0 : draw(slot, left), i = untried[pick];
        int rc = select->cases[i].channel ? weft_channel_try(&select->cases[i], ready) : -EAGAIN;
        if (rc != -EAGAIN) {
            select->cases[i].rc = rc;
            return i;
        }
        untried[pick] = untried[--left];
    }
    return select->n;
}

static void link_all(struct select *select, struct weft_slot *slot)
{
    uint64_t epoch = weft_wait_begin(slot);
    for (size_t i = 0; i < select->n; i++) {
        struct weft_select_case *with = &select->cases[i];
        select->offers[i] =
            (struct weft_offer){ .waiter = { .slot = slot, .kind = WEFT_WAITER_ONE, .epoch = epoch }, .with = with };
        if (with->channel) {
            weft_waitq_link(with->send ? &with->channel->senders : &with->channel->receivers, &select->offers[i].waiter);
        }
    }
}

/* Under all locks. Which case was claimed, or n. */
static size_t unlink_all(struct select *select)
{
    size_t fired = select->n;
    for (size_t i = 0; i < select->n; i++) {
        struct weft_waiter *waiter = &select->offers[i].waiter;
        struct weft_select_case *with = &select->cases[i];
        if (waiter->linked) {
            weft_waitq_unlink(with->send ? &with->channel->senders : &with->channel->receivers, waiter);
        }
        if (waiter->fired) {
            fired = i;
            with->rc = select->offers[i].rc;
        }
    }
    return fired;
}

static int run(struct select *select, struct weft_slot *slot, const struct weft_wait *wait, size_t *chosen)
{
    for (bool slept = false;; slept = true) {
        struct weft_waiter *ready = NULL;
        lock_all(select, true);
        size_t got = slept ? unlink_all(select) : select->n;
        if (got == select->n) {
            got = try_all(select, slot, &ready);
        }
        int rc = got < select->n ? 0 : weft_wait_refused(slot, wait, slept);
        bool done = got < select->n || rc != 0;
        if (!done) {
            link_all(select, slot);
        }
        lock_all(select, false);
        weft_waitq_ready(ready);
        if (done) {
            *chosen = got;
            return rc;
        }
        if (weft_wait_end(slot, wait) == WEFT_CLAIM_WOKEN && select->n == 1) {
            select->cases[0].rc = select->offers[0].rc;
            *chosen = 0;
            return 0;
        }
    }
}

int weft_channel_select(struct weft_select_case cases[], size_t n, int64_t deadline, size_t *chosen)
{
    if (!cases || n == 0 || !chosen) {
        return -EINVAL;
    }
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_slot *slot;
    int rc = weft_wait_enter(&wait, &slot);
    if (rc != 0) {
        return rc;
    }
    struct weft_offer few_offers[FEW];
    size_t few_orders[2 * FEW];
    struct select select = { .cases = cases, .n = n, .offers = few_offers, .order = few_orders };
    if (n > FEW) {
        select.offers = n <= SIZE_MAX / 2 / sizeof *select.offers ? calloc(n, sizeof *select.offers) : NULL;
        select.order = select.offers ? calloc(n, 2 * sizeof *select.order) : NULL;
        if (!select.order) {
            free(select.offers);
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < n; i++) {
        select.order[i] = i;
    }
    if (n > 1) {
        qsort_r(select.order, n, sizeof *select.order, by_address, cases);
    }
    size_t got = n;
    rc = run(&select, slot, &wait, &got);
    if (rc == 0) {
        *chosen = got;
    }
    if (n > FEW) {
        free(select.offers);
        free(select.order);
    }
    return rc;
}
