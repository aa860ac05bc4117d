/* Maps in pools: participants that come, steal, block and leave, against kills, deadlines and one another (M1, M2, M4, M5, M7, M8,
 * P6, H28).
 *
 * Each item runs at most once, and exactly once when map returns 0; when map has returned, none of it runs. No more items are
 * under way than the pool has slots, unless maps are nested, where callers lend theirs. At the end every slot is free. A lost
 * participant or slot shows as a hang. A reduce ends every partial once, and joins them in the order of the range. */
#include "scene.h"

#define MAX_CALLERS 3
#define MAX_ITEMS 6
#define INNER_ITEMS 3

static struct caller {
    struct weft_task *task; /* NULL: a foreign thread */
    enum kind { MAP, FOR, REDUCE, ASYNC } kind;
    bool member, doomed, killed, over; /* doomed: somebody will kill it, and has not yet if not killed */
    size_t n;
    int64_t deadline;
    int ran[MAX_ITEMS], inner_ran[MAX_ITEMS][INNER_ITEMS];
    unsigned running, partials;
    bool joining;
} callers[MAX_CALLERS];

static struct weft_runtime *runtime;
static struct weft_group *pool;
static size_t size;
static unsigned n_callers, running;
static bool nested, group_is_doomed, group_is_killed;

static void item_begins(struct caller *self)
{
    SIM_CHECK(!self->over);
    self->running++;
    if (++running > size && !nested) {
        sim_fail("%u items run in a pool of %zu", running, size);
    }
}

static void item_ends(struct caller *self)
{
    SIM_CHECK(!self->over);
    self->running--;
    running--;
}

static int inner(void *ctx, size_t index, const void *in, void *out)
{
    (void)in;
    (void)out;
    int *ran = ctx;
    ran[index]++;
    if (sim_choose(4) == 0) {
        weft_yield();
    }
    return 0;
}

static int item_work(struct caller *self, size_t index)
{
    SIM_CHECK(++self->ran[index] == 1);
    item_begins(self);
    int rc = 0;
    switch (sim_choose(nested ? 8 : 6)) {
    case 0: weft_yield(); break;
    case 2: /* a map that is killed begins no item that does not hear of it (K1, K2) */
        if ((self->doomed && !self->killed) || (group_is_doomed && !group_is_killed)) {
            rc = weft_sleep_until(WEFT_FOREVER);
            SIM_CHECK(rc == -ECANCELED);
            sim_count("item waited for a kill");
        }
        break;
    case 3: (void)weft_cancel_mask(self->kind == MAP || self->kind == ASYNC); break; /* ends with the item */
    case 1: rc = weft_sleep_until(weft_after((int64_t)sim_choose(2) * MICROSECOND)); break;
    case 6:
    case 7: {
        int *ran = self->inner_ran[index];
        rc = weft_group_map(pool, inner, ran, INNER_ITEMS, NULL, 0, NULL, 0, NULL);
        for (unsigned i = 0; i < INNER_ITEMS; i++) {
            SIM_CHECK(rc == 0 ? ran[i] == 1 : ran[i] <= 1);
        }
        sim_count(rc == 0 ? "inner map ran" : "inner map was cancelled");
        break;
    }
    default: break;
    }
    SIM_CHECK(rc == 0 || self->killed || group_is_killed || self->deadline != 0);
    item_ends(self);
    return rc;
}

static int item(void *ctx, size_t index, const void *in, void *out)
{
    (void)in;
    (void)out;
    return item_work(ctx, index);
}

static int range(void *ctx, size_t begin, size_t end)
{
    int rc = 0;
    for (size_t i = begin; i < end && rc == 0; i++) {
        rc = item_work(ctx, i);
    }
    return rc;
}

/* A partial holds the number of the last index in it, from 1. */
static int init(void *ctx, void *acc)
{
    ((struct caller *)ctx)->partials++;
    *(size_t *)acc = 0;
    return 0;
}

static int body(void *ctx, size_t begin, size_t end, void *acc)
{
    size_t *last = acc;
    SIM_CHECK(*last == 0 || *last == begin);
    *last = end;
    return range(ctx, begin, end);
}

static int join(void *ctx, void *left, void *right)
{
    struct caller *self = ctx;
    size_t *to = left, *from = right;
    SIM_CHECK(!self->over && !self->joining);
    self->joining = true;
    if (sim_choose(4) == 0) {
        weft_yield();
    }
    self->joining = false;
    SIM_CHECK(*from > *to);
    *to = *from;
    return 0;
}

static void fini(void *ctx, void *acc)
{
    SIM_CHECK(*(size_t *)acc <= MAX_ITEMS);
    *(size_t *)acc = MAX_ITEMS + 1; /* not twice */
    ((struct caller *)ctx)->partials--;
}

static int reduce(struct caller *self, const struct weft_map_options *options)
{
    static const struct weft_reduce_ops ops = {
        .struct_size = sizeof ops, .acc_size = sizeof(size_t), .init = init, .body = body, .join = join, .fini = fini
    };
    size_t last = 0;
    int rc = weft_group_reduce(pool, 0, self->n, &ops, self, &last, options);
    SIM_CHECK(self->partials == 0 && (rc != 0 || last == self->n));
    return rc;
}

