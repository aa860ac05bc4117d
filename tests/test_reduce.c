/* reduce: partials, their order and their ends (contract M7, M3, M4, M5, C8). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct weft_group *pool;
static struct weft_map_report report;

static void begin(size_t size)
{
    runtime = runtime_make();
    pool = pool_make(runtime, size);
    report = (struct weft_map_report){ .struct_size = sizeof report };
}

static void end(void)
{
    check_eq(weft_group_len(pool), 0);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

/* ---- an operation that knows when it is misused: intervals, which join only if they touch ---- */

enum { N = 20000, DETERMINISTIC = 512, LEFT = 0x4c, ENDED = 0x45 };

struct interval {
    size_t begin, end; /* equal: empty */
    size_t calls;
    int state;
};

static struct tally {
    _Atomic uint32_t made, ended, alive, most, joined, joining, calls;
    struct interval *acc;
    bool gaps; /* allowed */
    size_t grain;
    struct gate *gate;
    size_t block_at, fail_at;    /* indices */
    size_t fail_init, fail_join; /* which one, from 1 */
    int yield;
} tally;

static int init(void *ctx, void *acc)
{
    struct tally *all = ctx;
    check((uintptr_t)acc % 64 == 0);
    uint32_t n = a_add(&all->made, 1u, SEQ_CST) + 1;
    if (n == all->fail_init) {
        a_sub(&all->made, 1u, SEQ_CST);
        all->fail_init = 0;
        return -ENOSPC;
    }
    note_peak(&all->most, a_add(&all->alive, 1u, SEQ_CST) + 1);
    *(struct interval *)acc = (struct interval){ .state = LEFT };
    return 0;
}

static int body(void *ctx, size_t from, size_t to, void *acc)
{
    struct tally *all = ctx;
    struct interval *part = acc;
    check_eq(part->state, LEFT);
    check(part != all->acc); /* that is joined into, and holds what was there */
    check(from < to && (all->grain == 0 || to - from <= all->grain));
    check(part->calls == 0 || part->end == from); /* contiguous */
    check(weft_task_current() != NULL);
    if (part->calls == 0) {
        part->begin = from;
    }
    part->end = to;
    part->calls++;
    a_add(&all->calls, 1u, SEQ_CST);
    if (all->gate && from <= all->block_at && all->block_at < to) {
        int rc = gate_pass(all->gate);
        if (rc != 0) {
            return rc;
        }
    }
    if (all->yield && from % 3 == 0) {
        weft_yield();
    }
    return all->fail_at != WEFT_NO_INDEX && from <= all->fail_at && all->fail_at < to ? -EIO : 0;
}

static int join(void *ctx, void *left, void *right)
{
    struct tally *all = ctx;
    struct interval *to = left, *from = right;
    check_eq(a_add(&all->joining, 1u, SEQ_CST), 0); /* one at a time */
    check(to == all->acc && from != all->acc);
    check_eq(to->state, LEFT);
    check_eq(from->state, LEFT);
    check(from->calls == 0 || (all->gaps ? to->end <= from->begin : to->end == from->begin)); /* left to right */
    if (from->calls > 0) {
        to->end = from->end;
    }
    to->calls += from->calls;
    if (all->yield) {
        weft_yield();
    }
    a_sub(&all->joining, 1u, SEQ_CST);
    return a_add(&all->joined, 1u, SEQ_CST) + 1 == all->fail_join ? -EDOM : 0;
}

static void fini(void *ctx, void *acc)
{
    struct tally *all = ctx;
    struct interval *part = acc;
    check_eq(part->state, LEFT);
    part->state = ENDED;
    a_add(&all->ended, 1u, SEQ_CST);
    a_sub(&all->alive, 1u, SEQ_CST);
}

static const struct weft_reduce_ops ops = {
    .struct_size = sizeof ops, .acc_size = sizeof(struct interval), .init = init, .body = body, .join = join, .fini = fini
};

