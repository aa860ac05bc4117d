/* for: a body over a range, and the range that its participants share (contract M7; range.h). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"
#include "range.h"

/* ---- the range itself ---- */

static void check_range(struct weft_range *range, size_t begin, size_t end)
{
    check_eq(weft_range_size(range), end - begin);
    check(begin == end || (a_load(&range->begin, RELAXED) == begin && a_load(&range->end, RELAXED) == end));
}

Test(range, the_owner_takes_from_the_front_a_thief_half_from_the_back)
{
    struct weft_range range = { 0 };
    size_t begin, end;
    cr_assert_not(weft_range_take(&range, 5, false, &begin, &end));
    cr_assert_not(weft_range_steal(&range, &begin, &end));
    weft_range_set(&range, 10, 30);
    cr_assert(weft_range_take(&range, 4, false, &begin, &end));
    cr_assert(begin == 10 && end == 14);
    check_range(&range, 14, 30);
    cr_assert(weft_range_steal(&range, &begin, &end));
    cr_assert(begin == 22 && end == 30);
    check_range(&range, 14, 22);
    cr_assert(weft_range_take(&range, 100, false, &begin, &end));
    cr_assert(begin == 14 && end == 18, "no more than half");
    cr_assert(weft_range_take(&range, 100, true, &begin, &end));
    cr_assert(begin == 18 && end == 22, "unless told so");
    check_range(&range, 22, 22);
    weft_range_set(&range, 7, 8);
    cr_assert(weft_range_steal(&range, &begin, &end), "at least one");
    cr_assert(begin == 7 && end == 8);
    check_range(&range, 8, 8);
}

Test(range, what_is_put_back_is_there_again_whatever_was_stolen)
{
    struct weft_range range = { 0 };
    size_t begin, end, from, to;
    weft_range_set(&range, 0, 16);
    cr_assert(weft_range_take(&range, 8, false, &begin, &end));
    cr_assert(weft_range_steal(&range, &from, &to));
    weft_range_put_back(&range, begin + 1, end);
    check_range(&range, 1, from);
    weft_range_set(&range, 0, 2);
    cr_assert(weft_range_take(&range, 2, true, &begin, &end));
    weft_range_put_back(&range, 1, end);
    check_range(&range, 1, 2);
    weft_range_set(&range, 0, 3);
    cr_assert(weft_range_take(&range, 2, false, &begin, &end));
    cr_assert(weft_range_steal(&range, &from, &to));
    check_range(&range, 3, 3);
    weft_range_put_back(&range, begin + 1, end);
    check_range(&range, 1, 2);
}

Test(range, the_largest_indices_do_not_overflow_H27)
{
    struct weft_range range = { 0 };
    size_t begin, end;
    weft_range_set(&range, 0, SIZE_MAX);
    cr_assert(weft_range_steal(&range, &begin, &end));
    cr_assert(end == SIZE_MAX && begin > 0 && begin < end);
    cr_assert(weft_range_take(&range, SIZE_MAX, true, &begin, &end));
    cr_assert_eq(begin, 0);
    weft_range_set(&range, SIZE_MAX - 1, SIZE_MAX);
    cr_assert(weft_range_take(&range, SIZE_MAX, false, &begin, &end));
    cr_assert(begin == SIZE_MAX - 1 && end == SIZE_MAX);
    check_range(&range, SIZE_MAX, SIZE_MAX);
}

/* Owner and thieves at once: each index once. */
enum { INDICES = 200000, THIEVES = 2 };
static struct weft_range shared;
static _Atomic uint8_t seen[INDICES];
static _Atomic uint32_t taken_count, stolen_count;

static void note(size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        check_eq(a_add(&seen[i], 1u, RELAXED), 0);
    }
    a_add(&taken_count, (uint32_t)(end - begin), SEQ_CST);
}

