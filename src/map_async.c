/* map_async: a map whose caller is a task of its own, the handle (contract M8).
 *
 * The map is in its group from the call on, so the group is non-empty although nothing has a slot yet. A kill of the group reaches the
 * handle's task, not the crew: only then the outcome is CANCELLED with its reason, and the task passes it on to the crew like any
 * caller (C8). Until the task is published (`handle_started`, under the crew's lock) the kill is left with the crew, and whoever
 * publishes looks there after.
 *
 * References to the map: one of the task, given up by `ended`, which is its arg_free and so runs once, whether or not it ran; the list of
 * the group has none: `ended` or the map itself takes it off before. The map has one to the handle. */
#include "map.h"

/* The task is known from here on; what a kill of the group has left until here. */
static int killed_early(struct weft_map *map)
{
    weft_lock(&map->crew.lock);
    map->handle_started = true;
    int reason = map->crew.stop_reason;
    weft_unlock(&map->crew.lock);
    return reason;
}

static void group_killed(struct weft_work *work, int reason)
{
    struct weft_map *map = weft_map_of((struct weft_crew *)work);
    weft_lock(&map->crew.lock);
    bool started = map->handle_started;
    if (!started && map->crew.stop_reason == 0) {
        a_store(&map->crew.stop, 1u, SEQ_CST); /* nothing runs that could miss it (K1) */
        map->crew.stop_reason = reason;
    }
    weft_unlock(&map->crew.lock);
    if (started) {
        (void)weft_task_kill_once(map->handle, reason);
    }
    weft_crew_release(&map->crew);
}

void weft_map_pass_kill(struct weft_map *map)
{
    struct weft_group *group = map->crew.work.group;
    if (group && a_load(&group->admission.shuts, ACQUIRE) != map->crew.shuts) { /* the reason was written before */
        (void)weft_task_kill_once(map->handle, a_load(&group->kill_reason, RELAXED));
    }
}

static int call(void *arg, void **result)
{
    (void)result;
    struct weft_map *map = arg;
    map->crew.caller = weft_caller_self();
    if (map->units == 0) {
        return 0;
    }
    int rc = weft_map_perform(map);
    return rc == -ESHUTDOWN && weft_checkpoint() != 0 ? -ECANCELED : rc;
}

/* The task's end. If it never ran, every item is cancelled. */
static void ended(void *arg)
{
    struct weft_map *map = arg;
    if (!map->performed) {
        weft_map_fill_status(map);
        weft_map_fill_report(map, true, map->options.report);
        weft_group_end_work(&map->crew.work);
    }
    weft_crew_release(&map->crew);
}

/* The task, with the callback linked; `*link` tells of it. */
static int make_task(struct weft_map *map, struct weft_task **task, uint64_t *link)
{
    struct weft_group *group = map->crew.work.group;
    const struct weft_task_options *base = group ? weft_group_defaults(group) : NULL;
    struct weft_task_options options = { .name = "weft map" };
    if (base) {
        options = (struct weft_task_options){ .name = base->name ? base->name : options.name,
                                              .stack_size = base->stack_size,
                                              .guard_size = base->guard_size,
                                              .hooks = base->hooks };
    }
    options.struct_size = sizeof options;
    options.arg_free = ended;
    int rc = weft_task_make(map->crew.runtime, call, map, &options, NULL, task);
    if (rc == 0 && map->options.callback) {
        unsigned when = map->options.when ? map->options.when : (unsigned)WEFT_ON_OK;
        rc = weft_task_link_callback(*task, map->options.callback, map->options.callback_arg, when, base, link);
        if (rc != 0) {
            weft_task_unmake(*task);
        }
    }
    return rc;
}

/* In the group, published, queued; or nothing has changed. */
static int launch(struct weft_map *map, struct weft_task *task, struct weft_task **handle)
{
    struct weft_runtime *runtime = map->crew.runtime;
    struct weft_group *group = map->crew.work.group;
    int rc = weft_group_begin_work(group, &map->crew.work) == 0 ? 0 : -ESHUTDOWN;
    if (rc != 0) {
        return rc;
    }
    weft_crew_retain(&map->crew); /* a kill may end the task, and give up its reference, before this is done */
    bool visits = false;
    rc = weft_runtime_visit(runtime, &visits);
    rc = rc != 0 ? rc : weft_task_publish(task, WEFT_TASK_QUEUED, 0, true);
    if (rc == 0) {
        map->handle = task;
        if (handle) {
            weft_task_retain(task);
            *handle = task; /* before it can run */
        }
        int reason = killed_early(map);
        if (reason != 0) {
            (void)weft_task_kill_once(task, reason); /* before it can run, and find its crew stopped without being killed itself */
        }
        weft_sched_push(runtime, task);
    } else {
        weft_group_end_work(&map->crew.work);
    }
    if (visits) {
        weft_runtime_leave(runtime);
    }
    weft_crew_release(&map->crew);
    return rc;
}

int weft_group_map_async(struct weft_group *group, weft_map_fn *fn, void *ctx, size_t n, const void *in, size_t in_stride,
                         void *out, size_t out_stride, const struct weft_map_options *given, struct weft_task **handle)
{
    struct weft_map_options options;
    struct weft_runtime *runtime;
    struct weft_map shape;
    struct weft_task *task;
    uint64_t link = 0;
    if (handle) {
        *handle = NULL;
    }
    int rc = fn ? weft_map_read_options(&options, given, true) : -EINVAL;
    if (rc != 0 || (rc = weft_map_resolve(group, &runtime)) != 0) {
        return rc;
    }
    weft_map_shape_items(&shape, fn, ctx, n, in, in_stride, out, out_stride, &options);
    struct weft_map *map = weft_map_make(&shape, &options, runtime, group);
    if (!map) {
        return -ENOMEM;
    }
    map->crew.work.kill = group_killed;
    rc = make_task(map, &task, &link);
    if (rc == 0 && (rc = launch(map, task, handle)) != 0) {
        if (options.callback) {
            (void)weft_task_unlink(task, link);
        }
        weft_task_unmake(task);
    }
    if (rc != 0) {
        weft_crew_release(&map->crew);
    }
    return rc;
}