/* One reduce of [from, from + n); whatever came of it, each partial has had its end. */
static int reduce(size_t from, size_t n, const struct weft_map_options *options, struct interval *acc)
{
    *acc = (struct interval){ .begin = from, .end = from, .state = LEFT };
    a_store(&tally.made, 0u, SEQ_CST);
    a_store(&tally.ended, 0u, SEQ_CST);
    a_store(&tally.joined, 0u, SEQ_CST);
    a_store(&tally.calls, 0u, SEQ_CST);
    a_store(&tally.most, 0u, SEQ_CST);
    tally.acc = acc;
    tally.grain = options ? options->grain : 0;
    int rc = weft_group_reduce(pool, from, from + n, &ops, &tally, acc, options);
    check_eq(tally.alive, 0);
    check_eq(tally.made, tally.ended);
    check_eq(acc->state, LEFT); /* fini is for partials */
    return rc;
}

static void reduce_whole(size_t from, size_t n, size_t grain, bool deterministic)
{
    struct interval acc;
    const struct weft_map_options *options =
        WEFT_OPTIONS(weft_map_options, .grain = grain, .deterministic = deterministic, .report = &report);
    check_eq(reduce(from, n, options, &acc), 0);
    check(acc.begin == from && acc.end == from + n);
    check_eq(acc.calls, tally.calls);
    check_eq(tally.joined, tally.made);
    check(report.started && report.first_failed == WEFT_NO_INDEX);
    check_eq(report.ok, tally.calls); /* the report counts calls */
    check_eq(report.failed + report.cancelled, 0);
    if (grain > 0) {
        check_eq(tally.calls, (n - 1) / grain + 1);
    }
    if (deterministic) {
        check(tally.made <= DETERMINISTIC);
    }
}

static int reduce_in_task(void *arg, void **result)
{
    (void)arg, (void)result;
    reduce_whole(7, N, 0, false);
    reduce_whole(7, N, 3, true);
    return 0;
}

Test(reduce, partials_are_made_filled_in_order_joined_in_order_and_ended_once_M7)
{
    begin(4);
    tally.fail_at = WEFT_NO_INDEX;
    static const size_t grains[] = { 0, 1, 3, 1000, N, N + 1, SIZE_MAX };
    for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
        for (int variant = 0; variant < 4; variant++) {
            tally.yield = variant / 2;
            reduce_whole(0, N, grains[i], variant % 2);
            reduce_whole(SIZE_MAX - 3000, 3000, grains[i], variant % 2);
            reduce_whole(5, 1, grains[i], variant % 2);
        }
    }
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, reduce_in_task, NULL, NULL, &task), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    weft_task_release(task);
    end();
}

Test(reduce, nothing_is_made_of_an_empty_range)
{
    begin(1);
    struct interval acc;
    cr_assert_eq(reduce(9, 0, NULL, &acc), 0);
    cr_assert_eq(reduce(SIZE_MAX, 0, NULL, &acc), 0);
    cr_assert_eq(tally.made + tally.joined + tally.calls, 0);
    end();
}

/* ---- the same result, to the last bit ---- */

static int zero(void *ctx, void *acc)
{
    (void)ctx;
    *(float *)acc = 0;
    return 0;
}

static int add_inverses(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx;
    for (size_t i = from; i < to; i++) {
        *(float *)acc += 1.0f / (float)(i + 1);
    }
    if (from % 5 == 0) {
        weft_yield();
    }
    return 0;
}

static int add(void *ctx, void *left, void *right)
{
    (void)ctx;
    *(float *)left += *(float *)right;
    return 0;
}

