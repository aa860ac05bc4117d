/* Who waits for an object: 8 bytes in every object that can be waited for, the only kind of wait queue there is.
 *
 * word = address of the newest waiter | LOCKED. The waiters form a ring: tail->next is the oldest. While the lock is held the queue's
 * tail is in the holder's hands, so unlocking and publishing it are one store: a plain one, because whoever finds the lock held spins,
 * then yields, then takes naps of 100 us, and is never woken (an exchange, which could see a sleeper, costs 6 of the 140 ns of a spawn
 * with a join, twice: bench/bench_spawn.c). Nothing is touched after unlocking.
 *
 * While nobody waits an object may keep a mark of its own in place of a tail, with bit 1 set, which no waiter's address has: then its
 * state, its queue and its lock are one word, and the store that unlocks is the one that publishes (event.c, semaphore.c).
 *
 * A waiter is a node on the stack of whoever waits. `wait` (wait.h) links it and unlinks it again, unless a waker has popped it; after
 * a waker has claimed a waiter it does not touch the node, except to make a PARKED one ready after unlocking (H20). A waiter that was
 * claimed before it slept (EARLY) locks the queue once before it returns, so the waker has let go of the object by then.
 *
 * | tag | access | partner |
 * |---|---|---|
 * | Q1 | acquire in lock | Q2 |
 * | Q2 | release in unlock | Q1 |
 * | Q3 | seq_cst claim by a waker, under the lock, after it wrote fired and value | wait.h W4 | */
#ifndef WEFT_WAITQ_H
#define WEFT_WAITQ_H

#include "slot.h"

struct weft_waiter;

struct weft_waitq {
    _Atomic uintptr_t word;
};

enum weft_waiter_kind {
    WEFT_WAITER_ONE,   /* claim the slot */
    WEFT_WAITER_TALLY, /* one of several events that a slot counts: claim it at the last */
    WEFT_WAITER_LINK   /* a link of a task (link.c): not a waiter at all, but in the queue in its turn */
};

struct weft_waiter {
    struct weft_waiter *next, *previous;
    struct weft_slot *slot;
    uint64_t epoch;
    size_t *left; /* TALLY: how many events are still wanted, under no lock but its own: atomic */
    void *value;  /* what the waker hands over */
    enum weft_waiter_kind kind;
    bool linked; /* under the queue's lock */
    bool fired;
};

struct weft_waiter *weft_waitq_lock(struct weft_waitq *queue); /* the tail, or NULL when nobody waits */
void weft_waitq_unlock(struct weft_waitq *queue, struct weft_waiter *tail);
static inline bool weft_waitq_empty(struct weft_waitq *queue) { return a_load(&queue->word, SEQ_CST) == 0; }

#define WEFT_WAITQ_MARK ((uintptr_t)2)
static inline bool weft_waitq_marked(const struct weft_waiter *tail) { return ((uintptr_t)tail & WEFT_WAITQ_MARK) != 0; }

/* All under the lock, on the tail in hand, which is no mark. */
void weft_waitq_link(struct weft_waiter **tail, struct weft_waiter *waiter);       /* as the newest */
void weft_waitq_link_first(struct weft_waiter **tail, struct weft_waiter *waiter); /* as the oldest */
void weft_waitq_unlink(struct weft_waiter **tail, struct weft_waiter *waiter);
static inline struct weft_waiter *weft_waitq_oldest(struct weft_waiter *tail) { return tail ? tail->next : NULL; }

/* Unlinks a waiter of kind ONE and claims it. True: it was claimed, and, if it slept, `*ready` has it: to be given to
 * weft_waitq_ready after unlocking. False: it is going for another reason; wake somebody else instead (H23). */
bool weft_waitq_claim(struct weft_waiter **tail, struct weft_waiter *waiter, void *value, struct weft_waiter **ready);
/* The same for one event of a TALLY. */
void weft_waitq_tally(struct weft_waiter **tail, struct weft_waiter *waiter, struct weft_waiter **ready);
void weft_waitq_ready(struct weft_waiter *ready);

/* Claims the oldest waiter that can be claimed. Locks, unlocks, makes ready. */
void weft_waitq_wake_one(struct weft_waitq *queue);
/* Claims every waiter. Locks, unlocks, makes ready. */
void weft_waitq_wake_all(struct weft_waitq *queue);

/* A slot whose wait was claimed while PARKED goes on: a fiber is queued, a foreign thread's futex woken. */
void weft_slot_ready(struct weft_slot *slot);

#endif
