/* Who waits for a slot of a pool and goes for another reason, or would wait for itself (contract P4, P7). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct gate gate, other_gate;
static _Atomic uint32_t frees, started;

static void count_free(void *p)
{
    (void)p;
    a_add(&frees, 1u, RELAXED);
}

static int count_start(void *arg, void **result)
{
    (void)arg;
    (void)result;
    a_add(&started, 1u, SEQ_CST);
    return 0;
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

struct spawner {
    struct weft_group *pool;
    int64_t deadline;
    _Atomic int rc;
};

static int spawn_into(void *arg, void **result)
{
    (void)result;
    struct spawner *spawner = arg;
    const struct weft_task_options *options = WEFT_OPTIONS(weft_task_options, .arg_free = count_free);
    a_store(&spawner->rc, weft_group_spawn_with(spawner->pool, count_start, spawner, options, spawner->deadline, NULL), SEQ_CST);
    return 0;
}

Test(pool_waiter, killed_or_late_leaves_nothing_behind)
{
    struct weft_group *pool = begin(1);
    struct weft_task *tasks[2];
    struct spawner spawners[2] = { { pool, WEFT_FOREVER, 1 }, { pool, weft_after(30 * WEFT_MSEC), 1 } };
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(weft_task_spawn(runtime, spawn_into, &spawners[i], NULL, &tasks[i]), 0);
    }
    until(pool_queued(pool) >= 1 && spawners[0].rc == 1);
    cr_assert_leq(weft_group_len(pool), 1, "who waits is no member");
    cr_assert_eq(weft_task_kill(tasks[0], 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(tasks[1], WEFT_FOREVER), 0);
    cr_assert_eq(spawners[0].rc, -ECANCELED);
    cr_assert_eq(spawners[1].rc, -ETIMEDOUT);
    cr_assert_eq(pool_queued(pool), 0);
    cr_assert_eq(frees, 0);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(started, 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_spawn_with(pool, count_start, NULL, NULL, WEFT_NOWAIT, NULL), 0);
    weft_tasks_release(tasks, 2);
    end(pool);
}

/* H23: the slot that a waiter no longer wants goes to the next one. */
Test(pool_waiter, the_next_is_served_when_the_first_has_gone_H23)
{
    struct weft_group *pool = begin(1);
    struct weft_task *tasks[3];
    struct spawner spawners[3];
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        spawners[i] = (struct spawner){ pool, WEFT_FOREVER, 1 };
        cr_assert_eq(weft_task_spawn(runtime, spawn_into, &spawners[i], NULL, &tasks[i]), 0);
        until(pool_queued(pool) == i + 1);
    }
    cr_assert_eq(weft_task_kill(tasks[0], 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_kill(tasks[1], 0, WEFT_FOREVER), 0);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(tasks[2], WEFT_FOREVER), 0);
    cr_assert_eq(spawners[0].rc, -ECANCELED);
    cr_assert_eq(spawners[1].rc, -ECANCELED);
    cr_assert_eq(spawners[2].rc, 0);
    weft_tasks_release(tasks, 3);
    end(pool);
    cr_assert_eq(started, 1);
    cr_assert_eq(frees, 1);
}

/* A duration that moves to where two outcomes are equally frequent: that is where the window is. */
struct aim {
    int64_t ns;
    unsigned early, late, turns;
    bool was_early;
};

static void aim_note(struct aim *aim, bool early)
{
    aim->early += early;
    aim->late += !early;
    aim->turns += early != aim->was_early;
    aim->was_early = early;
    aim->ns += early ? aim->ns / 16 + 100 : -(aim->ns / 16 + 100);
    aim->ns = aim->ns < 0 ? 0 : aim->ns > WEFT_MSEC ? WEFT_MSEC : aim->ns; /* a busy machine does not lead it astray */
}

static void pause_for(int64_t ns)
{
    for (int64_t end_ns = os_now() + ns; os_now() < end_ns;) {
    }
}

/* P4 at the same instant: the slot is handed over while the waiter's time runs out and somebody kills it. Whatever wins, the pool has
 * its slot back and the task has run exactly if spawn said so. */
