/* weft: green threads on real cores, with groups, bounded pools and parallel maps. A C11 library.
 *
 * A task is a function that runs on one of a few worker threads. It may block wherever this header says "suspends": its
 * worker then runs other tasks. A group keeps tasks together, a pool is a group with a bound, a map runs a function
 * over an array. A complete program:
 *
 * example: tests/example_hello.c
 *
 *     #include <inttypes.h>
 *     #include <stdio.h>
 *     #include <weft.h>
 *
 *     static int sum_up_to(void *arg, void **result)
 *     {
 *         uint64_t *n = arg, sum = 0;
 *         for (uint64_t i = 1; i <= *n; i++)
 *             sum += i;
 *         *n = sum;
 *         *result = n;
 *         return 0;
 *     }
 *
 *     int main(void)
 *     {
 *         uint64_t n = 1000;
 *         struct weft_task *task;
 *         struct weft_outcome outcome;
 *         int rc = weft_task_spawn(NULL, sum_up_to, &n, NULL, &task);
 *         if (rc != 0 || (rc = weft_task_get(task, WEFT_FOREVER, &outcome)) != 0)
 *             return fprintf(stderr, "%s\n", weft_strerror(rc)), 1;
 *         printf("%" PRIu64 "\n", *(uint64_t *)outcome.value);
 *         weft_task_release(task);
 *         return outcome.status == WEFT_OK && n == 500500 ? 0 : 1;
 *     }
 *
 * The header reads from top to bottom: version, errors, time, options, runtimes, tasks, groups and pools, maps, imap,
 * locks and events, channels.
 *
 * What holds for every function unless its comment says otherwise:
 *
 *   Context    Any thread may call it: a task, or a foreign thread, which is one that weft did not start (main, too). A
 *              call that suspends parks the task's fiber, or puts the foreign thread to sleep on a futex; it never
 *              blocks a worker. It is a cancellation point only where that is said. Nothing is async-signal-safe. Code
 *              between two calls of this header stays on one thread; after a call that suspends it may be on another,
 *              so keep no address of a thread-local variable across.
 *   Errors     An int is 0 or a count, or a negative errno value; errno is not used. Beside those that are named, any
 *              call may return -EINVAL, -ENOMEM, -EPERM (the runtime was inherited through fork; or the call would
 *              block inside a raw link) and -ESHUTDOWN (the runtime has ended). After a negative return from create,
 *              spawn, add, start or link, or from an apply whose function never began, nothing has changed.
 *   Ownership  Arguments are borrowed for the call. Handles that a call gives out are the caller's to release or
 *              destroy.
 *   Order      What happened before a call that starts work happens before that work; work happens before the return of
 *              a call that has waited for it. */
#ifndef WEFT_H
#define WEFT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WEFT_MUST __attribute__((warn_unused_result))

/* ---- version ---- */

#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0

/* The version of the library that runs, which may be newer than this header: "0.1.0". */
const char *weft_version(void);

/* ---- errors ----
 *
 * A wait's own status is never mixed up with an outcome: weft_task_get returns 0 whatever became of the task, and what
 * became of it is in the outcome. What the codes mean everywhere:
 *
 *   -EAGAIN     no slot is free, and the call does not wait
 *   -ETIMEDOUT  this wait ran out (also: any other wait, with WEFT_NOWAIT); what was waited for goes on
 *   -ECANCELED  the caller was killed; weft_cancel_reason tells the reason
 *   -EDEADLK    the call would wait for itself
 *   -EALREADY   started, dying or taken already; a member already
 *   -ENOENT     unknown; not a member
 *   -ESHUTDOWN  the runtime has ended, the group is closed, or was killed while the caller waited for a slot
 *   -EPERM      not allowed here
 *   -EXDEV      a task of another runtime
 *   -EBUSY      still in use */

/* True for "there was no slot", whether or not the call waited for one. */
#define WEFT_IS_FULL(rc) ((rc) == -EAGAIN || (rc) == -ETIMEDOUT)

/* Says in words what a return value means; for codes that are not weft's own, the system's text. Never NULL; static
 * memory. */
const char *weft_strerror(int rc);

/* ---- time ----
 *
 * Times are int64 nanoseconds of CLOCK_MONOTONIC. A wait takes an absolute deadline: WEFT_NOWAIT looks and does not
 * wait, WEFT_FOREVER has no end, anything else comes from weft_after; a negative one is in the past. A wait never ends
 * early. When a kill and the deadline meet, the kill wins; what was waited for wins over both. In option structs a
 * deadline of 0 means none. */

#define WEFT_NOWAIT INT64_C(0)
#define WEFT_FOREVER INT64_MAX
#define WEFT_MSEC INT64_C(1000000)
#define WEFT_SEC INT64_C(1000000000)

/* The time now. */
int64_t weft_now(void);

/* The time `ns` nanoseconds from now; WEFT_FOREVER if that overflows. */
int64_t weft_after(int64_t ns);

/* ---- options ----
 *
 * Every option struct begins with its own size, so that a program and a library of different versions understand each
 * other. A pointer to options may be NULL: all defaults; and a field that is zero is a default. A struct_size of 0 is
 * -EINVAL; a smaller one than the library's leaves the missing fields zero; a larger one is accepted if what the
 * library does not know is zero, else -E2BIG. Options and the names in them are copied; what else they point to is not.
 * Of stats and reports only struct_size bytes are written. Structs that are marked frozen have no size and never
 * change.
 *
 *   C:      weft_group_map(..., WEFT_OPTIONS(weft_map_options, .grain = 8, .on_error = WEFT_FAIL_FAST));
 *   C++17:  weft_map_options options{}; options.struct_size = sizeof options; options.grain = 8; */

#ifndef __cplusplus
#define WEFT_OPTIONS(type, ...) (&(const struct type){ .struct_size = sizeof(struct type), __VA_ARGS__ })
#endif

struct weft_runtime;
struct weft_task;
struct weft_group;
struct weft_imap;
struct weft_channel;
struct weft_key;

/* What became of a task or an item. A function that returns 0 is OK, also after a kill; a negative code is FAILED with
 * that error, and a positive one FAILED with -EINVAL; CANCELLED is what was killed before it ran, or was killed and
 * returned -ECANCELED or the reason. */
enum weft_status {
    WEFT_PENDING,  /* not known yet */
    WEFT_OK,       /* it returned 0 */
    WEFT_FAILED,   /* it returned an error of its own */
    WEFT_CANCELLED /* it was killed */
};

/* frozen */
struct weft_outcome {
    enum weft_status status; /* which of the four */
    int error;               /* FAILED: the code; CANCELLED: the reason of the kill; both negative; else 0 */
    void *value;             /* the result; NULL if none was set, if it was taken, and when cancelled */
};

