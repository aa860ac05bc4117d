/* P1 to P5, P7: slots. */
#include "contract.h"

static int count_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    a_add(&ran, 1u, SEQ_CST);
    return 0;
}

/* gevent: Pool(0). */
PROMISE(P1_a_pool_of_0_is_full_and_waits, EVERYWHERE)
{
    struct weft_group *none = pool_make(runtime, 0);
    count_reset();
    check_eq(weft_pool_size(none), 0);
    check(weft_pool_full(none));
    check_eq(weft_pool_free_count(none), 0);
    check_eq(weft_group_spawn_with(none, count_run, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    check_eq(weft_group_spawn_with(none, count_run, NULL, NULL, weft_after(WEFT_MSEC), NULL), -ETIMEDOUT);
    check_eq(weft_pool_wait_available(none, weft_after(WEFT_MSEC)), 0);
    check_eq(weft_group_map(none, count_item, NULL, 3, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .deadline = weft_after(WEFT_MSEC))),
             -ETIMEDOUT);
    check_eq(ran, 0);
    check_eq(weft_group_join(none, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(none), 0);
}

PROMISE(P1_sizes_are_kept, EVERY)
{
    check_eq(weft_pool_size(pool), size);
    check(!weft_pool_full(pool));
    struct weft_group *group = group_make();
    check_eq(weft_pool_size(group), WEFT_UNLIMITED);
    check_eq(weft_pool_free_count(group), 1);
    check(!weft_pool_full(group));
    check_eq(weft_pool_wait_available(group, WEFT_FOREVER) > 0, 1);
    check_eq(weft_group_destroy(group), 0);
}

/* ---- P2 ---- */

struct place {
    struct call call;
    struct actor actor;
    int number;
};

static int places[12], n_places;

/* Only one runs at a time: there is one slot. */
static int note_place(void *arg, void **result)
{
    (void)result;
    places[n_places++] = *(int *)arg;
    return 0;
}

static int note_place_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return note_place(ctx, NULL);
}

static int call_map(void *arg)
{
    struct call *call = arg;
    return weft_group_map(call->group, note_place_item, call->arg, 1, NULL, 0, NULL, 0, NULL);
}

PROMISE(P2_all_stand_in_one_queue_first_in_first_out, EVERYWHERE)
{
    struct weft_group *one = pool_make(runtime, 1);
    struct gate gate = { 0 };
    struct place waiting[9] = { 0 };
    n_places = 0;
    struct weft_task *member = member_spawn(one, pass_gate, &gate);
    for (int i = 0; i < 9; i++) {
        waiting[i].number = i;
        waiting[i].call = (struct call){ .group = one, .fn = note_place, .arg = &waiting[i].number, .deadline = WEFT_FOREVER };
        if (i % 3 == 2) {
            check_eq(weft_group_apply_async(one, note_place, &waiting[i].number, NULL, NULL), 0);
        } else {
            actor_start(&waiting[i].actor, i % 2, i % 3 ? call_map : call_spawn, &waiting[i].call);
        }
        until(pool_queued(one) == (size_t)i + 1);
    }
    check_eq(weft_group_spawn_with(one, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    gate_open(&gate);
    for (int i = 0; i < 9; i++) {
        if (i % 3 != 2) {
            check_eq(actor_end(&waiting[i].actor), 0);
        }
        weft_task_release(waiting[i].call.out);
    }
    check_eq(weft_group_join(one, WEFT_FOREVER), 0);
    check_eq(n_places, 9);
    for (int i = 0; i < 9; i++) {
        check_eq(places[i], i);
    }
    ends_ok(member);
    check_eq(weft_group_destroy(one), 0);
}

PROMISE(P2_nowait_takes_an_unclaimed_slot, EVERY)
{
    for (int i = 0; i < 100; i++) {
        struct weft_task *task;
        check_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, &task), 0);
        ends_ok(task); /* finished: its slot is free */
    }
}

/* ---- P3 ---- */

PROMISE(P3_free_count_is_size_less_used, EVERY)
{
    struct gate gate = { 0 };
    for (size_t i = 0; i < pool_width(); i++) {
        check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size - i);
        check(!weft_pool_full(pool));
        check_eq(weft_pool_wait_available(pool, WEFT_FOREVER), size == WEFT_UNLIMITED ? 1 : size - i);
        check_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    }
    check_eq(weft_pool_full(pool), size != WEFT_UNLIMITED);
    if (size != WEFT_UNLIMITED) {
        check_eq(weft_pool_free_count(pool), 0);
        check_eq(weft_pool_wait_available(pool, WEFT_NOWAIT), 0);
        check_eq(weft_pool_wait_available(pool, weft_after(WEFT_MSEC)), 0);
    }
    pool_empty(&gate);
}

