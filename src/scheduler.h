/* The scheduler: workers, what is ready to run, and how a worker finds it.
 *
 * Each worker is a thread that at any moment runs one fiber. A *runner* fiber loops: take a task and call it on its own stack, or
 * jump to a ready fiber and become spare. A task that suspends leaves its fiber; the worker goes on with a ready fiber if its own
 * FIFO has one (a single jump), else with a spare runner.
 *
 *   S1  A worker starts a task only while it holds a spare runner, so a wait never needs memory (R7).
 *   S2  Work is in exactly one place: a deque, an injector, or running. Entries of the ready queues are fibers, of the task
 *       queues tasks that nobody has started (or tombstones of killed ones).
 *   S3  Whoever made work visible calls weft_idle_notify after it (idle.h); whoever waits for work looks everywhere after saying so.
 *   S4  A fiber is published as ready only after the switch away from it is complete: by code that runs on its successor (H14).
 *   S5  Who is no worker of a runtime and makes work of it visible is counted as work of it until it has notified: the end of the
 *       runtime, which waits until all that was queued has ended, does not come in between.
 *
 * Fairness (H32): of 61 turns one begins with the injectors and the oldest entry of the own task deque; a direct jump counts as a
 * turn. Every 64 turns a worker looks at the timers (H37).
 *
 * Layering: the scheduler knows neither tasks nor waiting. `run` and `on_idle` of the runtime are how the layers above are called. */
#ifndef WEFT_SCHEDULER_H
#define WEFT_SCHEDULER_H

#include "deque.h"
#include "fiber.h"
#include "idle.h"
#include "slab.h"

#define WEFT_TURNS_FAIR 61u
#define WEFT_TURNS_TIMER 64u

enum weft_phase {
    WEFT_PHASE_RUNNING,
    WEFT_PHASE_DRAINING, /* destroy has begun: no foreign spawns */
    WEFT_PHASE_ENDED,    /* no worker is left, but somebody holds a handle */
    WEFT_PHASE_FREE      /* may serve as another runtime */
};

/* Each task is counted once at each station. A worker writes its own; threads that are not workers of this runtime share one set. */
struct weft_counters {
    _Atomic uint64_t spawned, finished, failed, cancelled; /* tasks */
    _Atomic uint64_t queued, begun,
        ended; /* started; claimed by a runner or a killer; ended after a start: ended = queued when none is left */
    _Atomic uint64_t blocked, resumed; /* suspensions */
    _Atomic uint64_t stolen, parks, wakeups, switches, slow_calls;
};

/* What libstdc++ keeps of the exceptions in flight of a thread (Itanium C++ ABI 2.2.2). */
struct weft_cxx_globals {
    void *caught;
    unsigned uncaught;
};

struct weft_worker {
    struct weft_thread thread;
    struct weft_runtime *runtime;
    unsigned index;
    unsigned since_timers, since_fair; /* turns */
    bool tasks_first;                  /* a yield: the next choice is a task, if there is one */
    uint64_t random;

    struct weft_fiber *current;
    struct weft_fiber *spare; /* runners, linked by node */
    unsigned spare_count;
    struct weft_fiber *left; /* the fiber that was left by the switch in progress, and what its successor does for it */
    void (*after)(struct weft_worker *worker, struct weft_fiber *left);
    struct weft_context root; /* the thread's own stack */
    int *errno_location;      /* of this thread */
    struct weft_cxx_globals *cxx_globals;

    struct weft_slab_cache tasks_cache;
    struct weft_counters counters;
    struct weft_timer_heap timers;
    struct weft_idle_worker idle;
    struct os_thread os;
    bool started;
    char apart[WEFT_APART_BYTES];
    struct weft_deque tasks; /* spawned here: LIFO for the owner */
    struct weft_deque ready; /* woken fibers, yields: FIFO for all */
};

/* Work that a timer found due, to be done when its heap is unlocked. */
struct weft_deferred {
    struct weft_deferred *next;
    void (*run)(struct weft_deferred *deferred);
};

struct weft_expired {
    struct weft_injector_node *fibers;
    struct weft_deferred *deferred, **deferred_end;
};

