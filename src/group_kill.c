/* Killing a group, one of its members, and closing it (contract G7 to G9). group.h tells how a kill misses nobody. */
#include "group.h"

#include "membership.h"

struct killing {
    struct weft_group *group;
    int reason;
};

static bool kill_member(struct weft_task *task, void *context)
{
    struct killing *killing = context;
    uint32_t word = a_load(&task->state, ACQUIRE);
    if (!(word & WEFT_TASK_INTERNAL) && weft_group_concerns(killing->group, task)) {
        while (weft_task_state(task) == WEFT_TASK_RESERVED) {
            os_thread_yield(); /* it has entered the group, and is a few instructions from being published */
        }
        (void)weft_task_kill_once(task, killing->reason);
    }
    return true;
}

/* Before the members: the slot that one of these gives back shall admit none of them. */
static bool kill_queued(struct weft_task *task, void *context)
{
    struct killing *killing = context;
    if (weft_group_expects(killing->group, task)) {
        (void)weft_task_kill_once(task, killing->reason);
    }
    return true;
}

/* Maps and imaps, one at a time: a kill may run into other locks, and takes the work off the list only when it ends. */
static void kill_works(struct weft_group *group, int reason)
{
    enum { BATCH = 32 };
    struct weft_work *kept[BATCH], *from = NULL;
    size_t n;
    do {
        n = 0;
        weft_lock(&group->lock);
        struct weft_work *work = group->works;
        while (work && from && work != from) {
            work = work->next;
        }
        work = work ? work : group->works;
        for (; work && n < BATCH; work = work->next) {
            if ((kept[n] = work->retain(work)) != NULL) {
                n++;
            }
        }
        from = work;
        weft_unlock(&group->lock);
        for (size_t i = 0; i < n; i++) {
            kept[i]->kill(kept[i], reason);
        }
    } while (n == BATCH && from);
}

static void set_killing(struct weft_group *group, int change, int reason)
{
    weft_lock(&group->lock);
    group->killers = (unsigned)((int)group->killers + change);
    if (change > 0) {
        a_store(&group->kill_reason, reason, RELAXED);             /* before KILLING, which shows it */
        a_or(&group->word, (uint64_t)WEFT_GROUP_KILLING, SEQ_CST); /* G3 */
    } else if (group->killers == 0) {
        a_and(&group->word, ~(uint64_t)WEFT_GROUP_KILLING, SEQ_CST);
    }
    weft_unlock(&group->lock);
}

/* The caller is one of those it has marked: its own kill, delivered here. */
static int deliver_own(void)
{
    struct weft_slot *slot = weft_slot_self();
    struct weft_scope *scope = slot ? a_load(&slot->scope, RELAXED) : NULL;
    return scope && weft_scope_deliver(scope) ? -ECANCELED : -EDEADLK;
}

int weft_group_kill(struct weft_group *group, int reason, int64_t deadline)
{
    int rc = weft_group_usable(group);
    if (rc != 0 || reason > 0 || reason < -0xffff) {
        return rc != 0 ? rc : -EINVAL;
    }
    struct weft_slot *slot = weft_slot_self();
    if (deadline != WEFT_NOWAIT && slot && slot->raw > 0) {
        return -EPERM;
    }
    struct killing killing = { .group = group, .reason = reason == 0 ? -ECANCELED : reason };
    bool mine = weft_group_is_mine(group);
    set_killing(group, 1, killing.reason);
    if (weft_admission_has_waiters(&group->admission)) { /* before anybody ends who would give a slot back: they never run (A3) */
        weft_tasks_each(group->runtime, kill_queued, &killing);
    }
    weft_admission_shut(&group->admission, false);
    kill_works(group, killing.reason);
    weft_tasks_each(group->runtime, kill_member, &killing);
    weft_admission_shut(&group->admission, true); /* members that hold kills back wait on otherwise */
    if (mine) {
        rc = deliver_own();
    } else if (deadline != WEFT_NOWAIT) {
        rc = weft_group_wait_empty(group, deadline, false);
    }
    set_killing(group, -1, 0);
    return rc;
}

int weft_group_kill_one(struct weft_group *group, struct weft_task *task, int reason, int64_t deadline)
{
    int rc = weft_group_usable(group);
    if (rc != 0 || !task || reason > 0 || reason < -0xffff) {
        return rc != 0 ? rc : -EINVAL;
    }
    struct weft_slot *slot = weft_slot_self();
    if (deadline != WEFT_NOWAIT && slot && slot->raw > 0) {
        return -EPERM;
    }
    if (!weft_group_has(group, task)) {
        return -ENOENT;
    }
    rc = weft_task_kill_once(task, reason == 0 ? -ECANCELED : reason);
    if (task == weft_task_current()) {
        int own = deliver_own();
        return own == -ECANCELED || deadline != WEFT_NOWAIT ? own : rc;
    }
    if (deadline == WEFT_NOWAIT) {
        return rc;
    }
    struct weft_wait wait = { .deadline = deadline, .awaited = task };
    (void)weft_task_settled(task);
    return weft_wait_until(&task->waitq, weft_task_is_finished, task, &wait);
}

void weft_group_close(struct weft_group *group)
{
    if (weft_group_usable(group) == 0) {
        a_or(&group->word, (uint64_t)WEFT_GROUP_CLOSED, SEQ_CST); /* who enters from now on sees it */
        weft_admission_close(&group->admission);                  /* who has entered, and waits */
    }
}
