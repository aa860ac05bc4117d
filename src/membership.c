#include "membership.h"

#include "failure.h"

#include <stdlib.h>

/* ---- looking; what needs the task's queue lock says so ---- */

static struct weft_membership *find(const struct weft_task_ext *ext, const struct weft_group *group)
{
    struct weft_membership *membership = ext ? a_load(&ext->memberships, RELAXED) : NULL;
    while (membership && membership->group != group) {
        membership = membership->next;
    }
    return membership;
}

/* Under the lock. */
static bool expected(const struct weft_task_ext *ext, const struct weft_group *group)
{
    return ext && ext->stay && ext->stay->group == group && ext->stay->request.grant && !ext->stay->admitted;
}

static bool look(struct weft_group *group, struct weft_task *task, bool expected_too)
{
    if (a_load(&task->group, ACQUIRE) == group) {
        return true;
    }
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext) {
        return false;
    }
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    bool found = find(ext, group) || a_load(&task->group, RELAXED) == group || (expected_too && expected(ext, group));
    weft_waitq_unlock(&task->waitq, tail);
    return found;
}

bool weft_group_has(struct weft_group *group, struct weft_task *task) { return look(group, task, false); }

bool weft_group_concerns(struct weft_group *group, struct weft_task *task) { return look(group, task, true); }

bool weft_group_expects(struct weft_group *group, struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext || !ext->stay) {
        return false;
    }
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    bool found = expected(ext, group);
    weft_waitq_unlock(&task->waitq, tail);
    return found;
}

bool weft_task_works_for(struct weft_task *task, const void *awaited)
{
    struct weft_group *group = (struct weft_group *)((uintptr_t)awaited & ~(uintptr_t)1); /* perhaps: it is only compared */
    return WEFT_WORK(group) == awaited && weft_group_has(group, task);
}

bool weft_group_is_mine(struct weft_group *group)
{
    struct weft_caller at = weft_caller_self();
    const void *work;
    struct weft_group *of;
    while (weft_caller_outward(&at, &work, &of)) {
        if (of == group) {
            return true;
        }
    }
    return at.task && weft_group_has(group, at.task);
}

struct weft_member *weft_member_next(struct weft_task *task, bool lent, struct weft_group **group)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext || !a_load(&ext->memberships, ACQUIRE)) {
        return NULL;
    }
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    struct weft_membership *membership = a_load(&ext->memberships, RELAXED);
    while (membership && ((struct weft_member *)membership)->lent != lent) {
        membership = membership->next;
    }
    struct weft_member *member = (struct weft_member *)membership;
    if (member) {
        member->lent = !lent;
        *group = membership->group;
    }
    weft_waitq_unlock(&task->waitq, tail);
    return member;
}

bool weft_member_mark(struct weft_task *task, struct weft_member *member, struct weft_group *group, bool lent)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    bool found = find(ext, group) == &member->membership;
    if (found) {
        member->lent = lent;
    }
    weft_waitq_unlock(&task->waitq, tail);
    return found;
}

bool weft_group_contains(const struct weft_group *group, const struct weft_task *task)
{
    return group && task && weft_group_has((struct weft_group *)(uintptr_t)group, (struct weft_task *)(uintptr_t)task);
}

struct snapshot {
    struct weft_group *group;
    struct weft_task **out;
    size_t cap, n;
};

static bool collect(struct weft_task *task, void *context)
{
    struct snapshot *snapshot = context;
    uint32_t word = a_load(&task->state, ACQUIRE), state = word & WEFT_TASK_STATE;
    bool published = state != WEFT_TASK_FREE && state != WEFT_TASK_RESERVED;
    if (published && !(word & WEFT_TASK_INTERNAL) && weft_group_has(snapshot->group, task)) {
        if (snapshot->n < snapshot->cap) {
            weft_task_retain(task);
            snapshot->out[snapshot->n] = task;
        }
        snapshot->n++;
    }
    return true;
}

size_t weft_group_snapshot(struct weft_group *group, struct weft_task *out[], size_t cap)
{
    struct snapshot snapshot = { .group = group, .out = out, .cap = out ? cap : 0 };
    if (weft_group_usable(group) == 0) {
        weft_tasks_each(group->runtime, collect, &snapshot);
    }
    return snapshot.n;
}

/* ---- coming in ---- */

