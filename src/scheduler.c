#include "scheduler.h"

#include <stdlib.h>

/* How long a worker that has run dry searches before it sleeps (design: one searcher somewhat over 1 ms, others 50 us; bench/bench_region.c
 * prints the regions that chose it). The simulator's spins are tiny. */
#ifdef WEFT_SIM
#define SEARCH_LONG_US 0
#define SEARCH_SHORT_US 0
#define DEQUE_CAPACITY 2
#else
#define SEARCH_LONG_US 1100
#define SEARCH_SHORT_US 50
#define DEQUE_CAPACITY 256
#endif
#define SPARE_MAX 16u /* runners kept by a worker; more go to the runtime's pool, where others find them */

/* ---- queues ---- */

static void push_fiber(struct weft_worker *worker, struct weft_fiber *fiber)
{
    struct weft_runtime *runtime = fiber->slot.runtime;
    if (!worker || worker->runtime != runtime || !weft_deque_push(&worker->ready, fiber)) {
        weft_injector_push(&runtime->fibers_in, &fiber->node);
    }
    weft_idle_notify(runtime);
}

void weft_sched_push_many(struct weft_runtime *runtime, struct weft_task *task)
{
    struct weft_worker *worker = weft_worker_self();
    if (!worker || worker->runtime != runtime || !weft_deque_push(&worker->tasks, task)) {
        weft_injector_push(&runtime->tasks_in, runtime->task_node(task));
    }
}

void weft_sched_push(struct weft_runtime *runtime, struct weft_task *task)
{
    weft_sched_push_many(runtime, task);
    weft_idle_notify(runtime);
}

void weft_sched_ready(struct weft_fiber *fiber)
{
    struct weft_runtime *runtime = fiber->slot.runtime;
    struct weft_worker *worker = weft_worker_self();
    weft_count_on(runtime, worker, resumed, 1);
    push_fiber(worker, fiber);
}

static struct weft_fiber *pop_injected_fiber(struct weft_runtime *runtime)
{
    struct weft_injector_node *node = weft_injector_pop(&runtime->fibers_in);
    return node ? weft_container_of(node, struct weft_fiber, node) : NULL;
}

static struct weft_task *pop_injected_task(struct weft_runtime *runtime)
{
    struct weft_injector_node *node = weft_injector_pop(&runtime->tasks_in);
    return node ? runtime->node_task(node) : NULL;
}

/* ---- spare runners ---- */

static void unstarve(struct weft_runtime *runtime)
{
    if (weft_unlikely(a_load(&runtime->starved, SEQ_CST)) && a_swap(&runtime->starved, 0u, SEQ_CST)) {
        weft_idle_notify(runtime); /* tasks that waited for a stack may start */
    }
}

static void keep_spare(struct weft_worker *worker, struct weft_fiber *fiber)
{
    if (worker->spare_count < worker->runtime->spare_max &&
        (worker->spare_count == 0 || !a_load(&worker->runtime->starved, RELAXED))) {
        fiber->node.next = worker->spare ? &worker->spare->node : NULL;
        worker->spare = fiber;
        worker->spare_count++;
    } else {
        weft_fiber_put(fiber);
    }
    unstarve(worker->runtime);
}

static struct weft_fiber *take_spare(struct weft_worker *worker)
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
    unstarve(runtime);
    return true;
}

/* S1: may this worker start a task? */
static bool may_start(struct weft_worker *worker)
{
    if (weft_likely(worker->spare != NULL)) {
        return true;
    }
    struct weft_fiber *fiber = weft_fiber_get(&worker->runtime->runners);
    if (!fiber) {
        a_store(&worker->runtime->starved, 1u, SEQ_CST);
        fiber = weft_fiber_get(&worker->runtime->runners); /* one that was put before whoever put it could see `starved` */
    }
    if (fiber) {
        keep_spare(worker, fiber);
    }
    return fiber != NULL;
}

/* ---- switching ---- */

