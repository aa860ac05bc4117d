/* options: errors, times and structs (contract E). */
#include "testing.h"

#include <pthread.h>
#include <unistd.h>

#include "tasks.h"

static struct weft_runtime *runtime;
static int freed;

static void setup(void) { runtime = runtime_with(2); }
static void teardown(void) { (void)weft_runtime_destroy(runtime); }

TestSuite(options, .init = setup, .fini = teardown);

static void count_free(void *arg) { ++*(int *)arg; }

static void note(struct weft_task *task, const struct weft_outcome *outcome, void *arg) { (void)task, (void)outcome, (void)arg; }

/* ---- E2, E5: words and times ---- */

Test(options, version_is_the_headers)
{
    char version[32];
    (void)snprintf(version, sizeof version, "%d.%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH);
    cr_assert_str_eq(weft_version(), version);
}

Test(options, strerror_words_its_own_codes_and_leaves_the_rest_to_the_system_E2)
{
    const int own[] = { 0, -EAGAIN, -ETIMEDOUT, -ECANCELED, -EDEADLK, -ENOENT, -EALREADY, -ESHUTDOWN, -EPERM, -EXDEV };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *text = weft_strerror(own[i]);
        cr_assert_gt(strlen(text), 5);
        cr_assert_str_neq(text, strerror(-own[i]), "%d has words of its own", own[i]);
        for (size_t j = 0; j < i; j++) {
            cr_assert_str_neq(text, weft_strerror(own[j]));
        }
    }
    const int others[] = { -EINVAL, -ENOMEM, -EOVERFLOW, -EBUSY, -E2BIG, -EPIPE, -EIO };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        cr_assert_str_eq(weft_strerror(others[i]), strerror(-others[i]));
    }
    cr_assert_not_null(weft_strerror(-100000));
}

Test(options, full_is_eagain_or_a_timeout_E2)
{
    cr_assert(WEFT_IS_FULL(-EAGAIN) && WEFT_IS_FULL(-ETIMEDOUT));
    cr_assert_not(WEFT_IS_FULL(0) || WEFT_IS_FULL(-ECANCELED) || WEFT_IS_FULL(-ESHUTDOWN));
}

Test(options, after_saturates_and_is_never_nowait_E5_H27)
{
    cr_assert_eq(weft_after(INT64_MAX), WEFT_FOREVER);
    cr_assert_eq(weft_after(INT64_MAX - 1), WEFT_FOREVER);
    int64_t before = weft_now(), then = weft_after(WEFT_SEC), later = weft_now();
    cr_assert(then >= before + WEFT_SEC && then <= later + WEFT_SEC);
    cr_assert_geq(weft_after(0), before);
    cr_assert_gt(weft_after(INT64_MIN), WEFT_NOWAIT);
    cr_assert_lt(weft_after(INT64_MIN), before);
    cr_assert_gt(weft_after(-before - WEFT_SEC), WEFT_NOWAIT);
}

static int wait_in_every_way(void *arg, void **value)
{
    (void)value;
    struct weft_task *busy = arg;
    struct weft_outcome outcome;
    for (int64_t ns = 1; ns < 20 * WEFT_MSEC; ns *= 7) {
        int64_t deadline = weft_after(ns);
        CHECK(weft_sleep_until(deadline) == 0 && weft_now() >= deadline);
        deadline = weft_after(ns);
        CHECK(weft_task_join(busy, deadline) == -ETIMEDOUT && weft_now() >= deadline);
        deadline = weft_after(ns);
        CHECK(weft_task_get(busy, deadline, &outcome) == -ETIMEDOUT && weft_now() >= deadline);
        CHECK(outcome.status == WEFT_PENDING); /* the wait's code is not the task's (E3) */
        deadline = weft_after(ns);
        CHECK(weft_tasks_wait(&busy, 1, 1, deadline) == 0 && weft_now() >= deadline);
    }
    CHECK(weft_task_join(busy, WEFT_NOWAIT) == -ETIMEDOUT);
    CHECK(weft_task_join(busy, 1) == -ETIMEDOUT);
    CHECK(weft_task_join(busy, -1) == -ETIMEDOUT);
    CHECK(weft_task_join(busy, INT64_MIN) == -ETIMEDOUT);
    CHECK(weft_sleep_until(INT64_MIN) == 0);
    CHECK(!weft_task_finished(busy)); /* it goes on (E2) */
    return 0;
}

static void *wait_on_a_thread(void *busy)
{
    void *value;
    return (void *)(intptr_t)wait_in_every_way(busy, &value);
}