/* A task's function: `*result` is NULL on entry and becomes the outcome's value. Returns 0 or a negative code. */
typedef int weft_task_fn(void *arg, void **result);
/* Ends what an argument, an item or a result points to. */
typedef void weft_call_fn(void *arg); /* weft_blocking_call */
typedef void weft_free_fn(void *p);
/* Hears of an outcome. */
typedef void weft_callback_fn(const struct weft_outcome *, void *arg);

/* Called at three points of a task's life, once each. A task that was killed before it ran has no start. */
struct weft_task_hooks {
    void (*spawn)(struct weft_task *, void *ctx);  /* by whoever makes the task, before it can run; or NULL */
    void (*start)(struct weft_task *, void *ctx);  /* in the task, before its function; or NULL */
    void (*finish)(struct weft_task *, void *ctx); /* after its function, by whoever ends it; or NULL */
    void *ctx;                                     /* passed to all three */
};

/* ---- runtimes ----
 *
 * A runtime is a set of worker threads. Most programs need none of this section: where a function takes a runtime, NULL
 * means the caller's current one, else the default one, which starts at its first use. Many live side by side; ending
 * one disturbs no other. Workers that have nothing to do use no CPU. Asynchronous signals are blocked in workers.
 *
 * How many workers: the option, else the environment's WEFT_WORKERS, else the smaller of the CPU affinity and the
 * control group's quota, rounded up; at least 1. If the system gives fewer threads the runtime runs with fewer; with
 * none, create fails.
 *
 * After fork, in the child, every int call on an inherited runtime, or what belongs to it, is -EPERM; NULL means a new
 * default one.
 *
 * A task that overflows its stack ends the process with a message that names the task, its stack size and the option to
 * raise. */

struct weft_runtime_options {
    size_t struct_size;                              /* sizeof(struct weft_runtime_options) */
    const char *name;                                /* of the threads, as the system shows them */
    unsigned workers;                                /* how many threads; 0: see above */
    size_t stack_size;                               /* bytes a task may use, if it does not say otherwise; 0: 64 KiB */
    size_t guard_size;                               /* bytes below a stack that fault on touch; 0: 128 KiB */
    size_t max_fibers;                               /* stacks that may exist at once; 0: no bound. At least two a worker */
    unsigned max_blocking_threads;                   /* of weft_blocking_call; 0: 64 */
    void (*worker_start)(unsigned index, void *ctx); /* first thing on each worker; or NULL */
    void (*worker_stop)(unsigned index, void *ctx);  /* last thing on each worker; or NULL */
    void *worker_ctx;                                /* passed to both */
    const struct weft_task_hooks *task_hooks;        /* of tasks that have none of their own; or NULL */
};

struct weft_runtime_stats {
    size_t struct_size;      /* set before the call */
    unsigned workers;        /* threads that run */
    unsigned workers_parked; /* of these, asleep for want of work */
    uint64_t spawned;        /* tasks made so far */
    uint64_t finished;       /* tasks ended so far, however they ended */
    uint64_t failed;         /* of these, FAILED */
    uint64_t cancelled;      /* of these, CANCELLED */
    uint64_t stolen;         /* tasks and fibers that a worker took from another */
    uint64_t parks;          /* times a worker went to sleep */
    uint64_t wakeups;        /* times one was woken */
    uint64_t switches;       /* changes from one stack to another */
    uint64_t slow_calls;     /* of no meaning in this version: 0 */
    size_t queued;           /* tasks started that have not begun */
    size_t blocked;          /* tasks suspended */
    size_t fibers;           /* stacks in use, the workers' spare ones included */
    size_t stack_bytes;      /* address space of all stacks of the process, guards included */
    const char *guard_mode;  /* "madvise", "mprotect" or "canary": the weakest guard of any stack of the process */
    int64_t timer_late_max;  /* how late a deadline was noticed, at worst so far, in ns */
};

/* Starts a runtime.
 * Errors     -EINVAL (more than 4096 workers, or `out` NULL), -ENOTSUP (the process runs with a shadow stack), or why
 *            no thread started.
 * Ownership  `*out` is the caller's to destroy. */
WEFT_MUST int weft_runtime_create(const struct weft_runtime_options *, struct weft_runtime **out);

/* Ends a runtime: tasks that run go on to their end and may spawn, unstarted ones are cancelled (but not those spawned
 * meanwhile), spawns by foreign threads get -ESHUTDOWN; then every worker is joined. NULL does nothing.
 * Context    Suspends until all that is done; not from a task of this runtime.
 * Errors     -EDEADLK (called from a task of it), -ESHUTDOWN (somebody else ends it).
 * Ownership  Handles, groups and imaps may outlive it: get, finished, release, len and destroy go on working for
 *            them. */
int weft_runtime_destroy(struct weft_runtime *);

/* Waits until the runtime has no task.
 * Context    Suspends; a cancellation point; not from a task of this runtime.
 * Errors     -ETIMEDOUT, -ECANCELED, -EDEADLK (called from a task of it). */
WEFT_MUST int weft_runtime_join(struct weft_runtime *, int64_t deadline);

/* Kills every task of the runtime and does not wait. `reason` as for weft_task_kill.
 * Errors     -ECANCELED (called from a task of it: the kill of the caller, delivered). */
int weft_runtime_kill(struct weft_runtime *, int reason);

/* The default runtime, started if need be; NULL if it cannot start. */
struct weft_runtime *weft_runtime_default(void);

/* The runtime that runs the caller; NULL on a foreign thread outside a map's items. */
struct weft_runtime *weft_runtime_current(void);

/* How many workers it has; 0 if it has ended. */
unsigned weft_runtime_workers(const struct weft_runtime *);

/* Fills in what fits into the struct. Each task is counted once at each station; numbers of one call may be a moment
 * apart.
 * Errors     -EINVAL (struct_size is 0). */
WEFT_MUST int weft_runtime_read_stats(struct weft_runtime *, struct weft_runtime_stats *);

/* The caller's worker, from 0 to workers - 1; UINT_MAX on a foreign thread. May differ after every call that
 * suspends. */
unsigned weft_worker_index(void);

