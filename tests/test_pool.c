/* Pools: who has a slot, who gets the next one, and that none is ever lost (contract P). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct gate gate;
static _Atomic uint32_t running, peak, frees, order_next;
static unsigned order[64];

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, RELAXED);
}

static struct weft_group *begin(size_t size)
{
    runtime = runtime_make();
    return pool_make(runtime, size);
}

static void end(struct weft_group *pool)
{
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(weft_group_len(pool), 0);
    check_eq(pool_queued(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static int run_counted(void *arg, void **result)
{
    (void)result;
    uint32_t now = a_add(&running, 1u, SEQ_CST) + 1;
    note_peak(&peak, now);
    int rc = gate_pass(arg);
    a_sub(&running, 1u, SEQ_CST);
    return rc;
}

Test(pool, size_zero_is_full_and_everything_waits)
{
    struct weft_group *pool = begin(0);
    struct weft_task *task = (struct weft_task *)&task;
    int value = 0;
    cr_assert(weft_pool_full(pool));
    cr_assert_eq(weft_pool_free_count(pool), 0);
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, &value, options, WEFT_NOWAIT, &task), -EAGAIN);
    cr_assert_null(task);
    int64_t before = weft_now();
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, &value, options, weft_after(20 * WEFT_MSEC), &task), -ETIMEDOUT);
    cr_assert_geq(weft_now() - before, 20 * WEFT_MSEC);
    cr_assert_eq(frees, 0, "after a negative return the argument is the caller's");
    cr_assert_eq(weft_pool_wait_available(pool, weft_after(WEFT_MSEC)), 0);

    struct weft_map_report report = { .struct_size = sizeof report, .started = true };
    int rc = weft_group_map(pool, item_nothing, NULL, 3, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .deadline = weft_after(20 * WEFT_MSEC), .report = &report));
    cr_assert_eq(rc, -ETIMEDOUT);
    cr_assert_not(report.started);

    struct weft_array array = { .base = order, .stride = sizeof *order, .n = 5 };
    struct weft_imap *imap;
    cr_assert_eq(
        weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, element_nothing, NULL, NULL, &imap), 0);
    struct weft_item item;
    cr_assert_eq(weft_imap_next(imap, &item, weft_after(20 * WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(weft_imap_destroy(imap), 0);
    end(pool);
}

Test(pool, unlimited_answers_as_a_plain_group)
{
    struct weft_group *pool = begin(WEFT_UNLIMITED), *group;
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
        cr_assert_eq(weft_group_spawn(group, pass_gate, &gate, NULL), 0);
    }
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_pool_free_count(group), 1);
    cr_assert_not(weft_pool_full(pool));
    cr_assert_not(weft_pool_full(group));
    cr_assert_gt(weft_pool_wait_available(pool, WEFT_NOWAIT), 0);
    cr_assert_gt(weft_pool_wait_available(group, WEFT_FOREVER), 0);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
    end(pool);
}

Test(pool, free_count_is_size_less_members)
{
    struct weft_group *pool = begin(3);
    for (size_t n = 0; n < 3; n++) {
        cr_assert_eq(weft_pool_free_count(pool), 3 - n);
        cr_assert_eq(weft_pool_wait_available(pool, WEFT_FOREVER), (int)(3 - n));
        cr_assert_not(weft_pool_full(pool));
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    }
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert(weft_pool_full(pool));
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    cr_assert_eq(weft_group_len(pool), 3, "what was refused is no member");
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 3);
    end(pool);
}

/* gevent's own example: a pool made with its greenlets counts them, also beyond its size. */
Test(pool, made_from_more_tasks_than_its_size_is_full_and_not_negative)
{
    runtime = runtime_make();
    struct weft_task *tasks[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_task_spawn(runtime, pass_gate, &gate, NULL, &tasks[i]), 0);
    }
    struct weft_group *pool;
    cr_assert_eq(weft_pool_create(runtime, 2, WEFT_OPTIONS(weft_group_options, .tasks = tasks, .n_tasks = 3), &pool), 0);
    cr_assert_eq(weft_group_len(pool), 3);
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert(weft_pool_full(pool));
    cr_assert_eq(weft_task_kill(tasks[0], 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert_eq(weft_task_kill(tasks[1], 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    gate_open(&gate);
    weft_tasks_release(tasks, 3);
    end(pool);
}

Test(pool, exactly_size_run_at_once)
{
    enum { SIZE = 3, TASKS = 60 };
    struct weft_group *pool = begin(SIZE);
    for (int i = 0; i < SIZE; i++) {
        cr_assert_eq(weft_group_spawn(pool, run_counted, &gate, NULL), 0);
    }
    until(gate_waiting(&gate) == SIZE); /* blocked ones hold their slots: a gate lends nothing */
    cr_assert_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    gate_open(&gate);
    for (int i = SIZE; i < TASKS; i++) {
        cr_assert_eq(weft_group_spawn(pool, run_counted, &gate, NULL), 0);
    }
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(peak, SIZE);
    end(pool);
}

/* ---- order ---- */

static struct weft_group *the_pool;

static int note_order(void *arg, void **result)
{
    (void)result;
    order[a_add(&order_next, 1u, SEQ_CST)] = (unsigned)(uintptr_t)arg;
    return 0;
}

static int note_order_map(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return note_order(ctx, NULL);
}

static int note_order_imap(void *ctx, void *item, void **result)
{
    (void)item;
    return note_order(ctx, result);
}

/* Each is another way to wait for a slot. */
static int queue_up(void *arg, void **result)
{
    (void)result;
    uintptr_t turn = (uintptr_t)arg;
    if (turn % 3 == 1) {
        check_eq(weft_group_map(the_pool, note_order_map, arg, 1, NULL, 0, NULL, 0, NULL), 0);
    } else {
        check_eq(weft_group_spawn(the_pool, note_order, arg, NULL), 0);
    }
    return 0;
}

static void queue_up_thread(void *arg) { check_eq(queue_up(arg, NULL), 0); }

Test(pool, a_freed_slot_goes_to_the_first_that_waits)
{
    enum { WAITERS = 24 };
    the_pool = begin(1);
    struct weft_task *tasks[WAITERS];
    struct os_thread threads[WAITERS];
    struct weft_imap *imaps[WAITERS] = { 0 };
    struct weft_array arrays[WAITERS];
    cr_assert_eq(weft_group_spawn(the_pool, pass_gate, &gate, NULL), 0);
    for (uintptr_t i = 0; i < WAITERS; i++) {
        if (i % 3 == 2) {
            arrays[i] = (struct weft_array){ .base = order, .stride = 1, .n = 1 };
            struct weft_source source = { weft_array_next, &arrays[i], NULL };
            cr_assert_eq(weft_group_imap(the_pool, &source, 1, note_order_imap, (void *)i, NULL, &imaps[i]), 0);
        } else if (i % 2 == 0) {
            cr_assert_eq(weft_task_spawn(runtime, queue_up, (void *)i, NULL, &tasks[i]), 0);
        } else {
            cr_assert_eq(os_thread_start(&threads[i], queue_up_thread, (void *)i, "waiter"), 0);
        }
        until(pool_queued(the_pool) == i + 1);
        cr_assert_eq(weft_group_spawn_with(the_pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    }
    gate_open(&gate);
    for (unsigned i = 0; i < WAITERS; i++) {
        if (i % 3 == 2) {
            continue;
        }
        if (i % 2 == 0) {
            cr_assert_eq(weft_task_join(tasks[i], WEFT_FOREVER), 0);
            weft_task_release(tasks[i]);
        } else {
            os_thread_join(threads[i]);
        }
    }
    cr_assert_eq(weft_group_join(the_pool, WEFT_FOREVER), 0);
    for (unsigned i = 0; i < WAITERS; i++) {
        cr_assert_eq(order[i], i, "place %u had %u", i, order[i]);
        cr_assert_eq(weft_imap_destroy(imaps[i]), 0);
    }
    end(the_pool);
}

/* NOWAIT is refused while somebody waits, and never while a slot is unclaimed. */
Test(pool, nowait_neither_overtakes_nor_is_refused_a_free_slot)
{
    enum { ROUNDS = 20000 };
    struct weft_group *pool = begin(2);
    for (int i = 0; i < ROUNDS; i++) {
        struct weft_task *task;
        cr_assert_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, &task), 0, "round %d", i);
        cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
        cr_assert_eq(weft_pool_free_count(pool), 2, "who sees it finished sees its slot free");
        cr_assert_eq(weft_group_len(pool), 0);
        weft_task_release(task);
    }
    end(pool);
}

static void spawn_and_join(void *pool)
{
    for (int i = 0; i < 3000; i++) {
        struct weft_task *task;
        check_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, &task), 0);
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    }
}

/* As many threads as slots, each with one task at a time: none may be refused, whoever else spawns at that moment. */
Test(pool, nowait_is_never_refused_because_others_hurry)
{
    struct weft_group *pool = begin(3);
    struct os_thread threads[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(os_thread_start(&threads[i], spawn_and_join, pool, "spawner"), 0);
    }
    for (int i = 0; i < 3; i++) {
        os_thread_join(threads[i]);
    }
    end(pool);
}

/* ---- waiting for a slot that is not taken ---- */

static _Atomic int watch_rc;

static int watch(void *pool, void **result)
{
    (void)result;
    a_add(&running, 1u, SEQ_CST);
    a_store(&watch_rc, weft_pool_wait_available(pool, WEFT_FOREVER), SEQ_CST);
    return 0;
}

Test(pool, wait_available_reserves_nothing)
{
    struct weft_group *pool = begin(2);
    struct weft_task *watcher, *member;
    cr_assert_eq(weft_pool_wait_available(pool, WEFT_NOWAIT), 2);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &member), 0);
    cr_assert_eq(weft_pool_wait_available(pool, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_pool_wait_available(pool, weft_after(5 * WEFT_MSEC)), 0);
    cr_assert_eq(weft_task_spawn(runtime, watch, pool, NULL, &watcher), 0);
    until(running == 1 && !weft_waitq_empty(&pool->admission.watchers));
    cr_assert_eq(weft_group_destroy(pool), -EBUSY);
    cr_assert_eq(weft_task_kill(member, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(watcher, WEFT_FOREVER), 0);
    cr_assert_eq(watch_rc, 1);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    weft_task_release(watcher);
    weft_task_release(member);

    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_task_spawn(runtime, watch, pool, NULL, &watcher), 0);
    until(running == 2 && !weft_waitq_empty(&pool->admission.watchers));
    cr_assert_eq(weft_task_kill(watcher, 0, WEFT_FOREVER), 0);
    cr_assert_eq(watch_rc, -ECANCELED);
    weft_task_release(watcher);
    gate_open(&gate);
    end(pool);
}
