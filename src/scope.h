/* A scope: what can be killed. One in every task record, and one for each participation of a task in a map that it called.
 *
 * The kill flag is never on a fiber or slot: a runner calls many tasks on one, and a late kill would hit the next (H45).
 *
 * word = {reason:16, given:16, flags:32}. `reason` is what the pending kill asks for, `given` what cancel_reason tells: the latest
 * reason that a call has returned -ECANCELED for (both positive errno values). When a task ends, `given` becomes its outcome's error.
 *
 * | flags before | kill of the task | kill of its group | a wait, a cancellation point | checkpoint |
 * |---|---|---|---|---|
 * | none | REQUESTED: 0 | REQUESTED: 0 | nothing | 0 |
 * | REQUESTED | -EALREADY | -EALREADY | REQUESTED → DELIVERED: -ECANCELED | -ECANCELED; tells the reason |
 * | DELIVERED | REQUESTED again: 0 | -EALREADY | nothing | -ECANCELED |
 * | MASKED beside them | the same | the same | nothing | 0 |
 *
 * After a request the killer follows `slot`: to a wait in this scope, which it claims; or to the map that was called from it, which it
 * kills. | X1 | request: seq_cst update of word, then loads of slot, scope and claim | X2 | a task sleeps with its kill pending (H22) |
 *        | X2 | commit: seq_cst claim PARKED, then load of word; or a frame pushed under the slot's lock, then load of word | X1 | the same | */
#ifndef WEFT_SCOPE_H
#define WEFT_SCOPE_H

#include "injector.h"
#include "thread.h"
#include "waitq.h"

enum { WEFT_SCOPE_REQUESTED = 1, WEFT_SCOPE_DELIVERED = 2, WEFT_SCOPE_MASKED = 4, WEFT_SCOPE_FLAGS = 7 };

struct weft_scope {
    _Atomic uint64_t word;
    union {
        _Atomic(struct weft_slot *) slot; /* where it runs; set before the first instruction of user code in it */
        struct weft_injector_node node;   /* of a task that nobody has started */
    };
};

/* A participation in a map, innermost first: `scope` is current while this frame is the innermost. */
struct weft_frame {
    struct weft_frame *outer;
    struct weft_scope *outer_scope; /* current when the call was made */
    struct weft_task *outer_task;
    struct weft_scope *scope;
    void *work;                   /* the map or imap, type-stable */
    struct weft_runtime *runtime; /* which the work keeps from ending; NULL of a link */
    const struct weft_frame_ops *ops;
    bool blocked; /* `block` was called and `resume` not yet */
};

struct weft_frame_ops {
    void (*block)(struct weft_frame *frame);   /* the code inside is about to wait: other hands may do the rest meanwhile */
    void (*resume)(struct weft_frame *frame);  /* it goes on */
    void *(*retain)(struct weft_frame *frame); /* under the slot's lock: keeps the work for kill */
    void (*kill)(void *retained, int reason);  /* gives it back, too */
};

static inline int weft_scope_reason(uint64_t word) { return -(int)(word >> 48); }
static inline int weft_scope_given(uint64_t word) { return -(int)(word >> 32 & 0xffff); }
static inline uint64_t weft_scope_make(int reason, int given, unsigned flags)
{
    return (uint64_t)-reason << 48 | (uint64_t)-given << 32 | flags;
}
static inline bool weft_scope_deliverable(uint64_t word)
{
    return (word & (WEFT_SCOPE_REQUESTED | WEFT_SCOPE_MASKED)) == WEFT_SCOPE_REQUESTED;
}

void weft_scope_init(struct weft_scope *scope);
/* Any thread that keeps the scope alive. `again`: a kill of the task, which may follow one that was delivered. 0 or -EALREADY. */
int weft_scope_request(struct weft_scope *scope, int reason, bool again);
void weft_scope_wake(struct weft_scope *scope, int reason); /* after a request that returned 0 */
/* Owner. True if a kill was pending, which is now delivered. */
bool weft_scope_deliver(struct weft_scope *scope);

/* Owner: enters and leaves a frame. Pushing does not look for a kill that came before: the caller does, after it (X2). */
void weft_frame_push(struct weft_slot *slot, struct weft_frame *frame, struct weft_task *task);
void weft_frame_pop(struct weft_slot *slot, struct weft_frame *frame);

/* The start of every cancellation point: -ECANCELED delivers a kill, -EPERM inside a raw link, -ENOMEM: a new foreign thread and no
 * memory to know it by; else 0. */
int weft_cancel_point(void);

#endif
