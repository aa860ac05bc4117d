/* map: every item once, who takes part, what is reported (contract M1, M2, M4, M6, M9). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct gate gate;
static _Atomic uint32_t running, peak;

static struct weft_group *begin(size_t size)
{
    runtime = runtime_make();
    return pool_make(runtime, size);
}

static void end(struct weft_group *pool)
{
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static int square(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx;
    check_eq(*(const int *)in, (int)index);
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

/* gevent: pool.map(sqr, range(100)). */
Test(map, squares_of_a_hundred_in_order)
{
    struct weft_group *pool = begin(10);
    int numbers[100], squares[100];
    for (int i = 0; i < 100; i++) {
        numbers[i] = i;
    }
    cr_assert_eq(WEFT_MAP(pool, square, NULL, 100, numbers, squares, NULL), 0);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(squares[i], i * i);
    }
    cr_assert_eq(WEFT_MAP(pool, square, NULL, 100, numbers, numbers, NULL), 0, "in place");
    cr_assert_arr_eq(numbers, squares, sizeof squares);
    cr_assert_eq(WEFT_MAP(pool, square, NULL, 0, numbers, squares, NULL), 0);
    end(pool);
}

enum { MANY = 100000 };
static _Atomic uint8_t calls[MANY];

static int count_call(void *ctx, size_t index, const void *in, void *out)
{
    check(ctx == &runtime && in == NULL && out == NULL);
    a_add(&calls[index], 1u, RELAXED);
    return 0;
}

static void each_once(struct weft_group *pool, size_t n, size_t grain)
{
    struct weft_map_report report = { .struct_size = sizeof report };
    memset((void *)calls, 0, sizeof calls);
    const struct weft_map_options *options = WEFT_OPTIONS(weft_map_options, .grain = grain, .report = &report);
    check_eq(weft_group_map(pool, count_call, &runtime, n, NULL, 0, NULL, 0, options), 0);
    for (size_t i = 0; i < MANY; i++) {
        check_eq(a_load(&calls[i], RELAXED), i < n);
    }
    check(report.started);
    check_eq(report.ok, n);
    check_eq(report.failed + report.cancelled, 0);
    check(report.first_failed == WEFT_NO_INDEX);
    check_eq(report.first_error, 0);
}

static int each_once_in_task(void *pool, void **result)
{
    (void)result;
    each_once(pool, MANY, 0);
    each_once(pool, 1, 0);
    return 0;
}

Test(map, each_item_once_whatever_the_grain_and_the_caller)
{
    struct weft_group *pool = begin(3);
    static const size_t grains[] = { 0, 1, 2, 7, 1000, MANY, SIZE_MAX };
    for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
        each_once(pool, MANY, grains[i]);
        each_once(pool, 17, grains[i]);
    }
    run_ok(runtime, each_once_in_task, pool);
    run_ok(runtime, each_once_in_task, NULL);
    end(pool);
}

static int copy_far(void *ctx, size_t index, const void *in, void *out)
{
    check(ctx == in && index < 10);
    *(int *)out = (int)index;
    return 0;
}

Test(map, strides_are_bytes_and_may_be_none)
{
    struct weft_group *pool = begin(1);
    int one = 7, far[40];
    memset(far, 0xff, sizeof far);
    cr_assert_eq(weft_group_map(pool, copy_far, &one, 10, &one, 0, far, 4 * sizeof *far, NULL), 0);
    for (int i = 0; i < 40; i++) {
        cr_assert_eq(far[i], i % 4 == 0 ? i / 4 : -1);
    }
    end(pool);
}

/* ---- who takes part ---- */

static int meet(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    note_peak(&peak, a_add(&running, 1u, SEQ_CST) + 1);
    check(weft_task_current() != NULL);
    int rc = gate_pass(ctx);
    a_sub(&running, 1u, SEQ_CST);
    return rc;
}

struct call {
    struct weft_group *pool;
    size_t n;
    const struct weft_map_options *options;
    int rc;
    _Atomic bool done;
};

static void map_meet(void *arg)
{
    struct call *call = arg;
    call->rc = weft_group_map(call->pool, meet, &gate, call->n, NULL, 0, NULL, 0, call->options);
    a_store(&call->done, true, SEQ_CST);
}

static int map_meet_task(void *arg, void **result)
{
    (void)result;
    map_meet(arg);
    return 0;
}

