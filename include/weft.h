#ifndef WEFT_H
#define WEFT_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_MUST __attribute__((warn_unused_result))
#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0
const char *weft_version(void);

/* errors and time */
#define WEFT_NOWAIT    INT64_C(0)
#define WEFT_FOREVER   INT64_MAX
#define WEFT_MSEC      INT64_C(1000000)
#define WEFT_SEC       INT64_C(1000000000)
#define WEFT_UNLIMITED SIZE_MAX
#define WEFT_NO_INDEX  SIZE_MAX
#define WEFT_IS_FULL(rc) ((rc) == -EAGAIN || (rc) == -ETIMEDOUT)
int64_t weft_now(void);
int64_t weft_after(int64_t ns);
const char *weft_strerror(int rc);

/* every option struct: C: WEFT_OPTIONS(weft_map_options, .grain = 8); C++17: weft_map_options o{}; o.struct_size = sizeof o; */
#ifndef __cplusplus
#define WEFT_OPTIONS(type, ...) (&(const struct type){ .struct_size = sizeof(struct type), __VA_ARGS__ })
#endif

struct weft_runtime; struct weft_task; struct weft_group; struct weft_imap;
enum weft_status { WEFT_PENDING, WEFT_OK, WEFT_FAILED, WEFT_CANCELLED };
enum { WEFT_ON_OK = 1, WEFT_ON_FAILED = 2, WEFT_ON_CANCELLED = 4, WEFT_ON_ANY = 7, WEFT_LINK_RAW = 8 };
enum weft_on_error { WEFT_RUN_ALL, WEFT_FAIL_FAST, WEFT_COLLECT };

struct weft_outcome { enum weft_status status; int error; void *value; };                            /* frozen */
struct weft_item { size_t index; enum weft_status status; int error; void *input; void *value; };    /* frozen */

typedef int  weft_task_fn(void *arg, void **result);
typedef void weft_free_fn(void *p);
typedef void weft_callback_fn(const struct weft_outcome *, void *arg);
typedef void weft_link_fn(struct weft_task *, const struct weft_outcome *, void *arg);
typedef int  weft_map_fn(void *ctx, size_t index, const void *in, void *out);
typedef int  weft_range_fn(void *ctx, size_t begin, size_t end);
typedef int  weft_source_fn(void *ctx, void **item);                 /* 1 = *item given, 0 = end, < 0 = failed */
typedef int  weft_imap_fn(void *ctx, void *item, void **result);

struct weft_source { weft_source_fn *next; void *ctx; weft_free_fn *item_free; };                    /* frozen */
struct weft_array { const void *base; size_t stride, n, next; };
int weft_array_next(void *array, void **item);       /* a source over an array: { weft_array_next, &array, NULL } */

struct weft_task_hooks {
    void (*spawn)(struct weft_task *, void *ctx);
    void (*start)(struct weft_task *, void *ctx);
    void (*finish)(struct weft_task *, void *ctx);
    void *ctx;
};
struct weft_task_options {
    size_t struct_size;
    const char *name;
    size_t stack_size, guard_size;
    int64_t deadline;                                /* 0 = none; then killed with -ETIMEDOUT */
    weft_free_fn *arg_free, *result_free;
    const struct weft_task_hooks *hooks;
};

/* runtime */
struct weft_runtime_options {
    size_t struct_size;
    const char *name;
    unsigned workers;
    size_t stack_size, guard_size, max_fibers;
    unsigned max_blocking_threads;
    void (*worker_start)(unsigned index, void *ctx);
    void (*worker_stop)(unsigned index, void *ctx);
    void *worker_ctx;
    const struct weft_task_hooks *task_hooks;
};
struct weft_runtime_stats {
    size_t struct_size;
    unsigned workers, workers_parked;
    uint64_t spawned, finished, failed, cancelled, stolen, parks, wakeups, switches, slow_calls;
    size_t queued, blocked, fibers, stack_bytes;
    const char *guard_mode;                          /* "madvise", "mprotect", "canary" */
    int64_t timer_late_max;
};
WEFT_MUST int weft_runtime_create(const struct weft_runtime_options *, struct weft_runtime **out);
int  weft_runtime_destroy(struct weft_runtime *);
WEFT_MUST int weft_runtime_join(struct weft_runtime *, int64_t deadline);
int  weft_runtime_kill(struct weft_runtime *, int reason);
struct weft_runtime *weft_runtime_default(void);
struct weft_runtime *weft_runtime_current(void);
unsigned weft_runtime_workers(const struct weft_runtime *);
WEFT_MUST int weft_runtime_read_stats(struct weft_runtime *, struct weft_runtime_stats *);
unsigned weft_worker_index(void);                    /* UINT_MAX on a foreign thread */