/* On the fiber that has gained control: the one that was left may now be published. */
static void arrived(void)
{
    struct weft_worker *worker = weft_worker_here();
    struct weft_fiber *left = worker->left;
    void (*after)(struct weft_worker *, struct weft_fiber *) = worker->after;
    worker->left = NULL;
    if (after) {
        after(worker, left);
    }
}

static void switch_to(struct weft_worker *worker, struct weft_fiber *to, void (*after)(struct weft_worker *, struct weft_fiber *))
{
    struct weft_fiber *me = worker->current;
    worker->left = me;
    worker->after = after;
    worker->current = to;
    worker->thread.slot = &to->slot;
    a_count(&worker->counters.switches, 1);
    weft_fiber_check(me);
    weft_context_switch(&me->context, &to->context);
    arrived();
}

static void after_spare(struct weft_worker *worker, struct weft_fiber *left) { keep_spare(worker, left); }

static void after_yield(struct weft_worker *worker, struct weft_fiber *left) { push_fiber(worker, left); }

/* A fiber of its own size has run its task. */
static void after_end(struct weft_worker *worker, struct weft_fiber *left)
{
    weft_fiber_rewind(left);
    weft_fiber_put(left);
    unstarve(worker->runtime);
}

/* Counts a turn. True if the next choice must not be the nearest fiber: others are due. */
static bool turn(struct weft_worker *worker)
{
    worker->since_timers++;
    worker->since_fair++;
    return worker->since_timers >= WEFT_TURNS_TIMER || worker->since_fair >= WEFT_TURNS_FAIR;
}

static void look_at_timers(struct weft_worker *worker)
{
    if (weft_unlikely(worker->since_timers >= WEFT_TURNS_TIMER)) {
        worker->since_timers = 0;
        weft_sched_expire(worker);
    }
}

/* The next ready fiber of the own FIFO, unless this turn belongs to the others; else a runner, which looks everywhere. */
static struct weft_fiber *successor(struct weft_worker *worker)
{
    if (!turn(worker)) {
        struct weft_fiber *fiber = weft_deque_steal(&worker->ready);
        if (fiber) {
            return fiber;
        }
    }
    return take_spare(worker);
}

void weft_sched_suspend(void (*commit)(struct weft_worker *worker, struct weft_fiber *left))
{
    struct weft_worker *worker = weft_worker_here();
    a_count(&worker->counters.blocked, 1);
    switch_to(worker, successor(worker), commit);
}

bool weft_sched_others_wait(void)
{
    struct weft_worker *worker = weft_worker_here();
    struct weft_runtime *runtime = worker->runtime;
    weft_sched_expire(worker);
    return !weft_deque_empty(&worker->ready) || !weft_deque_empty(&worker->tasks) || weft_injector_count(&runtime->fibers_in) > 0 ||
           weft_injector_count(&runtime->tasks_in) > 0;
}

void weft_sched_yield(void)
{
    struct weft_worker *worker = weft_worker_here();
    struct weft_runtime *runtime = worker->runtime;
    struct weft_fiber *next = NULL;
    if (!turn(worker)) {
        next = weft_deque_steal(&worker->ready);
    }
    look_at_timers(worker);
    if (!next && weft_deque_empty(&worker->ready) && weft_deque_empty(&worker->tasks) &&
        weft_injector_count(&runtime->fibers_in) == 0 && weft_injector_count(&runtime->tasks_in) == 0) {
        return;
    }
    worker->tasks_first = !next;
    switch_to(worker, next ? next : take_spare(worker), after_yield);
}

/* ---- finding work ---- */

enum found { FOUND_NOTHING, FOUND_FIBER, FOUND_TASK };

struct work {
    enum found found;
    struct weft_fiber *fiber;
    struct weft_task *task;
};

static inline bool got_fiber(struct work *work, struct weft_fiber *fiber)
{
    *work = (struct work){ .found = fiber ? FOUND_FIBER : FOUND_NOTHING, .fiber = fiber };
    return fiber != NULL;
}

static inline bool got_task(struct work *work, struct weft_task *task)
{
    *work = (struct work){ .found = task ? FOUND_TASK : FOUND_NOTHING, .task = task };
    return task != NULL;
}

