/* The runtime and the pool of one test of groups and what works in them, and what must be so when it is over. */
#ifndef WEFT_POOLS_H
#define WEFT_POOLS_H

#include "gate.h"

static struct weft_runtime *runtime;
static struct weft_group *pool;

static inline void begin(size_t size)
{
    runtime = runtime_make();
    pool = pool_make(runtime, size);
}

/* Nobody is in it or waits for it, every slot is free, none is lent. */
static inline void end(void)
{
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check_eq(weft_group_len(pool), 0);
    check_eq(a_load(&pool->extras, RELAXED), 0);
    check_eq(pool_queued(pool), 0);
    check_eq(a_load(&pool->admission.loan_count, RELAXED), 0);
    size_t size = weft_pool_size(pool);
    check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

#endif
