/* Waiting: the only way to block, to time out and to be woken by a kill.
 *
 * Overview. A wait belongs to a slot and has an epoch. Its word goes IDLE → ARMED → (PARKED) → one reason, and whoever makes the step
 * to the reason owns the wake-up. The protocol is tests/models/wait.pml.
 *
 * | state | says | who may move it |
 * |---|---|---|
 * | IDLE or a reason | nothing waits | the owner: to ARMED, with the next epoch, under the object's lock (W1) |
 * | ARMED | published; the owner still runs or is being left | a waker, the timer, a killer: to their reason, EARLY; the successor: to PARKED |
 * | PARKED | asleep, nobody runs on the stack | a waker, the timer, a killer: to their reason, and they make it ready |
 *
 *   1. Waiter: lock the object's queue; if the predicate holds, unlock and return: nothing was published. Else W1: store ARMED, link a
 *      node, unlock; arm the timer; let go of the stack.
 *   2. Successor, on its own stack: W2: swap ARMED for PARKED. If that fails, a reason has come: make the waiter ready. Else W3: load
 *      the scope's word; if a kill is pending, swap PARKED for KILLED and make it ready.
 *   3. Waker, under the queue's lock: unlink the node, write value and fired, W4: swap to WOKEN; unlock; if it was PARKED, make it
 *      ready. If the swap fails, try the next waiter.
 *   4. The waiter, woken: stop the timer (after that nobody fires it); unlink the node under the lock if it was not popped.
 *
 * Why no wake is lost: the predicate is tested and the node linked under one lock, which every waker takes after changing the
 * predicate. Why none comes twice: one step to a reason per epoch. Why a kill is not missed (H22): either the killer's request
 * precedes the successor's load W3 in the order of seq_cst accesses, which then sees it; or W2 precedes the killer's look at the claim
 * word, which then sees PARKED. Why nobody enters a stack that is still being left (H14): only a claim of PARKED makes ready, and W2
 * runs after the jump.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | W1 | store ARMED before the node is linked | Q3 | a waker claims the wait before |
 * | W2 | seq_cst swap ARMED → PARKED | X1 (scope.h), Q3 | kill missed; fiber made ready twice |
 * | W3 | seq_cst load of the scope's word | X1 | kill missed |
 * | W4 | = Q3 | W5 | value not seen |
 * | W5 | acquire load of the claim on return | W4 | the same |
 *
 * A foreign thread does the same with a futex, `go`, in place of the jump; it is its own successor. */
#ifndef WEFT_WAIT_H
#define WEFT_WAIT_H

#include "scope.h"

#define WEFT_WAIT_NOW INT64_C(0)

struct weft_wait {
    int64_t deadline;    /* WEFT_WAIT_NOW, a time, or OS_FOREVER */
    bool cancellable;    /* a cancellation point, checked on entry too unless the deadline is NOW */
    const void *awaited; /* work that is waited for (task, group, map, imap): the caller's pool slots are lent to it meanwhile */
    struct weft_task *const *tasks; /* the same, of several tasks */
    size_t n_tasks;
};

/* Waits until `done(arg)`, which is called under the queue's lock, or until a waker claims the wait. 0; -ETIMEDOUT; -ECANCELED (kill
 * delivered); -EPERM in a raw link; -ENOMEM. What was waited for wins over kill and timeout, kill wins over timeout (E5). */
int weft_wait_until(struct weft_waitq *queue, bool (*done)(void *arg), void *arg, const struct weft_wait *wait);

/* The parts of that, for objects that change under the lock when somebody comes or goes. `enter` gives the caller's slot: 0, or -ENOMEM,
 * -EPERM, -ECANCELED. `refused`, under the lock, when what is waited for is not there: -ECANCELED (the kill is delivered by this),
 * -ETIMEDOUT, or 0: sleep (again). Then `link`, unlock the queue, and `sleep`. True: it was woken, and does not hold the lock. False: a
 * kill or the deadline ended the sleep; the waiter is unlinked, and the lock is held again, with its tail in *tail. */
int weft_wait_enter(const struct weft_wait *wait, struct weft_slot **slot);
int weft_wait_refused(struct weft_slot *slot, const struct weft_wait *wait, bool slept);
void weft_wait_link(struct weft_waiter **tail, struct weft_waiter *waiter, bool first);
bool weft_wait_sleep(struct weft_waitq *queue, struct weft_waiter **tail, struct weft_waiter *waiter, const struct weft_wait *wait);

/* The parts of these, for waits on several queues and for queues with a hand-over. `begin`: under the lock of the first queue; gives the epoch
 * for the nodes. `end`: suspends; returns the reason, after which the caller unlinks its nodes. */
uint64_t weft_wait_begin(struct weft_slot *slot);
unsigned weft_wait_end(struct weft_slot *slot, const struct weft_wait *wait); /* WEFT_CLAIM_*, with WEFT_CLAIM_EARLY */
/* A wait that was published but need not sleep: as if it had been woken. */
void weft_wait_abandon(struct weft_slot *slot);

/* What the membership layer does around a sleep that waits for work (loans): it calls `sleep(slot, wait)` in between. Set once, before
 * any runtime exists. */
typedef void weft_wait_lender(struct weft_slot *slot, const struct weft_wait *wait,
                              void (*sleep)(struct weft_slot *slot, const struct weft_wait *wait));
void weft_wait_set_lender(weft_wait_lender *lender);

/* `suspend` leaves the fiber; errno and the exceptions in flight are those of before when it comes back (H08, H13). */
void weft_fiber_suspend_kept(void (*suspend)(void));

/* Calls `block` of every frame that the code inside is about to stop, and `resume`. */
void weft_frames_block(struct weft_slot *slot);
void weft_frames_resume(struct weft_slot *slot);

#endif
