/* The slow halves of the lock; lock.h has the states and the table of orders. */
#include "lock.h"

/* About as long as a section of ours lasts on another core; with the holder preempted, spinning longer only burns its core. */
#ifdef WEFT_SIM
#define SPINS 2
#else
#define SPINS 100
#endif

_Static_assert(sizeof(struct weft_lock) == 4, "the lock is a futex word");

void weft_lock_slow(struct weft_lock *lock)
{
    for (int spin = 0; spin < SPINS; spin++) {
        uint32_t seen = a_load(&lock->word, RELAXED);
        if (seen == 0 && a_cas(&lock->word, &seen, 1u, ACQUIRE, RELAXED)) { /* L1, pairs with L2 */
            return;
        }
        if (seen == 2u) {
            break; /* others sleep already: the section is long or its holder does not run */
        }
        weft_spin_pause();
    }
    /* From here on we hold it as 2, because a swap cannot tell whether others sleep: at worst one wake too many. */
    while (a_swap(&lock->word, 2u, ACQUIRE) != 0) { /* L1, pairs with L2 */
        (void)os_futex_wait(&lock->word, 2u, OS_FOREVER);
    }
}

void weft_unlock_slow(struct weft_lock *lock)
{
    /* The word is 0 already, and whoever took it may have let go of its memory: a wake uses the address alone. */
    os_futex_wake(&lock->word, 1);
}
