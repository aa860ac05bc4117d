/* M7: reduce. What is folded does not commute, and each partial knows which part of the range it has: whatever is joined in another
 * order, twice, or not at all, shows. */
#include "contract.h"

enum { BEGIN = 3, END = 1003, CALLERS = 0x11, LIVE = 0x22, ENDED = 0x33 };

/* The string of the indices [begin, end) as a number: to append is to multiply and add. */
struct fold {
    uint64_t value, scale;
    size_t begin, end;
    uint32_t kind;
    _Atomic uint32_t inside; /* calls that have it now */
};

enum failing { NOTHING, BODY, INIT, JOIN };

/* One reduction, its ctx. */
struct reduction {
    struct fold *acc;
    size_t grain;
    enum failing failing;
    uint32_t fails; /* which init or join: 0 the first */
    struct gate *gate;
    bool slow; /* some of the calls */
    _Atomic uint32_t inits, made, finis, calls, joins;
    _Atomic uint64_t pieces, shape; /* what the calls were, and the joins */
    _Atomic size_t first_failed;
    _Atomic uint8_t hit[END + 1];
};

static void fold_enter(struct fold *fold, uint32_t kind)
{
    check_eq(fold->kind, kind);
    check_eq(a_add(&fold->inside, 1u, SEQ_CST), 0);
}

static void fold_leave(struct fold *fold) { check_eq(a_sub(&fold->inside, 1u, SEQ_CST), 1); }

static void fold_append(struct fold *left, uint64_t value, uint64_t scale)
{
    left->value = left->value * scale + value;
    left->scale *= scale;
}

static int fold_init(void *ctx, void *acc)
{
    struct reduction *reduction = ctx;
    check(acc != reduction->acc); /* that one is the caller's */
    if (a_add(&reduction->inits, 1u, SEQ_CST) == reduction->fails && reduction->failing == INIT) {
        return -ENOTTY;
    }
    *(struct fold *)acc = (struct fold){ .scale = 1, .begin = SIZE_MAX, .end = SIZE_MAX, .kind = LIVE };
    a_add(&reduction->made, 1u, SEQ_CST);
    return 0;
}

static int call_code(size_t begin) { return -1 - (int)begin; }

static int fold_body(void *ctx, size_t begin, size_t end, void *acc)
{
    struct reduction *reduction = ctx;
    struct fold *fold = acc;
    int rc = 0;
    fold_enter(fold, LIVE);
    check(BEGIN <= begin && begin < end && end <= END && (!reduction->grain || end - begin <= reduction->grain));
    check(fold->begin == SIZE_MAX || fold->end == begin); /* its calls follow one another */
    fold->begin = fold->begin == SIZE_MAX ? begin : fold->begin;
    fold->end = end;
    a_add(&reduction->calls, 1u, SEQ_CST);
    a_add(&reduction->pieces, (uint64_t)(begin * 1009 + end) * (begin + 7), SEQ_CST);
    for (size_t i = begin; i < end; i++) {
        a_add(&reduction->hit[i], 1u, RELAXED);
        fold_append(fold, i + 1, 31);
    }
    if (reduction->slow && begin % 3 == 0) {
        weft_yield();
    }
    if (reduction->gate) {
        rc = gate_pass(reduction->gate);
    } else if (reduction->failing == BODY && end > 500) {
        size_t first = a_load(&reduction->first_failed, SEQ_CST);
        while (begin < first && !a_cas(&reduction->first_failed, &first, begin, SEQ_CST, SEQ_CST)) {
        }
        rc = call_code(begin);
    }
    fold_leave(fold);
    return rc;
}

