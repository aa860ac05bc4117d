#include "mutex.h"

#define WAITERS ((uintptr_t)1)
#define WOKEN ((uintptr_t)2)
#define FLAGS (WAITERS | WOKEN)
#define BARGING_NS INT64_C(1000000)
#ifdef WEFT_SIM
#define SPINS 1u
#else
#define SPINS 100u
#endif

struct mutex {
    struct weft_waitq queue;
    _Atomic uintptr_t owner;
} __attribute__((may_alias));

_Static_assert(sizeof(struct mutex) == sizeof(struct weft_mutex), "the public size");
_Static_assert(_Alignof(struct weft_slot) > FLAGS, "the flags fit below a slot's address");

/* How one waits: the queue's waiter first. */
struct locker {
    struct weft_waiter waiter;
    bool starved; /* it is to be given the mutex */
    bool given;
};

static struct mutex *mutex_of(const struct weft_mutex *mutex) { return (struct mutex *)(uintptr_t)mutex; }

bool weft_mutex_is_mine(const struct weft_mutex *mutex, const struct weft_slot *slot)
{
    return (a_load(&mutex_of(mutex)->owner, RELAXED) & ~FLAGS) == (uintptr_t)slot;
}

/* Free at this moment: takes it, and clears `flags`. */
static bool try_lock(struct mutex *mutex, struct weft_slot *slot, uintptr_t flags)
{
    uintptr_t word = a_load(&mutex->owner, RELAXED);
    while ((word & ~FLAGS) == 0) {
        if (a_cas(&mutex->owner, &word, (uintptr_t)slot | (word & ~flags), ACQUIRE, RELAXED)) { /* N3, pairs with N2 */
            return true;
        }
    }
    return false;
}

static void note_empty(struct mutex *mutex, const struct weft_waiter *tail)
{
    if (!tail) {
        a_and(&mutex->owner, ~WAITERS, RELAXED);
    }
}

/* It was woken, not given the mutex. True: it has it now. */
static bool try_woken(struct mutex *mutex, struct weft_slot *slot)
{
    if (try_lock(mutex, slot, WOKEN)) {
        return true;
    }
    a_and(&mutex->owner, ~WOKEN, ACQ_REL); /* N4, pairs with N2 */
    return try_lock(mutex, slot, 0);
}

static int lock_slow(struct mutex *mutex, struct weft_slot *slot, const struct weft_wait *wait)
{
    struct locker me = { .waiter = { .slot = slot } };
    int64_t since = os_now();
    bool oldest = false; /* it was woken, and was too slow */
    struct weft_waiter *tail = weft_waitq_lock(&mutex->queue);
    for (bool slept = false;; slept = true) {
        a_or(&mutex->owner, WAITERS, ACQ_REL); /* N1, pairs with N2 */
        bool taken = try_lock(mutex, slot, 0);
        int rc = taken ? 0 : weft_wait_refused(slot, wait, slept);
        if (taken || rc != 0) {
            note_empty(mutex, tail);
            weft_waitq_unlock(&mutex->queue, tail);
            return rc;
        }
        me.given = false;
        weft_wait_link(&tail, &me.waiter, oldest);
        weft_waitq_unlock(&mutex->queue, tail);
        if (!weft_wait_sleep(&mutex->queue, &tail, &me.waiter, wait)) {
            continue;
        }
        if (me.given) {
            for (unsigned round = 0; !weft_mutex_is_mine((struct weft_mutex *)mutex, slot); round++) {
                if (round < SPINS) { /* woken before it slept: the hand-over is the next thing that the owner does */
                    weft_spin_pause();
                } else { /* its thread waits for a CPU, perhaps for this one */
                    os_thread_yield();
                }
            }
            a_or(&mutex->owner, (uintptr_t)0, ACQUIRE); /* N3, pairs with N2 */
            return 0;
        }
        if (try_woken(mutex, slot)) {
            return 0;
        }
        oldest = true;
        me.starved = os_now() - since >= BARGING_NS;
        tail = weft_waitq_lock(&mutex->queue);
    }
}

static int lock(struct weft_mutex *public, const struct weft_wait *wait)
{
    struct mutex *mutex = mutex_of(public);
    struct weft_slot *slot;
    int rc = weft_wait_enter(wait, &slot);
    if (rc != 0) {
        return rc;
    }
    uintptr_t word = 0;
    if (weft_likely(a_cas(&mutex->owner, &word, (uintptr_t)slot, ACQUIRE, RELAXED))) { /* N3, pairs with N2 */
        return 0;
    }
    if ((word & ~FLAGS) == (uintptr_t)slot) {
        return -EDEADLK;
    }
    if (wait->deadline == WEFT_WAIT_NOW) {
        return try_lock(mutex, slot, 0) ? 0 : -ETIMEDOUT;
    }
    return lock_slow(mutex, slot, wait);
}

int weft_mutex_lock(struct weft_mutex *mutex, int64_t deadline)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    return lock(mutex, &wait);
}

void weft_mutex_relock(struct weft_mutex *mutex)
{
    struct weft_wait wait = { .deadline = OS_FOREVER };
    int rc = lock(mutex, &wait);
    weft_assert(rc == 0);
    (void)rc;
}

/* The oldest waiter that can be claimed is woken, or given the mutex: `*to`. `ready`: those to be made ready after the last access. */
static void pop(struct mutex *mutex, struct weft_waiter **ready, struct weft_slot **to)
{
    struct weft_waiter *tail = weft_waitq_lock(&mutex->queue);
    bool claimed = false;
    while (tail && !claimed) {
        struct locker *oldest = (struct locker *)tail->next;
        struct weft_slot *slot = oldest->waiter.slot;
        bool give = oldest->given = oldest->starved;
        if (!give) {
            a_or(&mutex->owner, WOKEN, RELAXED); /* before it can try and clear it */
        }
        claimed = weft_waitq_claim(&tail, &oldest->waiter, NULL, ready);
        if (claimed && give) {
            *to = slot;
        } else if (!claimed && !give) {
            a_and(&mutex->owner, ~WOKEN, RELAXED);
        }
    }
    note_empty(mutex, tail);
    weft_waitq_unlock(&mutex->queue, tail);
}

static void unlock_slow(struct mutex *mutex)
{
    struct weft_waiter *ready = NULL;
    struct weft_slot *to = NULL;
    uintptr_t word = a_load(&mutex->owner, RELAXED);
    for (;;) {
        if (!to && (word & WAITERS) && !(word & WOKEN)) {
            pop(mutex, &ready, &to);
            word = a_load(&mutex->owner, RELAXED);
        } else if (a_cas(&mutex->owner, &word, (uintptr_t)to | (word & FLAGS), RELEASE, RELAXED)) { /* N2 */
            weft_waitq_ready(ready);
            return;
        }
    }
}

void weft_mutex_unlock(struct weft_mutex *public)
{
    struct mutex *mutex = mutex_of(public);
    struct weft_slot *slot = weft_slot_self();
    uintptr_t word = (uintptr_t)slot;
    if (weft_likely(slot && a_cas(&mutex->owner, &word, (uintptr_t)0, RELEASE, RELAXED))) { /* N2 */
        return;
    }
    if (!slot || (word & ~FLAGS) != (uintptr_t)slot) {
#ifdef WEFT_DEBUG
        weft_panic("weft_mutex_unlock by who does not hold it");
#endif
        return;
    }
    unlock_slow(mutex);
}
