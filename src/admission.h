/* Admission: who may hold a slot of a pool, and in which order (contract P2, P6, P7).
 *
 * word = {used:61, WATCHED, WAITERS}. A slot that is free while nobody waits is taken and given back with one compare-and-swap; `used`
 * is never decremented speculatively. Everything that waits stands in one FIFO, the queue below: somebody who waits (claimed like any
 * waiter, wait.h), an asynchronous apply, or a crew that wants another participant (their `grant` is called). While somebody waits
 * WAITERS is set, and whoever releases a slot hands it to the first under the queue's lock.
 *
 * Loans: a holder that waits for work opens a loan of its slot, for as long as the wait lasts. A loan is given to a request only if the
 * work that is waited for has made the request: if it stands in the request's chain of callers, or if what is waited for waits itself
 * for something in that chain. A borrower gives the slot back to the loan; a lender that comes back while its slot is lent does not
 * wait: used + 1, and the borrower's slot is its own. Then used may exceed size by one until somebody releases.
 *
 *   used = slots held by members and participants with `loan` NULL, + slots being handed over.
 *   WAITERS is set exactly while the queue is not empty (changed under its lock alone).
 *   A request in the queue can be admitted neither by a free slot nor by an open loan: whoever makes one of these looks (admit).
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | A1 | acquire where a slot is taken | A2 | a member does not see what the last holder of its slot did |
 * | A2 | release where one is given back | A1, A3 | the same |
 * | A3 | seq_cst or of WAITERS or WATCHED, before the look at `used` | A2: it comes before, and the look sees the slot; or it meets the flag | a slot is free, and somebody sleeps for it |
 * | A4 | release add of shuts, under the queue's lock, after the group's kill_reason is written | acquire load of shuts, before the caller enters the group (spawn.c, crew.c, map_async.c) | a kill between entry and wait goes unnoticed; a wrong reason |
 *
 * | kind of request | grant | kill of the waiter | timeout | kill of the group | close of the group |
 * |---|---|---|---|---|---|
 * | spawn, add, start | claim WOKEN, token filled | its wait is claimed; it leaves the queue | the same | -ESHUTDOWN | -ESHUTDOWN |
 * | apply, first participant of a map | the same | the same | the same | -ESHUTDOWN | stays: the group has accepted it |
 * | apply_async | `grant`: the task is a member, and queued | its end withdraws it | - | its end withdraws it | stays |
 * | participant of a map or imap | `grant`: its carrier is queued | the crew withdraws it | the same | the same | stays |
 *
 * A request with `grant` is granted or withdrawn, once, under the queue's lock: it may be withdrawn before it has come into the queue.
 *
 * The circle (P7): were every slot held by a member that waits in this queue for a slot, none would ever be given back. A wait that
 * would make it so is refused; a slot that is given back to nobody (used exceeded size) may make it so, and then the newest of those
 * members is refused.
 *
 * Queue and watchers outlive the pool: they are never set anew when the memory serves another one (group.h, "late touches"). */
#ifndef WEFT_ADMISSION_H
#define WEFT_ADMISSION_H

#include "task.h"

struct weft_member;

struct weft_loan {
    struct weft_loan *next;
    struct weft_admission *admission; /* NULL: not open */
    struct weft_task *task;           /* the member that lends; NULL: a participation is lent */
    const struct weft_wait *wait;     /* what the lender waits for */
    struct weft_token *borrower;      /* NULL: to be had */
};

/* The right to be in a pool: a slot of one's own, or a borrowed one. */
struct weft_token {
    struct weft_admission *admission; /* NULL: none is needed */
    _Atomic(struct weft_loan *) loan; /* changed under the queue's lock: to NULL when the lender comes back first */
};

/* Where a request comes from: the innermost frame and the task of the code that makes it. */
struct weft_caller {
    struct weft_frame *frame;
    struct weft_task *task;
};

