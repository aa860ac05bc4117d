/* Runtimes: made, found, joined, killed, destroyed; recycled, because handles may outlive them (type-stable, like records).
 *
 * The end of a runtime, in order: phase DRAINING refuses foreign spawns and links; unstarted tasks are cancelled; as many tasks have
 * ended as were started; those that were made meanwhile and not started are cancelled, too, which may set links going; the workers leave
 * and are joined; phase ENDED. Its records stay readable as long as anybody holds one; after the last is
 * released the instance may serve as another runtime.
 *
 * "No task is left": weft_sched_quiescent sums what has ended before what was started, each counter monotone (tests/models/shards.pml
 * has the same sums). Whoever waits for that says so in quiet_wanted; a worker looks there when it has run dry, after its seq_cst step
 * into the idle list, and the waiter sums after a seq_cst look at the idle word: one of the two sees the other. */
#include "runtime.h"

#include "overflow.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES_DEFAULT ((size_t)64 * 1024 * WEFT_STACK_FACTOR)
#define GUARD_BYTES_DEFAULT ((size_t)128 * 1024) /* a frame of 128 KiB on a full stack still hits it (H17) */
#define WORKERS_MAX 4096u

static struct weft_lock instances_lock;
static struct weft_instance *free_instances; /* ended, nobody holds anything of them */
static struct weft_instance *default_instance;

/* ---- finding one ---- */

int weft_runtime_usable(struct weft_runtime *runtime)
{
    if (weft_unlikely(runtime->fork_generation != os_fork_generation())) {
        return -EPERM;
    }
    return weft_unlikely(a_load(&runtime->phase, ACQUIRE) == WEFT_PHASE_ENDED) ? -ESHUTDOWN : 0;
}

static int start_default(struct weft_runtime **runtime)
{
    weft_lock(&instances_lock);
    struct weft_instance *instance = default_instance;
    weft_unlock(&instances_lock);
    if (instance && instance->runtime.fork_generation == os_fork_generation()) {
        *runtime = &instance->runtime;
        return 0;
    }
    struct weft_runtime *made;
    int rc = weft_runtime_create(NULL, &made);
    if (rc != 0) {
        return rc;
    }
    weft_lock(&instances_lock);
    bool first = default_instance == instance;
    if (first) {
        default_instance = weft_instance_of(made);
    }
    *runtime = &default_instance->runtime;
    weft_unlock(&instances_lock);
    if (!first) {
        (void)weft_runtime_destroy(made); /* another thread was faster */
    }
    return 0;
}

int weft_runtime_resolve(struct weft_runtime **runtime)
{
    if (!*runtime) {
        struct weft_runtime *current = weft_runtime_current();
        if (current && current->fork_generation == os_fork_generation()) {
            *runtime = current;
            return 0;
        }
        return start_default(runtime);
    }
    return weft_runtime_usable(*runtime);
}

struct weft_runtime *weft_runtime_default(void)
{
    struct weft_runtime *runtime;
    return start_default(&runtime) == 0 ? runtime : NULL;
}

unsigned weft_runtime_workers(const struct weft_runtime *runtime)
{
    struct weft_runtime *resolved = (struct weft_runtime *)(uintptr_t)runtime;
    return weft_runtime_resolve(&resolved) == 0 ? weft_instance_of(resolved)->workers_running : 0;
}

void weft_instance_no_default(struct weft_instance *instance)
{
    weft_lock(&instances_lock);
    if (default_instance == instance) {
        default_instance = NULL;
    }
    weft_unlock(&instances_lock);
}

/* ---- making ---- */

/* R2: the environment's number, or 0. A malformed one is named once. */
static unsigned workers_from_environment(void)
{
    static _Atomic uint32_t named;
    const char *text = getenv("WEFT_WORKERS");
    if (!text) {
        return 0;
    }
    unsigned long value = 0;
    const char *at = text;
    while (*at >= '0' && *at <= '9' && value <= WORKERS_MAX) {
        value = value * 10 + (unsigned long)(*at++ - '0');
    }
    if (at != text && *at == '\0' && value > 0 && value <= WORKERS_MAX) {
        return (unsigned)value;
    }
    if (!a_swap(&named, 1u, RELAXED)) {
        char line[160];
        int length =
            snprintf(line, sizeof line, "weft: WEFT_WORKERS=\"%.40s\" is not a number from 1 to %u; ignored\n", text, WORKERS_MAX);
        os_write_stderr(line, (size_t)length);
    }
    return 0;
}

static bool overflow_query(const void *address, struct weft_overflow *what)
{
    struct weft_worker *worker = weft_worker_self();
    struct weft_fiber *fiber = worker ? worker->current : NULL;
    if (!fiber || !weft_stack_is_overflow(&fiber->stack, address)) {
        return false;
    }
    struct weft_task *task = fiber->slot.task;
    *what = (struct weft_overflow){ .task_name = task ? weft_task_name(task) : NULL,
                                    .stack_size_bytes = fiber->stack.size_bytes,
                                    .from_task_option = fiber->only != NULL };
    return true;
}

static struct weft_injector_node *task_node(struct weft_task *task) { return &task->scope.node; }

