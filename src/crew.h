/* A crew: the participants that work off a map or imap.
 *
 * A participant holds a slot of the pool and counts as a member. One is the calling thread (of a map); the others are carriers, tasks
 * of the library. As many run as there are workers, except that those whose item is blocked do not count: when an item is about to
 * wait, its participant hands its work back (ops->shed) and another one is asked for, so a blocked item never holds back its
 * neighbours (M4), and only the pool's size bounds how many are blocked.
 *
 * | state of a participant | holds | who ends it |
 * |---|---|---|
 * | ASKED | nothing; its request stands in the pool's FIFO | withdrawn when the work is over |
 * | INVITED | slot and membership; its carrier is queued | its own start, or it is revoked when the work is over (the carrier then only frees it) |
 * | ACTIVE | the same; runs | itself, when it finds nothing more to do |
 * | REVOKED | nothing | its carrier |
 *
 * All under `lock`, which is taken before a pool's queue and never held while user code runs. `active` counts ACTIVE ones; work is
 * over when none is active and none is left to be begun. A participant that leaves looks for work under the lock once more. */
#ifndef WEFT_CREW_H
#define WEFT_CREW_H

#include "group.h"
#include "range.h"

struct weft_crew;

enum weft_participant_state { WEFT_ASKED, WEFT_INVITED, WEFT_ACTIVE, WEFT_REVOKED };

struct weft_participant {
    /* Of the items of a task that called; others' items run in the scope of a carrier. First, and type-stable: whoever put a waiter to
     * sleep may look at its word late (wait.h, W3). */
    struct weft_scope scope;
    struct weft_frame frame;
    struct weft_scope *item_scope; /* one of the two */
    struct weft_crew *crew;
    struct weft_participant *next, *previous; /* of the crew */
    struct weft_token token;
    struct weft_request request;
    struct weft_task *task; /* carrier; of a foreign caller, too; NULL of a task that called */
    enum weft_participant_state state;
    /* The work at hand; what it means is the owner's (map.c, imap.c). */
    struct weft_range range;
    _Atomic uint32_t hungry;  /* a thief waits for what it may put back */
    _Atomic size_t sheddable; /* how much of the chunk at hand it had not begun when it took it */
    size_t at, limit, chunk;
    size_t ok, failed, cancelled, first_failed;
    int first_error;
    uint64_t relented; /* cycles: when it last did */
    uint64_t slab_link;
};

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
/* The caller becomes a participant; waits for a slot. 0, or what weft_admission_wait returns. */
int weft_crew_join(struct weft_crew *crew, int64_t deadline, struct weft_participant **out);
void weft_crew_leave(struct weft_participant *participant);
/* Asks for more participants as long as there is work for them. */
void weft_crew_invite(struct weft_crew *crew);
/* Nothing more begins. With a reason, running items get the kill. */
void weft_crew_stop(struct weft_crew *crew, int reason);
/* Waits until no participant is active; then those that have not begun never will. A kill of the caller meanwhile stops the crew,
 * and stays pending. */
void weft_crew_wait_over(struct weft_crew *crew);
void weft_crew_revoke(struct weft_crew *crew); /* those that have not begun will not: there is nothing left for them */
bool weft_crew_over(struct weft_crew *crew);   /* the same without waiting: false while one is active */
/* Between two items: once in a while lets what else is ready run (H32): a map is one turn of its worker otherwise, however long. */
void weft_participant_relent(struct weft_participant *participant);
/* Between two items: a kill that was meant for the last one, and its mask, do not meet the next. */
void weft_participant_renew(struct weft_participant *participant);
/* What an item returned, read as a task's (T2). */
enum weft_status weft_participant_judge(struct weft_participant *participant, int rc, int *error);

#endif
