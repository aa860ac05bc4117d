/* Tasks: the record, its life, its outcome.
 *
 * A record is 64 bytes, type-stable, from its runtime's slab. Everything rare is in the extension: options, timers, further
 * memberships, a stack of its own. References: one of the handle, one of the runtime from start until the end, one of each
 * membership by `add`; at zero the record is free. A record with references can be retained by whoever finds it in the slab
 * (weft_task_try_retain), which is how groups and runtimes find their tasks.
 *
 * State changes go through weft_task_claim (a race decides) or set_state (the owner of the state changes it), which assert the state
 * they come from:
 *
 * | state | where it is | start | run | kill | last release | end |
 * |---|---|---|---|---|---|---|
 * | FREE | slab | - | - | - | - | - |
 * | NEW | with its holders | QUEUED; CLAIMED by a start into a group | - | DOOMED | DOOMED | - |
 * | CLAIMED | with whoever starts it into a group, who waits for a slot; it goes on to QUEUED, or is given back: NEW | -EALREADY | - | DOOMED | - | - |
 * | RESERVED | with its spawner, between entering a group and being published: a walker of that group waits it out | - | - | - | - | - |
 * | QUEUED | deque, injector, a start timer or the queue of a pool; after a kill as a tombstone (not in timer and pool), whatever the state | -EALREADY | RUNNING | DOOMED | - | - |
 * | RUNNING | on a fiber: on a worker, ready, or waiting (then its slot is PARKED: this is "blocked") | -EALREADY | - | request | - | ENDING |
 * | DOOMED | with whoever killed it before it ran; arg_free and hooks run | -EALREADY | tombstone | -EALREADY | - | ENDING |
 * | ENDING | outcome stored; leaving groups; no user code runs: whoever meets it spins (T6) | -EALREADY | tombstone | 0 | - | FINISHED |
 * | FINISHED | with its holders | -EALREADY | tombstone | 0 | FREE | - |
 *
 * "-": cannot happen, asserted.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | T1 | release store of scope.slot, then the swap QUEUED → RUNNING | acquire load of state by a killer | a kill goes nowhere |
 * | T2 | release store of ENDING after the outcome | acquire load of state by readers | a half-written outcome |
 * | T3 | lock of the queue, then the end's decrement of refs | T4 | a record is freed under its finisher |
 * | T4 | decrement of refs to zero, then acquire load of the queue's word | T3 | the same |
 * | T5 | increment of `queued` by whoever spawns or links from outside, then seq_cst load of phase; or by whoever cancels a NEW task, then the claim of its state | T6 | what it sets going is pushed where no worker looks any more |
 * | T6 | the end of the runtime: seq_cst store of phase, then sums of `ended` and `queued`; the walk over the records, then the sum of `queued` again (shutdown.c) | T5 | the same |
 *
 * T5, T6: of an outsider that spawns or links, either the load comes before the store of DRAINING in the order of seq_cst operations,
 * so the sums see its increment, and the end waits for what it does; or it sees DRAINING, and is refused before anything has changed.
 * Whoever cancels a NEW task cannot be refused. If its claim comes before the look of the last walk at that record, that look sees it,
 * and the sum after the walk sees the increment before it; then the walk is done again. If not, the walk has claimed the task itself. A
 * record that comes into sight NEW after the last walk has no links: its maker, from outside, had read the phase before DRAINING was
 * stored; nobody outside may link any more, and inside nothing runs. */
#ifndef WEFT_TASK_H
#define WEFT_TASK_H

#include "blocking.h"
#include "scheduler.h"
#include "wait.h"

#include <weft.h>

enum weft_task_state {
    WEFT_TASK_FREE,
    WEFT_TASK_NEW,
    WEFT_TASK_QUEUED,
    WEFT_TASK_RUNNING,
    WEFT_TASK_DOOMED,
    WEFT_TASK_ENDING,
    WEFT_TASK_FINISHED,
    WEFT_TASK_RESERVED,
    WEFT_TASK_CLAIMED
};

