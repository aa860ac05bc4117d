#include "group.h"

#include "failure.h"
#include "membership.h"
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

int weft_group_usable(struct weft_group *group) { return group ? weft_runtime_usable(group->runtime) : -EINVAL; }

/* ---- making and destroying ---- */

static char *copy_text(const char *text) { return text ? strdup(text) : NULL; }

static void dispose(struct weft_group *group)
{
    struct weft_instance *instance = weft_instance_of(group->runtime);
    free(group->name);
    while (group->all_defaults) {
        struct weft_defaults *defaults = group->all_defaults;
        group->all_defaults = defaults->older;
        free(defaults);
    }
    weft_failures_drop(group);
    weft_admission_fini(&group->admission);
    weft_slab_free(&groups, NULL, group);
    a_sub(&instance->objects, 1u, RELEASE);
    weft_instance_released(instance);
}

/* A checked copy that never changes, or one that is there already. */
static int make_defaults(struct weft_group *group, const struct weft_task_options *given, struct weft_defaults **out)
{
    struct weft_task_options options;
    int rc = weft_options_read(&options, sizeof options, given);
    if (rc != 0 || options.stack_size > WEFT_STACK_LARGEST || options.guard_size > WEFT_STACK_LARGEST) {
        return rc != 0 ? rc : -EINVAL;
    }
    bool named = options.name != NULL;
    const char *name = named ? options.name : "";
    options.struct_size = sizeof options;
    options.name = NULL;
    for (struct weft_defaults *defaults = group->all_defaults; defaults; defaults = defaults->older) {
        struct weft_task_options same = defaults->options;
        same.name = NULL;
        if (!memcmp(&same, &options, sizeof same) && !strcmp(defaults->name, name) && (defaults->options.name != NULL) == named) {
            *out = defaults;
            return 0;
        }
    }
    struct weft_defaults *made = malloc(sizeof *made + strlen(name) + 1);
    if (!made) {
        return -ENOMEM;
    }
    made->options = options;
    made->options.name = named ? strcpy(made->name, name) : NULL;
    made->older = group->all_defaults;
    group->all_defaults = made;
    *out = made;
    return 0;
}

int weft_group_set_task_options(struct weft_group *group, const struct weft_task_options *options)
{
    struct weft_defaults *defaults = NULL;
    int rc = weft_group_usable(group);
    if (rc != 0) {
        return rc;
    }
    weft_lock(&group->lock);
    if (options) {
        rc = make_defaults(group, options, &defaults);
    }
    if (rc == 0) {
        a_store(&group->defaults, defaults, RELEASE); /* G4 */
    }
    weft_unlock(&group->lock);
    return rc;
}

/* Everything but the words that outlive it: lock and queues (late touches). */
static void init(struct weft_group *group, struct weft_runtime *runtime, bool bounded, size_t size)
{
    a_store(&group->word, 0u, RELAXED);
    a_store(&group->extras, 0u, RELAXED);
    weft_admission_init(&group->admission, bounded, size, group);
    memset((char *)group + offsetof(struct weft_group, runtime), 0,
           offsetof(struct weft_group, slab_link) - offsetof(struct weft_group, runtime));
    group->runtime = runtime;
}

static int create(struct weft_runtime *runtime, bool bounded, size_t size, const struct weft_group_options *given,
                  struct weft_group **out)
{
    struct weft_group_options options;
    if (!out) {
        return -EINVAL;
    }
    *out = NULL;
    int rc = weft_options_read(&options, sizeof options, given);
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
    init(group, runtime, bounded, size);
    a_add(&weft_instance_of(runtime)->objects, 1u, RELAXED);
    group->forget_errors = options.forget_errors;
    group->name = copy_text(options.name);
    if (options.name && !group->name) {
        rc = -ENOMEM;
    }
    if (rc == 0 && options.task_options) {
        rc = weft_group_set_task_options(group, options.task_options);
    }
    if (rc == 0) {
        rc = weft_group_take_members(group, options.tasks, options.n_tasks);
    }
    if (rc != 0) {
        dispose(group);
        return rc;
    }
    *out = group;
    return 0;
}

int weft_pool_create(struct weft_runtime *runtime, size_t size, const struct weft_group_options *options, struct weft_group **out)
{
    return create(runtime, true, size, options, out);
}

int weft_group_create(struct weft_runtime *runtime, const struct weft_group_options *options, struct weft_group **out)
{
    return create(runtime, false, WEFT_UNLIMITED, options, out);
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
    bool busy = tail || weft_group_pending(word) > 0 || !weft_waitq_empty(&group->admission.watchers) || group->killers > 0 ||
                group->callers > 0;
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

/* ---- waiting ---- */

/* Under the joiners' lock. */
static bool is_empty(void *arg)
{
    struct weft_group *group = arg;
    return weft_group_pending(a_or(&group->word, (uint64_t)WEFT_GROUP_WAITERS, SEQ_CST)) == 0; /* G1, pairs with G2 */
}

int weft_group_wait_empty(struct weft_group *group, int64_t deadline, bool cancellable)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = cancellable, .awaited = WEFT_WORK(group) };
    return weft_wait_until(&group->joiners, is_empty, group, &wait);
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
    return weft_group_wait_empty(group, deadline, true);
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

static void hold_for_fork(bool hold) { (hold ? weft_lock : weft_unlock)(&groups.lock); }

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&groups, (sizeof(struct weft_group) + 63) / 64 * 64, NULL);
    weft_fork_guard(hold_for_fork);
}
