/* Channels: a ring of items, and who waits beside it to send or to receive, all under one lock.
 *
 * Invariants under the lock: senders wait only while the ring is full, receivers only while it is empty; not both; nobody waits at a
 * closed channel. With capacity 0 the ring is always both, and an item goes from stack to stack.
 *
 * Whoever can serve a waiter claims its slot first (waitq.h: once, or not at all, because a kill, a deadline or another case of its select
 * was faster), and copies the item after that. The waiter returns only when it has been made ready, or, claimed before it slept, when it
 * has held the lock once more: either way after the copy. So an item is never in two places, nor in none.
 *
 * A select waits in several channels with one claim: the first that claims it wins, and it leaves the others under their locks. It takes
 * all its locks in the order of their addresses. Waiting for one channel is a select of one case. */
#ifndef WEFT_CHANNEL_H
#define WEFT_CHANNEL_H

#include "lock.h"
#include "wait.h"

#include <weft.h>

struct weft_channel {
    struct weft_lock lock;
    bool closed;
    size_t item_size, capacity, count, first;
    struct weft_waiter *senders, *receivers; /* tails of rings (waitq.h) */
    _Alignas(max_align_t) unsigned char items[];
};

/* One case of a select, on the stack of who waits. */
struct weft_offer {
    struct weft_waiter waiter; /* first */
    struct weft_select_case *with;
    int rc; /* what the one who claimed it says: 0, -EPIPE */
};

/* channel.c, under the lock: does at once what the case asks for. 0; -EPIPE; -EAGAIN: it would have to wait. */
int weft_channel_try(struct weft_select_case *with, struct weft_waiter **ready);

#endif
