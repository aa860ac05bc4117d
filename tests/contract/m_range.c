/* M7, M9: ranges, and progress. */
#include "contract.h"

struct pieces {
    _Atomic uint8_t hit[1000];
    _Atomic uint32_t calls;
    _Atomic uint64_t hash;
    size_t grain;
};

static int piece(void *ctx, size_t begin, size_t end)
{
    struct pieces *pieces = ctx;
    check(begin < end && end <= 1000 && (pieces->grain == 0 || end - begin <= pieces->grain));
    a_add(&pieces->calls, 1u, SEQ_CST);
    a_add(&pieces->hash, (uint64_t)(begin * 1009 + end) * (begin + 7), SEQ_CST);
    for (size_t i = begin; i < end; i++) {
        a_add(&pieces->hit[i], 1u, RELAXED);
    }
    return begin >= 500 && pieces->grain ? -EIO : 0;
}

PROMISE(M7_for_covers_the_range_once_in_calls_of_at_most_grain, EVERY)
{
    static const size_t grains[] = { 0, 1, 7, 5000 };
    for (int g = 0; g < 4; g++) {
        struct pieces pieces = { .grain = grains[g] };
        struct weft_map_report report = { .struct_size = sizeof report };
        int rc =
            weft_group_for(pool, 3, 999, piece, &pieces, WEFT_OPTIONS(weft_map_options, .grain = grains[g], .report = &report));
        check_eq(rc, g == 1 || g == 2 ? -EIO : 0);
        for (size_t i = 0; i < 1000; i++) {
            check_eq(pieces.hit[i], i >= 3 && i < 999);
        }
        check_eq(report.ok + report.failed, pieces.calls); /* an item is a call */
        if (rc != 0) {
            check(report.first_failed >= 500 && report.first_failed < 500 + grains[g]); /* the begin of a call */
        }
    }
    int status[4];
    struct pieces pieces = { 0 };
    check_eq(weft_group_for(pool, 0, 4, piece, &pieces, WEFT_OPTIONS(weft_map_options, .status = status)), -EINVAL);
    check_eq(weft_group_for(pool, 5, 4, piece, &pieces, NULL), -EINVAL);
    check_eq(weft_group_for(pool, 4, 4, piece, &pieces, NULL), 0);
    check_eq(pieces.calls, 0);
}

static uint64_t deterministic_hash;

PROMISE(M7_deterministic_calls_depend_on_the_range_alone, EVERY)
{
    for (int i = 0; i < 3; i++) {
        struct pieces pieces = { 0 };
        check_eq(weft_group_for(pool, 0, 1000, piece, &pieces, WEFT_OPTIONS(weft_map_options, .deterministic = true)), 0);
        check(deterministic_hash == 0 || deterministic_hash == pieces.hash); /* also among the combinations */
        deterministic_hash = pieces.hash;
    }
}

static _Atomic bool in_progress;
static _Atomic uint32_t progressed;
static size_t last_done;

static void progress(size_t done, size_t n, void *arg)
{
    check(!a_swap(&in_progress, true, SEQ_CST));
    check(n == 50 && done <= n && done >= last_done && arg == &last_done);
    last_done = done;
    a_add(&progressed, 1u, SEQ_CST);
    a_store(&in_progress, false, SEQ_CST);
}

static int nap(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    return weft_sleep_until(weft_after(100000));
}

PROMISE(M9_progress_is_told_seldom_and_at_the_end_by_one_at_a_time, EVERY)
{
    last_done = 0;
    progressed = 0;
    int64_t begin = weft_now();
    check_eq(weft_group_map(pool, nap, NULL, 50, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .progress = progress, .progress_arg = &last_done)),
             0);
    check_eq(last_done, 50);
    check(progressed <= (uint32_t)((weft_now() - begin) / (100 * WEFT_MSEC)) + 2);
}
