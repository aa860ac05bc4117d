/* The end of a runtime against threads that spawn into it, tasks that spawn more, and maps from outside: of a foreign thread, and of
 * a task of another runtime.
 *
 * After `destroy` nothing of it runs; each task that was spawned has run to its end or was cancelled before it began, and its
 * argument was freed once; a spawn that was refused took nothing over. A map has run whole or was refused. `join` before it returns 0 only if there was a moment
 * without a task. */
#include "scene.h"

#define MAX_TASKS 10

static struct sub {
    unsigned children;
    bool accepted, alive;
    int began, ended, args_freed;
    struct weft_task *task; /* some have a handle */
} subs[MAX_TASKS];

#define MAP_ITEMS 3

static struct weft_runtime *runtime, *other;
static struct weft_group *pool;
static unsigned n_subs;
static bool destroyed, was_quiet;
static unsigned alive; /* tasks that are known to the user and have not ended */

static void observe(void) { was_quiet |= alive == 0; }

static void lives(struct sub *sub)
{
    if (!sub->alive && sub->ended == 0) {
        sub->alive = true;
        alive++;
    }
}

static void free_arg(void *arg) { ((struct sub *)arg)->args_freed++; }
static int body(void *arg, void **result);

static int spawn(bool from_task)
{
    if (n_subs == MAX_TASKS) {
        return 0;
    }
    struct sub *sub = &subs[n_subs++];
    sub->children = sim_choose(3);
    const struct weft_task_options options = { .struct_size = sizeof options, .arg_free = free_arg };
    sub->accepted = true; /* it may be over before spawn returns */
    int rc = weft_task_spawn(runtime, body, sub, &options, sim_choose(2) == 0 ? &sub->task : NULL);
    sub->accepted = rc == 0;
    SIM_CHECK(rc == 0 || (!from_task && rc == -ESHUTDOWN));
    if (rc == 0) {
        lives(sub);
    } else {
        sim_count("refused");
        SIM_CHECK(sub->began == 0 && sub->args_freed == 0);
    }
    return rc;
}

static int body(void *arg, void **result)
{
    struct sub *self = arg;
    (void)result;
    SIM_CHECK(!destroyed && self->began == 0);
    self->began++;
    lives(self);
    for (unsigned i = 0; i < self->children; i++) {
        (void)spawn(true);
    }
    if (sim_choose(3) == 0) {
        weft_yield();
    } else if (sim_choose(3) == 0) {
        SIM_CHECK(weft_sleep_until(weft_after(MICROSECOND)) == 0);
    }
    SIM_CHECK(!destroyed);
    self->ended++;
    alive--;
    return 0;
}

static void spawner(void *arg)
{
    (void)arg;
    for (unsigned times = 1 + sim_choose(3); times > 0; times--) {
        if (spawn(false) != 0) {
            break;
        }
    }
    scene_done();
}

static int item(void *ctx, size_t index, const void *in, void *out)
{
    (void)in;
    (void)out;
    SIM_CHECK(!destroyed);
    switch (sim_choose(4)) {
    case 0: weft_yield(); break;
    case 1: SIM_CHECK(weft_sleep_until(weft_after(MICROSECOND)) == 0); break;
    case 2: SIM_CHECK(weft_runtime_destroy(runtime) == -EDEADLK); break;
    default: break;
    }
    SIM_CHECK(!destroyed && ++((int *)ctx)[index] == 1);
    return 0;
}

static void map_into(void)
{
    int ran[MAP_ITEMS] = { 0 };
    int rc = weft_group_map(pool, item, ran, MAP_ITEMS, NULL, 0, NULL, 0, NULL);
    for (unsigned i = 0; i < MAP_ITEMS; i++) {
        SIM_CHECK(rc == 0 ? ran[i] == 1 : rc == -ESHUTDOWN && ran[i] == 0);
    }
    sim_count(rc == 0 ? "map ran" : "map was refused");
}

static void mapper(void *arg)
{
    (void)arg;
    map_into();
    scene_done();
}

static int map_from_other(void *arg, void **result)
{
    (void)arg;
    (void)result;
    map_into();
    return 0;
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(3);
    SIM_CHECK(weft_pool_create(runtime, 1 + sim_choose(2), NULL, &pool) == 0); /* it keeps the runtime's memory, too */
    if (sim_choose(3) == 0) {
        other = scene_runtime(1);
        SIM_CHECK(weft_task_spawn(other, map_from_other, NULL, NULL, NULL) == 0);
    }
    if (sim_choose(3) == 0) {
        scene_start(mapper, NULL, "mapper");
    }
    for (unsigned i = 1 + sim_choose(2); i > 0; i--) {
        scene_start(spawner, NULL, "spawner");
    }
    scene_pause(20);
    if (sim_choose(3) != 0) {
        int64_t deadline = sim_choose(2) == 0 ? WEFT_FOREVER : weft_after(MICROSECOND);
        was_quiet = alive == 0;
        int rc = weft_runtime_join(runtime, deadline);
        SIM_CHECK(rc != 0 || was_quiet);
        SIM_CHECK(rc == 0 || (rc == -ETIMEDOUT && weft_now() >= deadline));
    }
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    destroyed = true;
    scene_wait();
    SIM_CHECK(other == NULL || weft_runtime_join(other, WEFT_FOREVER) == 0);
    SIM_CHECK(weft_runtime_destroy(other) == 0);
    SIM_CHECK(weft_pool_free_count(pool) > 0 && weft_group_len(pool) == 0);
    SIM_CHECK(weft_group_destroy(pool) == 0);
    for (unsigned i = 0; i < n_subs; i++) {
        struct sub *sub = &subs[i];
        SIM_CHECK(sub->began == sub->ended);
        SIM_CHECK(sub->args_freed == (sub->accepted ? 1 : 0));
        if (sub->accepted && sub->began == 0) {
            sim_count("cancelled before it began");
        }
        if (sub->task != NULL) {
            struct weft_outcome outcome;
            SIM_CHECK(weft_task_get(sub->task, WEFT_NOWAIT, &outcome) == 0);
            SIM_CHECK(outcome.status == (sub->began ? WEFT_OK : WEFT_CANCELLED));
            weft_task_release(sub->task);
        }
    }
}

static void setup(void) { sim_spawn(driver, NULL, "driver"); }

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = {
        .name = "runtime", .setup = setup, .observe = observe, .length = 800, .tick = MICROSECOND
    };
    return sim_main(argc, argv, &kernel);
}