/* ---- tasks ----
 *
 * new → queued → running (⇄ blocked) → finished. A handle is a reference: the task's memory lives at least as long. The
 * runtime has one from the start to the end of the task. At its end, in this order: the outcome is stored; the task
 * leaves its groups and its slots are free; it is finished: joiners wake, links start. So who sees it finished sees
 * groups without it.
 *
 * Killing. A kill is a request with a reason, a negative errno value; 0 stands for -ECANCELED. A task that has not
 * begun never begins. One that runs hears of it at its next cancellation point, which returns -ECANCELED, on entry,
 * even if it need not wait. One that is blocked wakes with -ECANCELED, unless what it waits for was given to it
 * already: then that call succeeds, and the next point delivers the kill. A kill is delivered by one call only, so that
 * cleanup may block; weft_checkpoint goes on telling it. Nothing is unwound: a task that never blocks and never checks
 * cannot be killed.
 *
 * Cancellation points are: every wait with a deadline other than WEFT_NOWAIT (to spawn, to add and to start into a pool
 * are such waits), weft_imap_next among them; and always weft_sleep_until, weft_group_spawn, weft_group_apply,
 * weft_group_apply_cb, weft_group_map, weft_group_for, weft_group_reduce, and weft_blocking_call until it begins. */

struct weft_task_options {
    size_t struct_size;                  /* sizeof(struct weft_task_options) */
    const char *name;                    /* shown when its stack overflows; NULL: none */
    size_t stack_size;                   /* bytes it may use; 0: the runtime's. Another size costs it a stack of its own */
    size_t guard_size;                   /* bytes below its stack that fault on touch; 0: the runtime's */
    int64_t deadline;                    /* 0: none; else killed then with -ETIMEDOUT, started or not */
    weft_free_fn *arg_free;              /* called on `arg` exactly once, whether or not the task runs; or NULL */
    weft_free_fn *result_free;           /* called at the last release on a result that nobody took; or NULL */
    const struct weft_task_hooks *hooks; /* in place of the runtime's; lives as long as the task; or NULL */
};

/* Makes a task that does not run until it is started.
 * Errors     -EINVAL (`out` NULL), -ENOMEM (also: no stack is to be had), -ESHUTDOWN (a foreign thread, and the runtime
 *            is being destroyed).
 * Ownership  Takes over `arg` if it succeeds: then `arg_free` runs once. `*out` holds a reference. */
WEFT_MUST int weft_task_create(struct weft_runtime *, weft_task_fn *, void *arg, const struct weft_task_options *,
                               struct weft_task **out);

/* Makes a task and starts it. Not a cancellation point.
 * Errors     As weft_task_create, but `out` may be NULL: the task is detached.
 * Order      `*out` is set before the task can run. */
WEFT_MUST int weft_task_spawn(struct weft_runtime *, weft_task_fn *, void *arg, const struct weft_task_options *,
                              struct weft_task **out);

/* Starts a task that was created.
 * Errors     -EALREADY (started before, or killed): harmless. */
WEFT_MUST int weft_task_start(struct weft_task *);

/* Starts it at a time; now, if that has passed. From the call on it counts as started.
 * Errors     As weft_task_start. */
WEFT_MUST int weft_task_start_at(struct weft_task *, int64_t when);

/* One more reference. */
void weft_task_retain(struct weft_task *);

/* One reference less; NULL does nothing. The last one ends a result that nobody took, and cancels a task that was never
 * started. */
void weft_task_release(struct weft_task *);

/* Releases n tasks and sets the entries to NULL. */
void weft_tasks_release(struct weft_task *tasks[], size_t n);

/* True once the task has ended and left its groups. */
bool weft_task_finished(const struct weft_task *);

/* Its name, or NULL. Lives as long as the task. */
const char *weft_task_name(const struct weft_task *);

/* Waits until the task is finished.
 * Context    Suspends; a cancellation point. Meanwhile the caller's pool slots are lent to what it waits for (see
 *            pools).
 * Errors     -ETIMEDOUT, -ECANCELED, -EDEADLK (the task itself). */
WEFT_MUST int weft_task_join(struct weft_task *, int64_t deadline);

/* Waits until the task is finished and reads its outcome; after a negative return that is {PENDING, 0, NULL}.
 * Context, Errors  As weft_task_join.
 * Ownership  The value is lent while the caller holds a reference; weft_task_take makes it the caller's. */
WEFT_MUST int weft_task_get(struct weft_task *, int64_t deadline, struct weft_outcome *);

/* Takes the result, also that of a failed task: `result_free` will not be called on it, and outcomes show NULL from
 * then on.
 * Errors     -EAGAIN (not finished), -EALREADY (taken before). */
WEFT_MUST int weft_task_take(struct weft_task *, void **value);

/* Kills a task. With WEFT_NOWAIT: 0 if it is marked now, or was finished; otherwise 0 when it has ended.
 * Context    Suspends unless WEFT_NOWAIT; never a cancellation point. A task may kill itself.
 * Units      `reason`: 0 or a negative errno value.
 * Errors     -EALREADY (WEFT_NOWAIT, and a kill is pending), -ETIMEDOUT (it lives on, marked), -ECANCELED (oneself:
 *            delivered by this), -EINVAL (a positive reason). A kill that is refused changes no reason. After a
 *            delivery the next kill counts anew.
 * Order      A task that had not begun has its outcome at once; no instruction of its function runs. */
int weft_task_kill(struct weft_task *, int reason, int64_t deadline);

/* Which outcomes a link wants, or-ed. */
enum {
    WEFT_ON_OK = 1,
    WEFT_ON_FAILED = 2,
    WEFT_ON_CANCELLED = 4,
    WEFT_ON_ANY = 7,
    WEFT_LINK_RAW = 8 /* call it on the worker that ends the task, without a task of its own; there blocking calls are -EPERM */
};

/* A link's function: `task` is retained while it runs. */
typedef void weft_link_fn(struct weft_task *, const struct weft_outcome *, void *arg);

/* Calls fn once when the task has finished, if its outcome is among `flags`.
 * Context    fn runs in a task of its own, or raw (see WEFT_LINK_RAW); never inside this call, even if the task has
 *            finished.
 * Errors     -EINVAL (no outcome in `flags`); -ESHUTDOWN (the runtime is being destroyed, and the caller runs outside it).
 *            Firing needs no memory, so it cannot fail; weft_runtime_destroy returns after every link has fired.
 * Order      Links of a task fire in the order they were made; the next begins when the one before has returned or
 *            blocked.
 * Ownership  `*id`, unless `id` is NULL, is what weft_task_unlink wants. A link that has yet to run keeps a finished
 *            task alive. */
WEFT_MUST int weft_task_link(struct weft_task *, weft_link_fn *, void *arg, unsigned flags, uint64_t *id);

/* Takes a link back. 0: it has not run and never will.
 * Errors     -ENOENT (unknown, or it has begun). */
int weft_task_unlink(struct weft_task *, uint64_t id);

