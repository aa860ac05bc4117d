/* Reservations, guards and canaries; stack.h has the memory map.
 *
 * A guard is installed when its stack is carved, outside the lock: the pages of stacks that nobody asked for stay untouched. The
 * number of mprotect guards is one count for the whole process, because vm.max_map_count is one limit for the whole process. */
#include "stack.h"

#include <string.h>

#define FIRST_SLAB_STACKS 16u
#define MOST_SLAB_STACKS 1024u
#define TOP_ALIGN ((uintptr_t)64)

/* A guard in the middle of a mapping adds two to the count: itself, and the other half. */
#define MAPPINGS_PER_GUARD 2u

static _Atomic int strongest_mode = OS_GUARD_MADVISE;
static _Atomic int weakest_used = OS_GUARD_MADVISE;
static _Atomic size_t mprotect_limit; /* in guards; 0: not yet known */
static _Atomic size_t mprotect_count;

static size_t pages(size_t bytes)
{
    size_t page = os_page_size();
    return (bytes + page - 1) / page * page;
}

void weft_stack_class_init(struct weft_stack_class *cls, size_t size_bytes, size_t guard_bytes)
{
    weft_assert(size_bytes <= SIZE_MAX / 4 && guard_bytes <= SIZE_MAX / 4);
    *cls = (struct weft_stack_class){
        .size_bytes = pages(size_bytes < WEFT_STACK_MIN_BYTES ? WEFT_STACK_MIN_BYTES : size_bytes),
        .guard_bytes = pages(guard_bytes),
        .slab_stacks = FIRST_SLAB_STACKS,
    };
}

/* Address space for the next stacks; with little of it left (RLIMIT_AS), for fewer. Under the lock. */
static bool reserve(struct weft_stack_class *cls)
{
    size_t stride = cls->guard_bytes + cls->size_bytes;
    for (size_t stacks = cls->slab_stacks; stacks > 0; stacks /= 2) {
        if (stacks > SIZE_MAX / stride) {
            continue;
        }
        char *base = os_map(stacks * stride);
        if (base != NULL) {
            cls->next = base;
            cls->end = base + stacks * stride;
            cls->slab_stacks = stacks * 2 < MOST_SLAB_STACKS ? stacks * 2 : MOST_SLAB_STACKS;
            (void)a_add(&cls->reserved_bytes, stacks * stride, RELAXED);
            return true;
        }
    }
    return false;
}

static size_t most_mprotect_guards(void)
{
    size_t limit = a_load(&mprotect_limit, RELAXED);
    if (limit == 0) {
        limit = os_max_mappings() / 2 / MAPPINGS_PER_GUARD;
        a_store(&mprotect_limit, limit, RELAXED);
    }
    return limit;
}

static enum os_guard install_guard(char *base, size_t guard_bytes)
{
    if (guard_bytes == 0) {
        return OS_GUARD_NONE;
    }
    int strongest = a_load(&strongest_mode, RELAXED);
    if (strongest <= OS_GUARD_MADVISE && os_guard_madvise(base, guard_bytes)) {
        return OS_GUARD_MADVISE;
    }
    if (strongest <= OS_GUARD_MPROTECT) {
        if (a_add(&mprotect_count, 1u, RELAXED) < most_mprotect_guards() && os_guard_mprotect(base, guard_bytes)) {
            return OS_GUARD_MPROTECT;
        }
        (void)a_sub(&mprotect_count, 1u, RELAXED);
    }
    return OS_GUARD_NONE;
}

static char *lowest_usable(const struct weft_stack *stack) { return stack->base + stack->guard_bytes; }

static void note_mode(enum os_guard mode)
{
    int weakest = a_load(&weakest_used, RELAXED);
    while (weakest < (int)mode && !a_cas(&weakest_used, &weakest, (int)mode, RELAXED, RELAXED)) {
    }
}

int weft_stack_carve(struct weft_stack_class *cls, struct weft_stack *stack)
{
    weft_lock(&cls->lock);
    bool lowest = cls->next == cls->end;
    if (lowest && !reserve(cls)) {
        weft_unlock(&cls->lock);
        return -ENOMEM;
    }
    char *base = cls->next;
    cls->next += cls->guard_bytes + cls->size_bytes;
    unsigned colour = cls->carved++ % WEFT_STACK_COLOURS;
    weft_unlock(&cls->lock);

    *stack = (struct weft_stack){
        .base = base,
        .top = base + cls->guard_bytes + cls->size_bytes,
        .size_bytes = cls->size_bytes,
        .guard_bytes = cls->guard_bytes,
        .colour = colour,
        .lowest = lowest,
        .guard_mode = install_guard(base, cls->guard_bytes),
    };
    weft_assert((uintptr_t)stack->top % TOP_ALIGN == 0);
    if (stack->guard_mode == OS_GUARD_NONE) {
        uint64_t canary = WEFT_STACK_CANARY;
        memcpy(lowest_usable(stack), &canary, sizeof(canary));
    }
    note_mode(stack->guard_mode);
    return 0;
}

void weft_stack_trim(const struct weft_stack *stack)
{
    char *from = lowest_usable(stack);
    if (stack->guard_mode == OS_GUARD_NONE) {
        size_t kept = os_page_size(); /* the canary's page; zeroed, as the rest is */
        memset(from + sizeof(uint64_t), 0, kept - sizeof(uint64_t));
        from += kept;
    }
    os_discard(from, (size_t)(stack->top - from));
}

void weft_stack_trim_run(const struct weft_stack *stacks, size_t count)
{
    const struct weft_stack *last = &stacks[count - 1];
    if (stacks->guard_mode == OS_GUARD_NONE || last->guard_mode == OS_GUARD_NONE) {
        for (size_t i = 0; i < count; i++) {
            weft_stack_trim(&stacks[i]);
        }
    } else {
        os_discard(stacks->base, (size_t)(last->top - stacks->base)); /* guards stay guards */
    }
}

bool weft_stack_is_overflow(const struct weft_stack *stack, const void *address)
{
    uintptr_t fault = (uintptr_t)address;
    uintptr_t base = (uintptr_t)stack->base;
    if (fault >= base && fault - base < stack->guard_bytes) {
        return true;
    }
    /* A frame that jumped our guard and the stack below it lands in that one's guard. Nearer memory does not fault. */
    uintptr_t below = base - (stack->guard_bytes + stack->size_bytes);
    return !stack->lowest && fault >= below && fault - below < stack->guard_bytes;
}

bool weft_stack_canary_whole(const struct weft_stack *stack)
{
    if (stack->guard_mode != OS_GUARD_NONE) {
        return true;
    }
    uint64_t found;
    memcpy(&found, lowest_usable(stack), sizeof(found));
    return found == WEFT_STACK_CANARY;
}

void weft_stack_limit_guards(enum os_guard strongest, size_t mprotect_guards)
{
    a_store(&strongest_mode, (int)strongest, RELAXED);
    a_store(&mprotect_limit, mprotect_guards == SIZE_MAX ? 0 : mprotect_guards, RELAXED);
}

const char *weft_stack_guard_mode(void)
{
    switch (a_load(&weakest_used, RELAXED)) {
    case OS_GUARD_MADVISE: return "madvise";
    case OS_GUARD_MPROTECT: return "mprotect";
    default: return "canary";
    }
}