/* 1; 0: it has ended; -EALREADY. The caller has counted it in the group's word, and gives slot and count back unless this is 1. */
static int write_down(struct weft_group *group, struct weft_task *task, struct weft_member *member)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    enum weft_task_state state = weft_task_state(task);
    int rc = 1;
    if (state == WEFT_TASK_ENDING || state == WEFT_TASK_FINISHED) { /* end */
        rc = 0;
    } else if (a_load(&task->group, RELAXED) == group || find(ext, group) || expected(ext, group)) {
        rc = -EALREADY;
    } else {
        member->membership = (struct weft_membership){ .group = group, .next = a_load(&ext->memberships, RELAXED) };
        a_store(&ext->memberships, &member->membership, RELEASE);
        weft_task_retain(task);
    }
    weft_waitq_unlock(&task->waitq, tail);
    return rc;
}

/* With a slot. 1, 0 or negative as weft_group_add. */
static int bring_in(struct weft_group *group, struct weft_task *task, struct weft_member *member, int64_t deadline)
{
    bool entered = false, killing = false;
    struct weft_request request = { .token = &member->token, .caller = weft_caller_self(), .until = task };
    request.member = weft_admission_bounded(&group->admission) && weft_caller_holds(request.caller, &group->admission);
    int rc = weft_group_wait_for_slot(group, &request, deadline, &entered);
    if (rc != 0) {
        return rc > 0 ? 0 : rc;
    }
    if (entered) {
        rc = a_load(&group->word, ACQUIRE) & WEFT_GROUP_CLOSED ? -ESHUTDOWN : 0;
    } else if ((rc = weft_group_enter(group, &killing)) != 0) {
        weft_admission_release(&member->token);
        return rc;
    }
    rc = rc != 0 ? rc : write_down(group, task, member);
    if (rc != 1) {
        weft_admission_release(&member->token);
        weft_group_leave(group);
        return rc;
    }
    uint64_t word = a_add(&group->word, (uint64_t)0, ACQ_REL); /* G3: after it was written down */
    weft_lend_late(task, member, group);
    if (word & WEFT_GROUP_KILLING) {
        (void)weft_task_kill_once(task, a_load(&group->kill_reason, RELAXED)); /* taken in by the kill that goes on */
    }
    return 1;
}

/* The runtime's, and the caller may wait: 0, or why not. */
static int check(struct weft_group *group, struct weft_task *task, int64_t deadline)
{
    int rc = weft_group_usable(group);
    if (rc == 0 && !task) {
        rc = -EINVAL;
    }
    if (rc == 0 && weft_task_runtime(task) != group->runtime) {
        rc = -EXDEV;
    }
    return rc == 0 && deadline != WEFT_NOWAIT ? weft_cancel_point() : rc;
}

static int add(struct weft_group *group, struct weft_task *task, int64_t deadline)
{
    if (weft_task_settled(task)) {
        return 0;
    }
    if (weft_group_concerns(group, task)) {
        return -EALREADY;
    }
    struct weft_member *member = weft_task_extend(task) ? calloc(1, sizeof *member) : NULL;
    int rc = member ? bring_in(group, task, member, deadline) : -ENOMEM;
    if (rc != 1) {
        free(member);
    }
    return rc;
}

int weft_group_add(struct weft_group *group, struct weft_task *task, int64_t deadline)
{
    int rc = check(group, task, deadline);
    return rc != 0 ? rc : add(group, task, deadline);
}

int weft_group_start(struct weft_group *group, struct weft_task *task, int64_t deadline)
{
    int rc = check(group, task, deadline);
    if (rc != 0) {
        return rc;
    }
    if (!weft_task_lay_claim(task)) {
        return -EALREADY;
    }
    weft_task_retain(task); /* not NEW, it is not to be found without a reference */
    rc = add(group, task, deadline);
    bool added = rc == 1;
    if (added && (rc = weft_task_set_going(task, WEFT_TASK_CLAIMED)) == 0) {
        rc = 1;
    } else if (added && rc == -ESHUTDOWN) {
        (void)weft_group_discard(group, task);
    } else if (weft_task_state(task) != WEFT_TASK_CLAIMED && rc == -EALREADY) {
        rc = 0; /* killed after the claim */
    }
    if (rc < 0) {
        (void)weft_task_drop_claim(task);
    }
    weft_task_release(task);
    return rc;
}

