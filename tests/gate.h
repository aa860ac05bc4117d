/* What tests of groups, pools, maps and imaps share: gates in place of sleeps, checks that may fail on any stack, and what can be
 * seen of a pool from outside. To pass a gate is no wait for work: it lends no slot. */
#ifndef WEFT_GATE_H
#define WEFT_GATE_H

#include "runtimes.h"

#include "group.h"
#include "os.h"

/* Criterion's assertions jump, which only the main thread may do: this one ends the process, and with it the test. */
#define check(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition); \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

#define check_eq(left, right)                                                                                         \
    do {                                                                                                              \
        long long left_ = (long long)(left), right_ = (long long)(right);                                             \
        if (left_ != right_) {                                                                                        \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #left, left_, right_); \
            abort();                                                                                                  \
        }                                                                                                             \
    } while (0)

struct gate {
    _Atomic uint32_t open;
    _Atomic uint32_t waiting;
    struct weft_waitq queue;
};

/* Under the queue's lock. */
static inline bool gate_is_open(void *arg) { return a_load(&((struct gate *)arg)->open, ACQUIRE) != 0; }

/* 0, or -ECANCELED, -ETIMEDOUT: a cancellation point. */
static inline int gate_pass_until(struct gate *gate, int64_t deadline)
{
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    a_add(&gate->waiting, 1u, SEQ_CST);
    int rc = weft_wait_until(&gate->queue, gate_is_open, gate, &wait);
    a_sub(&gate->waiting, 1u, SEQ_CST);
    return rc;
}

static inline int gate_pass(struct gate *gate) { return gate_pass_until(gate, WEFT_FOREVER); }

static inline void gate_open(struct gate *gate)
{
    a_store(&gate->open, 1u, SEQ_CST);
    weft_waitq_wake_all(&gate->queue);
}

static inline unsigned gate_waiting(struct gate *gate) { return a_load(&gate->waiting, SEQ_CST); }

static inline struct weft_group *pool_make(struct weft_runtime *runtime, size_t size)
{
    struct weft_group *pool;
    check_eq(weft_pool_create(runtime, size, NULL, &pool), 0);
    return pool;
}

/* How many stand in the pool's queue. */
static inline size_t pool_queued(struct weft_group *pool)
{
    size_t n = 0;
    struct weft_waiter *tail = weft_waitq_lock(&pool->admission.queue), *waiter = tail;
    if (tail) {
        do {
            waiter = waiter->next;
            n++;
        } while (waiter != tail);
    }
    weft_waitq_unlock(&pool->admission.queue, tail);
    return n;
}

/* A task function. */
static inline int pass_gate(void *gate, void **result)
{
    (void)result;
    return gate_pass(gate);
}

/* The largest value that `now` had. */
static inline void note_peak(_Atomic uint32_t *peak, uint32_t now)
{
    uint32_t seen = a_load(peak, RELAXED);
    while (now > seen && !a_cas(peak, &seen, now, RELAXED, RELAXED)) {
    }
}

#endif
