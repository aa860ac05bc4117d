/* Links against the end of their runtime (T8, R4, R5).
 *
 * Tasks that run, and tasks that nobody has started; threads that link to them, start, kill and release them; links that make more of
 * both; and `destroy` in the middle. A link that was accepted has fired once when `destroy` returns, if its task has ended by then,
 * and all have; one that was refused never fires. What a link or a task has taken is freed. */
#include "scene.h"

#define MAX_TASKS 8
#define MAX_LINKS 16
#define MAX_THREADS 3

static struct linked {
    bool accepted, refused, unlinking, unlinked;
    int fired;
    unsigned depth;
    struct weft_task *of;
} links[MAX_LINKS];

static struct weft_runtime *runtime;
static struct weft_task *handles[MAX_TASKS]; /* of the tasks; each thread that uses one has a reference of its own */
static unsigned n_links, n_tasks;
static bool destroyed;
static size_t live_before;

static void link_one(struct weft_task *task, unsigned depth, bool from_task);

static int body(void *arg, void **result);

/* Made in a task, so it may be while the runtime ends: then nobody else will start or cancel it. */
static void leave_unstarted(unsigned depth)
{
    struct weft_task *task;
    if (n_tasks < MAX_TASKS - 1 && weft_task_create(runtime, body, NULL, NULL, &task) == 0) {
        weft_task_retain(task);
        handles[n_tasks++] = task; /* from here an heir may have it */
        link_one(task, depth, true);
        if (sim_choose(3) == 0) {
            link_one(task, depth, true);
        }
        weft_task_release(task);
        sim_count("left unstarted");
    }
}

static void fire(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct linked *self = arg;
    SIM_CHECK(!destroyed && !self->refused && !self->unlinked && self->fired++ == 0);
    SIM_CHECK(task == self->of && outcome->status != WEFT_PENDING);
    if (self->depth > 0 && weft_runtime_current() == runtime) {
        leave_unstarted(self->depth - 1);
    }
}

static void link_one(struct weft_task *task, unsigned depth, bool from_task)
{
    if (n_links == MAX_LINKS) {
        return;
    }
    struct linked *self = &links[n_links++];
    uint64_t id = 0;
    *self = (struct linked){ .depth = depth, .of = task };
    int rc = weft_task_link(task, fire, self, WEFT_ON_ANY | (sim_choose(3) == 0 ? WEFT_LINK_RAW : 0), &id);
    SIM_CHECK(rc == 0 || (rc == -ESHUTDOWN && !from_task));
    self->accepted = rc == 0;
    self->refused = rc != 0;
    SIM_CHECK(rc == 0 || (self->fired == 0 && id == 0));
    sim_count(rc == 0 ? "linked" : "refused");
    if (rc == 0 && sim_choose(3) == 0) {
        self->unlinking = true;
        self->unlinked = weft_task_unlink(task, id) == 0;
        SIM_CHECK(!self->unlinked || self->fired == 0);
    }
}

static int body(void *arg, void **result)
{
    (void)arg;
    (void)result;
    SIM_CHECK(!destroyed);
    switch (sim_choose(4)) {
    case 0: weft_yield(); break;
    case 1: leave_unstarted(1); break;
    case 2: return weft_sleep_until(weft_after(MICROSECOND));
    default: break;
    }
    return 0;
}

static void meddler(void *arg)
{
    struct weft_task *task = arg;
    for (unsigned times = 1 + sim_choose(3); times > 0; times--) {
        switch (sim_choose(5)) {
        case 0: {
            int rc = weft_task_start(task);
            SIM_CHECK(rc == 0 || rc == -EALREADY || rc == -ESHUTDOWN);
            break;
        }
        case 1: {
            int rc = weft_task_kill(task, 0, WEFT_NOWAIT);
            SIM_CHECK(rc == 0 || rc == -EALREADY || rc == -ESHUTDOWN);
            break;
        }
        default: link_one(task, sim_choose(2), false); break;
        }
    }
    weft_task_release(task);
    scene_done();
}

/* Takes over the handles that tasks leave: the last release of one that nobody has started cancels it. */
static void heir(void *arg)
{
    (void)arg;
    for (unsigned times = 1 + sim_choose(6); times > 0; times--) {
        unsigned i = sim_choose(MAX_TASKS);
        struct weft_task *task = handles[i];
        handles[i] = NULL;
        if (task && sim_choose(2) == 0) {
            link_one(task, 1, false);
        }
        weft_task_release(task);
    }
    scene_done();
}

static void driver(void *arg)
{
    (void)arg;
    SIM_CHECK(weft_runtime_destroy(scene_runtime(1)) == 0); /* what is kept for the next one is there from here on */
    live_before = sim_live_allocations();
    runtime = scene_runtime(2);
    for (unsigned i = 0, n = 1 + sim_choose(3); i < n; i++) {
        struct weft_task *task;
        SIM_CHECK((sim_choose(2) == 0 ? weft_task_create : weft_task_spawn)(runtime, body, NULL, NULL, &task) == 0);
        handles[n_tasks++] = task;
    }
    for (unsigned i = 0, n = n_tasks; i < n && i < MAX_THREADS; i++) {
        if (handles[i] && sim_choose(3) != 0) {
            weft_task_retain(handles[i]);
            scene_start(meddler, handles[i], "meddler");
        }
    }
    struct weft_task *keeper; /* meddlers and heirs may hold the last handles */
    SIM_CHECK(weft_task_create(runtime, body, NULL, NULL, &keeper) == 0);
    for (unsigned n = sim_choose(3); n > 0; n--) {
        scene_start(heir, NULL, "heir");
    }
    scene_pause(60);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    destroyed = true;
    for (unsigned i = 0; i < n_links; i++) {
        SIM_CHECK(!links[i].accepted || links[i].fired == 1 || links[i].unlinking);
    }
    scene_wait();
    for (unsigned i = 0; i < MAX_TASKS; i++) {
        weft_task_release(handles[i]);
    }
    weft_task_release(keeper);
}

static void setup(void) { sim_spawn(driver, NULL, "driver"); }

static void check(void)
{
    if (sim_live_allocations() > live_before + 1) { /* the shelf of stacks may have got its list */
        sim_fail("%zu allocations are left, %zu were there before", sim_live_allocations(), live_before);
    }
    for (unsigned i = 0; i < n_links; i++) {
        SIM_CHECK(links[i].fired == (links[i].accepted && !links[i].unlinked ? 1 : 0));
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "link", .setup = setup, .check = check, .length = 800, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
