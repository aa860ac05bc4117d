#include "fiber.h"

#include "overflow.h"

#include <stdlib.h>
#include <string.h>

/* Stacks of one size without memory, for any runtime. Shelves are few and live as long as the process. */
struct weft_fiber_shelf {
    struct weft_stack_class stacks;
    struct weft_lock lock;
    struct weft_stack *cold; /* no fiber block stands on these */
    size_t cold_count, cold_capacity;
    struct weft_fiber_shelf *next;
};

static struct weft_lock shelves_lock;
static struct weft_fiber_shelf *shelves;

static struct weft_fiber_shelf *shelf_find(size_t stack_bytes, size_t guard_bytes)
{
    struct weft_stack_class wanted = { 0 };
    weft_stack_class_init(&wanted, stack_bytes, guard_bytes);
    weft_lock(&shelves_lock);
    struct weft_fiber_shelf *shelf = shelves;
    while (shelf && (shelf->stacks.size_bytes != wanted.size_bytes || shelf->stacks.guard_bytes != wanted.guard_bytes)) {
        shelf = shelf->next;
    }
    if (!shelf && (shelf = calloc(1, sizeof *shelf)) != NULL) {
        shelf->stacks = wanted;
        shelf->next = shelves;
        shelves = shelf;
    }
    weft_unlock(&shelves_lock);
    return shelf;
}

size_t weft_fiber_stack_bytes(void)
{
    size_t bytes = 0;
    weft_lock(&shelves_lock);
    for (struct weft_fiber_shelf *shelf = shelves; shelf; shelf = shelf->next) {
        bytes += a_load(&shelf->stacks.reserved_bytes, RELAXED);
    }
    weft_unlock(&shelves_lock);
    return bytes;
}

void weft_fiber_hold(bool hold)
{
    if (hold) {
        weft_lock(&shelves_lock);
    }
    for (struct weft_fiber_shelf *shelf = shelves; shelf; shelf = shelf->next) {
        (hold ? weft_lock : weft_unlock)(&shelf->lock);
        (hold ? weft_lock : weft_unlock)(&shelf->stacks.lock);
    }
    if (!hold) {
        weft_unlock(&shelves_lock);
    }
}

static int shelf_take(struct weft_fiber_shelf *shelf, struct weft_stack *stack)
{
    weft_lock(&shelf->lock);
    bool found = shelf->cold_count > 0;
    if (found) {
        *stack = shelf->cold[--shelf->cold_count];
    }
    weft_unlock(&shelf->lock);
    return found ? 0 : weft_stack_carve(&shelf->stacks, stack);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct weft_stack *)a)->base, y = (uintptr_t)((const struct weft_stack *)b)->base;
    return (x > y) - (x < y);
}

/* Under the lock. */
static bool shelf_grow(struct weft_fiber_shelf *shelf, size_t more)
{
    size_t wanted = shelf->cold_count + more;
    if (wanted > shelf->cold_capacity) {
        wanted = wanted > shelf->cold_capacity * 2 ? wanted : shelf->cold_capacity * 2;
        struct weft_stack *cold = realloc(shelf->cold, wanted * sizeof *cold);
        if (!cold) {
            return false;
        }
        shelf->cold = cold;
        shelf->cold_capacity = wanted;
    }
    return true;
}

/* Takes the memory of a list of free fibers away, neighbours in one system call (one each costs 20 times as much). A late killer may
 * still look at such a slot: it finds zeros, and at worst wakes a wait for nothing, which wait.h allows for. False: no memory to
 * remember them in. */
static bool shelf_put(struct weft_fiber_shelf *shelf, struct weft_injector_node *list, size_t count)
{
    weft_lock(&shelf->lock);
    bool grown = shelf_grow(shelf, count);
    if (grown) {
        struct weft_stack *first = shelf->cold + shelf->cold_count;
        for (size_t i = 0; i < count; i++) {
            struct weft_fiber *fiber = weft_container_of(list, struct weft_fiber, node);
            list = list->next;
            weft_context_fini(&fiber->context);
            first[i] = fiber->stack;
        }
        qsort(first, count, sizeof *first, by_address);
        for (size_t i = 0, run; i < count; i = run) {
            char *end = first[i].base + first[i].guard_bytes + first[i].size_bytes;
            for (run = i + 1; run < count && first[run].base == end; run++) {
                end = first[run].base + first[run].guard_bytes + first[run].size_bytes;
            }
            weft_stack_trim_run(&first[i], run - i);
        }
        shelf->cold_count += count;
    }
    weft_unlock(&shelf->lock);
    return grown;
}

/* The block of a fiber lies below the colour at the top of its stack. */
static struct weft_fiber *block_of(const struct weft_stack *stack)
{
    uintptr_t top = (uintptr_t)stack->top - (uintptr_t)stack->colour * WEFT_LINE_BYTES;
    return (struct weft_fiber *)((top - sizeof(struct weft_fiber)) & ~(uintptr_t)(WEFT_LINE_BYTES - 1));
}

