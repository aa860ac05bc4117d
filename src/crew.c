#include "crew.h"

#include "slab.h"

#include <string.h>

static struct weft_slab participants;

/* ---- frames ---- */

static void frame_block(struct weft_frame *frame)
{
    struct weft_participant *participant = weft_container_of(frame, struct weft_participant, frame);
    struct weft_crew *crew = participant->crew;
    crew->ops->shed(crew, participant);
    weft_lock(&crew->lock);
    crew->running--;
    weft_unlock(&crew->lock);
    weft_crew_invite(crew);
}

static void frame_resume(struct weft_frame *frame)
{
    struct weft_crew *crew = weft_container_of(frame, struct weft_participant, frame)->crew;
    weft_lock(&crew->lock);
    crew->running++;
    weft_unlock(&crew->lock);
}

static void *frame_retain(struct weft_frame *frame)
{
    struct weft_crew *crew = weft_container_of(frame, struct weft_participant, frame)->crew;
    weft_crew_retain(crew);
    return crew;
}

static void frame_kill(void *retained, int reason)
{
    weft_crew_stop(retained, reason);
    weft_crew_release(retained);
}

static const struct weft_frame_ops frame_ops = { frame_block, frame_resume, frame_retain, frame_kill };

struct weft_token *weft_frame_token(struct weft_frame *frame)
{
    return frame->ops == &frame_ops ? &weft_container_of(frame, struct weft_participant, frame)->token : NULL;
}

void weft_frame_work(struct weft_frame *frame, const void **work, struct weft_group **group, struct weft_caller *caller)
{
    struct weft_crew *crew = weft_container_of(frame, struct weft_participant, frame)->crew;
    *work = WEFT_WORK(crew);
    *group = crew->work.group;
    *caller = crew->caller;
}

/* ---- life of a crew ---- */

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

static void work_kill(struct weft_work *work, int reason) { frame_kill(work, reason); }

void weft_crew_init(struct weft_crew *crew, const struct weft_crew_ops *ops, struct weft_runtime *runtime, struct weft_group *group)
{
    *crew = (struct weft_crew){ .ops = ops, .runtime = runtime, .caller = weft_caller_self() };
    crew->work = (struct weft_work){ .group = group, .retain = work_retain, .kill = work_kill };
    crew->shuts = group ? a_load(&group->admission.shuts, ACQUIRE) : 0;
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
        weft_waiting_end(&crew->waiting); /* L2, loan.c */
        weft_lending_end(&crew->lending, weft_slot_self());
    }
}

/* ---- participants ---- */

/* Under the lock. */
static void list(struct weft_crew *crew, struct weft_participant *participant)
{
    participant->previous = NULL;
    participant->next = crew->participants;
    if (participant->next) {
        participant->next->previous = participant;
    }
    crew->participants = participant;
}

static void unlist(struct weft_crew *crew, struct weft_participant *participant)
{
    *(participant->previous ? &participant->previous->next : &crew->participants) = participant->next;
    if (participant->next) {
        participant->next->previous = participant->previous;
    }
}

static struct weft_participant *participant_make(struct weft_crew *crew)
{
    struct weft_participant *participant = weft_slab_alloc(&participants, NULL);
    if (participant) {
        memset((char *)participant + sizeof participant->scope, 0, sizeof *participant - sizeof participant->scope);
        participant->crew = crew;
        participant->chunk = 1;
        participant->first_failed = WEFT_NO_INDEX;
        participant->request = (struct weft_request){ .token = &participant->token,
                                                      .work = WEFT_WORK(crew),
                                                      .group = crew->work.group,
                                                      .caller = crew->caller,
                                                      .shuts = crew->shuts,
                                                      .stays = true };
        weft_scope_init(&participant->scope);
        weft_crew_retain(crew);
    }
    return participant;
}

static void participant_free(struct weft_participant *participant)
{
    struct weft_crew *crew = participant->crew;
    weft_slab_free(&participants, NULL, participant);
    weft_crew_release(crew);
}

