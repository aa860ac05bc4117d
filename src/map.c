/* map and for: the calls. */
#include "map.h"

#include "slab.h"

#include <string.h>

static struct weft_slab maps;

static void map_free(struct weft_crew *crew)
{
    struct weft_map *map = weft_map_of(crew);
    weft_task_release(map->handle);
    weft_slab_free(&maps, NULL, map);
}

static const struct weft_crew_ops map_ops = {
    .has_work = weft_map_has_work, .work = weft_map_work, .shed = weft_map_shed, .count = weft_map_count, .free = map_free
};

/* ---- the deadline ---- */

static void deadline_fire(struct weft_timer *timer, void *context)
{
    struct weft_map *map = weft_container_of(timer, struct weft_map, timer);
    weft_crew_retain(&map->crew); /* its end cancels the timer first */
    weft_deferred_add(context, &map->timer_due);
}

static void deadline_run(struct weft_deferred *deferred)
{
    struct weft_map *map = weft_container_of(deferred, struct weft_map, timer_due);
    weft_crew_stop(&map->crew, -ETIMEDOUT);
    weft_crew_release(&map->crew);
}

/* ---- what it came to ---- */

/* An item that was cancelled never began, or was ended by the kill. */
static int result_of(struct weft_map *map)
{
    bool all_ran = map->calls ? map->ok + map->failed + map->cancelled == map->calls : map->unbegun == 0;
    weft_lock(&map->crew.lock); /* a kill of the group may come as late as this */
    int reason = map->crew.stop_reason;
    weft_unlock(&map->crew.lock);
    if ((reason != 0 && !all_ran) || map->cancelled > 0) {
        return reason == -ETIMEDOUT && map->options.deadline != 0 && os_now() >= map->options.deadline ? -ETIMEDOUT : -ECANCELED;
    }
    return map->failed > 0 && map->options.on_error != WEFT_COLLECT ? map->first_error : 0;
}

void weft_map_fill_status(struct weft_map *map)
{
    for (size_t i = 0; map->options.status && i < map->units; i++) {
        map->options.status[i] = -ECANCELED;
    }
}

void weft_map_fill_report(const struct weft_map *map, bool started, struct weft_map_report *report)
{
    if (!report) {
        return;
    }
    size_t given = report->struct_size, all = map->calls ? map->calls : map->ok + map->failed + map->cancelled;
    struct weft_map_report full = { .struct_size = given,
                                    .started = started,
                                    .ok = map->ok,
                                    .failed = map->failed,
                                    .cancelled = started ? all - map->ok - map->failed : 0,
                                    .first_failed = map->failed > 0 ? map->first_failed : WEFT_NO_INDEX,
                                    .first_error = map->first_error };
    memcpy(report, &full, given < sizeof full ? given : sizeof full);
}

/* In indices: of a range, those that calls were made for. */
static size_t all_done(const struct weft_map *map)
{
    size_t made = map->ok + map->failed + map->cancelled;
    if (map->calls == 0) {
        return weft_map_index(map, map->units - map->unbegun) - map->begin;
    }
    return made == map->calls ? map->end - map->begin : made * map->grain;
}

/* ---- the work ---- */

/* The crew has begun: the caller works, and waits for the others. */
static void run(struct weft_map *map, struct weft_participant *participant)
{
    struct weft_crew *crew = &map->crew;
    weft_map_fill_status(map);
    bool timed = map->options.deadline != 0 && map->options.deadline != WEFT_FOREVER;
    if (timed) {
        map->timer.fire = deadline_fire;
        map->timer_due.run = deadline_run;
        weft_sched_arm(crew->runtime, &map->timer, map->options.deadline);
    }
    weft_range_set(&participant->range, 0, map->units);
    if (map->units > 1) {
        (void)weft_crew_invite(crew);
    }
    weft_map_work(crew, participant);
    weft_participant_leave(participant);
    weft_crew_wait_over(crew, true);
    weft_crew_return(crew); /* what follows waits as the caller itself, if it waits */
    if (timed) {
        (void)weft_timer_cancel(&map->timer);
    }
    if (map->finish) {
        map->finish(map);
    }
    if (map->options.progress) {
        map->options.progress(all_done(map), map->end - map->begin, map->options.progress_arg);
    }
}

int weft_map_perform(struct weft_map *map)
{
    struct weft_crew *crew = &map->crew;
    struct weft_participant *participant;
    map->performed = true;
    weft_crew_call(crew);
    int rc = weft_participant_join(crew, map->options.deadline != 0 ? map->options.deadline : WEFT_FOREVER, &participant);
    bool started = rc == 0, accepted = started;
    if (started) {
        run(map, participant);
        rc = result_of(map);
    } else {
        weft_crew_return(crew);
    }
    if (!started && map->handle && (rc == -ECANCELED || rc == -ETIMEDOUT || rc == -ESHUTDOWN)) {
        weft_map_fill_status(map); /* it had been accepted: its items are cancelled */
        accepted = true;
    }
    if (!started && map->handle && rc == -ESHUTDOWN) {
        weft_map_pass_kill(map);
    }
    weft_group_end_work(&crew->work);
    if (started && rc == -ECANCELED) {
        struct weft_scope *scope = a_load(&weft_slot_self()->scope, RELAXED);
        if (scope) {
            (void)weft_scope_deliver(scope); /* a kill of the caller has been told by this return */
        }
    }
    weft_crew_end_visit(crew);
    weft_map_fill_report(map, accepted, map->options.report);
    return rc;
}

/* ---- the call ---- */

