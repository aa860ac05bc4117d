/* imap: which results come, in which order, and to whom (contract I1, I3, I4). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"
#include "stream.h"

static void check_end(struct weft_imap *imap)
{
    for (int i = 0; i < 3; i++) {
        struct weft_item item = { .index = 5, .status = WEFT_OK, .value = &item };
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
        check_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), 0);
        check(item.value == NULL && item.input == NULL && item.index == WEFT_NO_INDEX && item.status == WEFT_PENDING);
    }
}

/* gevent: imap over range(1000), read step by step, then the end. */
static void thousand(size_t maxsize)
{
    begin(10);
    struct stream stream = { .n = 1000 };
    struct weft_imap *imap = stream_start(pool, true, &stream, maxsize, NULL);
    for (size_t i = 0; i < 1000; i++) {
        struct weft_item item;
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check_eq(item.index, i);
        check_eq(item.status, WEFT_OK);
        check_eq(item.error, 0);
        check(item.input && item.value);
        stream_took(&item);
    }
    check_end(imap);
    check_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap, a_thousand_stepwise_then_the_end) { thousand(0); }
Test(imap, a_thousand_through_a_window_of_one) { thousand(1); }
Test(imap, a_thousand_through_a_window_of_seven) { thousand(7); }

/* ---- order ---- */

static struct gate gates[8];

static int pass_own_gate(void *ctx, void *item, void **result)
{
    (void)ctx;
    stream_enter();
    size_t id = ((struct thing *)item)->id;
    int rc = gate_pass(&gates[id]);
    *result = value_make(id);
    a_sub(&stream_running, 1u, SEQ_CST);
    return rc;
}

static struct weft_imap *start_gated(bool ordered, struct stream *stream)
{
    struct weft_source source = { stream_next, stream, thing_free };
    struct weft_imap *imap;
    const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .result_free = value_free);
    check_eq((ordered ? weft_group_imap : weft_group_imap_unordered)(pool, &source, 1, pass_own_gate, NULL, options, &imap), 0);
    return imap;
}

static size_t read_one(struct weft_imap *imap)
{
    struct weft_item item;
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    stream_took(&item);
    return item.index;
}

