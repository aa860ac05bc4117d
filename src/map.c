/* map and for: arrays and ranges, worked off by a crew (contract M).
 *
 * Every participant owns a range of indices; the caller's is the whole at first. It takes chunks from the front of its own, and when
 * that is empty steals the back half of the largest other. A chunk grows to about 2 us of work and shrinks to 1 towards the end of a
 * range. What a participant has taken and not begun goes back to its range when a thief finds nothing (hungry), and when its item is
 * about to wait (shed): a long item delays nobody's remaining ones by more than itself.
 *
 * A body over a range is called once per chunk. With a grain, or `deterministic`, the unit of the range is the call, so that calls
 * begin at the same indices whoever makes them. */
#include "crew.h"

#include "slab.h"

#include <string.h>

#define CHUNK_GOAL_US 2 /* bench/bench_map.c, tiny items: the claim and two looks at the cycle counter are some 40 ns */
#define CHUNK_LARGEST ((size_t)1 << 40)
#define DETERMINISTIC_CALLS 512u      /* calls of a deterministic range: enough for 64 workers to balance */
#define PROGRESS_NS (100 * WEFT_MSEC) /* M9 */
#ifdef WEFT_SIM
#define HUNGRY_SPINS 2u
#else
#define HUNGRY_SPINS 200u
#endif

struct map {
    struct weft_crew crew; /* first */
    weft_map_fn *item;
    weft_range_fn *body;
    void *ctx;
    const char *in;
    char *out;
    size_t in_stride, out_stride;
    size_t begin, end; /* of the user's range */
    size_t units;      /* items, or calls */
    size_t grain;      /* indices a call, if calls are the unit; 0: indices are */
    size_t chunk;      /* items per chunk; 0: by time */
    struct weft_map_options options;
    struct weft_timer timer;
    struct weft_deferred timer_due;
    _Atomic size_t done;
    _Atomic int64_t progress_due;
    struct weft_lock progress_lock;
    size_t ok, failed, cancelled, first_failed;
    size_t unbegun; /* units that participants had left when they went */
    int first_error;
    uint64_t slab_link;
};

static struct weft_slab maps;

static struct map *map_of(struct weft_crew *crew) { return (struct map *)crew; }

static void map_free(struct weft_crew *crew) { weft_slab_free(&maps, NULL, crew); }

/* ---- what one item is ---- */

static int call_unit(struct map *map, size_t unit, size_t *index)
{
    if (map->item) {
        *index = unit;
        return map->item(map->ctx, unit, map->in ? map->in + unit * map->in_stride : NULL,
                         map->out ? map->out + unit * map->out_stride : NULL);
    }
    size_t from = map->begin + unit * map->grain;
    size_t to = map->end - from > map->grain ? from + map->grain : map->end;
    *index = from;
    return map->body(map->ctx, from, to);
}

/* Whatever is not plain success. */
static void settle(struct map *map, struct weft_participant *participant, size_t index, int rc)
{
    int error;
    switch (weft_participant_judge(participant, rc, &error)) {
    case WEFT_OK: participant->ok++; break;
    case WEFT_CANCELLED: participant->cancelled++; break;
    default:
        participant->failed++;
        if (index < participant->first_failed) {
            participant->first_failed = index;
            participant->first_error = error;
        }
        if (map->options.on_error == WEFT_FAIL_FAST) {
            weft_crew_stop(&map->crew, 0);
        }
        break;
    }
    if (map->options.status) {
        map->options.status[index] = error;
    }
    weft_participant_renew(participant);
}

/* ---- ranges ---- */

static bool has_work(struct weft_crew *crew)
{
    for (struct weft_participant *participant = crew->participants; participant; participant = participant->next) {
        if (weft_range_size(&participant->range) > 0) {
            return true;
        }
    }
    return false;
}

/* The code inside a participant's item is about to wait, or others are hungry: what it has not begun is for others. */
static void shed(struct weft_crew *crew, struct weft_participant *participant)
{
    (void)crew;
    if (participant->at + 1 < participant->limit) {
        weft_range_put_back(&participant->range, participant->at + 1, participant->limit);
        participant->limit = participant->at + 1;
    }
}