int weft_group_take_members(struct weft_group *group, struct weft_task *const *tasks, size_t n)
{
    struct weft_member **members = n > 0 ? calloc(n, sizeof *members) : NULL;
    int rc = n > 0 && !members ? -ENOMEM : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (!tasks[i]) {
            rc = -EINVAL;
        } else if (weft_task_runtime(tasks[i]) != group->runtime) {
            rc = -EXDEV;
        } else if (!weft_task_extend(tasks[i]) || (members[i] = calloc(1, sizeof **members)) == NULL) {
            rc = -ENOMEM;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (rc != 0) {
            free(members ? members[i] : NULL);
            continue;
        }
        a_add(&group->word, (uint64_t)WEFT_GROUP_ONE, RELAXED);
        weft_admission_force(&group->admission, &members[i]->token);
        if (write_down(group, tasks[i], members[i]) == 1) { /* named twice: one membership */
            weft_lend_late(tasks[i], members[i], group);
        } else {
            weft_admission_release(&members[i]->token);
            weft_group_leave(group);
            free(members[i]);
        }
    }
    free(members);
    return rc;
}

void weft_stay_begin(struct weft_stay *stay)
{
    struct weft_waiter *tail = weft_waitq_lock(&stay->task->waitq);
    a_store(&stay->task->group, stay->group, RELEASE);
    stay->admitted = true;
    weft_waitq_unlock(&stay->task->waitq, tail);
    a_sub(&stay->group->extras, 1u, ACQ_REL);
}

/* ---- going ---- */

/* The token of a task that was spawned into this group: `own` is filled in if it is a slot of its own. */
static struct weft_token *token_of(struct weft_group *group, struct weft_task *task, struct weft_token *own)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    *own = (struct weft_token){ .admission = weft_admission_bounded(&group->admission) ? &group->admission : NULL };
    return ext && ext->stay && ext->stay->group == group ? &ext->stay->token : own;
}

int weft_group_discard(struct weft_group *group, struct weft_task *task)
{
    int rc = weft_group_usable(group);
    if (rc != 0 || !task) {
        return rc != 0 ? rc : -EINVAL;
    }
    struct weft_group *here = group;
    if (a_cas(&task->group, &here, NULL, ACQ_REL, RELAXED)) { /* M1 */
        struct weft_token own;
        weft_admission_evict(token_of(group, task, &own), task);
        weft_group_leave(group);
        return 1;
    }
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext) {
        return 0;
    }
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    struct weft_membership *membership = find(ext, group), *before = a_load(&ext->memberships, RELAXED);
    if (membership == before) {
        a_store(&ext->memberships, membership ? membership->next : NULL, RELEASE);
    } else if (membership) {
        while (before->next != membership) {
            before = before->next;
        }
        before->next = membership->next;
    }
    weft_waitq_unlock(&task->waitq, tail);
    if (!membership) {
        return 0;
    }
    struct weft_member *member = (struct weft_member *)membership;
    weft_admission_evict(&member->token, task);
    free(member);
    weft_group_leave(group);
    weft_task_release(task);
    return 1;
}

static bool stay_ends(struct weft_task *task, struct weft_stay *stay)
{
    (void)task;
    if (!stay->request.grant || !weft_admission_withdraw(&stay->group->admission, &stay->request)) {
        return false;
    }
    a_sub(&stay->group->extras, 1u, ACQ_REL);
    weft_group_leave(stay->group);
    return true;
}

static void spawned_ends(struct weft_group *group, struct weft_task *task)
{
    if (weft_unlikely(weft_task_has_failed(task))) {
        weft_failure_note(group, task);
    }
    if (weft_admission_bounded(&group->admission)) {
        struct weft_token own;
        weft_admission_release(token_of(group, task, &own));
    }
    weft_group_leave(group);
}

static void added_ends(struct weft_membership *membership, struct weft_task *task)
{
    struct weft_group *group = membership->group;
    if (weft_task_has_failed(task)) {
        weft_failure_note(group, task);
    }
    weft_admission_release(&((struct weft_member *)membership)->token);
    free(membership);
    weft_group_leave(group);
}

__attribute__((constructor)) static void start(void)
{
    static const struct weft_task_leave leave = { stay_ends, spawned_ends, added_ends, weft_failures_forget };
    weft_task_set_leave(&leave);
}