/* Beside the state, in the same word. */
#define WEFT_TASK_STATE 0xfu
#define WEFT_TASK_STATUS_SHIFT 4
#define WEFT_TASK_STATUS (0x3u << WEFT_TASK_STATUS_SHIFT)
#define WEFT_TASK_LATE 0x40u     /* made while its runtime was being destroyed: not cancelled by that */
#define WEFT_TASK_INTERNAL 0x80u /* a carrier of a map or imap: in no snapshot */
#define WEFT_TASK_TAKEN 0x100u   /* the value is the caller's */
#define WEFT_TASK_STARTED 0x200u /* counted as queued */
#define WEFT_TASK_HOOKED 0x400u  /* has hooks, its own or the runtime's */
#define WEFT_TASK_NOTED 0x800u   /* failed, and a group keeps a note of it (failure.h), which hears when the record is freed */

struct weft_task_ext;

struct weft_task {
    _Atomic uint32_t state;
    _Atomic uint32_t refs;
    union {
        weft_task_fn *fn;
        void *value; /* from ENDING on */
    };
    void *arg;
    _Atomic(struct weft_group *) group; /* the membership of a task spawned into a group; others are in the extension */
    struct weft_waitq waitq;            /* joiners, links */
    struct weft_scope scope;            /* 16 bytes */
    _Atomic(struct weft_task_ext *) ext;
};

_Static_assert(sizeof(struct weft_task) == 64 && offsetof(struct weft_task, group) == 24, "the record is one line");
_Static_assert(offsetof(struct weft_task, waitq) == 32 && offsetof(struct weft_task, scope) == 40, "design of the record");
_Static_assert(offsetof(struct weft_task, ext) == 56, "design of the record");

/* By add, start or the group's creation: membership.h has the rest of it. */
struct weft_stay;
struct weft_membership {
    struct weft_group *group;
    struct weft_membership *next;
};

/* Links that the end has set free, in their order; under the task's queue lock. */
struct weft_link;
struct weft_link_chain {
    struct weft_link *first, *last;
    bool busy; /* one of them is running and will call the next */
};

struct weft_task_ext {
    struct weft_task *task;
    weft_free_fn *arg_free, *result_free;
    struct weft_task_hooks hooks; /* valid if has_hooks */
    bool has_hooks;
    _Atomic(struct weft_fiber *) fiber; /* of its own size, until it runs or is cancelled */
    bool own_stack;
    int64_t deadline;
    struct weft_timer deadline_timer, start_timer;
    struct weft_deferred deadline_due, start_due;
    _Atomic(struct weft_membership *) memberships; /* changed under the task's queue lock */
    struct weft_link_chain links;
    struct weft_stay *stay;    /* of a task that is spawned into a pool by way of its queue, or on a loan (membership.h) */
    struct weft_local *locals; /* key.c */
    char *name;
};

/* Something that lives in a runtime and would keep it from ending: called once when destroy begins, with `drains_lock` held, to keep
 * what `run` then works on, unlocked. */
struct weft_drain {
    struct weft_drain *next, *previous;
    void (*retain)(struct weft_drain *drain);
    void (*run)(struct weft_drain *drain);
};

/* A runtime with what the layers above the scheduler keep in it. */
struct weft_instance {
    struct weft_runtime runtime;
    struct weft_slab tasks;
    struct weft_waitq quiet; /* who waits until no task is left */
    _Atomic uint32_t quiet_wanted;
    _Atomic size_t objects; /* groups, maps and imaps that somebody holds */
    unsigned workers_running;
    struct weft_blocking blocking;
    struct weft_lock drains_lock;
    struct weft_drain *drains; /* what must hear that the end begins */
    struct weft_task_hooks hooks;
    bool has_hooks;
    size_t stack_bytes;
    char *name;
    struct weft_instance *next; /* all, or the free ones */
};