int weft_map_read_options(struct weft_map_options *options, const struct weft_map_options *given, bool async)
{
    int rc = weft_options_read(options, sizeof *options, given);
    if (rc != 0) {
        return rc;
    }
    struct weft_map_report *report = options->report;
    if (report) {
        if (report->struct_size < sizeof report->struct_size) {
            return -EINVAL;
        }
        weft_map_fill_report(&(struct weft_map){ .first_failed = WEFT_NO_INDEX }, false, report);
    }
    bool callback_fits = async ? !(options->when & ~(unsigned)WEFT_ON_ANY) : !options->callback;
    return options->on_error > WEFT_COLLECT || !callback_fits ? -EINVAL : 0;
}

int weft_map_resolve(struct weft_group *group, struct weft_runtime **runtime)
{
    *runtime = group ? group->runtime : NULL;
    int rc = group ? weft_group_usable(group) : weft_runtime_resolve(runtime);
    if (rc == 0 && a_load(&(*runtime)->phase, ACQUIRE) != WEFT_PHASE_RUNNING && !weft_runtime_is_mine(*runtime)) {
        rc = -ESHUTDOWN; /* it would be refused when it has its slot, which may take long */
    }
    return rc;
}

struct weft_map *weft_map_make(const struct weft_map *shape, const struct weft_map_options *options, struct weft_runtime *runtime,
                               struct weft_group *group)
{
    struct weft_map *map = weft_slab_alloc(&maps, NULL);
    if (map) {
        *map = *shape;
        map->options = *options;
        map->first_failed = WEFT_NO_INDEX;
        a_store(&map->progress_due, options->progress ? os_now() + WEFT_PROGRESS_NS : 0, RELAXED);
        weft_crew_init(&map->crew, &map_ops, runtime, group);
    }
    return map;
}

int weft_map_call(struct weft_group *group, const struct weft_map *shape, const struct weft_map_options *options)
{
    struct weft_runtime *runtime;
    int rc = weft_cancel_point();
    if (rc != 0 || (rc = weft_map_resolve(group, &runtime)) != 0) {
        return rc;
    }
    if (shape->units == 0) {
        weft_map_fill_report(shape, true, options->report);
        return 0;
    }
    struct weft_map *map = weft_map_make(shape, options, runtime, group);
    if (!map) {
        return -ENOMEM;
    }
    rc = weft_group_begin_work(group, &map->crew.work);
    if (rc == 0) {
        rc = weft_map_perform(map);
    }
    weft_crew_release(&map->crew);
    return rc;
}

void weft_map_shape_items(struct weft_map *shape, weft_map_fn *fn, void *ctx, size_t n, const void *in, size_t in_stride, void *out,
                          size_t out_stride, const struct weft_map_options *options)
{
    *shape = (struct weft_map){ .run = weft_map_run_items,
                                .item = fn,
                                .ctx = ctx,
                                .in = in,
                                .out = out,
                                .in_stride = in_stride,
                                .out_stride = out_stride,
                                .end = n,
                                .units = n,
                                .block = 1,
                                .grain = 1,
                                .calls = n,
                                .chunk = options->grain };
}

void weft_map_shape_range(struct weft_map *shape, size_t begin, size_t end, size_t grain, size_t most)
{
    size_t length = end - begin, call = grain == 0 ? 1 : grain < length ? grain : length;
    size_t calls = length > 0 ? (length - 1) / call + 1 : 0;
    size_t calls_a_unit = calls > most ? (calls - 1) / most + 1 : 1;
    shape->begin = begin;
    shape->end = end;
    shape->block = calls_a_unit * call;
    shape->units = length > 0 ? (length - 1) / shape->block + 1 : 0;
    shape->grain = grain == 0 ? 0 : call;
    shape->calls = grain == 0 ? 0 : calls;
}

int weft_group_map(struct weft_group *group, weft_map_fn *fn, void *ctx, size_t n, const void *in, size_t in_stride, void *out,
                   size_t out_stride, const struct weft_map_options *given)
{
    struct weft_map_options options;
    struct weft_map shape;
    int rc = fn ? weft_map_read_options(&options, given, false) : -EINVAL;
    if (rc != 0) {
        return rc;
    }
    weft_map_shape_items(&shape, fn, ctx, n, in, in_stride, out, out_stride, &options);
    return weft_map_call(group, &shape, &options);
}

int weft_group_for(struct weft_group *group, size_t begin, size_t end, weft_range_fn *fn, void *ctx,
                   const struct weft_map_options *given)
{
    struct weft_map_options options;
    int rc = fn ? weft_map_read_options(&options, given, false) : -EINVAL;
    if (rc == 0 && (begin > end || options.status)) {
        rc = -EINVAL; /* a call is no fixed item: there is nothing to number the codes by */
    }
    if (rc != 0) {
        return rc;
    }
    size_t length = end - begin;
    size_t grain =
        options.grain || !options.deterministic || length == 0 ? options.grain : (length - 1) / WEFT_MAP_DETERMINISTIC + 1;
    struct weft_map shape = {
        .run = grain ? weft_map_run_items : weft_map_run_body, .body = fn, .ctx = ctx, .chunk = grain ? 1 : 0
    };
    weft_map_shape_range(&shape, begin, end, grain, SIZE_MAX);
    return weft_map_call(group, &shape, &options);
}

static void hold_for_fork(bool hold) { (hold ? weft_lock : weft_unlock)(&maps.lock); }

__attribute__((constructor)) static void start_maps(void)
{
    weft_slab_init(&maps, (sizeof(struct weft_map) + 63) / 64 * 64, NULL);
    weft_fork_guard(hold_for_fork);
}
