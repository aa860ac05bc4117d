#include "scope.h"

#include "scheduler.h"

/* A task that has forked goes on in the child on a fiber whose runtime is not there (R6). */
static bool is_orphan(const struct weft_slot *slot) { return slot->runtime->fork_generation != os_fork_generation(); }

void weft_scope_init(struct weft_scope *scope)
{
    a_store(&scope->word, 0u, RELAXED);
    a_store(&scope->slot, NULL, RELAXED);
}

int weft_scope_request(struct weft_scope *scope, int reason, bool again)
{
    uint64_t word = a_load(&scope->word, RELAXED), wanted;
    do {
        if ((word & WEFT_SCOPE_REQUESTED) || (!again && (word & WEFT_SCOPE_DELIVERED))) {
            return -EALREADY;
        }
        wanted = weft_scope_make(reason, weft_scope_given(word), (unsigned)(word & WEFT_SCOPE_FLAGS) | WEFT_SCOPE_REQUESTED);
    } while (!a_cas(&scope->word, &word, wanted, SEQ_CST, RELAXED)); /* X1, pairs with X2 */
    return 0;
}

/* Moves a wait that the killer saw, and no later one, to KILLED. */
static void claim_killed(struct weft_slot *slot, uint64_t claim)
{
    unsigned state = weft_claim_state(claim);
    bool parked = state == WEFT_CLAIM_PARKED;
    if (!parked && state != WEFT_CLAIM_ARMED) {
        return; /* not waiting then: the next commit sees the flag */
    }
    uint64_t killed = weft_claim_make(weft_claim_epoch(claim), WEFT_CLAIM_KILLED | (parked ? 0 : WEFT_CLAIM_EARLY));
    if (a_cas(&slot->claim, &claim, killed, SEQ_CST, RELAXED)) {
        if (parked) {
            weft_slot_ready(slot);
        }
    } else if (weft_claim_epoch(claim) == weft_claim_epoch(killed) && weft_claim_state(claim) == WEFT_CLAIM_PARKED) {
        claim_killed(slot, claim); /* it fell asleep between the load and the swap */
    }
}

void weft_scope_wake(struct weft_scope *scope, int reason)
{
    struct weft_slot *slot = a_load(&scope->slot, SEQ_CST);
    if (!slot) {
        return;
    }
    uint64_t claim = a_load(&slot->claim, SEQ_CST); /* before both looks at its scope: a later wait has another epoch */
    if (!weft_scope_deliverable(a_load(&scope->word, RELAXED))) { /* after W1, which the claim's load has acquired */
        return; /* masked: it will look when it lifts the mask; or delivered, and a wait that came after keeps its place in the queue */
    }
    weft_lock(weft_slot_lock(slot));
    if (a_load(&slot->scope, SEQ_CST) == scope) {
        weft_unlock(weft_slot_lock(slot));
        claim_killed(slot, claim);
        return;
    }
    struct weft_frame *frame = slot->frame;
    while (frame && frame->outer_scope != scope) {
        frame = frame->outer;
    }
    void *work = frame ? frame->ops->retain(frame) : NULL;
    const struct weft_frame_ops *ops = frame ? frame->ops : NULL;
    weft_unlock(weft_slot_lock(slot));
    if (work) {
        ops->kill(work, reason);
    }
}

bool weft_scope_deliver(struct weft_scope *scope)
{
    uint64_t word = a_load(&scope->word, SEQ_CST), wanted;
    do {
        if (!weft_scope_deliverable(word)) {
            return false;
        }
        int reason = weft_scope_reason(word);
        wanted = weft_scope_make(reason, reason,
                                 (unsigned)((word & WEFT_SCOPE_FLAGS) & ~(unsigned)WEFT_SCOPE_REQUESTED) | WEFT_SCOPE_DELIVERED);
    } while (!a_cas(&scope->word, &word, wanted, SEQ_CST, SEQ_CST));
    return true;
}

void weft_frame_push(struct weft_slot *slot, struct weft_frame *frame, struct weft_task *task)
{
    a_store(&frame->scope->slot, slot, RELAXED);
    weft_lock(weft_slot_lock(slot));
    frame->outer = slot->frame;
    frame->outer_scope = a_load(&slot->scope, RELAXED);
    frame->outer_task = slot->task;
    frame->blocked = false;
    slot->frame = frame;
    slot->task = task;
    a_store(&slot->scope, frame->scope, RELAXED);
    weft_unlock(weft_slot_lock(slot)); /* X2: the caller now looks at outer_scope */
}

void weft_frame_pop(struct weft_slot *slot, struct weft_frame *frame)
{
    weft_lock(weft_slot_lock(slot));
    slot->frame = frame->outer;
    slot->task = frame->outer_task;
    a_store(&slot->scope, frame->outer_scope, RELAXED);
    weft_unlock(weft_slot_lock(slot));
}

int weft_cancel_point(void)
{
    struct weft_slot *slot = weft_slot_self();
    if (weft_unlikely(!slot)) {
        return -ENOMEM;
    }
    if (weft_unlikely(slot->raw > 0 || (slot->runtime && is_orphan(slot)))) {
        return -EPERM;
    }
    struct weft_scope *scope = a_load(&slot->scope, RELAXED);
    if (scope && weft_unlikely(weft_scope_deliverable(a_load(&scope->word, RELAXED))) && weft_scope_deliver(scope)) {
        return -ECANCELED;
    }
    return 0;
}