#define WEFT_STACK_LARGEST ((size_t)1 << 34)

void weft_drain_add(struct weft_instance *instance, struct weft_drain *drain);
void weft_drain_remove(struct weft_instance *instance, struct weft_drain *drain);

static inline struct weft_instance *weft_instance_of(struct weft_runtime *runtime)
{
    return weft_container_of(runtime, struct weft_instance, runtime);
}
static inline struct weft_runtime *weft_task_runtime(const struct weft_task *task)
{
    return &((struct weft_instance *)weft_slab_owner(task))->runtime;
}
static inline enum weft_task_state weft_task_state(const struct weft_task *task)
{
    return (enum weft_task_state)(a_load(&task->state, ACQUIRE) & WEFT_TASK_STATE);
}

/* 0 when a call may go on; -EPERM in the child of a fork; -ESHUTDOWN when the runtime has ended. */
int weft_runtime_usable(struct weft_runtime *runtime);
/* NULL becomes the caller's current runtime or the default one. 0, -ENOMEM, -EPERM, -ESHUTDOWN, or why the default could not start. */
int weft_runtime_resolve(struct weft_runtime **runtime);

/* A private record, visible to nobody, options applied (NULL: none; `base` fills what `options` leaves unset). Takes nothing over when
 * it fails: -EINVAL, -E2BIG, -ENOMEM. Then either unmake, which calls nothing of the user's; or publish. */
/* For tasks of the library itself: also while stacks are short (they wait for one, unstarted). */
int weft_task_make_internal(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, struct weft_task **out);
/* The same with name, stack, guard and hooks of `options` (NULL: none). Hooks of such tasks are only those, never the runtime's. */
int weft_task_make_wrapper(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                           struct weft_task **out);
int weft_task_make(struct weft_runtime *runtime, weft_task_fn *fn, void *arg, const struct weft_task_options *options,
                   const struct weft_task_options *base, struct weft_task **out);
void weft_task_unmake(struct weft_task *task);
/* For members, before they enter their group: the walk of a kill that comes after the entry finds the record, and waits until it is
 * published or unmade. */
void weft_task_reserve(struct weft_task *task, bool handle);
void weft_task_unreserve(struct weft_task *task, bool handle); /* before unmake */
/* Makes it known, in state NEW or QUEUED, with one reference, or two if the caller wants a handle as well. Takes over `arg`; counts it as
 * spawned, calls the spawn hook. -ESHUTDOWN (nothing changed): a foreign thread, and the runtime is being destroyed; not if `flags` has
 * WEFT_TASK_LATE, for tasks that the library owes. */
int weft_task_publish(struct weft_task *task, enum weft_task_state state, unsigned flags, bool handle);
/* The same with QUEUED, and pushed: the runtime does not end in between. */
int weft_task_send(struct weft_task *task, bool handle);
/* weft_task_launch, and pushed, likewise. */
int weft_task_set_going(struct weft_task *task, enum weft_task_state from);
/* NEW or CLAIMED (`from`) → QUEUED, counted, with the runtime's reference: the caller now pushes it. -EALREADY, -ESHUTDOWN. */
int weft_task_launch(struct weft_task *task, enum weft_task_state from);
/* NEW → CLAIMED, and back. False: it was started or killed. */
bool weft_task_lay_claim(struct weft_task *task);
bool weft_task_drop_claim(struct weft_task *task);
bool weft_task_try_retain(struct weft_task *task); /* false: it is free */
/* Cancels a task that has not run; false if it has been claimed otherwise. */
bool weft_task_cancel_unstarted(struct weft_task *task, int reason);
/* The kill of a group: 0 if it was marked or had ended, -EALREADY if it is dying. */
int weft_task_kill_once(struct weft_task *task, int reason);
void weft_task_read_outcome(struct weft_task *task, struct weft_outcome *outcome); /* of a settled one */
bool weft_task_settled(struct weft_task *task);                                    /* FINISHED; waits ENDING out */
bool weft_task_is_finished(void *task); /* without waiting, for weft_wait_until: under the queue's lock nobody spins */
struct weft_task_ext *weft_task_extend(struct weft_task *task); /* NULL: no memory */
void weft_locals_end(struct weft_task_ext *ext);                /* key.c: gives every value to its destructor */
/* T2: what a function returned, in a scope whose word is this, and whether a kill explains it. */
enum weft_status weft_scope_judge(uint64_t word, int rc, int *error);
/* The runner's call: the task is on the runner's stack. */
void weft_task_run(struct weft_worker *worker, struct weft_task *task);
/* A call that works in a runtime, or may set a task of it going, from a thread that may be no worker of it: counted like a task that was
 * started (T5), so that destroy and join wait for `leave`, after which the caller touches nothing of the runtime, unless it holds a
 * reference to a task of it. 0; -ESHUTDOWN: destroy has begun, and the caller is not inside already. */