Test(reduce, a_deterministic_sum_is_the_same_in_every_pool_M7)
{
    static const struct weft_reduce_ops sum = {
        .struct_size = sizeof sum, .acc_size = sizeof(float), .init = zero, .body = add_inverses, .join = add
    };
    static const size_t grains[] = { 0, 1, 7, 5000 };
    for (size_t i = 0; i < 4; i++) {
        float first = 0;
        for (size_t size = 1; size <= 8; size++) {
            begin(size);
            float acc = 0.5f;
            cr_assert_eq(weft_group_reduce(pool, 0, N, &sum, NULL, &acc,
                                           WEFT_OPTIONS(weft_map_options, .deterministic = true, .grain = grains[i])),
                         0);
            cr_assert(size == 1 || memcmp(&acc, &first, sizeof acc) == 0, "grain %zu, pool of %zu", grains[i], size);
            first = acc;
            end();
        }
        cr_assert(first > 10.5f && first < 12.0f);
    }
}

/* ---- blocked calls ---- */

static struct gate gate;

static void reduce_blocked(void *arg)
{
    struct interval acc;
    *(int *)arg = reduce(0, N, WEFT_OPTIONS(weft_map_options, .grain = 10, .report = &report, .deterministic = tally.yield), &acc);
    check(*(int *)arg != 0 || (acc.begin == 0 && acc.end == N));
}

/* M4: the others go on, and nothing is joined past the gap; the pile of partials has a bound. */
static void first_call_blocks(bool deterministic)
{
    begin(2);
    tally = (struct tally){ .gate = &gate, .block_at = 0, .fail_at = WEFT_NO_INDEX, .yield = deterministic };
    struct os_thread thread;
    int rc = 1;
    cr_assert_eq(os_thread_start(&thread, reduce_blocked, &rc, "caller"), 0);
    size_t held_back = deterministic ? 3 : 0; /* calls of the same block */
    until(a_load(&tally.calls, SEQ_CST) == N / 10 - held_back && gate_waiting(&gate) == 1);
    cr_assert_eq(a_load(&tally.joined, SEQ_CST), 0);
    cr_assert_leq(a_load(&tally.most, SEQ_CST), deterministic ? DETERMINISTIC : N / 10);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(rc, 0);
    cr_assert_eq(report.ok, N / 10);
    end();
}

Test(reduce, a_blocked_call_holds_nobody_back_M4) { first_call_blocks(false); }
Test(reduce, a_blocked_call_of_a_deterministic_one_holds_only_its_block_back_M4) { first_call_blocks(true); }

static int block_each(void *ctx, size_t from, size_t to, void *acc)
{
    (void)from, (void)to, (void)acc;
    return gate_pass(ctx);
}

static void reduce_each_blocked(void *arg)
{
    static const struct weft_reduce_ops waits = {
        .struct_size = sizeof waits, .acc_size = sizeof(float), .init = zero, .body = block_each, .join = add
    };
    float acc = 0;
    *(int *)arg = weft_group_reduce(pool, 0, 40, &waits, &gate, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1));
}

Test(reduce, as_many_calls_block_at_once_as_the_pool_has_slots_M4)
{
    begin(5);
    struct os_thread thread;
    int rc = 1;
    cr_assert_eq(os_thread_start(&thread, reduce_each_blocked, &rc, "caller"), 0);
    until(gate_waiting(&gate) == 5);
    cr_assert_eq(weft_group_len(pool), 5);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(rc, 0);
    end();
}

/* ---- errors, kills, deadlines ---- */

Test(reduce, a_failed_call_is_named_by_its_begin_and_every_partial_ends_M3)
{
    begin(3);
    tally = (struct tally){ .fail_at = 1234, .gaps = true };
    struct interval acc;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        struct weft_map_options options = {
            .struct_size = sizeof options, .grain = 10, .report = &report, .deterministic = deterministic
        };
        cr_assert_eq(reduce(0, N, &options, &acc), -EIO);
        cr_assert_eq(report.first_failed, 1230);
        cr_assert_eq(report.first_error, -EIO);
        cr_assert_eq(report.failed, 1);
        cr_assert_eq(report.ok, N / 10 - 1);
        cr_assert(acc.begin == 0 && acc.end == N, "what was made is joined all the same");
        options.on_error = WEFT_COLLECT;
        cr_assert_eq(reduce(0, N, &options, &acc), 0);
        options.on_error = WEFT_FAIL_FAST;
        cr_assert_eq(reduce(1230, N, &options, &acc), -EIO);
        cr_assert_eq(report.ok + report.failed + report.cancelled, N / 10);
        cr_assert_eq(report.ok + report.failed, tally.calls);
        if (weft_test_workers() == 1) {
            cr_assert_leq(tally.calls, 2, "the first call failed");
        }
    }
    end();
}

