/* Semaphores. While nobody waits the word of the queue is a mark with the count in it; while somebody waits the count is 0. A permit that
 * is released goes to the oldest waiter, under the lock: so none is lost when that one is being killed, and nobody overtakes. The store
 * or the swap that publishes a permit is the releaser's last access. */
#include "wait.h"

#include <weft.h>

struct semaphore {
    struct weft_waitq queue;
    uint64_t unused;
} __attribute__((may_alias));

_Static_assert(sizeof(struct semaphore) == sizeof(struct weft_semaphore), "the public size");

enum { COUNT_SHIFT = 2 };

static struct semaphore *semaphore_of(struct weft_semaphore *semaphore) { return (struct semaphore *)semaphore; }

static uintptr_t mark(uintptr_t count) { return count << COUNT_SHIFT | WEFT_WAITQ_MARK; }

/* Nobody waits and nobody is inside: then `count` is what the word says. */
static bool at_rest(uintptr_t word, uintptr_t *count)
{
    *count = word >> COUNT_SHIFT;
    return word == 0 || (word & 3u) == WEFT_WAITQ_MARK;
}

/* Under the lock: takes a mark for what it says, and leaves a tail. */
static uintptr_t count_in(struct weft_waiter **tail)
{
    uintptr_t count = 0;
    if (weft_waitq_marked(*tail)) {
        count = (uintptr_t)*tail >> COUNT_SHIFT;
        *tail = NULL;
    }
    return count;
}

void weft_semaphore_init(struct weft_semaphore *public, uint32_t count)
{
    struct semaphore *semaphore = semaphore_of(public);
    semaphore->unused = 0;
    a_store(&semaphore->queue.word, mark(count), RELAXED);
}

int weft_semaphore_acquire(struct weft_semaphore *public, int64_t deadline)
{
    struct semaphore *semaphore = semaphore_of(public);
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_slot *slot;
    int rc = weft_wait_enter(&wait, &slot);
    if (rc != 0) {
        return rc;
    }
    uintptr_t word = a_load(&semaphore->queue.word, RELAXED), count;
    while (at_rest(word, &count) && count > 0) {
        if (a_cas(&semaphore->queue.word, &word, mark(count - 1), ACQUIRE, RELAXED)) { /* pairs with the release */
            return 0;
        }
    }
    struct weft_waiter *tail = weft_waitq_lock(&semaphore->queue);
    for (bool slept = false;; slept = true) {
        count = count_in(&tail);
        if (count > 0) {
            weft_waitq_unlock(&semaphore->queue, (struct weft_waiter *)mark(count - 1));
            return 0;
        }
        if ((rc = weft_wait_refused(slot, &wait, slept)) != 0) {
            weft_waitq_unlock(&semaphore->queue, tail);
            return rc;
        }
        struct weft_waiter waiter = { .slot = slot };
        weft_wait_link(&tail, &waiter, false);
        weft_waitq_unlock(&semaphore->queue, tail);
        if (weft_wait_sleep(&semaphore->queue, &tail, &waiter, &wait)) {
            return 0;
        }
    }
}

void weft_semaphore_release(struct weft_semaphore *public, uint32_t n)
{
    struct semaphore *semaphore = semaphore_of(public);
    uintptr_t word = a_load(&semaphore->queue.word, RELAXED), count;
    while (at_rest(word, &count)) {
        if (a_cas(&semaphore->queue.word, &word, mark(count + n), RELEASE, RELAXED)) {
            return;
        }
    }
    struct weft_waiter *ready = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&semaphore->queue);
    uintptr_t left = count_in(&tail) + n;
    while (left > 0 && tail) {
        left -= weft_waitq_claim(&tail, tail->next, NULL, &ready);
    }
    weft_waitq_unlock(&semaphore->queue, tail ? tail : (struct weft_waiter *)mark(left));
    weft_waitq_ready(ready);
}