int weft_runtime_enter(struct weft_runtime *runtime);
/* enter, for who is no worker of the runtime: the task that it makes known may be killed at once, and be the last, before it is pushed.
 * `*visits`: leave is due. */
int weft_runtime_visit(struct weft_runtime *runtime, bool *visits);
void weft_runtime_leave(struct weft_runtime *runtime);
/* The calling code runs on this runtime, or in an item of a map of it. */
bool weft_runtime_is_mine(struct weft_runtime *runtime);
/* A task that represents a foreign thread, which has entered, while it runs items: RUNNING, never queued. */
int weft_task_make_carrier(struct weft_runtime *runtime, struct weft_task **out); /* 0, -ENOMEM */
void weft_task_end_carrier(struct weft_task *task);

/* After `ended` grew on a thread that is not a worker: somebody may wait for that. */
void weft_instance_look(struct weft_instance *instance);
/* An object of the instance was freed: after its end, the last one lets the instance be used again. */
void weft_instance_released(struct weft_instance *instance);

static inline void weft_deferred_add(struct weft_expired *expired, struct weft_deferred *deferred)
{
    deferred->next = NULL;
    *expired->deferred_end = deferred;
    expired->deferred_end = &deferred->next;
}

/* Every record of the runtime that is in use, retained while `visit` runs; false ends the walk. */
void weft_tasks_each(struct weft_runtime *runtime, bool (*visit)(struct weft_task *task, void *context), void *context);

/* What the end of a task means to groups, filled in by membership.c before any runtime exists. Between ENDING and FINISHED: */
struct weft_task_leave {
    bool (*withdraw)(struct weft_task *task, struct weft_stay *stay); /* true, once: it stood in a pool's queue, and does no more */
    void (*spawned)(struct weft_group *group, struct weft_task *task);
    void (*added)(struct weft_membership *membership, struct weft_task *task); /* frees it, too */
    void (*forget)(struct weft_task *task);                                    /* a NOTED record is freed */
};
void weft_task_set_leave(const struct weft_task_leave *leave);

/* link.c. Under the queue's lock, at the end: a waiter of kind LINK joins the chain; true if the caller is to advance it, unlocked. */
bool weft_link_release(struct weft_task *task, struct weft_waiter *waiter);
/* A link that calls back in a task with these options (name, stack, guard, hooks). */
int weft_task_link_callback(struct weft_task *task, weft_callback_fn *callback, void *arg, unsigned flags,
                            const struct weft_task_options *options, uint64_t *id);
void weft_links_advance(struct weft_task *task);

/* `hold` takes or gives back locks of process-wide data around fork, so that the child finds it whole. Called by constructors. */
void weft_fork_guard(void (*hold)(bool hold));

/* What `options` leaves unset comes from `base`. */
void weft_task_options_merge(struct weft_task_options *options, const struct weft_task_options *base);
/* Reads an option struct of any version into one of ours. -EINVAL, -E2BIG. A NULL source gives zeros. */
int weft_options_read(void *into, size_t known, const void *from);

#endif