Test(reduce, an_init_that_fails_is_its_calls_failure_M7)
{
    begin(2);
    tally = (struct tally){ .fail_at = WEFT_NO_INDEX, .gaps = true };
    struct interval acc;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        const struct weft_map_options *options =
            WEFT_OPTIONS(weft_map_options, .grain = 10, .report = &report, .deterministic = deterministic);
        tally.fail_init = 1;
        cr_assert_eq(reduce(0, N, options, &acc), -ENOSPC);
        cr_assert_eq(report.failed, 1);
        cr_assert_eq(tally.calls, N / 10 - 1);
        cr_assert_eq(tally.joined, tally.made);
    }
    end();
}

Test(reduce, a_join_that_fails_is_the_last_and_is_told_M7)
{
    begin(2);
    tally = (struct tally){ .fail_at = WEFT_NO_INDEX };
    struct interval acc;
    for (int on_error = WEFT_RUN_ALL; on_error <= WEFT_COLLECT; on_error++) {
        tally.fail_join = 2;
        cr_assert_eq(
            reduce(0, N, WEFT_OPTIONS(weft_map_options, .deterministic = true, .on_error = (enum weft_on_error)on_error), &acc),
            -EDOM);
        cr_assert_eq(tally.joined, 2);
        if (on_error != WEFT_FAIL_FAST) {
            cr_assert_eq(tally.calls, 500, "20000 indices, 40 a call");
        }
    }
    end();
}

enum cut { BY_GROUP, BY_TASK, BY_DEADLINE };

static int reduce_until_cut(void *arg, void **result)
{
    (void)result;
    struct interval acc;
    return reduce(0, N, arg, &acc);
}

static void cut_short(enum cut cut)
{
    begin(3);
    tally = (struct tally){ .gate = &gate, .block_at = N / 2, .fail_at = WEFT_NO_INDEX, .gaps = true };
    struct weft_map_options options = { .struct_size = sizeof options, .grain = 10, .report = &report };
    options.deadline = cut == BY_DEADLINE ? weft_after(100 * WEFT_MSEC) : 0;
    struct weft_task *task;
    struct weft_outcome outcome;
    check_eq(weft_task_spawn(runtime, reduce_until_cut, &options, NULL, &task), 0);
    if (cut != BY_DEADLINE) {
        until(gate_waiting(&gate) == 1);
    }
    if (cut == BY_GROUP) {
        check_eq(weft_group_kill(pool, -EINTR, WEFT_FOREVER), 0);
    } else if (cut == BY_TASK) {
        check_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    }
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check_eq(outcome.status, cut == BY_TASK ? WEFT_CANCELLED : WEFT_FAILED);
    check_eq(outcome.error, cut == BY_TASK ? -EINTR : cut == BY_GROUP ? -ECANCELED : -ETIMEDOUT);
    check(report.cancelled >= 1 && report.failed == 0);
    check_eq(report.ok + report.cancelled, N / 10);
    weft_task_release(task);
    end();
}

Test(reduce, a_kill_of_the_group_ends_every_partial_M5) { cut_short(BY_GROUP); }
Test(reduce, a_kill_of_the_caller_ends_every_partial_C8) { cut_short(BY_TASK); }
Test(reduce, its_deadline_ends_every_partial_M5) { cut_short(BY_DEADLINE); }

