/* Calls that block their thread: they run on helper threads, which belong to no worker, while the caller's fiber is parked.
 *
 * A runtime starts helpers as calls come, up to its bound; calls beyond that wait in the order of coming. A helper without work sleeps,
 * and ends after IDLE_NS; one that is asleep is preferred to a new one. All is under one lock, held for a few instructions.
 *
 * | state of a call | where | moved by |
 * |---|---|---|
 * | QUEUED | in the runtime's list | a helper: RUNNING; its caller when killed: it takes it out, and fn never begins |
 * | RUNNING | with a helper | that helper: DONE, under the call's own queue lock, whose unlocking is its last access |
 *
 * Destroying a runtime waits for its helpers. The threads are detached: the last thing that one does is to count itself out. */
#ifndef WEFT_BLOCKING_H
#define WEFT_BLOCKING_H

#include "wait.h"

struct weft_call;

struct weft_blocking {
    struct weft_lock lock;
    bool ending;
    unsigned max, asleep;
    struct weft_call *first, *last;
    size_t queued;
    _Atomic uint32_t threads; /* futex: who ends the runtime waits until it is 0 */
    _Atomic uint32_t work;    /* futex: changes with every call that comes */
};

/* Once, when the runtime is made; `max` 0: the default. */
void weft_blocking_init(struct weft_blocking *blocking, unsigned max);
/* No call is queued or running, or only those of other runtimes' tasks: they are waited for. True: there was
 * a helper, whose call may have set something going. Foreign thread. */
bool weft_blocking_end(struct weft_blocking *blocking);

#endif
