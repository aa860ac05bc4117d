/* What the conformance suite shares. A promise of the contract is a test, named after its row (G7_kill_...); rows.txt lists them, and
 * check_rows compares. A test's body runs once for each combination that it asks for: of how many workers there are, of the size of
 * `pool`, of where the body itself runs (a task, or a foreign thread). After each, the pool has all its slots back and no member, the
 * runtime no task: whatever the promise was about, nothing may be lost by it.
 *
 * What fails says in which combination. What hangs is ended after HANG_S and says so, too. */
#ifndef WEFT_CONTRACT_H
#define WEFT_CONTRACT_H

#include "gate.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum { ONCE = 0, WORKERS = 1, SIZES = 2, PLACES = 4, EVERYWHERE = WORKERS | PLACES, EVERY = WORKERS | SIZES | PLACES };
enum { HANG_S = 45 };

/* The combination. */
static struct weft_runtime *runtime;
static struct weft_group *pool;
static unsigned workers;
static size_t size;
static bool in_task;

/* ---- saying which ---- */

static char promise_where[120];

static void promise_tell(int signal_number)
{
    const char *what = signal_number == SIGALRM ? "it hangs: " : "it was: ";
    ssize_t n = write(STDERR_FILENO, what, strlen(what));
    n += write(STDERR_FILENO, promise_where, strlen(promise_where));
    (void)n;
    if (signal_number == SIGALRM) {
        _exit(99);
    }
}

/* ---- running ---- */

typedef void promise_fn(void);

static int promise_as_task(void *body, void **result)
{
    (void)result;
    (*(promise_fn **)body)();
    return 0;
}

static inline void promise_once(promise_fn *body)
{
    (void)snprintf(promise_where, sizeof promise_where, "%u workers, a pool of %zd, from a %s\n", workers, (ssize_t)size,
                   in_task ? "task" : "foreign thread");
    runtime = runtime_with(workers);
    pool = pool_make(runtime, size);
    if (in_task) {
        struct weft_task *task;
        check_eq(weft_task_spawn(runtime, promise_as_task, &body, NULL, &task), 0);
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    } else {
        body();
    }
    if (runtime) { /* else the body has ended it */
        check_eq(weft_runtime_join(runtime, weft_after(PATIENCE)), 0);
        check_eq(weft_group_len(pool), 0);
        check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
        check_eq(weft_runtime_destroy(runtime), 0);
    }
    check_eq(weft_group_destroy(pool), 0);
}

static inline void promise_run(promise_fn *body, int over)
{
    static const unsigned all_workers[] = { 2, 1, 8 };
    static const size_t all_sizes[] = { 2, 1, 3, 10, WEFT_UNLIMITED };
    (void)signal(SIGABRT, promise_tell);
    (void)signal(SIGALRM, promise_tell);
    (void)alarm(HANG_S);
    for (size_t w = 0; w < (over & WORKERS ? 3 : 1); w++) {
        for (size_t s = 0; s < (over & SIZES ? 5 : 1); s++) {
            for (int place = 0; place < (over & PLACES ? 2 : 1); place++) {
                workers = all_workers[w];
                size = all_sizes[s];
                in_task = place == 1;
                promise_once(body);
            }
        }
    }
    (void)alarm(0);
}

