/* The workers of a runtime as a whole: their memory, their fibers, their counters added up. */
#include "scheduler.h"
#include "spare.h"

#include <stdlib.h>

#ifdef WEFT_SIM
#define DEQUE_CAPACITY 2
#else
#define DEQUE_CAPACITY 256
#endif
#define SPARE_MAX 16u /* runners kept by a worker; more go to the runtime's pool, where others find them */

static struct weft_slab workers_slab;

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&workers_slab, (sizeof(struct weft_worker) + 63) / 64 * 64, NULL);
}

void weft_sched_hold(bool hold) { (hold ? weft_lock : weft_unlock)(&workers_slab.lock); }

int weft_sched_init(struct weft_runtime *runtime, unsigned worker_count, size_t stack_bytes, size_t guard_bytes, size_t fibers_max)
{
    runtime->worker_count = 0;
    runtime->guard_bytes = guard_bytes;
    runtime->fibers_max = fibers_max;
    /* Nobody hoards what others need: while no task is blocked every worker finds a spare. */
    size_t share = fibers_max / worker_count - 1;
    runtime->spare_max = share < 1 ? 1 : share > SPARE_MAX ? SPARE_MAX : (unsigned)share;
    a_store(&runtime->fibers_live, 0u, RELAXED);
    weft_idle_init(&runtime->idle);
    weft_timer_heap_init(&runtime->timers);
    int rc = weft_fiber_pool_init(&runtime->runners, runtime, stack_bytes, guard_bytes, weft_sched_runner, &runtime->fibers_live,
                                  fibers_max);
    runtime->workers = calloc(worker_count, sizeof *runtime->workers);
    for (unsigned i = 0; rc == 0 && i < worker_count; i++) {
        struct weft_worker *worker = runtime->workers ? weft_slab_alloc(&workers_slab, NULL) : NULL;
        if (!worker) {
            rc = -ENOMEM;
            break;
        }
        *worker = (struct weft_worker){
            .thread.worker = worker, .runtime = runtime, .index = i, .random = 0x9e3779b97f4a7c15u * (i + 1)
        };
        weft_timer_heap_init(&worker->timers);
        runtime->workers[runtime->worker_count++] = worker;
        rc = weft_deque_init(&worker->tasks, DEQUE_CAPACITY);
        if (rc == 0 && (rc = weft_deque_init(&worker->ready, DEQUE_CAPACITY)) != 0) {
            weft_deque_fini(&worker->tasks);
        }
        if (rc == 0 && worker_count == 1) {
            weft_deque_alone(&worker->tasks);
            weft_deque_alone(&worker->ready);
        }
        if (rc != 0) {
            weft_slab_free(&workers_slab, NULL, worker);
            runtime->worker_count--;
        }
    }
    if (rc != 0) {
        weft_sched_fini(runtime);
    }
    return rc;
}

void weft_sched_fini(struct weft_runtime *runtime)
{
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        struct weft_worker *worker = runtime->workers[i];
        while (worker->spare) {
            weft_fiber_put(weft_spare_take(worker));
        }
        weft_deque_fini(&worker->tasks);
        weft_deque_fini(&worker->ready);
        weft_slab_free(&workers_slab, NULL, worker);
    }
    free(runtime->workers);
    runtime->workers = NULL;
    runtime->worker_count = 0;
    if (runtime->runners.shelf) {
        weft_fiber_pool_fini(&runtime->runners);
    }
}

void weft_sched_fini_pools(struct weft_runtime *runtime)
{
    while (runtime->pools) {
        struct weft_fiber_pool *pool = runtime->pools;
        runtime->pools = pool->next;
        weft_fiber_pool_fini(pool);
        free(pool);
    }
}

bool weft_sched_quiescent(struct weft_runtime *runtime)
{
    (void)a_load(&runtime->idle.word, SEQ_CST); /* sees what a worker did before it joined the idle ones (runtime.c) */
    uint64_t ended = a_load(&runtime->foreign.ended, SEQ_CST), queued = 0;
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        ended += a_load(&runtime->workers[i]->counters.ended, SEQ_CST);
    }
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        queued += a_load(&runtime->workers[i]->counters.queued, SEQ_CST);
    }
    queued += a_load(&runtime->foreign.queued, SEQ_CST);
    return ended == queued;
}

uint64_t weft_sched_sum(struct weft_runtime *runtime, size_t counter_offset)
{
    uint64_t sum = a_load((_Atomic uint64_t *)(void *)((char *)&runtime->foreign + counter_offset), RELAXED);
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        sum += a_load((_Atomic uint64_t *)(void *)((char *)&runtime->workers[i]->counters + counter_offset), RELAXED);
    }
    return sum;
}

struct weft_fiber_pool *weft_sched_pool(struct weft_runtime *runtime, size_t stack_bytes, size_t guard_bytes)
{
    weft_lock(&runtime->pools_lock);
    struct weft_fiber_pool *pool = runtime->pools;
    while (pool && !weft_fiber_pool_fits(pool, stack_bytes, guard_bytes)) {
        pool = pool->next;
    }
    if (!pool && (pool = malloc(sizeof *pool)) != NULL) {
        if (weft_fiber_pool_init(pool, runtime, stack_bytes, guard_bytes, weft_sched_single, &runtime->fibers_live,
                                 runtime->fibers_max) == 0) {
            pool->next = runtime->pools;
            runtime->pools = pool;
        } else {
            free(pool);
            pool = NULL;
        }
    }
    weft_unlock(&runtime->pools_lock);
    return pool;
}
