/* Deadlines: an intrusive pairing heap (Fredman, Sedgewick, Sleator and Tarjan, Algorithmica 1986) under a lock.
 *
 * Arming allocates nothing, so it cannot fail. A timer's `fire` runs under its heap's lock and must be short: it claims a waiter
 * or takes a reference, and leaves the rest to `expired` lists of its caller. `cancel` takes the same lock, so after it returns
 * `fire` is not running and will not run (a waiter may then leave its frame).
 *
 * `earliest` mirrors the root's deadline for those who only want to look (OS_FOREVER when empty). It is stored seq_cst, so that
 * who arms and then looks for the timekeeper, and a timekeeper that says until when it sleeps and then looks here, cannot miss
 * each other (H37). */
#ifndef WEFT_TIMER_H
#define WEFT_TIMER_H

#include "lock.h"

struct weft_timer_heap;

struct weft_timer {
    struct weft_timer *child, *sibling, *previous; /* previous: left sibling, or parent of a first child */
    int64_t deadline_ns;
    _Atomic(struct weft_timer_heap *) heap; /* where it was armed last, NULL after cancel; changed under that heap's lock */
    bool armed;                             /* is in that heap; under its lock */
    void (*fire)(struct weft_timer *timer, void *context);
};

struct weft_timer_heap {
    struct weft_lock lock;
    struct weft_timer *root;
    _Atomic int64_t earliest;
};

void weft_timer_heap_init(struct weft_timer_heap *heap);
/* Any thread; `timer` is not armed. True if it is now the earliest of this heap. */
bool weft_timer_arm(struct weft_timer_heap *heap, struct weft_timer *timer, int64_t deadline_ns);
/* Any thread; also after it fired, before it is armed again or its memory goes: it waits for a `fire` that is running. True if it
 * was armed, and so will not fire: of several callers and `fire` one gets it. A cancel beside an arm may come too early and return
 * false; who arms and then looks for the reason to cancel, and who gives that reason and then cancels, do not miss each other. A
 * timer of all zeroes was never armed, and then this returns at once. */
bool weft_timer_cancel(struct weft_timer *timer);
/* Removes every timer that is due and calls its `fire` with `context`, earliest first; lateness of the latest one, or -1 if none was due. */
int64_t weft_timer_expire(struct weft_timer_heap *heap, int64_t now_ns, void *context);

#endif