Test(options, no_wait_ends_early_wherever_it_is_called_E2_E3_E5_E7)
{
    struct weft_task *busy = spawn_in(runtime, at_gate, NULL);
    pthread_t thread;
    void *rc;
    gate_wait(&begun, 1);
    cr_assert_eq(run_in(runtime, wait_in_every_way, busy), 0);
    cr_assert_eq(pthread_create(&thread, NULL, wait_on_a_thread, busy), 0);
    (void)pthread_join(thread, &rc);
    cr_assert_null(rc);
    gate_open(&open_gate);
    cr_assert_eq(finish_task(busy).status, WEFT_OK);
}

static int fail(void *arg, void **value)
{
    (void)arg, (void)value;
    return -ETIMEDOUT;
}

Test(options, a_waits_status_is_not_the_outcomes_E3)
{
    struct weft_task *task = spawn_in(runtime, fail, NULL);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_FAILED);
    cr_assert_eq(outcome.error, -ETIMEDOUT);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
}

/* ---- E4 ---- */

Test(options, after_a_refusal_nothing_has_changed_E4)
{
    struct weft_task_options bad = { .arg_free = count_free };
    struct weft_task *task = (struct weft_task *)&freed;
    uint64_t id = 7;
    cr_assert_eq(weft_task_create(runtime, do_nothing, &freed, &bad, &task), -EINVAL);
    cr_assert_null(task);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, &freed, &bad, NULL), -EINVAL);
    bad.struct_size = sizeof bad;
    bad.stack_size = SIZE_MAX / 2;
    cr_assert_lt(weft_task_create(runtime, do_nothing, &freed, &bad, &task), 0);
    bad.stack_size = 0;
    cr_assert_eq(weft_task_create(runtime, NULL, &freed, &bad, &task), -EINVAL);
    cr_assert_eq(freed, 0, "the argument stays the caller's");
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    cr_assert_eq(weft_runtime_read_stats(runtime, &stats), 0);
    cr_assert_eq(stats.spawned, 0);
    cr_assert_eq(weft_task_create(runtime, do_nothing, &freed, &bad, &task), 0);
    cr_assert_eq(weft_task_link(task, note, NULL, 0, &id), -EINVAL);
    cr_assert_eq(id, 7);
    cr_assert_eq(weft_task_start(task), 0, "it is still new");
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    cr_assert_eq(freed, 1);
}

/* ---- E6 ---- */

/* A struct of a caller that is newer than the library. */
#define NEWER(type)          \
    struct newer_##type {    \
        struct type known;   \
        uint64_t unknown[2]; \
    }

