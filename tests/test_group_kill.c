/* Groups: kill, and what else keeps a group non-empty (contract G5, G7, C6). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"

static struct gate gate;
static _Atomic uint32_t frees, told, begun;

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, SEQ_CST);
}

static int be_told(void *arg, void **result)
{
    (void)arg, (void)result;
    a_add(&begun, 1u, SEQ_CST);
    int rc = gate_pass(&gate);
    if (rc == -ECANCELED) {
        check_eq(weft_cancel_reason(), -EINTR);
        a_add(&told, 1u, SEQ_CST);
    }
    return rc;
}

Test(group_kill, every_member_ends_before_it_returns)
{
    begin(WEFT_UNLIMITED);
    enum { MEMBERS = 200 };
    struct weft_task *tasks[MEMBERS];
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    for (int i = 0; i < MEMBERS; i++) {
        cr_assert_eq(weft_group_spawn_with(pool, be_told, pool, options, WEFT_FOREVER, &tasks[i]), 0);
    }
    cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_len(pool), 0);
    cr_assert_eq(told, begun, "who had begun was told, the others never began");
    for (int i = 0; i < MEMBERS; i++) {
        struct weft_outcome outcome;
        cr_assert(weft_task_finished(tasks[i]));
        cr_assert_eq(weft_task_get(tasks[i], WEFT_NOWAIT, &outcome), 0);
        cr_assert_eq(outcome.status, WEFT_CANCELLED);
        cr_assert_eq(outcome.error, -EINTR);
    }
    cr_assert_eq(frees, MEMBERS);
    weft_tasks_release(tasks, MEMBERS);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_kill(pool, 1, WEFT_FOREVER), -EINVAL);
    end();
}

static struct gate stubborn_gate;

/* Told once; then it blocks again, and no other group kill disturbs it (C6). */
static int be_stubborn(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(gate_pass(&gate), -ECANCELED);
    check_eq(gate_pass(&stubborn_gate), 0);
    return 0;
}

Test(group_kill, nowait_makes_one_pass_and_tells_nobody_twice)
{
    begin(WEFT_UNLIMITED);
    struct weft_task *task;
    cr_assert_eq(weft_group_spawn(pool, be_stubborn, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_NOWAIT), 0);
    until(gate_waiting(&stubborn_gate) == 1);
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_group_kill(pool, 0, weft_after(20 * WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(gate_waiting(&stubborn_gate), 1);
    gate_open(&stubborn_gate);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK, "a killed task that returns 0 is OK");
    weft_task_release(task);
    end();
}

/* Members that come in while the kill waits are killed, too. */
static int spawn_when_killed(void *arg, void **result)
{
    (void)arg, (void)result;
    check_eq(gate_pass(&gate), -ECANCELED);
    for (int i = 0; i < 10; i++) {
        check_eq(weft_group_spawn(pool, be_told, NULL, NULL), 0);
    }
    return 0;
}

Test(group_kill, it_takes_in_members_added_meanwhile_H24)
{
    for (int i = 0; i < 100; i++) {
        begin(WEFT_UNLIMITED);
        cr_assert_eq(weft_group_spawn(pool, spawn_when_killed, NULL, NULL), 0);
        until(gate_waiting(&gate) == 1);
        cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
        cr_assert_eq(weft_group_len(pool), 0);
        cr_assert_eq(weft_group_spawn(pool, do_nothing, NULL, NULL), 0, "afterwards it is as before");
        end();
    }
    cr_assert_eq(told, begun);
}

static _Atomic int rcs[3];

static int kill_mine(void *arg, void **result)
{
    (void)result;
    a_store(&rcs[0], weft_group_kill(arg, -EINTR, WEFT_FOREVER), SEQ_CST);
    check_eq(weft_cancel_reason(), -EINTR);
    a_store(&rcs[1], weft_group_kill(arg, -EINTR, WEFT_FOREVER), SEQ_CST);
    a_store(&rcs[2], weft_sleep_until(weft_now()), SEQ_CST);
    return 0;
}

Test(group_kill, from_a_member_it_marks_all_and_is_told_of_its_own)
{
    begin(WEFT_UNLIMITED);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(weft_group_spawn(pool, be_told, NULL, NULL), 0);
    }
    until(gate_waiting(&gate) == 5);
    cr_assert_eq(weft_group_spawn(pool, kill_mine, pool, NULL), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(told, 5);
    cr_assert_eq(rcs[0], -ECANCELED);
    cr_assert_eq(rcs[1], -EDEADLK);
    cr_assert_eq(rcs[2], 0, "it was delivered once");
    end();
}

/* ---- what waits ---- */

static int map_told(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    return be_told(NULL, NULL);
}

struct waiting {
    unsigned kind;
    _Atomic int rc;
    struct os_thread thread;
};

/* 0 spawns, 1 maps: both wait for a slot. */
static void wait_for_slot(void *arg)
{
    struct waiting *waiting = arg;
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    a_store(&waiting->rc,
            waiting->kind == 0 ? weft_group_spawn_with(pool, be_told, pool, options, WEFT_FOREVER, NULL)
                               : weft_group_map(pool, map_told, NULL, 9, NULL, 0, NULL, 0, NULL),
            SEQ_CST);
}

static int wait_for_slot_task(void *arg, void **result)
{
    (void)result;
    wait_for_slot(arg);
    check_eq(weft_cancel_reason(), 0); /* an outsider is not killed itself */
    return 0;
}

Test(group_kill, it_ends_what_waits_for_a_slot)
{
    begin(1);
    struct waiting waiting[4] = { { .kind = 0, .rc = 1 }, { .kind = 1, .rc = 1 }, { .kind = 0, .rc = 1 }, { .kind = 1, .rc = 1 } };
    cr_assert_eq(weft_group_spawn(pool, be_told, NULL, NULL), 0);
    until(gate_waiting(&gate) == 1);
    struct weft_task *tasks[2];
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(os_thread_start(&waiting[i].thread, wait_for_slot, &waiting[i], "waiter"), 0);
        cr_assert_eq(weft_task_spawn(runtime, wait_for_slot_task, &waiting[i + 2], NULL, &tasks[i]), 0);
    }
    until(pool_queued(pool) == 4);
    cr_assert_eq(weft_group_destroy(pool), -EBUSY);
    cr_assert_eq(weft_group_len(pool), 1, "who waits is no member");
    cr_assert_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    for (int i = 0; i < 2; i++) {
        os_thread_join(waiting[i].thread);
        cr_assert_eq(weft_task_join(tasks[i], WEFT_FOREVER), 0);
    }
    for (int i = 0; i < 4; i++) {
        cr_assert(waiting[i].rc == -ESHUTDOWN || (waiting[i].kind == 1 && waiting[i].rc == -ECANCELED), "%d: %d", i, waiting[i].rc);
    }
    cr_assert_eq(begun, 1);
    cr_assert_eq(frees, 0);
    weft_tasks_release(tasks, 2);
    end();
}

