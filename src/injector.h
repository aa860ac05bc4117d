/* The queue through which threads that are not workers, and workers whose deque cannot grow, hand work in: FIFO, any thread.
 *
 * Intrusive, so a push cannot fail. `count` is written under the lock and read outside it by those who only want to know whether a
 * look is worth while; its seq_cst store and load take part in the idle protocol as a deque's bottom does (idle.h, I1 and I4). */
#ifndef WEFT_INJECTOR_H
#define WEFT_INJECTOR_H

#include "lock.h"

struct weft_injector_node {
    struct weft_injector_node *next;
};

struct weft_injector {
    struct weft_lock lock;
    struct weft_injector_node *head, *tail;
    _Atomic size_t count;
};

void weft_injector_push(struct weft_injector *injector, struct weft_injector_node *node);
struct weft_injector_node *weft_injector_pop(struct weft_injector *injector); /* oldest, or NULL */

static inline size_t weft_injector_count(struct weft_injector *injector) { return a_load(&injector->count, SEQ_CST); }

#endif
