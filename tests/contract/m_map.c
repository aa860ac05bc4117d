/* M1 to M6: map. */
#include "contract.h"

enum { N = 100 };

static int square(void *ctx, size_t index, const void *in, void *out)
{
    const int64_t *n = in;
    a_add((_Atomic uint32_t *)ctx, 1u, SEQ_CST);
    check_eq(*n, index);
    check(weft_task_current() != NULL);
    *(int64_t *)out = *n * *n;
    return 0;
}

/* gevent: map(sqr, 0..99), in order. */
PROMISE(M1_each_item_once_with_its_in_and_its_out, EVERY)
{
    int64_t in[N], out[N] = { 0 };
    _Atomic uint32_t calls = 0;
    for (int i = 0; i < N; i++) {
        in[i] = i;
    }
    check_eq(WEFT_MAP(pool, square, (void *)&calls, N, in, out, NULL), 0);
    check_eq(calls, N);
    for (int i = 0; i < N; i++) {
        check_eq(out[i], i * i);
    }
    check_eq(WEFT_MAP(pool, square, (void *)&calls, N, in, in, NULL), 0); /* `in` may be `out` */
    for (int i = 0; i < N; i++) {
        check_eq(in[i], i * i);
    }
    check_eq(weft_group_map(pool, square, NULL, 0, NULL, 0, NULL, 0, NULL), 0);
}

static int look_at_pointers(void *ctx, size_t index, const void *in, void *out)
{
    char **base = ctx;
    check(in == NULL && (char *)out == *base + index * 3);
    *(char *)out = 1;
    return 0;
}

static int look_at_one(void *ctx, size_t index, const void *in, void *out)
{
    (void)index;
    check(in == ctx && out == NULL);
    return 0;
}

PROMISE(M1_strides_are_bytes_and_may_be_0_or_null, EVERY)
{
    char bytes[3 * N] = { 0 }, *base = bytes;
    check_eq(weft_group_map(pool, look_at_pointers, &base, N, NULL, 8, bytes, 3, NULL), 0);
    for (int i = 0; i < 3 * N; i++) {
        check_eq(bytes[i], i % 3 == 0);
    }
    check_eq(weft_group_map(pool, look_at_one, bytes, N, bytes, 0, NULL, 5, NULL), 0);
}

static _Atomic uint32_t inside;

static int stay_inside(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    a_add(&inside, 1u, SEQ_CST);
    (void)weft_cancel_mask(true);
    for (int i = 0; i < 3; i++) {
        weft_yield();
    }
    (void)weft_cancel_mask(false);
    a_sub(&inside, 1u, SEQ_CST);
    return index == *(size_t *)ctx ? -EIO : 0;
}

PROMISE(M2_when_map_returns_nothing_of_it_runs, EVERY)
{
    for (unsigned i = 0; i < 20; i++) {
        size_t fails = i % 2 ? 3 : 1000;
        int rc = weft_group_map(pool, stay_inside, &fails, 20, NULL, 0, NULL, 0,
                                WEFT_OPTIONS(weft_map_options, .on_error = i % 4 < 2 ? WEFT_RUN_ALL : WEFT_FAIL_FAST,
                                             .deadline = i % 5 == 0 ? weft_after((int64_t)i * 3000) : 0));
        check_eq(inside, 0);
        check(rc == 0 || rc == -EIO || rc == -ETIMEDOUT);
    }
}

static int fail_some(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out;
    a_add((_Atomic uint32_t *)ctx, 1u, SEQ_CST);
    return index == 70 ? -EIO : index == 30 ? -ENOTTY : index == 90 ? 5 : 0;
}