static bool steal(struct map *map, struct weft_participant *participant)
{
    struct weft_crew *crew = &map->crew;
    struct weft_participant *victim = NULL;
    size_t most = 0, begin, end;
    bool stolen = false;
    weft_lock(&crew->lock);
    for (struct weft_participant *other = crew->participants; other; other = other->next) {
        size_t size = other == participant ? 0 : weft_range_size(&other->range);
        if (size > most) {
            most = size;
            victim = other;
        }
    }
    if (victim) {
        stolen = weft_range_steal(&victim->range, &begin, &end);
    } else {
        for (struct weft_participant *other = crew->participants; other; other = other->next) {
            if (other != participant) {
                a_store(&other->hungry, 1u, RELAXED);
            }
        }
    }
    weft_unlock(&crew->lock);
    if (stolen) {
        weft_range_set(&participant->range, begin, end);
        weft_crew_invite(crew);
    }
    return stolen;
}

/* Under the lock. */
static bool others_can_shed(struct weft_crew *crew, const struct weft_participant *participant)
{
    for (struct weft_participant *other = crew->participants; other; other = other->next) {
        if (other != participant && a_load(&other->sheddable, RELAXED) > 0) {
            return true;
        }
    }
    return false;
}

/* Nothing to steal: the others may put something back within the next item. */
static bool steal_patiently(struct map *map, struct weft_participant *participant)
{
    struct weft_crew *crew = &map->crew;
    for (unsigned i = 0; i < HUNGRY_SPINS; i++) {
        if (steal(map, participant)) {
            return true;
        }
        weft_lock(&crew->lock);
        bool worth_it = others_can_shed(crew, participant);
        weft_unlock(&crew->lock);
        if (!worth_it || a_load(&crew->stop, RELAXED)) {
            return false;
        }
        for (unsigned pause = 0; pause < 8; pause++) {
            weft_spin_pause();
        }
    }
    return false;
}

/* ---- working ---- */

static void run_items(struct map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    participant->at = begin;
    participant->limit = end;
    a_store(&participant->sheddable, end - begin - 1, RELAXED);
    while (participant->at < participant->limit) {
        size_t index;
        int rc = call_unit(map, participant->at, &index);
        if (weft_likely(rc == 0 && a_load(&participant->item_scope->word, RELAXED) == 0)) {
            participant->ok++;
            if (map->options.status && map->item) {
                map->options.status[index] = 0;
            }
        } else {
            settle(map, participant, index, rc);
        }
        if (weft_unlikely(a_load(&map->crew.stop, RELAXED))) {
            break;
        }
        if (weft_unlikely(a_load(&participant->hungry, RELAXED))) {
            a_store(&participant->hungry, 0u, RELAXED);
            if (participant->at + 1 < participant->limit) {
                shed(&map->crew, participant);
                weft_crew_invite(&map->crew);
            }
            participant->chunk = 1;
        }
        participant->at++;
    }
    a_store(&participant->sheddable, 0u, RELAXED);
    participant->limit = participant->at; /* between chunks nothing is to be shed */
}

/* A body over any part of the range: one call. */
static void run_body(struct map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    int rc = map->body(map->ctx, map->begin + begin, map->begin + end);
    if (weft_likely(rc == 0 && a_load(&participant->item_scope->word, RELAXED) == 0)) {
        participant->ok++;
    } else {
        settle(map, participant, map->begin + begin, rc);
    }
    a_store(&participant->hungry, 0u, RELAXED);
}

static void report_progress(struct map *map, size_t finished)
{
    size_t done = a_add(&map->done, finished, RELAXED) + finished;
    int64_t now = os_now();
    if (now < a_load(&map->progress_due, RELAXED)) {
        return;
    }
    uint32_t free_word = 0;
    if (a_cas(&map->progress_lock.word, &free_word, 1u, ACQUIRE, RELAXED)) { /* from one thread at a time; the others go on */
        if (now >= a_load(&map->progress_due, RELAXED)) {
            a_store(&map->progress_due, now + PROGRESS_NS, RELAXED);
            map->options.progress(done, map->units, map->options.progress_arg);
        }
        weft_unlock(&map->progress_lock);
    }
}

static bool too_late(struct map *map)
{
    if (map->options.deadline != 0 && os_now() >= map->options.deadline) {
        weft_crew_stop(&map->crew, -ETIMEDOUT);
        return true;
    }
    return false;
}