/* Each kind of option struct through the function that reads it: 0 is not a size, more is fine while the rest is zero. */
#define CHECK_SIZES(type, call)                                              \
    do {                                                                     \
        NEWER(type) options = { .known.struct_size = sizeof options.known }; \
        cr_assert_eq((call), 0, #type);                                      \
        options.known.struct_size = 0;                                       \
        cr_assert_eq((call), -EINVAL, #type);                                \
        options.known.struct_size = sizeof(size_t);                          \
        cr_assert_eq((call), 0, #type);                                      \
        options.known.struct_size = sizeof options;                          \
        cr_assert_eq((call), 0, #type);                                      \
        options.unknown[1] = 1;                                              \
        cr_assert_eq((call), -E2BIG, #type);                                 \
    } while (0)

static int create_runtime(const struct weft_runtime_options *options)
{
    struct weft_runtime *made;
    int rc = weft_runtime_create(options, &made);
    return rc != 0 ? rc : weft_runtime_destroy(made);
}

static int create_group(const struct weft_group_options *options)
{
    struct weft_group *group;
    int rc = weft_group_create(runtime, options, &group);
    return rc != 0 ? rc : weft_group_destroy(group);
}

static int create_imap(const struct weft_imap_options *options)
{
    struct weft_array array = { 0 };
    struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_imap *imap;
    int rc = weft_group_imap(NULL, &source, 1, element_nothing, NULL, options, &imap);
    return rc != 0 ? rc : weft_imap_destroy(imap);
}

static int call_map(const struct weft_map_options *options)
{
    return weft_group_map(NULL, item_nothing, NULL, 2, NULL, 0, NULL, 0, options);
}

Test(options, struct_size_says_which_version_it_is_E6)
{
    CHECK_SIZES(weft_runtime_options, create_runtime(&options.known));
    CHECK_SIZES(weft_task_options, weft_task_spawn(runtime, do_nothing, NULL, &options.known, NULL));
    CHECK_SIZES(weft_group_options, create_group(&options.known));
    CHECK_SIZES(weft_map_options, call_map(&options.known));
    CHECK_SIZES(weft_imap_options, create_imap(&options.known));
    cr_assert_eq(create_runtime(NULL), 0, "NULL means defaults");
    cr_assert_eq(create_group(NULL), 0);
    cr_assert_eq(call_map(NULL), 0);
    cr_assert_eq(create_imap(NULL), 0);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, NULL), 0);
    cr_assert_eq(weft_runtime_destroy(weft_runtime_default()), 0);
}

/* What lies beyond the size given is not read. */
Test(options, missing_fields_are_zero_E6)
{
    struct weft_task_options options = { .struct_size = offsetof(struct weft_task_options, deadline),
                                         .deadline = 1,
                                         .arg_free = count_free };
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, &freed, &options, &task), 0);
    cr_assert_eq(finish_task(task).status, WEFT_OK, "the deadline in the past is not part of it");
    cr_assert_eq(freed, 0);
}

Test(options, of_stats_and_reports_only_what_fits_is_written_E6)
{
    struct weft_runtime_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    stats.struct_size = offsetof(struct weft_runtime_stats, spawned);
    cr_assert_eq(weft_runtime_read_stats(runtime, &stats), 0);
    cr_assert_eq(stats.workers, 2);
    cr_assert_eq(stats.spawned, UINT64_C(0x5a5a5a5a5a5a5a5a));
    NEWER(weft_runtime_stats) newer = { .known.struct_size = sizeof newer, .unknown = { 3, 4 } };
    cr_assert_eq(weft_runtime_read_stats(runtime, &newer.known), 0);
    cr_assert_eq(newer.known.workers, 2);
    cr_assert(newer.unknown[0] == 3 && newer.unknown[1] == 4);
    stats.struct_size = 0;
    cr_assert_eq(weft_runtime_read_stats(runtime, &stats), -EINVAL);
    cr_assert_eq(weft_runtime_read_stats(runtime, NULL), -EINVAL);

    struct weft_map_report report;
    memset(&report, 0x5a, sizeof report);
    report.struct_size = offsetof(struct weft_map_report, failed);
    cr_assert_eq(call_map(WEFT_OPTIONS(weft_map_options, .report = &report)), 0);
    cr_assert_eq(report.ok, 2);
    cr_assert_eq(report.failed, (size_t)0x5a5a5a5a5a5a5a5a);
    cr_assert_eq(report.first_error, 0x5a5a5a5a);
}

static _Atomic int hooks_called;

static void on_finish(struct weft_task *task, void *ctx)
{
    (void)task;
    gate_open(ctx);
}

Test(options, structs_are_copied_and_names_too_E6)
{
    char name[] = "copied";
    struct weft_task_hooks hooks = { .finish = on_finish, .ctx = &hooks_called };
    struct weft_task_options options = { .struct_size = sizeof options, .name = name, .arg_free = count_free, .hooks = &hooks };
    struct weft_task *task;
    cr_assert_eq(weft_task_create(runtime, do_nothing, &freed, &options, &task), 0);
    memset(&options, 0x5a, sizeof options);
    memset(&hooks, 0x5a, sizeof hooks);
    memset(name, 'x', sizeof name - 1);
    cr_assert_str_eq(weft_task_name(task), "copied");
    cr_assert_eq(weft_task_start(task), 0);
    cr_assert_eq(finish_task(task).status, WEFT_OK);
    cr_assert_eq(freed, 1);
    cr_assert_eq(atomic_load(&hooks_called), 1);
}

/* Frozen for ever: a program built with any version reads them. */
_Static_assert(sizeof(struct weft_outcome) == 8 + sizeof(void *) && offsetof(struct weft_outcome, status) == 0 &&
                   offsetof(struct weft_outcome, error) == 4 && offsetof(struct weft_outcome, value) == 8,
               "frozen");
_Static_assert(offsetof(struct weft_item, status) == sizeof(size_t) && offsetof(struct weft_item, error) == sizeof(size_t) + 4 &&
                   offsetof(struct weft_item, input) == sizeof(size_t) + 8 &&
                   sizeof(struct weft_item) == sizeof(size_t) + 8 + 2 * sizeof(void *),
               "frozen");
_Static_assert(WEFT_PENDING == 0 && WEFT_OK == 1 && WEFT_FAILED == 2 && WEFT_CANCELLED == 3, "frozen");