static void steal_all(void *arg)
{
    (void)arg;
    while (a_load(&taken_count, SEQ_CST) < INDICES) {
        size_t begin, end;
        if (weft_range_steal(&shared, &begin, &end)) {
            a_add(&stolen_count, 1u, RELAXED);
            note(begin, end);
        }
    }
}

Test(range, each_index_goes_to_one)
{
    struct os_thread threads[THIEVES];
    for (int i = 0; i < THIEVES; i++) {
        cr_assert_eq(os_thread_start(&threads[i], steal_all, NULL, "thief"), 0);
    }
    for (size_t from = 0; from < INDICES; from += 1000) {
        size_t begin, end;
        weft_range_set(&shared, from, from + 1000);
        while (weft_range_take(&shared, 7, false, &begin, &end)) {
            if (end - begin > 3) {
                weft_range_put_back(&shared, begin + 3, end);
                end = begin + 3;
            }
            note(begin, end);
        }
    }
    for (int i = 0; i < THIEVES; i++) {
        os_thread_join(threads[i]);
    }
    cr_assert_eq(taken_count, INDICES);
    cr_log_info("%u thefts\n", stolen_count);
}

/* ---- for ---- */

static struct weft_runtime *runtime;
static struct weft_group *pool;
static _Atomic uint32_t calls;
static struct weft_map_report report;

static void begin_pool(size_t size)
{
    runtime = runtime_make();
    pool = pool_make(runtime, size);
    report = (struct weft_map_report){ .struct_size = sizeof report };
}

static void end_pool(void)
{
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static size_t most; /* the grain */

static int cover(void *ctx, size_t begin, size_t end)
{
    size_t base = *(size_t *)ctx;
    check(begin < end && (most == 0 || end - begin <= most));
    check(weft_task_current() != NULL);
    for (size_t i = begin; i < end; i++) {
        a_add(&seen[i - base], 1u, RELAXED);
    }
    a_add(&calls, 1u, RELAXED);
    return 0;
}

static void cover_once(size_t base, size_t n, size_t grain, bool deterministic)
{
    memset((void *)seen, 0, sizeof seen);
    a_store(&calls, 0u, RELAXED);
    most = grain;
    const struct weft_map_options *options =
        WEFT_OPTIONS(weft_map_options, .grain = grain, .deterministic = deterministic, .report = &report);
    check_eq(weft_group_for(pool, base, base + n, cover, &base, options), 0);
    for (size_t i = 0; i < n; i++) {
        check_eq(a_load(&seen[i], RELAXED), 1);
    }
    check(report.started && report.first_failed == WEFT_NO_INDEX);
    check_eq(report.ok, a_load(&calls, RELAXED)); /* the report counts calls */
    check_eq(report.failed + report.cancelled, 0);
    if (grain > 0) {
        check_eq(report.ok, (n + grain - 1) / grain);
    }
}

Test(range, every_index_is_in_one_call_of_at_most_the_grain)
{
    begin_pool(4);
    static const size_t grains[] = { 0, 1, 3, 1000, INDICES, INDICES + 1 };
    for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            cover_once(0, i == 1 ? 3000 : INDICES, grains[i], deterministic);
            cover_once(SIZE_MAX - 3000, 3000, grains[i], deterministic);
            cover_once(5, 1, grains[i], deterministic);
        }
    }
    cr_assert_eq(weft_group_for(pool, 7, 7, cover, NULL, NULL), 0);
    cr_assert_eq(weft_group_for(pool, SIZE_MAX, SIZE_MAX, cover, NULL, NULL), 0);
    end_pool();
}

/* The automatic grain depends on the range alone: the same calls, whoever makes them, in whatever pool. */
static _Atomic uint32_t length_at[INDICES];

static int note_call(void *ctx, size_t begin, size_t end)
{
    (void)ctx;
    a_store(&length_at[begin], (uint32_t)(end - begin), RELAXED);
    if (begin % 3 == 0) {
        weft_yield();
    }
    return 0;
}

