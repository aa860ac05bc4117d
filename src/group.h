/* Groups: who waits until nobody belongs any more, and what else keeps a group. A pool is a group whose admission has a size.
 *
 * word = {pending:61, KILLING, CLOSED, WAITERS}. `pending` counts all that keeps the group non-empty; `extras` of them are no members:
 * waiting spawners, queued applies, maps, imaps. len = pending - extras. The protocol of the last member and the joiners is
 * tests/models/join.pml:
 *
 *   Joiner:   lock the queue; G1: set WAITERS; pending is 0: return; else link and sleep.
 *   Finisher: WAITERS is set and pending is 1: lock the queue, decrement; if it is 0 now, claim every joiner, clear WAITERS, unlock: that
 *             is its last access. Otherwise one compare-and-swap, G2.
 *
 * Reaching zero under the lock means that a joiner is linked before the zero that it waits for, or sees it; and that a group that is
 * non-empty again at once still lets go those who saw it empty (G5). Either G1 precedes G2 in the order of changes of word, and the
 * finisher goes to the lock; or G2 precedes G1, and the joiner sees 0.
 *
 * KILLING is set while somebody waits in kill: what enters then is killed by whoever made it, whose update of word came after the
 * killer's. What entered before is seen by the killer's walk over the records, because the killer's update of word came after (G3: both
 * are read-modify-writes of one variable).
 *
 * Late touches. A waiter whose wait was claimed before it slept (EARLY, waitq.h) locks the object's queue once more before it returns;
 * a lender that comes back, and the end of a task that came by way of a queue, lock the pool's queue, in which a discard may have left
 * them nothing to do. Meanwhile the group may have been destroyed, and its memory, which is type-stable, may serve another group. That
 * is harmless because of what such a touch does: it locks, finds nothing of its own (its node is not linked, its loan not open, its
 * request granted), and unlocks with the tail that it found. And because nothing breaks its lock: the words of `joiners`, of the
 * admission's `queue` and `watchers`, and of `lock` are zero when the memory is new and are never written but by locking and unlocking,
 * not when a group is made either. A queue without waiters that nobody holds is zero again: so destroy leaves them as create wants them.
 *
 * extras changes beside word, acq_rel: it grows before word does, and shrinks when what it counts has become a member or is about to leave;
 * weft_group_len reads it first. So len may be too small for a moment, and is exact when nothing changes (G2 of the contract).
 *
 * Options for the group's tasks are blocks that never change; the current one is published (G4, release and acquire), the others stay
 * until the group goes, because a spawner may be reading one. */
#ifndef WEFT_GROUP_H
#define WEFT_GROUP_H

#include "admission.h"

enum { WEFT_GROUP_WAITERS = 1, WEFT_GROUP_CLOSED = 2, WEFT_GROUP_KILLING = 4, WEFT_GROUP_ONE = 8 };

/* A map or imap that runs in a group. */
struct weft_work {
    struct weft_work *next, *previous;                /* of the group, under its lock */
    struct weft_group *group;                         /* NULL: a private one */
    void *(*retain)(struct weft_work *work);          /* NULL: it is over */
    void (*kill)(struct weft_work *work, int reason); /* gives the reference back */
};

struct weft_failure;

/* What the group's tasks get where a call leaves a field unset. */
struct weft_defaults {
    struct weft_defaults *older;
    struct weft_task_options options;
    char name[];
};

struct weft_group {
    _Atomic uint64_t word;
    _Atomic size_t extras;
    struct weft_waitq joiners;
    struct weft_admission admission;
    struct weft_lock lock; /* works, killers, callers, all_defaults */
    struct weft_runtime *runtime;
    struct weft_work *works;
    unsigned killers;
    unsigned callers; /* inside a call that looks at the group after its wait */
    _Atomic int kill_reason;
    _Atomic uint32_t listeners; /* failure.h, as the next four */
    struct weft_failure *failures, *failures_last;
    size_t unnoted;
    int unnoted_error;
    bool forget_errors;
    _Atomic(struct weft_defaults *) defaults;
    struct weft_defaults *all_defaults;
    char *name;
    uint64_t slab_link;
};

static inline uint64_t weft_group_pending(uint64_t word) { return word / WEFT_GROUP_ONE; }

/* One more that keeps it non-empty: 0, or -ESHUTDOWN. `*killing`: the group is being killed; so must be what entered. */
int weft_group_enter(struct weft_group *group, bool *killing);
void weft_group_leave(struct weft_group *group); /* the caller's last access */
/* A map or imap begins and ends. begin: 0, -ESHUTDOWN; -ECANCELED while it is being killed. */
int weft_group_begin_work(struct weft_group *group, struct weft_work *work);
void weft_group_end_work(struct weft_work *work);
int weft_group_usable(struct weft_group *group);
/* Until it was empty once. 0, -ETIMEDOUT, and what a wait may return. */
int weft_group_wait_empty(struct weft_group *group, int64_t deadline, bool cancellable);
/* What spawn and apply, and the group's own tasks, get beside their own options; NULL: nothing. */
static inline const struct weft_task_options *weft_group_defaults(struct weft_group *group)
{
    struct weft_defaults *defaults = a_load(&group->defaults, ACQUIRE); /* G4 */
    return defaults ? &defaults->options : NULL;
}

/* A task of the library's own that works for the group (NULL: for none), with what its options say for such (contract G11). */
static inline int weft_group_make_wrapper(struct weft_group *group, struct weft_runtime *runtime, weft_task_fn *fn, void *arg,
                                          struct weft_task **out)
{
    return weft_task_make_wrapper(runtime, fn, arg, group ? weft_group_defaults(group) : NULL, out);
}

/* spawn.c. For members-to-be: 0 with a slot, 1 if the task `until` has ended, or as weft_admission_wait. `*entered`: it had to wait, and
 * is counted in the group's word since. */
int weft_group_wait_for_slot(struct weft_group *group, struct weft_request *request, int64_t deadline, bool *entered);
/* A private task with a slot becomes a member, and is queued. `accepted`: it has entered, and a close since then does not matter.
 * Otherwise everything is undone, and the caller unmakes the task. */
int weft_group_launch(struct weft_group *group, struct weft_task *task, struct weft_token *token, bool entered, bool accepted,
                      struct weft_task **out);

#endif
