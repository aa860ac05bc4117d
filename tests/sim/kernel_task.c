/* Tasks through the public API: start, end, kill, join, get, links, release, and the end of their runtime, all at once.
 *
 * Some tasks end only when they are killed, others wait for an earlier task; each has killers, joiners and a start that may race.
 * What is lost shows as a hang; the outcome must be explained by what was done. */
#include "scene.h"

#define MAX_TASKS 4

enum kind { RETURN, FAIL, YIELD, SLEEP, JOIN, FOREVER, UNTIL_CHECKED, KINDS };

static struct sub {
    enum kind kind;
    bool create_first, with_options;
    unsigned kills;
    struct weft_task *task;
    int ran, args_freed, results_freed, ended, links, links_fired;
    bool kill_tried;
} subs[MAX_TASKS];

static struct weft_runtime *runtime;
static unsigned n_subs;

static bool needs_kill(const struct sub *sub) { return sub->kind == FOREVER || sub->kind == UNTIL_CHECKED; }

static void free_arg(void *arg) { ((struct sub *)arg)->args_freed++; }
static void free_result(void *result) { ((struct sub *)result)->results_freed++; }

static int body(void *arg, void **result)
{
    struct sub *self = arg;
    int rc = 0;
    self->ran++;
    SIM_CHECK(self->ended == 0);
    switch (self->kind) {
    case RETURN: break;
    case FAIL: rc = -EIO; break;
    case YIELD: weft_yield(); break;
    case SLEEP: {
        int64_t until = weft_after((int64_t)sim_choose(3) * MICROSECOND);
        rc = weft_sleep_until(until);
        SIM_CHECK(rc == -ECANCELED || (rc == 0 && weft_now() >= until));
        break;
    }
    case JOIN: {
        struct sub *other = self - 1; /* spawned before; its handle lives until the end */
        rc = weft_task_join(other->task, WEFT_FOREVER);
        SIM_CHECK(rc == -ECANCELED || (rc == 0 && other->ran == other->ended && weft_task_finished(other->task)));
        break;
    }
    case FOREVER: rc = weft_sleep_until(WEFT_FOREVER); break;
    case UNTIL_CHECKED:
        while ((rc = weft_checkpoint()) == 0) {
            weft_yield();
            sim_spin();
        }
        break;
    default: break;
    }
    SIM_CHECK(rc == 0 || rc == -EIO || self->kill_tried);
    *result = self;
    self->ended++;
    return rc;
}

static void killer(void *arg)
{
    struct sub *sub = arg;
    int64_t deadline = sim_choose(2) == 0 ? WEFT_NOWAIT : weft_after((int64_t)sim_choose(3) * MICROSECOND);
    if (sim_choose(4) != 0) {
        while (sub->ran == 0 && !weft_task_finished(sub->task)) {
            weft_yield();
            sim_spin();
        }
    }
    sub->kill_tried = true;
    int rc = weft_task_kill(sub->task, -EINTR, deadline);
    SIM_CHECK(rc == 0 || rc == -EALREADY || rc == -ETIMEDOUT);
    SIM_CHECK(rc != 0 || deadline == WEFT_NOWAIT || weft_task_finished(sub->task));
    SIM_CHECK(rc != -ETIMEDOUT || weft_now() >= deadline);
    scene_done();
}

static void joiner(void *arg)
{
    struct sub *sub = arg;
    int64_t deadline = sim_choose(2) == 0 ? WEFT_FOREVER : weft_after((int64_t)sim_choose(3) * MICROSECOND);
    switch (sim_choose(3)) {
    case 0: {
        int rc = weft_task_join(sub->task, deadline);
        SIM_CHECK(rc == 0 ? weft_task_finished(sub->task) : rc == -ETIMEDOUT && weft_now() >= deadline);
        break;
    }
    case 1: {
        struct weft_outcome outcome;
        int rc = weft_task_get(sub->task, deadline, &outcome);
        SIM_CHECK(rc == 0 ? outcome.status != WEFT_PENDING : rc == -ETIMEDOUT && outcome.status == WEFT_PENDING);
        break;
    }
    default: { /* this one and those before it, one of them perhaps twice */
        struct weft_task *tasks[MAX_TASKS + 1];
        size_t n = 0;
        for (struct sub *each = subs; each <= sub; each++) {
            tasks[n++] = each->task;
        }
        if (sim_choose(2) == 0) {
            tasks[n++] = sub->task;
        }
        size_t count = 1 + sim_choose((unsigned)n);
        int rc = weft_tasks_wait(tasks, n, count, deadline);
        SIM_CHECK(rc >= 0 && rc <= (int)n);
        SIM_CHECK(rc >= (int)count || weft_now() >= deadline);
    }
    }
    scene_done();
}

