/* What tests of reduce share: operations on intervals, which join only if they touch, and which know when they are misused; and sums. */
#ifndef WEFT_REDUCTIONS_H
#define WEFT_REDUCTIONS_H

#include "pools.h"

static struct weft_map_report report = { .struct_size = sizeof report };

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

static inline int init(void *ctx, void *acc)
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

static inline int body(void *ctx, size_t from, size_t to, void *acc)
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

static inline int join(void *ctx, void *left, void *right)
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

static inline void fini(void *ctx, void *acc)
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
static inline int reduce(size_t from, size_t n, const struct weft_map_options *options, struct interval *acc)
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

static inline void reduce_whole(size_t from, size_t n, size_t grain, bool deterministic)
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

/* ---- sums of float ---- */

static inline int zero(void *ctx, void *acc)
{
    (void)ctx;
    *(float *)acc = 0;
    return 0;
}

static inline int add(void *ctx, void *left, void *right)
{
    (void)ctx;
    *(float *)left += *(float *)right;
    return 0;
}

static inline int do_zero(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx, (void)from, (void)to, (void)acc;
    return 0;
}

#endif
