/* map: calls from outside beside the end of their runtime (contract R4, R5, M2). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

enum { SIZE = 3, ITEMS = 12 };

static struct weft_runtime *runtime, *other;
static struct weft_group *pool;
static struct gate gate;
static struct os_thread destroyer;
static _Atomic bool destroyed;
static _Atomic uint32_t items;

static void setup(void)
{
    runtime = runtime_make();
    other = runtime_with(2);
    pool = pool_make(runtime, SIZE);
}

TestSuite(map_end, .init = setup);

static void destroy_it(void *arg)
{
    check_eq(weft_runtime_destroy(arg), 0);
    a_store(&destroyed, true, SEQ_CST);
}

/* Returns when destroy sleeps because something keeps the runtime from ending. */
static void begin_destroy(void)
{
    check_eq(os_thread_start(&destroyer, destroy_it, runtime, "destroyer"), 0);
    until(!weft_waitq_empty(&weft_instance_of(runtime)->quiet));
}

static void end_destroy(void)
{
    os_thread_join(destroyer);
    check(a_load(&destroyed, SEQ_CST));
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_pool_free_count(pool), SIZE);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(other), 0);
}

static int inner(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    check(!a_load(&destroyed, SEQ_CST));
    a_add((_Atomic uint32_t *)ctx, 1u, SEQ_CST);
    return 0;
}

/* Beside the end it may map on, and it may not wait for the end. */
static int pass_and_map(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    _Atomic uint32_t n;
    a_store(&n, 0u, SEQ_CST);
    check_eq(gate_pass(ctx), 0);
    check_eq(weft_group_map(pool, inner, &n, 5, NULL, 0, NULL, 0, NULL), 0);
    check_eq(a_load(&n, SEQ_CST), 5);
    check_eq(weft_runtime_destroy(runtime), -EDEADLK);
    check_eq(weft_runtime_join(runtime, WEFT_FOREVER), -EDEADLK);
    check(!a_load(&destroyed, SEQ_CST));
    a_add(&items, 1u, SEQ_CST);
    return 0;
}

static void map_it(void *group)
{
    struct weft_map_report report = { .struct_size = sizeof report };
    check_eq(weft_group_map(group, pass_and_map, &gate, ITEMS, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .report = &report, .deadline = weft_after(100 * WEFT_SEC))),
             0);
    check(report.started && report.ok == ITEMS);
}

static int map_it_task(void *group, void **result)
{
    (void)result;
    map_it(group);
    return 0;
}

static void map_refused(void *group)
{
    struct weft_map_report report = { .struct_size = sizeof report, .started = true };
    int status[ITEMS] = { 1 };
    check_eq(weft_group_map(group, pass_and_map, &gate, ITEMS, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .report = &report, .status = status)),
             -ESHUTDOWN);
    check(!report.started && report.ok + report.failed + report.cancelled == 0 && status[0] == 1);
}

static int map_refused_task(void *group, void **result)
{
    (void)result;
    map_refused(group);
    return 0;
}

/* What was begun before runs to its end, on as many participants as it likes; what begins after is refused. */
static void map_beside_destroy(bool from_task)
{
    struct os_thread thread;
    struct weft_task *task;
    if (from_task) {
        check_eq(weft_task_spawn(other, map_it_task, pool, NULL, &task), 0);
    } else {
        check_eq(os_thread_start(&thread, map_it, pool, "caller"), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    begin_destroy();
    map_refused(pool);
    run_ok(other, map_refused_task, pool);
    check_eq(a_load(&items, SEQ_CST), 0);
    gate_open(&gate);
    if (from_task) {
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    } else {
        os_thread_join(thread);
    }
    check_eq(a_load(&items, SEQ_CST), ITEMS);
    end_destroy();
}

Test(map_end, destroy_waits_for_a_foreign_threads_map_and_refuses_the_next_R4) { map_beside_destroy(false); }
Test(map_end, destroy_waits_for_the_map_of_another_runtimes_task_and_refuses_the_next_R4) { map_beside_destroy(true); }

/* One that still waits for its first slot has not begun: nothing of it keeps the runtime, and the slot it gets goes back. */
static void map_that_waits(bool from_task)
{
    struct os_thread thread;
    struct weft_task *task, *members[SIZE];
    for (int i = 0; i < SIZE; i++) {
        check_eq(weft_group_spawn(pool, pass_gate, &gate, &members[i]), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    if (from_task) {
        check_eq(weft_task_spawn(other, map_refused_task, pool, NULL, &task), 0);
    } else {
        check_eq(os_thread_start(&thread, map_refused, pool, "caller"), 0);
    }
    until(pool_queued(pool) == 1);
    begin_destroy();
    gate_open(&gate);
    if (from_task) {
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    } else {
        os_thread_join(thread);
    }
    for (int i = 0; i < SIZE; i++) {
        weft_task_release(members[i]);
    }
    end_destroy();
}

Test(map_end, a_foreign_threads_map_that_waits_for_its_slot_is_refused_R4) { map_that_waits(false); }
Test(map_end, a_map_of_another_runtimes_task_that_waits_for_its_slot_is_refused_R4) { map_that_waits(true); }

/* Maps from outside beside destroy, at every moment: each runs whole, or nothing of it does. */
static _Atomic uint32_t maps_run;

static void map_until_refused(void *group)
{
    int rc;
    do {
        _Atomic uint32_t n;
        a_store(&n, 0u, SEQ_CST);
        rc = weft_group_map(group, inner, &n, 20, NULL, 0, NULL, 0, WEFT_OPTIONS(weft_map_options, .grain = 1));
        check_eq(a_load(&n, SEQ_CST), rc == 0 ? 20 : 0);
        a_add(&maps_run, rc == 0, SEQ_CST);
    } while (rc == 0);
    check_eq(rc, -ESHUTDOWN);
}

static int map_until_refused_task(void *group, void **result)
{
    (void)result;
    map_until_refused(group);
    return 0;
}

Test(map_end, maps_beside_destroy_run_whole_or_not_at_all_R4)
{
    for (int round = 0; round < 60; round++) {
        struct weft_runtime *victim = runtime_with(1 + (unsigned)round % 3);
        struct weft_group *group = pool_make(victim, 1 + (size_t)round % 4); /* keeps the runtime's memory, too */
        struct os_thread thread;
        struct weft_task *task;
        uint32_t before = a_load(&maps_run, SEQ_CST);
        a_store(&destroyed, false, SEQ_CST);
        cr_assert_eq(os_thread_start(&thread, map_until_refused, group, "caller"), 0);
        cr_assert_eq(weft_task_spawn(other, map_until_refused_task, group, NULL, &task), 0);
        until(a_load(&maps_run, SEQ_CST) >= before + (uint32_t)round % 7);
        destroy_it(victim);
        os_thread_join(thread);
        cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
        cr_assert_eq(weft_pool_free_count(group), 1 + (size_t)round % 4);
        cr_assert_eq(weft_group_destroy(group), 0);
    }
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    cr_assert_eq(weft_runtime_destroy(other), 0);
}
