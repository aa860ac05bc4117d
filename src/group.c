#include "group.h"

#include "slab.h"

#include <stdlib.h>
#include <string.h>

static struct weft_slab groups;

/* ---- entering and leaving ---- */

int weft_group_enter(struct weft_group *group, bool *killing)
{
    uint64_t before = a_add(&group->word, (uint64_t)WEFT_GROUP_ONE, ACQ_REL); /* G3: the record of what enters is written before */
    if (weft_unlikely(before & WEFT_GROUP_CLOSED)) {
        weft_group_leave(group);
        return -ESHUTDOWN;
    }
    *killing = (before & WEFT_GROUP_KILLING) != 0;
    return 0;
}

/* The last one out, while somebody waits: down to zero under the lock. */
static void leave_last(struct weft_group *group)
{
    struct weft_waiter *ready = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&group->joiners);
    uint64_t before = a_sub(&group->word, (uint64_t)WEFT_GROUP_ONE, SEQ_CST); /* G2 */
    if (weft_group_pending(before) == 1) {
        while (tail) {
            (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
        }
        a_and(&group->word, ~(uint64_t)WEFT_GROUP_WAITERS, RELAXED);
    }
    weft_waitq_unlock(&group->joiners, tail);
    weft_waitq_ready(ready);
}

void weft_group_leave(struct weft_group *group)
{
    uint64_t word = a_load(&group->word, RELAXED);
    do {
        if (weft_unlikely((word & WEFT_GROUP_WAITERS) && weft_group_pending(word) == 1)) {
            leave_last(group);
            return;
        }
    } while (!a_cas(&group->word, &word, word - WEFT_GROUP_ONE, SEQ_CST, RELAXED)); /* G2, pairs with G1 */
}

/* Between ENDING and FINISHED of a member. */
static void member_leaves(struct weft_group *group, struct weft_task *task)
{
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (weft_admission_bounded(&group->admission)) {
        struct weft_token own = { .admission = &group->admission };
        bool borrowed = ext && ext->token && ext->token->admission == &group->admission;
        weft_admission_release(borrowed ? ext->token : &own);
    }
    weft_group_leave(group);
}

struct weft_admission *weft_group_admission(struct weft_group *group) { return &group->admission; }

int weft_group_usable(struct weft_group *group) { return group ? weft_runtime_usable(group->runtime) : -EINVAL; }

/* ---- making and destroying ---- */

static char *copy_text(const char *text) { return text ? strdup(text) : NULL; }

static void dispose(struct weft_group *group)
{
    struct weft_instance *instance = weft_instance_of(group->runtime);
    free(group->name);
    free(group->task_name);
    weft_admission_fini(&group->admission);
    weft_slab_free(&groups, NULL, group);
    a_sub(&instance->objects, 1u, RELEASE);
    weft_instance_released(instance);
}

/* Every task of the list is this runtime's; memory for all memberships, or none. */
static int admit_tasks(struct weft_group *group, struct weft_task *const *tasks, size_t n)
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
        struct weft_task_ext *ext = a_load(&tasks[i]->ext, ACQUIRE);
        struct weft_waiter *tail = weft_waitq_lock(&tasks[i]->waitq);
        enum weft_task_state state = weft_task_state(tasks[i]);
        bool live = state != WEFT_TASK_ENDING && state != WEFT_TASK_FINISHED;
        for (struct weft_membership *other = a_load(&ext->memberships, RELAXED); other && live; other = other->next) {
            live = other->group != group; /* named twice: one membership */
        }
        if (live) {
            members[i]->membership = (struct weft_membership){ .group = group, .next = a_load(&ext->memberships, RELAXED) };
            a_store(&ext->memberships, &members[i]->membership, RELEASE);
            weft_task_retain(tasks[i]);
            a_add(&group->word, (uint64_t)WEFT_GROUP_ONE, RELAXED);
            weft_admission_force(&group->admission);
        }
        weft_waitq_unlock(&tasks[i]->waitq, tail);
        if (!live) {
            free(members[i]);
        }
    }
    free(members);
    return rc;
}

int weft_pool_create(struct weft_runtime *runtime, size_t size, const struct weft_group_options *given, struct weft_group **out)
{
    struct weft_group_options options;
    struct weft_task_options task_options = { 0 };
    if (!out) {
        return -EINVAL;
    }
    *out = NULL;
    int rc = weft_options_read(&options, sizeof options, given);
    if (rc == 0 && options.task_options) {
        rc = weft_options_read(&task_options, sizeof task_options, options.task_options);
    }
    if (rc == 0 && options.n_tasks > 0 && !options.tasks) {
        rc = -EINVAL;
    }
    if (rc != 0 || (rc = weft_runtime_resolve(&runtime)) != 0) {
        return rc;
    }
    struct weft_group *group = weft_slab_alloc(&groups, NULL);
    if (!group) {
        return -ENOMEM;
    }
    *group = (struct weft_group){ .runtime = runtime,
                                  .forget_errors = options.forget_errors,
                                  .has_options = options.task_options != NULL };
    weft_admission_init(&group->admission, size, group);
    a_add(&weft_instance_of(runtime)->objects, 1u, RELAXED);
    group->options = task_options;
    group->name = copy_text(options.name);
    group->task_name = copy_text(task_options.name);
    group->options.name = group->task_name;
    if ((options.name && !group->name) || (task_options.name && !group->task_name)) {
        rc = -ENOMEM;
    }
    if (rc == 0) {
        rc = admit_tasks(group, options.tasks, options.n_tasks);
    }
    if (rc != 0) {
        dispose(group);
        return rc;
    }
    *out = group;
    return 0;
}

