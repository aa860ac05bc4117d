/* Memberships: the end of a task, discard, add, start, an apply that is admitted, and kill, at once (G3, G4, G7, P4, P5, A3).
 *
 * Threads do these things to a few tasks in a pool and in a plain group. Some tasks wait for the one before them, and so lend what
 * they hold, which may be discarded meanwhile. Each add, start and discard that says 1 is matched by what the groups count in the
 * end: nobody, with every slot free. A task that an apply queued and a kill ended before it was admitted never runs; every argument is
 * freed once. A slot that is given back twice shows as too many free ones, one that is lost as too few, or as a hang. */
#include "membership.h"
#include "sim.h"

#define MAX_TASKS 3
#define MAX_ACTORS 3
#define MAX_DEEDS 2
#define MICROSECOND INT64_C(1000)

static struct subject {
    struct weft_task *task;
    unsigned ran, freed;
} subjects[MAX_TASKS + MAX_ACTORS * MAX_DEEDS];

static struct weft_runtime *runtime;
static struct weft_group *pool, *plain;
static unsigned n_tasks, n_subjects, n_actors, actors_left;

/* At any moment a task is in a group once at most. */
static unsigned memberships(struct weft_task *task, struct weft_group *group)
{
    unsigned n = atomic_load(&task->group) == group;
    struct weft_task_ext *ext = atomic_load(&task->ext);
    struct weft_membership *membership = ext ? atomic_load(&ext->memberships) : NULL;
    for (; membership; membership = membership->next) {
        n += membership->group == group;
    }
    return n;
}

static void observe(void)
{
    for (unsigned i = 0; i < n_tasks; i++) {
        struct weft_task *task = subjects[i].task;
        SIM_CHECK(!task || (memberships(task, pool) <= 1 && memberships(task, plain) <= 1));
    }
}

static int nested(void *arg, void **result)
{
    (void)arg, (void)result;
    if (sim_choose(2) == 0) {
        weft_yield();
    }
    return 0;
}

/* Into the pool, perhaps on a loan of whoever waits for the caller. */
static int spawn_nested(void)
{
    int rc = weft_group_spawn_with(pool, nested, NULL, NULL, sim_choose(2) == 0 ? WEFT_NOWAIT : weft_after(MICROSECOND), NULL);
    if (rc == 0) {
        weft_yield();
    }
    return 0;
}

static int body(void *arg, void **result)
{
    struct subject *subject = arg;
    (void)result;
    subject->ran++;
    unsigned index = (unsigned)(subject - subjects);
    switch (sim_choose(6)) {
    case 0: weft_yield(); return 0;
    case 5: return spawn_nested();
    case 1: return weft_sleep_until(weft_after(MICROSECOND));
    case 2: return -EIO;
    case 3:
        if (index > 0 && index < n_tasks) {
            int rc = weft_task_join(subjects[index - 1].task, weft_after(MICROSECOND));
            return rc == -ETIMEDOUT ? 0 : rc;
        }
        return 0;
    default: return 0;
    }
}

static void free_arg(void *arg) { ((struct subject *)arg)->freed++; }

static const struct weft_task_options options = { .struct_size = sizeof options, .arg_free = free_arg };

static bool is_refusal(int rc) { return rc == -EAGAIN || rc == -ETIMEDOUT || rc == -ESHUTDOWN; }

static void apply(struct weft_group *group)
{
    struct subject *subject = &subjects[n_subjects++];
    const struct weft_apply_options how = { .struct_size = sizeof how, .task_options = &options };
    SIM_CHECK(weft_group_apply_async(group, body, subject, &how, &subject->task) == 0);
    if (sim_choose(2) == 0) {
        bool inside = weft_group_contains(group, subject->task) || subject->ran > 0;
        int rc = weft_task_kill(subject->task, 0, WEFT_NOWAIT);
        SIM_CHECK(rc == 0 || rc == -EALREADY);
        if (!inside && weft_task_finished(subject->task)) {
            sim_count("killed while queued");
        }
    }
}