static int fold_join(void *ctx, void *left_, void *right_)
{
    struct reduction *reduction = ctx;
    struct fold *left = left_, *right = right_;
    check(left == reduction->acc); /* always into `acc` */
    fold_enter(left, CALLERS);
    fold_enter(right, LIVE);
    if (reduction->failing == NOTHING && !reduction->gate) {
        check(left->end == right->begin && right->begin < right->end); /* in range order, nothing between */
    }
    fold_append(left, right->value, right->scale);
    left->end = right->end;
    a_add(&reduction->shape, (uint64_t)(right->begin * 2003 + right->end) * (right->begin + 11), SEQ_CST);
    int rc = a_add(&reduction->joins, 1u, SEQ_CST) == reduction->fails && reduction->failing == JOIN ? -EIO : 0;
    fold_leave(right);
    fold_leave(left);
    return rc;
}

static void fold_fini(void *ctx, void *acc)
{
    struct reduction *reduction = ctx;
    struct fold *fold = acc;
    check(fold != reduction->acc);
    fold_enter(fold, LIVE); /* not yet ended, and nothing has it */
    fold->kind = ENDED;
    fold_leave(fold);
    a_add(&reduction->finis, 1u, SEQ_CST);
}

static const struct weft_reduce_ops fold_ops = { sizeof fold_ops, sizeof(struct fold), fold_init, fold_body, fold_join, fold_fini };

/* What the caller has put into `acc` counts, too. */
static struct fold fold_of_caller(void)
{
    return (struct fold){ .value = 5, .scale = 31, .begin = BEGIN, .end = BEGIN, .kind = CALLERS };
}

static int reduce(struct reduction *reduction, const struct weft_map_options *options)
{
    struct fold acc = fold_of_caller();
    reduction->acc = &acc;
    reduction->first_failed = WEFT_NO_INDEX;
    int rc = weft_group_reduce(pool, BEGIN, END, &fold_ops, reduction, &acc, options);
    check_eq(reduction->finis, reduction->made); /* each once, whatever happened */
    check_eq(acc.kind, CALLERS);
    check_eq(acc.inside, 0);
    if (rc == 0 && reduction->failing == NOTHING) {
        struct fold wanted = fold_of_caller();
        for (size_t i = BEGIN; i < END; i++) {
            fold_append(&wanted, i + 1, 31);
            check_eq(reduction->hit[i], 1);
        }
        check(acc.value == wanted.value && acc.scale == wanted.scale && acc.end == END);
        check(reduction->made >= 1 && reduction->made <= reduction->calls);
        check_eq(reduction->joins, reduction->made);
    }
    return rc;
}

static const size_t grains[] = { 0, 1, 7, 5000 };

PROMISE(M7_reduce_joins_contiguous_partials_left_to_right_into_acc, EVERY)
{
    for (int i = 0; i < 8; i++) {
        struct reduction reduction = { .grain = grains[i / 2], .slow = true };
        check_eq(reduce(&reduction, WEFT_OPTIONS(weft_map_options, .grain = grains[i / 2], .deterministic = i % 2)), 0);
    }
}

PROMISE(M7_reduce_leaves_acc_to_the_caller, EVERY)
{
    struct reduction reduction = { 0 };
    struct fold acc = fold_of_caller();
    reduction.acc = &acc;
    check_eq(weft_group_reduce(pool, 7, 7, &fold_ops, &reduction, &acc, NULL), 0); /* nothing to fold: what it was */
    check(acc.value == 5 && acc.scale == 31 && acc.kind == CALLERS && acc.end == BEGIN);
    check_eq(weft_group_reduce(pool, 8, 7, &fold_ops, &reduction, &acc, NULL), -EINVAL);
    check(acc.value == 5 && acc.scale == 31);
    check_eq(reduction.calls, 0);
    check_eq(reduction.finis, reduction.made);
}

