/* The pairing heap under timer.h. A node's children are a list through `sibling`, the first one reached through `child`; `previous`
 * is the left sibling or, for a first child, the parent, so that any node can leave its list in constant time.
 * Nothing here recurses: 10⁶ timers may form a list of 10⁶.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | T1 | store of earliest | T2 | an arming thread finds no timekeeper to wake, and the timekeeper does not see the new deadline |
 * | T2 | load of earliest, by the timekeeper (scheduler.c) | T1 | the same |
 * | T3 | arm: store of heap | T4 | a cancel that races with arm finds nothing, and who armed does not yet see why to cancel |
 * | T4 | cancel: load of heap | T3 | the same |
 *
 * Either the store of T1 comes first in the single order, and the timekeeper that published its own deadline before T2 sees it; or
 * the timekeeper's publication comes first, and whoever armed sees that. */
#include "timer.h"

/* Both are roots or NULL; on equal deadlines the first stays on top. */
static struct weft_timer *merge(struct weft_timer *a, struct weft_timer *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (b->deadline_ns < a->deadline_ns) {
        struct weft_timer *later = a;
        a = b;
        b = later;
    }
    b->sibling = a->child;
    b->previous = a;
    if (a->child != NULL) {
        a->child->previous = b;
    }
    a->child = b;
    a->sibling = NULL;
    a->previous = NULL;
    return a;
}

/* Makes one heap of a list of children: pairs from left to right, then merges the pairs from right to left. */
static struct weft_timer *merge_children(struct weft_timer *first)
{
    struct weft_timer *pairs = NULL; /* newest first, through sibling */
    while (first != NULL) {
        struct weft_timer *a = first;
        struct weft_timer *b = a->sibling;
        first = b != NULL ? b->sibling : NULL;
        a->sibling = NULL;
        a->previous = NULL;
        if (b != NULL) {
            b->sibling = NULL;
            b->previous = NULL;
        }
        a = merge(a, b);
        a->sibling = pairs;
        pairs = a;
    }
    struct weft_timer *root = NULL;
    while (pairs != NULL) {
        struct weft_timer *next = pairs->sibling;
        pairs->sibling = NULL;
        root = merge(pairs, root);
        pairs = next;
    }
    return root;
}

static void take_out(struct weft_timer_heap *heap, struct weft_timer *timer)
{
    struct weft_timer *children = merge_children(timer->child);
    if (timer == heap->root) {
        heap->root = children;
    } else {
        if (timer->previous->child == timer) {
            timer->previous->child = timer->sibling;
        } else {
            timer->previous->sibling = timer->sibling;
        }
        if (timer->sibling != NULL) {
            timer->sibling->previous = timer->previous;
        }
        heap->root = merge(heap->root, children);
    }
    timer->child = NULL;
    timer->sibling = NULL;
    timer->previous = NULL;
    timer->armed = false;
}

static void mirror_root(struct weft_timer_heap *heap)
{
    int64_t earliest = heap->root != NULL ? heap->root->deadline_ns : OS_FOREVER;
    if (a_load(&heap->earliest, RELAXED) != earliest) {
        a_store(&heap->earliest, earliest, SEQ_CST); /* T1, pairs with T2 */
    }
}

void weft_timer_heap_init(struct weft_timer_heap *heap)
{
    atomic_init(&heap->lock.word, 0u);
    heap->root = NULL;
    atomic_init(&heap->earliest, OS_FOREVER);
}

bool weft_timer_arm(struct weft_timer_heap *heap, struct weft_timer *timer, int64_t deadline_ns)
{
    weft_assert(!timer->armed && timer->fire != NULL);
    timer->child = NULL;
    timer->sibling = NULL;
    timer->previous = NULL;
    timer->deadline_ns = deadline_ns;
    weft_lock(&heap->lock);
    timer->armed = true;
    a_store(&timer->heap, heap, SEQ_CST); /* T3, pairs with T4 */
    heap->root = merge(heap->root, timer);
    bool first = heap->root == timer;
    mirror_root(heap);
    weft_unlock(&heap->lock);
    return first;
}

bool weft_timer_cancel(struct weft_timer *timer)
{
    struct weft_timer_heap *heap = a_load(&timer->heap, SEQ_CST); /* T4, pairs with T3 */
    if (heap == NULL) {
        return false;
    }
    weft_lock(&heap->lock); /* also when it has fired: `fire` may be running still */
    bool armed = timer->armed;
    if (armed) {
        take_out(heap, timer);
        mirror_root(heap);
    }
    a_store(&timer->heap, NULL,
            RELAXED); /* the next cancel is free; an arm that comes next holds the same lock or comes after us */
    weft_unlock(&heap->lock);
    return armed;
}

/* `armed` is cleared before `fire` and the timer is not touched after it: what `fire` hands over may be gone by then. */
int64_t weft_timer_expire(struct weft_timer_heap *heap, int64_t now_ns, void *context)
{
    int64_t lateness = -1;
    weft_lock(&heap->lock);
    while (heap->root != NULL && heap->root->deadline_ns <= now_ns) {
        struct weft_timer *timer = heap->root;
        if (lateness < 0) { /* the first one is the latest; a deadline before the clock's start counts from there (H27) */
            lateness = timer->deadline_ns > 0 ? now_ns - timer->deadline_ns : now_ns;
        }
        take_out(heap, timer);
        timer->fire(timer, context);
    }
    mirror_root(heap);
    weft_unlock(&heap->lock);
    return lateness;
}