Test(range, deterministic_calls_are_the_same_every_time)
{
    static uint32_t first[INDICES];
    for (size_t size = 1; size <= 4; size++) {
        begin_pool(size);
        memset((void *)length_at, 0, sizeof length_at);
        cr_assert_eq(weft_group_for(pool, 0, INDICES, note_call, NULL, WEFT_OPTIONS(weft_map_options, .deterministic = true)), 0);
        for (size_t i = 0; i < INDICES; i++) {
            uint32_t length = a_load(&length_at[i], RELAXED);
            cr_assert(size == 1 || first[i] == length, "a call at %zu", i);
            first[i] = length;
        }
        end_pool();
    }
}

static int fail_twice(void *ctx, size_t begin, size_t end)
{
    (void)ctx, (void)end;
    return begin == 30 ? -EIO : begin == 70 ? -EDOM : 0;
}

Test(range, failures_are_named_by_where_their_call_begins)
{
    begin_pool(3);
    struct weft_map_options options = { .struct_size = sizeof options, .grain = 10, .report = &report };
    cr_assert_eq(weft_group_for(pool, 0, 105, fail_twice, NULL, &options), -EIO);
    cr_assert_eq(report.ok, 9);
    cr_assert_eq(report.failed, 2);
    cr_assert_eq(report.first_failed, 30);
    cr_assert_eq(report.first_error, -EIO);
    options.on_error = WEFT_COLLECT;
    cr_assert_eq(weft_group_for(pool, 0, 105, fail_twice, NULL, &options), 0);
    options.on_error = WEFT_FAIL_FAST;
    cr_assert_eq(weft_group_for(pool, 30, 31, fail_twice, NULL, &options), -EIO);
    int status[105];
    options.status = status;
    cr_assert_eq(weft_group_for(pool, 0, 105, fail_twice, NULL, &options), -EINVAL, "calls have no numbers to keep codes by");
    options.status = NULL;
    cr_assert_eq(weft_group_for(pool, 2, 1, fail_twice, NULL, &options), -EINVAL);
    cr_assert_eq(weft_group_for(pool, 0, 1, NULL, NULL, &options), -EINVAL);
    end_pool();
}

static int fail_at_once(void *ctx, size_t begin, size_t end)
{
    (void)ctx, (void)begin, (void)end;
    a_add(&calls, 1u, RELAXED);
    return -EIO;
}

Test(range, the_largest_range_can_fail_fast_H27)
{
    begin_pool(3);
    static const size_t grains[] = { 0, 1, 1000, SIZE_MAX };
    for (int i = 0; i < 8; i++) {
        const struct weft_map_options *options = WEFT_OPTIONS(weft_map_options, .on_error = WEFT_FAIL_FAST, .grain = grains[i / 2],
                                                              .deterministic = i % 2, .report = &report);
        a_store(&calls, 0u, RELAXED);
        cr_assert_eq(weft_group_for(pool, 0, SIZE_MAX, fail_at_once, NULL, options), -EIO);
        cr_assert_leq(calls, 6);
        cr_assert_eq(report.failed, calls);
    }
    end_pool();
}

static struct gate gate;

static int pass(void *ctx, size_t begin, size_t end)
{
    (void)ctx, (void)begin, (void)end;
    a_add(&calls, 1u, RELAXED);
    return gate_pass(&gate);
}

static void for_in_thread(void *arg)
{
    *(int *)arg = weft_group_for(pool, 0, 100, pass, NULL, WEFT_OPTIONS(weft_map_options, .grain = 10, .report = &report));
}

Test(range, a_kill_of_the_group_cancels_calls)
{
    begin_pool(3);
    struct os_thread thread;
    int rc = 1;
    cr_assert_eq(os_thread_start(&thread, for_in_thread, &rc, "caller"), 0);
    until(gate_waiting(&gate) == 3);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    os_thread_join(thread);
    cr_assert_eq(rc, -ECANCELED);
    cr_assert_eq(calls, 3);
    cr_assert_eq(report.ok, 0);
    cr_assert_eq(report.cancelled, 10);
    end_pool();
}
