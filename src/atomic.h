/* The seam under every atomic access.
 *
 * All of weft's shared memory goes through these names, so that the simulator (tests/sim, built with -DWEFT_SIM) can stop before
 * each access and run another logical thread. A bare `=` on an _Atomic object is a full exchange on x86; a call says its order.
 *
 * There is no fence here. Where a protocol needs "my store before my load" (deque, idle, join) both accesses are seq_cst on the
 * variables themselves: on x86-64 that is the exchange that a store and a fence would cost (5-6 ns either way), on aarch64
 * stlr/ldar, and ThreadSanitizer, which does not model fences (H43), sees every edge. */
#ifndef WEFT_ATOMIC_H
#define WEFT_ATOMIC_H

#include <stdatomic.h>

#include "base.h"

#define RELAXED memory_order_relaxed
#define ACQUIRE memory_order_acquire
#define RELEASE memory_order_release
#define ACQ_REL memory_order_acq_rel
#define SEQ_CST memory_order_seq_cst

#ifdef WEFT_SIM
enum sim_point_kind { SIM_LOAD, SIM_STORE, SIM_RMW };
void sim_point(enum sim_point_kind kind, const volatile void *address); /* another logical thread may run here */
void sim_spin(void);                                                    /* this one waits for another: run somebody else */
#define WEFT_POINT(kind, p) sim_point(kind, p),
#define weft_spin_pause() sim_spin()
#else
#define WEFT_POINT(kind, p)
#define weft_spin_pause() weft_cpu_relax()
#endif

#define a_load(p, order) (WEFT_POINT(SIM_LOAD, p) atomic_load_explicit(p, order))
#define a_store(p, value, order) (WEFT_POINT(SIM_STORE, p) atomic_store_explicit(p, value, order))
#define a_swap(p, value, order) (WEFT_POINT(SIM_RMW, p) atomic_exchange_explicit(p, value, order))
/* Strong; on failure *expected is what was there, read with the second order. */
#define a_cas(p, expected, value, order, failed) \
    (WEFT_POINT(SIM_RMW, p) atomic_compare_exchange_strong_explicit(p, expected, value, order, failed))
#define a_add(p, value, order) (WEFT_POINT(SIM_RMW, p) atomic_fetch_add_explicit(p, value, order))
#define a_sub(p, value, order) (WEFT_POINT(SIM_RMW, p) atomic_fetch_sub_explicit(p, value, order))
#define a_or(p, value, order) (WEFT_POINT(SIM_RMW, p) atomic_fetch_or_explicit(p, value, order))
#define a_and(p, value, order) (WEFT_POINT(SIM_RMW, p) atomic_fetch_and_explicit(p, value, order))

/* A counter that one thread writes and any thread reads: a plain increment that no reader sees torn. */
#define a_count(p, n) atomic_store_explicit(p, atomic_load_explicit(p, memory_order_relaxed) + (n), memory_order_relaxed)

#endif
