/* cancellation points: which calls deliver a kill, and which never do (contract C3); and kills that race with waits, with deadlines
 * and with the next task (H21, H22, H45). WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "tasks.h"

static struct weft_runtime *runtime, *other;

/* What the calls below work on: all finished, empty or free, so that none of them has to wait. */
static struct weft_task *done, *spare;
static struct weft_group *group, *pool;
static struct weft_imap *imap;

static void on_end(struct weft_task *task, const struct weft_outcome *outcome, void *arg) { (void)task, (void)outcome, (void)arg; }

static struct weft_array array;
static const struct weft_source source = { weft_array_next, &array, NULL };

static void setup(void)
{
    runtime = runtime_with(weft_test_workers());
    other = runtime_with(1);
    done = spawn_in(runtime, do_nothing, NULL);
    cr_assert_eq(weft_task_join(done, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &spare), 0);
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    cr_assert_eq(weft_pool_create(runtime, 2, NULL, &pool), 0);
    struct weft_item end;
    cr_assert_eq(weft_group_imap(NULL, &source, 1, element_nothing, NULL, NULL, &imap), 0);
    cr_assert_eq(weft_imap_next(imap, &end, WEFT_FOREVER), 0);
}

static void teardown(void)
{
    (void)weft_imap_destroy(imap);
    weft_task_release(done);
    weft_task_release(spare);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
    cr_assert_eq(weft_group_destroy(pool), 0);
    (void)weft_runtime_destroy(other);
    (void)weft_runtime_destroy(runtime);
}

struct call {
    const char *name;
    int (*make)(void);
};

/* ---- Those that deliver, though none has to wait ---- */

static int p_sleep_past(void) { return weft_sleep_until(1); }
static int p_sleep_now(void) { return weft_sleep_until(WEFT_NOWAIT); }
static int p_sleep(void) { return weft_sleep_until(WEFT_FOREVER); }
static int p_join(void) { return weft_task_join(done, WEFT_FOREVER); }
static int p_join_past(void) { return weft_task_join(done, 1); }
static int p_get(void)
{
    struct weft_outcome outcome;
    return weft_task_get(done, WEFT_FOREVER, &outcome);
}
static int p_tasks_wait(void) { return weft_tasks_wait(&done, 1, 1, WEFT_FOREVER); }
static int p_tasks_wait_none(void) { return weft_tasks_wait(&done, 1, 0, WEFT_FOREVER); }
static int p_runtime_join(void) { return weft_runtime_join(other, WEFT_FOREVER); }
static int p_group_join(void) { return weft_group_join(group, WEFT_FOREVER); }
static int p_group_spawn(void) { return weft_group_spawn(group, do_nothing, NULL, NULL); }
static int p_pool_spawn(void) { return weft_group_spawn(pool, do_nothing, NULL, NULL); }
static int p_spawn_with(void) { return weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_FOREVER, NULL); }
static int p_wait_available(void) { return weft_pool_wait_available(pool, WEFT_FOREVER); }
static int p_map(void) { return weft_group_map(group, item_nothing, NULL, 4, NULL, 0, NULL, 0, NULL); }
static int p_for(void) { return weft_group_for(NULL, 0, 4, range_nothing, NULL, NULL); }
static int p_add(void) { return weft_group_add(pool, done, WEFT_FOREVER); }
static int p_start(void) { return weft_group_start(pool, spare, WEFT_FOREVER); }
static int p_apply(void) { return weft_group_apply(pool, do_nothing, NULL, NULL); }
static int p_apply_private(void) { return weft_group_apply(NULL, do_nothing, NULL, NULL); }
static int p_join_outcome(void) { return weft_group_join_outcome(group, WEFT_FOREVER, NULL, NULL); }
static int p_imap_next(void)
{
    struct weft_item next;
    return weft_imap_next(imap, &next, WEFT_FOREVER);
}

static const struct call points[] = {
    { "sleep_until in the past", p_sleep_past },
    { "sleep_until(WEFT_NOWAIT)", p_sleep_now },
    { "sleep_until", p_sleep },
    { "join", p_join },
    { "join with a past deadline", p_join_past },
    { "get", p_get },
    { "tasks_wait", p_tasks_wait },
    { "tasks_wait for none", p_tasks_wait_none },
    { "runtime_join", p_runtime_join },
    { "group_join", p_group_join },
    { "group_spawn", p_group_spawn },
    { "group_spawn into a pool", p_pool_spawn },
    { "group_spawn_with", p_spawn_with },
    { "pool_wait_available", p_wait_available },
    { "group_add", p_add },
    { "group_start", p_start },
    { "group_apply", p_apply },
    { "group_apply in a private group", p_apply_private },
    { "group_join_outcome", p_join_outcome },
    { "map", p_map },
    { "for", p_for },
    { "imap_next", p_imap_next },
};

