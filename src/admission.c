#include "admission.h"

#include <limits.h>

enum { WAITERS = WEFT_ADMISSION_WAITERS, WATCHED = WEFT_ADMISSION_WATCHED, ONE = WEFT_ADMISSION_ONE };

static uint64_t used_of(uint64_t word) { return weft_admission_used(word); }

void weft_admission_init(struct weft_admission *admission, bool bounded, size_t size, struct weft_group *group)
{
    a_store(&admission->word, 0u, RELAXED); /* not the queues */
    a_store(&admission->size, size, RELAXED);
    a_store(&admission->bounded, bounded, RELAXED);
    a_store(&admission->loan_count, 0u, RELAXED);
    a_store(&admission->shuts, 0u, RELAXED);
    admission->closed = admission->held = admission->reached = false;
    admission->next_pool = NULL;
    admission->tail = NULL;
    admission->loans = NULL;
    admission->group = group;
    if (bounded) {
        weft_loans_add_pool(admission);
    }
}

void weft_admission_fini(struct weft_admission *admission)
{
    if (weft_admission_bounded(admission)) {
        weft_loans_remove_pool(admission);
    }
}

bool weft_admission_has_waiters(const struct weft_admission *admission)
{
    return (a_load(&admission->word, SEQ_CST) & WAITERS) != 0; /* loan.c: after loans_open was counted */
}

/* ---- giving slots out; all under the queue's lock ---- */

static bool take_free(struct weft_admission *admission, bool although_waiters)
{
    uint64_t word = a_load(&admission->word, ACQUIRE);
    while ((although_waiters || !(word & WAITERS)) && used_of(word) < a_load(&admission->size, RELAXED)) {
        if (a_cas(&admission->word, &word, word + ONE, ACQ_REL, ACQUIRE)) { /* A1, pairs with A2 */
            return true;
        }
    }
    return false;
}

static void fill(struct weft_token *token, struct weft_admission *admission, struct weft_loan *loan)
{
    token->admission = admission;
    a_store(&token->loan, loan, RELAXED);
    if (loan) {
        loan->borrower = token;
    }
}

static struct weft_loan *loan_for(struct weft_admission *admission, const struct weft_request *request)
{
    for (struct weft_loan *loan = admission->loans; loan; loan = loan->next) {
        if (!loan->borrower && weft_loan_is_for(loan, request)) {
            return loan;
        }
    }
    return NULL;
}

void weft_admission_note_waiters(struct weft_admission *admission, const struct weft_waiter *tail)
{
    if (tail) {
        a_or(&admission->word, (uint64_t)WAITERS, SEQ_CST); /* A3 */
    } else {
        a_and(&admission->word, ~(uint64_t)WAITERS, SEQ_CST);
    }
}

/* A spawner that is leaving for another reason takes nothing: false. */
bool weft_admission_hand_over(struct weft_admission *admission, struct weft_waiter **tail, struct weft_request *request,
                              struct weft_loan *loan, struct weft_waiter **ready)
{
    fill(request->token, admission, loan);
    if (request->grant) {
        weft_waitq_unlink(tail, &request->waiter);
        request->granted = true;
        request->grant(request);
        return true;
    }
    if (weft_waitq_claim(tail, &request->waiter, NULL, ready)) {
        return true;
    }
    if (loan) {
        loan->borrower = NULL;
    }
    return false;
}

/* The first in the queue that an open loan is meant for. */
static bool admit_by_loan(struct weft_admission *admission, struct weft_waiter **tail, struct weft_waiter **ready)
{
    if (!admission->loans || !*tail) {
        return false;
    }
    struct weft_waiter *last = *tail, *waiter = last, *next = last->next;
    do {
        waiter = next;
        next = waiter->next;
        struct weft_loan *loan = loan_for(admission, weft_request_of(waiter));
        if (loan) {
            (void)weft_admission_hand_over(admission, tail, weft_request_of(waiter), loan, ready);
            return true; /* the queue has changed: look again */
        }
    } while (waiter != last);
    return false;
}

/* How many of those who wait in the queue hold a slot meanwhile. */
size_t weft_admission_waiting_members(struct weft_waiter *tail)
{
    size_t members = 0;
    struct weft_waiter *waiter = tail;
    for (bool more = tail != NULL; more; more = waiter != tail) {
        waiter = waiter->next;
        members += weft_request_of(waiter)->member && !weft_request_of(waiter)->grant;
    }
    return members;
}