PROMISE(M3_policies_status_and_report, EVERY)
{
    int status[N];
    struct weft_map_report report = { .struct_size = sizeof report };
    struct weft_map_options options = { .struct_size = sizeof options, .status = status, .report = &report };
    for (int policy = WEFT_RUN_ALL; policy <= WEFT_COLLECT; policy++) {
        _Atomic uint32_t calls = 0;
        options.on_error = (enum weft_on_error)policy;
        int rc = weft_group_map(pool, fail_some, (void *)&calls, N, NULL, 0, NULL, 0, &options);
        check(report.started);
        check_eq(report.ok + report.failed, calls);
        check_eq(report.ok + report.failed + report.cancelled, N);
        if (policy == WEFT_FAIL_FAST) {
            check(rc == report.first_error && rc < 0 && report.first_failed < N);
        } else {
            check_eq(calls, N);
            check_eq(rc, policy == WEFT_COLLECT ? 0 : -ENOTTY); /* the lowest index */
            check_eq(report.first_failed, 30);
            check_eq(report.first_error, -ENOTTY);
            check_eq(report.failed, 3);
            check_eq(status[90], -EINVAL); /* a positive code, as a task's */
        }
        size_t never = 0;
        for (int i = 0; i < N; i++) {
            check(status[i] == 0 || status[i] == -ECANCELED || i == 30 || i == 70 || i == 90);
            never += status[i] == -ECANCELED;
        }
        check_eq(never, report.cancelled);
    }
    check_eq(weft_group_map(pool, square, NULL, 0, NULL, 0, NULL, 0, &options), 0);
    check_eq(report.first_failed, WEFT_NO_INDEX);
}

struct fail_fast {
    _Atomic bool failed;
    _Atomic uint32_t after;
};

static int fail_first(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out, (void)index;
    struct fail_fast *fail_fast = ctx;
    if (a_load(&fail_fast->failed, SEQ_CST)) {
        a_add(&fail_fast->after, 1u, SEQ_CST);
        return 0;
    }
    a_store(&fail_fast->failed, true, SEQ_CST);
    return -EIO;
}

PROMISE(M3_fail_fast_begins_at_most_one_more_item_each, EVERY)
{
    struct fail_fast fail_fast = { 0 };
    check_eq(weft_group_map(pool, fail_first, &fail_fast, 100000, NULL, 0, NULL, 0,
                            WEFT_OPTIONS(weft_map_options, .on_error = WEFT_FAIL_FAST)),
             -EIO);
    check(fail_fast.after <= (pool_width() > workers + 1 ? pool_width() : workers + 1));
}

/* ---- M4 ---- */

static _Atomic uint32_t now_inside, most_inside;

static int block_together(void *gate, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    note_peak(&most_inside, a_add(&now_inside, 1u, SEQ_CST) + 1);
    int rc = gate_pass(gate);
    a_sub(&now_inside, 1u, SEQ_CST);
    return rc;
}

static int map_blocked(void *arg)
{
    struct call *call = arg;
    return weft_group_map(call->group, block_together, call->arg, 3 * pool_width(), NULL, 0, NULL, 0, NULL);
}

PROMISE(M4_size_items_block_at_once_and_no_more_run, EVERY)
{
    struct gate gate = { 0 };
    struct call call = { .group = pool, .arg = &gate };
    struct actor actor;
    size_t wanted = size == WEFT_UNLIMITED ? 9 : size;
    now_inside = most_inside = 0;
    actor_start(&actor, !in_task, map_blocked, &call);
    until(gate_waiting(&gate) == wanted);
    ends_ok(task_spawn(do_nothing, NULL));
    check_eq(now_inside, wanted);
    gate_open(&gate);
    check_eq(actor_end(&actor), 0);
    check(most_inside <= wanted);
}

static int sleep_100ms(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    return weft_sleep_until(weft_after(100 * WEFT_MSEC));
}