/* ---- Those that never do ---- */

static int n_yield(void)
{
    weft_yield();
    return 0;
}
static int n_spawn(void) { return weft_task_spawn(runtime, do_nothing, NULL, NULL, NULL); }
static int n_create(void)
{
    struct weft_task *task;
    int rc = weft_task_create(runtime, do_nothing, NULL, NULL, &task);
    weft_task_release(task);
    return rc;
}
static int n_start(void) { return weft_task_start(done) == -EALREADY ? 0 : -EIO; }
static int n_kill(void) { return weft_task_kill(done, 0, WEFT_NOWAIT); }

static int wait_a_little(void *arg, void **value)
{
    (void)arg, (void)value;
    return weft_sleep_until(weft_after(WEFT_MSEC)) == -ECANCELED ? weft_sleep_until(weft_after(WEFT_MSEC)) : 0;
}

/* It waits, and is not woken by the caller's own kill. */
static int n_kill_and_wait(void)
{
    struct weft_task *task = spawn_in(runtime, wait_a_little, NULL);
    int rc = weft_task_kill(task, 0, WEFT_FOREVER);
    rc = rc == 0 && !weft_task_finished(task) ? -EIO : rc;
    weft_task_release(task);
    return rc;
}
static int n_group_kill(void) { return weft_group_kill(group, 0, WEFT_FOREVER); }
static int n_runtime_kill(void) { return weft_runtime_kill(other, 0); }
static int n_link(void)
{
    uint64_t id;
    int rc = weft_task_link(spare, on_end, NULL, WEFT_ON_ANY, &id);
    return rc != 0 ? rc : weft_task_unlink(spare, id);
}
static int n_take(void)
{
    void *value;
    int rc = weft_task_take(done, &value);
    return rc == -EALREADY ? 0 : rc;
}
static int n_join_nowait(void) { return weft_task_join(done, WEFT_NOWAIT); }
static int n_get_nowait(void)
{
    struct weft_outcome outcome;
    return weft_task_get(done, WEFT_NOWAIT, &outcome);
}
static int n_tasks_wait_nowait(void) { return weft_tasks_wait(&done, 1, 1, WEFT_NOWAIT) == 1 ? 0 : -EIO; }
static int n_runtime_join_nowait(void) { return weft_runtime_join(other, WEFT_NOWAIT); }
static int n_group_join_nowait(void)
{
    int rc = weft_group_join(group, WEFT_NOWAIT);
    return rc == -ETIMEDOUT ? 0 : rc;
}
static int n_spawn_with_nowait(void)
{
    int rc = weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL);
    return rc == -EAGAIN ? 0 : rc;
}
static int n_wait_available_nowait(void)
{
    int rc = weft_pool_wait_available(pool, WEFT_NOWAIT);
    return rc > 0 ? 0 : rc;
}
static int n_add_nowait(void) { return weft_group_add(pool, done, WEFT_NOWAIT); }
static int n_join_outcome_nowait(void)
{
    int rc = weft_group_join_outcome(group, WEFT_NOWAIT, NULL, NULL);
    return rc == -ETIMEDOUT ? 0 : rc;
}
static int n_discard(void) { return weft_group_discard(pool, done); }
static int n_contains(void) { return weft_group_contains(pool, done) || weft_group_snapshot(pool, NULL, 0) > 2; }
static int n_kill_one(void)
{
    int rc = weft_group_kill_one(pool, done, 0, WEFT_FOREVER);
    return rc == -ENOENT ? 0 : rc;
}
static int n_close(void)
{
    struct weft_group *made;
    int rc = weft_group_create(runtime, NULL, &made);
    weft_group_close(made);
    return rc != 0 ? rc : weft_group_destroy(made);
}
static int n_resize(void) { return weft_pool_resize(pool, 2); }
static int n_task_options(void) { return weft_group_set_task_options(group, NULL); }
static int n_apply_async(void) { return weft_group_apply_async(pool, do_nothing, NULL, NULL, NULL); }
static int n_start_nowait(void)
{
    struct weft_task *made;
    int rc = weft_task_create(runtime, do_nothing, NULL, NULL, &made);
    int started = rc == 0 ? weft_group_start(group, made, WEFT_NOWAIT) : rc;
    weft_task_release(made);
    return started == 1 ? 0 : started;
}
static int n_group_life(void)
{
    struct weft_group *made;
    int rc = weft_group_create(runtime, NULL, &made);
    return rc != 0 ? rc : weft_group_destroy(made);
}
static int n_pool_life(void)
{
    struct weft_group *made;
    int rc = weft_pool_create(runtime, 1, NULL, &made);
    return rc != 0 ? rc : weft_group_destroy(made);
}
static int n_imap_life(void)
{
    struct weft_imap *made;
    int rc = weft_group_imap(NULL, &source, 1, element_nothing, NULL, NULL, &made);
    if (rc == 0) {
        weft_imap_close(made);
        rc = weft_imap_destroy(made);
    }
    return rc;
}
static int n_runtime_life(void)
{
    struct weft_runtime *made;
    int rc = weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 1), &made);
    return rc != 0 ? rc : weft_runtime_destroy(made);
}
static int n_stats(void)
{
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    return weft_runtime_read_stats(runtime, &stats);
}