Test(pool_waiter, hand_over_timeout_and_kill_at_once_H21, .timeout = 240)
{
    enum { ROUNDS = 2400, TIMEOUT = 1, KILL = 2 };
    struct weft_group *pool = begin(1);
    struct aim kill_aim = { .ns = 5000 }, late_aim = { .ns = 100000 };
    unsigned given = 0, late = 0, killed = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned kinds = i % 3 + 1;
        struct weft_task *holder, *waiter;
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &holder), 0);
        struct spawner spawner = { pool, kinds & TIMEOUT ? weft_after(late_aim.ns) : WEFT_FOREVER, 1 };
        cr_assert_eq(weft_task_spawn(runtime, spawn_into, &spawner, NULL, &waiter), 0);
        until(pool_queued(pool) == 1 || spawner.rc != 1);
        gate_open(&gate);
        if (kinds & KILL) {
            pause_for(kill_aim.ns);
            (void)weft_task_kill(waiter, 0, WEFT_NOWAIT);
        }
        cr_assert_eq(weft_task_join(waiter, WEFT_FOREVER), 0);
        cr_assert_eq(weft_task_join(holder, WEFT_FOREVER), 0);
        cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
        given += spawner.rc == 0;
        late += spawner.rc == -ETIMEDOUT;
        killed += spawner.rc == -ECANCELED;
        if (kinds == TIMEOUT) {
            aim_note(&late_aim, spawner.rc != 0);
        } else if (kinds == KILL) {
            aim_note(&kill_aim, spawner.rc != 0);
        }
        cr_assert_eq(given + late + killed, i + 1, "rc %d", spawner.rc);
        cr_assert_eq(started, given, "round %u", i);
        cr_assert_eq(frees, given);
        cr_assert_eq(weft_pool_free_count(pool), 1, "round %u lost a slot", i);
        cr_assert_eq(weft_group_len(pool), 0);
        cr_assert_eq(pool_queued(pool), 0);
        weft_task_release(holder);
        weft_task_release(waiter);
        a_store(&gate.open, 0u, SEQ_CST);
    }
    cr_log_info("%u handed over, %u late, %u killed; the winner changed %u times by timeout, %u by kill\n", given, late, killed,
                late_aim.turns, kill_aim.turns);
    cr_assert(given > 0 && late > 0 && killed > 0, "one side never won: nothing was tested");
    end(pool);
}

/* ---- P7: the wait that would close the circle ---- */

struct circle {
    struct weft_group *pool;
    struct gate *before;
    int64_t deadline;
    _Atomic int rc;
};

static int spawn_in_my_pool(void *arg, void **result)
{
    (void)result;
    struct circle *circle = arg;
    check_eq(gate_pass(circle->before), 0);
    a_store(&circle->rc, weft_group_spawn_with(circle->pool, count_start, NULL, NULL, circle->deadline, NULL), SEQ_CST);
    return 0;
}

Test(pool_waiter, a_member_that_would_wait_for_itself_is_told)
{
    struct weft_group *pool = begin(1);
    struct circle circle = { pool, &gate, WEFT_FOREVER, 1 };
    gate_open(&gate);
    cr_assert_eq(weft_group_spawn(pool, spawn_in_my_pool, &circle, NULL), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(circle.rc, -EDEADLK);
    circle = (struct circle){ pool, &gate, WEFT_NOWAIT, 1 };
    cr_assert_eq(weft_group_spawn(pool, spawn_in_my_pool, &circle, NULL), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(circle.rc, -EAGAIN);
    end(pool);
    cr_assert_eq(started, 0);
}

/* Only the one whose wait closes it; the others go on waiting and are served when it ends. */
Test(pool_waiter, the_last_member_to_wait_is_told_and_the_others_are_served)
{
    enum { SIZE = 3 };
    struct weft_group *pool = begin(SIZE);
    struct gate gates[SIZE] = { 0 };
    struct circle circles[SIZE];
    for (unsigned i = 0; i < SIZE; i++) {
        circles[i] = (struct circle){ pool, &gates[i], WEFT_FOREVER, 1 };
        cr_assert_eq(weft_group_spawn(pool, spawn_in_my_pool, &circles[i], NULL), 0);
    }
    for (unsigned i = 0; i < SIZE; i++) {
        gate_open(&gates[i]);
        until(i + 1 < SIZE ? pool_queued(pool) == i + 1 : circles[i].rc != 1);
    }
    cr_assert_eq(circles[SIZE - 1].rc, -EDEADLK);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    for (unsigned i = 0; i + 1 < SIZE; i++) {
        cr_assert_eq(circles[i].rc, 0);
    }
    cr_assert_eq(started, SIZE - 1);
    end(pool);
}

/* A member that sleeps at a gate may yet end: then there is no circle. An outsider that waits closes none either. */
Test(pool_waiter, no_circle_while_a_member_does_something_else)
{
    struct weft_group *pool = begin(2);
    struct circle circle = { pool, &gate, WEFT_FOREVER, 1 };
    struct spawner outsider = { pool, WEFT_FOREVER, 1 };
    gate_open(&gate);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &other_gate, NULL), 0);
    cr_assert_eq(weft_group_spawn(pool, spawn_in_my_pool, &circle, NULL), 0);
    until(pool_queued(pool) == 1);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, spawn_into, &outsider, NULL, &task), 0);
    until(pool_queued(pool) == 2);
    cr_assert_eq(circle.rc, 1);
    gate_open(&other_gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(circle.rc, 0);
    cr_assert_eq(outsider.rc, 0);
    weft_task_release(task);
    end(pool);
    cr_assert_eq(started, 2);
}

static int spawn_in_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in;
    *(int *)out = weft_group_spawn(ctx, count_start, NULL, NULL);
    return 0;
}

Test(pool_waiter, an_item_is_a_member_too)
{
    struct weft_group *pool = begin(1);
    int rcs[3] = { 1, 1, 1 };
    cr_assert_eq(WEFT_MAP(pool, spawn_in_item, pool, 3, rcs, rcs, NULL), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(rcs[i], -EDEADLK);
    }
    end(pool);
    cr_assert_eq(started, 0);
}
