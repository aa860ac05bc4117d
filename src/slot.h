/* A slot: who waits. Every fiber has one, in its block, and every foreign thread that has ever waited.
 *
 * The claim word {epoch:56, state:8} decides, once per wait, why the wait ends: whoever moves it from ARMED or PARKED to a reason
 * owns the wake-up (wait.h tells the protocol). Epochs never repeat (56 bits: 2000 years at a wait per microsecond, H02). A killer
 * may come late, so slots are type-stable, and a KILLED claim is only a hint to look at one's scope.
 *
 * `scope` is what a kill would reach now; `frame` the innermost participation in a map or imap, with the scopes outside it. Both are
 * changed by the owner, under weft_slot_lock, because killers follow them. */
#ifndef WEFT_SLOT_H
#define WEFT_SLOT_H

#include "timer.h"

struct weft_task;
struct weft_scope;
struct weft_frame;
struct weft_runtime;

enum weft_claim {
    WEFT_CLAIM_IDLE,    /* not waiting */
    WEFT_CLAIM_ARMED,   /* published, still on its way to sleep */
    WEFT_CLAIM_PARKED,  /* asleep: whoever claims it must make it ready */
    WEFT_CLAIM_WOKEN,   /* got what it waited for */
    WEFT_CLAIM_TIMEOUT, /* its deadline passed */
    WEFT_CLAIM_KILLED,  /* its scope is to be looked at */
    WEFT_CLAIM_STATES
};

#define WEFT_CLAIM_EARLY 0x80u /* with a reason: it was claimed while ARMED, nobody makes it ready */

struct weft_slot {
    _Atomic uint64_t claim;
    _Atomic uint32_t go; /* of a foreign thread: futex; whoever claimed it while PARKED sets it, once it has let go of the waiter */
    _Atomic(struct weft_scope *) scope;
    struct weft_frame *frame;
    struct weft_task *task;       /* what runs here; NULL on a foreign thread outside items */
    struct weft_runtime *runtime; /* of a fiber; NULL of a foreign thread */
    struct weft_runtime *helps;   /* of a thread that runs blocking calls: whose */
    struct weft_timer timer;
    unsigned raw; /* depth of raw links that run here: whatever would block is -EPERM */
};

_Static_assert(sizeof(((struct weft_slot *)0)->claim) == 8, "an epoch of 32 bits wraps within hours (H02)");

/* The lock over a slot's scope and frame. It lies elsewhere, in a table: a killer that comes late may hold it while the slot's memory
 * is given back to the system. Holding one, take no other. */
struct weft_lock *weft_slot_lock(const struct weft_slot *slot);

static inline uint64_t weft_claim_make(uint64_t epoch, unsigned state) { return epoch << 8 | state; }
static inline uint64_t weft_claim_epoch(uint64_t claim) { return claim >> 8; }
static inline unsigned weft_claim_state(uint64_t claim) { return (unsigned)(claim & 0x7f); }

/* Owner, while nothing waits on it: as new, but the epoch goes on. */
static inline void weft_slot_reset(struct weft_slot *slot)
{
    a_store(&slot->scope, NULL, RELAXED);
    slot->frame = NULL;
    slot->task = NULL;
    slot->helps = NULL;
    slot->raw = 0;
}

#endif