static const struct call nevers[] = {
    { "yield", n_yield },
    { "task_spawn", n_spawn },
    { "task_create, release", n_create },
    { "start", n_start },
    { "kill", n_kill },
    { "kill with a deadline", n_kill_and_wait },
    { "group_kill with a deadline", n_group_kill },
    { "runtime_kill", n_runtime_kill },
    { "link, unlink", n_link },
    { "take", n_take },
    { "join(WEFT_NOWAIT)", n_join_nowait },
    { "get(WEFT_NOWAIT)", n_get_nowait },
    { "tasks_wait(WEFT_NOWAIT)", n_tasks_wait_nowait },
    { "runtime_join(WEFT_NOWAIT)", n_runtime_join_nowait },
    { "group_join(WEFT_NOWAIT)", n_group_join_nowait },
    { "group_spawn_with(WEFT_NOWAIT)", n_spawn_with_nowait },
    { "pool_wait_available(WEFT_NOWAIT)", n_wait_available_nowait },
    { "group_add(WEFT_NOWAIT)", n_add_nowait },
    { "group_start(WEFT_NOWAIT)", n_start_nowait },
    { "group_join_outcome(WEFT_NOWAIT)", n_join_outcome_nowait },
    { "group_discard", n_discard },
    { "group_contains, snapshot", n_contains },
    { "group_kill_one with a deadline", n_kill_one },
    { "group_close", n_close },
    { "pool_resize", n_resize },
    { "group_set_task_options", n_task_options },
    { "group_apply_async", n_apply_async },
    { "group_create, destroy", n_group_life },
    { "pool_create, destroy", n_pool_life },
    { "imap, close, destroy", n_imap_life },
    { "runtime_create, destroy", n_runtime_life },
    { "read_stats", n_stats },
};

struct trial {
    int (*make)(void);
    int rc, next;
};

static int try_when_killed(void *arg, void **value)
{
    (void)value;
    struct trial *trial = arg;
    gate_open(&begun);
    gate_wait(&open_gate, 1);
    trial->rc = trial->make();
    trial->next = weft_sleep_until(WEFT_NOWAIT);
    return 0;
}

static struct trial try(const struct call *call)
{
    struct trial trial = { .make = call->make };
    atomic_store(&begun, 0);
    atomic_store(&open_gate, 0);
    struct weft_task *task = spawn_in(runtime, try_when_killed, &trial);
    gate_wait(&begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(task).error, 0, "%s", call->name);
    return trial;
}

TestSuite(cancel_point, .init = setup, .fini = teardown);

Test(cancel_point, every_one_delivers_on_entry_though_it_need_not_wait_C3)
{
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct trial trial = try(&points[i]);
        cr_assert_eq(trial.rc, -ECANCELED, "%s: %d", points[i].name, trial.rc);
        cr_assert_eq(trial.next, 0, "%s: once", points[i].name);
    }
}

Test(cancel_point, nothing_else_delivers_C3)
{
    for (size_t i = 0; i < sizeof nevers / sizeof *nevers; i++) {
        struct trial trial = try(&nevers[i]);
        cr_assert_eq(trial.rc, 0, "%s: %d", nevers[i].name, trial.rc);
        cr_assert_eq(trial.next, -ECANCELED, "%s: it is still to be delivered", nevers[i].name);
    }
}

/* ---- Races ---- */

static uint64_t seed = 12345;

static unsigned next_random(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 40);
}

static int take_kills(void *arg, void **value)
{
    (void)value;
    uint64_t random = 1;
    gate_open(&begun);
    for (int i = *(int *)arg; i > 0; i--) {
        random = random * UINT64_C(6364136223846793005) + 1;
        for (volatile unsigned delay = (unsigned)(random >> 58); delay > 0; delay--) {
        }
        CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    }
    return 0;
}