/* Takes somebody out of the queue with a negative code. False: it was going anyway. */
static bool refuse(struct weft_waiter **tail, struct weft_request *request, int code, struct weft_waiter **ready)
{
    request->ended = code;
    return weft_waitq_claim(tail, &request->waiter, NULL, ready);
}

/* P7, where not a wait but the end of a debt has closed the circle. */
static void break_circle(struct weft_admission *admission, struct weft_waiter **tail, struct weft_waiter **ready)
{
    size_t members = weft_admission_waiting_members(*tail);
    if (members == 0 || members < used_of(a_load(&admission->word, RELAXED))) {
        return;
    }
    struct weft_waiter *waiter = *tail;
    while (!weft_request_of(waiter)->member || weft_request_of(waiter)->grant) {
        waiter = waiter->previous;
    }
    (void)refuse(tail, weft_request_of(waiter), -EDEADLK, ready);
}

/* Admits whoever can be: the first ones by free slots, anybody by a loan that is meant for it. Keeps WAITERS true. */
static bool admit(struct weft_admission *admission, struct weft_waiter **tail, struct weft_waiter **ready)
{
    bool any = false;
    while (*tail && take_free(admission, true)) {
        bool given = false;
        while (*tail && !given) {
            given = weft_admission_hand_over(admission, tail, weft_request_of((*tail)->next), NULL, ready);
        }
        if (!given) {
            a_sub(&admission->word, (uint64_t)ONE, RELEASE); /* A2 */
        }
        any = any || given;
    }
    while (admit_by_loan(admission, tail, ready)) {
        any = true;
    }
    weft_admission_note_waiters(admission, *tail);
    return any;
}

void weft_admission_admit_and_unlock(struct weft_admission *admission, struct weft_waiter *tail, bool freed)
{
    struct weft_waiter *ready = NULL;
    if (!admit(admission, &tail, &ready) && freed) {
        break_circle(admission, &tail, &ready);
        weft_admission_note_waiters(admission, tail);
    }
    uint64_t word = a_load(&admission->word, RELAXED);
    bool watched = (word & WATCHED) && !(word & WAITERS) && used_of(word) < a_load(&admission->size, RELAXED);
    if (watched) {
        a_and(&admission->word, ~(uint64_t)WATCHED, RELAXED);
    }
    weft_waitq_unlock(&admission->queue, tail);
    weft_waitq_ready(ready);
    if (watched) {
        weft_waitq_wake_all(&admission->watchers);
    }
}

/* ---- asking ---- */

/* Under the lock: by a loan first, which costs nobody a slot; then by a free slot that nobody waits for. */
bool weft_admission_take_now(struct weft_admission *admission, const struct weft_waiter *tail, struct weft_request *request)
{
    struct weft_loan *loan = loan_for(admission, request);
    if (loan || (!tail && take_free(admission, true))) {
        fill(request->token, admission, loan);
        return true;
    }
    return false;
}

bool weft_admission_try_free(struct weft_admission *admission, struct weft_token *token)
{
    if (a_load(&admission->loan_count, RELAXED) == 0 && take_free(admission, false)) {
        fill(token, admission, NULL);
        return true;
    }
    return false;
}

bool weft_admission_try(struct weft_admission *admission, struct weft_request *request)
{
    if (!weft_admission_bounded(admission)) {
        fill(request->token, NULL, NULL);
        return true;
    }
    if (weft_admission_try_free(admission, request->token)) {
        return true;
    }
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    bool taken = weft_admission_take_now(admission, tail, request);
    weft_waitq_unlock(&admission->queue, tail);
    return taken;
}

void weft_admission_queue(struct weft_admission *admission, struct weft_request *request)
{
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    if (request->ended) {
        weft_waitq_unlock(&admission->queue, tail);
        return;
    }
    request->waiter = (struct weft_waiter){ .kind = WEFT_WAITER_LINK };
    weft_waitq_link(&tail, &request->waiter);
    a_or(&admission->word, (uint64_t)WAITERS, SEQ_CST);
    weft_admission_admit_and_unlock(admission, tail, false);
    weft_loans_look_again();
}

bool weft_admission_withdraw(struct weft_admission *admission, struct weft_request *request)
{
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    bool mine = !request->granted && !request->ended;
    if (mine) {
        request->ended = -ECANCELED;
    }
    if (request->waiter.linked) {
        weft_waitq_unlink(&tail, &request->waiter);
        weft_admission_note_waiters(admission, tail);
    }
    weft_waitq_unlock(&admission->queue, tail);
    return mine;
}

