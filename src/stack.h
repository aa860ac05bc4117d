/* Stacks: guarded, cut from large reservations, kept for reuse.
 *
 * A `stack_class` serves stacks of one size and guard. The memory of one stack, low to high address:
 *
 *     base                      base + guard                                   base + guard + size
 *     | guard: faults on touch  | usable, grows down  <----------------- top   |
 *
 * The guard stands below. The default guard is large (128 KiB) so that a function with a big frame, compiled without
 * -fstack-clash-protection, still lands in it (H17); address space is what it costs, and 8 bytes of page table a page.
 *
 * Reservations are never unmapped while the process lives (a late killer may still read a claim word in a stack's top page); what
 * goes back to the system is the memory in them. Guard modes, tried in this order: MADV_GUARD_INSTALL (no mapping per stack),
 * mprotect as long as the process stays below half of vm.max_map_count (H15), then none: a canary word at the lowest usable
 * address, checked when a fiber leaves its stack.
 *
 * Any thread; one lock per class. Failure to get memory is NULL, nothing else changes (H16). */
#ifndef WEFT_STACK_H
#define WEFT_STACK_H

#include "lock.h"

struct weft_stack {
    char *base;         /* lowest address of the guard */
    char *top;          /* one past the highest usable byte, 64-byte aligned */
    size_t size_bytes;  /* usable */
    size_t guard_bytes; /* below it */
    unsigned colour;    /* 0 … WEFT_STACK_COLOURS - 1: spread the tops over L1's sets */
    bool lowest;        /* of its reservation: the memory below is not ours */
    enum os_guard guard_mode;
};

#define WEFT_STACK_COLOURS 16
#define WEFT_STACK_MIN_BYTES ((size_t)16 * 1024)
#define WEFT_STACK_CANARY UINT64_C(0x7765667463616e61)

struct weft_stack_class {
    struct weft_lock lock;
    size_t size_bytes, guard_bytes; /* page multiples; fixed at init */
    char *next, *end;               /* what is left of the newest reservation */
    size_t slab_stacks;             /* stacks in the next reservation: doubles from 16 up to 1024 */
    unsigned carved;
    _Atomic size_t reserved_bytes; /* address space of all reservations */
};

/* Rounds up to pages; size_bytes below WEFT_STACK_MIN_BYTES is raised to it. */
void weft_stack_class_init(struct weft_stack_class *cls, size_t size_bytes, size_t guard_bytes);
/* A new stack: never one that was used before (fibers are reused, with their stack, by fiber.c). 0 or -ENOMEM. */
int weft_stack_carve(struct weft_stack_class *cls, struct weft_stack *stack);
/* Gives the stack's memory back to the system; the stack stays usable, its content is zero. */
void weft_stack_trim(const struct weft_stack *stack);
/* The same for neighbours, lowest first, each beginning where the one before ends: one system call. */
void weft_stack_trim_run(const struct weft_stack *stacks, size_t count);
/* True if `address` lies in this stack's guard, or in any guard of a stack beside it that a frame larger than the guard can hit. */
bool weft_stack_is_overflow(const struct weft_stack *stack, const void *address);
/* In mode OS_GUARD_NONE: true while the canary is whole. Always true in the others. */
bool weft_stack_canary_whole(const struct weft_stack *stack);
/* For tests: from now on no mode stronger than `strongest`, and at most so many mprotect guards (SIZE_MAX: what the system allows). */
void weft_stack_limit_guards(enum os_guard strongest, size_t mprotect_guards);
/* "madvise", "mprotect" or "canary": the weakest mode in use in this process. */
const char *weft_stack_guard_mode(void);

#endif
