/* Slots of a pool: hand-over against timeout, kill of the waiter, kill of the group, watchers, and loans (P2, P4, P6, H23, H24,
 * H28).
 *
 * Spawners on threads and in tasks want a slot. No more members run at once than there are slots; a spawn that failed never runs
 * anything, one that succeeded runs its task once, or the group's kill cancelled it. In some runs members spawn into their own
 * pool and wait for what they spawned, whose only hope is the slot that they lend; then members may be over by those that came
 * back. At the end every slot is free again: a slot that was lost on the way shows there, or as a hang of those that wait for it.
 * A waiting spawner keeps the group non-empty until its task is a member (G5), which `observe` watches. */
#include "group.h"
#include "scene.h"

#define MAX_SPAWNERS 4
#define MAX_TRIES 2

static struct spawner {
    bool is_task, calling, slept, gap;
    struct weft_slot *slot;
    struct weft_task *task; /* the spawner itself, if it is one */
    struct attempt {
        bool done;
        int rc, ran, nested_ran;
    } tries[MAX_TRIES];
    unsigned n_tries, now;
} spawners[MAX_SPAWNERS];

static struct weft_runtime *runtime;
static struct weft_group *pool;
static unsigned n_spawners, size, running;
static bool group_is_killed, nesting;

static void observe(void)
{
    if (pool == NULL) {
        return;
    }
    bool empty = weft_group_pending(atomic_load(&pool->word)) == 0;
    for (unsigned i = 0; i < n_spawners; i++) {
        struct spawner *spawner = &spawners[i];
        if (spawner->calling) {
            unsigned state = weft_claim_state(atomic_load(&spawner->slot->claim));
            spawner->slept |= state == WEFT_CLAIM_PARKED;
            spawner->gap |= spawner->slept && empty && state == WEFT_CLAIM_WOKEN && spawner->tries[spawner->now].ran == 0;
        }
    }
}

static void begins(void)
{
    if (++running > size && !nesting) {
        sim_fail("%u members run in a pool of %u", running, size);
    }
}

static int nested_member(void *arg, void **result)
{
    (void)result;
    ((struct attempt *)arg)->nested_ran++;
    begins();
    if (sim_choose(2) == 0) {
        weft_yield();
    }
    running--;
    return 0;
}

/* With the last slot held by others that do the same, a spawn may be refused: it would close the circle (P7). */
static int spawn_and_wait(struct attempt *attempt)
{
    struct weft_task *task;
    int rc = weft_group_spawn(pool, nested_member, attempt, &task);
    SIM_CHECK(rc == 0 || rc == -EDEADLK || ((rc == -ECANCELED || rc == -ESHUTDOWN) && group_is_killed));
    if (rc == 0) {
        struct weft_outcome outcome;
        rc = weft_task_get(task, WEFT_FOREVER, &outcome);
        SIM_CHECK(rc == 0 ? attempt->nested_ran == 1 || group_is_killed : rc == -ECANCELED && group_is_killed);
        weft_task_release(task);
        sim_count("waited for a nested task");
    } else if (rc == -EDEADLK) {
        sim_count("would close the circle");
        rc = 0;
    }
    return rc;
}

static int member(void *arg, void **result)
{
    struct attempt *attempt = arg;
    (void)result;
    attempt->ran++;
    begins();
    int rc = 0;
    switch (sim_choose(nesting ? 4 : 3)) {
    case 3: rc = spawn_and_wait(attempt); break;
    case 0: break;
    case 1: weft_yield(); break;
    default: rc = weft_sleep_until(weft_after(MICROSECOND)); break;
    }
    running--;
    return rc;
}

static void spawn_all(struct spawner *self)
{
    self->slot = weft_slot_self();
    for (unsigned i = 0; i < self->n_tries; i++) {
        struct attempt *attempt = &self->tries[i];
        int64_t deadline = WEFT_FOREVER;
        switch (sim_choose(4)) {
        case 0: deadline = WEFT_NOWAIT; break;
        case 1: deadline = weft_after((int64_t)sim_choose(2) * MICROSECOND); break;
        default: break;
        }
        self->now = i;
        self->slept = self->gap = false;
        self->calling = true;
        int rc = weft_group_spawn_with(pool, member, attempt, NULL, deadline, NULL);
        self->calling = false;
        attempt->done = true;
        attempt->rc = rc;
        SIM_CHECK(rc == 0 || attempt->ran == 0);
        switch (rc) {
        case 0:
            sim_count(self->slept ? "spawned after a wait" : "spawned at once");
            SIM_CHECK(!self->gap || group_is_killed);
            break;
        case -EAGAIN: SIM_CHECK(deadline == WEFT_NOWAIT); break;
        case -ETIMEDOUT: SIM_CHECK(deadline > 0 && weft_now() >= deadline); break;
        case -ECANCELED: SIM_CHECK(self->is_task); break;
        case -ESHUTDOWN: SIM_CHECK(group_is_killed); break;
        default: sim_fail("spawn returned %d", rc);
        }
        if (rc == -ETIMEDOUT || rc == -ECANCELED || rc == -ESHUTDOWN) {
            sim_count(rc == -ETIMEDOUT ? "timed out" : rc == -ECANCELED ? "killed" : "shut out");
        }
    }
    scene_done();
}

