/* Chunks: how the participants of a map share its range and work it off.
 *
 * A participant takes chunks from the front of its own range, and when that is empty steals the back half of the largest other. A chunk
 * grows to about 2 us of work and shrinks to 1 towards the end of a range. What a participant has taken and not begun goes back to its
 * range when a thief finds nothing (hungry), and when its item is about to wait (shed): a long item delays nobody's remaining ones by
 * more than itself.
 *
 * A body over a range is called once per chunk. With a grain, or `deterministic`, the unit of the range is the call, so that calls
 * begin at the same indices whoever makes them. */
#include "map.h"

#define CHUNK_GOAL_US 2 /* bench/bench_map.c, tiny items: the claim and two looks at the cycle counter are some 40 ns */
#define CHUNK_LARGEST ((size_t)1 << 40)
#ifdef WEFT_SIM
#define HUNGRY_SPINS 2u
#else
#define HUNGRY_SPINS 200u
#endif

/* ---- what one item is ---- */

static int call_unit(struct weft_map *map, size_t unit, size_t *index)
{
    if (map->item) {
        *index = unit;
        return map->item(map->ctx, unit, map->in ? map->in + unit * map->in_stride : NULL,
                         map->out ? map->out + unit * map->out_stride : NULL);
    }
    *index = weft_map_index(map, unit);
    return map->body(map->ctx, *index, weft_map_index(map, unit + 1));
}

/* Whatever is not plain success. False: no further item may begin. */
static bool settle(struct weft_map *map, struct weft_participant *participant, size_t index, int rc)
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
    return weft_participant_renew(participant);
}

bool weft_map_settle(struct weft_map *map, struct weft_participant *participant, size_t index, int rc)
{
    if (weft_unlikely(rc != 0 || a_load(&participant->item_scope->word, RELAXED) != 0)) {
        return settle(map, participant, index, rc);
    }
    participant->ok++;
    return !a_load(&map->crew.stop, RELAXED);
}

/* ---- ranges ---- */

bool weft_map_has_work(struct weft_crew *crew)
{
    for (struct weft_participant *participant = crew->participants; participant; participant = participant->next) {
        if (weft_range_size(&participant->range) > 0) {
            return true;
        }
    }
    return false;
}

/* The code inside a participant's item is about to wait, or others are hungry: what it has not begun is for others. */
void weft_map_shed(struct weft_crew *crew, struct weft_participant *participant)
{
    (void)crew;
    if (participant->at + 1 < participant->limit) {
        weft_range_put_back(&participant->range, participant->at + 1, participant->limit);
        participant->limit = participant->at + 1;
    }
}

static bool steal(struct weft_map *map, struct weft_participant *participant)
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
        (void)weft_crew_invite(crew);
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
static bool steal_patiently(struct weft_map *map, struct weft_participant *participant)
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

void weft_map_share(struct weft_map *map, struct weft_participant *participant)
{
    if (weft_unlikely(a_load(&participant->hungry, RELAXED))) {
        a_store(&participant->hungry, 0u, RELAXED);
        if (participant->at + 1 < participant->limit) {
            weft_map_shed(&map->crew, participant);
            (void)weft_crew_invite(&map->crew);
        }
        participant->chunk = 1;
    }
}

/* A unit is an item, or one call of a body. */
bool weft_map_run_items(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    bool go_on = true;
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
            go_on = !a_load(&map->crew.stop, RELAXED);
        } else {
            go_on = settle(map, participant, index, rc);
        }
        if (weft_unlikely(!go_on)) {
            break;
        }
        weft_map_share(map, participant);
        participant->at++;
    }
    a_store(&participant->sheddable, 0u, RELAXED);
    participant->limit = participant->at; /* between chunks nothing is to be shed */
    return go_on;
}

/* A body over any part of the range: one call. */
bool weft_map_run_body(struct weft_map *map, struct weft_participant *participant, size_t begin, size_t end)
{
    int rc = map->body(map->ctx, map->begin + begin, map->begin + end);
    participant->at = participant->limit = end;
    a_store(&participant->hungry, 0u, RELAXED);
    return weft_map_settle(map, participant, map->begin + begin, rc);
}

/* M9. What has been done is read inside the lock, so that it never shrinks from one call to the next. */
static void report_progress(struct weft_map *map, size_t finished)
{
    a_add(&map->done, finished, RELAXED);
    if (os_now() < a_load(&map->progress_due, RELAXED)) {
        return;
    }
    uint32_t free_word = 0;
    if (a_cas(&map->progress_lock.word, &free_word, 1u, ACQUIRE, RELAXED)) { /* from one thread at a time; the others go on */
        if (os_now() >= a_load(&map->progress_due, RELAXED)) {
            size_t done = weft_map_index(map, a_load(&map->done, RELAXED)) - map->begin;
            map->options.progress(done, map->end - map->begin, map->options.progress_arg);
            a_store(&map->progress_due, os_now() + WEFT_PROGRESS_NS, RELAXED);
        }
        weft_unlock(&map->progress_lock);
    }
}

static bool too_late(struct weft_map *map)
{
    if (map->options.deadline != 0 && os_now() >= map->options.deadline) {
        weft_crew_stop(&map->crew, -ETIMEDOUT);
        return true;
    }
    return false;
}

static void work_off(struct weft_map *map, struct weft_participant *participant)
{
    struct weft_crew *crew = &map->crew;
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
        if (!map->run(map, participant, begin, end)) {
            return;
        }
        uint64_t took = weft_cpu_cycles() - before;
        if (took < goal / 2 && participant->chunk < CHUNK_LARGEST) {
            participant->chunk *= 2;
        } else if (took > goal * 2) {
            participant->chunk = participant->chunk / 2 + (participant->chunk == 1);
        }
        if (map->options.progress) {
            report_progress(map, participant->at - begin);
            if (!weft_participant_renew(participant)) { /* it ran in the scope of the items */
                return;
            }
        }
        weft_participant_relent(participant);
    }
}

void weft_map_work(struct weft_crew *crew, struct weft_participant *participant)
{
    struct weft_map *map = weft_map_of(crew);
    work_off(map, participant);
    if (map->rest) {
        map->rest(map, participant);
    }
}

void weft_map_count(struct weft_crew *crew, const struct weft_participant *participant)
{
    struct weft_map *map = weft_map_of(crew);
    map->ok += participant->ok;
    map->unbegun += weft_range_size((struct weft_range *)(uintptr_t)&participant->range);
    map->failed += participant->failed;
    map->cancelled += participant->cancelled;
    if (participant->first_failed < map->first_failed) {
        map->first_failed = participant->first_failed;
        map->first_error = participant->first_error;
    }
}
