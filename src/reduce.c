/* reduce: a range folded into one value (contract M7).
 *
 * The range is cut into blocks, the units of the map. A participant works off blocks in calls into a *partial*, which `init` has made and
 * which covers blocks that follow one another. Whoever has nothing to add to its partial files it under its first block. Partials leave
 * from there into `acc`, one after another in the order of the range, by the hands of whoever files the one that was missing; others file
 * and go on meanwhile. So `join` always adds the next piece of the range to the caller's `acc`, and never runs twice at once.
 *
 *   acc = acc + [begin, ...) + ... + [joined, ...);   filed[block] != NULL => block >= joined;   partials alive <= blocks
 *
 * Deterministic: each block has a partial of its own, and blocks depend on the range and the grain alone. Otherwise a partial goes on as
 * long as its participant's blocks do, so there are about as many as thefts.
 *
 * A call is one item: an `init` that fails is the failure of the call that needed it. After a kill or a failure there may be gaps; what
 * was made is joined all the same, in order, by the caller in the end. A `join` that fails is the last: what is left is only ended. */
#include "map.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS_MOST 4096u /* of a range that is not deterministic: the table of partials has 32 KiB */
#define PARTIAL_APART 64u /* partials of two workers share no line */

struct partial {
    size_t begin, end; /* blocks; `end` is the next one */
    char *acc;         /* behind this */
};

struct weft_reduction {
    struct weft_reduce_ops ops;
    void *ctx, *acc;
    bool deterministic;
    struct weft_lock lock; /* the next three */
    bool joining;          /* somebody does */
    size_t joined;         /* blocks */
    struct partial **filed;
    int error; /* of a join; whoever joins has it */
};

/* ---- partials ---- */

static int checked(int rc) { return rc > 0 || rc < -0xffff ? -EINVAL : rc; }

static void partial_end(struct weft_reduction *reduction, struct partial *partial)
{
    if (reduction->ops.fini) {
        reduction->ops.fini(reduction->ctx, partial->acc);
    }
    free(partial);
}

/* 0, -ENOMEM, or what init says. */
static int partial_make(struct weft_reduction *reduction, size_t block, struct partial **out)
{
    size_t head = (sizeof(struct partial) + PARTIAL_APART - 1) / PARTIAL_APART * PARTIAL_APART, bytes = reduction->ops.acc_size;
    struct partial *partial = NULL;
    if (bytes <= SIZE_MAX / 2) {
        partial = aligned_alloc(PARTIAL_APART, head + (bytes + PARTIAL_APART - 1) / PARTIAL_APART * PARTIAL_APART);
    }
    if (!partial) {
        return -ENOMEM;
    }
    *partial = (struct partial){ .begin = block, .end = block, .acc = (char *)partial + head };
    int rc = reduction->ops.init(reduction->ctx, partial->acc);
    if (rc != 0) {
        free(partial);
        return rc;
    }
    *out = partial;
    return 0;
}

static void join(struct weft_map *map, struct partial *partial)
{
    struct weft_reduction *reduction = map->reduction;
    if (reduction->error == 0) {
        reduction->error = checked(reduction->ops.join(reduction->ctx, reduction->acc, partial->acc));
        if (reduction->error != 0 && map->options.on_error == WEFT_FAIL_FAST) {
            weft_crew_stop(&map->crew, 0);
        }
    }
    partial_end(reduction, partial);
}

/* Joins it, or leaves it to whoever files what is missing before it or joins just now. */
static void file(struct weft_map *map, struct partial *partial)
{
    struct weft_reduction *reduction = map->reduction;
    weft_lock(&reduction->lock);
    reduction->filed[partial->begin] = partial;
    bool mine = !reduction->joining;
    while (mine && reduction->joined < map->units && (partial = reduction->filed[reduction->joined]) != NULL) {
        size_t next = partial->end;
        reduction->filed[reduction->joined] = NULL;
        reduction->joining = true;
        weft_unlock(&reduction->lock);
        join(map, partial);
        weft_lock(&reduction->lock);
        reduction->joined = next;
        reduction->joining = false;
    }
    weft_unlock(&reduction->lock);
}

/* Files the participant's partial. False: the crew was stopped. */
static bool put_away(struct weft_map *map, struct weft_participant *participant)
{
    struct partial *partial = participant->partial;
    participant->partial = NULL;
    file(map, partial);
    return weft_participant_renew(participant); /* join ran in the scope of the items */
}

/* ---- blocks ---- */

