/* What tests of locks, events and channels share: players, which run a function as tasks and on foreign threads in turn, so that every
 * promise is seen with both; and a look at who stands in a queue. tasks.h has the gates. */
#ifndef WEFT_TOOLS_H
#define WEFT_TOOLS_H

#include "testing.h"

#include <pthread.h>

#include "task.h"
#include "tasks.h"

static struct weft_runtime *runtime;

static inline void setup(void) { runtime = runtime_with(weft_test_workers()); }
static inline void teardown(void) { (void)weft_runtime_destroy(runtime); }

enum { MOST_PLAYERS = 8 };

struct player {
    struct weft_task *task; /* NULL: on a thread */
    pthread_t thread;
    weft_task_fn *fn;
    void *arg;
    int index;
};

static inline void *player_run(void *arg)
{
    struct player *player = arg;
    void *value = NULL;
    return (void *)(intptr_t)player->fn(player, &value);
}

/* Even indices are tasks. `fn` gets the player. */
static inline void player_start(struct player *player, int index, weft_task_fn *fn, void *arg)
{
    *player = (struct player){ .fn = fn, .arg = arg, .index = index };
    if (index % 2 == 0) {
        player->task = spawn_in(runtime, fn, player);
    } else {
        cr_assert_eq(pthread_create(&player->thread, NULL, player_run, player), 0);
    }
}

/* Waits for its end: 0, or a CHECK's line. */
static inline void player_end(struct player *player)
{
    intptr_t error;
    if (player->task) {
        error = finish_task(player->task).error;
    } else {
        void *rc;
        (void)pthread_join(player->thread, &rc);
        error = (intptr_t)rc;
    }
    cr_assert_eq(error, 0, "player %d: line %ld", player->index, -(long)error - 10000);
}

static inline void run_on_both(weft_task_fn *fn)
{
    struct player player;
    for (int i = 0; i < 2; i++) {
        player_start(&player, i, fn, NULL);
        player_end(&player);
    }
}

/* In the queue of a mutex, an event, a semaphore, a condition variable or a barrier: its first word. */
static inline int queued_in(void *object)
{
    struct weft_waitq *queue = object;
    int n = 0;
    struct weft_waiter *tail = weft_waitq_lock(queue), *waiter = tail;
    if (tail && !weft_waitq_marked(tail)) {
        do {
            waiter = waiter->next;
            n++;
        } while (waiter != tail);
    }
    weft_waitq_unlock(queue, tail);
    return n;
}

/* Until so many stand there. */
#define wait_for_queue(object, n) wait_until(queued_in(object) == (n))

/* Until the task sleeps: it is not merely on its way. */
static inline void wait_for_sleep(struct weft_task *task)
{
    struct weft_slot *slot;
    wait_until((slot = a_load(&task->scope.slot, ACQUIRE)) != NULL &&
               weft_claim_state(a_load(&slot->claim, SEQ_CST)) == WEFT_CLAIM_PARKED);
}

/* Ends the task's sleep as a kill does, or a deadline, but does not yet let it run: what comes now, comes at that instant. */
static inline void claim_sleep(struct weft_task *task, enum weft_claim reason)
{
    struct weft_slot *slot = a_load(&task->scope.slot, ACQUIRE);
    uint64_t word = a_load(&slot->claim, SEQ_CST);
    cr_assert_eq(weft_claim_state(word), WEFT_CLAIM_PARKED);
    cr_assert(a_cas(&slot->claim, &word, weft_claim_make(weft_claim_epoch(word), reason), SEQ_CST, RELAXED));
    if (reason == WEFT_CLAIM_KILLED) {
        cr_assert_eq(weft_scope_request(&task->scope, -EPIPE, true), 0);
    }
}

static inline void let_run(struct weft_task *task) { weft_slot_ready(a_load(&task->scope.slot, ACQUIRE)); }

/* A raw link of a task that ends at once calls `fn`, whose return goes to `*rc`. */
struct raw_call {
    int (*fn)(void *arg);
    void *arg;
    int rc;
    _Atomic int called;
};

static inline void raw_call_run(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome;
    struct raw_call *call = arg;
    call->rc = call->fn(call->arg);
    gate_open(&call->called);
}

static inline int end_at_once(void *arg, void **value)
{
    (void)arg, (void)value;
    return 0;
}

static inline int call_in_raw_link(int (*fn)(void *arg), void *arg)
{
    struct raw_call call = { .fn = fn, .arg = arg };
    struct weft_task *task;
    cr_assert_eq(weft_task_create(runtime, end_at_once, NULL, NULL, &task), 0);
    cr_assert_eq(weft_task_link(task, raw_call_run, &call, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    cr_assert_eq(weft_task_start(task), 0);
    gate_wait(&call.called, 1);
    weft_task_release(task);
    return call.rc;
}

/* A task is killed while it runs, and calls `fn` then. */
struct late_call {
    int (*fn)(void *arg);
    void *arg;
    int rc;
    _Atomic int begun, killed;
};

static inline int late_call_run(void *arg, void **value)
{
    (void)value;
    struct late_call *call = arg;
    gate_open(&call->begun);
    gate_wait(&call->killed, 1);
    call->rc = call->fn(call->arg);
    return 0;
}

static inline int call_with_kill_pending(int (*fn)(void *arg), void *arg)
{
    struct late_call call = { .fn = fn, .arg = arg };
    struct weft_task *task = spawn_in(runtime, late_call_run, &call);
    gate_wait(&call.begun, 1);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    gate_open(&call.killed);
    cr_assert_eq(finish_task(task).error, 0);
    return call.rc;
}

#endif
