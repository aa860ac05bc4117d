/* Mutexes (B1, C3, C4), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "child.h"
#include "tools.h"

TestSuite(mutex, .init = setup, .fini = teardown);
TestSuite(mutex_alone);

static struct weft_mutex mutex;

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_mutex own = WEFT_ZERO_INIT;
    for (int i = 0; i < 2; i++) {
        CHECK(weft_mutex_lock(&own, i ? WEFT_FOREVER : WEFT_NOWAIT) == 0);
        CHECK(weft_mutex_lock(&own, WEFT_NOWAIT) == -EDEADLK);
        CHECK(weft_mutex_lock(&own, WEFT_FOREVER) == -EDEADLK);
        weft_mutex_unlock(&own);
        CHECK(own.opaque[0] == 0 && own.opaque[1] == 0);
    }
    CHECK(weft_mutex_lock(&own, 1) == 0); /* what is there wins over a deadline in the past */
    weft_mutex_unlock(&own);
    return 0;
}

Test(mutex, zeroed_is_free_and_locking_it_twice_is_refused_B1) { run_on_both(use_alone); }

static int find_it_locked(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_NOWAIT) == -ETIMEDOUT);
    int64_t deadline = weft_after(WEFT_MSEC);
    CHECK(weft_mutex_lock(&mutex, deadline) == -ETIMEDOUT && weft_now() >= deadline);
    return 0;
}

Test(mutex, lock_of_another_times_out_B1)
{
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    run_on_both(find_it_locked);
    weft_mutex_unlock(&mutex);
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0); /* nothing was left behind */
}

/* ---- Exclusion ---- */

enum { LAPS = 2000 };
static long counter;

static int count_under_it(void *arg, void **value)
{
    (void)value;
    for (int i = 0; i < LAPS; i++) {
        CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
        long seen = counter;
        if (i % 16 == ((struct player *)arg)->index) {
            weft_yield();
        }
        counter = seen + 1;
        weft_mutex_unlock(&mutex);
    }
    return 0;
}

Test(mutex, one_holds_it_B1)
{
    struct player players[MOST_PLAYERS];
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, count_under_it, NULL);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
    cr_assert_eq(counter, (long)MOST_PLAYERS * LAPS);
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

/* ---- Another worker ---- */

static struct weft_event move_on;
static struct weft_worker *locked_on;

static int lock_and_move(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    locked_on = weft_worker_self();
    CHECK(weft_event_wait(&move_on, WEFT_FOREVER) == 0);
    CHECK(weft_worker_self() != locked_on);
    CHECK(weft_mutex_lock(&mutex, WEFT_NOWAIT) == -EDEADLK); /* it holds it still */
    weft_mutex_unlock(&mutex);
    return 0;
}

struct spinner {
    struct weft_worker *on;
    _Atomic int runs, ends;
};

static int occupy_a_worker(void *arg, void **value)
{
    (void)value;
    struct spinner *spinner = arg;
    spinner->on = weft_worker_self();
    gate_open(&spinner->runs);
    while (atomic_load(&spinner->ends) == 0) {
        os_thread_yield();
    }
    return 0;
}

/* Of two workers the one it was locked on is occupied while its holder wakes. */
Test(mutex_alone, may_be_unlocked_on_another_worker_B1)
{
    runtime = runtime_with(2);
    struct spinner spinners[2] = { { NULL, 0, 0 }, { NULL, 0, 0 } };
    struct weft_task *holder = spawn_in(runtime, lock_and_move, NULL), *tasks[2] = { NULL, NULL };
    wait_for_queue(&move_on, 1);
    tasks[0] = spawn_in(runtime, occupy_a_worker, &spinners[0]);
    gate_wait(&spinners[0].runs, 1);
    if (spinners[0].on != locked_on) { /* then only the right one is left for the second */
        tasks[1] = spawn_in(runtime, occupy_a_worker, &spinners[1]);
        gate_wait(&spinners[1].runs, 1);
        cr_assert_eq(spinners[1].on, locked_on);
        gate_open(&spinners[0].ends);
    }
    weft_event_set(&move_on);
    cr_assert_eq(finish_task(holder).error, 0);
    for (int i = 0; i < 2; i++) {
        gate_open(&spinners[i].ends);
        if (tasks[i]) {
            cr_assert_eq(finish_task(tasks[i]).error, 0);
        }
    }
    teardown();
}

/* ---- Barging ---- */

static _Atomic int has_it;

static int want_it(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    gate_open(&has_it);
    weft_mutex_unlock(&mutex);
    return 0;
}

/* Whenever another could run it holds the mutex: without a hand-over nobody else would ever get it. */
static int hog(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    gate_open(arg);
    int64_t patience = weft_after(PATIENCE);
    while (atomic_load(&has_it) < 2) {
        CHECK(weft_now() < patience);
        weft_yield();
        weft_mutex_unlock(&mutex);
        CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    }
    weft_mutex_unlock(&mutex);
    return 0;
}

