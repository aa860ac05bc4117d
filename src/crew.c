#include "crew.h"

/* ---- life ---- */

void weft_crew_retain(struct weft_crew *crew) { a_add(&crew->refs, 1u, RELAXED); }

void weft_crew_release(struct weft_crew *crew)
{
    if (a_sub(&crew->refs, 1u, ACQ_REL) == 1) {
        crew->ops->free(crew);
    }
}

/* Under the group's lock, while the work is in its list: it holds a reference. */
static void *work_retain(struct weft_work *work)
{
    weft_crew_retain((struct weft_crew *)work);
    return work;
}

static void work_kill(struct weft_work *work, int reason)
{
    weft_crew_stop((struct weft_crew *)work, reason);
    weft_crew_release((struct weft_crew *)work);
}

void weft_crew_init(struct weft_crew *crew, const struct weft_crew_ops *ops, struct weft_runtime *runtime, struct weft_group *group)
{
    *crew = (struct weft_crew){ .ops = ops, .runtime = runtime, .caller = weft_caller_self() };
    crew->work = (struct weft_work){ .group = group, .retain = work_retain, .kill = work_kill };
    crew->shuts = group ? a_load(&group->admission.shuts, ACQUIRE) : 0; /* pairs with A4 */
    crew->limit = weft_instance_of(runtime)->workers_running;
    a_store(&crew->refs, 1u, RELAXED);
}

void weft_crew_call(struct weft_crew *crew)
{
    crew->lent_for = (struct weft_wait){ .awaited = WEFT_WORK(crew) };
    crew->listed = weft_pools_exist();
    if (crew->listed) {
        weft_waiting_begin(&crew->waiting, &crew->lent_for);
        weft_lending_begin(&crew->lending, weft_slot_self(), &crew->lent_for);
        weft_loans_look_again();
    }
}

void weft_crew_return(struct weft_crew *crew)
{
    if (crew->listed) {
        weft_waiting_end(&crew->waiting); /* L2, lending.c */
        weft_lending_end(&crew->lending, weft_slot_self());
    }
}

void weft_crew_end_visit(struct weft_crew *crew)
{
    if (crew->visits) {
        crew->visits = false;
        weft_runtime_leave(crew->runtime);
    }
}

/* ---- carriers ---- */

static int carrier(void *arg, void **result)
{
    (void)result;
    struct weft_participant *participant = arg;
    struct weft_crew *crew = participant->crew;
    struct weft_slot *slot = weft_slot_self();
    weft_lock(&crew->lock);
    if (participant->state == WEFT_REVOKED) {
        weft_unlock(&crew->lock);
        weft_participant_free(participant);
        return 0;
    }
    if (crew->asked == participant) {
        crew->asked = NULL;
    }
    participant->state = WEFT_ACTIVE;
    participant->item_scope = a_load(&slot->scope, RELAXED);
    a_add(&crew->active, 1u, RELAXED);
    weft_unlock(&crew->lock);
    weft_participant_enter(participant, slot, slot->task);
    crew->ops->work(crew, participant);
    weft_participant_leave(participant);
    return 0;
}

/* Under the pool's queue lock, or nobody else knows the request: it has its slot. */
static void granted(struct weft_request *request)
{
    struct weft_participant *participant = weft_container_of(request, struct weft_participant, request);
    struct weft_crew *crew = participant->crew;
    weft_participant_become_member(participant);
    (void)weft_task_publish(participant->task, WEFT_TASK_QUEUED, WEFT_TASK_INTERNAL | WEFT_TASK_LATE, false);
    weft_sched_push(crew->runtime, participant->task);
}

/* Under the lock. False: enough, or no memory: those that are there do the work. */
static bool invite_one(struct weft_crew *crew)
{
    if (a_load(&crew->stop, RELAXED) || crew->asked || crew->running >= crew->limit || !crew->ops->has_work(crew)) {
        return false;
    }
    struct weft_participant *participant = weft_participant_make(crew);
    if (!participant) {
        return false;
    }
    participant->request.grant = granted;
    participant->request.essential = crew->running == 0;
    if (weft_group_make_wrapper(crew->work.group, crew->runtime, carrier, participant, &participant->task) != 0) {
        weft_participant_free(participant); /* not the last reference to the crew: the caller has one */
        return false;
    }
    weft_participant_list(participant);
    crew->running++;
    struct weft_admission *admission = crew->work.group ? &crew->work.group->admission : NULL;
    if (!admission || weft_admission_try(admission, &participant->request)) {
        participant->state = WEFT_INVITED;
        granted(&participant->request);
    } else {
        participant->state = WEFT_ASKED;
        crew->asked = participant;
        weft_admission_queue(admission, &participant->request);
    }
    return true;
}

