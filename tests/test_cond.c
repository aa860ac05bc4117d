/* Condition variables (B2, C3, C4), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tools.h"

TestSuite(cond, .init = setup, .fini = teardown);

static struct weft_cond cond;
static struct weft_mutex mutex;

/* The caller holds it, and so nobody else does. */
#define HOLDS(mutex) (weft_mutex_lock(mutex, WEFT_NOWAIT) == -EDEADLK)

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_cond own = WEFT_ZERO_INIT;
    struct weft_mutex lock = WEFT_ZERO_INIT;
    CHECK(weft_cond_wait(&own, &lock, WEFT_FOREVER) == -EPERM); /* nobody holds it */
    weft_cond_signal(&own);                                     /* for nobody: it is not kept */
    weft_cond_broadcast(&own);
    CHECK(weft_mutex_lock(&lock, WEFT_FOREVER) == 0);
    CHECK(weft_cond_wait(&own, &lock, WEFT_NOWAIT) == -ETIMEDOUT && HOLDS(&lock));
    CHECK(weft_cond_wait(&own, &lock, 1) == -ETIMEDOUT && HOLDS(&lock));
    int64_t deadline = weft_after(WEFT_MSEC);
    CHECK(weft_cond_wait(&own, &lock, deadline) == -ETIMEDOUT && weft_now() >= deadline && HOLDS(&lock));
    weft_mutex_unlock(&lock);
    CHECK(own.opaque[0] == 0 && lock.opaque[0] == 0 && lock.opaque[1] == 0);
    return 0;
}

static int wait_with_the_mutex_of_another(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_cond_wait(&cond, &mutex, WEFT_FOREVER) == -EPERM);
    return 0;
}

Test(cond, wait_returns_with_the_mutex_held_B2) { run_on_both(use_alone); }

Test(cond, wait_without_the_mutex_is_refused_B2)
{
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    run_on_both(wait_with_the_mutex_of_another);
    weft_mutex_unlock(&mutex);
}

static _Atomic int order[MOST_PLAYERS], next_place, places;

static int wait_in_order(void *arg, void **value)
{
    (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    CHECK(weft_cond_wait(&cond, &mutex, WEFT_FOREVER) == 0 && HOLDS(&mutex));
    atomic_store(&order[((struct player *)arg)->index], atomic_fetch_add(&next_place, 1));
    gate_open(&places);
    weft_mutex_unlock(&mutex);
    return 0;
}

static void start_in_turn(struct player players[])
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, wait_in_order, NULL);
        wait_for_queue(&cond, i + 1);
    }
}

Test(cond, signal_wakes_the_one_that_has_waited_longest_B2)
{
    struct player players[MOST_PLAYERS];
    start_in_turn(players);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        if (i % 3 == 0) { /* held or not */
            cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
            weft_cond_signal(&cond);
            weft_mutex_unlock(&mutex);
        } else {
            weft_cond_signal(&cond);
        }
        cr_assert_eq(queued_in(&cond), MOST_PLAYERS - i - 1); /* one, and no more */
        gate_wait(&places, i + 1);
        cr_assert_eq(atomic_load(&order[i]), i);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
}

Test(cond, broadcast_wakes_all_B2)
{
    struct player players[MOST_PLAYERS];
    start_in_turn(players);
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    weft_cond_broadcast(&cond);
    cr_assert_eq(queued_in(&cond), 0);
    weft_mutex_unlock(&mutex);
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

static int wait_rc;
static bool held;

static int wait_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    wait_rc = weft_cond_wait(&cond, &mutex, WEFT_FOREVER);
    held = HOLDS(&mutex);
    weft_mutex_unlock(&mutex);
    return wait_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0;
}

Test(cond, killed_waiter_holds_the_mutex_B2_C4)
{
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&cond, 1);
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    wait_for_queue(&mutex, 1); /* however long it takes to get it back */
    cr_assert_eq(queued_in(&cond), 0);
    weft_cond_signal(&cond); /* for nobody */
    weft_mutex_unlock(&mutex);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(wait_rc, -ECANCELED);
    cr_assert(held);
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

/* It was woken; the kill comes while it waits for the mutex, which it takes all the same. */
Test(cond, kill_after_the_signal_comes_next_C4)
{
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&cond, 1);
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    weft_cond_signal(&cond);
    wait_for_queue(&mutex, 1);
    cr_assert_eq(weft_task_kill(task, 0, weft_after(2 * WEFT_MSEC)), -ETIMEDOUT);
    weft_mutex_unlock(&mutex);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(wait_rc, 0);
    cr_assert(held);
}

Test(cond, signal_at_the_instant_of_a_kill_goes_to_the_next_C4_H23)
{
    struct player player;
    struct weft_task *task = spawn_in(runtime, wait_and_tell, NULL);
    wait_for_queue(&cond, 1);
    wait_for_sleep(task);
    player_start(&player, 1, wait_in_order, NULL);
    wait_for_queue(&cond, 2);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    weft_cond_signal(&cond);
    player_end(&player);
    let_run(task);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(wait_rc, -ECANCELED);
    cr_assert(held);
}

static int wait_once(int64_t deadline)
{
    struct weft_mutex lock = WEFT_ZERO_INIT;
    if (weft_mutex_lock(&lock, WEFT_NOWAIT) != 0) {
        return -EIO;
    }
    int rc = weft_cond_wait(&cond, &lock, deadline);
    rc = HOLDS(&lock) ? rc : -EIO;
    weft_mutex_unlock(&lock);
    return rc;
}

static int wait_for_ever(void *arg) { return (void)arg, wait_once(WEFT_FOREVER); }
static int wait_not_at_all(void *arg) { return (void)arg, wait_once(WEFT_NOWAIT); }

Test(cond, wait_is_a_cancellation_point_unless_NOWAIT_C3)
{
    cr_assert_eq(call_with_kill_pending(wait_for_ever, NULL), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(wait_not_at_all, NULL), -ETIMEDOUT);
}

Test(cond, raw_link_may_not_wait_T8)
{
    cr_assert_eq(call_in_raw_link(wait_for_ever, NULL), -EPERM);
    cr_assert_eq(call_in_raw_link(wait_not_at_all, NULL), -ETIMEDOUT);
}

/* A place for one item, half of the players put in, the others take out: a wake that is lost would be a hang. */
enum { ITEMS = 2000 };
static bool full;
static int item, sum;

static int put_or_take(void *arg, void **value)
{
    (void)value;
    bool put = ((struct player *)arg)->index < MOST_PLAYERS / 2;
    for (int i = 1; i <= ITEMS; i++) {
        CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
        while (full == put) {
            CHECK(weft_cond_wait(&cond, &mutex, WEFT_FOREVER) == 0);
        }
        sum += put ? 0 : item;
        item = put ? i : 0;
        full = put;
        weft_cond_broadcast(&cond);
        weft_mutex_unlock(&mutex);
    }
    return 0;
}

Test(cond, no_wake_is_lost_B2)
{
    struct player players[MOST_PLAYERS];
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, put_or_take, NULL);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert_eq(sum, MOST_PLAYERS / 2 * (ITEMS * (ITEMS + 1) / 2));
}