static int map_async(struct caller *self, const struct weft_map_options *options)
{
    struct weft_task *handle;
    struct weft_outcome outcome;
    int rc = weft_group_map_async(pool, item, self, self->n, NULL, 0, NULL, 0, options, &handle);
    if (rc != 0) {
        SIM_CHECK(rc == -ESHUTDOWN && group_is_killed);
        return rc;
    }
    if (weft_task_get(handle, WEFT_FOREVER, &outcome) != 0) {
        SIM_CHECK(self->killed || (self->member && group_is_killed));
        SIM_CHECK(weft_task_kill(handle, 0, WEFT_FOREVER) == 0);
        SIM_CHECK(weft_task_get(handle, WEFT_NOWAIT, &outcome) == 0);
    }
    weft_task_release(handle);
    sim_count(outcome.status == WEFT_OK       ? "handle was ok"
              : outcome.status == WEFT_FAILED ? "handle failed"
                                              : "handle was cancelled");
    if (outcome.status == WEFT_FAILED && self->deadline == 0 &&
        !(nested && group_is_killed)) { /* items may say what their maps say */
        sim_fail("a map without deadline failed with %d", outcome.error);
    }
    return outcome.status == WEFT_CANCELLED ? -ECANCELED : outcome.error;
}

static void call(struct caller *self)
{
    const struct weft_map_options options = {
        .struct_size = sizeof options, .deadline = self->deadline, .grain = sim_choose(3), .deterministic = sim_choose(2) == 0
    };
    int rc;
    switch (self->kind) {
    case FOR: rc = weft_group_for(pool, 0, self->n, range, self, &options); break;
    case REDUCE: rc = reduce(self, &options); break;
    case ASYNC: rc = map_async(self, &options); break;
    default: rc = weft_group_map(pool, item, self, self->n, NULL, 0, NULL, 0, &options); break;
    }
    self->over = true;
    SIM_CHECK(self->running == 0);
    if (rc == 0) {
        sim_count("map ran");
        for (size_t i = 0; i < self->n; i++) {
            if (self->ran[i] != 1) {
                sim_fail("map returned 0, but item %zu of %zu ran %d times (%s, grain %zu, deadline %lld)", i, self->n,
                         self->ran[i], (const char *const[]){ "map", "for", "reduce", "map_async" }[self->kind], options.grain,
                         (long long)self->deadline);
            }
        }
    } else {
        sim_count("map was cancelled");
        bool late = self->deadline != 0 && weft_now() >= self->deadline;
        SIM_CHECK((rc == -ECANCELED && (self->killed || group_is_killed || late)) || (rc == -ESHUTDOWN && group_is_killed) ||
                  (rc == -ETIMEDOUT && late) || (rc == -EDEADLK && self->member));
    }
    scene_done();
}

static void call_from_thread(void *arg) { call(arg); }

static int call_from_task(void *arg, void **result)
{
    (void)result;
    call(arg);
    return 0;
}

static void killer(void *arg)
{
    struct caller *victim = arg;
    scene_pause(100);
    victim->killed = true;
    int rc = weft_task_kill(victim->task, -EINTR, WEFT_NOWAIT);
    SIM_CHECK(rc == 0 || rc == -EALREADY);
    scene_done();
}

static void group_killer(void *arg)
{
    (void)arg;
    scene_pause(100);
    group_is_killed = true;
    SIM_CHECK(weft_group_kill(pool, 0, sim_choose(2) == 0 ? WEFT_NOWAIT : WEFT_FOREVER) == 0);
    scene_done();
}

static void start_caller(struct caller *caller)
{
    caller->n = 1 + sim_choose(MAX_ITEMS);
    caller->kind = (enum kind)sim_choose(4);
    caller->deadline = sim_choose(4) == 0 ? weft_after((int64_t)sim_choose(3) * MICROSECOND + 1) : 0;
    if (sim_choose(2) == 0) {
        scene_start(call_from_thread, caller, "caller");
        return;
    }
    scene_left++;
    caller->member = nested && sim_choose(2) == 0;
    int rc = caller->member ? weft_group_spawn(pool, call_from_task, caller, &caller->task)
                            : weft_task_spawn(runtime, call_from_task, caller, NULL, &caller->task);
    if (rc != 0) {
        SIM_CHECK(rc == -ESHUTDOWN && group_is_killed);
        scene_done();
    } else if (sim_choose(3) == 0) {
        caller->doomed = true;
        scene_start(killer, caller, "killer");
    }
}

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(3);
    SIM_CHECK(weft_pool_create(runtime, size, NULL, &pool) == 0);
    if (sim_choose(5) == 0) {
        group_is_doomed = true;
        scene_start(group_killer, NULL, "group killer");
    }
    for (unsigned i = 0; i < n_callers; i++) {
        start_caller(&callers[i]);
    }
    for (unsigned i = 0; i < n_callers; i++) {
        struct weft_outcome outcome;
        if (callers[i].task != NULL) {
            SIM_CHECK(weft_task_get(callers[i].task, WEFT_FOREVER, &outcome) == 0);
            scene_left -= outcome.status == WEFT_CANCELLED; /* it never ran */
        }
    }
    scene_wait();
    SIM_CHECK(weft_group_join(pool, WEFT_FOREVER) == 0);
    SIM_CHECK(running == 0 && weft_group_len(pool) == 0);
    SIM_CHECK(weft_pool_free_count(pool) == size);
    for (unsigned i = 0; i < n_callers; i++) {
        weft_task_release(callers[i].task);
    }
    SIM_CHECK(weft_group_destroy(pool) == 0);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void)
{
    size = 1 + sim_choose(3);
    nested = sim_choose(3) == 0;
    n_callers = 1 + sim_choose(MAX_CALLERS);
    sim_spawn(driver, NULL, "driver");
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "map", .setup = setup, .length = 2500, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