/* Waits until `count` of the n entries are finished; returns how many are, which is fewer only when the deadline has
 * passed.
 * Context    Suspends; a cancellation point; lends slots as weft_task_join.
 * Shape      An entry that is named twice counts twice.
 * Errors     -EINVAL (count > n), -ECANCELED, -EDEADLK (the caller is among those needed), -EOVERFLOW (n > INT_MAX). */
WEFT_MUST int weft_tasks_wait(struct weft_task *const tasks[], size_t n, size_t count, int64_t deadline);

/* ---- inside a task ---- */

/* The task that runs here; never NULL in a task or in an item of a map, else NULL. Not retained. */
struct weft_task *weft_task_current(void);

/* Lets others run first. Not a cancellation point. */
void weft_yield(void);

/* Sleeps until a time, never less.
 * Context    Suspends; always a cancellation point, also when the time has passed.
 * Errors     -ECANCELED. */
WEFT_MUST int weft_sleep_until(int64_t when);

/* -ECANCELED if the caller has been killed, and from then on each time; else 0. Does not count as the delivery. For
 * loops that never block. */
WEFT_MUST int weft_checkpoint(void);

/* Why the caller was killed: the latest reason that a call has told it of; 0 before. */
WEFT_MUST int weft_cancel_reason(void);

/* While `masked` no kill is delivered, and weft_checkpoint is 0; a kill that comes meanwhile waits. Returns the state
 * before. */
bool weft_cancel_mask(bool masked);

/* ---- groups and pools ----
 *
 * A group knows its tasks: it counts them, waits for them, kills them (gevent.pool.Group). A pool is a group with slots;
 * each member holds one (gevent.pool.Pool). Everything that waits for a slot stands in one queue, first in, first out:
 * spawners, queued applies, and the participants of maps and imaps; WEFT_NOWAIT never overtakes. A plain group answers
 * questions about slots as a pool without bound.
 *
 * A task belongs to a group from weft_group_spawn, an apply, weft_group_add, weft_group_start or the group's creation
 * until its end, or until weft_group_discard. It may belong to several groups; each sees it leave. More than one way to
 * be a member of a group is never more than one membership, and one slot.
 *
 * Nesting. A member that waits for work (get, join, tasks_wait, apply, map, imap_next) lends its slot meanwhile, to that
 * work alone, directly or through other pools. Coming back it does not wait: the pool may then be over its size by one
 * until a slot is freed. So nested use ends in a pool of any size from 1. */

#define WEFT_UNLIMITED SIZE_MAX

struct weft_group_options {
    size_t struct_size;                           /* sizeof(struct weft_group_options) */
    const char *name;                             /* for people; or NULL */
    struct weft_task *const *tasks;               /* members from the beginning; those that have finished are left out */
    size_t n_tasks;                               /* how many */
    const struct weft_task_options *task_options; /* for every task the group makes, where the call leaves a field unset; or NULL */
    bool forget_errors;                           /* weft_group_join_outcome tells only what fails while somebody is in it */
};

/* Makes a group without bound. The given tasks count at once if they live (departure: gevent's join does not wait for
 * them).
 * Errors     -EXDEV (one of `tasks` is of another runtime), -EINVAL (one is NULL; `out` NULL). */
WEFT_MUST int weft_group_create(struct weft_runtime *, const struct weft_group_options *, struct weft_group **out);

/* Makes a group with `size` slots, from 0 to WEFT_UNLIMITED. One of size 0 is full: spawns and maps wait until their
 * deadline. Initial `tasks` use slots even beyond `size`.
 * Errors     As weft_group_create. */
WEFT_MUST int weft_pool_create(struct weft_runtime *, size_t size, const struct weft_group_options *, struct weft_group **out);

/* Frees a group; kills nothing. NULL does nothing.
 * Errors     -EBUSY (it has members, somebody waits for it or for a slot, or a map or imap runs in it). */
int weft_group_destroy(struct weft_group *);

/* Lets nobody in any more: from now on spawn, add, start, apply, map and imap are -ESHUTDOWN, also for those that wait
 * for a slot to spawn, add or start. What the group has accepted goes on: members, queued applies, maps and imaps, which
 * get their slots as before. Joins work. Does not wait; NULL does nothing. */
void weft_group_close(struct weft_group *);

/* Sets what tasks get where a call leaves a field unset (gevent: greenlet_class); NULL: nothing. In effect for tasks that
 * are made from now on: name, stack, guard and hooks for all that the group makes, the rest for spawn and apply.
 * Errors     -EINVAL (an impossible stack).
 * Ownership  Copied, also the name. Each new set of options is kept until the group is destroyed. */
WEFT_MUST int weft_group_set_task_options(struct weft_group *, const struct weft_task_options *);

/* Spawns a member, as weft_group_spawn_with without options or deadline. */
WEFT_MUST int weft_group_spawn(struct weft_group *, weft_task_fn *, void *arg, struct weft_task **out);

/* Spawns a member, as soon as a slot is free.
 * Context    Suspends while the pool is full; a cancellation point unless the deadline is WEFT_NOWAIT.
 * Errors     -EAGAIN (WEFT_NOWAIT: full, or others wait), -ETIMEDOUT, -ECANCELED, -ESHUTDOWN (the group was killed
 *            meanwhile), -EDEADLK (every slot is held by members that wait for a slot of this pool), else as
 *            weft_task_spawn. No slot is lost.
 * Ownership  As weft_task_spawn. */
WEFT_MUST int weft_group_spawn_with(struct weft_group *, weft_task_fn *, void *arg, const struct weft_task_options *,
                                    int64_t deadline, struct weft_task **out);

/* Makes a task a member, started or not: 1; or 0 if it has finished, and then it takes no slot.
 * Context    Suspends while the pool is full, but not longer than the task lives; a cancellation point unless the
 *            deadline is WEFT_NOWAIT.
 * Errors     -EALREADY (it is a member; departure: gevent takes a slot for each add), -EXDEV, -EAGAIN, -ETIMEDOUT,
 *            -ECANCELED, -ESHUTDOWN, -EDEADLK as weft_group_spawn_with. */
WEFT_MUST int weft_group_add(struct weft_group *, struct weft_task *, int64_t deadline);

/* Starts a task that was created, as a member: 1; or 0 if it was killed while this waited for a slot. From the call on
 * nobody else can start it; if the call fails it is as new.
 * Context    As weft_group_add.
 * Errors     -EALREADY (started or killed before, or a member), else as weft_group_add. */
WEFT_MUST int weft_group_start(struct weft_group *, struct weft_task *, int64_t deadline);

