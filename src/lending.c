/* Lending: a holder of slots that waits opens loans of them, and closes them when it comes back.
 *
 * A loan of a membership is open if `admission` is set, and then in that pool's list; both change under the pool's queue lock. Three
 * may close it: the lender that comes back; a discard, which has taken the membership out of the task's list before it takes that lock;
 * and nobody twice, since each looks under the lock whether it is open still. It is opened only after a look, under both locks, that the
 * membership is there. So a discard that comes later finds the loan, and one that came earlier is seen (L1). A task that gets a membership
 * while it waits lends it, too: whoever adds it finds the task in `waiting`, where it puts itself before it walks its memberships, and
 * from where it goes before it walks them again to close their loans (L2). */
#include "membership.h"

/* Under the queue's lock. */
static void open_loan(struct weft_loan *loan, struct weft_admission *admission, struct weft_task *task,
                      const struct weft_wait *wait)
{
    *loan = (struct weft_loan){ .admission = admission, .task = task, .wait = wait, .next = admission->loans };
    admission->loans = loan;
    a_add(&admission->loan_count, 1u, RELAXED); /* a look that misses it asks under the lock, or finds a free slot */
    weft_loans_count(true);
}

/* Under the queue's lock: out of the list, with its borrower in hand. */
static struct weft_token *close_loan(struct weft_loan *loan)
{
    struct weft_admission *admission = loan->admission;
    struct weft_loan **link = &admission->loans;
    while (*link != loan) {
        link = &(*link)->next;
    }
    *link = loan->next;
    loan->admission = NULL;
    a_sub(&admission->loan_count, 1u, RELAXED);
    weft_loans_count(false);
    return loan->borrower;
}

/* The same, and the lender goes on: it does not wait, but is in debt, which the next release pays. */
static void take_back(struct weft_loan *loan)
{
    struct weft_admission *admission = loan->admission;
    struct weft_token *borrower = close_loan(loan);
    if (borrower) { /* the debt first: once it sees no loan it may release without the lock (L3, pairs with weft_admission_release) */
        a_add(&admission->word, WEFT_ADMISSION_ONE, RELAXED);
        a_store(&borrower->loan, NULL, RELEASE);
    }
}

/* Of a task that was spawned into its group, unless it has been discarded from there (L1). */
static void lend_spawned(struct weft_lending *lending, struct weft_task *task, const struct weft_wait *wait)
{
    struct weft_group *group = a_load(&task->group, ACQUIRE);
    if (!group || !weft_admission_bounded(&group->admission)) {
        return;
    }
    lending->admission = &group->admission;
    struct weft_waiter *tail = weft_waitq_lock(&lending->admission->queue);
    if (a_load(&task->group, ACQUIRE) != group) {
        weft_waitq_unlock(&lending->admission->queue, tail);
        return;
    }
    open_loan(&lending->loan, lending->admission, task, wait);
    weft_admission_admit_and_unlock(lending->admission, tail, false);
}

/* Of a task that was added to `group`, unless it has been discarded from there (L1), or is lent already. */
void weft_lend_member(struct weft_task *task, struct weft_member *member, struct weft_group *group, const struct weft_wait *wait)
{
    struct weft_admission *admission = &group->admission;
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    if (!weft_admission_bounded(admission) || !weft_member_mark(task, member, group, true) || member->loan.admission) {
        weft_waitq_unlock(&admission->queue, tail);
        return;
    }
    open_loan(&member->loan, admission, task, wait);
    weft_admission_admit_and_unlock(admission, tail, false);
}

