/* imap: close, destroy and kill, and that every item and every result goes exactly one way whatever happens (contract I4, I6, I7, R5).
 * WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"
#include "stream.h"

static struct gate gate;

static size_t read_some(struct weft_imap *imap, size_t n)
{
    struct weft_item item;
    size_t got = 0;
    while (got < n && weft_imap_next(imap, &item, WEFT_FOREVER) == 1) {
        stream_took(&item);
        got++;
    }
    return got;
}

static void check_end(struct weft_imap *imap)
{
    struct weft_item item;
    check_eq(weft_imap_next(imap, &item, WEFT_NOWAIT), 0);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
}

/* Every way to end it, at every depth of reading. */
Test(imap_end, each_item_and_result_goes_one_way_H20)
{
    begin(3);
    for (unsigned i = 0; i < 240; i++) {
        struct stream stream = { .n = i % 60, .end = i % 2 ? -EPROTO : 0 };
        struct weft_imap *imap = stream_start(i % 11 ? pool : NULL, i & 1, &stream, i % 5, NULL);
        (void)read_some(imap, i % 7 * 8);
        switch (i / 60) {
        case 0: break;
        case 1:
            weft_imap_close(imap);
            check_end(imap);
            break;
        case 2: check_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0); break;
        default:
            (void)read_some(imap, SIZE_MAX);
            check_end(imap);
            break;
        }
        cr_assert_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

static int keep_zipped(void *ctx, void *item, void **result)
{
    struct thing **things = item;
    stream_enter();
    *result = value_make(things[0]->id);
    for (int i = 0; i < 2; i++) {
        thing_free(things[i]);
    }
    int rc = gate_pass(ctx);
    a_sub(&stream_running, 1u, SEQ_CST);
    return rc;
}

Test(imap_end, zipped_elements_that_no_item_took_are_freed)
{
    begin(3);
    for (int kind = 0; kind < 4; kind++) {
        a_store(&gate.open, 0u, SEQ_CST);
        struct stream streams[2] = { { .n = 40 }, { .n = 1040, .next = 1000 } };
        struct weft_source sources[2] = { { stream_next, &streams[0], thing_free }, { stream_next, &streams[1], thing_free } };
        struct weft_imap *imap;
        const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = 8, .result_free = value_free);
        cr_assert_eq(weft_group_imap(pool, sources, 2, keep_zipped, &gate, options, &imap), 0);
        until(gate_waiting(&gate) == 3 && streams[1].pulled == 9);
        if (kind == 0) {
            weft_imap_close(imap);
        } else if (kind == 1) {
            cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
        }
        gate_open(&gate);
        if (kind == 3) { /* what the kill has cancelled is read, too */
            struct weft_item item;
            cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
            while (weft_imap_next(imap, &item, WEFT_FOREVER) == 1) {
                cr_assert_null(item.input);
                if (item.value) {
                    value_free(item.value);
                }
            }
        }
        cr_assert_eq(weft_imap_destroy(imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

static struct gate cleaning;
static _Atomic int cleaned;

/* Killed once, it needs a while to leave. */
static int clean_up(void *ctx, void **item)
{
    (void)ctx, (void)item;
    check_eq(weft_sleep_until(WEFT_FOREVER), -ECANCELED);
    a_store(&cleaned, gate_pass(&cleaning) == 0 ? 1 : -1, SEQ_CST);
    return 0;
}

Test(imap_end, a_kill_and_a_close_kill_the_source_once_C5)
{
    begin(2);
    struct weft_source source = { clean_up, NULL, NULL };
    struct weft_imap *imap;
    cr_assert_eq(weft_group_imap(pool, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    until(stats_of(runtime).blocked == 1);
    cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_NOWAIT), 0);
    until(gate_waiting(&cleaning) == 1);
    weft_imap_close(imap);
    for (int i = 0; i < 3; i++) {
        run_ok(runtime, do_nothing, NULL); /* a second kill would have made it run before these */
    }
    cr_assert_eq(gate_waiting(&cleaning), 1);
    gate_open(&cleaning);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(cleaned, 1, "its cleanup could block");
    end();
    stream_settle();
}

static int pass_or_tell(void *ctx, void *item, void **result)
{
    (void)item, (void)result;
    a_store(&cleaned, gate_pass(ctx) == 0 ? 1 : -1, SEQ_CST);
    return 0;
}

static int give_one(void *ctx, void **item)
{
    int *left = ctx;
    *item = ctx;
    return (*left)--;
}

static struct gate entered;

static int destroy_the_imap(void *imap, void **result)
{
    (void)result;
    gate_open(&entered);
    return weft_imap_destroy(imap);
}

Test(imap_end, a_kill_of_who_destroys_it_does_not_reach_its_items_I6)
{
    begin(2);
    int left = 1;
    struct weft_source source = { give_one, &left, NULL };
    struct weft_imap *imap;
    struct weft_task *task;
    a_store(&gate.open, 0u, SEQ_CST);
    cr_assert_eq(weft_group_imap(pool, &source, 1, pass_or_tell, &gate, NULL, &imap), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_task_spawn(runtime, destroy_the_imap, imap, NULL, &task), 0);
    until(gate_is_open(&entered) && stats_of(runtime).blocked == 2);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_task_join(task, weft_after(WEFT_MSEC)), -ETIMEDOUT, "it waits for the item");
    gate_open(&gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(cleaned, 1);
    end();
    stream_settle();
}

/* ---- close ---- */

static struct weft_imap *the_imap;
static _Atomic uint32_t ends;

static int read_to_the_end(void *arg, void **result)
{
    (void)arg, (void)result;
    (void)read_some(the_imap, SIZE_MAX);
    a_add(&ends, 1u, SEQ_CST);
    return 0;
}

static void read_to_the_end_thread(void *arg) { (void)read_to_the_end(arg, NULL); }

Test(imap_end, close_does_not_wait_and_readers_get_the_end)
{
    begin(2);
    struct stream stream = { .n = 20 };
    struct os_thread thread;
    struct weft_task *task;
    the_imap = stream_start(pool, true, &stream, 6, &gate);
    cr_assert_eq(os_thread_start(&thread, read_to_the_end_thread, NULL, "reader"), 0);
    cr_assert_eq(weft_task_spawn(runtime, read_to_the_end, NULL, NULL, &task), 0);
    until(gate_waiting(&gate) == 2);
    weft_imap_close(the_imap); /* items still sleep at the gate */
    os_thread_join(thread);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(ends, 2);
    cr_assert_eq(gate_waiting(&gate), 2, "running items are not killed");
    cr_assert_eq(weft_group_len(pool), 2);
    check_end(the_imap);
    weft_imap_close(the_imap);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(stream_begun, 2, "no new item");
    cr_assert_eq(weft_imap_destroy(the_imap), 0);
    weft_task_release(task);
    end();
    stream_settle();
}

/* A closed one wants no slot any more: it leaves the queue, so the pool may go first. */
Test(imap_end, close_leaves_the_pools_queue)
{
    for (int kind = 0; kind < 2; kind++) {
        begin(0);
        struct stream stream = { .n = 3 };
        struct weft_imap *imap = stream_start(pool, true, &stream, 0, NULL);
        until(pool_queued(pool) == 1);
        if (kind == 0) {
            weft_imap_close(imap);
        } else {
            cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
        }
        cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
        until(pool_queued(pool) == 0);
        cr_assert_eq(weft_group_destroy(pool), 0);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        stream_settle();
    }
}

static _Atomic int source_says = 1;

static int sleep_for_ever(void *ctx, void **item)
{
    (void)item;
    a_store(&source_says, gate_pass(ctx), SEQ_CST);
    return source_says;
}

Test(imap_end, close_kills_a_sleeping_source)
{
    begin(2);
    struct weft_source source = { sleep_for_ever, &gate, NULL };
    cr_assert_eq(weft_group_imap(pool, &source, 1, stream_copy, NULL, NULL, &the_imap), 0);
    until(gate_waiting(&gate) == 1);
    weft_imap_close(the_imap);
    until(source_says != 1);
    cr_assert_eq(source_says, -ECANCELED);
    check_end(the_imap);
    cr_assert_eq(weft_imap_destroy(the_imap), 0);
    end();
    stream_settle();
}

static struct gate published;

static int close_in_item(void *ctx, void *item, void **result)
{
    check_eq(gate_pass(&published), 0);
    if (((struct thing *)item)->id == 5) {
        weft_imap_close(the_imap);
    }
    return stream_copy(ctx, item, result);
}

static int close_in_source(void *ctx, void **item)
{
    check_eq(gate_pass(&published), 0);
    if (((struct stream *)ctx)->next == 5) {
        weft_imap_close(the_imap);
    }
    return stream_next(ctx, item);
}

Test(imap_end, close_from_its_own_item_and_source)
{
    begin(3);
    for (int i = 0; i < 40; i++) {
        a_store(&published.open, 0u, SEQ_CST);
        struct stream stream = { .n = 20 };
        struct weft_source source = { i % 2 ? close_in_source : stream_next, &stream, thing_free };
        const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .result_free = value_free);
        cr_assert_eq(weft_group_imap(pool, &source, 1, i % 2 ? stream_copy : close_in_item, NULL, options, &the_imap), 0);
        gate_open(&published);
        cr_assert_lt(read_some(the_imap, SIZE_MAX), 20);
        check_end(the_imap);
        cr_assert_eq(weft_imap_destroy(the_imap), 0);
        stream_settle();
    }
    end();
    stream_settle();
}

/* ---- destroy ---- */

static int destroy_in_item(void *ctx, void *item, void **result)
{
    (void)ctx;
    check_eq(gate_pass(&published), 0);
    check_eq(weft_imap_destroy(the_imap), -EDEADLK);
    return stream_copy(NULL, item, result);
}

static int destroy_in_source(void *ctx, void **item)
{
    check_eq(gate_pass(&published), 0);
    check_eq(weft_imap_destroy(the_imap), -EDEADLK);
    return stream_next(ctx, item);
}

/* One item at a time: as many maps at once as the pool has slots, each with an item that waits for another, would need more of them. */
static void destroy_from_within(weft_source_fn *next, weft_imap_fn *fn)
{
    begin(3);
    struct stream stream = { .n = 20 };
    struct weft_source source = { next, &stream, thing_free };
    const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = 1, .result_free = value_free);
    check_eq(weft_group_imap(pool, &source, 1, fn, NULL, options, &the_imap), 0);
    gate_open(&published);
    check_eq(read_some(the_imap, SIZE_MAX), 20); /* nothing has changed */
    check_end(the_imap);
    check_eq(weft_imap_destroy(the_imap), 0);
    end();
    stream_settle();
}

Test(imap_end, destroy_from_its_own_source_is_refused) { destroy_from_within(destroy_in_source, stream_copy); }
Test(imap_end, destroy_from_its_own_item_is_refused) { destroy_from_within(stream_next, destroy_in_item); }

/* ---- ... from an item of a map that one of them has called, on a carrier ---- */

static int meet_then_destroy(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)in;
    if (index == 0) { /* the caller's: so that the others run on carriers */
        check_eq(gate_pass(&gate), 0);
    } else {
        gate_open(&gate);
    }
    *(int *)out = weft_imap_destroy(the_imap);
    return 0;
}

static void destroy_by_map(void)
{
    int rcs[4] = { 0 };
    check_eq(WEFT_MAP(NULL, meet_then_destroy, NULL, 4, rcs, rcs, NULL), 0); /* unlimited: index 0 holds its slot at a gate */
    for (int i = 0; i < 4; i++) {
        check_eq(rcs[i], -EDEADLK);
    }
}

static int map_in_item(void *ctx, void *item, void **result)
{
    (void)ctx;
    check_eq(gate_pass(&published), 0);
    destroy_by_map();
    return stream_copy(NULL, item, result);
}

static int map_in_source(void *ctx, void **item)
{
    check_eq(gate_pass(&published), 0);
    destroy_by_map();
    return stream_next(ctx, item);
}

Test(imap_end, destroy_from_a_map_of_its_own_item_is_refused) { destroy_from_within(stream_next, map_in_item); }
Test(imap_end, destroy_from_a_map_of_its_own_source_is_refused) { destroy_from_within(map_in_source, stream_copy); }

static _Atomic bool destroyed;

static void destroy_thread(void *arg)
{
    check_eq(weft_imap_destroy(arg), 0);
    a_store(&destroyed, true, SEQ_CST);
}

Test(imap_end, destroy_waits_for_running_items_and_the_source)
{
    begin(2);
    struct gate ahead = { 0 };
    struct stream stream = { .n = 4, .ahead = &ahead };
    struct os_thread thread;
    struct weft_imap *imap = stream_start(pool, false, &stream, 0, &gate);
    until(gate_waiting(&gate) == 2);
    cr_assert_eq(weft_group_destroy(pool), -EBUSY);
    cr_assert_eq(os_thread_start(&thread, destroy_thread, imap, "destroy"), 0);
    for (int i = 0; i < 100; i++) {
        os_thread_yield();
    }
    cr_assert_not(destroyed);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert(destroyed);
    cr_assert_eq(stream_running, 0);
    end();
    stream_settle();
}

/* ---- kill of the group ---- */

Test(imap_end, a_kill_of_the_group_ends_it_with_cancelled_items)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        begin(3);
        a_store(&gate.open, 0u, SEQ_CST);
        struct stream stream = { .n = 50 };
        struct weft_imap *imap = stream_start(pool, ordered, &stream, 8, NULL);
        until(stream_begun == 8 && stream_running == 0 && stream.pulled == 9); /* eight are finished, one is not begun */
        cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
        cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), 0);
        struct weft_item item;
        size_t ok = 0, cancelled = 0, sum = 0;
        while (weft_imap_next(imap, &item, WEFT_FOREVER) == 1) {
            cr_assert(!ordered || item.index == ok + cancelled);
            sum += item.index;
            ok += item.status == WEFT_OK;
            cancelled += item.status == WEFT_CANCELLED;
            cr_assert(item.status == WEFT_OK || (item.error == -EINTR && !item.value && item.input));
            stream_took(&item);
        }
        cr_assert_eq(ok, 8);
        cr_assert_eq(cancelled, 1);
        cr_assert_eq(sum, 8 * 9 / 2);
        check_end(imap);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        end();
        stream_settle();
    }
}

