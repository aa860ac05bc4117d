/* Who is running here: the worker, or the foreign thread, and the slot on which it would wait.
 *
 * A fiber may resume on another thread, so the address of a thread-local variable must not survive a switch (H07). There is one
 * such variable, and one function that reads it: in assembly that is opaque to the compiler, where arch/ has it (8 of a spawn's 60 ns
 * are saved by that: bench/bench_spawn.c); else never inlined, and built without link-time optimisation. Call it again after
 * everything that can suspend. tests/check_thread_local looks at the machine code. */
#ifndef WEFT_THREAD_H
#define WEFT_THREAD_H

#include "slot.h"

struct weft_worker;

struct weft_thread {
    struct weft_slot *slot;     /* of the fiber that runs here, or of the foreign thread */
    struct weft_worker *worker; /* NULL on a foreign thread */
};

/* NULL on a foreign thread that has never waited. */
#if defined(WEFT_CPU_READ_THREAD_LOCAL) && !defined(WEFT_SIM)
static inline struct weft_thread *weft_thread_self(void) { return WEFT_CPU_READ_THREAD_LOCAL(weft_thread_current); }
#else
struct weft_thread *weft_thread_self(void);
#endif
void weft_thread_set(struct weft_thread *thread);
/* A worker's first and last word; a thread that ends in between ends the process, with a message (H41). */
void weft_thread_enter(struct weft_thread *thread);
void weft_thread_leave(void);
/* The calling thread's or fiber's slot; a foreign thread gets one at its first call and keeps it until it ends. NULL: no memory. */
struct weft_slot *weft_slot_self(void);

void weft_thread_hold(bool hold); /* around fork: no other thread is inside */

static inline struct weft_worker *weft_worker_self(void)
{
    struct weft_thread *thread = weft_thread_self();
    return thread ? thread->worker : NULL;
}

/* The same on a fiber, where there is one. */
static inline struct weft_worker *weft_worker_here(void) { return weft_thread_self()->worker; }

#endif