/* tasks */
WEFT_MUST int weft_task_create(struct weft_runtime *, weft_task_fn *, void *arg, const struct weft_task_options *, struct weft_task **out);
WEFT_MUST int weft_task_spawn(struct weft_runtime *, weft_task_fn *, void *arg, const struct weft_task_options *, struct weft_task **out);
int  weft_task_start(struct weft_task *);
int  weft_task_start_at(struct weft_task *, int64_t when);
void weft_task_retain(struct weft_task *);
void weft_task_release(struct weft_task *);
void weft_tasks_release(struct weft_task *tasks[], size_t n);
bool weft_task_finished(const struct weft_task *);
const char *weft_task_name(const struct weft_task *);
WEFT_MUST int weft_task_join(struct weft_task *, int64_t deadline);
WEFT_MUST int weft_task_get(struct weft_task *, int64_t deadline, struct weft_outcome *);
WEFT_MUST int weft_task_take(struct weft_task *, void **value);
int  weft_task_kill(struct weft_task *, int reason, int64_t deadline);
WEFT_MUST int weft_task_link(struct weft_task *, weft_link_fn *, void *arg, unsigned flags, uint64_t *id);
int  weft_task_unlink(struct weft_task *, uint64_t id);
WEFT_MUST int weft_tasks_wait(struct weft_task *const tasks[], size_t n, size_t count, int64_t deadline);
struct weft_task *weft_task_current(void);
void weft_yield(void);
WEFT_MUST int weft_sleep_until(int64_t when);
WEFT_MUST int weft_checkpoint(void);
int  weft_cancel_reason(void);
bool weft_cancel_mask(bool masked);

/* groups; a pool is a group with a size */
struct weft_group_options {
    size_t struct_size;
    const char *name;
    struct weft_task *const *tasks; size_t n_tasks;
    const struct weft_task_options *task_options;
    bool forget_errors;
};
WEFT_MUST int weft_group_create(struct weft_runtime *, const struct weft_group_options *, struct weft_group **out);
WEFT_MUST int weft_pool_create(struct weft_runtime *, size_t size, const struct weft_group_options *, struct weft_group **out);
int  weft_group_destroy(struct weft_group *);
WEFT_MUST int weft_group_spawn(struct weft_group *, weft_task_fn *, void *arg, struct weft_task **out);
WEFT_MUST int weft_group_spawn_with(struct weft_group *, weft_task_fn *, void *arg, const struct weft_task_options *, int64_t deadline, struct weft_task **out);
size_t weft_group_len(const struct weft_group *);
WEFT_MUST int weft_group_join(struct weft_group *, int64_t deadline);
int  weft_group_kill(struct weft_group *, int reason, int64_t deadline);
bool weft_pool_full(const struct weft_group *);
size_t weft_pool_free_count(const struct weft_group *);
WEFT_MUST int weft_pool_wait_available(struct weft_group *, int64_t deadline);

/* apply, map, for, reduce, imap; group NULL = a private unlimited group for this call */

struct weft_map_report { size_t struct_size; bool started; size_t ok, failed, cancelled, first_failed; int first_error; };
struct weft_map_options {
    size_t struct_size;
    enum weft_on_error on_error;
    size_t grain;                                    /* items per chunk; 0 = automatic */
    bool deterministic;
    int64_t deadline;                                /* 0 = none; then cancelled with -ETIMEDOUT */
    int *status;                                     /* n codes */
    struct weft_map_report *report;
    void (*progress)(size_t done, size_t n, void *arg); void *progress_arg;
    weft_callback_fn *callback; void *callback_arg; unsigned when;   /* map_async */
};
WEFT_MUST int weft_group_map(struct weft_group *, weft_map_fn *, void *ctx, size_t n, const void *in, size_t in_stride, void *out, size_t out_stride, const struct weft_map_options *);
#define WEFT_MAP(group, fn, ctx, n, in, out, options) \
    weft_group_map(group, fn, ctx, n, in, sizeof *(in), out, sizeof *(out), options)
WEFT_MUST int weft_group_for(struct weft_group *, size_t begin, size_t end, weft_range_fn *, void *ctx, const struct weft_map_options *);

struct weft_imap_options { size_t struct_size; size_t maxsize; weft_free_fn *result_free; };
WEFT_MUST int weft_group_imap(struct weft_group *, const struct weft_source sources[], size_t n_sources, weft_imap_fn *, void *ctx, const struct weft_imap_options *, struct weft_imap **out);
WEFT_MUST int weft_group_imap_unordered(struct weft_group *, const struct weft_source sources[], size_t n_sources, weft_imap_fn *, void *ctx, const struct weft_imap_options *, struct weft_imap **out);
WEFT_MUST int weft_imap_next(struct weft_imap *, struct weft_item *, int64_t deadline);   /* 1 item, 0 end, negative */
void weft_imap_close(struct weft_imap *);
int  weft_imap_destroy(struct weft_imap *);

#ifdef __cplusplus
}
#endif
#endif
