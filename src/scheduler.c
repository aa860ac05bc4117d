#include "scheduler.h"

#include "spare.h"

/* How long a worker that has run dry searches before it sleeps (design: one searcher somewhat over 1 ms, others 50 us; bench/bench_region.c
 * prints the regions that chose it). The simulator's spins are tiny. */
#ifdef WEFT_SIM
#define SEARCH_LONG_US 0
#define SEARCH_SHORT_US 0
#else
#define SEARCH_LONG_US 1100
#define SEARCH_SHORT_US 50
#endif

/* ---- queues ---- */

/* Who is no worker of the runtime counts itself as work of it while it pushes and wakes: else what it has pushed might run, and be the
 * last, and the runtime end, before it has woken anybody (S5). True: to be ended. */
static bool begin_push(struct weft_runtime *runtime, const struct weft_worker *worker)
{
    bool foreign = weft_unlikely(!worker || worker->runtime != runtime);
    if (foreign) {
        a_add(&runtime->foreign.begun, 1u, RELAXED);
        a_add(&runtime->foreign.queued, 1u, SEQ_CST); /* what it pushes is counted already, or blocked: it has not ended */
    }
    return foreign;
}

static void end_push(struct weft_runtime *runtime, bool foreign)
{
    void (*look)(struct weft_runtime *) = runtime->on_idle; /* after `ended` it may serve as another runtime */
    weft_idle_notify(runtime);
    if (foreign) {
        a_add(&runtime->foreign.ended, 1u, SEQ_CST);
        look(runtime);
    }
}

static void push_fiber(struct weft_worker *worker, struct weft_fiber *fiber)
{
    struct weft_runtime *runtime = fiber->slot.runtime;
    bool foreign = begin_push(runtime, worker);
    if (foreign || !weft_deque_push(&worker->ready, fiber)) {
        weft_injector_push(&runtime->fibers_in, &fiber->node);
    }
    end_push(runtime, foreign);
}

void weft_sched_push(struct weft_runtime *runtime, struct weft_task *task)
{
    struct weft_worker *worker = weft_worker_self();
    bool foreign = begin_push(runtime, worker);
    if (foreign || !weft_deque_push(&worker->tasks, task)) {
        weft_injector_push(&runtime->tasks_in, runtime->task_node(task));
    }
    end_push(runtime, foreign);
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

static void after_spare(struct weft_worker *worker, struct weft_fiber *left) { weft_spare_keep(worker, left); }

static void after_yield(struct weft_worker *worker, struct weft_fiber *left) { push_fiber(worker, left); }

/* A fiber of its own size has run its task. */
static void after_end(struct weft_worker *worker, struct weft_fiber *left)
{
    weft_fiber_rewind(left);
    weft_fiber_put(left);
    weft_spare_returned(worker->runtime);
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
    return weft_spare_take(worker);
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
    switch_to(worker, next ? next : weft_spare_take(worker), after_yield);
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
    bool tasks_too = weft_spare_ensure(worker);
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
            bool tasks_too = weft_spare_ensure(worker);
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
    return find_own(worker, weft_spare_ensure(worker), work) || search(worker, work);
}

/* ---- runners ---- */

static void keep_fp(void)
{
    struct weft_cpu_fp fp = weft_cpu_fp_default();
    if (weft_unlikely(!weft_cpu_fp_equal(weft_cpu_fp_read(), fp))) {
        weft_cpu_fp_write(fp); /* a task's rounding mode is its own (H10) */
    }
}

void weft_sched_runner(void *arg)
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
void weft_sched_single(void *arg)
{
    struct weft_fiber *me = arg;
    arrived();
    struct weft_worker *worker = weft_worker_here();
    worker->runtime->run(worker, me->only);
    worker = weft_worker_here();
    switch_to(worker, weft_spare_take(worker), after_end);
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