struct weft_task *weft_task_of_node(struct weft_injector_node *node)
{
    return weft_container_of(node, struct weft_task, scope.node);
}

static bool quiet(void *arg)
{
    struct weft_runtime *runtime = &((struct weft_instance *)arg)->runtime;
    return a_load(&runtime->stop, SEQ_CST) != 0 || weft_sched_quiescent(runtime);
}

void weft_instance_look(struct weft_instance *instance)
{
    if (weft_unlikely(a_load(&instance->quiet_wanted, SEQ_CST) > 0)) {
        struct weft_waiter *tail = weft_waitq_lock(&instance->quiet), *ready = NULL;
        bool still = quiet(instance); /* what was seen before the lock may be older than the wait */
        while (still && tail) {
            (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
        }
        weft_waitq_unlock(&instance->quiet, tail);
        weft_waitq_ready(ready);
    }
}

static void on_idle(struct weft_runtime *runtime) { weft_instance_look(weft_instance_of(runtime)); }

static struct weft_instance *instance_take(void)
{
    weft_lock(&instances_lock);
    struct weft_instance *instance = free_instances;
    if (instance) {
        free_instances = instance->next;
    }
    weft_unlock(&instances_lock);
    if (!instance && (instance = calloc(1, sizeof *instance)) != NULL) {
        weft_slab_init(&instance->tasks, sizeof(struct weft_task), instance);
    }
    return instance;
}

static void instance_give(struct weft_instance *instance)
{
    free(instance->name);
    instance->name = NULL;
    weft_sched_fini_pools(&instance->runtime);
    weft_lock(&instances_lock);
    a_store(&instance->runtime.phase, WEFT_PHASE_FREE, RELEASE);
    instance->next = free_instances;
    free_instances = instance;
    weft_unlock(&instances_lock);
}

/* Ended, and nothing of it is held any more: exactly one caller finds both true under the lock. */
void weft_instance_released(struct weft_instance *instance)
{
    if (weft_likely(a_load(&instance->runtime.phase, ACQUIRE) != WEFT_PHASE_ENDED)) {
        return;
    }
    bool last = false;
    weft_lock(&instances_lock);
    if (a_load(&instance->runtime.phase, RELAXED) == WEFT_PHASE_ENDED && weft_slab_in_use(&instance->tasks) == 0 &&
        a_load(&instance->objects, ACQUIRE) == 0) {
        a_store(&instance->runtime.phase, WEFT_PHASE_FREE, RELAXED);
        last = true;
    }
    weft_unlock(&instances_lock);
    if (last) {
        instance_give(instance);
    }
}

static char *copy_name(const char *name) { return name ? strdup(name) : NULL; }

int weft_runtime_create(const struct weft_runtime_options *given, struct weft_runtime **out)
{
    struct weft_runtime_options options;
    if (!out) {
        return -EINVAL;
    }
    *out = NULL;
    int rc = weft_options_read(&options, sizeof options, given);
    if (rc != 0) {
        return rc;
    }
    if (options.workers > WORKERS_MAX || options.stack_size > WEFT_STACK_LARGEST || options.guard_size > WEFT_STACK_LARGEST) {
        return -EINVAL;
    }
    if (os_shadow_stack_active()) {
        static const char line[] =
            "weft: this process runs with a shadow stack, which fibers cannot switch; turn it off for this program\n";
        os_write_stderr(line, sizeof line - 1);
        return -ENOTSUP;
    }
    unsigned workers = options.workers ? options.workers : workers_from_environment();
    workers = workers ? workers : os_cpu_count();
    workers = workers < WORKERS_MAX ? workers : WORKERS_MAX;
    struct weft_instance *instance = instance_take();
    if (!instance) {
        return -ENOMEM;
    }
    struct weft_runtime *runtime = &instance->runtime;
    *runtime = (struct weft_runtime){ .run = weft_task_run,
                                      .on_idle = on_idle,
                                      .task_node = task_node,
                                      .node_task = weft_task_of_node,
                                      .worker_start = options.worker_start,
                                      .worker_stop = options.worker_stop,
                                      .worker_context = options.worker_ctx,
                                      .fork_generation = os_fork_generation() };
    instance->has_hooks = options.task_hooks != NULL;
    instance->hooks = options.task_hooks ? *options.task_hooks : (struct weft_task_hooks){ 0 };
    weft_blocking_init(&instance->blocking, options.max_blocking_threads);
    instance->stack_bytes = options.stack_size ? options.stack_size : STACK_BYTES_DEFAULT;
    instance->name = copy_name(options.name);
    rc = options.name && !instance->name ? -ENOMEM : weft_overflow_install(overflow_query);
    if (rc == 0) {
        /* A runner and its spare per worker are needed to run at all. */
        size_t fibers_max = options.max_fibers ? options.max_fibers : SIZE_MAX;
        fibers_max = fibers_max < 2u * (size_t)workers ? 2u * (size_t)workers : fibers_max;
        rc = weft_sched_init(runtime, workers, instance->stack_bytes, options.guard_size ? options.guard_size : GUARD_BYTES_DEFAULT,
                             fibers_max);
    }
    if (rc == 0) {
        rc = weft_sched_start(runtime, instance->name);
        if (rc < 0) {
            weft_sched_fini(runtime);
        }
    }
    if (rc < 0) {
        instance_give(instance);
        return rc;
    }
    instance->workers_running = (unsigned)rc;
    *out = runtime;
    return 0;
}

/* ---- waiting and killing ---- */

bool weft_runtime_is_mine(struct weft_runtime *runtime)
{
    struct weft_thread *thread = weft_thread_self();
    struct weft_slot *slot = thread ? thread->slot : NULL;
    struct weft_frame *frame = slot ? slot->frame : NULL;
    while (frame && frame->runtime != runtime) {
        frame = frame->outer;
    }
    return frame || weft_runtime_current() == runtime || (slot && slot->helps == runtime);
}

int weft_instance_wait_quiet(struct weft_instance *instance, const struct weft_wait *wait)
{
    a_add(&instance->quiet_wanted, 1u, SEQ_CST);
    int rc = weft_wait_until(&instance->quiet, quiet, instance, wait);
    a_sub(&instance->quiet_wanted, 1u, SEQ_CST);
    return rc;
}

int weft_runtime_join(struct weft_runtime *runtime, int64_t deadline)
{
    int rc = weft_runtime_resolve(&runtime);
    if (rc != 0) {
        return rc;
    }
    if (weft_runtime_is_mine(runtime)) {
        return -EDEADLK;
    }
    struct weft_wait wait = { .deadline = deadline, .cancellable = true };
    return weft_instance_wait_quiet(weft_instance_of(runtime), &wait);
}

static bool kill_one(struct weft_task *task, void *reason)
{
    if (task != weft_task_current()) {
        (void)weft_task_kill(task, *(int *)reason, WEFT_NOWAIT);
    }
    return true;
}

int weft_runtime_kill(struct weft_runtime *runtime, int reason)
{
    int rc = weft_runtime_resolve(&runtime);
    if (rc != 0 || reason > 0 || reason < -0xffff) {
        return rc != 0 ? rc : -EINVAL;
    }
    weft_tasks_each(runtime, kill_one, &reason);
    struct weft_task *self = weft_task_current();
    return self && weft_task_runtime(self) == runtime ? weft_task_kill(self, reason, WEFT_NOWAIT) : 0;
}

/* ---- statistics ---- */

#define SUM(field) weft_sched_sum(runtime, offsetof(struct weft_counters, field))

/* What is running may move between two loads: a difference that would be negative is zero. */
static size_t difference(uint64_t more, uint64_t less) { return more > less ? (size_t)(more - less) : 0; }

int weft_runtime_read_stats(struct weft_runtime *runtime, struct weft_runtime_stats *stats)
{
    size_t given = stats ? stats->struct_size : 0;
    int rc = given >= sizeof given ? weft_runtime_resolve(&runtime) : -EINVAL;
    if (rc != 0) {
        return rc;
    }
    struct weft_runtime_stats full = { .struct_size = given };
    full.workers = weft_instance_of(runtime)->workers_running;
    full.workers_parked = weft_idle_sleeping(a_load(&runtime->idle.word, RELAXED));
    full.finished = SUM(finished);
    full.failed = SUM(failed);
    full.cancelled = SUM(cancelled);
    full.spawned = SUM(spawned);
    full.stolen = SUM(stolen);
    full.parks = SUM(parks);
    full.wakeups = SUM(wakeups);
    full.switches = SUM(switches);
    full.slow_calls = SUM(slow_calls);
    uint64_t begun = SUM(begun), resumed = SUM(resumed);
    full.queued = difference(SUM(queued), begun);
    full.blocked = difference(SUM(blocked), resumed);
    full.fibers = a_load(&runtime->fibers_live, RELAXED);
    full.stack_bytes = weft_fiber_stack_bytes();
    full.guard_mode = weft_stack_guard_mode();
    full.timer_late_max = a_load(&runtime->timer_late_max, RELAXED);
    memcpy(stats, &full, given < sizeof full ? given : sizeof full);
    return 0;
}

/* ---- fork ---- */

enum { GUARDS = 16 };
static void (*guards[GUARDS])(bool hold);
static unsigned guard_count;

void weft_fork_guard(void (*hold)(bool hold))
{
    weft_assert(guard_count < GUARDS);
    guards[guard_count++] = hold;
}

/* No lock of the process-wide data is held by anybody else while it forks. */
static void fork_prepare(void)
{
    weft_lock(&instances_lock);
    for (unsigned i = 0; i < guard_count; i++) {
        guards[i](true);
    }
    weft_sched_hold(true);
    weft_fiber_hold(true);
    weft_thread_hold(true);
}

static void fork_resume(void)
{
    weft_thread_hold(false);
    weft_fiber_hold(false);
    weft_sched_hold(false);
    for (unsigned i = guard_count; i-- > 0;) {
        guards[i](false);
    }
    weft_unlock(&instances_lock);
}

__attribute__((constructor)) static void start(void) { os_fork_hooks(fork_prepare, fork_resume); }
