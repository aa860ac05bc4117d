/* Events. The word of the queue is all there is: the mark says that the event is set, and then nobody waits. So the store or the swap
 * that sets it is the setter's last access, and who sees it set may let go of its memory. */
#include "wait.h"

#include <weft.h>

struct event {
    struct weft_waitq queue;
    uint64_t unused;
} __attribute__((may_alias));

_Static_assert(sizeof(struct event) == sizeof(struct weft_event), "the public size");

#define SET ((struct weft_waiter *)WEFT_WAITQ_MARK)

static struct event *event_of(const struct weft_event *event) { return (struct event *)(uintptr_t)event; }

void weft_event_set(struct weft_event *public)
{
    struct event *event = event_of(public);
    uintptr_t word = 0;
    while (word == 0 || word == WEFT_WAITQ_MARK) {                                 /* nobody waits, nobody is inside */
        if (a_cas(&event->queue.word, &word, WEFT_WAITQ_MARK, ACQ_REL, RELAXED)) { /* pairs with is_set */
            return;
        }
    }
    struct weft_waiter *ready = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&event->queue);
    while (tail && !weft_waitq_marked(tail)) {
        (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
    }
    weft_waitq_unlock(&event->queue, SET);
    weft_waitq_ready(ready);
}

void weft_event_clear(struct weft_event *public)
{
    struct event *event = event_of(public);
    uintptr_t word = WEFT_WAITQ_MARK;
    if (a_cas(&event->queue.word, &word, (uintptr_t)0, ACQ_REL, RELAXED) || word == 0) {
        return;
    }
    struct weft_waiter *tail = weft_waitq_lock(&event->queue);
    weft_waitq_unlock(&event->queue, weft_waitq_marked(tail) ? NULL : tail);
}

bool weft_event_is_set(const struct weft_event *event)
{
    return (a_load(&event_of(event)->queue.word, ACQUIRE) & WEFT_WAITQ_MARK) != 0; /* pairs with what set it */
}

static bool is_set(void *event) { return weft_event_is_set(event); }

int weft_event_wait(struct weft_event *event, int64_t deadline)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_slot *slot;
    int rc = weft_wait_enter(&wait, &slot);
    if (rc != 0 || weft_event_is_set(event)) {
        return rc;
    }
    return weft_wait_until(&event_of(event)->queue, is_set, event, &wait);
}