int weft_group_create(struct weft_runtime *runtime, const struct weft_group_options *options, struct weft_group **out)
{
    return weft_pool_create(runtime, WEFT_UNLIMITED, options, out);
}

int weft_group_destroy(struct weft_group *group)
{
    if (!group) {
        return 0;
    }
    int rc = weft_group_usable(group);
    if (rc != 0 && rc != -ESHUTDOWN) {
        return rc;
    }
    struct weft_waiter *tail = weft_waitq_lock(&group->joiners);
    uint64_t word = a_load(&group->word, ACQUIRE);
    weft_lock(&group->lock);
    bool busy = tail || weft_group_pending(word) > 0 || !weft_waitq_empty(&group->admission.watchers) || group->killers > 0;
    weft_unlock(&group->lock);
    weft_waitq_unlock(&group->joiners, tail);
    if (busy) {
        return -EBUSY;
    }
    dispose(group);
    return 0;
}

/* ---- looking ---- */

size_t weft_group_len(const struct weft_group *group)
{
    if (!group) {
        return 0;
    }
    size_t extras = a_load(&group->extras, ACQUIRE), pending = (size_t)weft_group_pending(a_load(&group->word, ACQUIRE));
    return pending > extras ? pending - extras : 0;
}

bool weft_group_has(struct weft_group *group, struct weft_task *task)
{
    if (a_load(&task->group, RELAXED) == group) {
        return true;
    }
    struct weft_task_ext *ext = a_load(&task->ext, ACQUIRE);
    if (!ext) {
        return false;
    }
    struct weft_waiter *tail = weft_waitq_lock(&task->waitq);
    struct weft_membership *membership = a_load(&ext->memberships, RELAXED);
    while (membership && membership->group != group) {
        membership = membership->next;
    }
    weft_waitq_unlock(&task->waitq, tail);
    return membership != NULL;
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

/* ---- waiting ---- */

/* Under the joiners' lock. */
static bool is_empty(void *arg)
{
    struct weft_group *group = arg;
    return weft_group_pending(a_or(&group->word, (uint64_t)WEFT_GROUP_WAITERS, SEQ_CST)) == 0; /* G1, pairs with G2 */
}

int weft_group_join(struct weft_group *group, int64_t deadline)
{
    int rc = weft_group_usable(group);
    if (rc != 0) {
        return rc;
    }
    if (weft_group_is_mine(group)) {
        return -EDEADLK;
    }
    struct weft_wait wait = { .deadline = deadline, .cancellable = true, .awaited = WEFT_WORK(group) };
    return weft_wait_until(&group->joiners, is_empty, group, &wait);
}

/* ---- work ---- */

int weft_group_begin_work(struct weft_group *group, struct weft_work *work)
{
    bool killing = false;
    work->group = group;
    if (!group) {
        return 0;
    }
    a_add(&group->extras, 1u, ACQ_REL);
    int rc = weft_group_enter(group, &killing);
    if (rc != 0) {
        a_sub(&group->extras, 1u, ACQ_REL);
        return rc;
    }
    weft_lock(&group->lock);
    work->previous = NULL;
    work->next = group->works;
    if (work->next) {
        work->next->previous = work;
    }
    group->works = work;
    killing = killing || group->killers > 0;
    weft_unlock(&group->lock);
    if (killing) {
        weft_group_end_work(work);
        return -ECANCELED;
    }
    return 0;
}

void weft_group_end_work(struct weft_work *work)
{
    struct weft_group *group = work->group;
    if (!group) {
        return;
    }
    weft_lock(&group->lock);
    *(work->previous ? &work->previous->next : &group->works) = work->next;
    if (work->next) {
        work->next->previous = work->previous;
    }
    weft_unlock(&group->lock);
    a_sub(&group->extras, 1u, ACQ_REL);
    weft_group_leave(group);
}

/* ---- killing ---- */

struct killing {
    struct weft_group *group;
    int reason;
};

static bool kill_member(struct weft_task *task, void *context)
{
    struct killing *killing = context;
    uint32_t word = a_load(&task->state, ACQUIRE);
    if (!(word & WEFT_TASK_INTERNAL) && weft_group_has(killing->group, task)) {
        while (weft_task_state(task) == WEFT_TASK_RESERVED) {
            os_thread_yield(); /* it has entered the group, and is a few instructions from being published */
        }
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
        group->kill_reason = reason;
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
    weft_admission_shut(&group->admission);
    kill_works(group, killing.reason);
    weft_tasks_each(group->runtime, kill_member, &killing);
    if (mine) {
        rc = deliver_own();
    } else if (deadline != WEFT_NOWAIT) {
        struct weft_wait wait = { .deadline = deadline, .awaited = WEFT_WORK(group) };
        rc = weft_wait_until(&group->joiners, is_empty, group, &wait);
    }
    set_killing(group, -1, 0);
    return rc;
}

static void hold_for_fork(bool hold) { (hold ? weft_lock : weft_unlock)(&groups.lock); }

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&groups, (sizeof(struct weft_group) + 63) / 64 * 64, NULL);
    weft_task_set_leave(member_leaves);
    weft_fork_guard(hold_for_fork);
}