struct weft_request {
    struct weft_waiter waiter; /* kind ONE: somebody waits; kind LINK: there is `grant` */
    struct weft_token *token;
    const void *work;         /* WEFT_WORK of the map or imap that asks, the task of an apply, or NULL */
    struct weft_group *group; /* of that work */
    struct weft_task *until;  /* with the end of this task the wait ends, too; or NULL */
    struct weft_caller caller;
    uint32_t shuts; /* of the admission, read before the caller entered its group: -ESHUTDOWN if a kill has come since */
    bool member;    /* the caller holds a slot of this pool */
    bool essential; /* without it the caller's work stands still */
    bool stays;     /* the group has accepted it: a close does not end it */
    bool granted;   /* of one with `grant` */
    int ended;      /* not by a grant: -ESHUTDOWN, -EDEADLK; -ECANCELED: withdrawn */
    void (*grant)(struct weft_request *request); /* under the queue's lock: short */
};

struct weft_admission {
    _Atomic uint64_t word;
    _Atomic size_t size;
    _Atomic uint32_t bounded; /* it counts its slots: a pool, be its size WEFT_UNLIMITED */
    bool closed;              /* under the queue's lock */
    struct weft_waitq queue;
    struct weft_waitq watchers;
    /* loan.c, under its lock of all pools */
    struct weft_admission *next_pool;
    struct weft_waiter *tail; /* of the queue, while that lock's holder holds it */
    bool held, reached;
    struct weft_loan *loans; /* under the queue's lock */
    _Atomic uint32_t loan_count;
    _Atomic uint32_t shuts; /* how often the queue was shut; changed under its lock */
    struct weft_group *group;
};

/* Work that is no task, as `awaited` names it. */
#define WEFT_WORK(object) ((const void *)((uintptr_t)(object) | 1u))

void weft_admission_init(struct weft_admission *admission, bool bounded, size_t size, struct weft_group *group);
static inline bool weft_admission_bounded(const struct weft_admission *admission)
{
    return a_load(&admission->bounded, RELAXED) != 0;
}
struct weft_caller weft_caller_self(void);
/* Steps from where the code at `at` runs to whoever called it. True: it worked for `*work` in `*group` (NULL: a private one). False: `at` is at
 * the outermost caller, of whom only at->task is left. */
bool weft_caller_outward(struct weft_caller *at, const void **work, struct weft_group **group);
/* The caller's own token in this pool, if it has one there. */
bool weft_caller_holds(struct weft_caller caller, const struct weft_admission *admission);

/* Of a pool: takes a free slot that nobody waits for, while no loan is open, which might be meant for the caller. */
bool weft_admission_try_free(struct weft_admission *admission, struct weft_token *token);
/* False: it would have to wait. */
bool weft_admission_try(struct weft_admission *admission, struct weft_request *request);
/* 0; 1: the task `until` has ended; -EAGAIN (NOWAIT), -ETIMEDOUT, -ECANCELED, -ESHUTDOWN, -EDEADLK, -ENOMEM. */
int weft_admission_wait(struct weft_admission *admission, struct weft_request *request, int64_t deadline);
/* For requests with `grant`: now, or later; never, if it has been withdrawn already. */
void weft_admission_queue(struct weft_admission *admission, struct weft_request *request);
/* True, once: it will not be granted any more. False: it has been granted, or withdrawn before. */
bool weft_admission_withdraw(struct weft_admission *admission, struct weft_request *request);
void weft_admission_release(struct weft_token *token);
/* One slot used beyond what was asked for: a member that is there already. */
void weft_admission_force(struct weft_admission *admission, struct weft_token *token);
/* Ends those who wait with -ESHUTDOWN, and those who hold a slot of this pool meanwhile only if `members_too`; requests with `grant` are
 * ended by their owners. */
void weft_admission_shut(struct weft_admission *admission, bool members_too);
/* The same for good, but for those that stay. */
void weft_admission_close(struct weft_admission *admission);
void weft_admission_resize(struct weft_admission *admission, size_t size);
void weft_admission_fini(struct weft_admission *admission);
size_t weft_admission_free(const struct weft_admission *admission);
int weft_admission_watch(struct weft_admission *admission, int64_t deadline);