Test(mutex, who_is_overtaken_for_long_is_given_it_B1)
{
    _Atomic int hogged = 0;
    struct player task, thread;
    struct weft_task *pig = spawn_in(runtime, hog, (void *)&hogged);
    gate_wait(&hogged, 1);
    player_start(&task, 0, want_it, NULL);
    player_start(&thread, 1, want_it, NULL);
    player_end(&task);
    player_end(&thread);
    cr_assert_eq(finish_task(pig).error, 0);
}

/* ---- Kills ---- */

static int lock_rc;
static _Atomic int ended;

static int lock_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    lock_rc = weft_mutex_lock(&mutex, WEFT_FOREVER);
    bool pending = lock_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED;
    if (lock_rc == 0) {
        weft_mutex_unlock(&mutex);
    }
    return pending ? -ENOTTY : 0;
}

static int hold_until_it_ended(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    gate_wait(&ended, 1);
    weft_mutex_unlock(&mutex);
    return 0;
}

Test(mutex, killed_waiter_leaves_C4)
{
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    struct weft_task *task = spawn_in(runtime, lock_and_tell, NULL);
    wait_for_queue(&mutex, 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    weft_task_release(task);
    cr_assert_eq(lock_rc, -ECANCELED);
    weft_mutex_unlock(&mutex);
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

/* The oldest waiter is going because of a kill, and has not left yet, when the mutex is unlocked: the next one is woken. */
Test(mutex, unlock_at_the_instant_of_a_kill_wakes_the_next_C4_H23)
{
    for (int kind = 0; kind < 2; kind++) {
        struct player player;
        atomic_store(&ended, 0);
        cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
        struct weft_task *task = spawn_in(runtime, lock_and_tell, NULL);
        wait_for_queue(&mutex, 1);
        wait_for_sleep(task);
        player_start(&player, kind, hold_until_it_ended, NULL);
        wait_for_queue(&mutex, 2);
        claim_sleep(task, WEFT_CLAIM_KILLED);
        weft_mutex_unlock(&mutex);
        until(weft_mutex_lock(&mutex, WEFT_NOWAIT) == -ETIMEDOUT || (weft_mutex_unlock(&mutex), false));
        let_run(task);
        cr_assert_eq(finish_task(task).error, 0);
        cr_assert_eq(lock_rc, -ECANCELED);
        gate_open(&ended);
        player_end(&player);
        cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
    }
}

Test(mutex, free_at_the_instant_of_a_kill_it_is_taken_and_the_kill_comes_next_C4)
{
    cr_assert_eq(weft_mutex_lock(&mutex, WEFT_FOREVER), 0);
    struct weft_task *task = spawn_in(runtime, lock_and_tell, NULL);
    wait_for_queue(&mutex, 1);
    wait_for_sleep(task);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    weft_mutex_unlock(&mutex);
    let_run(task);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(lock_rc, 0);
    cr_assert(mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

static int lock_and_unlock(int64_t deadline)
{
    int rc = weft_mutex_lock(&mutex, deadline);
    if (rc == 0) {
        weft_mutex_unlock(&mutex);
    }
    return rc;
}

static int lock_for_ever(void *arg) { return (void)arg, lock_and_unlock(WEFT_FOREVER); }
static int lock_at_once(void *arg) { return (void)arg, lock_and_unlock(WEFT_NOWAIT); }

Test(mutex, lock_is_a_cancellation_point_unless_NOWAIT_C3)
{
    cr_assert_eq(call_with_kill_pending(lock_for_ever, NULL), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(lock_at_once, NULL), 0);
}

Test(mutex, raw_link_may_only_try_T8)
{
    cr_assert_eq(call_in_raw_link(lock_for_ever, NULL), -EPERM);
    cr_assert_eq(call_in_raw_link(lock_at_once, NULL), 0);
}

/* ---- Memory ---- */

/* The last one that needs it frees it, right after its unlock, while the one before it may still be inside its own. */
struct counted {
    struct weft_mutex mutex;
    int users;
};

static int leave_counted(void *arg, void **value)
{
    (void)value;
    struct counted **all = ((struct player *)arg)->arg;
    for (int i = 0; i < LAPS; i++) {
        struct counted *counted = all[i];
        CHECK(weft_mutex_lock(&counted->mutex, WEFT_FOREVER) == 0);
        bool last = --counted->users == 0;
        weft_mutex_unlock(&counted->mutex);
        if (last) {
            memset(counted, 0xdd, sizeof *counted);
            free(counted);
        }
    }
    return 0;
}

Test(mutex, memory_may_go_after_the_last_unlock_H20)
{
    static struct counted *all[LAPS];
    struct player players[MOST_PLAYERS];
    for (int i = 0; i < LAPS; i++) {
        all[i] = calloc(1, sizeof *all[i]);
        all[i]->users = MOST_PLAYERS;
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, leave_counted, all);
    }
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
}

/* ---- Misuse ---- */

static void unlock_what_nobody_holds(void) { weft_mutex_unlock(&mutex); }

Test(mutex_alone, unlock_by_who_does_not_hold_it_ends_a_debug_build_B1)
{
    struct child child = child_run(unlock_what_nobody_holds);
#ifdef WEFT_DEBUG
    cr_assert(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
    cr_assert(strstr(child.text, "weft_mutex_unlock") != NULL, "%s", child.text);
#else
    cr_assert_eq(child.status, 0);
#endif
}
