/* I1 to I4: streams. */
#include "contract.h"
#include "stream.h"

static struct weft_imap *numbers_start(bool ordered, struct weft_array *array, weft_imap_fn *fn, void *ctx, size_t maxsize)
{
    struct weft_source source = { weft_array_next, array, NULL };
    struct weft_imap *imap;
    check_eq(
        (ordered ? weft_group_imap : weft_group_imap_unordered)(
            pool, &source, 1, fn, ctx, WEFT_OPTIONS(weft_imap_options, .maxsize = maxsize, .result_free = count_result), &imap),
        0);
    return imap;
}

static _Atomic uint32_t begun_at[1000], begun_count;

static int same(void *base, void *item, void **result)
{
    begun_at[a_add(&begun_count, 1u, SEQ_CST)] = (uint32_t)((char *)item - (char *)base);
    *result = item;
    return 0;
}

/* gevent: imap of 1000 items stepwise, then the end. */
PROMISE(I1_ordered_results_come_in_input_order_then_the_end, EVERY)
{
    static const char things[1000];
    struct weft_array array = { things, 1, 1000, 0 };
    struct weft_item item;
    begun_count = 0;
    struct weft_imap *imap = numbers_start(true, &array, same, (void *)(uintptr_t)things, 0);
    for (size_t i = 0; i < 1000; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check(item.index == i && item.status == WEFT_OK && item.value == &things[i] && item.input == &things[i]);
    }
    for (int i = 0; i < 3; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    }
    check_eq(weft_imap_destroy(imap), 0);
    if (size == 1) {
        for (uint32_t i = 0; i < 1000; i++) {
            check_eq(begun_at[i], i); /* begin in source order */
        }
    }
}

PROMISE(I1_it_starts_at_once, EVERY)
{
    static const char things[1];
    struct weft_array array = { things, 1, 1, 0 };
    begun_count = 0;
    struct weft_imap *imap = numbers_start(true, &array, same, (void *)(uintptr_t)things, 1);
    until(a_load(&begun_count, SEQ_CST) == 1); /* nobody reads */
    check_eq(weft_imap_destroy(imap), 0);
}

struct ladder {
    struct gate gates[3];
};

static int climb(void *ctx, void *item, void **result)
{
    int n = *(int *)item;
    *result = item;
    return gate_pass(&((struct ladder *)ctx)->gates[n]);
}

static int sleep_tenths(void *ctx, void *item, void **result)
{
    (void)ctx;
    *result = item;
    return weft_sleep_until(weft_after(*(int *)item * 100 * WEFT_MSEC));
}

/* gevent: sleeps of 1.0, 0.1, 0.2 s: of size 1 in order, else the shortest first. */
PROMISE(I1_unordered_results_come_in_completion_order, SIZES)
{
    static int tenths[] = { 10, 1, 2 };
    struct weft_array array = { tenths, sizeof *tenths, 3, 0 };
    struct weft_item item;
    struct weft_imap *imap = numbers_start(false, &array, sleep_tenths, NULL, 0);
    int order[3];
    for (int i = 0; i < 3; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        order[i] = *(int *)item.value;
    }
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
    check_eq(order[0], size == 1 ? 10 : 1);
    check_eq(order[2], size == 1 ? 2 : 10);
}

PROMISE(I1_unordered_follows_completion_by_gates, EVERY)
{
    static int steps[] = { 0, 1, 2 };
    struct ladder ladder = { 0 };
    struct weft_array array = { steps, sizeof *steps, 3, 0 };
    struct weft_item item;
    if (pool_width() < 3) {
        return;
    }
    struct weft_imap *imap = numbers_start(false, &array, climb, &ladder, 0);
    for (int i = 2; i >= 0; i--) {
        gate_open(&ladder.gates[i]);
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check(item.index == (size_t)i && item.value == &steps[i]);
    }
    check_eq(weft_imap_destroy(imap), 0);
}

static int add_up(void *ctx, void *item, void **result)
{
    (void)ctx;
    int **parts = item;
    *parts[0] += *parts[1];
    *result = parts[0];
    return 0;
}

PROMISE(I1_of_several_sources_the_shortest_ends_it, EVERY)
{
    int left[] = { 1, 2, 3, 4 }, right[] = { 10, 20, 30 };
    struct weft_array arrays[] = { { left, sizeof *left, 4, 0 }, { right, sizeof *right, 3, 0 } };
    struct weft_source sources[] = { { weft_array_next, &arrays[0], NULL }, { weft_array_next, &arrays[1], NULL } };
    struct weft_imap *imap;
    struct weft_item item;
    check_eq(weft_group_imap(pool, sources, 2, add_up, NULL, NULL, &imap), 0);
    for (size_t i = 0; i < 3; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check(item.index == i && item.input == NULL && item.value == &left[i]);
        check_eq(left[i], 11 * ((int)i + 1));
    }
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
}

/* ---- I2 ---- */

