/* Idle workers: who sleeps, who searches, who keeps the time. The protocol is tests/models/idle.pml.
 *
 * `word` = {searching:32, sleeping:32} changes under `lock` alone where a worker enters or leaves the list of sleepers, so that
 * "take one off the list and count it as searching" is one step; it is read without it.
 *
 *   Submitter:  push work (I1); look at word (I2); nobody searches and somebody sleeps: take a sleeper off the list, count it as
 *               searching, wake it.
 *   Worker:     enter the list, searching - 1, sleeping + 1 (I3); look at every source of work again (I4). Work there: leave the list
 *               and be counted as searching, unless a submitter has done both already; search again. Work seen in the second look is
 *               not run at once: then nobody would search for what comes meanwhile.
 *   Searcher:   found work: searching - 1; whoever was the last searcher wakes another before it runs what it found.
 *
 * Either I1 precedes I4 in the single order of seq_cst accesses, and the worker sees the work; or I3 precedes I2, and the submitter
 * sees a sleeper. If it sees a searcher instead, that one has yet to pass I4, or is about to wake another (H01).
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | I1 | seq_cst store that makes work visible (deque bottom, injector count) | I4 | work stays, all asleep |
 * | I2 | seq_cst load of word | I3 | the same |
 * | I3 | seq_cst update of word | I2 | the same |
 * | I4 | seq_cst loads of deques and injectors | I1 | the same |
 * | I5 | seq_cst store of keeper_deadline, then loads of every heap's earliest | I6 | a deadline passes with all asleep (H37) |
 * | I6 | seq_cst store of a heap's earliest, then load of keeper_deadline | I5 | the same |
 *
 * The timekeeper is the one sleeper that sleeps with a timeout: until the earliest deadline of all heaps. There is one whenever
 * anybody sleeps. It is taken off the list last, and appoints a successor when it goes. Nobody else wakes for time, and a runtime
 * without deadlines makes no context switch at all when idle (H33). */
#ifndef WEFT_IDLE_H
#define WEFT_IDLE_H

#include "lock.h"

struct weft_worker;
struct weft_runtime;

struct weft_idle_worker {
    _Atomic uint32_t signal; /* futex: 0 sleep on, WEFT_IDLE_GO, WEFT_IDLE_LOOK */
    bool listed;             /* under the lock */
    struct weft_worker *next;
};

enum { WEFT_IDLE_GO = 1, WEFT_IDLE_LOOK = 2 };

struct weft_idle {
    _Atomic uint64_t word;
    _Atomic int64_t keeper_deadline; /* OS_FOREVER while there is no keeper, or nothing for it to wait for */
    struct weft_lock lock;
    struct weft_worker *sleepers;
    struct weft_worker *keeper;
};

#define WEFT_IDLE_SEARCHING (UINT64_C(1) << 32)
#define WEFT_IDLE_SLEEPING UINT64_C(1)

static inline uint32_t weft_idle_searching(uint64_t word) { return (uint32_t)(word >> 32); }
static inline uint32_t weft_idle_sleeping(uint64_t word) { return (uint32_t)word; }

void weft_idle_init(struct weft_idle *idle);
void weft_idle_wake_one(struct weft_runtime *runtime); /* the submitter's slow path */

/* Any thread, after it made work visible. */
#define weft_idle_notify(runtime)                                                                      \
    do {                                                                                               \
        uint64_t idle_word = a_load(&(runtime)->idle.word, SEQ_CST); /* I2, pairs with I3 */           \
        if (weft_unlikely(weft_idle_sleeping(idle_word) > 0) && weft_idle_searching(idle_word) == 0) { \
            weft_idle_wake_one(runtime);                                                               \
        }                                                                                              \
    } while (0)

void weft_idle_search_begin(struct weft_worker *worker);
/* The searcher found work; it may have to wake the next. */
void weft_idle_search_end(struct weft_worker *worker);
/* A searcher goes to sleep and returns as a searcher. `has_work` is I4. */
void weft_idle_park(struct weft_worker *worker, bool (*has_work)(struct weft_worker *worker));
/* Any thread, after it armed a deadline: I6. */
void weft_idle_deadline(struct weft_runtime *runtime, int64_t deadline_ns);
void weft_idle_wake_all(struct weft_runtime *runtime); /* for the end of the runtime */

#endif