static void await_nothing(struct weft_imap *imap)
{
    struct weft_item item;
    check_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), -ETIMEDOUT);
    check_eq(weft_imap_next(imap, &item, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    check(item.index == WEFT_NO_INDEX && item.status == WEFT_PENDING && !item.value && !item.input);
}

/* gevent: imap_unordered of sleeps comes in order of their length. */
Test(imap, unordered_comes_as_it_is_finished)
{
    begin(8);
    struct stream stream = { .n = 6 };
    struct weft_imap *imap = start_gated(false, &stream);
    static const size_t order[] = { 3, 0, 5, 1, 4, 2 };
    until(stream_begun == 6);
    for (int i = 0; i < 6; i++) {
        await_nothing(imap);
        gate_open(&gates[order[i]]);
        cr_assert_eq(read_one(imap), order[i]);
    }
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap, ordered_waits_for_the_first)
{
    begin(8);
    struct stream stream = { .n = 4 };
    struct weft_imap *imap = start_gated(true, &stream);
    gate_open(&gates[1]);
    gate_open(&gates[3]);
    until(stream_begun == 4 && stream_running == 2);
    await_nothing(imap);
    gate_open(&gates[0]);
    cr_assert_eq(read_one(imap), 0);
    cr_assert_eq(read_one(imap), 1);
    await_nothing(imap);
    gate_open(&gates[2]);
    cr_assert_eq(read_one(imap), 2);
    cr_assert_eq(read_one(imap), 3);
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

static _Atomic uint32_t next_begun;

static int begin_in_turn(void *ctx, void *item, void **result)
{
    (void)ctx, (void)result;
    check_eq(a_add(&next_begun, 1u, SEQ_CST), ((struct thing *)item)->id);
    return 0;
}

/* In a pool of one an item begins when the one before has ended: any other order would be seen. */
Test(imap, items_begin_in_source_order)
{
    begin(1);
    struct stream stream = { .n = 500 };
    struct weft_source source = { stream_next, &stream, thing_free };
    struct weft_imap *imap;
    cr_assert_eq(weft_group_imap_unordered(pool, &source, 1, begin_in_turn, NULL, NULL, &imap), 0);
    for (size_t i = 0; i < 500; i++) {
        cr_assert_eq(read_one(imap), i);
    }
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

/* ---- sources ---- */

Test(imap, an_empty_source_is_the_end)
{
    begin(2);
    for (int ordered = 0; ordered < 2; ordered++) {
        struct stream stream = { .n = 0 };
        struct weft_imap *imap = stream_start(pool, ordered, &stream, 0, NULL);
        check_end(imap);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        imap = stream_start(NULL, ordered, &(struct stream){ .n = 0 }, 0, NULL);
        cr_assert_eq(weft_imap_destroy(imap), 0);
    }
    end();
    stream_settle();
}

Test(imap, a_source_that_ends_late_keeps_readers_waiting)
{
    begin(2);
    for (int ordered = 0; ordered < 2; ordered++) {
        struct gate late = { 0 };
        struct stream stream = { .n = 2, .ahead = &late };
        struct weft_imap *imap = stream_start(pool, ordered, &stream, 0, NULL);
        cr_assert_eq(read_one(imap) + read_one(imap), 1);
        until(gate_waiting(&late) == 1);
        await_nothing(imap);
        until(weft_pool_free_count(pool) == 2); /* waiting for the source holds no slot, once the last participant has left */
        until(weft_group_len(pool) == 0);
        cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT, "but the group is not empty");
        gate_open(&late);
        check_end(imap);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

static void check_failure(struct weft_imap *imap, int code)
{
    struct weft_item item;
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    check(item.index == WEFT_NO_INDEX && item.status == WEFT_FAILED && !item.input && !item.value);
    check_eq(item.error, code);
}

Test(imap, a_source_that_fails_after_two_items)
{
    begin(2);
    for (size_t maxsize = 0; maxsize < 3; maxsize++) {
        struct stream stream = { .n = 2, .end = -EPROTO };
        struct weft_imap *imap = stream_start(pool, true, &stream, maxsize, NULL);
        cr_assert_eq(read_one(imap), 0);
        cr_assert_eq(read_one(imap), 1);
        check_failure(imap, -EPROTO);
        check_end(imap);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

Test(imap, a_sources_failure_comes_last_in_order_and_at_once_without)
{
    begin(4);
    struct stream stream = { .n = 2, .end = -EPROTO };
    struct weft_imap *imap = start_gated(false, &stream);
    until(stream_begun == 2);
    check_failure(imap, -EPROTO);
    await_nothing(imap);
    gate_open(&gates[1]);
    cr_assert_eq(read_one(imap), 1);
    gate_open(&gates[0]);
    cr_assert_eq(read_one(imap), 0);
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    stream_settle();

    memset(gates, 0, sizeof gates);
    stream = (struct stream){ .n = 2, .end = -EPROTO };
    imap = start_gated(true, &stream);
    gate_open(&gates[1]);
    until(stream_begun == 2 && stream_running == 1);
    await_nothing(imap);
    gate_open(&gates[0]);
    cr_assert_eq(read_one(imap), 0);
    cr_assert_eq(read_one(imap), 1);
    check_failure(imap, -EPROTO);
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

static int add_zipped(void *ctx, void *item, void **result)
{
    (void)ctx;
    struct thing **things = item;
    size_t id = things[0]->id;
    *result = value_make(id);
    for (int i = 0; i < 3; i++) {
        check_eq(things[i]->id % 1000, id);
        thing_free(things[i]); /* they are fn's once it starts */
    }
    return 0;
}

Test(imap, several_sources_are_zipped_and_the_shortest_ends_it)
{
    begin(3);
    for (int ordered = 0; ordered < 2; ordered++) {
        struct stream streams[3] = { { .n = 50 }, { .n = 1040, .next = 1000 }, { .n = 2045, .next = 2000 } };
        struct weft_source sources[3];
        for (int i = 0; i < 3; i++) {
            sources[i] = (struct weft_source){ stream_next, &streams[i], thing_free };
        }
        struct weft_imap *imap;
        const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = 4, .result_free = value_free);
        cr_assert_eq((ordered ? weft_group_imap : weft_group_imap_unordered)(pool, sources, 3, add_zipped, NULL, options, &imap),
                     0);
        size_t sum = 0;
        for (size_t i = 0; i < 40; i++) {
            struct weft_item item;
            cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
            cr_assert(!ordered || item.index == i);
            cr_assert_null(item.input);
            sum += item.index;
            stream_took(&item);
        }
        cr_assert_eq(sum, 39 * 40 / 2);
        check_end(imap);
        cr_assert_eq(streams[0].pulled, 41, "the first was asked before the second had ended; its thing is freed");
        cr_assert_eq(streams[2].pulled, 40);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

/* ---- items that fail ---- */

static int invert(void *ctx, void *item, void **result)
{
    (void)ctx;
    int x = *(int *)item;
    *result = value_make((size_t)x);
    return x == 0 ? -EDOM : 0;
}

/* gevent: imap(lambda x: 1/x, [1, 0, 2]). */
Test(imap, an_items_failure_is_that_items)
{
    begin(1);
    int numbers[] = { 1, 0, 2 };
    struct weft_array array = { .base = numbers, .stride = sizeof *numbers, .n = 3 };
    struct weft_imap *imap;
    cr_assert_eq(weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, invert, NULL,
                                 WEFT_OPTIONS(weft_imap_options, .result_free = value_free), &imap),
                 0);
    for (size_t i = 0; i < 3; i++) {
        struct weft_item item;
        cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        cr_assert_eq(item.index, (size_t)i);
        cr_assert_eq(item.input, &numbers[i]);
        cr_assert_eq(item.status, i == 1 ? WEFT_FAILED : WEFT_OK);
        cr_assert_eq(item.error, i == 1 ? -EDOM : 0);
        cr_assert_eq(item.value == NULL, i == 1);
        if (item.value) {
            cr_assert_eq(((struct thing *)item.value)->id, (size_t)numbers[i]);
            value_free(item.value);
        }
    }
    cr_assert_eq(value_freed[0], 1, "a result beside an error goes to result_free");
    check_end(imap);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap, what_is_wrong_is_refused)
{
    begin(1);
    struct weft_imap *imap = (struct weft_imap *)&runtime;
    struct stream stream = { .n = 3 };
    struct weft_source source = { stream_next, &stream, thing_free }, none = { NULL, &stream, NULL };
    cr_assert_eq(weft_group_imap(pool, &source, 1, stream_copy, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_group_imap(pool, &source, 0, stream_copy, NULL, NULL, &imap), -EINVAL);
    cr_assert_eq(weft_group_imap(pool, NULL, 1, stream_copy, NULL, NULL, &imap), -EINVAL);
    cr_assert_eq(weft_group_imap(pool, &source, 1, NULL, NULL, NULL, &imap), -EINVAL);
    cr_assert_eq(weft_group_imap(pool, &none, 1, stream_copy, NULL, NULL, &imap), -EINVAL);
    cr_assert_eq(weft_group_imap(pool, &source, 1, stream_copy, NULL, &(struct weft_imap_options){ .maxsize = 1 }, &imap), -EINVAL);
    cr_assert_eq(stream.pulled, 0);
    cr_assert_eq(weft_imap_destroy(NULL), 0);
    weft_imap_close(NULL);
    end();
    stream_settle();
}

/* ---- readers ---- */

struct reader {
    struct weft_imap *imap;
    bool hasty; /* gives up at once, again and again */
    _Atomic uint32_t got, gave_up;
};

static void read_all(void *arg)
{
    struct reader *reader = arg;
    struct weft_item item;
    int rc;
    do {
        rc = weft_imap_next(reader->imap, &item, reader->hasty ? weft_after((int64_t)(reader->gave_up % 50) * 1000) : WEFT_FOREVER);
        if (rc == 1) {
            stream_took(&item);
            a_add(&reader->got, 1u, RELAXED);
        } else if (rc == -ETIMEDOUT) {
            a_add(&reader->gave_up, 1u, RELAXED);
            weft_yield();
        }
    } while (rc == 1 || rc == -ETIMEDOUT);
    check(rc == 0 || rc == -ECANCELED);
}

static int read_all_task(void *arg, void **result)
{
    (void)result;
    read_all(arg);
    return 0;
}

/* Threads and tasks, patient and hasty ones, and some that are killed: every item comes to exactly one of them, all see the end. */
static void many_readers(bool ordered, size_t maxsize)
{
    enum { READERS = 8, ITEMS = 4000 };
    begin(3);
    struct stream stream = { .n = ITEMS };
    struct weft_imap *imap = stream_start(pool, ordered, &stream, maxsize, NULL);
    struct reader readers[READERS] = { 0 };
    struct os_thread threads[READERS];
    struct weft_task *tasks[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].imap = imap;
        readers[i].hasty = i % 4 < 2;
        if (i % 2 == 0) {
            check_eq(os_thread_start(&threads[i], read_all, &readers[i], "reader"), 0);
        } else {
            check_eq(weft_task_spawn(runtime, read_all_task, &readers[i], NULL, &tasks[i]), 0);
        }
    }
    check_eq(weft_task_kill(tasks[7], 0, WEFT_FOREVER), 0);
    uint32_t got = 0, gave_up = 0;
    for (unsigned i = 0; i < READERS; i++) {
        if (i % 2 == 0) {
            os_thread_join(threads[i]);
        } else {
            check_eq(weft_task_join(tasks[i], WEFT_FOREVER), 0);
            weft_task_release(tasks[i]);
        }
        got += readers[i].got;
        gave_up += readers[i].gave_up;
    }
    check_eq(got, ITEMS);
    cr_log_info("%u waits ran out\n", gave_up);
    check_end(imap);
    check_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap, many_readers_each_item_once_in_order) { many_readers(true, 5); }
Test(imap, many_readers_each_item_once_unordered) { many_readers(false, 0); }