static void work(struct weft_crew *crew, struct weft_participant *participant)
{
    struct map *map = map_of(crew);
    const uint64_t goal = os_cycles_per_us() * CHUNK_GOAL_US;
    size_t begin, end;
    while (!a_load(&crew->stop, RELAXED)) {
        size_t most = map->chunk ? map->chunk : participant->chunk;
        if (!weft_range_take(&participant->range, most, map->chunk != 0, &begin, &end)) {
            if (!steal_patiently(map, participant)) {
                return;
            }
            continue;
        }
        if (too_late(map)) {
            weft_range_put_back(&participant->range, begin, end);
            return;
        }
        uint64_t before = weft_cpu_cycles();
        (map->item || map->grain ? run_items : run_body)(map, participant, begin, end);
        uint64_t took = weft_cpu_cycles() - before;
        if (took < goal / 2 && participant->chunk < CHUNK_LARGEST) {
            participant->chunk *= 2;
        } else if (took > goal * 2) {
            participant->chunk = participant->chunk / 2 + (participant->chunk == 1);
        }
        if (map->options.progress) {
            report_progress(map, end - begin);
        }
        weft_participant_relent(participant);
    }
}

static void count(struct weft_crew *crew, const struct weft_participant *participant)
{
    struct map *map = map_of(crew);
    map->ok += participant->ok;
    map->unbegun += weft_range_size((struct weft_range *)(uintptr_t)&participant->range);
    map->failed += participant->failed;
    map->cancelled += participant->cancelled;
    if (participant->first_failed < map->first_failed) {
        map->first_failed = participant->first_failed;
        map->first_error = participant->first_error;
    }
}

static const struct weft_crew_ops map_ops = { .has_work = has_work, .work = work, .shed = shed, .count = count, .free = map_free };

/* ---- the deadline ---- */

static void deadline_fire(struct weft_timer *timer, void *context)
{
    struct map *map = weft_container_of(timer, struct map, timer);
    weft_crew_retain(&map->crew); /* its end cancels the timer first */
    weft_deferred_add(context, &map->timer_due);
}

static void deadline_run(struct weft_deferred *deferred)
{
    struct map *map = weft_container_of(deferred, struct map, timer_due);
    weft_crew_stop(&map->crew, -ETIMEDOUT);
    weft_crew_release(&map->crew);
}

/* ---- the call ---- */

/* How many items were never begun, or ended by the kill. */
static int result_of(struct map *map)
{
    bool all_ran = map->item || map->grain ? map->ok + map->failed + map->cancelled == map->units : map->unbegun == 0;
    int reason = map->crew.stop_reason;
    if ((reason != 0 && !all_ran) || map->cancelled > 0) {
        return reason == -ETIMEDOUT && map->options.deadline != 0 && os_now() >= map->options.deadline ? -ETIMEDOUT : -ECANCELED;
    }
    return map->failed > 0 && map->options.on_error != WEFT_COLLECT ? map->first_error : 0;
}

static void fill_report(const struct map *map, bool started, struct weft_map_report *report)
{
    if (!report) {
        return;
    }
    size_t given = report->struct_size, all = map->item || map->grain ? map->units : map->ok + map->failed + map->cancelled;
    struct weft_map_report full = { .struct_size = given,
                                    .started = started,
                                    .ok = map->ok,
                                    .failed = map->failed,
                                    .cancelled = started ? all - map->ok - map->failed : 0,
                                    .first_failed = map->failed > 0 ? map->first_failed : WEFT_NO_INDEX,
                                    .first_error = map->first_error };
    memcpy(report, &full, given < sizeof full ? given : sizeof full);
}

/* The crew has begun: the caller works, and waits for the others. */
static void run(struct map *map, struct weft_participant *participant)
{
    struct weft_crew *crew = &map->crew;
    for (size_t i = 0; map->options.status && i < map->units; i++) {
        map->options.status[i] = -ECANCELED;
    }
    bool timed = map->options.deadline != 0 && map->options.deadline != WEFT_FOREVER;
    if (timed) {
        map->timer.fire = deadline_fire;
        map->timer_due.run = deadline_run;
        weft_sched_arm(crew->runtime, &map->timer, map->options.deadline);
    }
    weft_range_set(&participant->range, 0, map->units);
    if (map->units > 1) {
        weft_crew_invite(crew);
    }
    work(crew, participant);
    weft_crew_leave(participant);
    weft_crew_wait_over(crew);
    if (timed) {
        (void)weft_timer_cancel(&map->timer);
    }
    if (map->options.progress) {
        map->options.progress(map->units - map->unbegun, map->units, map->options.progress_arg);
    }
}

