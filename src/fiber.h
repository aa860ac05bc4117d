/* A fiber: where tasks run. A stack, the context on it, a slot to wait with; and the pools that keep fibers for reuse.
 *
 * The block lies at the top of its own stack, so a blocked task costs one page and nothing beside it:
 *
 *     low                                                          top
 *     | ... frames grow down  <--- | struct weft_fiber | colour * 64 |
 *
 * The colour keeps the hot tops of many stacks apart in L1. Fibers of the default size are *runners*: they run task after task on
 * their own stack, and one becomes a task's fiber only while that task is blocked. A fiber of another size runs one task.
 *
 * `get` and `put`: any thread. A pool (one per runtime and stack size) keeps what is put, up to 2 * WEFT_FIBERS_KEPT; then half of
 * them, and all when the runtime ends, lose their memory and go to a shelf that the whole process shares, for the next to take.
 * Live fibers of a runtime never exceed its max_fibers. */
#ifndef WEFT_FIBER_H
#define WEFT_FIBER_H

#include "context.h"
#include "injector.h"
#include "thread.h"

#define WEFT_FIBERS_KEPT 4096u /* 16 MiB of top pages; giving one back and touching it anew costs more than 2 us */

struct weft_fiber_pool;
struct weft_fiber_shelf;

struct weft_fiber {
    struct weft_slot slot;
    struct weft_injector_node node; /* in an injector, or in a list of free or expired fibers */
    struct weft_context context;
    struct weft_stack stack;
    struct weft_fiber_pool *pool;
    struct weft_task *only; /* fiber of its own size: the task it is for */
};

struct weft_fiber_pool {
    struct weft_lock lock;
    struct weft_fiber_shelf *shelf;
    struct weft_fiber *free; /* linked by node */
    size_t free_count;
    bool hoarding;                /* nothing goes to the shelf any more */
    struct weft_fiber_pool *next; /* of the same runtime */
    void (*entry)(void *fiber);
    struct weft_runtime *runtime;
    _Atomic size_t *live; /* the runtime's fibers, over all pools */
    size_t live_max;
};

/* 0 or -ENOMEM. */
int weft_fiber_pool_init(struct weft_fiber_pool *pool, struct weft_runtime *runtime, size_t stack_bytes, size_t guard_bytes,
                         void (*entry)(void *fiber), _Atomic size_t *live, size_t live_max);
void weft_fiber_pool_fini(struct weft_fiber_pool *pool); /* its fibers are all free */
bool weft_fiber_pool_fits(const struct weft_fiber_pool *pool, size_t stack_bytes, size_t guard_bytes);
struct weft_fiber *weft_fiber_get(struct weft_fiber_pool *pool); /* NULL: no memory, or max_fibers live */
void weft_fiber_put(struct weft_fiber *fiber);
void weft_fiber_rewind(struct weft_fiber *fiber);       /* nobody runs on it: it will start at its entry again */
size_t weft_fiber_stack_bytes(void);                    /* address space of all stacks of the process */
void weft_fiber_hold(bool hold);                        /* around fork: no other thread is inside */
void weft_fiber_broken(const struct weft_fiber *fiber); /* ends the process if the canary of its stack is broken */
static inline void weft_fiber_check(const struct weft_fiber *fiber)
{
    if (weft_unlikely(fiber->stack.guard_mode == OS_GUARD_NONE)) {
        weft_fiber_broken(fiber);
    }
}

#endif