static void link_fired(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct sub *sub = arg;
    SIM_CHECK(task == sub->task && weft_task_finished(task) && outcome->status != WEFT_PENDING);
    sub->links_fired++;
}

static void linker(void *arg)
{
    struct sub *sub = arg;
    unsigned raw = sim_choose(2) == 0 ? WEFT_LINK_RAW : 0;
    uint64_t id;
    SIM_CHECK(weft_task_link(sub->task, link_fired, sub, WEFT_ON_ANY | raw, &id) == 0);
    sub->links++;
    if (sim_choose(3) == 0) {
        int rc = weft_task_unlink(sub->task, id);
        SIM_CHECK(rc == 0 || rc == -ENOENT);
        sub->links -= rc == 0;
    }
    scene_done();
}

static void starter(void *arg)
{
    struct sub *sub = arg;
    int rc = sim_choose(2) == 0 ? weft_task_start(sub->task)
                                : weft_task_start_at(sub->task, weft_after((int64_t)sim_choose(2) * MICROSECOND));
    SIM_CHECK(rc == 0 || rc == -EALREADY);
    scene_done();
}

static void begin(struct sub *sub)
{
    const struct weft_task_options options = { .struct_size = sizeof options,
                                               .stack_size = sim_choose(3) == 0 ? 20480 : 0,
                                               .arg_free = free_arg,
                                               .result_free = free_result };
    const struct weft_task_options *given = sub->with_options ? &options : NULL;
    if (sub->create_first) {
        SIM_CHECK(weft_task_create(runtime, body, sub, given, &sub->task) == 0);
        scene_start(starter, sub, "starter");
        if (sim_choose(3) == 0) {
            scene_start(starter, sub, "starter");
        }
    } else {
        SIM_CHECK(weft_task_spawn(runtime, body, sub, given, &sub->task) == 0);
    }
    for (unsigned i = 0; i < sub->kills; i++) {
        scene_start(killer, sub, "killer");
    }
    if (sim_choose(3) == 0) {
        scene_start(joiner, sub, "joiner");
    }
    if (sim_choose(4) == 0) {
        scene_start(linker, sub, "linker");
    }
}

static void judge(struct sub *sub)
{
    struct weft_outcome outcome;
    SIM_CHECK(weft_task_get(sub->task, WEFT_FOREVER, &outcome) == 0);
    SIM_CHECK(sub->ran == sub->ended && sub->ran <= 1);
    switch (outcome.status) {
    case WEFT_OK: SIM_CHECK(sub->ran == 1 && outcome.error == 0 && outcome.value == sub && !needs_kill(sub)); break;
    case WEFT_FAILED: SIM_CHECK(sub->kind == FAIL && sub->ran == 1 && outcome.error == -EIO); break;
    case WEFT_CANCELLED:
        SIM_CHECK(sub->kill_tried && outcome.error == -EINTR && outcome.value == NULL);
        sim_count(sub->ran ? "killed while it ran" : "killed before it ran");
        break;
    default: sim_fail("finished, but the outcome is %d", (int)outcome.status);
    }
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(2);
    for (unsigned i = 0; i < n_subs; i++) {
        begin(&subs[i]);
    }
    for (unsigned i = 0; i < n_subs; i++) {
        judge(&subs[i]);
    }
    while (scene_left > 0) { /* they use the handles */
        SIM_CHECK(weft_sleep_until(weft_after(MICROSECOND)) == 0);
    }
    bool destroy_first = sim_choose(2) == 0;
    if (destroy_first) {
        SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    }
    for (unsigned i = 0; i < n_subs; i++) {
        weft_task_release(subs[i].task);
    }
    if (!destroy_first) {
        SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    }
}

static void setup(void)
{
    n_subs = 1 + sim_choose(MAX_TASKS);
    for (unsigned i = 0; i < n_subs; i++) {
        subs[i].kind = (enum kind)sim_choose(KINDS);
        if (subs[i].kind == JOIN && i == 0) {
            subs[i].kind = RETURN;
        }
        subs[i].create_first = sim_choose(3) == 0;
        subs[i].with_options = sim_choose(2) == 0;
        subs[i].kills = needs_kill(&subs[i]) ? 1 + sim_choose(2) : sim_choose(4) == 0;
    }
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    for (unsigned i = 0; i < n_subs; i++) {
        SIM_CHECK(subs[i].links_fired == subs[i].links);
        if (subs[i].with_options) {
            SIM_CHECK(subs[i].args_freed == 1);
            SIM_CHECK(subs[i].results_freed == subs[i].ran);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "task", .setup = setup, .check = check, .length = 1500, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