/* Blocked items do not hold their neighbours back: as many as the pool has slots are blocked at once, on one worker, too (M4). */
static void blocked_at_once(bool from_task)
{
    enum { SIZE = 5, ITEMS = 12 };
    struct weft_group *pool = begin(SIZE);
    struct call call = { .pool = pool, .n = ITEMS };
    struct os_thread thread;
    struct weft_task *task;
    if (from_task) {
        check_eq(weft_task_spawn(runtime, map_meet_task, &call, NULL, &task), 0);
    } else {
        check_eq(os_thread_start(&thread, map_meet, &call, "caller"), 0);
    }
    until(gate_waiting(&gate) == SIZE);
    check_eq(weft_group_len(pool), SIZE); /* participants count */
    check_eq(weft_pool_free_count(pool), 0);
    check_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    check_eq(weft_group_destroy(pool), -EBUSY);
    gate_open(&gate);
    if (from_task) {
        check_eq(weft_task_join(task, WEFT_FOREVER), 0);
        weft_task_release(task);
    } else {
        os_thread_join(thread);
    }
    check_eq(call.rc, 0);
    check_eq(peak, SIZE);
    end(pool);
}

Test(map, a_foreign_callers_blocked_items_hold_nobody_back) { blocked_at_once(false); }
Test(map, a_tasks_blocked_items_hold_nobody_back) { blocked_at_once(true); }

static int meet_chain(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    struct gate *gates = ctx;
    if (index > 0) {
        gate_open(&gates[index - 1]);
    }
    return index < 7 ? gate_pass(&gates[index]) : 0;
}

/* Each item waits until the next one has run: without M4 nobody could. In a pool of exactly that many, on any number of workers. */
Test(map, items_that_wait_for_their_neighbours_end)
{
    struct weft_group *pool = begin(8);
    static struct gate gates[8];
    static const size_t grains[] = { 0, 1, 8 };
    for (int i = 0; i < 3; i++) {
        memset(gates, 0, sizeof gates);
        const struct weft_map_options *options = WEFT_OPTIONS(weft_map_options, .grain = grains[i]);
        cr_assert_eq(weft_group_map(pool, meet_chain, gates, 8, NULL, 0, NULL, 0, options), 0);
        memset(gates, 0, sizeof gates);
        cr_assert_eq(weft_group_map(NULL, meet_chain, gates, 8, NULL, 0, NULL, 0, options), 0);
    }
    end(pool);
}

static int know_myself(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in;
    struct weft_task *me = weft_task_current();
    check(me != NULL);
    check(!weft_task_finished(me));
    *(bool *)out = me == ctx;
    return 0;
}

static int map_know_myself(void *arg, void **result)
{
    (void)result;
    bool mine[50];
    struct weft_task *before = weft_task_current();
    check_eq(WEFT_MAP(arg, know_myself, before, 50, mine, mine, NULL), 0);
    check(weft_task_current() == before);
    check(mine[0]); /* the caller begins with the first */
    return 0;
}

Test(map, in_an_item_there_is_always_a_current_task)
{
    struct weft_group *pool = begin(2);
    bool mine[50];
    run_ok(runtime, map_know_myself, pool);
    cr_assert_eq(WEFT_MAP(pool, know_myself, NULL, 50, mine, mine, NULL), 0);
    cr_assert_null(weft_task_current());
    end(pool);
}

/* M2: nothing of it runs any more, and nothing is touched. */
Test(map, nothing_runs_when_it_returns)
{
    struct weft_group *pool = begin(4);
    for (int i = 0; i < 300; i++) {
        bool *out = malloc(64);
        cr_assert_eq(weft_group_map(pool, know_myself, NULL, 64, NULL, 0, out, 1, NULL), 0);
        free(out);
        cr_assert_eq(weft_group_len(pool), 0);
        cr_assert_eq(weft_pool_free_count(pool), 4);
    }
    end(pool);
}

/* ---- progress ---- */

static _Atomic uint32_t in_progress;
static size_t progress_calls, progress_last;
static bool progress_grew = true;

static void note_progress(size_t done, size_t n, void *arg)
{
    check_eq(a_add(&in_progress, 1u, SEQ_CST), 0); /* from one thread at a time */
    check(arg == &runtime && n == MANY && done <= n);
    progress_grew = progress_grew && done >= progress_last;
    progress_last = done;
    progress_calls++;
    a_sub(&in_progress, 1u, SEQ_CST);
}

