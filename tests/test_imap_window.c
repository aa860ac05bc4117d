/* imap: how far it runs ahead of its readers (contract I2, I5). WEFT_TEST_WORKERS.
 *
 * The bounds are hard, so a test that nothing exceeds them needs a moment in which something could: `settle` gives it. */
#include "testing.h"

#include "pools.h"
#include "stream.h"

static void settle(void)
{
    struct weft_task *task;
    for (int i = 0; i < 200; i++) { /* turns of the scheduler, in which whoever may do something does it */
        check_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &task), 0);
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    }
}

static void bound(bool ordered, size_t m, size_t size)
{
    enum { ITEMS = 60 };
    begin(size);
    struct stream stream = { .n = ITEMS };
    struct weft_imap *imap = stream_start(pool, ordered, &stream, m, NULL);
    for (size_t k = 0; k <= ITEMS; k++) {
        size_t begun = k + m < ITEMS ? k + m : ITEMS, pulled = k + m + 1 < ITEMS ? k + m + 1 : ITEMS;
        until(stream_begun == begun && stream.pulled == pulled && stream_running == 0);
        if (k % 8 == 0) {
            settle();
            check_eq(stream_begun, begun);
            check_eq(stream.pulled, pulled);
        }
        struct weft_item item;
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), k < ITEMS);
        stream_took(&item);
    }
    check_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap_window, one_in_order) { bound(true, 1, 4); }
Test(imap_window, three_in_order) { bound(true, 3, 2); }
Test(imap_window, ten_in_order_in_a_pool_of_one) { bound(true, 10, 1); }
Test(imap_window, one_unordered) { bound(false, 1, 4); }
Test(imap_window, four_unordered) { bound(false, 4, 3); }

/* Items that block count, too; and the pool's size bounds them as well. */
static void bound_running(size_t m, size_t size)
{
    begin(size);
    struct gate gate = { 0 };
    struct stream stream = { .n = 40 };
    struct weft_imap *imap = stream_start(pool, false, &stream, m, &gate);
    size_t running = m > 0 && m < size ? m : size, pulled = m > 0 ? m + 1 : running + 1;
    until(gate_waiting(&gate) == running && stream.pulled == pulled);
    settle();
    check_eq(stream_begun, running);
    check_eq(stream.pulled, pulled);
    check_eq(weft_pool_free_count(pool), size - running);
    check_eq(weft_group_len(pool), running);
    gate_open(&gate);
    struct weft_item item;
    for (int i = 0; i < 40; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        stream_took(&item);
    }
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check(stream_peak <= running);
    check_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

Test(imap_window, blocked_items_fill_the_window) { bound_running(3, 8); }
Test(imap_window, blocked_items_fill_the_pool) { bound_running(20, 4); }
Test(imap_window, without_a_window_one_is_pulled_beyond_those_begun) { bound_running(0, 5); }

/* 0 is unbounded: with no reader everything runs. */
Test(imap_window, none_runs_all_without_a_reader)
{
    begin(2);
    struct stream stream = { .n = 3000 };
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, NULL);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(stream_begun, 3000);
    struct weft_item item;
    for (size_t i = 0; i < 3000; i++) {
        cr_assert_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), 1);
        cr_assert_eq(item.index, i);
        stream_took(&item);
    }
    cr_assert_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

/* The first result is slow: the window counts what is behind it, too, so nothing piles up. */
Test(imap_window, an_unread_first_holds_the_window)
{
    begin(4);
    struct gate gate = { 0 };
    struct stream stream = { .n = 50 };
    struct weft_imap *imap = stream_start(pool, true, &stream, 4, &gate);
    until(gate_waiting(&gate) == 4 && stream.pulled == 5);
    gate_open(&gate);
    until(stream_running == 0);
    settle();
    cr_assert_eq(stream_begun, 4);
    cr_assert_eq(stream.pulled, 5);
    cr_assert_eq(weft_pool_free_count(pool), 4, "finished and unread holds no slot");
    cr_assert_eq(weft_group_len(pool), 0);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}

/* A source that sleeps holds no slot, even of a pool of one; others use the pool meanwhile. */
Test(imap_window, a_sleeping_source_holds_no_slot)
{
    begin(1);
    struct gate gate = { 0 };
    struct stream stream = { .n = 3, .ahead = &gate, .gated_from = 1 };
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, NULL);
    struct weft_item item;
    struct weft_task *task;
    cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
    stream_took(&item);
    until(gate_waiting(&gate) == 1 && weft_pool_free_count(pool) == 1);
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, &task), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    gate_open(&gate);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        stream_took(&item);
    }
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end();
    stream_settle();
}