static bool find_injected(struct weft_worker *worker, bool tasks_too, struct work *work)
{
    return got_fiber(work, pop_injected_fiber(worker->runtime)) ||
           (tasks_too && got_task(work, pop_injected_task(worker->runtime)));
}

static bool find_own(struct weft_worker *worker, bool tasks_too, struct work *work)
{
    if (worker->since_fair >= WEFT_TURNS_FAIR) {
        worker->since_fair = 0;
        if (find_injected(worker, tasks_too, work) || (tasks_too && got_task(work, weft_deque_steal(&worker->tasks)))) {
            return true;
        }
    }
    if (worker->tasks_first) {
        worker->tasks_first = false;
        if (tasks_too && got_task(work, weft_deque_take(&worker->tasks))) {
            return true;
        }
    }
    return got_fiber(work, weft_deque_steal(&worker->ready)) || (tasks_too && got_task(work, weft_deque_take(&worker->tasks))) ||
           find_injected(worker, tasks_too, work);
}

static uint64_t next_random(struct weft_worker *worker) /* xorshift64, Marsaglia 2003: picks victims */
{
    uint64_t x = worker->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return worker->random = x;
}

static bool find_stolen(struct weft_worker *worker, bool tasks_too, struct work *work)
{
    struct weft_runtime *runtime = worker->runtime;
    unsigned n = runtime->worker_count, first = (unsigned)(next_random(worker) % n);
    for (unsigned i = 0; i < n; i++) {
        struct weft_worker *victim = runtime->workers[(first + i) % n];
        if (victim != worker && (got_fiber(work, weft_deque_steal(&victim->ready)) ||
                                 (tasks_too && got_task(work, weft_deque_steal(&victim->tasks))))) {
            a_count(&worker->counters.stolen, 1);
            return true;
        }
    }
    return false;
}

/* I4: everything that this worker could run, seen by anybody's push before it. A worker without a spare sees no tasks. */
static bool has_work(struct weft_worker *worker)
{
    struct weft_runtime *runtime = worker->runtime;
    bool tasks_too = may_start(worker);
    if (weft_injector_count(&runtime->fibers_in) > 0 || (tasks_too && weft_injector_count(&runtime->tasks_in) > 0)) {
        return true;
    }
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        struct weft_worker *other = runtime->workers[i];
        if (!weft_deque_empty(&other->ready) || (tasks_too && !weft_deque_empty(&other->tasks))) {
            return true;
        }
    }
    return false;
}

/* Searches until there is work or the runtime stops. */
static bool search(struct weft_worker *worker, struct work *work)
{
    struct weft_runtime *runtime = worker->runtime;
    weft_idle_search_begin(worker);
    for (;;) {
        bool first = weft_idle_searching(a_load(&runtime->idle.word, RELAXED)) == 1;
        uint64_t spin = os_cycles_per_us() * (first ? SEARCH_LONG_US : SEARCH_SHORT_US), begin = weft_cpu_cycles();
        unsigned look = 0;
        do {
            if (a_load(&runtime->stop, SEQ_CST)) {
                weft_idle_search_end(worker);
                return false;
            }
            bool tasks_too = may_start(worker);
            if (look++ % 16 == 0) {
                weft_sched_expire(worker); /* of all heaps: their owners may be busy for long */
            }
            if (find_own(worker, tasks_too, work) || find_stolen(worker, tasks_too, work)) {
                weft_idle_search_end(worker);
                return true;
            }
            weft_spin_pause();
        } while (weft_cpu_cycles() - begin < spin);
        weft_idle_park(worker, has_work);
        weft_sched_expire(worker);
    }
}

static bool find_work(struct weft_worker *worker, struct work *work)
{
    (void)turn(worker);
    look_at_timers(worker);
    return find_own(worker, may_start(worker), work) || search(worker, work);
}

/* ---- runners ---- */

