/* Waiting for a slot; admission.h has the protocol. */
#include "admission.h"

/* Under the lock. P7: every slot is held by a member that stands in this queue, or is the caller's. */
static bool closes_the_circle(struct weft_admission *admission, struct weft_waiter *tail)
{
    return weft_admission_waiting_members(tail) + 1 >= weft_admission_used(a_load(&admission->word, RELAXED));
}

static void forget(struct weft_admission *admission, struct weft_waiter *waiter)
{
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    if (waiter->linked) {
        weft_waitq_unlink(&tail, waiter);
        weft_admission_note_waiters(admission, tail);
    }
    weft_waitq_unlock(&admission->queue, tail);
}

/* Begins a wait that the task's end shall end, too: a second node for it, in the task's queue. The epoch; 0: the task has ended. */
static uint64_t begin_until(struct weft_task *task, struct weft_waiter *end)
{
    uint64_t epoch = 0;
    (void)weft_task_settled(task);
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    if (!weft_task_is_finished(task)) {
        epoch = end->epoch = weft_wait_begin(end->slot);
        end->fired = false;
        weft_waitq_link(&tail, end);
    }
    weft_waitq_unlock(&task->waitq, tail);
    return epoch;
}

static void forget_until(struct weft_task *task, struct weft_waiter *end)
{
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq); /* also when it was popped: its waker may hold the lock still */
    if (end->linked) {
        weft_waitq_unlink(&tail, end);
    }
    weft_waitq_unlock(&task->waitq, tail);
}

int weft_admission_wait(struct weft_admission *admission, struct weft_request *request, int64_t deadline)
{
    struct weft_slot *slot = weft_slot_self();
    if (weft_admission_try(admission, request)) {
        return 0;
    }
    if (deadline == WEFT_NOWAIT) {
        return -EAGAIN;
    }
    if (!slot) {
        return -ENOMEM;
    }
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    struct weft_waiter end = { .slot = slot, .kind = WEFT_WAITER_ONE };
    for (;;) {
        uint64_t epoch = 0;
        if (request->until && (epoch = begin_until(request->until, &end)) == 0) {
            return 1;
        }
        struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
        /* Before the look: a release that does not see it has come before the look at `used`. */
        a_or(&admission->word, (uint64_t)WEFT_ADMISSION_WAITERS, SEQ_CST); /* first */
        int rc = 1;
        if (weft_admission_take_now(admission, tail, request)) {
            rc = 0;
        } else if (a_load(&admission->shuts, RELAXED) != request->shuts || (admission->closed && !request->stays)) {
            rc = -ESHUTDOWN; /* the group was killed or closed between the caller's entry and here */
        } else if (request->member && closes_the_circle(admission, tail)) {
            rc = -EDEADLK;
        } else if (deadline != WEFT_FOREVER && os_now() >= deadline) {
            rc = -ETIMEDOUT;
        }
        if (rc <= 0) {
            weft_admission_note_waiters(admission, tail);
            weft_waitq_unlock(&admission->queue, tail);
            if (request->until) {
                forget_until(request->until, &end);
                weft_wait_abandon(slot);
            }
            return rc;
        }
        request->ended = 0;
        request->essential = true;
        request->waiter =
            (struct weft_waiter){ .slot = slot, .kind = WEFT_WAITER_ONE, .epoch = request->until ? epoch : weft_wait_begin(slot) };
        weft_waitq_link(&tail, &request->waiter);
        weft_waitq_unlock(&admission->queue, tail);
        weft_loans_look_again();
        unsigned reason = weft_wait_end(slot, &wait);
        forget(admission, &request->waiter); /* also when it was claimed: whoever did has let go of the queue then */
        if (request->until) {
            forget_until(request->until, &end);
        }
        struct weft_scope *scope = a_load(&slot->scope, RELAXED);
        if ((reason & ~WEFT_CLAIM_EARLY) == WEFT_CLAIM_WOKEN) {
            return request->waiter.fired ? request->ended : 1;
        }
        if (scope && weft_scope_deliver(scope)) {
            return -ECANCELED;
        }
        if ((reason & ~WEFT_CLAIM_EARLY) == WEFT_CLAIM_TIMEOUT) {
            return -ETIMEDOUT;
        }
    }
}