/* Between two lives a block keeps what names it; the first life begins from zeroed memory. */
static void prepare(struct weft_fiber *fiber)
{
    char *low = fiber->stack.base + fiber->stack.guard_bytes;
    weft_context_init(&fiber->context, low, (char *)fiber, fiber->pool->entry, fiber);
}

static struct weft_fiber *build(struct weft_fiber_pool *pool, const struct weft_stack *stack)
{
    struct weft_fiber *fiber = block_of(stack);
    weft_slot_reset(&fiber->slot);
    fiber->slot.runtime = pool->runtime;
    fiber->stack = *stack;
    fiber->pool = pool;
    fiber->only = NULL;
    prepare(fiber);
    return fiber;
}

int weft_fiber_pool_init(struct weft_fiber_pool *pool, struct weft_runtime *runtime, size_t stack_bytes, size_t guard_bytes,
                         void (*entry)(void *fiber), _Atomic size_t *live, size_t live_max)
{
    *pool = (struct weft_fiber_pool){ .runtime = runtime, .entry = entry, .live = live, .live_max = live_max };
    pool->shelf = shelf_find(stack_bytes, guard_bytes);
    return pool->shelf ? 0 : -ENOMEM;
}

bool weft_fiber_pool_fits(const struct weft_fiber_pool *pool, size_t stack_bytes, size_t guard_bytes)
{
    struct weft_stack_class wanted = { 0 };
    weft_stack_class_init(&wanted, stack_bytes, guard_bytes);
    return wanted.size_bytes == pool->shelf->stacks.size_bytes && wanted.guard_bytes == pool->shelf->stacks.guard_bytes;
}

static struct weft_fiber *pop_free(struct weft_fiber_pool *pool)
{
    struct weft_fiber *fiber = pool->free;
    if (fiber) {
        pool->free = fiber->node.next ? weft_container_of(fiber->node.next, struct weft_fiber, node) : NULL;
        pool->free_count--;
    }
    return fiber;
}

static void push_free(struct weft_fiber_pool *pool, struct weft_fiber *fiber)
{
    fiber->node.next = pool->free ? &pool->free->node : NULL;
    pool->free = fiber;
    pool->free_count++;
}

/* One more live fiber, if that is allowed. */
static bool admit(struct weft_fiber_pool *pool)
{
    size_t live = a_load(pool->live, SEQ_CST); /* pairs with put: after the store of `starved` (spare.h) */
    while (live < pool->live_max) {
        if (a_cas(pool->live, &live, live + 1, SEQ_CST, SEQ_CST)) {
            return true;
        }
    }
    return false;
}

struct weft_fiber *weft_fiber_get(struct weft_fiber_pool *pool)
{
    if (!admit(pool)) {
        return NULL;
    }
    weft_lock(&pool->lock);
    struct weft_fiber *fiber = pop_free(pool);
    weft_unlock(&pool->lock);
    struct weft_stack stack;
    if (!fiber && shelf_take(pool->shelf, &stack) == 0) {
        fiber = build(pool, &stack);
    }
    if (!fiber) {
        a_sub(pool->live, 1u, RELAXED);
    }
    return fiber;
}

void weft_fiber_rewind(struct weft_fiber *fiber)
{
    weft_context_fini(&fiber->context);
    prepare(fiber);
}

void weft_fiber_put(struct weft_fiber *fiber)
{
    struct weft_fiber_pool *pool = fiber->pool;
    struct weft_injector_node *surplus = NULL;
    weft_lock(&pool->lock);
    push_free(pool, fiber);
    if (pool->free_count >= 2 * WEFT_FIBERS_KEPT && !pool->hoarding) {
        struct weft_injector_node **end = &surplus;
        for (size_t i = 0; i < WEFT_FIBERS_KEPT; i++) {
            struct weft_fiber *cold = pop_free(pool);
            *end = &cold->node;
            end = &cold->node.next;
        }
        *end = NULL;
    }
    weft_unlock(&pool->lock);
    if (surplus && !shelf_put(pool->shelf, surplus, WEFT_FIBERS_KEPT)) {
        weft_lock(&pool->lock);
        pool->hoarding = true; /* no memory to put them aside: keep them all from now on */
        while (surplus) {
            struct weft_fiber *kept = weft_container_of(surplus, struct weft_fiber, node);
            surplus = surplus->next;
            push_free(pool, kept);
        }
        weft_unlock(&pool->lock);
    }
    a_sub(pool->live, 1u, SEQ_CST); /* pairs with admit: before the load of `starved` (spare.h) */
}

/* Without memory to remember them in, the stacks stay lost until the process ends. */
void weft_fiber_pool_fini(struct weft_fiber_pool *pool)
{
    if (pool->free && !shelf_put(pool->shelf, &pool->free->node, pool->free_count)) {
        return;
    }
    pool->free = NULL;
    pool->free_count = 0;
}

void weft_fiber_broken(const struct weft_fiber *fiber)
{
    if (weft_unlikely(!weft_stack_canary_whole(&fiber->stack))) {
        weft_overflow_die(
            &(struct weft_overflow){ .stack_size_bytes = fiber->stack.size_bytes, .from_task_option = fiber->only != NULL });
    }
}
