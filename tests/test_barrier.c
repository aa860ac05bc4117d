/* Barriers (B1, B2, C3, C4), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tools.h"

TestSuite(barrier, .init = setup, .fini = teardown);

static struct weft_barrier barrier;

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_barrier own = WEFT_ZERO_INIT;
    CHECK(weft_barrier_wait(&own, WEFT_FOREVER) == -EINVAL); /* never initialised */
    weft_barrier_init(&own, 0);
    CHECK(weft_barrier_wait(&own, WEFT_NOWAIT) == -EINVAL);
    weft_barrier_init(&own, 1);
    for (int i = 0; i < 3; i++) {
        CHECK(weft_barrier_wait(&own, WEFT_NOWAIT) == 1);
        CHECK(weft_barrier_wait(&own, WEFT_FOREVER) == 1);
    }
    weft_barrier_init(&own, 2);
    for (int i = 0; i < 3; i++) { /* who would have to wait, or is late, is not counted */
        CHECK(weft_barrier_wait(&own, WEFT_NOWAIT) == -ETIMEDOUT);
        int64_t deadline = weft_after(100000);
        CHECK(weft_barrier_wait(&own, deadline) == -ETIMEDOUT && weft_now() >= deadline);
    }
    CHECK(queued_in(&own) == 0);
    return 0;
}

Test(barrier, of_one_never_waits_and_who_is_late_is_not_counted_B2) { run_on_both(use_alone); }

enum { ROUNDS = 500 };
static int at[MOST_PLAYERS]; /* plain: written before a round ends, read after it */
static _Atomic int lasts[ROUNDS];

static int go_round(void *arg, void **value)
{
    (void)value;
    for (int round = 0; round < ROUNDS; round++) {
        at[((struct player *)arg)->index] = round;
        int rc = weft_barrier_wait(&barrier, WEFT_FOREVER);
        CHECK(rc == 0 || rc == 1);
        if (rc == 1) {
            gate_open(&lasts[round]);
        }
        for (int i = 0; i < MOST_PLAYERS; i++) {
            CHECK(at[i] == round);
        }
        rc = weft_barrier_wait(&barrier, WEFT_FOREVER); /* all have looked */
        CHECK(rc == 0 || rc == 1);
    }
    return 0;
}

Test(barrier, all_come_before_any_goes_on_and_one_is_the_last_B2)
{
    struct player players[MOST_PLAYERS];
    weft_barrier_init(&barrier, MOST_PLAYERS);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, go_round, NULL);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        cr_assert_eq(atomic_load(&lasts[round]), 1);
    }
}

static int wait_rc;

static int wait_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    wait_rc = weft_barrier_wait(&barrier, WEFT_FOREVER);
    return wait_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0;
}

static int wait_for_others(void *arg, void **value)
{
    (void)arg, (void)value;
    return weft_barrier_wait(&barrier, WEFT_FOREVER) < 0 ? -EIO : 0;
}

Test(barrier, killed_waiter_is_not_counted_B2_C4)
{
    struct player player;
    weft_barrier_init(&barrier, 3);
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&barrier, 1);
    player_start(&player, 1, wait_for_others, NULL);
    wait_for_queue(&barrier, 2);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(wait_rc, -ECANCELED);
    cr_assert_eq(weft_barrier_wait(&barrier, WEFT_NOWAIT), -ETIMEDOUT); /* two only, with this one */
    task = spawn_in(runtime, wait_for_others, NULL);
    wait_for_queue(&barrier, 2);
    cr_assert_eq(weft_barrier_wait(&barrier, WEFT_NOWAIT), 1);
    player_end(&player);
    cr_assert_eq(finish_task(task).error, 0);
}

/* It is going because of a kill, and has not left yet, when the last one comes: it was counted, so its wait succeeds. */
Test(barrier, last_one_at_the_instant_of_a_kill_counts_it_C4)
{
    weft_barrier_init(&barrier, 2);
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&barrier, 1);
    wait_for_sleep(task);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    cr_assert_eq(weft_barrier_wait(&barrier, WEFT_NOWAIT), 1);
    cr_assert_eq(weft_barrier_wait(&barrier, WEFT_NOWAIT), -ETIMEDOUT); /* the next round has begun */
    let_run(task);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(wait_rc, 0);
    cr_assert_eq(weft_barrier_wait(&barrier, WEFT_NOWAIT), -ETIMEDOUT); /* and it took nothing from that */
}

static int wait_for_ever(void *arg) { return weft_barrier_wait(arg, WEFT_FOREVER); }
static int wait_not_at_all(void *arg) { return weft_barrier_wait(arg, WEFT_NOWAIT); }

Test(barrier, wait_is_a_cancellation_point_unless_NOWAIT_C3)
{
    weft_barrier_init(&barrier, 1);
    cr_assert_eq(call_with_kill_pending(wait_for_ever, &barrier), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(wait_not_at_all, &barrier), 1);
}

Test(barrier, raw_link_may_not_wait_T8)
{
    weft_barrier_init(&barrier, 1);
    cr_assert_eq(call_in_raw_link(wait_for_ever, &barrier), -EPERM);
    cr_assert_eq(call_in_raw_link(wait_not_at_all, &barrier), 1);
}