/* Takes a task out: 1, and its slot is free; or 0 if it was no member, and nothing has changed (departure: gevent frees a
 * slot then, too). The task runs on. It may have been the last member: joiners wake.
 * Context    Does not wait; not a cancellation point. */
int weft_group_discard(struct weft_group *, struct weft_task *);

/* How many members it has; exact when nobody comes or goes. A participant of a map counts, a waiting spawner or a queued
 * apply does not. */
size_t weft_group_len(const struct weft_group *);

/* True if the task is a member. */
bool weft_group_contains(const struct weft_group *, const struct weft_task *);

/* Fills `out` with up to `cap` members, retained, and returns how many there were; exact when nobody comes or goes.
 * Participants of maps and imaps are not among them. Looks at every task of the runtime.
 * Ownership  The entries are the caller's to release: weft_tasks_release(out, n < cap ? n : cap). */
size_t weft_group_snapshot(struct weft_group *, struct weft_task *out[], size_t cap);

/* Waits until the group was empty at least once since the call. Waiting spawners, queued applies, running maps and imaps
 * keep it non-empty (departure: in gevent they do not). Any number of threads may wait.
 * Context    Suspends; a cancellation point; lends slots as weft_task_join.
 * Errors     -ETIMEDOUT, -ECANCELED, -EDEADLK (called from a member or an item of it).
 * Order      Whoever returns sees the group's tasks finished. */
WEFT_MUST int weft_group_join(struct weft_group *, int64_t deadline);

/* Joins, and reports one member that failed (gevent: join with raise_error): `*outcome` is FAILED with its error, and
 * `*task` the task, or NULL if nobody had a handle of it; OK and NULL if none failed. Each failure is reported once, the
 * oldest first, also those from before the call unless the group was made with forget_errors. After -ETIMEDOUT it is what
 * there is so far; after other errors {PENDING, 0, NULL}. A failure ends no wait; a task that was killed has not failed.
 * Context, Errors, Order  As weft_group_join.
 * Ownership  `*task` is the caller's to release, and with it `value` is lent; `outcome` and `task` may be NULL. */
WEFT_MUST int weft_group_join_outcome(struct weft_group *, int64_t deadline, struct weft_outcome *, struct weft_task **task);

/* Kills every member once and waits until the group was empty once, killing what is added meanwhile; with WEFT_NOWAIT
 * it makes one pass. Waiting spawns end with -ESHUTDOWN, queued applies never run, maps and imaps of the group are
 * cancelled (departure: gevent leaves these be).
 * Context    Suspends unless WEFT_NOWAIT; never a cancellation point.
 * Errors     -ETIMEDOUT, -EINVAL (a positive reason). From a member all are marked, and it returns -ECANCELED: that is
 *            the caller's own kill, delivered; or -EDEADLK, if that was delivered before. */
int weft_group_kill(struct weft_group *, int reason, int64_t deadline);

/* Kills one member, as weft_group_kill would (gevent: killone). With WEFT_NOWAIT: 0 if it is marked now; otherwise 0 when
 * it has ended, also if it was dying before (departure: gevent does not wait then).
 * Context    Suspends unless WEFT_NOWAIT; never a cancellation point.
 * Errors     -ENOENT (no member), -EALREADY (WEFT_NOWAIT, and it was killed before), -ETIMEDOUT, -ECANCELED (oneself:
 *            delivered by this), -EDEADLK (oneself, with a deadline, when the kill was delivered before or is masked),
 *            -EINVAL (a positive reason). */
int weft_group_kill_one(struct weft_group *, struct weft_task *, int reason, int64_t deadline);

/* True when no slot is free. */
bool weft_pool_full(const struct weft_group *);

/* How many slots it has; WEFT_UNLIMITED of a plain group. */
size_t weft_pool_size(const struct weft_group *);

/* How many slots are free: size - used, not less than 0; without bound: 1. */
size_t weft_pool_free_count(const struct weft_group *);

/* Waits until a slot is free; returns how many are, or 0 when the deadline has passed. Reserves nothing.
 * Context    Suspends; a cancellation point.
 * Errors     -ECANCELED. */
WEFT_MUST int weft_pool_wait_available(struct weft_group *, int64_t deadline);

/* Gives a pool another size, from 0 to WEFT_UNLIMITED. More slots go to those that wait, in their order; if there are
 * more members than slots, the surplus finishes.
 * Context    Does not wait; not a cancellation point.
 * Errors     -EINVAL (a plain group, and a bound: its members hold no slots). */
WEFT_MUST int weft_pool_resize(struct weft_group *, size_t size);

/* ---- apply: one call ----
 *
 * A group of NULL is a private one without bound, for this call. The function runs in a task of its own, which is a
 * member. */

struct weft_apply_options {
    size_t struct_size;                           /* sizeof(struct weft_apply_options) */
    weft_callback_fn *callback;                   /* called with the outcome; or NULL */
    void *callback_arg;                           /* passed to it */
    unsigned when;                                /* for which outcomes, or-ed; 0: WEFT_ON_OK */
    const struct weft_task_options *task_options; /* of the task; or NULL */
};

/* Calls fn in the group and waits for its outcome:
 *
 *     void *value = NULL;
 *     int rc = fn(arg, &value);
 *     ... the outcome is as of rc, with the value unless rc ...
 *
 * It never returns before fn has ended, or is sure never to run. A kill of the caller is passed on to fn, waited for,
 * and reported then: -ECANCELED.
 * Context    Suspends; a cancellation point; lends slots as weft_task_join, so a member of a pool of 1 may apply in it.
 * Errors     -ECANCELED (the caller was killed, whatever fn returned), -ESHUTDOWN (closed, or killed while this waited
 *            for a slot). After a negative return the outcome is {PENDING, 0, NULL}. That fn failed is in the outcome,
 *            and not an error of this call.
 * Ownership  `value` is the caller's; NULL if the outcome is not OK. A result that the caller does not get goes to
 *            `result_free`. `arg_free` is called once if the call returns 0 or fn began. */
WEFT_MUST int weft_group_apply(struct weft_group *, weft_task_fn *, void *arg, struct weft_outcome *);

/* The same; before it returns 0 it calls the callback, in the caller, when slot and membership are given back already. */
WEFT_MUST int weft_group_apply_cb(struct weft_group *, weft_task_fn *, void *arg, const struct weft_apply_options *,
                                  struct weft_outcome *);

/* Calls fn in the group and does not wait, not for a slot either: while the pool is full the call stands in its queue,
 * and becomes a member when it is admitted. Killed before that it never runs. `*out` is what to wait for; `out` may be
 * NULL. The callback runs in a task of its own, which belongs to no group, after the task has finished.
 * Context    Not a cancellation point.
 * Errors     -EINVAL (`when`), -ESHUTDOWN (closed), else as weft_task_spawn.
 * Ownership  As weft_task_spawn. */
