/* Semaphores (B1, C3, C4), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tools.h"

TestSuite(semaphore, .init = setup, .fini = teardown);

static struct weft_semaphore semaphore;

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_semaphore own = WEFT_ZERO_INIT;
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == -ETIMEDOUT); /* zeroed memory has no permit */
    int64_t deadline = weft_after(WEFT_MSEC);
    CHECK(weft_semaphore_acquire(&own, deadline) == -ETIMEDOUT && weft_now() >= deadline);
    weft_semaphore_release(&own, 0);
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == -ETIMEDOUT);
    weft_semaphore_release(&own, 2);
    weft_semaphore_release(&own, 1);
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == 0);
    CHECK(weft_semaphore_acquire(&own, 1) == 0);
    CHECK(weft_semaphore_acquire(&own, WEFT_FOREVER) == 0);
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == -ETIMEDOUT);
    weft_semaphore_init(&own, 2);
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == 0 && weft_semaphore_acquire(&own, WEFT_NOWAIT) == 0);
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == -ETIMEDOUT);
    weft_semaphore_init(&own, UINT32_MAX);
    weft_semaphore_release(&own, UINT32_MAX); /* more than 32 bits hold */
    CHECK(weft_semaphore_acquire(&own, WEFT_NOWAIT) == 0);
    return 0;
}

Test(semaphore, counts_B1) { run_on_both(use_alone); }

static _Atomic int order[MOST_PLAYERS], next_place, places;

static int acquire_in_order(void *arg, void **value)
{
    (void)value;
    CHECK(weft_semaphore_acquire(&semaphore, WEFT_FOREVER) == 0);
    atomic_store(&order[((struct player *)arg)->index], atomic_fetch_add(&next_place, 1));
    gate_open(&places);
    return 0;
}

static void start_in_turn(struct player players[])
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, acquire_in_order, NULL);
        wait_for_queue(&semaphore, i + 1);
    }
}

Test(semaphore, permits_go_out_in_the_order_of_coming_B1)
{
    struct player players[MOST_PLAYERS];
    start_in_turn(players);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        weft_semaphore_release(&semaphore, 1);
        cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT),
                     -ETIMEDOUT); /* it is the oldest waiter's, who is not overtaken */
        gate_wait(&places, i + 1);
        cr_assert_eq(atomic_load(&order[i]), i);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
}

Test(semaphore, release_of_several_serves_as_many_and_keeps_the_rest_B1)
{
    struct player players[MOST_PLAYERS];
    start_in_turn(players);
    weft_semaphore_release(&semaphore, 3);
    gate_wait(&places, 3);
    cr_assert_eq(queued_in(&semaphore), MOST_PLAYERS - 3);
    weft_semaphore_release(&semaphore, MOST_PLAYERS - 3 + 2);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), -ETIMEDOUT);
}

static int acquire_rc;

static int acquire_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    acquire_rc = weft_semaphore_acquire(&semaphore, WEFT_FOREVER);
    return acquire_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0;
}

/* The oldest waiter is going because of a kill, and has not left yet, when a permit comes: it goes to the next. */
Test(semaphore, permit_at_the_instant_of_a_kill_goes_to_the_next_C4_H23)
{
    struct player player;
    struct weft_task *task = spawn_in(runtime, acquire_and_tell, NULL);
    wait_for_queue(&semaphore, 1);
    wait_for_sleep(task);
    player_start(&player, 1, acquire_in_order, NULL);
    wait_for_queue(&semaphore, 2);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    weft_semaphore_release(&semaphore, 1);
    player_end(&player);
    let_run(task);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(acquire_rc, -ECANCELED);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), -ETIMEDOUT);
}

Test(semaphore, permit_at_the_instant_of_a_kill_is_taken_if_nobody_else_waits_C4)
{
    struct weft_task *task = spawn_in(runtime, acquire_and_tell, NULL);
    wait_for_queue(&semaphore, 1);
    wait_for_sleep(task);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    weft_semaphore_release(&semaphore, 1);
    let_run(task);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(acquire_rc, 0);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), -ETIMEDOUT);
}

Test(semaphore, killed_and_late_waiters_have_taken_nothing_C4)
{
    struct weft_task *task = spawn_in(runtime, acquire_and_tell, NULL);
    wait_for_queue(&semaphore, 1);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(acquire_rc, -ECANCELED);
    weft_semaphore_release(&semaphore, 1);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), -ETIMEDOUT);
}

static int acquire_for_ever(void *arg) { return weft_semaphore_acquire(arg, WEFT_FOREVER); }
static int acquire_at_once(void *arg) { return weft_semaphore_acquire(arg, WEFT_NOWAIT); }

Test(semaphore, acquire_is_a_cancellation_point_unless_NOWAIT_C3)
{
    weft_semaphore_init(&semaphore, 1);
    cr_assert_eq(call_with_kill_pending(acquire_for_ever, &semaphore), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(acquire_at_once, &semaphore), 0);
}

Test(semaphore, raw_link_may_only_try_T8)
{
    weft_semaphore_init(&semaphore, 1);
    cr_assert_eq(call_in_raw_link(acquire_for_ever, &semaphore), -EPERM);
    cr_assert_eq(call_in_raw_link(acquire_at_once, &semaphore), 0);
}

/* As many inside as there are permits; a plain counter under a semaphore of one. */
enum { LAPS = 2000 };
static long counter;

static int count_under_it(void *arg, void **value)
{
    (void)arg, (void)value;
    for (int i = 0; i < LAPS; i++) {
        CHECK(weft_semaphore_acquire(&semaphore, WEFT_FOREVER) == 0);
        long seen = counter;
        if (i % 16 == 0) {
            weft_yield();
        }
        counter = seen + 1;
        weft_semaphore_release(&semaphore, 1);
    }
    return 0;
}

Test(semaphore, of_one_permit_excludes_B1)
{
    struct player players[MOST_PLAYERS];
    weft_semaphore_init(&semaphore, 1);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, count_under_it, NULL);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert_eq(counter, (long)MOST_PLAYERS * LAPS);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_semaphore_acquire(&semaphore, WEFT_NOWAIT), -ETIMEDOUT);
}
