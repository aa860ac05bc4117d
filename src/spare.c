#include "spare.h"

void weft_spare_returned(struct weft_runtime *runtime)
{
    if (weft_unlikely(a_load(&runtime->starved, SEQ_CST)) && a_swap(&runtime->starved, 0u, SEQ_CST)) {
        weft_idle_notify(runtime); /* tasks that waited for a stack may start */
    }
}

void weft_spare_keep(struct weft_worker *worker, struct weft_fiber *fiber)
{
    if (worker->spare_count < worker->runtime->spare_max &&
        (worker->spare_count == 0 || !a_load(&worker->runtime->starved, RELAXED))) {
        fiber->node.next = worker->spare ? &worker->spare->node : NULL;
        worker->spare = fiber;
        worker->spare_count++;
    } else {
        weft_fiber_put(fiber);
    }
    weft_spare_returned(worker->runtime);
}

struct weft_fiber *weft_spare_take(struct weft_worker *worker)
{
    struct weft_fiber *fiber = worker->spare;
    weft_assert(fiber);
    worker->spare = fiber->node.next ? weft_container_of(fiber->node.next, struct weft_fiber, node) : NULL;
    worker->spare_count--;
    return fiber;
}

bool weft_sched_stacks_left(struct weft_runtime *runtime)
{
    struct weft_fiber *fiber = weft_fiber_get(&runtime->runners);
    if (!fiber) {
        return false;
    }
    weft_fiber_put(fiber);
    weft_spare_returned(runtime);
    return true;
}

bool weft_spare_ensure(struct weft_worker *worker)
{
    if (weft_likely(worker->spare != NULL)) {
        return true;
    }
    struct weft_fiber *fiber = weft_fiber_get(&worker->runtime->runners);
    if (!fiber) {
        a_store(&worker->runtime->starved, 1u, SEQ_CST);   /* before the look at `live` (fiber.c) */
        fiber = weft_fiber_get(&worker->runtime->runners); /* one that was put before whoever put it could see `starved` */
    }
    if (fiber) {
        weft_spare_keep(worker, fiber);
    }
    return fiber != NULL;
}