WEFT_MUST int weft_group_apply_async(struct weft_group *, weft_task_fn *, void *arg, const struct weft_apply_options *,
                                     struct weft_task **out);

/* ---- maps: arrays and ranges ----
 *
 * A group of NULL is a private one without bound, for this call. The calling thread takes part. At most as many items
 * as the pool has slots run at once; one that blocks does not hold back its neighbours while there are slots, with one
 * worker too. An item's code is read as a task's (weft_status).
 *
 * When the call returns, nothing of it runs, and nothing touches its arguments again: also after an error, a kill or a
 * timeout. A kill of the caller or of the group, or the map's own deadline, cancels the items that have not begun, and
 * running ones get the kill; if any item was cancelled the call returns -ECANCELED, or -ETIMEDOUT for the deadline. The
 * end of the runtime waits for maps that have begun, and refuses others from outside with -ESHUTDOWN. */

/* What a map does about items that fail. */
enum weft_on_error {
    WEFT_RUN_ALL,   /* all run; the map returns the code of the failed item with the lowest index */
    WEFT_FAIL_FAST, /* each participant begins at most one more item; running ones are not killed; returns as RUN_ALL */
    WEFT_COLLECT    /* all run; the map returns 0; see `status` and `report` */
};

struct weft_map_report {
    size_t struct_size;  /* set before the call */
    bool started;        /* false: the map's return value is its own, and nothing ran */
    size_t ok;           /* items that returned 0 */
    size_t failed;       /* items that failed */
    size_t cancelled;    /* items that were killed or never began */
    size_t first_failed; /* lowest index that failed, or WEFT_NO_INDEX; of for and reduce: the `begin` of that call */
    int first_error;     /* its code, or 0 */
};

struct weft_map_options {
    size_t struct_size;             /* sizeof(struct weft_map_options) */
    enum weft_on_error on_error;    /* WEFT_RUN_ALL by default */
    size_t grain;                   /* map: items a chunk; for, reduce: most indices a call; 0: automatic, about 2 us */
    bool deterministic;             /* for, reduce: calls depend on the range alone, not on timing; so does what is joined */
    int64_t deadline;               /* 0: none; then cancelled with -ETIMEDOUT */
    int *status;                    /* map: n codes, filled in whatever happens; -ECANCELED: never began; or NULL */
    struct weft_map_report *report; /* filled in; or NULL */
    void (*progress)(size_t done, size_t n, void *arg); /* in indices; at most every 100 ms, and at the end; or NULL */
    void *progress_arg;                                 /* passed to it; one thread calls at a time */
    weft_callback_fn *callback;                         /* map_async: called with the handle's outcome; else NULL */
    void *callback_arg;                                 /* passed to it */
    unsigned when;                                      /* map_async: for which outcomes, or-ed; 0: WEFT_ON_OK */
};

#define WEFT_NO_INDEX SIZE_MAX

/* An item's function. `ctx` is shared by all calls. */
typedef int weft_map_fn(void *ctx, size_t index, const void *in, void *out);

/* Calls fn once for each of n items, in parallel:
 *
 *     for (size_t i = 0; i < n; i++)
 *         fn(ctx, i, (const char *)in + i * in_stride, (char *)out + i * out_stride);
 *
 * Shape      Strides in bytes. `in` and `out` may each be NULL, and then stay NULL, or have stride 0; they may be the
 *            same array.
 * Context    Suspends; a cancellation point. fn runs in the caller and in other tasks; it may block, spawn and map.
 * Errors     The first failed item's (see weft_on_error), -ECANCELED, -ETIMEDOUT; if nothing ran (report: not started)
 *            also -EDEADLK as weft_group_spawn_with. */
WEFT_MUST int weft_group_map(struct weft_group *, weft_map_fn *, void *ctx, size_t n, const void *in, size_t in_stride, void *out,
                             size_t out_stride, const struct weft_map_options *);

/* The same for two arrays, whose strides are the sizes of their elements. */
#define WEFT_MAP(group, fn, ctx, n, in, out, options) \
    weft_group_map(group, fn, ctx, n, in, sizeof *(in), out, sizeof *(out), options)

/* The same as weft_group_map, without waiting: `*handle` is the task that calls it, and that is what to wait for and to
 * kill. It ends OK (the map returned 0), FAILED with what the map returned (its deadline: -ETIMEDOUT), or CANCELLED: it or
 * the group was killed, and an item was cancelled by that. `handle` may be NULL. The callback runs in a task of its own,
 * which belongs to no group, after the handle has finished.
 * Context    Does not suspend, not for a slot either; not a cancellation point. From here on the group is non-empty until
 *            the map has ended; the handle is no member.
 * Errors     -EINVAL (also: `when`), -ESHUTDOWN (the group is closed or being killed). After 0, a map that was killed
 *            before it had a slot has cancelled all its items.
 * Ownership  `in`, `out`, `ctx` and what the options point to must live until the handle has finished; nothing touches
 *            them after. The handle is the caller's to release. */
WEFT_MUST int weft_group_map_async(struct weft_group *, weft_map_fn *, void *ctx, size_t n, const void *in, size_t in_stride,
                                   void *out, size_t out_stride, const struct weft_map_options *, struct weft_task **handle);

/* A body over the indices [begin, end). */
typedef int weft_range_fn(void *ctx, size_t begin, size_t end);

/* Calls fn for the indices [begin, end), in parallel, a piece at a time: for bodies that are too small for a call each.
 *
 *     for (size_t from = begin, to; from < end; from = to) {
 *         to = ...;                       // at most from + grain
 *         fn(ctx, from, to);
 *     }
 *
 * Shape      The pieces cover the range without overlap. One call is one item: of the report, and of weft_on_error.
 * Context    As weft_group_map.
 * Errors     As weft_group_map; -EINVAL (begin > end, or `status` is set: calls have no fixed number). */
WEFT_MUST int weft_group_for(struct weft_group *, size_t begin, size_t end, weft_range_fn *, void *ctx,
                             const struct weft_map_options *);

/* What a reduction is made of. A partial is memory like `acc`, of the library; its calls follow one another. */
struct weft_reduce_ops {
    size_t struct_size;                                          /* sizeof(struct weft_reduce_ops) */
    size_t acc_size;                                             /* bytes of a partial, which is aligned to 64; not 0 */
    int (*init)(void *ctx, void *acc);                           /* makes an empty one; if that fails, so does the call */
    int (*body)(void *ctx, size_t begin, size_t end, void *acc); /* adds the indices [begin, end) to it */
    int (*join)(void *ctx, void *left, void *right);             /* left = left + right, what comes after it */
    void (*fini)(void *ctx, void *acc);                          /* ends one, joined or not; or NULL */
};

