/* A small lock for short critical sections of the library itself: 4 bytes, spins a little, then sleeps on a futex.
 *
 * Any thread. Never held across a fiber switch, never while user code runs. States: 0 free, 1 held, 2 held and somebody sleeps
 * (Drepper, "Futexes Are Tricky", mutex 3). All zero is free.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | L1 | acquire in lock | L2 | the section reads what the last holder had not yet written |
 * | L2 | release in unlock | L1 | the same | */
#ifndef WEFT_LOCK_H
#define WEFT_LOCK_H

#include "os.h"

struct weft_lock {
    _Atomic uint32_t word;
};

void weft_lock_slow(struct weft_lock *lock);
void weft_unlock_slow(struct weft_lock *lock);

static inline void weft_lock(struct weft_lock *lock)
{
    uint32_t expected = 0;
    if (weft_unlikely(!a_cas(&lock->word, &expected, 1u, ACQUIRE, RELAXED))) { /* L1, pairs with L2 */
        weft_lock_slow(lock);
    }
}

static inline void weft_unlock(struct weft_lock *lock)
{
    if (weft_unlikely(a_swap(&lock->word, 0u, RELEASE) == 2u)) { /* L2, pairs with L1; a swap: it must see a sleeper's 2 */
        weft_unlock_slow(lock);
    }
}

#endif
