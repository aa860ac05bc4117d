/* What nearly every test of the library does: make a runtime, fill it, wait until something holds. */
#ifndef WEFT_RUNTIMES_H
#define WEFT_RUNTIMES_H

#include "testing.h"

#include <weft.h>

#define PATIENCE (60 * WEFT_SEC)

/* Until the condition holds, whatever makes it hold; lets others run, in a task as well as on a foreign thread. For what nobody can be
 * told of: that somebody stands in a queue, that a task is gone. */
#define until(condition)                                                                                        \
    do {                                                                                                        \
        int64_t until_ = weft_after(PATIENCE);                                                                  \
        while (!(condition)) {                                                                                  \
            if (weft_now() > until_) {                                                                          \
                (void)fprintf(stderr, "%s:%d: %s: never came: %s\n", __FILE__, __LINE__, __func__, #condition); \
                abort();                                                                                        \
            }                                                                                                   \
            weft_yield();                                                                                       \
        }                                                                                                       \
    } while (0)

static inline struct weft_runtime *runtime_of(const struct weft_runtime_options *options)
{
    struct weft_runtime *runtime = NULL;
    int rc = weft_runtime_create(options, &runtime);
    if (rc != 0) {
        (void)fprintf(stderr, "no runtime: %s\n", weft_strerror(rc));
        abort();
    }
    return runtime;
}

static inline struct weft_runtime *runtime_with(unsigned workers)
{
    return runtime_of(WEFT_OPTIONS(weft_runtime_options, .workers = workers));
}

/* With as many workers as this run of the program is about. */
static inline struct weft_runtime *runtime_make(void) { return runtime_with(weft_test_workers()); }

static inline struct weft_runtime_stats stats_of(struct weft_runtime *runtime)
{
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    int rc = weft_runtime_read_stats(runtime, &stats);
    if (rc != 0) {
        (void)fprintf(stderr, "no statistics: %s\n", weft_strerror(rc));
        abort();
    }
    return stats;
}

/* Until its other workers sleep. Before a fork: a sanitizer's allocator may not be locked by a thread that the child does not have. */
static inline void wait_until_idle(struct weft_runtime *runtime)
{
    unsigned here = weft_runtime_current() == runtime;
    until(stats_of(runtime).workers_parked + here >= stats_of(runtime).workers);
}

/* Functions for tasks, maps, ranges and imaps, where only the call matters. */
static inline int do_nothing(void *arg, void **result)
{
    (void)arg;
    (void)result;
    return 0;
}

static inline int item_nothing(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    return 0;
}

static inline int range_nothing(void *ctx, size_t begin, size_t end)
{
    (void)ctx, (void)begin, (void)end;
    return 0;
}

static inline int element_nothing(void *ctx, void *item, void **result)
{
    (void)ctx, (void)item, (void)result;
    return 0;
}

/* Runs it in a task of that runtime, which must end well, and waits for it. */
static inline void run_ok(struct weft_runtime *runtime, weft_task_fn *fn, void *arg)
{
    struct weft_task *task;
    struct weft_outcome outcome = { 0 };
    if (weft_task_spawn(runtime, fn, arg, NULL, &task) != 0 || weft_task_get(task, WEFT_FOREVER, &outcome) != 0 ||
        outcome.status != WEFT_OK) {
        (void)fprintf(stderr, "the task has not ended well: %s\n", weft_strerror(outcome.error));
        abort();
    }
    weft_task_release(task);
}

#endif
