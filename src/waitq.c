#include "waitq.h"

#include "scheduler.h"

#define LOCKED ((uintptr_t)1)

/* The lock is held for some 20 ns: a spin that fails has met a preempted holder, who gets the core, or what is left of its slice. */
#ifdef WEFT_SIM
enum { SPINS = 1, YIELDS = 1000000 };
#else
enum { SPINS = 100, YIELDS = 20 };
#endif
#define NAP_NS INT64_C(100000)

/* The half of the word that has the bit, for the futex. */
static const _Atomic uint32_t *low_half(struct weft_waitq *queue)
{
    const char *base = (const char *)&queue->word;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    base += sizeof(uintptr_t) - sizeof(uint32_t);
#endif
    return (const _Atomic uint32_t *)(const void *)base;
}

static struct weft_waiter *lock_slow(struct weft_waitq *queue)
{
    for (unsigned round = 0;; round++) {
        uintptr_t word = a_load(&queue->word, RELAXED);
        if (!(word & LOCKED) && a_cas(&queue->word, &word, word | LOCKED, ACQUIRE, RELAXED)) { /* Q1, pairs with Q2 */
            return (struct weft_waiter *)word;
        }
        if (round < SPINS) {
            weft_spin_pause();
        } else if (round < SPINS + YIELDS) {
            os_thread_yield();
        } else { /* nobody wakes it: it ends at once if the word has changed already */
            (void)os_futex_wait(low_half(queue), (uint32_t)(word | LOCKED), os_now() + NAP_NS);
        }
    }
}

struct weft_waiter *weft_waitq_lock(struct weft_waitq *queue)
{
    uintptr_t word = a_load(&queue->word, RELAXED);
    if (weft_likely(!(word & LOCKED) && a_cas(&queue->word, &word, word | LOCKED, ACQUIRE, RELAXED))) { /* Q1, pairs with Q2 */
        return (struct weft_waiter *)word;
    }
    return lock_slow(queue);
}

void weft_waitq_unlock(struct weft_waitq *queue, struct weft_waiter *tail)
{
    a_store(&queue->word, (uintptr_t)tail, RELEASE); /* Q2, pairs with Q1; the last access to the object */
}

void weft_waitq_link(struct weft_waiter **tail, struct weft_waiter *waiter)
{
    if (*tail) {
        waiter->next = (*tail)->next;
        waiter->previous = *tail;
        waiter->next->previous = waiter;
        (*tail)->next = waiter;
    } else {
        waiter->next = waiter->previous = waiter;
    }
    waiter->linked = true;
    *tail = waiter;
}

void weft_waitq_link_first(struct weft_waiter **tail, struct weft_waiter *waiter)
{
    struct weft_waiter *newest = *tail;
    weft_waitq_link(tail, waiter); /* the ring is the same; only the end is another */
    *tail = newest ? newest : waiter;
}

void weft_waitq_unlink(struct weft_waiter **tail, struct weft_waiter *waiter)
{
    weft_assert(waiter->linked);
    if (waiter->next == waiter) {
        *tail = NULL;
    } else {
        waiter->next->previous = waiter->previous;
        waiter->previous->next = waiter->next;
        if (*tail == waiter) {
            *tail = waiter->previous;
        }
    }
    waiter->linked = false;
}

void weft_slot_ready(struct weft_slot *slot)
{
    if (slot->runtime) {
        weft_sched_ready(weft_container_of(slot, struct weft_fiber, slot));
    } else {
        a_store(&slot->go, 1u, RELEASE);
        os_futex_wake(&slot->go, 1);
    }
}

/* Q3: moves the wait of `waiter` from ARMED or PARKED to WOKEN, if it is still that wait. */
static bool claim(struct weft_waiter *waiter, bool *parked)
{
    struct weft_slot *slot = waiter->slot;
    uint64_t word = a_load(&slot->claim, RELAXED);
    for (;;) {
        unsigned state = weft_claim_state(word);
        if (weft_claim_epoch(word) != waiter->epoch || (state != WEFT_CLAIM_ARMED && state != WEFT_CLAIM_PARKED)) {
            return false;
        }
        *parked = state == WEFT_CLAIM_PARKED;
        uint64_t woken = weft_claim_make(waiter->epoch, WEFT_CLAIM_WOKEN | (*parked ? 0 : WEFT_CLAIM_EARLY));
        if (a_cas(&slot->claim, &word, woken, SEQ_CST, RELAXED)) { /* Q3, pairs with W4 */
            return true;
        }
    }
}

bool weft_waitq_claim(struct weft_waiter **tail, struct weft_waiter *waiter, void *value, struct weft_waiter **ready)
{
    bool parked;
    weft_waitq_unlink(tail, waiter);
    waiter->value = value;
    waiter->fired = true;
    if (!claim(waiter, &parked)) {
        waiter->fired = false; /* the waiter locks this queue before it returns, so the node is still here */
        return false;
    }
    if (parked) {
        waiter->next = *ready;
        *ready = waiter;
    }
    return true;
}

void weft_waitq_tally(struct weft_waiter **tail, struct weft_waiter *waiter, struct weft_waiter **ready)
{
    bool parked;
    weft_waitq_unlink(tail, waiter);
    waiter->fired = true;
    if (a_sub((_Atomic size_t *)waiter->left, 1u, ACQ_REL) == 1 && claim(waiter, &parked) && parked) {
        waiter->next = *ready;
        *ready = waiter;
    }
}

void weft_waitq_ready(struct weft_waiter *ready)
{
    while (ready) {
        struct weft_waiter *next = ready->next; /* its owner sleeps until the next line */
        weft_slot_ready(ready->slot);
        ready = next;
    }
}

void weft_waitq_wake_one(struct weft_waitq *queue)
{
    struct weft_waiter *tail = weft_waitq_lock(queue), *ready = NULL;
    while (tail && !weft_waitq_claim(&tail, tail->next, NULL, &ready)) {
    }
    weft_waitq_unlock(queue, tail);
    weft_waitq_ready(ready);
}

void weft_waitq_wake_all(struct weft_waitq *queue)
{
    struct weft_waiter *tail = weft_waitq_lock(queue), *ready = NULL;
    while (tail) {
        (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
    }
    weft_waitq_unlock(queue, NULL);
    weft_waitq_ready(ready);
}