Test(imap_end, a_kill_of_the_group_reaches_running_items)
{
    begin(3);
    struct stream stream = { .n = 50 };
    the_imap = stream_start(pool, true, &stream, 0, &gate);
    until(gate_waiting(&gate) == 3);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    struct weft_item item;
    size_t n = 0;
    for (; weft_imap_next(the_imap, &item, WEFT_FOREVER) == 1; n++) {
        cr_assert_eq(item.index, n);
        cr_assert_eq(item.status, WEFT_CANCELLED);
        cr_assert_eq(item.error, -ECANCELED);
        stream_took(&item);
    }
    cr_assert_eq(n, stream.pulled);
    cr_assert_eq(weft_imap_destroy(the_imap), 0);
    end();
    stream_settle();
}

/* ---- the runtime ends first ---- */

Test(imap_end, an_unread_imap_does_not_keep_its_runtime)
{
    for (int kind = 0; kind < 4; kind++) {
        begin(2);
        struct gate ahead = { 0 };
        struct stream stream = { .n = 30, .ahead = kind & 1 ? &ahead : NULL };
        struct weft_imap *imap = stream_start(pool, kind & 2, &stream, 4, NULL);
        until(stream_begun == 4);
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        struct weft_item item;
        cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), -ESHUTDOWN);
        weft_imap_close(imap);
        cr_assert_eq(weft_imap_destroy(imap), 0);
        cr_assert_eq(weft_group_len(pool), 0);
        cr_assert_eq(weft_group_destroy(pool), 0);
        stream_settle();
    }
}
