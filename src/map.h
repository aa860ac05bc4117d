/* A map in work: what its call asked for, and what its items have come to (contract M).
 *
 * map.c is the call: it reads the options, begins, waits and reports. chunk.c is the work: how participants share the range, and what
 * they do with a piece of it. Every participant owns a range of units, items or calls or indices; the caller's is the whole at first.
 *
 * Plain fields are set before the crew begins; the counts below `progress_lock` are added up under the crew's lock, from participants
 * that leave, and read when none is active. */
#ifndef WEFT_MAP_H
#define WEFT_MAP_H

#include "crew.h"

#define WEFT_PROGRESS_NS (100 * WEFT_MSEC) /* M9 */

struct weft_map {
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

static inline struct weft_map *weft_map_of(struct weft_crew *crew) { return (struct weft_map *)crew; }

/* chunk.c: a crew's ops. */
bool weft_map_has_work(struct weft_crew *crew);
void weft_map_work(struct weft_crew *crew, struct weft_participant *participant);
void weft_map_shed(struct weft_crew *crew, struct weft_participant *participant);
void weft_map_count(struct weft_crew *crew, const struct weft_participant *participant);

#endif