struct weft_runtime {
    _Atomic uint32_t phase;
    _Atomic uint32_t stop; /* workers leave */
    uint32_t fork_generation;
    unsigned worker_count;
    struct weft_worker **workers;
    struct weft_idle idle;
    struct weft_injector fibers_in, tasks_in;
    struct weft_timer_heap timers; /* armed by threads that are not workers */
    struct weft_counters foreign;
    _Atomic int64_t timer_late_max;

    struct weft_fiber_pool runners;
    struct weft_lock pools_lock;
    struct weft_fiber_pool *pools; /* of other stack sizes */
    _Atomic size_t fibers_live;
    size_t fibers_max, guard_bytes;
    unsigned spare_max;       /* runners that a worker keeps */
    _Atomic uint32_t starved; /* a worker wanted a spare runner and got none: spawn says -ENOMEM */

    void (*run)(struct weft_worker *worker,
                struct weft_task *task);           /* calls a task that nobody has started; worker is stale after it */
    void (*on_idle)(struct weft_runtime *runtime); /* a worker has found nothing to do */
    struct weft_injector_node *(*task_node)(struct weft_task *task);
    struct weft_task *(*node_task)(struct weft_injector_node *node);
    void (*worker_start)(unsigned index, void *context), (*worker_stop)(unsigned index, void *context);
    void *worker_context;
};

#define weft_count_on(runtime, worker, field, n)                       \
    do {                                                               \
        if (weft_likely((worker) && (worker)->runtime == (runtime))) { \
            a_count(&(worker)->counters.field, (uint64_t)(n));         \
        } else {                                                       \
            a_add(&(runtime)->foreign.field, (uint64_t)(n), RELAXED);  \
        }                                                              \
    } while (0)

/* Initialises the parts above that belong to the scheduler; `worker_count` workers get memory, no thread runs. 0 or -ENOMEM. */
int weft_sched_init(struct weft_runtime *runtime, unsigned worker_count, size_t stack_bytes, size_t guard_bytes, size_t fibers_max);
void weft_sched_fini(struct weft_runtime *runtime); /* all workers have left, or none was started */
/* The pools of other sizes, when nobody holds anything of the runtime: a record that was never published may have a fiber of one. */
void weft_sched_fini_pools(struct weft_runtime *runtime);
int weft_sched_start(struct weft_runtime *runtime, const char *name); /* starts as many threads as it gets; 0 or a negative errno */
void weft_sched_hold(bool hold);                                      /* around fork: no other thread is inside */
void weft_sched_stop(struct weft_runtime *runtime);                   /* wakes all and joins them; foreign thread only */

/* Any thread: puts a started task where workers find it. Cannot fail. */
void weft_sched_push(struct weft_runtime *runtime, struct weft_task *task);
/* Any thread: the fiber was suspended and its wait is claimed; it will run. Its memory is not touched after. */
void weft_sched_ready(struct weft_fiber *fiber);

/* On a fiber: leaves it. `commit(fiber)` runs on the successor and makes it findable. Returns when it was made ready. */
void weft_sched_suspend(void (*commit)(struct weft_worker *worker, struct weft_fiber *left));
void weft_sched_yield(void);
bool weft_sched_others_wait(void); /* on a worker: something stands in its own queues, or in the runtime's */
/* On a runner: goes on in `to`, a fiber of its own size that has a task; this one is spare. */
void weft_sched_enter(struct weft_worker *worker, struct weft_fiber *to);

/* Entries of fibers, for whoever makes pools of them: runners, and those of a size of their own. */
void weft_sched_runner(void *arg);
void weft_sched_single(void *arg);

/* Arms `timer` where the calling thread arms, and sees to it that somebody sleeps no longer than until then. */
void weft_sched_arm(struct weft_runtime *runtime, struct weft_timer *timer, int64_t deadline_ns);
/* Worker: runs what is due. */
void weft_sched_expire(struct weft_worker *worker);

bool weft_sched_stacks_left(struct weft_runtime *runtime); /* a runner could be had, at this moment */
/* The pool for fibers of this size, made at its first use. NULL: no memory. */
struct weft_fiber_pool *weft_sched_pool(struct weft_runtime *runtime, size_t stack_bytes, size_t guard_bytes);
/* True when as many tasks have ended as were started. */
bool weft_sched_quiescent(struct weft_runtime *runtime);
uint64_t weft_sched_sum(struct weft_runtime *runtime, size_t counter_offset);

#endif
