#include "blocking.h"

#include "task.h"

enum { DEFAULT_MAX = 64 };
#define IDLE_NS INT64_C(1000000000)

enum call_state { QUEUED, RUNNING, DONE };

/* On the stack of who waits. */
struct weft_call {
    struct weft_call *next;
    weft_call_fn *fn;
    void *arg;
    struct weft_waitq queue;
    enum call_state state; /* QUEUED → RUNNING under the pool's lock, → DONE under that of `queue` */
};

void weft_blocking_init(struct weft_blocking *blocking, unsigned max)
{
    blocking->ending =
        false; /* not the lock, which is free or held by a late caller (give_up); the rest is as the end has left it */
    blocking->max = max ? max : DEFAULT_MAX;
}

/* ---- the list; under the lock ---- */

static void append(struct weft_blocking *blocking, struct weft_call *call)
{
    *(blocking->last ? &blocking->last->next : &blocking->first) = call;
    blocking->last = call;
    blocking->queued++;
}

static bool take_out(struct weft_blocking *blocking, struct weft_call *call)
{
    struct weft_call *before = NULL, *at = blocking->first;
    while (at && at != call) {
        before = at;
        at = at->next;
    }
    if (at) {
        *(before ? &before->next : &blocking->first) = at->next;
        blocking->last = blocking->last == at ? before : blocking->last;
        blocking->queued--;
    }
    return at != NULL;
}

/* ---- helpers ---- */

static void finish(struct weft_call *call)
{
    struct weft_waiter *ready = NULL;
    struct weft_waiter *tail = weft_waitq_lock(&call->queue);
    call->state = DONE;
    if (tail) {
        (void)weft_waitq_claim(&tail, tail->next, NULL, &ready);
    }
    weft_waitq_unlock(&call->queue, tail);
    weft_waitq_ready(ready);
}

/* With the lock held, and again when it returns: true after a sleep that ended because nothing came for long. */
static bool sleep_long(struct weft_blocking *blocking)
{
    uint32_t seen = a_load(&blocking->work, RELAXED); /* changed under the lock */
    blocking->asleep++;
    weft_unlock(&blocking->lock);
    int rc = os_futex_wait(&blocking->work, seen, os_now() + IDLE_NS);
    weft_lock(&blocking->lock);
    blocking->asleep--;
    return rc == -ETIMEDOUT;
}

static void helper(void *arg)
{
    struct weft_blocking *blocking = arg;
    struct weft_slot *slot = weft_slot_self();
    if (slot) {
        slot->helps = &weft_container_of(blocking, struct weft_instance, blocking)->runtime;
    }
    bool tired = false;
    weft_lock(&blocking->lock);
    for (;;) {
        struct weft_call *call = blocking->first;
        if (call) {
            (void)take_out(blocking, call);
            call->state = RUNNING;
            weft_unlock(&blocking->lock);
            call->fn(call->arg);
            finish(call);
            weft_lock(&blocking->lock);
            tired = false;
        } else if (tired || blocking->ending) {
            break;
        } else {
            tired = sleep_long(blocking);
        }
    }
    a_sub(&blocking->threads, 1u, RELEASE); /* under the lock: whoever adds a call sees that nobody is left */
    weft_unlock(&blocking->lock);
    os_futex_wake(&blocking->threads, 1); /* the memory is a runtime's: it keeps its type */
}

/* Under the lock, with a call in the list. 0 or negative: then there is nobody to run it. */
static int call_helper(struct weft_blocking *blocking)
{
    uint32_t threads = a_load(&blocking->threads, RELAXED);
    if (blocking->asleep >= blocking->queued || threads >= blocking->max) {
        return 0;
    }
    struct os_thread thread;
    a_add(&blocking->threads, 1u, RELAXED);
    int rc = os_thread_start(&thread, helper, blocking, "weft-blocking");
    if (rc == 0) {
        os_thread_detach(thread);
        return 0;
    }
    a_sub(&blocking->threads, 1u, RELAXED);
    return threads > 0 ? 0 : rc; /* those that run come for it when they have time */
}

static int submit(struct weft_blocking *blocking, struct weft_call *call)
{
    weft_lock(&blocking->lock);
    int rc = blocking->ending ? -ESHUTDOWN : 0;
    if (rc == 0) {
        append(blocking, call);
        if ((rc = call_helper(blocking)) != 0) {
            (void)take_out(blocking, call);
        }
    }
    a_add(&blocking->work, 1u, RELAXED);
    bool wake = rc == 0 && blocking->asleep > 0;
    weft_unlock(&blocking->lock);
    if (wake) {
        os_futex_wake(&blocking->work, 1);
    }
    return rc;
}

bool weft_blocking_end(struct weft_blocking *blocking)
{
    weft_lock(&blocking->lock);
    bool any = a_load(&blocking->threads, RELAXED) > 0;
    blocking->ending = true;
    a_add(&blocking->work, 1u, RELAXED);
    weft_unlock(&blocking->lock);
    os_futex_wake(&blocking->work, INT32_MAX);
    for (uint32_t threads; (threads = a_load(&blocking->threads, ACQUIRE)) > 0;) { /* pairs with a helper's last step */
        (void)os_futex_wait(&blocking->threads, threads, OS_FOREVER);
    }
    weft_lock(&blocking->lock); /* the last one has let go of it then: it may be made anew */
    weft_unlock(&blocking->lock);
    return any;
}

/* ---- callers ---- */

/* True: it has not begun and will not, and the kill that was pending is delivered. */
static bool give_up(struct weft_blocking *blocking, struct weft_call *call, struct weft_slot *slot, bool *begun)
{
    weft_lock(&blocking->lock);
    struct weft_scope *scope = a_load(&slot->scope, RELAXED);
    *begun = call->state != QUEUED;
    bool gone = !*begun && scope && weft_scope_deliver(scope) && take_out(blocking, call);
    weft_unlock(&blocking->lock);
    return gone;
}

static int wait_for(struct weft_blocking *blocking, struct weft_call *call, struct weft_slot *slot)
{
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
    struct weft_waiter *tail = weft_waitq_lock(&call->queue);
    while (call->state != DONE) {
        struct weft_waiter waiter = { .slot = slot };
        weft_wait_link(&tail, &waiter, false);
        weft_waitq_unlock(&call->queue, tail);
        if (weft_wait_sleep(&call->queue, &tail, &waiter, &wait)) {
            return 0;
        }
        weft_waitq_unlock(&call->queue, tail);
        bool begun;
        if (give_up(blocking, call, slot, &begun)) {
            return -ECANCELED;
        }
        wait.cancellable = !begun;
        tail = weft_waitq_lock(&call->queue);
    }
    weft_waitq_unlock(&call->queue, tail);
    return 0;
}

int weft_blocking_call(struct weft_runtime *runtime, weft_call_fn *fn, void *arg)
{
    struct weft_wait wait = { .deadline = OS_FOREVER, .cancellable = true };
    struct weft_slot *slot;
    int rc = fn ? weft_runtime_resolve(&runtime) : -EINVAL;
    if (rc == 0) {
        rc = weft_wait_enter(&wait, &slot);
    }
    if (rc != 0) {
        return rc;
    }
    if (!slot->runtime) {
        fn(arg);
        return 0;
    }
    struct weft_blocking *blocking = &weft_instance_of(runtime)->blocking;
    struct weft_call call = { .fn = fn, .arg = arg };
    rc = submit(blocking, &call);
    return rc != 0 ? rc : wait_for(blocking, &call, slot);
}
