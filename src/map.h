/* A map in work: what its call asked for, and what its items have come to (contract M).
 *
 * The calls are in map.c (map, for), reduce.c and map_async.c; chunk.c is the work: how participants share the range, and what they do
 * with a piece of it. The range is one of units: items, or blocks of indices; every participant owns a part of it, the caller the whole
 * at first.
 *
 *   shape, begin (in the group), perform (work, wait, report), release
 *
 * Plain fields are set before the crew begins; the counts below `progress_lock` are added up under the crew's lock, from participants
 * that leave, and read when none is active. */
#ifndef WEFT_MAP_H
#define WEFT_MAP_H

#include "crew.h"

#define WEFT_PROGRESS_NS (100 * WEFT_MSEC) /* M9 */
#define WEFT_MAP_DETERMINISTIC 512u        /* units of a deterministic range: enough for 64 workers to balance */

struct weft_map {
    struct weft_crew crew; /* first */
    /* The units [begin, end), which were taken from the participant's range; `at` is where it has got to. False: it was stopped. */
    bool (*run)(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end);
    /* A participant has found nothing to do; or NULL. */
    void (*rest)(struct weft_map *map, struct weft_participant *participant);
    /* None is active any more; or NULL. */
    void (*finish)(struct weft_map *map);
    weft_map_fn *item;
    weft_range_fn *body;
    struct weft_reduction *reduction;
    void *ctx;
    const char *in;
    char *out;
    size_t in_stride, out_stride;
    size_t begin, end; /* indices */
    size_t units;
    size_t block; /* indices a unit */
    size_t grain; /* most indices a call; 0: what is taken at once */
    size_t calls; /* all there are to be; 0: that is not fixed */
    size_t chunk; /* units taken at once; 0: by time */
    struct weft_map_options options;
    struct weft_timer timer;
    struct weft_deferred timer_due;
    struct weft_task *handle; /* of an asynchronous map */
    bool handle_started;      /* under the crew's lock */
    bool performed;
    _Atomic size_t done; /* units */
    _Atomic int64_t progress_due;
    struct weft_lock progress_lock;
    size_t ok, failed, cancelled, first_failed;
    size_t unbegun; /* units that participants had left when they went */
    int first_error;
    uint64_t slab_link;
};

static inline struct weft_map *weft_map_of(struct weft_crew *crew) { return (struct weft_map *)crew; }

/* The index with which a unit begins; of the number of units, the end. */
static inline size_t weft_map_index(const struct weft_map *map, size_t unit)
{
    return unit >= map->units ? map->end : map->begin + unit * map->block;
}

/* map.c */
/* A copy with everything checked, and a report that says "not started": 0, -EINVAL, -E2BIG. A callback is for asynchronous maps. */
int weft_map_read_options(struct weft_map_options *options, const struct weft_map_options *given, bool async);
void weft_map_shape_items(struct weft_map *shape, weft_map_fn *fn, void *ctx, size_t n, const void *in, size_t in_stride, void *out,
                          size_t out_stride, const struct weft_map_options *options);
/* The indices [begin, end) in calls of at most `grain` indices each, and not more than `most` units of as many calls as it takes. A
 * grain of 0: as many indices a call as a participant takes at once. */
void weft_map_shape_range(struct weft_map *shape, size_t begin, size_t end, size_t grain, size_t most);
/* Where a call from here would run; refused when that is ending: 0, -EPERM, -ESHUTDOWN, or why the default runtime could not start. */
int weft_map_resolve(struct weft_group *group, struct weft_runtime **runtime);
/* A map of that shape, with one reference. NULL: no memory. */
struct weft_map *weft_map_make(const struct weft_map *shape, const struct weft_map_options *options, struct weft_runtime *runtime,
                               struct weft_group *group);
/* After weft_group_begin_work: works as a participant, waits for the others, reports, and ends the work in the group. */
int weft_map_perform(struct weft_map *map);
/* All of it, from the cancellation point to the result. */
int weft_map_call(struct weft_group *group, const struct weft_map *shape, const struct weft_map_options *options);
void weft_map_fill_status(struct weft_map *map); /* nothing has begun */
void weft_map_fill_report(const struct weft_map *map, bool started, struct weft_map_report *report);

/* chunk.c */
/* A call has ended. False: no further one may begin. */
bool weft_map_settle(struct weft_map *map, struct weft_participant *participant, size_t index, int rc);
/* Between two units: what is taken and has not begun goes back if others are hungry. */
void weft_map_share(struct weft_map *map, struct weft_participant *participant);
bool weft_map_run_items(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end);
bool weft_map_run_body(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end);
/* A crew's ops. */
bool weft_map_has_work(struct weft_crew *crew);
void weft_map_work(struct weft_crew *crew, struct weft_participant *participant);
void weft_map_shed(struct weft_crew *crew, struct weft_participant *participant);
void weft_map_count(struct weft_crew *crew, const struct weft_participant *participant);
/* map_async.c. While the map is in its group still: a kill of the group that has ended its wait for a slot reaches the handle, too. */
void weft_map_pass_kill(struct weft_map *map);

#endif
