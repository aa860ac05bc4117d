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
    (void)weft_crew_invite(crew);
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

/* ---- life ---- */

void weft_participant_list(struct weft_participant *participant)
{
    struct weft_crew *crew = participant->crew;
    participant->previous = NULL;
    participant->next = crew->participants;
    if (participant->next) {
        participant->next->previous = participant;
    }
    crew->participants = participant;
}

void weft_participant_unlist(struct weft_participant *participant)
{
    struct weft_crew *crew = participant->crew;
    *(participant->previous ? &participant->previous->next : &crew->participants) = participant->next;
    if (participant->next) {
        participant->next->previous = participant->previous;
    }
}

struct weft_participant *weft_participant_make(struct weft_crew *crew)
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

void weft_participant_free(struct weft_participant *participant)
{
    struct weft_crew *crew = participant->crew;
    weft_slab_free(&participants, NULL, participant);
    weft_crew_release(crew);
}

void weft_participant_become_member(struct weft_participant *participant)
{
    struct weft_group *group = participant->crew->work.group;
    if (group) {
        a_add(&group->word, (uint64_t)WEFT_GROUP_ONE, ACQ_REL);
    }
}

void weft_participant_give_back(struct weft_participant *participant)
{
    struct weft_group *group = participant->crew->work.group;
    weft_admission_release(&participant->token);
    if (group) {
        weft_group_leave(group);
    }
}

void weft_participant_enter(struct weft_participant *participant, struct weft_slot *slot, struct weft_task *task)
{
    participant->frame = (struct weft_frame){
        .work = participant->crew, .runtime = participant->crew->runtime, .ops = &frame_ops, .scope = participant->item_scope
    };
    weft_frame_push(slot, &participant->frame, task);
}

/* ---- coming and going ---- */

/* From here on the runtime does not end under the crew; until here it may, as under a spawner that waits for a slot. */
static int begin_visit(struct weft_crew *crew, const struct weft_slot *slot, struct weft_task **carrier)
{
    int rc = weft_runtime_enter(crew->runtime);
    if (rc == 0 && !slot->task && (rc = weft_task_make_carrier(crew->runtime, carrier)) != 0) {
        weft_runtime_leave(crew->runtime);
    }
    crew->visits = rc == 0;
    return rc;
}

int weft_participant_join(struct weft_crew *crew, int64_t deadline, struct weft_participant **out)
{
    struct weft_slot *slot = weft_slot_self();
    struct weft_participant *participant = weft_participant_make(crew);
    if (!participant) {
        return -ENOMEM;
    }
    int rc = crew->work.group ? weft_admission_wait(&crew->work.group->admission, &participant->request, deadline) : 0;
    if (rc == 0 && (rc = begin_visit(crew, slot, &participant->task)) != 0) {
        weft_admission_release(&participant->token);
    }
    if (rc != 0) {
        weft_participant_free(participant);
        return rc;
    }
    weft_participant_become_member(participant);
    struct weft_task *task = participant->task ? participant->task : slot->task;
    participant->item_scope = participant->task ? &participant->task->scope : &participant->scope;
    weft_participant_enter(participant, slot, task);
    weft_lock(&crew->lock);
    participant->state = WEFT_ACTIVE;
    a_add(&crew->active, 1u, RELAXED);
    crew->running++;
    weft_participant_list(participant);
    weft_unlock(&crew->lock);
    struct weft_scope *outer = participant->frame.outer_scope;
    uint64_t word = outer ? a_load(&outer->word, SEQ_CST) : 0; /* X2, pairs with X1 */
    if (weft_scope_deliverable(word)) {
        weft_crew_stop(crew, weft_scope_reason(word));
    }
    *out = participant;
    return 0;
}

void weft_participant_leave(struct weft_participant *participant)
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
    weft_participant_unlist(participant);
    crew->running--;
    crew->ops->count(crew, participant);
    weft_unlock(&crew->lock);
    weft_frame_pop(slot, &participant->frame);
    weft_participant_give_back(participant);
    if (participant->frame.outer_task != participant->task && participant->task) {
        weft_task_end_carrier(participant->task); /* of a foreign caller; others end by returning */
    }
    weft_lock(&crew->lock);
    bool over = a_sub(&crew->active, 1u, RELEASE) == 1; /* pairs with the caller's spin: it sees what the items wrote */
    weft_unlock(&crew->lock);
    if (over) {
        weft_waitq_wake_all(&crew->over);
    }
    weft_participant_free(participant);
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

bool weft_participant_renew(struct weft_participant *participant)
{
    if (weft_unlikely(a_load(&participant->item_scope->word, RELAXED) != 0)) {
        a_store(&participant->item_scope->word, 0u, SEQ_CST); /* K2, pairs with K1 */
    }
    return !a_load(&participant->crew->stop, SEQ_CST); /* K2: after the store */
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