/* A kill that comes while nothing runs but a join: the call was made, and is joined; nothing more begins. */
static int join_and_wait(void *ctx, void *left, void *right)
{
    int rc = gate_pass(ctx);
    return rc != 0 ? rc : add(NULL, left, right);
}

static int do_zero(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx, (void)from, (void)to, (void)acc;
    return 0;
}

static int reduce_join_waits(void *arg, void **result)
{
    (void)result;
    static const struct weft_reduce_ops waits = {
        .struct_size = sizeof waits, .acc_size = sizeof(float), .init = zero, .body = do_zero, .join = join_and_wait
    };
    float acc = 0;
    return weft_group_reduce(pool, 0, 100, &waits, arg, &acc, WEFT_OPTIONS(weft_map_options, .deterministic = true));
}

Test(reduce, a_join_may_block_and_be_killed_C8)
{
    begin(2);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, reduce_join_waits, &gate, NULL, &task), 0);
    until(gate_waiting(&gate) == 1);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    weft_task_release(task);
    end();
}

/* C8: killing a task cancels the reduce it is in, and the map inside that, and the reduce inside that. */
static _Atomic uint32_t inner_calls;

static int innermost(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx, (void)from, (void)to, (void)acc;
    a_add(&inner_calls, 1u, SEQ_CST);
    return gate_pass(&gate);
}

static const struct weft_reduce_ops innermost_ops = {
    .struct_size = sizeof innermost_ops, .acc_size = sizeof(float), .init = zero, .body = innermost, .join = add
};

static int middle(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    float acc = 0;
    return weft_group_reduce(NULL, 0, 3, &innermost_ops, NULL, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1));
}

static int outermost(void *ctx, size_t from, size_t to, void *acc)
{
    (void)from, (void)to, (void)acc;
    return weft_group_map(ctx, middle, NULL, 2, NULL, 0, NULL, 0, NULL);
}

static int nested(void *arg, void **result)
{
    (void)result;
    static const struct weft_reduce_ops outer = {
        .struct_size = sizeof outer, .acc_size = sizeof(float), .init = zero, .body = outermost, .join = add
    };
    float acc = 0;
    int rc = weft_group_reduce(arg, 0, 2, &outer, arg, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1, .report = &report));
    check_eq(weft_sleep_until(WEFT_NOWAIT), 0); /* the kill was delivered, once */
    check_eq(weft_cancel_reason(), -EINTR);
    return rc;
}

Test(reduce, a_kill_reaches_the_innermost_of_nested_maps_and_reduces_C8)
{
    begin(4);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, nested, pool, NULL, &task), 0);
    until(gate_waiting(&gate) == 2 * 2 * 3);
    cr_assert_eq(weft_task_kill(task, -EINTR, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(a_load(&inner_calls, SEQ_CST), 2 * 2 * 3);
    cr_assert_eq(report.cancelled, 2);
    cr_assert_eq(gate_waiting(&gate), 0);
    weft_task_release(task);
    end();
}

/* ---- arguments ---- */

Test(reduce, what_is_wrong_is_refused_and_nothing_runs)
{
    begin(1);
    float acc = 1;
    int status[3];
    const struct weft_reduce_ops good = {
        .struct_size = sizeof good, .acc_size = sizeof(float), .init = zero, .body = do_zero, .join = add
    };
    struct weft_reduce_ops bad = good;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, NULL, NULL, &acc, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 3, 0, &good, NULL, &acc, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &good, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &good, NULL, &acc, WEFT_OPTIONS(weft_map_options, .status = status)), -EINVAL);
    bad.acc_size = 0;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.init = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.body = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.join = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.struct_size = 0;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.acc_size = SIZE_MAX;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -ENOMEM);
    cr_assert(acc == 1);
    cr_assert_eq(weft_group_reduce(NULL, 0, 3, &good, NULL, &acc, NULL), 0);
    cr_assert(acc == 1);
    end();
}