bool weft_crew_invite(struct weft_crew *crew)
{
    enum { FANOUT = 2 }; /* each one that comes invites two more: all are there after log2 steps, none pays for all */
    weft_lock(&crew->lock);
    for (unsigned i = 0; i < FANOUT && invite_one(crew); i++) {
    }
    bool stuck = crew->running == 0 && !a_load(&crew->stop, RELAXED) && crew->ops->has_work(crew);
    weft_unlock(&crew->lock);
    return !stuck;
}

/* Under the lock: those that have not begun will not. */
static void revoke(struct weft_crew *crew, struct weft_participant **withdrawn)
{
    struct weft_participant *next;
    for (struct weft_participant *participant = crew->participants; participant; participant = next) {
        next = participant->next;
        if (participant->state == WEFT_ACTIVE) {
            continue;
        }
        weft_participant_unlist(participant);
        crew->running--;
        bool asked = participant == crew->asked;
        crew->asked = asked ? NULL : crew->asked;
        if (asked && weft_admission_withdraw(&crew->work.group->admission, &participant->request)) {
            participant->next = *withdrawn;
            *withdrawn = participant;
        } else {
            weft_participant_give_back(participant);
            participant->state = WEFT_REVOKED; /* its carrier is queued, and frees it */
        }
    }
}

static void free_withdrawn(struct weft_participant *withdrawn)
{
    while (withdrawn) {
        struct weft_participant *participant = withdrawn;
        withdrawn = participant->next;
        weft_task_unmake(participant->task);
        weft_participant_free(participant);
    }
}

void weft_crew_revoke(struct weft_crew *crew)
{
    struct weft_participant *withdrawn = NULL;
    weft_lock(&crew->lock);
    revoke(crew, &withdrawn);
    weft_unlock(&crew->lock);
    free_withdrawn(withdrawn);
}

bool weft_crew_over(struct weft_crew *crew)
{
    struct weft_participant *withdrawn = NULL;
    weft_lock(&crew->lock);
    bool over = a_load(&crew->active, ACQUIRE) == 0; /* pairs with each one's leaving (participant.c) */
    if (over) {
        revoke(crew, &withdrawn);
    }
    weft_unlock(&crew->lock);
    free_withdrawn(withdrawn);
    return over;
}

/* ---- stopping ---- */

void weft_crew_stop(struct weft_crew *crew, int reason)
{
    weft_lock(&crew->lock);
    bool first = !a_swap(&crew->stop, 1u, SEQ_CST); /* K1, pairs with K2 */
    if (reason != 0 && crew->stop_reason == 0) {
        crew->stop_reason = reason;
        for (struct weft_participant *participant = crew->participants; participant; participant = participant->next) {
            if (participant->state == WEFT_ACTIVE && weft_scope_request(participant->item_scope, reason, false) == 0) {
                weft_scope_wake(participant->item_scope, reason);
            }
        }
    }
    weft_unlock(&crew->lock);
    if (first && crew->ops->stopped) {
        crew->ops->stopped(crew);
    }
}

#ifdef WEFT_SIM
#define OVER_SPIN_US 0
#else
#define OVER_SPIN_US 50 /* a sleep would cost the last participant 15 us, and the caller 45 (bench/bench_region.c) */
#endif

/* A foreign caller has its processor to itself, and what is left is about a chunk. A task's worker has better things to do. */
static void spin_over(struct weft_crew *crew)
{
    uint64_t begin = weft_cpu_cycles(), most = os_cycles_per_us() * OVER_SPIN_US;
    while (a_load(&crew->active, ACQUIRE) > 0 && weft_cpu_cycles() - begin < most) {
        weft_spin_pause();
    }
}

void weft_crew_wait_over(struct weft_crew *crew, bool cancellable)
{
    struct weft_slot *slot = weft_slot_self();
    if (!slot->runtime) {
        spin_over(crew);
    }
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = cancellable };
    for (;;) {
        struct weft_waiter *tail = weft_waitq_lock(&crew->over);
        if (weft_crew_over(crew)) {
            weft_waitq_unlock(&crew->over, tail);
            return;
        }
        struct weft_waiter waiter = { .slot = slot, .kind = WEFT_WAITER_ONE, .epoch = weft_wait_begin(slot) };
        weft_waitq_link(&tail, &waiter);
        weft_waitq_unlock(&crew->over, tail);
        unsigned reason = weft_wait_end(slot, &wait) & ~WEFT_CLAIM_EARLY;
        tail = weft_waitq_lock(&crew->over);
        if (waiter.linked) {
            weft_waitq_unlink(&tail, &waiter);
        }
        weft_waitq_unlock(&crew->over, tail);
        struct weft_scope *scope = a_load(&slot->scope, RELAXED);
        uint64_t word = scope ? a_load(&scope->word, SEQ_CST) : 0;
        if (wait.cancellable && reason == WEFT_CLAIM_KILLED && weft_scope_deliverable(word)) {
            wait.cancellable = false; /* it stays pending, for whoever called the map */
            weft_crew_stop(crew, weft_scope_reason(word));
        }
    }
}