Test(map, progress_is_told_rarely_and_at_the_end)
{
    struct weft_group *pool = begin(4);
    int64_t before = weft_now();
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, MANY, NULL, 0, NULL, 0,
                                WEFT_OPTIONS(weft_map_options, .progress = note_progress, .progress_arg = &runtime)),
                 0);
    int64_t took = weft_now() - before;
    cr_assert_eq(progress_last, MANY);
    cr_assert_geq(progress_calls, 1);
    cr_assert_leq(progress_calls, (size_t)(took / (100 * WEFT_MSEC)) + 1);
    cr_assert(progress_grew);
    end(pool);
}

/* Of ranges it counts indices, whatever a call has of them; nothing that is handed back is counted twice. */
static _Atomic uint32_t indices_done;
static size_t range_progress_last;

static int pass_slowly(void *ctx, size_t from, size_t to)
{
    (void)ctx;
    check_eq(weft_sleep_until(weft_after(2 * WEFT_MSEC)), 0); /* hands the rest back, and lasts until some calls of progress */
    a_add(&indices_done, (uint32_t)(to - from), SEQ_CST);
    return 0;
}

static void note_range_progress(size_t done, size_t n, void *arg)
{
    check_eq(a_add(&in_progress, 1u, SEQ_CST), 0);
    check_eq(n, *(size_t *)arg);
    check(done >= range_progress_last && done <= n);
    range_progress_last = done;
    progress_calls++;
    a_sub(&in_progress, 1u, SEQ_CST);
}

Test(map, progress_of_a_range_counts_indices_and_never_goes_back_M9)
{
    struct weft_group *pool = begin(4);
    static const size_t grains[] = { 0, 1, 7 };
    for (int i = 0; i < 3; i++) {
        size_t n = 400;
        range_progress_last = progress_calls = 0;
        a_store(&indices_done, 0u, SEQ_CST);
        int64_t before = weft_now();
        cr_assert_eq(
            weft_group_for(pool, 100, 100 + n, pass_slowly, NULL,
                           WEFT_OPTIONS(weft_map_options, .grain = grains[i], .progress = note_range_progress, .progress_arg = &n)),
            0);
        cr_assert_eq(range_progress_last, n);
        cr_assert_eq(indices_done, n);
        cr_assert_leq(progress_calls, (size_t)((weft_now() - before) / (100 * WEFT_MSEC)) + 1);
        if (grains[i] == 1) {
            cr_assert_geq(progress_calls, 2, "400 calls of 2 ms, 4 at once");
        }
    }
    end(pool);
}

/* ---- arguments ---- */

Test(map, what_is_wrong_is_refused_and_nothing_runs)
{
    struct weft_group *pool = begin(1);
    struct weft_map_report report = { .struct_size = sizeof report, .started = true };
    struct weft_map_options options = { .struct_size = 0 };
    cr_assert_eq(weft_group_map(pool, NULL, NULL, 1, NULL, 0, NULL, 0, NULL), -EINVAL);
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, 1, NULL, 0, NULL, 0, &options), -EINVAL);
    options = (struct weft_map_options){ .struct_size = sizeof options, .on_error = WEFT_COLLECT + 1, .report = &report };
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, 1, NULL, 0, NULL, 0, &options), -EINVAL);
    cr_assert_not(report.started);
    struct {
        struct weft_map_options known;
        uint64_t more;
    } larger = { .known.struct_size = sizeof larger, .more = 1 };
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, 1, NULL, 0, NULL, 0, &larger.known), -E2BIG);
    cr_assert_eq(calls[0], 0);
    larger.more = 0;
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, 1, NULL, 0, NULL, 0, &larger.known), 0);
    cr_assert_eq(calls[0], 1);
    end(pool);
}

/* Of a report only what fits is written. */
Test(map, a_smaller_report_is_filled_as_far_as_it_goes)
{
    struct weft_group *pool = begin(1);
    struct weft_map_report report;
    memset(&report, 0x55, sizeof report);
    report.struct_size = offsetof(struct weft_map_report, failed);
    cr_assert_eq(weft_group_map(pool, count_call, &runtime, 5, NULL, 0, NULL, 0, WEFT_OPTIONS(weft_map_options, .report = &report)),
                 0);
    cr_assert_eq(report.ok, 5);
    cr_assert_eq(report.failed, (size_t)0x5555555555555555);
    end(pool);
}