/* ---- giving back ---- */

void weft_admission_release(struct weft_token *token)
{
    struct weft_admission *admission = token->admission;
    if (!admission) {
        return;
    }
    token->admission = NULL;
    if (!a_load(&token->loan, ACQUIRE)) { /* pairs with L3 of lending.c */
        uint64_t word = a_load(&admission->word, RELAXED);
        while (!(word & (WAITERS | WATCHED))) {
            if (a_cas(&admission->word, &word, word - ONE, RELEASE, RELAXED)) { /* A2, pairs with A1 and A3 */
                return;
            }
        }
    }
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    struct weft_loan *loan = a_load(&token->loan, RELAXED);
    if (loan) {
        loan->borrower = NULL;
    } else {
        a_sub(&admission->word, (uint64_t)ONE, RELEASE);
    }
    weft_admission_admit_and_unlock(admission, tail, !loan);
    if (loan) {
        weft_loans_look_again(); /* it can be had again, perhaps by who waits in another pool */
    }
}

void weft_token_move(struct weft_token *token, struct weft_token *into)
{
    struct weft_admission *admission = token->admission;
    if (!admission) {
        fill(into, NULL, NULL);
        return;
    }
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    fill(into, admission, a_load(&token->loan, RELAXED));
    weft_waitq_unlock(&admission->queue, tail);
}

void weft_admission_force(struct weft_admission *admission, struct weft_token *token)
{
    fill(token, weft_admission_bounded(admission) ? admission : NULL, NULL);
    if (token->admission) {
        a_add(&admission->word, (uint64_t)ONE, ACQ_REL); /* A1 */
    }
}

enum whom { OUTSIDERS, ALL, NEWCOMERS }; /* who hold no slot of this pool; all; all but those that stay when the group is closed */

static bool concerns(const struct weft_request *request, enum whom whom)
{
    return !request->grant && (whom == ALL || (whom == OUTSIDERS ? !request->member : !request->stays));
}

/* Under the lock. */
static void refuse_all(struct weft_waiter **tail, enum whom whom, struct weft_waiter **ready)
{
    struct weft_waiter *last = *tail, *next = last ? last->next : NULL;
    for (struct weft_waiter *waiter = NULL; last && waiter != last;) {
        waiter = next;
        next = waiter->next;
        struct weft_request *request = weft_request_of(waiter);
        if (concerns(request, whom)) {
            (void)refuse(tail, request, -ESHUTDOWN, ready);
        }
    }
}

static void shut(struct weft_admission *admission, enum whom whom)
{
    struct weft_waiter *ready = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    if (whom == NEWCOMERS) {
        admission->closed = true;
    } else {
        a_add(&admission->shuts, 1u, RELEASE); /* A4 */
    }
    refuse_all(&tail, whom, &ready);
    (void)admit(admission, &tail, &ready);
    weft_waitq_unlock(&admission->queue, tail);
    weft_waitq_ready(ready);
}

void weft_admission_shut(struct weft_admission *admission, bool members_too) { shut(admission, members_too ? ALL : OUTSIDERS); }

void weft_admission_close(struct weft_admission *admission) { shut(admission, NEWCOMERS); }

void weft_admission_resize(struct weft_admission *admission, size_t size)
{
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    a_store(&admission->size, size, SEQ_CST);
    weft_admission_admit_and_unlock(admission, tail, false);
}

size_t weft_admission_free(const struct weft_admission *admission)
{
    size_t size = a_load(&admission->size, RELAXED);
    uint64_t used = used_of(a_load(&admission->word, ACQUIRE));
    return size == WEFT_UNLIMITED ? 1 : used < size ? (size_t)(size - used) : 0;
}

/* Under the watchers' lock: says that somebody watches, then looks. */
static bool available(void *arg)
{
    struct weft_admission *admission = arg;
    uint64_t word = a_or(&admission->word, (uint64_t)WATCHED, SEQ_CST); /* A3 */
    return !(word & WAITERS) && used_of(word) < a_load(&admission->size, SEQ_CST);
}

int weft_admission_watch(struct weft_admission *admission, int64_t deadline)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    int rc = weft_admission_bounded(admission) ? weft_wait_until(&admission->watchers, available, admission, &wait)
                                               : weft_cancel_point();
    if (rc == -ETIMEDOUT) {
        return 0;
    }
    size_t slots = weft_admission_free(admission);
    return rc != 0 ? rc : slots == 0 ? 1 : slots > INT_MAX ? INT_MAX : (int)slots;
}
