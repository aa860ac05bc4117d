/* A crew: the participants that work off one map or imap.
 *
 * As many run as there are workers, except that those whose item is blocked do not count: when an item is about to wait, its
 * participant hands its work back (ops->shed) and another one is asked for, so a blocked item never holds back its neighbours (M4),
 * and only the pool's size bounds how many are blocked.
 *
 * `lock` is taken before a pool's queue and never held while user code runs. `active` counts ACTIVE participants; work is over when
 * none is active and none is left to be begun. */
#ifndef WEFT_CREW_H
#define WEFT_CREW_H

#include "participant.h"

struct weft_crew_ops {
    bool (*has_work)(struct weft_crew *crew);                                          /* under the lock */
    void (*work)(struct weft_crew *crew, struct weft_participant *participant);        /* until it finds nothing more */
    void (*shed)(struct weft_crew *crew, struct weft_participant *participant);        /* its item is about to wait */
    void (*count)(struct weft_crew *crew, const struct weft_participant *participant); /* under the lock: it leaves */
    void (*stopped)(struct weft_crew *crew);                                           /* unlocked; may be NULL */
    void (*free)(struct weft_crew *crew);                                              /* the last reference is gone */
};

struct weft_crew {
    struct weft_work work; /* first: the group knows it by this */
    const struct weft_crew_ops *ops;
    struct weft_runtime *runtime;
    struct weft_lock lock;
    _Atomic uint32_t refs;
    struct weft_participant *participants; /* all but REVOKED */
    struct weft_participant *asked;        /* one request at a time stands in the pool's FIFO */
    _Atomic unsigned active;               /* ACTIVE; changed under the lock */
    unsigned running;                      /* not blocked: ASKED, INVITED, or ACTIVE and not in a wait */
    unsigned limit;
    struct weft_caller caller;
    struct weft_lending lending; /* the caller's slots, while it waits for this */
    struct weft_wait lent_for;
    struct weft_waiting waiting;
    bool listed;            /* as waiting */
    bool visits;            /* the caller keeps the runtime from ending */
    uint32_t shuts;         /* of the pool, before the crew entered the group */
    _Atomic uint32_t stop;  /* nothing more begins */
    int stop_reason;        /* of a kill; 0: an error stopped it */
    struct weft_waitq over; /* who waits until none is active */
};

void weft_crew_init(struct weft_crew *crew, const struct weft_crew_ops *ops, struct weft_runtime *runtime,
                    struct weft_group *group);
void weft_crew_retain(struct weft_crew *crew);
void weft_crew_release(struct weft_crew *crew);
/* The calling code waits for this crew's work from here to `return`: its slots are lent to it. */
void weft_crew_call(struct weft_crew *crew);
void weft_crew_return(struct weft_crew *crew);
/* After that: the caller touches nothing of the runtime any more. */
void weft_crew_end_visit(struct weft_crew *crew);
/* Asks for more participants as long as there is work for them. False: there is work, and nobody, for want of memory. */
bool weft_crew_invite(struct weft_crew *crew);
/* Nothing more begins. With a reason, running items get the kill. */
void weft_crew_stop(struct weft_crew *crew, int reason);
/* Waits until no participant is active; then those that have not begun never will. If `cancellable`, a kill of the caller meanwhile stops
 * the crew; it stays pending either way. */
void weft_crew_wait_over(struct weft_crew *crew, bool cancellable);
void weft_crew_revoke(struct weft_crew *crew); /* those that have not begun will not: there is nothing left for them */
bool weft_crew_over(struct weft_crew *crew);   /* the same without waiting: false while one is active */

#endif
