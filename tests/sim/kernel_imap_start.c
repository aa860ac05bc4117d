/* The start of an imap against kill, close and destroy of its group, and against the end of its runtime (I6, I7, R4).
 *
 * It starts, or it is refused and takes nothing: its source is never called then. If it has started, everything that the source gave is
 * read or freed; readers see the end; it can be destroyed, and after that the group is empty and has all its slots. */
#include "group.h"
#include "scene.h"

#define ITEMS 3

static struct weft_runtime *runtime;
static struct weft_group *group, *group_elsewhere;
static unsigned pulled, given_back, calls;
static bool refused, runtime_ended, killed;

static int next_item(void *ctx, void **item)
{
    SIM_CHECK(!refused);
    calls++;
    if (sim_choose(4) == 0) {
        int rc = weft_sleep_until(sim_choose(2) == 0 ? WEFT_FOREVER : weft_after(MICROSECOND));
        SIM_CHECK(rc == 0 || killed || runtime_ended);
        if (rc != 0) {
            return rc;
        }
    }
    if (pulled == ITEMS) {
        return 0;
    }
    *item = (char *)ctx + pulled++;
    return 1;
}

static void take_back(void *item)
{
    SIM_CHECK(item != NULL);
    given_back++;
}

static int pass_on(void *ctx, void *item, void **result)
{
    (void)ctx;
    (void)item;
    (void)result;
    if (sim_choose(3) == 0) {
        weft_yield();
    }
    return 0;
}

static void killer(void *arg)
{
    (void)arg;
    scene_pause(60);
    killed = true;
    for (unsigned n = 1 + sim_choose(2); n > 0; n--) {
        int rc = weft_group_kill(group, -EINTR, sim_choose(2) == 0 ? WEFT_NOWAIT : WEFT_FOREVER);
        SIM_CHECK(rc == 0 || (rc == -ESHUTDOWN && runtime_ended));
    }
    scene_done();
}

static void ender(void *arg)
{
    (void)arg;
    scene_pause(60);
    runtime_ended = true;
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    scene_done();
}

/* In the memory of the one that was refused: whoever still has a reference to that is not to give one of this back. */
static void start_elsewhere(void)
{
    static struct weft_array array = { .base = &array, .stride = 1, .n = ITEMS };
    const struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_imap *imap;
    struct weft_item item;
    SIM_CHECK(weft_group_imap(group_elsewhere, &source, 1, pass_on, NULL, NULL, &imap) == 0);
    for (unsigned i = 0; i < ITEMS; i++) {
        SIM_CHECK(weft_imap_next(imap, &item, WEFT_FOREVER) == 1 && item.index == i);
        scene_pause(30);
    }
    SIM_CHECK(weft_imap_next(imap, &item, WEFT_FOREVER) == 0);
    SIM_CHECK(weft_imap_destroy(imap) == 0);
}

static void starter(void *arg)
{
    static char things[ITEMS];
    (void)arg;
    scene_pause(30);
    const struct weft_source source = { next_item, things, take_back };
    const struct weft_imap_options options = { .struct_size = sizeof options, .maxsize = sim_choose(3) };
    struct weft_imap *imap = NULL;
    int rc = (sim_choose(2) == 0 ? weft_group_imap : weft_group_imap_unordered)(group, &source, 1, pass_on, NULL, &options, &imap);
    SIM_CHECK(rc == 0 || (rc == -ESHUTDOWN && (killed || runtime_ended)));
    refused = rc != 0;
    if (rc != 0) {
        SIM_CHECK(calls == 0 && imap == NULL);
        sim_count("refused");
        if (group_elsewhere) {
            start_elsewhere();
        }
        scene_done();
        return;
    }
    sim_count("started");
    if (sim_choose(3) == 0) {
        killed = true;
        weft_imap_close(imap);
    } else {
        struct weft_item item;
        while ((rc = weft_imap_next(imap, &item, weft_after(MICROSECOND))) == 1) { /* its source may sleep for ever */
            given_back += item.input != NULL;
        }
        SIM_CHECK(rc == 0 || rc == -ETIMEDOUT || (rc == -ESHUTDOWN && runtime_ended));
    }
    killed = true; /* the source may be killed from here */
    SIM_CHECK(weft_imap_destroy(imap) == 0);
    SIM_CHECK(given_back == pulled || runtime_ended); /* then what ends it may have it still */
    scene_done();
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(2);
    SIM_CHECK((sim_choose(2) == 0 ? weft_pool_create(runtime, 1, NULL, &group) : weft_group_create(runtime, NULL, &group)) == 0);
    bool ends = sim_choose(3) == 0, kills = !ends || sim_choose(2) == 0;
    struct weft_runtime *elsewhere = ends ? scene_runtime(1) : NULL;
    if (elsewhere) {
        SIM_CHECK(weft_group_create(elsewhere, NULL, &group_elsewhere) == 0);
    }
    scene_start(starter, NULL, "starter");
    if (ends) {
        scene_start(ender, NULL, "ender");
    }
    if (kills) {
        scene_start(killer, NULL, "killer");
    }
    scene_wait();
    SIM_CHECK(given_back == pulled);
    SIM_CHECK(weft_group_len(group) == 0 && weft_pool_free_count(group) == 1);
    SIM_CHECK(weft_group_destroy(group) == 0);
    if (elsewhere) {
        SIM_CHECK(weft_group_destroy(group_elsewhere) == 0);
        SIM_CHECK(weft_runtime_destroy(elsewhere) == 0);
    }
    if (!ends) {
        SIM_CHECK(weft_runtime_destroy(runtime) == 0);
    }
}

static void setup(void) { sim_spawn(driver, NULL, "driver"); }

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "imap_start", .setup = setup, .length = 700, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