static void keep_fp(void)
{
    struct weft_cpu_fp fp = weft_cpu_fp_default();
    if (weft_unlikely(!weft_cpu_fp_equal(weft_cpu_fp_read(), fp))) {
        weft_cpu_fp_write(fp); /* a task's rounding mode is its own (H10) */
    }
}

static void runner(void *arg)
{
    (void)arg;
    arrived();
    for (;;) {
        struct weft_worker *worker = weft_worker_here();
        struct work work;
        if (!find_work(worker, &work)) {
            struct weft_fiber *me = worker->current;
            worker->left = me;
            worker->after = after_spare;
            worker->current = NULL;
            weft_context_switch(&me->context, &worker->root);
            arrived();
        } else if (work.found == FOUND_FIBER) {
            switch_to(worker, work.fiber, after_spare);
        } else {
            worker->runtime->run(worker, work.task);
            keep_fp();
        }
    }
}

void weft_sched_enter(struct weft_worker *worker, struct weft_fiber *to) { switch_to(worker, to, after_spare); }

/* Entry of a fiber of its own size. */
static void single(void *arg)
{
    struct weft_fiber *me = arg;
    arrived();
    struct weft_worker *worker = weft_worker_here();
    worker->runtime->run(worker, me->only);
    worker = weft_worker_here();
    switch_to(worker, take_spare(worker), after_end);
}

/* ---- timers ---- */

void weft_sched_arm(struct weft_runtime *runtime, struct weft_timer *timer, int64_t deadline_ns)
{
    struct weft_worker *worker = weft_worker_self();
    struct weft_timer_heap *heap = worker && worker->runtime == runtime ? &worker->timers : &runtime->timers;
    if (weft_timer_arm(heap, timer, deadline_ns)) {
        weft_idle_deadline(runtime, deadline_ns);
    }
}

static void expire_heap(struct weft_runtime *runtime, struct weft_timer_heap *heap, int64_t now)
{
    if (a_load(&heap->earliest, RELAXED) > now) {
        return;
    }
    struct weft_expired expired = { 0 };
    expired.deferred_end = &expired.deferred;
    int64_t late = weft_timer_expire(heap, now, &expired);
    int64_t worst = a_load(&runtime->timer_late_max, RELAXED);
    while (late > worst && !a_cas(&runtime->timer_late_max, &worst, late, RELAXED, RELAXED)) {
    }
    while (expired.fibers) {
        struct weft_fiber *fiber = weft_container_of(expired.fibers, struct weft_fiber, node);
        expired.fibers = expired.fibers->next;
        weft_sched_ready(fiber);
    }
    while (expired.deferred) {
        struct weft_deferred *deferred = expired.deferred;
        expired.deferred = deferred->next;
        deferred->run(deferred);
    }
}

void weft_sched_expire(struct weft_worker *worker)
{
    struct weft_runtime *runtime = worker->runtime;
    int64_t now = -1;
    for (unsigned i = 0; i <= runtime->worker_count; i++) {
        struct weft_timer_heap *heap = i < runtime->worker_count ? &runtime->workers[i]->timers : &runtime->timers;
        if (a_load(&heap->earliest, RELAXED) != OS_FOREVER) {
            now = now < 0 ? os_now() : now;
            expire_heap(runtime, heap, now);
        }
    }
}

/* ---- life of the workers ---- */

struct weft_fiber_pool *weft_sched_pool(struct weft_runtime *runtime, size_t stack_bytes, size_t guard_bytes)
{
    weft_lock(&runtime->pools_lock);
    struct weft_fiber_pool *pool = runtime->pools;
    while (pool && !weft_fiber_pool_fits(pool, stack_bytes, guard_bytes)) {
        pool = pool->next;
    }
    if (!pool && (pool = malloc(sizeof *pool)) != NULL) {
        if (weft_fiber_pool_init(pool, runtime, stack_bytes, guard_bytes, single, &runtime->fibers_live, runtime->fibers_max) ==
            0) {
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
    int rc = weft_fiber_pool_init(&runtime->runners, runtime, stack_bytes, guard_bytes, runner, &runtime->fibers_live, fibers_max);
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
            weft_fiber_put(take_spare(worker));
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
