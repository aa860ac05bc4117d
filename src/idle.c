#include "idle.h"

#include "scheduler.h"

void weft_idle_init(struct weft_idle *idle)
{
    *idle = (struct weft_idle){ 0 };
    a_store(&idle->keeper_deadline, OS_FOREVER, RELAXED);
}

static void signal_worker(struct weft_worker *worker, uint32_t what)
{
    a_or(&worker->idle.signal, what, RELEASE); /* pairs with the swap in park: what was done for the sleeper is seen by it */
    os_futex_wake(&worker->idle.signal, 1);
}

/* Under the lock. */
static void unlist(struct weft_idle *idle, struct weft_worker *worker)
{
    struct weft_worker **link = &idle->sleepers;
    while (*link != worker) {
        link = &(*link)->idle.next;
    }
    *link = worker->idle.next;
    worker->idle.listed = false;
}

static int64_t earliest_deadline(struct weft_runtime *runtime)
{
    int64_t earliest = a_load(&runtime->timers.earliest, SEQ_CST);
    for (unsigned i = 0; i < runtime->worker_count; i++) {
        int64_t other = a_load(&runtime->workers[i]->timers.earliest, SEQ_CST);
        earliest = other < earliest ? other : earliest;
    }
    return earliest;
}

/* Under the lock: the keeper is going. Whoever armed a deadline and trusted keeper_deadline did so before the store, and the loads
 * after it see that deadline: then the heir must look at the clock. */
static void resign(struct weft_runtime *runtime)
{
    struct weft_idle *idle = &runtime->idle;
    idle->keeper = idle->sleepers;
    a_store(&idle->keeper_deadline, OS_FOREVER, SEQ_CST); /* I5, pairs with I6 */
    if (idle->keeper && earliest_deadline(runtime) != OS_FOREVER) {
        signal_worker(idle->keeper, WEFT_IDLE_LOOK);
    }
}

/* Under the lock: takes a sleeper off the list, the keeper last, and counts it as searching. */
static struct weft_worker *claim(struct weft_runtime *runtime)
{
    struct weft_idle *idle = &runtime->idle;
    struct weft_worker *chosen = idle->sleepers;
    if (chosen == idle->keeper && chosen->idle.next) {
        chosen = chosen->idle.next;
    }
    unlist(idle, chosen);
    if (chosen == idle->keeper) {
        resign(runtime); /* it was the last one */
    }
    a_add(&idle->word, WEFT_IDLE_SEARCHING - WEFT_IDLE_SLEEPING, SEQ_CST); /* I3 */
    return chosen;
}

void weft_idle_wake_one(struct weft_runtime *runtime)
{
    struct weft_idle *idle = &runtime->idle;
    struct weft_worker *chosen = NULL;
    weft_lock(&idle->lock);
    if (idle->sleepers && weft_idle_searching(a_load(&idle->word, RELAXED)) == 0) {
        chosen = claim(runtime);
    }
    weft_unlock(&idle->lock);
    if (chosen) {
        signal_worker(chosen, WEFT_IDLE_GO);
    }
}

void weft_idle_search_begin(struct weft_worker *worker) { a_add(&worker->runtime->idle.word, WEFT_IDLE_SEARCHING, SEQ_CST); }

void weft_idle_search_end(struct weft_worker *worker)
{
    struct weft_runtime *runtime = worker->runtime;
    uint64_t before = a_sub(&runtime->idle.word, WEFT_IDLE_SEARCHING, SEQ_CST);
    if (weft_idle_searching(before) == 1) {
        weft_idle_notify(runtime);
    }
}

/* The keeper says until when it will sleep, and looks again whether that is still true: I5. */
static int64_t keeper_deadline(struct weft_runtime *runtime)
{
    int64_t said = OS_FOREVER, earliest;
    a_store(&runtime->idle.keeper_deadline, said, SEQ_CST);
    while ((earliest = earliest_deadline(runtime)) < said) {
        said = earliest;
        a_store(&runtime->idle.keeper_deadline, said, SEQ_CST); /* I5, pairs with I6 */
    }
    return said;
}