/* It counts as a member now. The crew itself keeps the group open for it. */
static void become_member(struct weft_crew *crew)
{
    if (crew->work.group) {
        a_add(&crew->work.group->word, (uint64_t)WEFT_GROUP_ONE, ACQ_REL);
    }
}

static void give_back(struct weft_participant *participant)
{
    struct weft_group *group = participant->crew->work.group;
    weft_admission_release(&participant->token);
    if (group) {
        weft_group_leave(group);
    }
}

static void frame_enter(struct weft_participant *participant, struct weft_slot *slot, struct weft_task *task)
{
    participant->frame = (struct weft_frame){ .work = participant->crew, .ops = &frame_ops, .scope = participant->item_scope };
    weft_frame_push(slot, &participant->frame, task);
}

int weft_crew_join(struct weft_crew *crew, int64_t deadline, struct weft_participant **out)
{
    struct weft_slot *slot = weft_slot_self();
    struct weft_participant *participant = participant_make(crew);
    if (!participant) {
        return -ENOMEM;
    }
    int rc = slot->task ? 0 : weft_task_make_carrier(crew->runtime, &participant->task);
    if (rc != 0) {
        participant_free(participant);
        return rc;
    }
    rc = crew->work.group ? weft_admission_wait(&crew->work.group->admission, &participant->request, deadline) : 0;
    if (rc != 0) {
        if (participant->task) {
            weft_task_end_carrier(participant->task);
        }
        participant_free(participant);
        return rc;
    }
    become_member(crew);
    struct weft_task *task = participant->task ? participant->task : slot->task;
    participant->item_scope = participant->task ? &participant->task->scope : &participant->scope;
    frame_enter(participant, slot, task);
    weft_lock(&crew->lock);
    participant->state = WEFT_ACTIVE;
    a_add(&crew->active, 1u, RELAXED);
    crew->running++;
    list(crew, participant);
    weft_unlock(&crew->lock);
    struct weft_scope *outer = participant->frame.outer_scope;
    uint64_t word = outer ? a_load(&outer->word, SEQ_CST) : 0; /* X2, pairs with X1 */
    if (weft_scope_deliverable(word)) {
        weft_crew_stop(crew, weft_scope_reason(word));
    }
    *out = participant;
    return 0;
}

void weft_crew_leave(struct weft_participant *participant)
{
    struct weft_crew *crew = participant->crew;
    struct weft_slot *slot = weft_slot_self();
    weft_lock(&crew->lock);
    while (crew->ops->has_work(crew) && !a_load(&crew->stop, RELAXED)) {
        weft_unlock(&crew->lock);
        crew->ops->work(crew, participant);
        slot = weft_slot_self();
        weft_lock(&crew->lock);
    }
    unlist(crew, participant);
    crew->running--;
    crew->ops->count(crew, participant);
    weft_unlock(&crew->lock);
    weft_frame_pop(slot, &participant->frame);
    give_back(participant);
    if (participant->frame.outer_task != participant->task && participant->task) {
        weft_task_end_carrier(participant->task); /* of a foreign caller; others end by returning */
    }
    weft_lock(&crew->lock);
    bool over = a_sub(&crew->active, 1u, RELEASE) == 1; /* pairs with the caller's spin: it sees what the items wrote */
    weft_unlock(&crew->lock);
    if (over) {
        weft_waitq_wake_all(&crew->over);
    }
    participant_free(participant);
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
        participant_free(participant);
        return 0;
    }
    if (crew->asked == participant) {
        crew->asked = NULL;
    }
    participant->state = WEFT_ACTIVE;
    participant->item_scope = a_load(&slot->scope, RELAXED);
    a_add(&crew->active, 1u, RELAXED);
    weft_unlock(&crew->lock);
    frame_enter(participant, slot, slot->task);
    crew->ops->work(crew, participant);
    weft_crew_leave(participant);
    return 0;
}

