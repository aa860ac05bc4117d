/* What tests of tasks and runtimes share. They keep step by gates instead of sleeps. A gate is a counter; who waits for it lets others
 * run, in a task as well as on a foreign thread, and ends the process after a minute with the name of the gate that stayed shut.
 *
 * Criterion's assertions belong to the test's own thread. A task says `CHECK(condition)`; its outcome then is the failing line. */
#ifndef WEFT_TASKS_H
#define WEFT_TASKS_H

#include <stdatomic.h>

#include "runtimes.h"

static inline void gate_open(_Atomic int *gate) { (void)atomic_fetch_add(gate, 1); }

static inline void gate_wait_named(_Atomic int *gate, int value, const char *name, int line)
{
    int64_t deadline = weft_after(PATIENCE);
    while (atomic_load(gate) < value) {
        if (weft_now() > deadline) {
            (void)fprintf(stderr, "line %d: gate %s is at %d, not %d\n", line, name, atomic_load(gate), value);
            abort();
        }
        weft_yield();
    }
}

/* Until `gate` has been opened `value` times. */
#define gate_wait(gate, value) gate_wait_named(gate, value, #gate, __LINE__)

/* In a task function: the line becomes the outcome's error. */
#define CHECK(condition)                \
    do {                                \
        if (!(condition)) {             \
            return -(10000 + __LINE__); \
        }                               \
    } while (0)

/* What the two task functions below tell and wait for. Each test is a process of its own: they begin at 0. */
static _Atomic int begun __attribute__((unused)), open_gate __attribute__((unused)), ended __attribute__((unused));

static inline int at_gate(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    gate_wait(&open_gate, 1);
    gate_open(&ended);
    return 0;
}

static inline int block(void *arg, void **value)
{
    (void)arg, (void)value;
    gate_open(&begun);
    return weft_sleep_until(WEFT_FOREVER);
}

static inline struct weft_task *spawn_in(struct weft_runtime *runtime, weft_task_fn *fn, void *arg)
{
    struct weft_task *task = NULL;
    int rc = weft_task_spawn(runtime, fn, arg, NULL, &task);
    if (rc != 0) {
        (void)fprintf(stderr, "no task: %s\n", weft_strerror(rc));
        abort();
    }
    return task;
}

/* Waits for the task, gives its handle back; {PENDING, rc} if it does not end in time. */
static inline struct weft_outcome finish_task(struct weft_task *task)
{
    struct weft_outcome outcome;
    int rc = weft_task_get(task, weft_after(PATIENCE), &outcome);
    if (rc != 0) {
        outcome.error = rc;
    }
    weft_task_release(task);
    return outcome;
}

/* 0, or what went wrong: a CHECK's line among others. */
static inline int run_in(struct weft_runtime *runtime, weft_task_fn *fn, void *arg)
{
    return finish_task(spawn_in(runtime, fn, arg)).error;
}

#endif
