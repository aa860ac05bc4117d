/* A work-stealing deque of pointers: Chase and Lev (SPAA 2005) with the C11 orders of Lê, Pop, Cohen and Zappa Nardelli (PPoPP
 * 2013), their two fences replaced by seq_cst accesses to top and bottom themselves (atomic.h says why), and their faults mended:
 * indices are signed and 64 bits wide, the array is reloaded after growing, a thief acquires it (H03, H04).
 *
 * The owner pushes and takes at the bottom, any thread steals at the top; the owner may steal too, which makes a FIFO of it.
 * Invariant: top <= bottom + 1; entries are [top, bottom); an entry is given out once. Old arrays live until fini.
 * The initial capacity is a power of two. The simulator starts with 2. */
#ifndef WEFT_DEQUE_H
#define WEFT_DEQUE_H

#include "atomic.h"

struct weft_deque_array;

struct weft_deque {
    _Atomic int64_t top; /* thieves */
    char apart0[WEFT_APART_BYTES - sizeof(int64_t)];
    _Atomic int64_t bottom; /* owner (H06: 128 bytes from top) */
    _Atomic(struct weft_deque_array *) array;
    struct weft_deque_array *retired; /* owner: arrays outgrown */
    bool alone;                       /* there are no thieves */
    char apart1[WEFT_APART_BYTES - sizeof(int64_t) - 2 * sizeof(void *) - sizeof(uint64_t)];
};

int weft_deque_init(struct weft_deque *deque, size_t capacity); /* 0 or -ENOMEM */
/* Right after init: nobody but the owner will ever touch it (a runtime of one worker), so its ends need no order: each exchange or
 * compare-and-swap saved is 6 to 8 ns of a task's 60 (bench/bench_spawn.c). */
void weft_deque_alone(struct weft_deque *deque);
void weft_deque_fini(struct weft_deque *deque); /* nobody else may still touch it */
/* Owner. False if it was full and could not grow: nothing has changed. The entry and all that was written before it are visible to
 * whoever gets it; the store to bottom is seq_cst, so that a look at the idle state after it cannot pass it (H01). */
bool weft_deque_push(struct weft_deque *deque, void *entry);
void *weft_deque_take(struct weft_deque *deque); /* owner: the newest entry, or NULL when empty */
/* Any thread: the oldest entry, or NULL when empty. Retries when it loses a race, so NULL means that it was empty at some moment. */
void *weft_deque_steal(struct weft_deque *deque);
/* Any thread. seq_cst loads of both ends: false negatives only where an entry was pushed after the call began. */
bool weft_deque_empty(struct weft_deque *deque);
int64_t weft_deque_size(struct weft_deque *deque); /* any thread, a guess */

#endif
