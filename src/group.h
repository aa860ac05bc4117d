/* Groups: who belongs, who waits until nobody does, who kills all. A pool is a group whose admission has a size.
 *
 * word = {pending:61, KILLING, CLOSED, WAITERS}. `pending` counts all that keeps the group non-empty; `extras` of them are no members:
 * waiting spawners, maps, imaps. len = pending - extras. The protocol of the last member and the joiners is tests/models/join.pml:
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
 * are read-modify-writes of one variable). */
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

struct weft_group {
    _Atomic uint64_t word;
    _Atomic size_t extras;
    struct weft_waitq joiners;
    struct weft_admission admission;
    struct weft_runtime *runtime;
    struct weft_lock lock; /* works, killers */
    struct weft_work *works;
    unsigned killers;
    int kill_reason;
    bool forget_errors;
    bool has_options;
    struct weft_task_options options;
    char *name, *task_name;
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
/* The calling code is a member, or runs an item of a map or imap of this group. */
bool weft_group_is_mine(struct weft_group *group);
bool weft_group_has(struct weft_group *group, struct weft_task *task);

#endif