PROMISE(M4_a_hundred_sleeps_in_a_pool_of_100_are_one_sleep, WORKERS)
{
    struct weft_group *hundred = pool_make(runtime, 100);
    int64_t begin = weft_now();
    check_eq(weft_group_map(hundred, sleep_100ms, NULL, 100, NULL, 0, NULL, 0, NULL), 0);
    int64_t took = weft_now() - begin;
    check(took >= 100 * WEFT_MSEC && took < 2 * WEFT_SEC); /* not 10 s */
    check_eq(weft_group_join(hundred, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(hundred), 0);
}

struct caller {
    pthread_t thread;
    _Atomic uint32_t mine;
    struct gate others;
};

static int note_thread(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    struct caller *caller = ctx;
    a_add(&caller->mine, pthread_equal(pthread_self(), caller->thread) ? 1u : 0u, SEQ_CST);
    return 0;
}

/* All workers are stuck: only the caller can do it. */
static int be_stuck(void *go, void **result)
{
    (void)result;
    a_add(&ran, 1u, SEQ_CST);
    while (!a_load((_Atomic bool *)go, SEQ_CST)) {
    }
    return 0;
}

PROMISE(M4_the_calling_thread_takes_part, WORKERS)
{
    _Atomic bool go = false;
    struct caller caller = { .thread = pthread_self() };
    struct weft_task *stuck[8];
    count_reset();
    for (unsigned i = 0; i < workers; i++) {
        stuck[i] = task_spawn(be_stuck, (void *)&go);
    }
    until(a_load(&ran, SEQ_CST) == workers);
    check_eq(weft_group_map(pool, note_thread, &caller, 20, NULL, 0, NULL, 0, NULL), 0);
    check_eq(caller.mine, 20);
    a_store(&go, true, SEQ_CST);
    for (unsigned i = 0; i < workers; i++) {
        ends_ok(stuck[i]);
    }
}

/* ---- M5 ---- */

static int wait_in_item(void *gate, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return gate_pass(gate) == 0 ? 0 : index % 2 ? 0 : -ECANCELED; /* odd ones return 0 all the same */
}

struct cut {
    struct gate gate;
    int status[20];
    struct weft_map_report report;
    int64_t deadline;
};

static int call_cut(void *arg)
{
    struct cut *cut = arg;
    return weft_group_map(pool, wait_in_item, &cut->gate, 20, NULL, 0, NULL, 0,
                          WEFT_OPTIONS(weft_map_options, .status = cut->status, .report = &cut->report, .deadline = cut->deadline));
}

PROMISE(M5_a_kill_or_a_deadline_cancels_what_has_not_begun, EVERY)
{
    for (int how = 0; how < 3; how++) {
        struct cut cut = { .report = { .struct_size = sizeof cut.report } };
        struct actor actor;
        cut.deadline = how == 2 ? weft_after(3 * WEFT_MSEC) : 0;
        actor_start(&actor, how != 0 && !in_task, call_cut, &cut);
        if (how < 2) {
            until(gate_waiting(&cut.gate) >= 1);
            check_eq(how == 0 ? weft_task_kill(actor.task, -EIO, WEFT_NOWAIT) : weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
        }
        check_eq(actor_end(&actor), how == 2 ? -ETIMEDOUT : -ECANCELED);
        check_eq(gate_waiting(&cut.gate), 0);
        size_t ok = 0;
        for (int i = 0; i < 20; i++) {
            int code = cut.status[i]; /* of one that ran, it may be the reason */
            check(code == 0 ? i % 2 == 1 : code == -ECANCELED || code == (how == 2 ? -ETIMEDOUT : -EIO));
            ok += cut.status[i] == 0;
        }
        if (cut.report.started) {
            check_eq(cut.report.ok, ok);
            check_eq(cut.report.cancelled, 20 - ok);
            check_eq(cut.report.failed, 0);
        }
    }
}

/* ---- M6 ---- */

static int look_at_current(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out, (void)index;
    struct weft_task *seen[4], *self = weft_task_current();
    check(self != NULL && weft_runtime_current() == runtime);
    check(weft_group_len(pool) >= 1);
    check_eq(weft_group_snapshot(pool, seen, 4), 0); /* participants are not listed */
    (void)ctx;
    return 0;
}

PROMISE(M6_in_an_item_there_is_a_current_task_and_a_participant_counts, EVERY)
{
    check_eq(weft_group_map(pool, look_at_current, NULL, 20, NULL, 0, NULL, 0, NULL), 0);
}