/* The next kill is accepted as soon as the last was delivered, so it comes while the task is on its way to sleep: it wakes all the
 * same, or is refused for ever. */
Test(cancel_point, kill_between_check_and_sleep_is_not_missed_H22)
{
    int kills = weft_test_full() ? 20000000 : 200000;
    struct weft_task *task = spawn_in(runtime, take_kills, &kills);
    gate_wait(&begun, 1);
    int64_t deadline = weft_after(PATIENCE);
    for (int accepted = 0; accepted < kills;) {
        int rc = weft_task_kill(task, 0, WEFT_NOWAIT);
        cr_assert(rc == 0 || rc == -EALREADY);
        accepted += rc == 0;
        if (rc == 0) {
            deadline = weft_after(PATIENCE);
        } else if (weft_now() > deadline) {
            cr_assert_fail("kill %d was missed", accepted);
        }
    }
    cr_assert_eq(finish_task(task).error, 0);
}

static _Atomic int timed_out, killed_first;

/* A deadline that passed first leaves the kill for the next point; a kill that came first is reported as one. */
static int sleep_until_deadline(void *arg, void **value)
{
    (void)value;
    int64_t deadline = weft_after(50000);
    atomic_store((_Atomic int64_t *)arg, deadline);
    int rc = weft_task_join(spare, deadline);
    CHECK(rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == -ETIMEDOUT) {
        CHECK(weft_now() >= deadline);
        CHECK(weft_sleep_until(WEFT_FOREVER) == -ECANCELED);
    } else {
        CHECK(weft_sleep_until(WEFT_NOWAIT) == 0);
    }
    gate_open(rc == -ETIMEDOUT ? &timed_out : &killed_first);
    return 0;
}

Test(cancel_point, kill_beside_the_deadline_is_delivered_exactly_once_H21)
{
    const int rounds = weft_test_full() ? 20000 : 500;
    bool both = false; /* a busy machine may miss one of them for long */
    for (int round = 0; round < rounds || (!both && round < 40 * rounds); round++) {
        _Atomic int64_t deadline = 0;
        struct weft_task *task = spawn_in(runtime, sleep_until_deadline, &deadline);
        until(atomic_load(&deadline) != 0);
        int64_t strike = atomic_load(&deadline) - 40000 + (int64_t)(next_random() % 60000);
        while (weft_now() < strike) {
        }
        cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
        int error = finish_task(task).error;
        cr_assert_eq(error, 0, "round %d, line %d", round, -error - 10000);
        both = atomic_load(&timed_out) > 0 && atomic_load(&killed_first) > 0;
    }
    cr_log_info("%d timed out first, %d were killed first\n", atomic_load(&timed_out), atomic_load(&killed_first));
    cr_assert(both);
}

static _Atomic int wrongly_killed, survivors;

static int be_short(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    return 0;
}

static int be_innocent(void *arg, void **value)
{
    (void)arg, (void)value;
    bool good = weft_checkpoint() == 0 && weft_sleep_until(WEFT_NOWAIT) == 0;
    weft_yield();
    good = good && weft_checkpoint() == 0 && weft_sleep_until(weft_after(1)) == 0;
    gate_open(good ? &survivors : &wrongly_killed);
    return 0;
}

/* Tasks that end while they are killed, and tasks after them on the same fibers. */
Test(cancel_point, late_kill_never_meets_the_next_task_H45)
{
    const int rounds = weft_test_full() ? 100000 : 2000;
    int late = 0;
    for (int round = 0; round < rounds; round++) {
        atomic_store(&begun, 0);
        struct weft_task *victim = spawn_in(runtime, be_short, NULL);
        cr_assert_eq(weft_task_spawn(runtime, be_innocent, NULL, NULL, NULL), 0);
        if (round % 2 == 0) {
            gate_wait(&begun, 1);
        }
        cr_assert_eq(weft_task_kill(victim, 0, WEFT_NOWAIT), 0);
        cr_assert_eq(weft_task_spawn(runtime, be_innocent, NULL, NULL, NULL), 0);
        late += finish_task(victim).status == WEFT_OK;
    }
    cr_assert_eq(weft_runtime_join(runtime, WEFT_FOREVER), 0);
    cr_log_info("%d of %d kills came late\n", late, rounds);
    cr_assert_eq(atomic_load(&wrongly_killed), 0);
    cr_assert_eq(atomic_load(&survivors), 2 * rounds);
}