static int call_available(void *arg)
{
    struct call *call = arg;
    return weft_pool_wait_available(call->group, call->deadline);
}

PROMISE(P3_wait_available_wakes_and_reserves_nothing, EVERY)
{
    if (size == WEFT_UNLIMITED) {
        return;
    }
    for (int foreign = 0; foreign < 2; foreign++) {
        struct gate gate = { 0 };
        struct call call = { .group = pool, .deadline = WEFT_FOREVER };
        struct actor actor;
        pool_fill(&gate);
        actor_start(&actor, foreign, call_available, &call);
        ends_ok(task_spawn(do_nothing, NULL));
        check(!actor_done(&actor));
        pool_empty(&gate);
        check(actor_end(&actor) >= 1);
        check_eq(weft_pool_free_count(pool), size);
    }
}

/* ---- P4 ---- */

PROMISE(P4_who_was_killed_or_late_leaks_no_slot, EVERY)
{
    if (size == WEFT_UNLIMITED) {
        return;
    }
    struct gate gate = { 0 };
    struct call late = { .group = pool, .deadline = weft_after(2 * WEFT_MSEC) },
                killed = { .group = pool, .deadline = WEFT_FOREVER };
    struct actor actors[2];
    count_reset();
    pool_fill(&gate);
    actor_start(&actors[0], in_task, call_spawn, &late);
    actor_start(&actors[1], false, call_spawn, &killed);
    until(pool_queued(pool) >= 1);
    check_eq(actor_end(&actors[0]), -ETIMEDOUT);
    until(pool_queued(pool) == 1);
    check_eq(weft_task_kill(actors[1].task, 0, WEFT_NOWAIT), 0);
    check_eq(actor_end(&actors[1]), -ECANCELED);
    check_eq(pool_queued(pool), 0);
    pool_empty(&gate);
    check_eq(ran, 0);
    check_eq(weft_pool_free_count(pool), size);
}

/* ---- P5 ---- */

PROMISE(P5_resize_up_admits_and_down_lets_the_surplus_finish, EVERY)
{
    if (size == WEFT_UNLIMITED) {
        return;
    }
    struct gate gate = { 0 }, late = { 0 };
    struct call call = { .group = pool, .fn = pass_gate, .arg = &late, .deadline = WEFT_FOREVER };
    struct actor actor;
    pool_fill(&gate);
    actor_start(&actor, in_task, call_spawn, &call);
    until(pool_queued(pool) == 1);
    check_eq(weft_pool_resize(pool, size + 1), 0);
    check_eq(actor_end(&actor), 0);
    check_eq(weft_pool_size(pool), size + 1);
    until(gate_waiting(&late) == 1);
    check_eq(weft_pool_resize(pool, size - 1), 0);
    check_eq(weft_pool_free_count(pool), 0); /* never negative */
    check_eq(weft_group_len(pool), size + 1);
    check_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    gate_open(&late);
    ends_ok(call.out);
    check_eq(weft_pool_free_count(pool), 0); /* that was surplus */
    check_eq(weft_pool_resize(pool, size), 0);
    pool_empty(&gate);
    check_eq(weft_pool_resize(pool, 0), 0);
    check(weft_pool_full(pool));
    check_eq(weft_pool_resize(pool, size), 0);
}

/* ---- P7 ---- */

static _Atomic uint32_t circles;

static int spawn_in_mine(void *arg, void **result)
{
    (void)result;
    check_eq(gate_pass(arg), 0);
    struct weft_task *task = NULL;
    int rc = weft_group_spawn(pool, do_nothing, NULL, &task);
    check(rc == 0 || rc == -EDEADLK);
    a_add(&circles, rc == -EDEADLK ? 1u : 0u, SEQ_CST);
    if (rc == 0) {
        weft_task_release(task);
    }
    return 0;
}

PROMISE(P7_the_wait_that_would_close_the_circle_is_edeadlk, EVERY)
{
    struct gate gate = { 0 };
    circles = 0;
    for (size_t i = 0; i < pool_width(); i++) {
        check_eq(weft_group_spawn(pool, spawn_in_mine, &gate, NULL), 0);
    }
    until(gate_waiting(&gate) == pool_width());
    pool_empty(&gate);
    if (size == WEFT_UNLIMITED) {
        check_eq(circles, 0);
    } else { /* the first to end cannot have had a slot */
        check(circles >= 1 && circles <= size);
    }
}