/* One call, into the participant's partial. */
static int call(struct weft_map *map, struct weft_participant *participant, size_t block, size_t from, size_t to)
{
    struct weft_reduction *reduction = map->reduction;
    struct partial *partial = participant->partial;
    int rc = 0;
    if (!partial && (rc = partial_make(reduction, block, &partial)) == 0) {
        participant->partial = partial;
    }
    return rc != 0 ? rc : reduction->ops.body(reduction->ctx, from, to, partial->acc);
}

/* The partial at hand goes on with this block, or is put away. False: the crew was stopped. */
static bool approach(struct weft_map *map, struct weft_participant *participant, size_t block)
{
    struct partial *partial = participant->partial;
    bool goes_on = !partial || (partial->end == block && !map->reduction->deterministic);
    return goes_on || put_away(map, participant);
}

static void cover(struct weft_participant *participant, size_t end)
{
    struct partial *partial = participant->partial;
    if (partial) {
        partial->end = end;
    }
}

/* A block in calls of at most the grain. */
static bool run_block(struct weft_map *map, struct weft_participant *participant, size_t block)
{
    size_t from = weft_map_index(map, block), end = weft_map_index(map, block + 1);
    bool go_on = true;
    while (from < end && go_on) {
        size_t to = end - from > map->grain ? from + map->grain : end;
        int rc = call(map, participant, block, from, to);
        cover(participant, block + 1);
        go_on = weft_map_settle(map, participant, from, rc);
        from = to;
    }
    return go_on;
}

static bool run_blocks(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    bool go_on = true;
    participant->at = begin;
    participant->limit = end;
    a_store(&participant->sheddable, end - begin - 1, RELAXED);
    while (go_on && participant->at < participant->limit) {
        go_on = approach(map, participant, participant->at) && run_block(map, participant, participant->at);
        if (go_on) {
            weft_map_share(map, participant);
            participant->at++;
        }
    }
    a_store(&participant->sheddable, 0u, RELAXED);
    participant->limit = participant->at;
    return go_on;
}

/* All blocks in one call. */
static bool run_piece(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    participant->at = participant->limit = end;
    if (!approach(map, participant, begin)) {
        participant->at = participant->limit = begin;
        weft_range_put_back(&participant->range, begin, end);
        return false;
    }
    size_t from = weft_map_index(map, begin);
    int rc = call(map, participant, begin, from, weft_map_index(map, end));
    cover(participant, end);
    a_store(&participant->hungry, 0u, RELAXED);
    return weft_map_settle(map, participant, from, rc);
}

static void rest(struct weft_map *map, struct weft_participant *participant)
{
    if (participant->partial) {
        (void)put_away(map, participant);
    }
}

/* Nobody works any more: what lies behind a gap. */
static void finish(struct weft_map *map)
{
    struct weft_reduction *reduction = map->reduction;
    for (size_t block = reduction->joined; block < map->units; block++) {
        if (reduction->filed[block]) {
            join(map, reduction->filed[block]);
        }
    }
}

/* ---- the call ---- */

int weft_group_reduce(struct weft_group *group, size_t begin, size_t end, const struct weft_reduce_ops *given, void *ctx, void *acc,
                      const struct weft_map_options *given_options)
{
    struct weft_map_options options;
    struct weft_reduction reduction = { .ctx = ctx, .acc = acc };
    int rc = weft_options_read(&reduction.ops, sizeof reduction.ops, given);
    const struct weft_reduce_ops *ops = &reduction.ops;
    if (rc == 0) {
        rc = weft_map_read_options(&options, given_options, false);
    }
    if (rc == 0 && (begin > end || options.status || !acc || ops->acc_size == 0 || !ops->init || !ops->body || !ops->join)) {
        rc = -EINVAL;
    }
    if (rc != 0) {
        return rc;
    }
    reduction.deterministic = options.deterministic;
    size_t length = end - begin, grain = options.grain;
    if (grain == 0 && options.deterministic && length > 0) {
        grain = (length - 1) / WEFT_MAP_DETERMINISTIC + 1;
    }
    struct weft_map shape = { .run = grain ? run_blocks : run_piece,
                              .rest = rest,
                              .finish = finish,
                              .reduction = &reduction,
                              .chunk = options.deterministic ? 1 : 0 };
    weft_map_shape_range(&shape, begin, end, grain, options.deterministic ? WEFT_MAP_DETERMINISTIC : BLOCKS_MOST);
    if (shape.units > 0 && (reduction.filed = calloc(shape.units, sizeof(struct partial *))) == NULL) {
        return -ENOMEM;
    }
    rc = weft_map_call(group, &shape, &options);
    free(reduction.filed);
    return rc != 0 ? rc : reduction.error;
}
