/* Which members failed: notes for weft_group_join_outcome (contract G6).
 *
 * The end of a member that FAILED leaves a note with the group, before the member leaves it, so whoever returns from a join finds it. A
 * note tells an error, how often, and the task, if somebody has a handle of it: as a weak reference, so that no failure keeps a task or
 * its result alive. Notes of tasks that nobody has, one after the other with the same error, are one note: a group whose members fail
 * all day does not grow. If there is no memory for a note it is counted in the group, with the error of the latest.
 *
 * Under one lock, `failures` in failure.c: a group's list of notes, oldest first, and each noted task's chain of notes, which begins in
 * its record's `arg`, of no other use after the end (the record's state has NOTED). A record that is freed takes its notes' references
 * away under that lock, and whoever reads a note retains its task under it (weft_task_try_retain fails if it is about to go): so a
 * note never leads to a record that serves another task.
 *
 * With `forget_errors` only failures are noted while somebody is in join_outcome, `listeners`. */
#ifndef WEFT_FAILURE_H
#define WEFT_FAILURE_H

#include "group.h"

static inline bool weft_task_has_failed(const struct weft_task *task)
{
    return (a_load(&task->state, RELAXED) & WEFT_TASK_STATUS) >> WEFT_TASK_STATUS_SHIFT == WEFT_FAILED;
}
/* By the end of a task that has failed, while it is a member. */
void weft_failure_note(struct weft_group *group, struct weft_task *task);
void weft_failures_forget(struct weft_task *task); /* its record is freed */
void weft_failures_drop(struct weft_group *group); /* the group is, or nobody listens any more */

#endif
