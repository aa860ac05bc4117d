/* Events (B1, C3, C4, H20), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tools.h"

TestSuite(event, .init = setup, .fini = teardown);

static struct weft_event event;

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_event zeroed = WEFT_ZERO_INIT;
    CHECK(!weft_event_is_set(&zeroed));
    CHECK(weft_event_wait(&zeroed, WEFT_NOWAIT) == -ETIMEDOUT);
    int64_t deadline = weft_after(WEFT_MSEC);
    CHECK(weft_event_wait(&zeroed, deadline) == -ETIMEDOUT && weft_now() >= deadline);
    weft_event_clear(&zeroed);
    CHECK(!weft_event_is_set(&zeroed));
    for (int i = 0; i < 2; i++) {
        weft_event_set(&zeroed);
        CHECK(weft_event_is_set(&zeroed));
        CHECK(weft_event_wait(&zeroed, WEFT_NOWAIT) == 0);
        CHECK(weft_event_wait(&zeroed, 1) == 0); /* what is there wins over a deadline in the past */
        CHECK(weft_event_wait(&zeroed, WEFT_FOREVER) == 0);
    }
    weft_event_clear(&zeroed);
    CHECK(weft_event_wait(&zeroed, WEFT_NOWAIT) == -ETIMEDOUT);
    CHECK(queued_in(&zeroed) == 0);
    return 0;
}

Test(event, zeroed_is_clear_and_waits_return_while_it_is_set_B1) { run_on_both(use_alone); }

static int plain; /* written before the set, read after the wait: a sanitizer sees whether one happens before the other */

static int wait_for_it(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_event_wait(&event, WEFT_FOREVER) == 0);
    CHECK(plain == 1);
    return 0;
}

static void start_all(struct player players[])
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, wait_for_it, NULL);
    }
    wait_for_queue(&event, MOST_PLAYERS);
}

static void end_all(struct player players[])
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert_eq(queued_in(&event), 0);
}

Test(event, set_wakes_all_B2)
{
    struct player players[MOST_PLAYERS];
    start_all(players);
    plain = 1;
    weft_event_set(&event);
    end_all(players);
    cr_assert(weft_event_is_set(&event));
}

Test(event, set_wakes_all_though_it_is_cleared_at_once_B2)
{
    struct player players[MOST_PLAYERS];
    start_all(players);
    weft_event_clear(&event); /* which it is: they wait on */
    cr_assert_eq(queued_in(&event), MOST_PLAYERS);
    plain = 1;
    weft_event_set(&event);
    weft_event_clear(&event);
    end_all(players);
    cr_assert_not(weft_event_is_set(&event));
}

static int wait_rc;

static int wait_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    wait_rc = weft_event_wait(&event, WEFT_FOREVER);
    return wait_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0; /* the kill is delivered next */
}

Test(event, killed_waiter_leaves_and_the_others_stay_C4)
{
    struct player player;
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&event, 1);
    player_start(&player, 1, wait_for_it, NULL);
    wait_for_queue(&event, 2);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(wait_rc, -ECANCELED);
    cr_assert_eq(queued_in(&event), 1);
    plain = 1;
    weft_event_set(&event);
    player_end(&player);
}

Test(event, set_at_the_instant_of_a_kill_counts_and_the_kill_comes_next_C4)
{
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&event, 1);
    wait_for_sleep(task);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    weft_event_set(&event);
    let_run(task);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(wait_rc, 0);
}

static int wait_for_ever(void *arg) { return weft_event_wait(arg, WEFT_FOREVER); }
static int wait_not_at_all(void *arg) { return weft_event_wait(arg, WEFT_NOWAIT); }

Test(event, wait_is_a_cancellation_point_unless_NOWAIT_C3)
{
    weft_event_set(&event);
    cr_assert_eq(call_with_kill_pending(wait_for_ever, &event), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(wait_not_at_all, &event), 0);
}

Test(event, raw_link_may_set_it_but_not_wait_T8)
{
    cr_assert_eq(call_in_raw_link(wait_for_ever, &event), -EPERM);
    cr_assert_eq(call_in_raw_link(wait_not_at_all, &event), -ETIMEDOUT);
}

/* An event on the waiter's stack, which is gone as soon as the wait has returned: a setter that touches it late is seen. */
static _Atomic(struct weft_event *) current;

static int set_each(void *arg, void **value)
{
    (void)value;
    for (int n = *(int *)((struct player *)arg)->arg; n > 0; n--) {
        struct weft_event *next;
        while (!(next = atomic_exchange(&current, NULL))) {
            weft_yield();
        }
        weft_event_set(next);
    }
    return 0;
}

static weft_noinline int wait_for_one(bool spin)
{
    struct weft_event own = WEFT_ZERO_INIT;
    atomic_store(&current, &own);
    while (spin && !weft_event_is_set(&own)) {
        weft_yield();
    }
    return weft_event_wait(&own, WEFT_FOREVER);
}

static weft_noinline void scribble(void)
{
    volatile unsigned char dead[512];
    for (unsigned i = 0; i < sizeof dead; i++) {
        dead[i] = 0xdd;
    }
}

static int wait_for_each(void *arg, void **value)
{
    (void)value;
    for (int n = *(int *)((struct player *)arg)->arg; n > 0; n--) {
        CHECK(wait_for_one(n % 4 == 0) == 0);
        scribble();
    }
    return 0;
}

Test(event, memory_may_go_when_it_was_seen_set_H20)
{
    int n = weft_test_full() ? 200000 : 3000;
    for (int round = 0; round < 4; round++) {
        struct player setter, waiter;
        player_start(&setter, round % 2, set_each, &n);
        player_start(&waiter, round / 2, wait_for_each, &n);
        player_end(&setter);
        player_end(&waiter);
    }
}