static void spawn_from_thread(void *arg) { spawn_all(arg); }

static int spawn_from_task(void *arg, void **result)
{
    (void)result;
    spawn_all(arg);
    return 0;
}

static void killer(void *arg)
{
    struct spawner *victim = arg;
    scene_pause(30);
    int rc = weft_task_kill(victim->task, -EINTR, WEFT_NOWAIT);
    SIM_CHECK(rc == 0 || rc == -EALREADY);
    if (victim->n_tries > 0 && !weft_task_finished(victim->task)) {
        sim_count("a spawner was killed");
    }
    scene_done();
}

static void group_killer(void *arg)
{
    (void)arg;
    scene_pause(60);
    group_is_killed = true;
    int rc = weft_group_kill(pool, 0, sim_choose(2) == 0 ? WEFT_NOWAIT : WEFT_FOREVER);
    SIM_CHECK(rc == 0);
    scene_done();
}

static void watcher(void *arg)
{
    (void)arg;
    int64_t deadline = sim_choose(2) == 0 ? weft_after(MICROSECOND) : WEFT_FOREVER;
    int rc = weft_pool_wait_available(pool, deadline);
    SIM_CHECK(rc > 0 ? rc <= (int)size : rc == 0 && weft_now() >= deadline);
    scene_done();
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(2);
    SIM_CHECK(weft_pool_create(runtime, size, NULL, &pool) == 0);
    for (unsigned i = 0; i < n_spawners; i++) {
        struct spawner *spawner = &spawners[i];
        if (spawner->is_task) {
            scene_left++;
            SIM_CHECK(weft_task_spawn(runtime, spawn_from_task, spawner, NULL, &spawner->task) == 0);
            if (sim_choose(2) == 0) {
                scene_start(killer, spawner, "killer");
            }
        } else {
            scene_start(spawn_from_thread, spawner, "spawner");
        }
    }
    if (sim_choose(3) == 0) {
        scene_start(watcher, NULL, "watcher");
    }
    if (sim_choose(5) == 0) {
        scene_start(group_killer, NULL, "group killer");
    }
    for (unsigned i = 0; i < n_spawners; i++) {
        if (spawners[i].is_task) {
            struct weft_outcome outcome;
            SIM_CHECK(weft_task_get(spawners[i].task, WEFT_FOREVER, &outcome) == 0);
            scene_left -= outcome.status == WEFT_CANCELLED; /* it never ran */
        }
    }
    scene_wait();
    SIM_CHECK(weft_group_join(pool, WEFT_FOREVER) == 0);
    SIM_CHECK(running == 0 && weft_group_len(pool) == 0);
    SIM_CHECK(weft_pool_free_count(pool) == size);
    for (unsigned i = 0; i < n_spawners; i++) {
        weft_task_release(spawners[i].task);
    }
    struct weft_group *gone = pool;
    pool = NULL;
    SIM_CHECK(weft_group_destroy(gone) == 0);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void)
{
    size = 1 + sim_choose(2);
    nesting = sim_choose(3) == 0;
    n_spawners = 1 + sim_choose(MAX_SPAWNERS);
    for (unsigned i = 0; i < n_spawners; i++) {
        spawners[i].is_task = sim_choose(2) == 0;
        spawners[i].n_tries = 1 + sim_choose(MAX_TRIES);
    }
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    for (unsigned i = 0; i < n_spawners; i++) {
        for (unsigned k = 0; k < spawners[i].n_tries; k++) {
            const struct attempt *attempt = &spawners[i].tries[k];
            bool accepted = attempt->done && attempt->rc == 0;
            SIM_CHECK(attempt->ran <= 1 && (accepted || attempt->ran == 0));
            SIM_CHECK(!accepted || attempt->ran == 1 || group_is_killed);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = {
        .name = "admission", .setup = setup, .check = check, .observe = observe, .length = 1000, .tick = MICROSECOND
    };
    return sim_main(argc, argv, &kernel);
}
