/* imap where there is no more: at the runtime's limit of fibers, and when memory ends under its source (contract I3, R7, H16, H36). */
#include "testing.h"

#include "memory.h"
#include "stream.h"

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct gate gate;

static size_t block_until_full(struct weft_task *tasks[], size_t most)
{
    size_t n = 0;
    while (n < most && weft_task_spawn(runtime, pass_gate, &gate, NULL, &tasks[n]) == 0) {
        n++;
        until(gate_waiting(&gate) == n || a_load(&runtime->starved, SEQ_CST) != 0);
    }
    return n;
}

/* It starts, and what it needs waits like any task that has not begun. */
Test(imap_memory, starts_at_the_limit_of_fibers_and_runs_when_some_are_free_R7_H16)
{
    enum { MOST = 64 };
    struct weft_task *tasks[MOST];
    runtime = runtime_of(WEFT_OPTIONS(weft_runtime_options, .workers = 1, .max_fibers = 4));
    pool = pool_make(runtime, 2);
    size_t blocked = block_until_full(tasks, MOST);
    cr_assert_lt(blocked, MOST, "spawn never said that no stack was left");
    struct weft_task *refused;
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &refused), -ENOMEM);
    struct stream stream = { .n = 20 };
    struct weft_imap *imap = stream_start(pool, true, &stream, 3, NULL); /* checks that it is 0 */
    gate_open(&gate);
    struct weft_item item;
    for (size_t i = 0; i < 20; i++) {
        cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        cr_assert_eq(item.index, i);
        stream_took(&item);
    }
    cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(weft_tasks_wait(tasks, blocked, blocked, WEFT_FOREVER), (int)blocked);
    weft_tasks_release(tasks, blocked);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    stream_settle();
}

static size_t given;

/* Never ends by itself. */
static int give_for_ever(void *ctx, void **item)
{
    given++;
    *item = ctx;
    return 1;
}

Test(imap_memory, a_source_without_memory_is_an_item_that_says_so_I3_H36)
{
    runtime = runtime_with(2);
    pool = pool_make(runtime, 2);
    /* Another before it, so that all but the source has what it needs. */
    struct stream stream = { .n = 8 };
    struct weft_imap *before = stream_start(pool, true, &stream, 0, NULL);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_imap_destroy(before), 0);
    struct weft_source source = { give_for_ever, &gate, NULL };
    struct weft_imap *imap;
    cr_assert_eq(weft_group_imap(pool, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    if (!memory_limit(0)) {
        cr_assert_eq(weft_imap_destroy(imap), 0);
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        cr_assert_eq(weft_group_destroy(pool), 0);
        cr_skip("the address space cannot be limited here");
    }
    int rc = weft_group_join(pool, weft_after(PATIENCE)); /* nobody reads: it is over when nothing more can be pulled */
    memory_unlimit();
    cr_assert_eq(rc, 0);
    struct weft_item item;
    size_t read = 0;
    while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1 && item.index != WEFT_NO_INDEX) {
        cr_assert_eq(item.index, read);
        cr_assert_eq(item.status, WEFT_OK);
        read++;
    }
    cr_assert_eq(read, given, "all that was pulled comes first");
    cr_assert_eq(rc, 1, "it is no end like any other");
    cr_assert_eq(item.status, WEFT_FAILED);
    cr_assert_eq(item.error, -ENOMEM);
    cr_assert_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* Nobody to run an item can be made, since no imap has run here before. */
Test(imap_memory, items_that_nobody_can_run_say_so_and_the_end_comes_H36)
{
    runtime = runtime_with(2);
    pool = pool_make(runtime, 2);
    struct weft_source source = { give_for_ever, &gate, NULL };
    struct weft_imap *imap;
    if (!memory_limit(0)) {
        cr_assert_eq(weft_group_destroy(pool), 0);
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
        cr_skip("the address space cannot be limited here");
    }
    int rc = weft_group_imap(pool, &source, 1, element_nothing, NULL, NULL, &imap);
    size_t read = 0, failed = 0;
    if (rc == 0) {
        rc = weft_group_join(pool, weft_after(PATIENCE));
        memory_unlimit();
        cr_assert_eq(rc, 0);
        struct weft_item item;
        for (; (rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1; read++) {
            cr_assert(item.status == WEFT_OK || (item.status == WEFT_FAILED && item.error == -ENOMEM));
            failed += item.status == WEFT_FAILED && item.index != WEFT_NO_INDEX;
        }
        cr_assert_eq(rc, 0);
        cr_assert_eq(read, given + 1, "each item, and the source's failure");
        cr_assert_eq(failed, given, "none could run");
        cr_assert_eq(weft_imap_destroy(imap), 0);
    } else {
        memory_unlimit();
        cr_assert_eq(rc, -ENOMEM);
    }
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
