/* E6: option structs, stats and reports. */
#include "contract.h"

/* Each kind of options, at `at`, used once; what the call returned. */
typedef int use_fn(const void *at);

static int use_runtime(const void *at)
{
    struct weft_runtime *made = NULL;
    int rc = weft_runtime_create(at, &made);
    check_eq(weft_runtime_destroy(made), 0);
    return rc;
}

static int use_task(const void *at) { return weft_task_spawn(runtime, do_nothing, NULL, at, NULL); }

static int use_group(const void *at)
{
    struct weft_group *group = NULL;
    int rc = weft_group_create(runtime, at, &group);
    check_eq(weft_group_destroy(group), 0);
    return rc;
}

static int use_map(const void *at) { return weft_group_map(pool, item_nothing, NULL, 3, NULL, 0, NULL, 0, at); }

static int use_imap(const void *at)
{
    struct weft_array array = { 0 };
    struct weft_imap *imap = NULL;
    int rc = weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, element_nothing, NULL, at, &imap);
    check_eq(weft_imap_destroy(imap), 0);
    return rc;
}

static int use_apply(const void *at)
{
    struct weft_outcome outcome;
    return weft_group_apply_cb(pool, do_nothing, NULL, at, &outcome);
}

static const struct {
    use_fn *use;
    size_t bytes;
} kinds[] = { { use_runtime, sizeof(struct weft_runtime_options) }, { use_task, sizeof(struct weft_task_options) },
              { use_group, sizeof(struct weft_group_options) },     { use_map, sizeof(struct weft_map_options) },
              { use_imap, sizeof(struct weft_imap_options) },       { use_apply, sizeof(struct weft_apply_options) } };

PROMISE(E6_sizes_of_options_decide_what_is_read, EVERYWHERE)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        union {
            size_t struct_size;
            unsigned char bytes[1024];
        } options = { .struct_size = 0 };
        check_eq(kinds[i].use(NULL), 0);
        check_eq(kinds[i].use(&options), -EINVAL);
        options.struct_size = sizeof(size_t); /* what lies beyond is not read */
        memset(options.bytes + sizeof(size_t), 0xa5, sizeof options.bytes - sizeof(size_t));
        check_eq(kinds[i].use(&options), 0);
        memset(options.bytes, 0, sizeof options.bytes);
        options.struct_size = kinds[i].bytes + 64;
        check_eq(kinds[i].use(&options), 0);
        options.bytes[kinds[i].bytes + 63] = 1;
        check_eq(kinds[i].use(&options), -E2BIG);
    }
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
}

PROMISE(E6_of_stats_and_reports_only_what_fits_is_written, EVERYWHERE)
{
    union {
        struct weft_runtime_stats stats;
        struct weft_map_report report;
        unsigned char bytes[1024];
    } at;
    memset(&at, 0xa5, sizeof at);
    at.stats.struct_size = offsetof(struct weft_runtime_stats, spawned);
    check_eq(weft_runtime_read_stats(runtime, &at.stats), 0);
    check_eq(at.stats.workers, workers);
    check_eq(at.bytes[offsetof(struct weft_runtime_stats, spawned)], 0xa5);
    at.stats.struct_size = 0;
    check_eq(weft_runtime_read_stats(runtime, &at.stats), -EINVAL);
    memset(&at, 0xa5, sizeof at);
    at.report.struct_size = offsetof(struct weft_map_report, failed);
    check_eq(weft_group_map(pool, item_nothing, NULL, 3, NULL, 0, NULL, 0, WEFT_OPTIONS(weft_map_options, .report = &at.report)),
             0);
    check(at.report.started);
    check_eq(at.report.ok, 3);
    check_eq(at.bytes[offsetof(struct weft_map_report, failed)], 0xa5);
}

PROMISE(E6_options_and_names_are_copied, EVERYWHERE)
{
    char name[] = "as it was";
    struct weft_task_options options = { .struct_size = sizeof options, .name = name, .arg_free = count_arg };
    struct weft_task *task;
    count_reset();
    check_eq(weft_task_create(runtime, count_run, NULL, &options, &task), 0);
    memset(&options, 0xff, sizeof options);
    memset(name, 'x', sizeof name - 1);
    check_eq(weft_task_start(task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check(strcmp(weft_task_name(task), "as it was") == 0);
    check_eq(args_freed, 1);
    weft_task_release(task);
}