static void deed(void)
{
    struct weft_group *group = sim_choose(4) == 0 ? plain : pool;
    struct weft_task *task = subjects[sim_choose(n_tasks)].task;
    int64_t deadline = sim_choose(2) == 0 ? WEFT_NOWAIT : weft_after(MICROSECOND);
    int rc;
    switch (sim_choose(9)) {
    case 0:
    case 1:
        rc = weft_group_add(group, task, deadline);
        SIM_CHECK(rc == 0 || rc == 1 || rc == -EALREADY || is_refusal(rc));
        SIM_CHECK(rc != 0 || weft_task_finished(task));
        sim_count(rc == 1 ? "added" : rc == 0 ? "too late to be added" : rc == -EALREADY ? "there already" : "refused");
        break;
    case 2:
        rc = weft_group_start(group, task, deadline);
        SIM_CHECK(rc == 0 || rc == 1 || rc == -EALREADY || is_refusal(rc));
        sim_count(rc == 1 ? "started" : rc == 0 ? "killed after the claim" : "not started");
        break;
    case 3:
    case 4: sim_count(weft_group_discard(group, task) == 1 ? "discarded" : "no member"); break;
    case 5:
        rc = weft_group_kill_one(group, task, 0, WEFT_NOWAIT);
        SIM_CHECK(rc == 0 || rc == -ENOENT || rc == -EALREADY);
        break;
    case 6: SIM_CHECK(weft_pool_resize(pool, 1 + sim_choose(2)) == 0); break;
    case 7: apply(group); break;
    default:
        if (sim_choose(3) == 0) {
            SIM_CHECK(weft_group_kill(group, 0, WEFT_NOWAIT) == 0);
        }
    }
}

static void actor(void *arg)
{
    (void)arg;
    for (unsigned i = 1 + sim_choose(MAX_DEEDS); i > 0; i--) {
        deed();
    }
    actors_left--;
}

static void begin(struct subject *subject)
{
    switch (sim_choose(3)) {
    case 0: SIM_CHECK(weft_task_create(runtime, body, subject, &options, &subject->task) == 0); return;
    case 1:
        if (weft_group_spawn_with(pool, body, subject, &options, WEFT_NOWAIT, &subject->task) == 0) {
            return;
        } /* fall through */
    default: SIM_CHECK(weft_task_spawn(runtime, body, subject, &options, &subject->task) == 0);
    }
}

static void driver(void *arg)
{
    (void)arg;
    const struct weft_runtime_options made = {
        .struct_size = sizeof made, .workers = 1 + sim_choose(2), .stack_size = 16384, .guard_size = 4096
    };
    SIM_CHECK(weft_runtime_create(&made, &runtime) == 0);
    SIM_CHECK(weft_pool_create(runtime, 1 + sim_choose(2), NULL, &pool) == 0);
    SIM_CHECK(weft_group_create(runtime, NULL, &plain) == 0);
    for (unsigned i = 0; i < n_tasks; i++) {
        begin(&subjects[i]);
    }
    for (unsigned i = 0; i < n_actors; i++) {
        actors_left++;
        sim_spawn(actor, NULL, "actor");
    }
    while (actors_left > 0) {
        sim_spin();
    }
    for (unsigned i = 0; i < n_tasks; i++) {
        SIM_CHECK(weft_task_state(subjects[i].task) != WEFT_TASK_CLAIMED); /* a refused start has given it back */
        int rc = weft_task_kill(subjects[i].task, 0, WEFT_FOREVER);
        SIM_CHECK(rc == 0);
    }
    struct weft_outcome outcome;
    SIM_CHECK(weft_group_join(plain, WEFT_FOREVER) == 0); /* its members may spawn into the pool */
    SIM_CHECK(weft_group_join_outcome(pool, WEFT_FOREVER, &outcome, NULL) == 0);
    SIM_CHECK(outcome.status == WEFT_OK || outcome.error == -EIO);
    SIM_CHECK(weft_group_join(pool, WEFT_FOREVER) == 0); /* it was empty once: and now is for good */
    SIM_CHECK(weft_group_len(pool) == 0 && weft_group_len(plain) == 0);
    SIM_CHECK(atomic_load(&pool->extras) == 0 && atomic_load(&plain->extras) == 0);
    SIM_CHECK(weft_pool_free_count(pool) == weft_pool_size(pool));
    SIM_CHECK(atomic_load(&pool->admission.loan_count) == 0);
    for (unsigned i = 0; i < n_subjects; i++) {
        SIM_CHECK(weft_task_finished(subjects[i].task));
        SIM_CHECK(!weft_group_contains(pool, subjects[i].task) && !weft_group_contains(plain, subjects[i].task));
        struct weft_task *gone = subjects[i].task;
        subjects[i].task = NULL;
        weft_task_release(gone);
    }
    SIM_CHECK(weft_group_destroy(pool) == 0 && weft_group_destroy(plain) == 0);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void)
{
    n_tasks = n_subjects = 1 + sim_choose(MAX_TASKS);
    n_actors = 1 + sim_choose(MAX_ACTORS);
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    for (unsigned i = 0; i < n_subjects; i++) {
        SIM_CHECK(subjects[i].ran <= 1 && subjects[i].freed == 1);
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = {
        .name = "membership", .setup = setup, .check = check, .observe = observe, .length = 800, .tick = MICROSECOND
    };
    return sim_main(argc, argv, &kernel);
}