Test(group_kill, waiting_spawners_and_running_maps_keep_it_non_empty)
{
    begin(1);
    struct waiting spawner = { .kind = 0, .rc = 1 }, mapper = { .kind = 1, .rc = 1 };
    struct weft_task *member;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &stubborn_gate, &member), 0);
    cr_assert_eq(os_thread_start(&spawner.thread, wait_for_slot, &spawner, "spawner"), 0);
    until(pool_queued(pool) == 1);
    cr_assert_eq(os_thread_start(&mapper.thread, wait_for_slot, &mapper, "mapper"), 0);
    until(pool_queued(pool) == 2);
    gate_open(&stubborn_gate); /* the spawner's task comes in, then the map: never empty in between */
    cr_assert_eq(weft_group_join(pool, weft_after(10 * WEFT_MSEC)), -ETIMEDOUT);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 10, "all nine items and the task");
    os_thread_join(spawner.thread);
    os_thread_join(mapper.thread);
    cr_assert_eq(spawner.rc, 0);
    cr_assert_eq(mapper.rc, 0);
    weft_task_release(member);
    end();
}

/* A slot never comes in a pool of none: what is on its way into the queue while the kill passes must hear of it all the same. */
Test(group_kill, nobody_slips_past_it_into_the_queue_H24, .timeout = 120)
{
    enum { ROUNDS = 3000 };
    begin(0);
    unsigned ended = 0, slipped = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct waiting waiting = { .kind = i & 1, .rc = 1 };
        struct weft_task *task;
        cr_assert_eq(weft_task_spawn(runtime, wait_for_slot_task, &waiting, NULL, &task), 0);
        for (int64_t stop = os_now() + (int64_t)(i * 97 % 20000); os_now() < stop;) {
        }
        int rc = weft_group_kill(pool, 0, weft_after(10 * WEFT_SEC));
        cr_assert_eq(rc, 0, "round %u: a %s waits for ever", i, waiting.kind == 0 ? "spawner" : "map");
        ended += waiting.rc != 1;
        while (weft_task_join(task, weft_after(WEFT_MSEC)) != 0) { /* it came after the kill */
            slipped++;
            cr_assert_eq(weft_group_kill(pool, 0, weft_after(10 * WEFT_SEC)), 0);
        }
        cr_assert(waiting.rc == -ESHUTDOWN || waiting.rc == -ECANCELED, "rc %d", waiting.rc);
        weft_task_release(task);
    }
    cr_log_info("%u ended by the first kill, %u more were needed\n", ended, slipped);
    end();
}