/* Folds the range [begin, end) into `acc`, in parallel. `+` need not commute, only associate:
 *
 *     for (size_t from = begin, to; from < end; from = to) {
 *         to = ...;                       // at most from + grain
 *         body(ctx, from, to, acc);
 *     }
 *
 * Shape      `acc` is the caller's, and holds the initial value. Every partial is made by init, gets one or more calls
 *            that follow one another, is joined into `acc`, and is ended by fini, once, whatever happens. Joins come in
 *            the order of the range, one at a time. With `deterministic` there are at most 512 partials, and they depend
 *            on the range and the grain alone: so does the result, also that of floating-point sums.
 * Context    As weft_group_map; init, join and fini run where body does, or in the caller, and may block, too. Up to one
 *            4096th of the range (deterministic: one 512th) is in one participant's hands: its calls wait for one another.
 * Errors     As weft_group_for; -EINVAL (`acc`, init, body or join NULL, or acc_size 0); what a join returned, if the rest
 *            went well. One call is one item. After an error `acc` is valid, but what is in it is not said. */
WEFT_MUST int weft_group_reduce(struct weft_group *, size_t begin, size_t end, const struct weft_reduce_ops *, void *ctx, void *acc,
                                const struct weft_map_options *);

/* ---- imap: streams ----
 *
 * An imap pulls items from a source, runs a function on each in a group, and hands out results while it goes on:
 *
 *     for (size_t index = 0; source.next(source.ctx, &item) == 1; index++) {
 *         void *value = NULL;
 *         int rc = fn(ctx, item, &value);
 *         ... weft_imap_next gives {index, status and error as of rc, item, value} ...
 *     }
 *
 * A group of NULL is a private one without bound. An imap starts at once, and items begin in the order of the source.
 * With maxsize m at most m items are running, or finished and not yet read; at most one more is pulled. When the group
 * is killed, what is not finished comes as CANCELLED, and then the end. */

/* Gives the next item: 1 and `*item`, 0 at the end, or a negative code. Runs in a task of its own, may block, is never
 * called twice at once, and is killed when the imap closes. */
typedef int weft_source_fn(void *ctx, void **item);

/* frozen */
struct weft_source {
    weft_source_fn *next;    /* gives items */
    void *ctx;               /* passed to it */
    weft_free_fn *item_free; /* called on items that no reader got; or NULL */
};

/* A place in an array, for weft_array_next. */
struct weft_array {
    const void *base; /* its first element */
    size_t stride;    /* bytes from one to the next */
    size_t n;         /* how many */
    size_t next;      /* the index to give next */
};

/* A source of pointers into an array: struct weft_source source = { weft_array_next, &array, NULL }. */
WEFT_MUST int weft_array_next(void *array, void **item);

/* An item's function; as a task's. */
typedef int weft_imap_fn(void *ctx, void *item, void **result);

struct weft_imap_options {
    size_t struct_size;        /* sizeof(struct weft_imap_options) */
    size_t maxsize;            /* items begun and not yet read; 0: no bound, and one item is pulled beyond those begun */
    weft_free_fn *result_free; /* called on results that no reader gets, and on those set beside an error; or NULL */
};

/* frozen */
struct weft_item {
    size_t index;            /* its place in the source, from 0; WEFT_NO_INDEX: the source failed, with `error` */
    enum weft_status status; /* of this item; others go on */
    int error;               /* as in weft_outcome */
    void *input;             /* what the source gave, the reader's now; NULL if there are several sources */
    void *value;             /* the result, the reader's now; NULL unless OK */
};

/* Starts an imap whose results come in the order of the source. With several sources an item is an array of one `void
 * *` of each, valid during fn; its elements are fn's to keep. The shortest source ends it.
 * Context    Not a cancellation point; does not wait for a slot.
 * Errors     -EINVAL (no source, or one without `next`).
 * Ownership  `sources` is copied; `ctx` and what the sources point to must live until weft_imap_destroy has
 *            returned. */
WEFT_MUST int weft_group_imap(struct weft_group *, const struct weft_source sources[], size_t n_sources, weft_imap_fn *, void *ctx,
                              const struct weft_imap_options *, struct weft_imap **out);

/* The same, but results come as they are finished. */
WEFT_MUST int weft_group_imap_unordered(struct weft_group *, const struct weft_source sources[], size_t n_sources, weft_imap_fn *,
                                        void *ctx, const struct weft_imap_options *, struct weft_imap **out);

/* Takes the next result: 1 and the item; 0 at the end, from then on always. A wait that ends otherwise loses nothing.
 * Context    Suspends; a cancellation point; any number of readers: each item goes to one, each sees the end. Lends
 *            slots as weft_task_join.
 * Errors     -ETIMEDOUT, -ECANCELED. That an item failed is in the item, and not an error of this call.
 * Order      A source's failure comes after all earlier results, or as soon as it is known if unordered; the end after
 *            all results.
 * Ownership  `input` and `value` are the reader's. */
WEFT_MUST int weft_imap_next(struct weft_imap *, struct weft_item *, int64_t deadline);

/* Ends an imap early: no new item begins, unread results are dropped, readers get the end. Running items are not
 * killed. Does not wait. NULL does nothing. */
void weft_imap_close(struct weft_imap *);

/* Closes an imap, waits until nothing of it runs, and frees it with what was not read. NULL does nothing. Readers must
 * have left.
 * Context    Suspends; no cancellation point.
 * Errors     -EDEADLK (called from its own item or source): nothing has changed. */
int weft_imap_destroy(struct weft_imap *);

/* ---- locks and events ----
 *
 * They live in the caller's memory, as members of its structs or on its stack. All bytes zero is initialised:
 *
 *     static struct weft_mutex lock = WEFT_ZERO_INIT;
 *
 * Nothing needs to be destroyed. The memory may go when no call on the object goes on and none will come; to know that
 * it is enough to have seen a lock, a permit or an event given by the last one that used it, who touches it no more
 * after that. Tasks of any runtime and foreign threads may share one.
 *
 * Every wait suspends, takes a deadline, and is a cancellation point unless the deadline is WEFT_NOWAIT. It returns 0;
 * -ETIMEDOUT (with WEFT_NOWAIT: it would have to wait), -ECANCELED. A wait that ends so has taken nothing. What unlocks,
 * sets, signals or releases happens before the return of the wait that it ends.
 *
 * A pthread mutex held across a call that suspends stays with the thread: the task may go on on another, which must not
 * unlock it, and any task that wants it meanwhile blocks its whole worker. Use these instead. */