/* For the other sources of this layer, under the queue's lock. */
enum { WEFT_ADMISSION_WAITERS = 1, WEFT_ADMISSION_WATCHED = 2, WEFT_ADMISSION_ONE = 4 };
static inline uint64_t weft_admission_used(uint64_t word) { return word / WEFT_ADMISSION_ONE; }
bool weft_admission_take_now(struct weft_admission *admission, const struct weft_waiter *tail, struct weft_request *request);
size_t weft_admission_waiting_members(struct weft_waiter *tail);
bool weft_admission_hand_over(struct weft_admission *admission, struct weft_waiter **tail, struct weft_request *request,
                              struct weft_loan *loan, struct weft_waiter **ready);
void weft_admission_note_waiters(struct weft_admission *admission, const struct weft_waiter *tail);
/* `freed`: `used` has become less. */
void weft_admission_admit_and_unlock(struct weft_admission *admission, struct weft_waiter *tail, bool freed);
bool weft_admission_has_waiters(const struct weft_admission *admission);
static inline struct weft_request *weft_request_of(struct weft_waiter *waiter)
{
    return weft_container_of(waiter, struct weft_request, waiter);
}

/* loan.c */
bool weft_loan_is_for(const struct weft_loan *loan, const struct weft_request *request);
void weft_loans_add_pool(struct weft_admission *admission);
void weft_loans_remove_pool(struct weft_admission *admission);
void weft_loans_look_again(void); /* a wait has begun */
void weft_loans_count(bool opened);
/* The innermost participation, links' frames left out. */
struct weft_frame *weft_participation(struct weft_frame *frame);
/* Lends the slot of a task that was added to `group`, unless it has been discarded from there, or is lent already. */
void weft_lend_member(struct weft_task *task, struct weft_member *member, struct weft_group *group, const struct weft_wait *wait);

/* The token of this frame's participation, or NULL if it is no participation: participant.c. */
struct weft_token *weft_frame_token(struct weft_frame *frame);
/* What the frame's code works for, as `awaited` would name it, its group, and who called it. */
void weft_frame_work(struct weft_frame *frame, const void **work, struct weft_group **group, struct weft_caller *caller);
/* The loan's other end is `into` from now on. */
void weft_token_move(struct weft_token *token, struct weft_token *into);

/* Opens loans of all slots that the innermost holder on this slot has, until `weft_lending_end`. `wait` stays where it is. */
struct weft_lending {
    struct weft_loan loan;            /* of the innermost participation, or of the membership of a spawned task */
    struct weft_admission *admission; /* whose loan it is, as this knows it: a discard may have closed it */
};
void weft_lending_begin(struct weft_lending *lending, struct weft_slot *slot, const struct weft_wait *wait);
/* Who waits for work, for the walk of loan.c: on the stack or in the frame of whoever waits. */
struct weft_waiting {
    struct weft_waiting *next, *previous, *todo;
    const struct weft_wait *wait;
    struct weft_caller caller;
    bool seen;
};
void weft_waiting_begin(struct weft_waiting *me, const struct weft_wait *wait);
void weft_waiting_end(struct weft_waiting *me);
bool weft_pools_exist(void); /* else nobody needs to say that it waits */
void weft_lending_end(struct weft_lending *lending, struct weft_slot *slot);
/* A task that is in a call which waits for `work` as a whole, not only where it sleeps. */
struct weft_calling {
    struct weft_wait wait;
    struct weft_waiting waiting;
    struct weft_lending lending;
    bool listed;
};
void weft_calling_begin(struct weft_calling *calling, const void *work);
void weft_calling_end(struct weft_calling *calling);
/* A membership that came while its task waits is lent, too. */
void weft_lend_late(struct weft_task *task, struct weft_member *member, struct weft_group *group);
/* The slot of a member that is taken out of the group, perhaps while it is lent: then it is the borrower's from now on. */
void weft_admission_evict(struct weft_token *token, struct weft_task *task);

#endif
