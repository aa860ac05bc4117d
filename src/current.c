/* What the running code asks of itself: who am I, have I been killed, let others run, sleep. */
#include "task.h"

#include <limits.h>

static struct weft_slot *slot_peek(void)
{
    struct weft_thread *thread = weft_thread_self();
    return thread ? thread->slot : NULL;
}

static struct weft_scope *scope_peek(void)
{
    struct weft_slot *slot = slot_peek();
    return slot ? a_load(&slot->scope, RELAXED) : NULL;
}

struct weft_task *weft_task_current(void)
{
    struct weft_slot *slot = slot_peek();
    return slot ? slot->task : NULL;
}

struct weft_runtime *weft_runtime_current(void)
{
    struct weft_worker *worker = weft_worker_self();
    struct weft_task *task = worker ? NULL : weft_task_current();
    return worker ? worker->runtime : task ? weft_task_runtime(task) : NULL;
}

unsigned weft_worker_index(void)
{
    struct weft_worker *worker = weft_worker_self();
    return worker ? worker->index : UINT_MAX;
}

void weft_yield(void)
{
    struct weft_slot *slot = slot_peek();
    if (!slot || !slot->runtime) {
        os_thread_yield();
    } else if (slot->raw == 0 && slot->runtime->fork_generation == os_fork_generation()) {
        weft_fiber_suspend_kept(weft_sched_yield);
    }
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

int weft_sleep_until(int64_t when)
{
    int rc = weft_cancel_point();
    if (rc != 0 || when == WEFT_NOWAIT) {
        return rc;
    }
    struct weft_waitq alone = { 0 };
    struct weft_wait wait = { .deadline = when, .cancellable = true };
    rc = weft_wait_until(&alone, never, NULL, &wait);
    return rc == -ETIMEDOUT ? 0 : rc;
}

int weft_checkpoint(void)
{
    struct weft_scope *scope = scope_peek();
    uint64_t word = scope ? a_load(&scope->word, ACQUIRE) : 0;
    if (!(word & (WEFT_SCOPE_REQUESTED | WEFT_SCOPE_DELIVERED)) || (word & WEFT_SCOPE_MASKED)) {
        return 0;
    }
    /* Whoever is told -ECANCELED can ask why; the pending kill stays pending. */
    while ((word & WEFT_SCOPE_REQUESTED) && weft_scope_given(word) != weft_scope_reason(word) &&
           !a_cas(&scope->word, &word,
                  weft_scope_make(weft_scope_reason(word), weft_scope_reason(word), (unsigned)(word & WEFT_SCOPE_FLAGS)), RELAXED,
                  RELAXED)) {
    }
    return -ECANCELED;
}

int weft_cancel_reason(void)
{
    struct weft_scope *scope = scope_peek();
    return scope ? weft_scope_given(a_load(&scope->word, RELAXED)) : 0;
}

bool weft_cancel_mask(bool masked)
{
    struct weft_scope *scope = scope_peek();
    if (!scope) {
        return false;
    }
    uint64_t before = masked ? a_or(&scope->word, (uint64_t)WEFT_SCOPE_MASKED, SEQ_CST)
                             : a_and(&scope->word, ~(uint64_t)WEFT_SCOPE_MASKED, SEQ_CST);
    return (before & WEFT_SCOPE_MASKED) != 0;
}