static int perform(struct weft_group *group, struct map *map)
{
    struct weft_crew *crew = &map->crew;
    struct weft_participant *participant;
    int rc = weft_group_begin_work(group, &crew->work);
    if (rc != 0) {
        return rc;
    }
    weft_crew_call(crew);
    rc = weft_crew_join(crew, map->options.deadline != 0 ? map->options.deadline : WEFT_FOREVER, &participant);
    bool started = rc == 0;
    if (started) {
        run(map, participant);
        rc = result_of(map);
    }
    weft_crew_return(crew);
    weft_group_end_work(&crew->work);
    if (started && rc == -ECANCELED) {
        struct weft_scope *scope = a_load(&weft_slot_self()->scope, RELAXED);
        if (scope) {
            (void)weft_scope_deliver(scope); /* a kill of the caller has been told by this return */
        }
    }
    fill_report(map, started, map->options.report);
    return rc;
}

/* A copy with everything checked: 0, -EINVAL, -E2BIG. */
static int read_options(struct weft_map_options *options, const struct weft_map_options *given)
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
        fill_report(&(struct map){ .first_failed = WEFT_NO_INDEX }, false, report);
    }
    return options->on_error > WEFT_COLLECT || options->callback ? -EINVAL : 0;
}

static int prepare(struct weft_group *group, struct weft_runtime **runtime)
{
    int rc = weft_cancel_point();
    if (rc == 0 && group) {
        rc = weft_group_usable(group);
        *runtime = group->runtime;
    } else if (rc == 0) {
        rc = weft_runtime_resolve(runtime);
    }
    return rc;
}

static int start(struct weft_group *group, const struct map *shape, const struct weft_map_options *options)
{
    struct weft_runtime *runtime = NULL;
    int rc = prepare(group, &runtime);
    if (rc == 0 && shape->units == 0) {
        fill_report(shape, true, options->report);
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    struct map *map = weft_slab_alloc(&maps, NULL);
    if (!map) {
        return -ENOMEM;
    }
    *map = *shape;
    map->options = *options;
    map->first_failed = WEFT_NO_INDEX;
    a_store(&map->progress_due, options->progress ? os_now() + PROGRESS_NS : 0, RELAXED);
    weft_crew_init(&map->crew, &map_ops, runtime, group);
    rc = perform(group, map);
    weft_crew_release(&map->crew);
    return rc;
}

int weft_group_map(struct weft_group *group, weft_map_fn *fn, void *ctx, size_t n, const void *in, size_t in_stride, void *out,
                   size_t out_stride, const struct weft_map_options *given)
{
    struct weft_map_options options;
    int rc = fn ? read_options(&options, given) : -EINVAL;
    if (rc != 0) {
        return rc;
    }
    struct map shape = { .item = fn,
                         .ctx = ctx,
                         .in = in,
                         .out = out,
                         .in_stride = in_stride,
                         .out_stride = out_stride,
                         .units = n,
                         .chunk = options.grain };
    return start(group, &shape, &options);
}

int weft_group_for(struct weft_group *group, size_t begin, size_t end, weft_range_fn *fn, void *ctx,
                   const struct weft_map_options *given)
{
    struct weft_map_options options;
    int rc = fn ? read_options(&options, given) : -EINVAL;
    if (rc == 0 && (begin > end || options.status)) {
        rc = -EINVAL; /* a call is no fixed item: there is nothing to number the codes by */
    }
    if (rc != 0) {
        return rc;
    }
    size_t length = end - begin;
    size_t grain = options.grain || !options.deterministic || length == 0 ? options.grain : (length - 1) / DETERMINISTIC_CALLS + 1;
    struct map shape = { .body = fn,
                         .ctx = ctx,
                         .begin = begin,
                         .end = end,
                         .grain = grain,
                         .units = grain && length > 0 ? (length - 1) / grain + 1 : length,
                         .chunk = grain ? 1 : 0 };
    return start(group, &shape, &options);
}

static void hold_for_fork(bool hold) { (hold ? weft_lock : weft_unlock)(&maps.lock); }

__attribute__((constructor)) static void start_maps(void)
{
    weft_slab_init(&maps, (sizeof(struct map) + 63) / 64 * 64, NULL);
    weft_fork_guard(hold_for_fork);
}
