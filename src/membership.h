/* Memberships: how a task comes to belong to a group, and how it leaves each exactly once.
 *
 * | way in | written down in | its slot |
 * |---|---|---|
 * | spawn, apply | task->group, before the task is published | one of its own, or ext->stay: on a loan |
 * | apply_async that had to wait | ext->stay while it stands in the pool's queue, no member yet; task->group when it is admitted | ext->stay |
 * | add, start, creation of the group | a weft_member in the list ext->memberships, with a reference to the task | in the weft_member |
 *
 * A task is never written down twice for one group: add looks at both places under the task's queue lock, and task->group is set only
 * before anybody can add the task (spawn), or under that lock as well (an admitted apply).
 *
 * Leaving. Four may want to take a member out: its own end, a discard, a start that is refused at its last step, and, by way of the end,
 * a kill or a deadline. What is written down is a claim: whoever takes it out of its place owns the slot and the count behind it, gives
 * both back, once, and nobody else can.
 *
 *   task->group       is taken by an exchange to NULL: by the end (M1), or by a discard's compare-and-swap (M1). Only when nobody has a
 *                     handle (refs went 1 → 0 in one step, and zero is final) the end does without: whoever discards has a handle.
 *   ext->memberships  is changed under the task's queue lock alone: by the end, which pops, or a discard, which unlinks.
 *   ext->stay         is granted or withdrawn under the queue lock of the pool (admission.h), once: by whoever frees a slot, or by the
 *                     end of the task, which a kill brings about at once, since the task has not run. If the grant came first the
 *                     end's withdrawal fails, and, having had the lock, sees task->group: so it leaves as any other member.
 *
 * No membership comes too late to be left: add looks at the task's state under the lock under which it links. If the state it sees is
 * not ENDING yet, the end, which takes the lock after it has stored ENDING, finds the membership (it pops until the list is empty, and
 * FINISHED is stored under that lock). A wait for a slot on behalf of a task (add, start) ends when the task does: it has a second node
 * in the task's queue. Handed a slot at that instant it gives it back.
 *
 * The count. Whoever is about to become a member first counts as an extra (group.h), so the group is not empty in between, and so that
 * KILLING and CLOSED are seen; then it is written down; then the extra becomes a member. After it is written down comes one more update
 * of the group's word, so that a kill that goes on either finds the member or is seen by whoever added it (G3).
 *
 * Slots that are lent (lending.c): a discarded member may be waiting, with a loan open. Its slot then goes to the borrower for good, and
 * the lender, coming back, finds that it has nothing to take back.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | M1 | acq_rel exchange, or compare-and-swap, of task->group to NULL | itself | a slot is given back twice |
 * | M2 | acquire load of task->group by lending.c, under the queue's lock | M1, which comes before that lock | a slot that is gone is lent | */
#ifndef WEFT_MEMBERSHIP_H
#define WEFT_MEMBERSHIP_H

#include "group.h"

struct weft_member {
    struct weft_membership membership; /* first */
    struct weft_token token;
    struct weft_loan loan;
    bool lent; /* under the task's queue lock: the walk of its lending has been here (lending.c) */
};

/* Of a task that is spawned into a pool by way of its queue, or on a loan. Set before the task is published; lives as long as its
 * record. */
struct weft_stay {
    struct weft_token token;
    struct weft_request request; /* with `grant`, if it goes by way of the queue */
    struct weft_task *task;
    struct weft_group *group;
    bool admitted; /* under the task's queue lock: task->group was set */
};

/* Any thread that has a reference, or else under a lock that keeps the task from ending. */
bool weft_group_has(struct weft_group *group, struct weft_task *task);
/* `awaited` is WEFT_WORK of a group that has it. */
bool weft_task_works_for(struct weft_task *task, const void *awaited);
/* It stands in the group's queue, to become a member. */
bool weft_group_expects(struct weft_group *group, struct weft_task *task);
/* One or the other. */
bool weft_group_concerns(struct weft_group *group, struct weft_task *task);
/* The calling code is a member, or runs an item of a map or imap of this group. */
bool weft_group_is_mine(struct weft_group *group);
/* For the request's `grant` of an apply: it has its slot. */
void weft_stay_begin(struct weft_stay *stay);
/* Memberships of all, or of none, without waiting for slots: 0, -EINVAL, -EXDEV, -ENOMEM. */
int weft_group_take_members(struct weft_group *group, struct weft_task *const *tasks, size_t n);

/* For lending.c. The first membership in the task's list whose `lent` is as given; it is turned round. Only its group may be used: what
 * becomes of the membership is known only under the task's lock. */
struct weft_member *weft_member_next(struct weft_task *task, bool lent, struct weft_group **group);
/* Sets `lent` of this membership, if it is in the list still. */
bool weft_member_mark(struct weft_task *task, struct weft_member *member, struct weft_group *group, bool lent);

#endif