void weft_idle_deadline(struct weft_runtime *runtime, int64_t deadline_ns)
{
    struct weft_idle *idle = &runtime->idle;
    if (weft_idle_sleeping(a_load(&idle->word, SEQ_CST)) == 0 || a_load(&idle->keeper_deadline, SEQ_CST) <= deadline_ns) { /* I6 */
        return;
    }
    weft_lock(&idle->lock);
    if (idle->keeper) {
        signal_worker(idle->keeper, WEFT_IDLE_LOOK);
    }
    weft_unlock(&idle->lock);
}

/* By the sleeper itself. True if it had to leave the list; false if a submitter had taken it off already. */
static bool leave(struct weft_worker *worker)
{
    struct weft_idle *idle = &worker->runtime->idle;
    weft_lock(&idle->lock);
    bool listed = worker->idle.listed;
    if (listed) {
        unlist(idle, worker);
        a_add(&idle->word, WEFT_IDLE_SEARCHING - WEFT_IDLE_SLEEPING, SEQ_CST); /* I3 */
        if (idle->keeper == worker) {
            resign(worker->runtime);
        }
    }
    weft_unlock(&idle->lock);
    return listed;
}

/* Until a submitter's GO, the keeper's deadline, or the end. True: GO. */
static bool sleep_on(struct weft_worker *worker)
{
    struct weft_runtime *runtime = worker->runtime;
    struct weft_idle *idle = &runtime->idle;
    for (;;) {
        uint32_t signal = a_swap(&worker->idle.signal, 0u, ACQUIRE);
        if (signal & WEFT_IDLE_GO) {
            return true;
        }
        weft_lock(&idle->lock);
        bool keeper = idle->keeper == worker;
        weft_unlock(&idle->lock);
        int64_t until = keeper ? keeper_deadline(runtime) : OS_FOREVER;
        if (until != OS_FOREVER && os_now() >= until) {
            return false;
        }
        a_count(&worker->counters.parks, 1);
        (void)os_futex_wait(&worker->idle.signal, 0, until);
        a_count(&worker->counters.wakeups, 1);
    }
}

void weft_idle_park(struct weft_worker *worker, bool (*has_work)(struct weft_worker *worker))
{
    struct weft_runtime *runtime = worker->runtime;
    struct weft_idle *idle = &runtime->idle;
    weft_lock(&idle->lock);
    worker->idle.next = idle->sleepers;
    worker->idle.listed = true;
    idle->sleepers = worker;
    if (!idle->keeper) {
        idle->keeper = worker;
    }
    a_add(&idle->word, WEFT_IDLE_SLEEPING - WEFT_IDLE_SEARCHING, SEQ_CST); /* I3, pairs with I2 */
    weft_unlock(&idle->lock);
    runtime->on_idle(runtime);
    if (a_load(&runtime->stop, SEQ_CST) || has_work(worker) || !sleep_on(worker)) { /* I4, pairs with I1 */
        if (!leave(worker)) {
            /* A submitter has counted this worker and is about to signal, or has: the signal must not meet the next sleep. */
            while (!(a_swap(&worker->idle.signal, 0u, ACQUIRE) & WEFT_IDLE_GO)) {
                (void)os_futex_wait(&worker->idle.signal, 0, OS_FOREVER);
            }
        }
    }
}

void weft_idle_wake_all(struct weft_runtime *runtime)
{
    struct weft_idle *idle = &runtime->idle;
    struct weft_worker *chosen;
    do {
        weft_lock(&idle->lock);
        chosen = idle->sleepers ? claim(runtime) : NULL;
        weft_unlock(&idle->lock);
        if (chosen) {
            signal_worker(chosen, WEFT_IDLE_GO);
        }
    } while (chosen);
}
