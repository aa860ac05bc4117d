/* Barriers. All is under the queue's lock. The last to arrive begins the next round and claims whoever waits; one that a kill or its
 * deadline has claimed before sees on its way out that its round is over, and was counted; else it takes its arrival back. */
#include "wait.h"

#include <weft.h>

struct barrier {
    struct weft_waitq queue;
    uint32_t n, arrived;
    uint64_t round;
    uint64_t unused;
} __attribute__((may_alias));

_Static_assert(sizeof(struct barrier) == sizeof(struct weft_barrier), "the public size");

void weft_barrier_init(struct weft_barrier *public, uint32_t n)
{
    struct barrier *barrier = (struct barrier *)public;
    *public = (struct weft_barrier)WEFT_ZERO_INIT;
    barrier->n = n;
}

int weft_barrier_wait(struct weft_barrier *public, int64_t deadline)
{
    struct barrier *barrier = (struct barrier *)public;
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_slot *slot;
    int rc = weft_wait_enter(&wait, &slot);
    if (rc == 0 && barrier->n == 0) {
        rc = -EINVAL;
    }
    if (rc != 0) {
        return rc;
    }
    struct weft_waiter *tail = weft_waitq_lock(&barrier->queue);
    if (barrier->arrived + 1 == barrier->n) {
        struct weft_waiter *ready = NULL;
        barrier->arrived = 0;
        barrier->round++;
        while (tail) {
            (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
        }
        weft_waitq_unlock(&barrier->queue, NULL);
        weft_waitq_ready(ready);
        return 1;
    }
    uint64_t round = barrier->round;
    barrier->arrived++;
    for (bool slept = false; barrier->round == round; slept = true) {
        if ((rc = weft_wait_refused(slot, &wait, slept)) != 0) {
            barrier->arrived--;
            break;
        }
        struct weft_waiter waiter = { .slot = slot };
        weft_wait_link(&tail, &waiter, false);
        weft_waitq_unlock(&barrier->queue, tail);
        if (weft_wait_sleep(&barrier->queue, &tail, &waiter, &wait)) {
            return 0;
        }
    }
    weft_waitq_unlock(&barrier->queue, tail);
    return rc;
}
