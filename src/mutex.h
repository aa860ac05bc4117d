/* A mutex: owner and two flags in one word, who waits in a queue beside it.
 *
 * owner = the slot of who holds it, or 0 | WAITERS | WOKEN. Uncontended, lock and unlock are one compare-and-swap each.
 *
 *   WAITERS  somebody is in the queue, or is about to be: set under the queue's lock, before the look at the owner (N1), by who wants to
 *            wait; cleared under it by who finds the queue empty.
 *   WOKEN    one waiter was woken and has not tried yet: no unlock wakes another.
 *
 * Barging is bounded: who unlocks wakes the oldest waiter and lets go; others may be faster than the woken one, which then goes to the
 * front of the queue again, and says so if it has waited for BARGING_NS: the next unlock hands the mutex over to it.
 *
 * No wake is lost: N1 and the step of unlock that clears the owner are read-modify-writes of one variable. Either the waiter sees no
 * owner, and tries; or the unlock sees WAITERS, and goes to the queue, under whose lock the waiter is linked by then. A woken waiter
 * that leaves (killed, late) clears WOKEN first: if there is an owner then, its unlock wakes the next; if there is none, it tries.
 *
 * The step that clears or hands over the owner is unlock's last access: after it another may lock, unlock and let go of the memory. *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | N1 | acq_rel or of WAITERS, under the queue's lock | N2 | a waiter sleeps while it is free |
 * | N2 | release swap that clears or hands over the owner | N1, N3 | the same; what was done under the mutex is not seen |
 * | N3 | acquire swap that takes it, or load that finds it given | N2 | the same |
 * | N4 | acq_rel and of WOKEN, by a woken waiter that was too slow | N2 | a wake is kept by somebody who sleeps again | */
#ifndef WEFT_MUTEX_H
#define WEFT_MUTEX_H

#include "wait.h"

#include <weft.h>

/* For cond: the caller holds it; and gets it back, whatever it takes. */
bool weft_mutex_is_mine(const struct weft_mutex *mutex, const struct weft_slot *slot);
void weft_mutex_relock(struct weft_mutex *mutex);

#endif
