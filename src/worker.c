/* The threads: starting them, what one does first and last, stopping them. */
#include "overflow.h"
#include "scheduler.h"

#include <stdio.h>

extern struct weft_cxx_globals *__cxa_get_globals(void) __attribute__((weak));

/* The worker's first and last act are on the thread's own stack; all else is on fibers. */
static void worker_main(void *arg)
{
    struct weft_worker *worker = arg;
    struct weft_runtime *runtime = worker->runtime;
    weft_thread_enter(&worker->thread);
    worker->errno_location = &errno;
    worker->cxx_globals = __cxa_get_globals ? __cxa_get_globals() : NULL;
    if (runtime->worker_start) {
        runtime->worker_start(worker->index, runtime->worker_context);
    }
    weft_context_init_thread(&worker->root);
    struct weft_fiber *first = worker->spare;
    worker->spare = first->node.next ? weft_container_of(first->node.next, struct weft_fiber, node) : NULL;
    worker->spare_count--;
    worker->current = first;
    worker->thread.slot = &first->slot;
    worker->left = NULL;
    worker->after = NULL;
    weft_context_switch(&worker->root, &first->context);
    worker->after(worker, worker->left);
    if (runtime->worker_stop) {
        runtime->worker_stop(worker->index, runtime->worker_context);
    }
    weft_overflow_thread_leave();
    weft_thread_leave();
}

static void enter(void *arg)
{
    (void)weft_overflow_thread_enter(); /* without memory for it an overflow is a bare SIGSEGV */
    worker_main(arg);
}

/* S1 holds from the first turn on: the runner that begins, and one spare. */
static int equip(struct weft_runtime *runtime, struct weft_worker *worker)
{
    while (worker->spare_count < 2) {
        struct weft_fiber *fiber = weft_fiber_get(&runtime->runners);
        if (!fiber) {
            return -ENOMEM;
        }
        fiber->node.next = worker->spare ? &worker->spare->node : NULL;
        worker->spare = fiber;
        worker->spare_count++;
    }
    return 0;
}

int weft_sched_start(struct weft_runtime *runtime, const char *name)
{
    unsigned started = 0;
    int rc = 0;
    (void)os_cycles_per_us(); /* measured here, not by the first worker that runs dry */
    unsigned wanted = runtime->worker_count;
    for (unsigned i = 0; i < wanted && rc == 0; i++) {
        rc = equip(runtime, runtime->workers[i]);
    }
    if (rc != 0) {
        return rc;
    }
    for (; started < wanted; started++) {
        struct weft_worker *worker = runtime->workers[started];
        char thread_name[16];
        (void)snprintf(thread_name, sizeof thread_name, "%.11s/%u", name ? name : "weft", started % 1000);
        rc = os_thread_start(&worker->os, enter, worker, thread_name);
        if (rc != 0) {
            break;
        }
        worker->started = true;
    }
    /* The others keep their place in the array, which no worker may see change: their queues stay empty. */
    return started > 0 ? (int)started : rc;
}

void weft_sched_stop(struct weft_runtime *runtime)
{
    a_store(&runtime->stop, 1u, SEQ_CST);
    weft_idle_wake_all(runtime);
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        if (runtime->workers[i]->started) {
            os_thread_join(runtime->workers[i]->os);
            runtime->workers[i]->started = false;
        }
    }
}