/* PROMISE(G7_kill_does_so, EVERYWHERE) { ... } */
#define PROMISE(name, over)                                                            \
    static void promise_##name(void);                                                  \
    Test(contract, name, .timeout = 2 * HANG_S) { promise_run(promise_##name, over); } \
    static void promise_##name(void)

/* ---- actors: somebody else who calls, in a task or on a foreign thread ---- */

typedef int act_fn(void *arg);

struct actor {
    act_fn *fn;
    void *arg;
    struct weft_task *task; /* NULL on a foreign thread */
    pthread_t thread;
    int rc;
    _Atomic bool done;
};

static inline void actor_act(struct actor *actor)
{
    actor->rc = actor->fn(actor->arg);
    a_store(&actor->done, true, SEQ_CST);
}

static inline int actor_in_task(void *actor, void **result)
{
    (void)result;
    actor_act(actor);
    return 0;
}

static inline void *actor_in_thread(void *actor)
{
    actor_act(actor);
    return NULL;
}

static inline void actor_start(struct actor *actor, bool foreign, act_fn *fn, void *arg)
{
    *actor = (struct actor){ .fn = fn, .arg = arg, .rc = -ECANCELED }; /* until it has begun */
    if (foreign) {
        check_eq(pthread_create(&actor->thread, NULL, actor_in_thread, actor), 0);
    } else {
        check_eq(weft_task_spawn(runtime, actor_in_task, actor, NULL, &actor->task), 0);
    }
}

static inline bool actor_done(struct actor *actor) { return a_load(&actor->done, SEQ_CST); }

/* What the function returned; -ECANCELED if it was killed before it began. */
static inline int actor_end(struct actor *actor)
{
    if (actor->task) {
        check_eq(weft_task_join(actor->task, weft_after(PATIENCE)), 0);
        weft_task_release(actor->task);
    } else {
        until(actor_done(actor));
        check_eq(pthread_join(actor->thread, NULL), 0);
    }
    return actor->rc;
}

/* ---- tasks ---- */

/* How often things happened; a test that counts begins with `count_reset`. */
static _Atomic uint32_t ran, args_freed, results_freed, called;

static inline void count_reset(void) { ran = args_freed = results_freed = called = 0; }

static inline int count_run(void *arg, void **result)
{
    (void)arg, (void)result;
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

static inline void count_arg(void *arg)
{
    (void)arg;
    a_add(&args_freed, 1u, SEQ_CST);
}

static inline void count_result(void *arg)
{
    (void)arg;
    a_add(&results_freed, 1u, SEQ_CST);
}

/* Outlives its kills. */
static inline int pass_gate_masked(void *gate, void **result)
{
    (void)result;
    (void)weft_cancel_mask(true);
    int rc = gate_pass(gate);
    (void)weft_cancel_mask(false);
    return rc;
}

static inline int return_code(void *code, void **result)
{
    (void)result;
    return *(int *)code;
}

/* The value is the argument. */
static inline int return_arg(void *arg, void **result)
{
    *result = arg;
    return 0;
}

static inline struct weft_task *task_spawn(weft_task_fn *fn, void *arg)
{
    struct weft_task *task;
    check_eq(weft_task_spawn(runtime, fn, arg, NULL, &task), 0);
    return task;
}

static inline struct weft_task *member_spawn(struct weft_group *group, weft_task_fn *fn, void *arg)
{
    struct weft_task *task;
    check_eq(weft_group_spawn(group, fn, arg, &task), 0);
    return task;
}

static inline struct weft_task *task_create(weft_task_fn *fn, void *arg)
{
    struct weft_task *task;
    check_eq(weft_task_create(runtime, fn, arg, NULL, &task), 0);
    return task;
}

/* Waits for the task, looks at its outcome, gives the handle back. */
#define ends_with(task, status_wanted, error_wanted)                        \
    do {                                                                    \
        struct weft_task *task_ = (task);                                   \
        struct weft_outcome outcome_;                                       \
        check_eq(weft_task_get(task_, weft_after(PATIENCE), &outcome_), 0); \
        check_eq(outcome_.status, status_wanted);                           \
        check_eq(outcome_.error, error_wanted);                             \
        weft_task_release(task_);                                           \
    } while (0)

#define ends_ok(task) ends_with(task, WEFT_OK, 0)

/* Members that fill `pool` until the gate opens; without bound: three. */
static inline size_t pool_width(void) { return size == WEFT_UNLIMITED ? 3 : size; }

static inline void pool_fill(struct gate *gate)
{
    for (size_t i = 0; i < pool_width(); i++) {
        check_eq(weft_group_spawn(pool, pass_gate, gate, NULL), 0);
    }
    until(gate_waiting(gate) == pool_width());
}

static inline void pool_empty(struct gate *gate)
{
    gate_open(gate);
    check_eq(weft_group_join(pool, weft_after(PATIENCE)), 0);
}

static inline struct weft_group *group_make(void)
{
    struct weft_group *group;
    check_eq(weft_group_create(runtime, NULL, &group), 0);
    return group;
}

/* ---- calls that an actor makes ---- */

struct call {
    struct weft_group *group;
    struct weft_task *task;
    weft_task_fn *fn;
    void *arg;
    int64_t deadline;
    int reason;
    struct weft_task *out;
    struct weft_outcome outcome;
};

static inline int call_spawn(void *arg)
{
    struct call *call = arg;
    return weft_group_spawn_with(call->group, call->fn ? call->fn : count_run, call->arg,
                                 WEFT_OPTIONS(weft_task_options, .arg_free = count_arg), call->deadline, &call->out);
}

static inline int call_group_join(void *arg)
{
    struct call *call = arg;
    return weft_group_join(call->group, call->deadline);
}

static inline int call_group_kill(void *arg)
{
    struct call *call = arg;
    return weft_group_kill(call->group, call->reason, call->deadline);
}

static inline int call_join(void *arg)
{
    struct call *call = arg;
    return weft_task_join(call->task, call->deadline);
}

static inline int call_get(void *arg)
{
    struct call *call = arg;
    return weft_task_get(call->task, call->deadline, &call->outcome);
}

static inline int call_kill(void *arg)
{
    struct call *call = arg;
    return weft_task_kill(call->task, call->reason, call->deadline);
}

#endif