struct weft_mutex {
    uint64_t opaque[2];
};
struct weft_event {
    uint64_t opaque[2];
};
struct weft_semaphore {
    uint64_t opaque[2];
};
struct weft_cond {
    uint64_t opaque[2];
};
struct weft_barrier {
    uint64_t opaque[4];
};
#define WEFT_ZERO_INIT \
    {                  \
        {              \
            0          \
        }              \
    }

/* Locks for the calling task (or foreign thread), which may unlock it on another worker than it locked it on. Others
 * may overtake one that waits, for about a millisecond; then it is handed over to who has waited longest.
 * Errors     -EDEADLK (the caller holds it), -ETIMEDOUT, -ECANCELED. */
WEFT_MUST int weft_mutex_lock(struct weft_mutex *, int64_t deadline);

/* Only by who has locked it: a build with invariants checked (WEFT_DEBUG) ends the process otherwise, another ignores
 * it. Never suspends. */
void weft_mutex_unlock(struct weft_mutex *);

/* Sets an event: wakes all that wait, and waits return at once until it is cleared. Never suspends. */
void weft_event_set(struct weft_event *);
void weft_event_clear(struct weft_event *);
bool weft_event_is_set(const struct weft_event *);
WEFT_MUST int weft_event_wait(struct weft_event *, int64_t deadline);

/* Lets go of the mutex, waits for a signal, and takes the mutex again, however long that takes: the caller holds it on
 * every return. Check the condition in a loop.
 * Errors     -EPERM (the caller does not hold the mutex), -ETIMEDOUT, -ECANCELED. */
WEFT_MUST int weft_cond_wait(struct weft_cond *, struct weft_mutex *, int64_t deadline);
/* Wakes the one that has waited longest, or all. A signal is never spent on a wait that a kill or a deadline has ended.
 * Never suspends; the mutex may be held, or not. */
void weft_cond_signal(struct weft_cond *);
void weft_cond_broadcast(struct weft_cond *);

/* A number of permits; zeroed memory has none. Who waits gets them in the order of coming, and is not overtaken.
 * `init` only while nobody uses it. `release` never suspends. */
void weft_semaphore_init(struct weft_semaphore *, uint32_t count);
WEFT_MUST int weft_semaphore_acquire(struct weft_semaphore *, int64_t deadline);
void weft_semaphore_release(struct weft_semaphore *, uint32_t n);

/* Waits until n are waiting: 1 for the last to come, 0 for the others; then the next round begins. Who is killed or late
 * is not counted. `init` only while nobody uses it.
 * Errors     -EINVAL (n is 0, or it was never initialised), -ETIMEDOUT, -ECANCELED. */
void weft_barrier_init(struct weft_barrier *, uint32_t n);
WEFT_MUST int weft_barrier_wait(struct weft_barrier *, int64_t deadline);

/* ---- channels ---- */

/* A queue for items of `item_size` bytes, copied in and out. `capacity` items fit; with 0 a sender waits for its receiver.
 * Errors     -EOVERFLOW. */
WEFT_MUST int weft_channel_create(size_t item_size, size_t capacity, struct weft_channel **out);

/* Nobody may be in a call on it. What is in it is dropped. NULL does nothing. */
void weft_channel_destroy(struct weft_channel *);

/* No more sends: those that wait get -EPIPE. Receivers still get what is in it, then -EPIPE. NULL does nothing; closing
 * twice is harmless. Never suspends. */
void weft_channel_close(struct weft_channel *);

/* Many may send and receive; those that wait are served in the order of coming. Suspend; cancellation points unless the
 * deadline is WEFT_NOWAIT. A receiver's buffer may be NULL: the item is dropped.
 * Errors     -EPIPE (closed); -EAGAIN (WEFT_NOWAIT, to send: no space); -ETIMEDOUT; -ECANCELED. Then nothing was sent or
 *            received.
 * Order      A send happens before the return of the receive that gets the item. */
WEFT_MUST int weft_channel_send(struct weft_channel *, const void *item, int64_t deadline);
WEFT_MUST int weft_channel_receive(struct weft_channel *, void *item, int64_t deadline);

/* One case of a select: `send` not NULL: sends that item; else receives into `receive` (NULL: drops it). A case whose
 * channel is NULL is never ready. */
struct weft_select_case {
    struct weft_channel *channel;
    const void *send;
    void *receive;
    int rc;
};

/* Waits until one of the cases can go on, and lets exactly one: its index is in `*chosen`, and its `rc` is 0, or -EPIPE
 * if that channel is closed. Of several that can, each is as likely. Cases of one select never serve each other.
 * Context    As send and receive.
 * Errors     -EINVAL (no cases), -ETIMEDOUT, -ECANCELED, -ENOMEM (more than 8 cases). */
WEFT_MUST int weft_channel_select(struct weft_select_case cases[], size_t n, int64_t deadline, size_t *chosen);

/* ---- what blocks a thread, and what belongs to a task ---- */

/* Calls fn(arg), which may block its thread (files, a foreign library's lock), on a thread of its own with a stack of
 * the system's size, while the caller waits. There are at most `max_blocking_threads` of a runtime at once (0: 64), used
 * again and ended when idle; calls beyond that wait in the order of coming. On a foreign thread fn runs in place. fn's
 * result travels in `arg`.
 * Context    Suspends; a cancellation point until fn begins, not any more then. fn runs as on a foreign thread.
 * Errors     -ECANCELED (fn was not called and will not be), -ESHUTDOWN, -EPERM; or why the system gave no thread. */
WEFT_MUST int weft_blocking_call(struct weft_runtime *, weft_call_fn *fn, void *arg);

/* A key for values of which each task has its own; nobody inherits them. In an item of a map they are those of
 * weft_task_current. At the end of a task, before it is finished, `destructor` (NULL: none) is called with each value
 * that is not NULL, in no order, as a part of the task. Destroying a key leaves the values to their tasks' ends; NULL
 * does nothing. */
WEFT_MUST int weft_key_create(weft_free_fn *destructor, struct weft_key **out);
void weft_key_destroy(struct weft_key *);

/* NULL if it was not set, and on a foreign thread. */
void *weft_key_get(const struct weft_key *);

/* The value that was there is the caller's again: no destructor is called for it. NULL takes it away.
 * Errors     -EPERM (on a foreign thread), -ENOMEM. */
WEFT_MUST int weft_key_set(struct weft_key *, void *value);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