PROMISE(M7_reduce_counts_calls_and_names_the_begin_of_the_first_that_failed, EVERY)
{
    for (int i = 0; i < 24; i++) {
        struct weft_map_report report = { .struct_size = sizeof report };
        struct reduction reduction = { .grain = grains[i / 6], .failing = BODY };
        enum weft_on_error policy = (enum weft_on_error)(i / 2 % 3);
        int rc = reduce(&reduction, WEFT_OPTIONS(weft_map_options, .grain = reduction.grain, .deterministic = i % 2,
                                                 .on_error = policy, .report = &report));
        check(report.started && report.failed >= 1);
        check_eq(report.ok + report.failed, reduction.calls);
        check_eq(report.first_failed, reduction.first_failed);
        check_eq(report.first_error, call_code(reduction.first_failed));
        check_eq(rc, policy == WEFT_COLLECT ? 0 : report.first_error);
        for (size_t k = BEGIN; k < END; k++) {
            check(policy == WEFT_FAIL_FAST ? reduction.hit[k] <= 1 : reduction.hit[k] == 1);
        }
    }
}

PROMISE(M7_reduce_with_status_is_einval, EVERY)
{
    int status[4] = { 1, 2, 3, 4 };
    struct weft_map_report report = { .struct_size = sizeof report, .started = true };
    struct reduction reduction = { 0 };
    check_eq(reduce(&reduction, WEFT_OPTIONS(weft_map_options, .status = status, .report = &report)), -EINVAL);
    check(!report.started && status[0] == 1 && status[3] == 4);
    check_eq(reduction.calls + reduction.inits, 0);
}

/* What the calls and the joins were, by grain; the first combination fills it in. */
static struct {
    uint64_t pieces, shape;
} deterministic[4];

PROMISE(M7_a_deterministic_reduction_has_the_same_calls_and_joins_always, EVERY)
{
    for (int i = 0; i < 12; i++) {
        struct reduction reduction = { .grain = grains[i % 4], .slow = i / 4 == 1 };
        check_eq(reduce(&reduction, WEFT_OPTIONS(weft_map_options, .grain = reduction.grain, .deterministic = true)), 0);
        if (deterministic[i % 4].shape == 0) {
            deterministic[i % 4].pieces = reduction.pieces;
            deterministic[i % 4].shape = reduction.shape;
        }
        check(deterministic[i % 4].pieces == reduction.pieces);
        check(deterministic[i % 4].shape == reduction.shape);
    }
}

/* ---- partials after an error ---- */

PROMISE(M7_each_partial_is_ended_once_after_an_error_too, EVERY)
{
    for (uint32_t i = 0; i < 36; i++) {
        enum weft_on_error policy = (enum weft_on_error)(i % 3);
        struct reduction reduction = { .grain = i % 2 ? 7 : 0, .fails = i / 12, .slow = true };
        reduction.failing = i / 6 % 2 ? INIT : JOIN;
        int rc = reduce(&reduction, WEFT_OPTIONS(weft_map_options, .grain = reduction.grain, .on_error = policy));
        bool failed = reduction.failing == INIT ? reduction.inits > reduction.fails : reduction.joins > reduction.fails;
        if (policy != WEFT_COLLECT) {
            check_eq(rc, !failed ? 0 : reduction.failing == INIT ? -ENOTTY : -EIO);
        }
    }
}

static int call_reduce(void *reduction) { return reduce(reduction, WEFT_OPTIONS(weft_map_options, .grain = 50)); }

static int call_late_reduce(void *reduction)
{
    return reduce(reduction, WEFT_OPTIONS(weft_map_options, .grain = 50, .deadline = weft_after(3 * WEFT_MSEC)));
}

PROMISE(M7_each_partial_is_ended_once_after_a_kill_too, EVERY)
{
    for (int how = 0; how < 3; how++) {
        struct gate gate = { 0 };
        struct reduction reduction = { .grain = 50, .gate = &gate };
        struct actor actor;
        actor_start(&actor, how != 0 && !in_task, how == 2 ? call_late_reduce : call_reduce, &reduction);
        if (how < 2) {
            until(gate_waiting(&gate) >= 1);
            check_eq(how == 0 ? weft_task_kill(actor.task, -EIO, WEFT_NOWAIT) : weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
        }
        check_eq(actor_end(&actor), how == 2 ? -ETIMEDOUT : -ECANCELED);
        check_eq(gate_waiting(&gate), 0);
        check_eq(reduction.finis, reduction.made);
    }
}
