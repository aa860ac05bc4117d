/* A pool's size, and its change (contract P1, P2, P5, P7). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct gate gate;
static _Atomic uint32_t order, n_begun;

static void begin(size_t size)
{
    runtime = runtime_make();
    pool = pool_make(runtime, size);
}

static void end(void)
{
    gate_open(&gate);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(pool_queued(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

/* Writes down its turn as a decimal digit. */
static int take_turn(void *arg, void **result)
{
    (void)result;
    uint32_t seen = a_load(&order, SEQ_CST);
    while (!a_cas(&order, &seen, seen * 10 + (uint32_t)(uintptr_t)arg, SEQ_CST, SEQ_CST)) {
    }
    a_add(&n_begun, 1u, SEQ_CST);
    return gate_pass(&gate);
}

static void spawn_turn(void *arg) { check_eq(weft_group_spawn(pool, take_turn, arg, NULL), 0); }

Test(pool_resize, tells_its_size)
{
    begin(3);
    struct weft_group *plain;
    cr_assert_eq(weft_pool_size(pool), 3);
    cr_assert_eq(weft_pool_resize(pool, 7), 0);
    cr_assert_eq(weft_pool_size(pool), 7);
    cr_assert_eq(weft_pool_free_count(pool), 7);
    cr_assert_eq(weft_group_create(runtime, NULL, &plain), 0);
    cr_assert_eq(weft_pool_size(plain), WEFT_UNLIMITED);
    cr_assert_eq(weft_pool_resize(plain, WEFT_UNLIMITED), 0);
    cr_assert_eq(weft_pool_resize(plain, 2), -EINVAL);
    cr_assert_eq(weft_pool_size(plain), WEFT_UNLIMITED);
    cr_assert_eq(weft_pool_size(NULL), 0);
    cr_assert_eq(weft_pool_resize(NULL, 1), -EINVAL);
    cr_assert_eq(weft_group_destroy(plain), 0);
    end();
}

Test(pool_resize, up_admits_waiters_in_their_order)
{
    begin(0);
    struct os_thread threads[5];
    cr_assert(weft_pool_full(pool));
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert_eq(weft_group_spawn_with(pool, take_turn, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    for (uintptr_t i = 1; i <= 5; i++) {
        if (i == 3) { /* a queued apply stands in the same line */
            cr_assert_eq(weft_group_apply_async(pool, take_turn, (void *)i, NULL, NULL), 0);
        } else {
            cr_assert_eq(os_thread_start(&threads[i - 1], spawn_turn, (void *)i, "spawner"), 0);
        }
        until(pool_queued(pool) == i);
    }
    for (uint32_t i = 1; i <= 5; i++) {
        cr_assert_eq(weft_pool_resize(pool, i), 0);
        until(a_load(&n_begun, SEQ_CST) == i);
        cr_assert_eq(pool_queued(pool), 5 - i);
        cr_assert_eq(weft_group_spawn_with(pool, take_turn, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN, "NOWAIT never overtakes");
    }
    cr_assert_eq(order, 12345);
    for (int i = 0; i < 5; i++) {
        if (i != 2) {
            os_thread_join(threads[i]);
        }
    }
    end();
}

Test(pool_resize, down_lets_the_surplus_finish)
{
    begin(3);
    struct gate one = { 0 }, two = { 0 };
    struct weft_task *first, *second;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &one, &first), 0);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &two, &second), 0);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_pool_resize(pool, 1), 0);
    cr_assert_eq(weft_group_len(pool), 3);
    cr_assert_eq(weft_pool_free_count(pool), 0, "never negative");
    cr_assert_eq(weft_group_apply_async(pool, take_turn, (void *)1, NULL, NULL), 0);
    gate_open(&one);
    cr_assert_eq(weft_task_join(first, WEFT_FOREVER), 0);
    cr_assert_eq(pool_queued(pool), 1, "its slot is no more");
    gate_open(&two);
    cr_assert_eq(weft_task_join(second, WEFT_FOREVER), 0);
    cr_assert_eq(pool_queued(pool), 1);
    cr_assert_eq(n_begun, 0);
    gate_open(&gate);
    until(a_load(&n_begun, SEQ_CST) == 1);
    weft_task_release(first);
    weft_task_release(second);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    end();
}

static void watch(void *arg) { a_store((_Atomic int *)arg, weft_pool_wait_available(pool, WEFT_FOREVER), SEQ_CST); }

Test(pool_resize, up_is_seen_by_those_who_wait_for_a_slot_to_be_free)
{
    begin(1);
    struct os_thread watcher;
    _Atomic int seen = -1;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(os_thread_start(&watcher, watch, &seen, "watcher"), 0);
    until(!weft_waitq_empty(&pool->admission.watchers));
    cr_assert_eq(weft_pool_resize(pool, 4), 0);
    os_thread_join(watcher);
    cr_assert_eq(seen, 3);
    end();
}

Test(pool_resize, without_bound_and_back_every_slot_is_counted)
{
    begin(1);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_group_apply_async(pool, take_turn, (void *)1, NULL, NULL), 0);
    cr_assert_eq(weft_pool_resize(pool, WEFT_UNLIMITED), 0);
    until(a_load(&n_begun, SEQ_CST) == 1);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_spawn_with(pool, pass_gate, &gate, NULL, WEFT_NOWAIT, NULL), 0);
    cr_assert_eq(weft_pool_resize(pool, 3), 0);
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert_eq(weft_pool_resize(pool, 4), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 4);
    end();
}

/* Two members wait for a slot, which the third would give back; it was to be the surplus. Nothing would ever move (P7). */
static int spawn_another(void *arg, void **result)
{
    (void)result;
    int rc = weft_group_spawn(pool, do_nothing, NULL, NULL);
    if (rc == -EDEADLK) {
        a_add((_Atomic uint32_t *)arg, 1u, SEQ_CST);
    }
    return 0;
}

Test(pool_resize, a_circle_that_a_smaller_pool_closes_is_broken)
{
    begin(3);
    _Atomic uint32_t circles = 0;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_pool_resize(pool, 3), 0);
    for (int i = 0; i < 2; i++) {
        struct weft_task *task;
        cr_assert_eq(weft_task_create(runtime, spawn_another, &circles, NULL, &task), 0);
        cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
        if (i == 1) {
            cr_assert(weft_pool_full(pool));
        }
        weft_task_release(task); /* the membership keeps it */
    }
    struct weft_task *members[3];
    cr_assert_eq(weft_group_snapshot(pool, members, 3), 3);
    for (int i = 0; i < 3; i++) {
        int rc = weft_task_start(members[i]);
        cr_assert(rc == 0 || rc == -EALREADY, "the one at the gate was started: %s", weft_strerror(rc));
    }
    until(pool_queued(pool) == 2);
    cr_assert_eq(weft_pool_resize(pool, 1), 0);
    cr_assert_eq(circles, 0, "the third runs, and may yet spawn or resize");
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_geq(circles, 1);
    weft_tasks_release(members, 3);
    end();
}