/* Under the pool's queue lock, or nobody else knows the request: it has its slot. */
static void granted(struct weft_request *request)
{
    struct weft_participant *participant = weft_container_of(request, struct weft_participant, request);
    struct weft_crew *crew = participant->crew;
    become_member(crew);
    (void)weft_task_publish(participant->task, WEFT_TASK_QUEUED, WEFT_TASK_INTERNAL | WEFT_TASK_LATE, false);
    weft_sched_push(crew->runtime, participant->task);
}

/* Under the lock. False: enough, or no memory: those that are there do the work. */
static bool invite_one(struct weft_crew *crew)
{
    if (a_load(&crew->stop, RELAXED) || crew->asked || crew->running >= crew->limit || !crew->ops->has_work(crew)) {
        return false;
    }
    struct weft_participant *participant = participant_make(crew);
    if (!participant) {
        return false;
    }
    participant->request.grant = granted;
    participant->request.essential = crew->running == 0;
    if (weft_group_make_wrapper(crew->work.group, crew->runtime, carrier, participant, &participant->task) != 0) {
        weft_slab_free(&participants, NULL, participant);
        a_sub(&crew->refs, 1u, RELAXED); /* not the last: the caller has one */
        return false;
    }
    list(crew, participant);
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

void weft_crew_invite(struct weft_crew *crew)
{
    enum { FANOUT = 2 }; /* each one that comes invites two more: all are there after log2 steps, none pays for all */
    weft_lock(&crew->lock);
    for (unsigned i = 0; i < FANOUT && invite_one(crew); i++) {
    }
    weft_unlock(&crew->lock);
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
        unlist(crew, participant);
        crew->running--;
        bool asked = participant == crew->asked;
        crew->asked = asked ? NULL : crew->asked;
        if (asked && weft_admission_withdraw(&crew->work.group->admission, &participant->request)) {
            participant->next = *withdrawn;
            *withdrawn = participant;
        } else {
            give_back(participant);
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
        participant_free(participant);
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
    bool over = a_load(&crew->active, ACQUIRE) == 0;
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
    bool first = !a_swap(&crew->stop, 1u, SEQ_CST);
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

void weft_crew_wait_over(struct weft_crew *crew)
{
    struct weft_slot *slot = weft_slot_self();
    if (!slot->runtime) {
        spin_over(crew);
    }
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
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
        if (reason == WEFT_CLAIM_KILLED && weft_scope_deliverable(word)) {
            wait.cancellable = false; /* it stays pending, for whoever called the map */
            weft_crew_stop(crew, weft_scope_reason(word));
        }
    }
}

/* ---- items ---- */

#define RELENT_US 100 /* a turn of others costs some 50 ns to look for: 0.05 % */

void weft_participant_relent(struct weft_participant *participant)
{
    uint64_t now = weft_cpu_cycles();
    if (now - participant->relented < os_cycles_per_us() * RELENT_US) {
        return;
    }
    struct weft_slot *slot = weft_slot_self();
    if (slot->runtime && weft_sched_others_wait()) {
        weft_yield();
    }
    participant->relented = weft_cpu_cycles();
}

void weft_participant_renew(struct weft_participant *participant)
{
    if (weft_unlikely(a_load(&participant->item_scope->word, RELAXED) != 0) && !a_load(&participant->crew->stop, SEQ_CST)) {
        a_store(&participant->item_scope->word, 0u, SEQ_CST);
    }
}

enum weft_status weft_participant_judge(struct weft_participant *participant, int rc, int *error)
{
    return weft_scope_judge(a_load(&participant->item_scope->word, RELAXED), rc, error);
}

static void hold_for_fork(bool hold) { (hold ? weft_lock : weft_unlock)(&participants.lock); }

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&participants, (sizeof(struct weft_participant) + 63) / 64 * 64, NULL);
    weft_fork_guard(hold_for_fork);
}
