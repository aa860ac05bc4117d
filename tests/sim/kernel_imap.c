/* An imap between its source, its items, readers, close, kills and the end (I1 to I7).
 *
 * Items begin at most once, all of them unless it was closed or the group killed; ordered ones are read in order; at most
 * `maxsize` are begun and unread, and one more pulled. Whatever the source gave is handed to a reader or freed, once; so is every
 * result. After destroy nothing runs, and the pool has all its slots. */
#include "scene.h"

#define MAX_ITEMS 6
#define MAX_READERS 3
#define MAX_WORKERS 3

static struct element {
    int pulled, begun, read, freed;
    int results, results_read, results_freed;
} elements[MAX_ITEMS];

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct weft_imap *imap;
static size_t size, n_items, maxsize, next_index;
static unsigned n_readers, in_source, in_items, begun, pulled, read_count, in_next;
static bool ordered, source_fails, failure_seen, closed, group_is_killed, destroyed;

static void free_element(void *item) { ((struct element *)item)->freed++; }
static void free_result(void *value) { ((struct element *)value)->results_freed++; }

static int next_element(void *ctx, void **element)
{
    (void)ctx;
    SIM_CHECK(!destroyed && in_source++ == 0);
    /* Each worker may be about to call `item`. */
    SIM_CHECK(pulled <= (maxsize > 0 ? read_count + in_next + maxsize : begun + MAX_WORKERS) || closed || group_is_killed);
    if (sim_choose(4) == 0) {
        weft_yield();
    } else if (sim_choose(8) == 0) {
        int rc = weft_sleep_until(weft_after(MICROSECOND));
        SIM_CHECK(rc == 0 || closed || group_is_killed);
    }
    in_source--;
    if (pulled == n_items) {
        return source_fails ? -EIO : 0;
    }
    *element = &elements[pulled];
    elements[pulled++].pulled++;
    return 1;
}

static int item(void *ctx, void *element, void **result)
{
    (void)ctx;
    struct element *self = element;
    SIM_CHECK(!destroyed && self->pulled == 1 && self->freed == 0 && self->begun++ == 0);
    begun++;
    SIM_CHECK(size > 1 || self == elements || self[-1].begun > 0); /* in source order; two at once may overtake each other */
    if (maxsize > 0 && begun > read_count + in_next + maxsize && !closed) {
        sim_fail("%u begun, %u read, %u being read, %zu allowed", begun, read_count, in_next, maxsize);
    }
    if (++in_items > size) {
        sim_fail("%u items run in a pool of %zu", in_items, size);
    }
    int rc = 0;
    switch (sim_choose(4)) {
    case 0: weft_yield(); break;
    case 1: rc = weft_sleep_until(weft_after((int64_t)sim_choose(2) * MICROSECOND)); break;
    default: break;
    }
    SIM_CHECK(rc == 0 || closed || group_is_killed);
    in_items--;
    self->results++;
    *result = self;
    return rc;
}

static void take(const struct weft_item *got)
{
    if (got->index == WEFT_NO_INDEX) {
        SIM_CHECK(source_fails && !failure_seen && got->status == WEFT_FAILED && got->error == -EIO);
        failure_seen = true;
        return;
    }
    read_count++;
    SIM_CHECK(got->input == &elements[got->index]);
    struct element *self = got->input;
    SIM_CHECK(self->read++ == 0 && self->freed == 0);
    if (ordered && n_readers == 1) {
        SIM_CHECK(got->index == next_index);
        next_index++;
    }
    if (got->status == WEFT_OK) {
        SIM_CHECK(got->value == self);
        self->results_read++;
    } else {
        SIM_CHECK(got->status == WEFT_CANCELLED && group_is_killed && got->value == NULL);
    }
}

static void reader(void *arg)
{
    bool patient = arg != NULL; /* reads until the end */
    int rc = 1;
    for (unsigned times = 1 + sim_choose(4); rc != 0 && (patient || times > 0); times--) {
        int64_t deadline = sim_choose(3) == 0 ? weft_after(MICROSECOND) : WEFT_FOREVER;
        struct weft_item got;
        in_next++; /* an item may be handed over some time before this call returns */
        rc = weft_imap_next(imap, &got, deadline);
        in_next--;
        if (rc == 1) {
            take(&got);
        } else {
            SIM_CHECK(rc == 0 || (rc == -ETIMEDOUT && weft_now() >= deadline));
        }
    }
    if (rc == 0) {
        struct weft_item got;
        SIM_CHECK(weft_imap_next(imap, &got, WEFT_NOWAIT) == 0); /* the end is sticky */
        sim_count("read to the end");
    }
    scene_done();
}

static int reader_task(void *arg, void **result)
{
    (void)result;
    reader(arg);
    return 0;
}

static void closer(void *arg)
{
    (void)arg;
    scene_pause(100);
    closed = true;
    weft_imap_close(imap);
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

static void driver(void *arg)
{
    (void)arg;
    runtime = scene_runtime(MAX_WORKERS);
    SIM_CHECK(weft_pool_create(runtime, size, NULL, &pool) == 0);
    const struct weft_source source = { next_element, NULL, free_element };
    const struct weft_imap_options imap_options = { .struct_size = sizeof imap_options,
                                                    .maxsize = maxsize,
                                                    .result_free = free_result };
    SIM_CHECK((ordered ? weft_group_imap : weft_group_imap_unordered)(pool, &source, 1, item, NULL, &imap_options, &imap) == 0);
    for (unsigned i = 0; i < n_readers; i++) {
        void *patient = i == 0 ? imap : NULL;
        if (sim_choose(2) == 0) {
            scene_start(reader, patient, "reader");
        } else {
            scene_left++;
            SIM_CHECK(weft_task_spawn(runtime, reader_task, patient, NULL, NULL) == 0);
        }
    }
    if (sim_choose(4) == 0) {
        scene_start(closer, NULL, "closer");
    } else if (sim_choose(5) == 0) {
        scene_start(group_killer, NULL, "group killer");
    }
    scene_wait();
    SIM_CHECK(weft_imap_destroy(imap) == 0);
    destroyed = true;
    SIM_CHECK(in_source == 0 && in_items == 0);
    SIM_CHECK(weft_group_join(pool, WEFT_FOREVER) == 0);
    SIM_CHECK(weft_group_len(pool) == 0 && weft_pool_free_count(pool) == size);
    SIM_CHECK(weft_group_destroy(pool) == 0);
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void)
{
    size = 1 + sim_choose(3);
    n_items = sim_choose(MAX_ITEMS + 1);
    maxsize = sim_choose(4);
    ordered = sim_choose(2) == 0;
    source_fails = sim_choose(4) == 0;
    n_readers = 1 + sim_choose(MAX_READERS);
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    for (size_t i = 0; i < n_items; i++) {
        const struct element *self = &elements[i];
        SIM_CHECK(self->pulled <= 1 && self->read + self->freed == self->pulled);
        SIM_CHECK(self->results <= 1 && self->results_read + self->results_freed == self->results);
        SIM_CHECK((self->pulled == 1 && self->begun == 1 && self->read == 1) || closed || group_is_killed);
    }
    SIM_CHECK(!source_fails || failure_seen || closed || group_is_killed);
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "imap", .setup = setup, .check = check, .length = 1500, .tick = MICROSECOND };
    return sim_main(argc, argv, &kernel);
}