void weft_lending_begin(struct weft_lending *lending, struct weft_slot *slot, const struct weft_wait *wait)
{
    lending->loan.admission = NULL;
    lending->admission = NULL;
    struct weft_frame *frame = weft_participation(slot->frame);
    if (frame) {
        lending->admission = weft_frame_token(frame)->admission;
        if (lending->admission) {
            struct weft_waiter *tail = weft_waitq_lock(&lending->admission->queue);
            open_loan(&lending->loan, lending->admission, NULL, wait);
            weft_admission_admit_and_unlock(lending->admission, tail, false);
        }
        return;
    }
    if (slot->task) {
        struct weft_member *member;
        struct weft_group *group;
        lend_spawned(lending, slot->task, wait);
        while ((member = weft_member_next(slot->task, false, &group)) != NULL) {
            weft_lend_member(slot->task, member, group, wait);
        }
    }
}

void weft_lending_end(struct weft_lending *lending, struct weft_slot *slot)
{
    if (lending->admission) {
        struct weft_waiter *tail = weft_waitq_lock(&lending->admission->queue);
        if (lending->loan.admission) {
            take_back(&lending->loan);
        }
        weft_waitq_unlock(&lending->admission->queue, tail);
    }
    if (weft_participation(slot->frame) || !slot->task) {
        return;
    }
    struct weft_member *member;
    struct weft_group *group;
    while ((member = weft_member_next(slot->task, true, &group)) != NULL) {
        struct weft_waiter *tail = weft_waitq_lock(&group->admission.queue);
        if (weft_member_mark(slot->task, member, group, false) && member->loan.admission) {
            take_back(&member->loan);
        }
        weft_waitq_unlock(&group->admission.queue, tail);
    }
}

void weft_admission_evict(struct weft_token *token, struct weft_task *task)
{
    struct weft_admission *admission = token->admission;
    if (!admission) {
        return;
    }
    token->admission = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&admission->queue);
    struct weft_waiter *waiter = tail;
    for (bool more = tail != NULL; more; more = waiter != tail) { /* what it asks for there it asks for as an outsider now (P7) */
        waiter = waiter->next;
        struct weft_request *request = weft_request_of(waiter);
        request->member = request->member && (request->caller.task != task || weft_caller_holds(request->caller, admission));
    }
    struct weft_loan *from = a_load(&token->loan, RELAXED), *lent = admission->loans;
    while (lent && lent->task != task) {
        lent = lent->next;
    }
    struct weft_token *borrower = lent ? close_loan(lent) : NULL;
    if (borrower) {
        a_store(&borrower->loan, from, RELAXED);
    }
    if (from) {
        from->borrower = borrower;
    } else if (!borrower) {
        a_sub(&admission->word, (uint64_t)WEFT_ADMISSION_ONE, RELEASE);
    }
    weft_admission_admit_and_unlock(admission, tail, !borrower);
    if (from && !borrower) {
        weft_loans_look_again();
    }
}

void weft_calling_begin(struct weft_calling *calling, const void *work)
{
    calling->wait = (struct weft_wait){ .awaited = work };
    calling->listed = weft_pools_exist();
    if (calling->listed) {
        weft_waiting_begin(&calling->waiting, &calling->wait);
        weft_lending_begin(&calling->lending, weft_slot_self(), &calling->wait);
        weft_loans_look_again();
    }
}

void weft_calling_end(struct weft_calling *calling)
{
    if (calling->listed) {
        weft_waiting_end(&calling->waiting);
        weft_lending_end(&calling->lending, weft_slot_self());
    }
}

static void lend_and_sleep(struct weft_slot *slot, const struct weft_wait *wait,
                           void (*sleep)(struct weft_slot *slot, const struct weft_wait *wait))
{
    if (!weft_pools_exist()) {
        sleep(slot, wait);
        return;
    }
    struct weft_lending lending;
    struct weft_waiting me;
    weft_waiting_begin(&me, wait);
    weft_lending_begin(&lending, slot, wait);
    weft_loans_look_again();
    sleep(slot, wait);
    weft_waiting_end(&me); /* L2 */
    weft_lending_end(&lending, slot);
}

__attribute__((constructor)) static void start(void) { weft_wait_set_lender(lend_and_sleep); }
