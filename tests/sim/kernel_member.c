/* Membership between threads (G1, G5, G7, G10, H24): groups made from tasks that are about to end, spawns into a group that is being
 * killed, and destroy beside killers.
 *
 * Each task in a group ends when it is killed and not before, unless it is a short one. A group made from a task has it as a member, or
 * finds it finished: then its join returns all the same. A kill that waits reaches who came in before and meanwhile: nobody is left
 * sleeping, or the run hangs. A group whose destroy said 0 is nobody's any more: the next one that is made in its place is as new. */
#include "group.h"
#include "scene.h"

#define MAX_TASKS 3
#define MAX_SPAWNS 3

static struct weft_runtime *runtime;
static struct weft_group *group;
static struct weft_task *tasks[MAX_TASKS];
static unsigned n_tasks, running, killers_left;

static int live(void *arg, void **result)
{
    (void)result;
    running++;
    int rc = 0;
    if (arg) {
        rc = weft_sleep_until(WEFT_FOREVER);
        SIM_CHECK(rc == -ECANCELED);
    } else if (sim_choose(2) == 0) {
        weft_yield();
    }
    running--;
    return rc;
}

/* ---- a group made from short tasks, beside their end ---- */

static void gatherer(void *arg)
{
    (void)arg;
    struct weft_task *mine[MAX_TASKS];
    struct weft_group *made;
    const struct weft_group_options options = { .struct_size = sizeof options, .tasks = mine, .n_tasks = n_tasks };
    for (unsigned i = 0; i < n_tasks; i++) {
        mine[i] = tasks[i]; /* with a reference each */
    }
    if (sim_choose(2) == 0) {
        SIM_CHECK(weft_pool_create(runtime, 1, &options, &made) == 0);
    } else {
        SIM_CHECK(weft_group_create(runtime, &options, &made) == 0);
    }
    weft_tasks_release(mine, n_tasks);
    sim_count(weft_group_len(made) > 0 ? "gathered live tasks" : "gathered none");
    SIM_CHECK(weft_group_join(made, WEFT_FOREVER) == 0);
    SIM_CHECK(weft_group_len(made) == 0 && weft_pool_free_count(made) == 1);
    SIM_CHECK(weft_group_destroy(made) == 0);
    scene_done();
}

static void gather_beside_the_end(void)
{
    unsigned gatherers = 1 + sim_choose(2);
    unsigned wanted = 1 + sim_choose(MAX_TASKS);
    for (unsigned i = 0; i < wanted; i++) {
        SIM_CHECK(weft_task_spawn(runtime, live, NULL, NULL, &tasks[i]) == 0);
        for (unsigned n = gatherers; n > 0; n--) {
            weft_task_retain(tasks[i]);
        }
    }
    n_tasks = wanted;
    for (unsigned n = gatherers; n > 0; n--) {
        scene_start(gatherer, NULL, "gatherer");
    }
    for (unsigned i = 0; i < wanted; i++) {
        weft_task_release(tasks[i]);
    }
    scene_wait();
}

/* ---- spawns into a group that is being killed ---- */

static void spawner(void *arg)
{
    (void)arg;
    for (unsigned n = 1 + sim_choose(MAX_SPAWNS); n > 0; n--) {
        struct weft_task *task = NULL;
        const struct weft_task_options options = { .struct_size = sizeof options, .name = "member" };
        int rc = weft_group_spawn_with(group, live, group, sim_choose(2) == 0 ? &options : NULL, WEFT_FOREVER,
                                       sim_choose(2) == 0 ? &task : NULL);
        SIM_CHECK(rc == 0 || rc == -ESHUTDOWN);
        weft_task_release(task);
    }
    scene_done();
}

static void killer(void *arg)
{
    (void)arg;
    scene_pause(30);
    SIM_CHECK(weft_group_kill(group, -EINTR, sim_choose(3) == 0 ? WEFT_NOWAIT : WEFT_FOREVER) == 0);
    sim_count("killed");
    killers_left--;
    scene_done();
}

static void kill_beside_spawns(void)
{
    for (unsigned n = 1 + sim_choose(2); n > 0; n--) {
        scene_start(spawner, NULL, "spawner");
    }
    unsigned killers = 1 + sim_choose(2);
    killers_left = killers;
    while (killers-- > 0) {
        scene_start(killer, NULL, "killer");
    }
    while (scene_left > 0) { /* who came after the last of them is killed from here; nobody helps them before */
        if (killers_left == 0 && weft_group_len(group) > 0) {
            SIM_CHECK(weft_group_kill(group, -EINTR, WEFT_FOREVER) == 0);
        }
        sim_spin();
    }
    SIM_CHECK(weft_group_kill(group, -EINTR, WEFT_FOREVER) == 0);
    SIM_CHECK(running == 0 && weft_group_len(group) == 0);
    SIM_CHECK(weft_group_destroy(group) == 0);
}

/* ---- destroy beside killers ---- */

static void destroy_beside_killers(void)
{
    if (sim_choose(2) == 0) {
        SIM_CHECK(weft_group_spawn(group, live, group, NULL) == 0);
    }
    killers_left = 1;
    scene_start(killer, NULL, "killer");
    while (group->killers == 0 && killers_left > 0) { /* it may use the group only if it came first */
        sim_spin();
    }
    int rc;
    while ((rc = weft_group_destroy(group)) == -EBUSY) {
        if (killers_left == 0 && weft_group_len(group) > 0) {
            SIM_CHECK(weft_group_kill(group, -EINTR, WEFT_FOREVER) == 0);
        }
        sim_count("busy");
        sim_spin();
    }
    SIM_CHECK(rc == 0);
    struct weft_group *next;
    SIM_CHECK(weft_group_create(runtime, NULL, &next) == 0);
    sim_count(next == group ? "made in its place" : "made elsewhere");
    scene_wait();
    SIM_CHECK(next->killers == 0 && atomic_load(&next->word) == 0);
    SIM_CHECK(weft_group_destroy(next) == 0);
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(2);
    unsigned kind = sim_choose(3);
    if (kind == 0) {
        gather_beside_the_end();
    } else {
        SIM_CHECK((sim_choose(2) == 0 ? weft_pool_create(runtime, 2, NULL, &group) : weft_group_create(runtime, NULL, &group)) ==
                  0);
        if (kind == 1) {
            kill_beside_spawns();
        } else {
            destroy_beside_killers();
        }
    }
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void) { sim_spawn(driver, NULL, "driver"); }

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "member", .setup = setup, .length = 600, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
