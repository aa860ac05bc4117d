#include "failure.h"

#include "membership.h"
#include "slab.h"

struct weft_failure {
    struct weft_failure *next;         /* of the group */
    struct weft_failure *next_of_task; /* of the task */
    struct weft_task *task;            /* NULL: gone */
    size_t count;
    int error;
    uint32_t unused;
    uint64_t unused_too;
    uint64_t slab_link;
};

static struct weft_lock failures; /* all of this file's */
static struct weft_slab notes;

/* Under the lock. */
static void append(struct weft_group *group, struct weft_failure *note)
{
    *(group->failures_last ? &group->failures_last->next : &group->failures) = note;
    group->failures_last = note;
}

/* Under the lock: the chain of a task's notes is in its record. */
static void chain(struct weft_task *task, struct weft_failure *note)
{
    bool first = !(a_or(&task->state, WEFT_TASK_NOTED, RELAXED) & WEFT_TASK_NOTED);
    note->task = task;
    note->next_of_task = first ? NULL : task->arg;
    task->arg = note;
}

static void unchain(struct weft_failure *note)
{
    if (note->task) {
        struct weft_failure *at = note->task->arg, *before = NULL;
        for (; at != note; at = at->next_of_task) {
            before = at;
        }
        if (before) {
            before->next_of_task = note->next_of_task;
        } else {
            note->task->arg = note->next_of_task;
        }
        note->task = NULL;
    }
}

void weft_failure_note(struct weft_group *group, struct weft_task *task)
{
    if (group->forget_errors && a_load(&group->listeners, SEQ_CST) == 0) {
        return;
    }
    int error = weft_scope_given(a_load(&task->scope.word, RELAXED));
    bool gone = a_load(&task->refs, RELAXED) == 0; /* for good: nobody had a handle */
    struct weft_failure *note = weft_slab_alloc(&notes, NULL), *unused = NULL;
    weft_lock(&failures);
    struct weft_failure *last = group->failures_last;
    if (gone && last && !last->task && last->error == error) {
        last->count++;
        unused = note;
    } else if (note) {
        *note = (struct weft_failure){ .error = error, .count = 1 };
        if (!gone) {
            chain(task, note);
        }
        append(group, note);
    } else {
        group->unnoted++;
        group->unnoted_error = error;
    }
    weft_unlock(&failures);
    if (unused) {
        weft_slab_free(&notes, NULL, unused);
    }
}

void weft_failures_forget(struct weft_task *task)
{
    weft_lock(&failures);
    for (struct weft_failure *note = task->arg; note; note = note->next_of_task) {
        note->task = NULL;
    }
    weft_unlock(&failures);
}

void weft_failures_drop(struct weft_group *group)
{
    weft_lock(&failures);
    struct weft_failure *list = group->failures;
    group->failures = group->failures_last = NULL;
    group->unnoted = 0;
    for (struct weft_failure *note = list; note; note = note->next) {
        unchain(note);
    }
    weft_unlock(&failures);
    while (list) {
        struct weft_failure *note = list;
        list = note->next;
        weft_slab_free(&notes, NULL, note);
    }
}

/* The oldest failure, once; its task retained, or NULL. 0: there is none. */
static int take(struct weft_group *group, struct weft_task **task)
{
    struct weft_failure *unused = NULL;
    int error = 0;
    *task = NULL;
    weft_lock(&failures);
    struct weft_failure *note = group->failures;
    if (note) {
        error = note->error;
        if (note->task && weft_task_try_retain(note->task)) {
            *task = note->task;
        }
        if (--note->count == 0) {
            group->failures = note->next;
            group->failures_last = note->next ? group->failures_last : NULL;
            unchain(note);
            unused = note;
        }
    } else if (group->unnoted > 0) {
        group->unnoted--;
        error = group->unnoted_error;
    }
    weft_unlock(&failures);
    if (unused) {
        weft_slab_free(&notes, NULL, unused);
    }
    return error;
}

static void report(struct weft_group *group, struct weft_outcome *outcome, struct weft_task **handle)
{
    struct weft_task *task;
    int error = take(group, &task);
    *outcome = (struct weft_outcome){ .status = error != 0 ? WEFT_FAILED : WEFT_OK, .error = error };
    if (task) {
        (void)weft_task_settled(task); /* it has left the group, and ends this moment */
        weft_task_read_outcome(task, outcome);
    }
    if (handle) {
        *handle = task;
    } else {
        outcome->value = NULL; /* nobody keeps it */
        weft_task_release(task);
    }
}

static void listen(struct weft_group *group, bool begin)
{
    weft_lock(&group->lock);
    group->callers = begin ? group->callers + 1 : group->callers - 1;
    uint32_t before = begin ? a_add(&group->listeners, 1u, SEQ_CST) : a_sub(&group->listeners, 1u, SEQ_CST);
    if (!begin && before == 1 && group->forget_errors) {
        weft_failures_drop(group);
    }
    weft_unlock(&group->lock);
}

int weft_group_join_outcome(struct weft_group *group, int64_t deadline, struct weft_outcome *outcome, struct weft_task **task)
{
    struct weft_outcome ignored;
    struct weft_outcome *into = outcome ? outcome : &ignored;
    *into = (struct weft_outcome){ .status = WEFT_PENDING };
    if (task) {
        *task = NULL;
    }
    int rc = weft_group_usable(group);
    if (rc == 0 && weft_group_is_mine(group)) {
        rc = -EDEADLK;
    }
    if (rc != 0) {
        return rc;
    }
    listen(group, true);
    rc = weft_group_wait_empty(group, deadline, true);
    if (rc == 0 || rc == -ETIMEDOUT) {
        report(group, into, task);
    }
    listen(group, false);
    return rc;
}

static void hold_for_fork(bool hold)
{
    (hold ? weft_lock : weft_unlock)(hold ? &failures : &notes.lock);
    (hold ? weft_lock : weft_unlock)(hold ? &notes.lock : &failures);
}

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&notes, (sizeof(struct weft_failure) + 63) / 64 * 64, NULL);
    weft_fork_guard(hold_for_fork);
}