PROMISE(I2_maxsize_bounds_what_runs_or_is_unread, EVERY)
{
    for (size_t m = 1; m <= 4; m++) {
        struct stream stream = { .n = 40 };
        struct weft_item item;
        struct weft_imap *imap = stream_start(pool, m % 2, &stream, m, NULL);
        for (uint32_t k = 0; k < 10; k++) {
            until(a_load(&stream_begun, SEQ_CST) == m + k && a_load(&stream_running, SEQ_CST) == 0);
            ends_ok(task_spawn(do_nothing, NULL));
            check_eq(stream_begun, m + k); /* m with no reader, m + k after k reads */
            check(a_load(&stream.pulled, SEQ_CST) <= m + k + 1);
            check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
            stream_took(&item);
        }
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
}

PROMISE(I2_without_a_bound_one_item_is_pulled_beyond_those_begun, EVERY)
{
    struct stream stream = { .n = 40 };
    struct gate gate = { 0 };
    if (size == WEFT_UNLIMITED) {
        return;
    }
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, &gate);
    until(gate_waiting(&gate) == size);
    ends_ok(task_spawn(do_nothing, NULL));
    check(a_load(&stream.pulled, SEQ_CST) <= size + 1);
    gate_open(&gate);
    check_eq(weft_imap_destroy(imap), 0);
    stream_settle();
}

/* ---- I3 ---- */

static int invert(void *ctx, void *item, void **result)
{
    (void)ctx;
    double *x = item;
    *result = x;
    if (*x == 0) {
        return -EDOM;
    }
    *x = 1 / *x;
    return 0;
}

/* gevent: 1/x over [1, 0, 2]. */
PROMISE(I3_an_items_failure_is_that_items, EVERY)
{
    double numbers[] = { 1, 0, 2 };
    struct weft_array array = { numbers, sizeof *numbers, 3, 0 };
    struct weft_item item;
    count_reset();
    struct weft_imap *imap = numbers_start(true, &array, invert, NULL, 0);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    check(item.status == WEFT_OK && *(double *)item.value == 1);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    check(item.index == 1 && item.status == WEFT_FAILED && item.error == -EDOM && !item.value && item.input == &numbers[1]);
    check_eq(results_freed, 1); /* the result beside the error */
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    check(item.status == WEFT_OK && *(double *)item.value == 0.5);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
}

/* gevent: sources that end late, are empty, or fail after two items. */
PROMISE(I3_sources_end_late_or_empty_or_fail, EVERY)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct gate late = { 0 }, items = { 0 };
        struct weft_item item;
        struct stream empty = { .n = 0 }, ends_late = { .n = 2, .ahead = &late }, fails = { .n = 2, .end = -EIO };
        struct weft_imap *imap = stream_start(pool, ordered, &empty, 0, NULL);
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
        check_eq(weft_imap_destroy(imap), 0);
        imap = stream_start(pool, ordered, &ends_late, 0, NULL);
        for (int i = 0; i < 2; i++) {
            check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
            stream_took(&item);
        }
        check_eq(weft_imap_next(imap, &item, weft_after(WEFT_MSEC)), -ETIMEDOUT); /* not known to be the end */
        gate_open(&late);
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle();
        imap = stream_start(pool, ordered, &fails, 0, &items);
        int told = -1;
        for (int i = 0; i < 3; i++) {
            if (i == (ordered || pool_width() == 1 ? 0 : 1)) {
                gate_open(&items); /* unordered, the failure comes before the items that still run */
            }
            check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
            if (item.index == WEFT_NO_INDEX) {
                check(item.status == WEFT_FAILED && item.error == -EIO && !item.input && !item.value);
                told = i;
            } else {
                stream_took(&item);
            }
        }
        check(ordered ? told == 2 : pool_width() == 1 ? told >= 0 : told == 0);
        for (int i = 0; i < 2; i++) {
            check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
        }
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle();
        stream_settle();
    }
}

/* ---- I4 ---- */

static int read_all(void *arg)
{
    struct weft_item item;
    int rc, n = 0;
    while ((rc = weft_imap_next(arg, &item, WEFT_FOREVER)) == 1) {
        stream_took(&item);
        n++;
    }
    check_eq(rc, 0); /* each sees the end */
    return n;
}

PROMISE(I4_many_readers_get_each_item_once, EVERY)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct stream stream = { .n = 200 };
        struct actor actors[4];
        struct weft_imap *imap = stream_start(pool, ordered, &stream, 3, NULL);
        int n = 0;
        for (int i = 0; i < 4; i++) {
            actor_start(&actors[i], i % 2, read_all, imap);
        }
        for (int i = 0; i < 4; i++) {
            n += actor_end(&actors[i]);
        }
        check_eq(n, 200);
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle(); /* each thing and each value went one way */
    }
}

PROMISE(I4_a_late_or_killed_next_loses_nothing, EVERY)
{
    struct stream stream = { .n = 2 };
    struct gate gate = { 0 };
    struct weft_item item;
    struct actor reader;
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, &gate);
    check_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), -ETIMEDOUT);
    check_eq(weft_imap_next(imap, &item, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    actor_start(&reader, false, stream_read_one, imap);
    ends_ok(task_spawn(do_nothing, NULL));
    check_eq(weft_task_kill(reader.task, 0, WEFT_NOWAIT), 0);
    check_eq(actor_end(&reader), -ECANCELED);
    gate_open(&gate);
    check_eq(read_all(imap), 2);
    check_eq(weft_imap_destroy(imap), 0);
    stream_settle();
}
