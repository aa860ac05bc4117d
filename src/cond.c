/* Condition variables: a queue. The waiter is linked before it lets go of the mutex, so who changes the condition under the mutex and
 * signals afterwards finds it. A signal goes to the oldest waiter that nothing else has ended; a wait that a kill or its deadline has
 * ended takes none. */
#include "mutex.h"

struct cond {
    struct weft_waitq queue;
    uint64_t unused;
} __attribute__((may_alias));

_Static_assert(sizeof(struct cond) == sizeof(struct weft_cond), "the public size");

int weft_cond_wait(struct weft_cond *public, struct weft_mutex *mutex, int64_t deadline)
{
    struct cond *cond = (struct cond *)public;
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_slot *slot;
    int rc = weft_wait_enter(&wait, &slot);
    if (rc == 0 && !weft_mutex_is_mine(mutex, slot)) {
        rc = -EPERM;
    }
    if (rc != 0) {
        return rc;
    }
    bool released = false;
    struct weft_waiter waiter = { .slot = slot };
    struct weft_waiter *tail = weft_waitq_lock(&cond->queue);
    while ((rc = weft_wait_refused(slot, &wait, released)) == 0) {
        weft_wait_link(&tail, &waiter, released);
        weft_waitq_unlock(&cond->queue, tail);
        if (!released) {
            weft_mutex_unlock(mutex);
            released = true;
        }
        if (weft_wait_sleep(&cond->queue, &tail, &waiter, &wait)) {
            weft_mutex_relock(mutex);
            return 0;
        }
    }
    weft_waitq_unlock(&cond->queue, tail);
    if (released) {
        weft_mutex_relock(mutex);
    }
    return rc;
}

void weft_cond_signal(struct weft_cond *cond) { weft_waitq_wake_one(&((struct cond *)cond)->queue); }

void weft_cond_broadcast(struct weft_cond *cond) { weft_waitq_wake_all(&((struct cond *)cond)->queue); }
