/* Joiners of a group against its last member, while more members come (G5, tests/models/join.pml).
 *
 * `observe` sees every state of the group's word. Safety: a join that returns 0 saw the group empty at least once since the call.
 * Liveness: once the group was empty while a joiner was linked, that joiner returns although the group is busy again: a member that
 * holds it busy until then would otherwise go on for ever, and the run ends as a livelock. */
#include "group.h"
#include "scene.h"

#define MAX_JOINERS 3

static struct joiner {
    bool calling;
    bool was_empty;   /* since the call */
    bool must_return; /* … while it was linked */
    struct weft_slot *slot;
} joiners[MAX_JOINERS];

static struct weft_runtime *runtime;
static struct weft_group *group;
static unsigned n_joiners, n_feeders;

static void observe(void)
{
    if (group == NULL || weft_group_pending(atomic_load(&group->word)) != 0) {
        return;
    }
    for (unsigned i = 0; i < n_joiners; i++) {
        struct joiner *joiner = &joiners[i];
        if (joiner->calling) {
            joiner->was_empty = true;
            unsigned state = joiner->slot ? weft_claim_state(atomic_load(&joiner->slot->claim)) : WEFT_CLAIM_IDLE;
            joiner->must_return |= state == WEFT_CLAIM_ARMED || state == WEFT_CLAIM_PARKED;
        }
    }
}

static bool somebody_must_return(void)
{
    for (unsigned i = 0; i < n_joiners; i++) {
        if (joiners[i].calling && joiners[i].must_return) {
            return true;
        }
    }
    return false;
}

static int member(void *arg, void **result)
{
    (void)result;
    unsigned children = (unsigned)(uintptr_t)arg;
    while (children-- > 0) {
        SIM_CHECK(weft_group_spawn(group, member, (void *)0, NULL) == 0);
    }
    if (sim_choose(4) == 0) {
        weft_yield();
    }
    return 0;
}

static int holder(void *arg, void **result)
{
    (void)arg;
    (void)result;
    while (somebody_must_return()) {
        sim_count("held busy for a joiner");
        weft_yield();
        sim_spin();
    }
    return 0;
}

static void feeder(void *arg)
{
    (void)arg;
    for (unsigned n = 1 + sim_choose(3); n > 0; n--) {
        if (sim_choose(3) == 0) {
            SIM_CHECK(weft_group_spawn(group, holder, NULL, NULL) == 0);
        } else {
            SIM_CHECK(weft_group_spawn(group, member, (void *)(uintptr_t)(sim_choose(4) == 0), NULL) == 0);
        }
    }
    scene_done();
}

static void join_once(struct joiner *self)
{
    int64_t deadline = sim_choose(4) == 0 ? weft_after(MICROSECOND) : WEFT_FOREVER;
    self->slot = weft_slot_self();
    self->was_empty = self->must_return = false;
    self->calling = true;
    observe();
    int rc = weft_group_join(group, deadline);
    observe();
    self->calling = false;
    if (rc == 0) {
        SIM_CHECK(self->was_empty);
        sim_count(self->must_return ? "joined after it slept" : "joined at once");
    } else {
        SIM_CHECK(rc == -ETIMEDOUT && deadline != WEFT_FOREVER && weft_now() >= deadline);
    }
}

static void join_from_thread(void *arg)
{
    for (unsigned times = 1 + sim_choose(2); times > 0; times--) {
        join_once(arg);
    }
    scene_done();
}

static int join_from_task(void *arg, void **result)
{
    (void)result;
    join_from_thread(arg);
    return 0;
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(2);
    SIM_CHECK(weft_group_create(runtime, NULL, &group) == 0);
    for (unsigned i = 0; i < n_feeders; i++) {
        scene_start(feeder, NULL, "feeder");
    }
    for (unsigned i = 0; i < n_joiners; i++) {
        if (sim_choose(3) == 0) {
            scene_left++;
            SIM_CHECK(weft_task_spawn(runtime, join_from_task, &joiners[i], NULL, NULL) == 0);
        } else {
            scene_start(join_from_thread, &joiners[i], "joiner");
        }
    }
    scene_wait();
    SIM_CHECK(weft_group_join(group, WEFT_FOREVER) == 0);
    SIM_CHECK(weft_group_len(group) == 0);
    struct weft_group *gone = group;
    group = NULL;
    SIM_CHECK(weft_group_destroy(gone) == 0);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void)
{
    n_joiners = 1 + sim_choose(MAX_JOINERS);
    n_feeders = 1 + sim_choose(2);
    sim_spawn(driver, NULL, "driver");
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = {
        .name = "join", .setup = setup, .observe = observe, .length = 800, .tick = MICROSECOND
    };
    return sim_main(argc, argv, &kernel);
}
