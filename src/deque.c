/* The deque's operations; deque.h says who may call what.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | D1 | push, take: store of bottom | D2 | a thief gets an entry whose slot, or what it points to, it does not see |
 * | D2 | steal: load of bottom | D1 | the same |
 * | D3 | take: store of bottom, then load of top | D4 | owner and thief both get the last entry |
 * | D4 | steal: load of top, then load of bottom | D3 | the same |
 * | D5 | steal, take: CAS of top | D5, D6 | two get one entry |
 * | D6 | push: load of top | D5 | a slot is written again before the thief that won it has read it |
 * | D7 | grow: store of array | D8 | a thief reads slots of the new array from before the copy |
 * | D8 | steal: load of array | D7 | the same |
 *
 * D3 against D4, why seq_cst: the owner takes index b without a CAS only if it loaded top < b after it stored bottom = b. A thief
 * that wins b loaded top == b and then bottom > b. In the single order of these four either the owner's store comes before the
 * thief's load of bottom, which then sees b and gives up; or the thief's load of bottom, and before it its load of top == b, come
 * before the owner's load of top, which then sees b too and goes to the CAS. Acquire and release would allow neither. */
#include "deque.h"

#include <stdlib.h>

struct weft_deque_array {
    int64_t capacity; /* a power of two */
    struct weft_deque_array *older;
    _Atomic(void *) slots[];
};

_Static_assert(sizeof(((struct weft_deque *)0)->top) == 8, "H02: indices never wrap");
_Static_assert(offsetof(struct weft_deque, bottom) - offsetof(struct weft_deque, top) >= WEFT_APART_BYTES, "H06");
_Static_assert(sizeof(struct weft_deque) % WEFT_APART_BYTES == 0, "H06: the next deque's top is apart, too");

static struct weft_deque_array *array_create(size_t capacity)
{
    struct weft_deque_array *array = NULL;
    if (capacity <= (SIZE_MAX - sizeof(*array)) / sizeof(array->slots[0]) / 2) {
        array = malloc(sizeof(*array) + capacity * sizeof(array->slots[0]));
    }
    if (array != NULL) {
        array->capacity = (int64_t)capacity;
        array->older = NULL;
    }
    return array;
}

static _Atomic(void *) *slot_of(struct weft_deque_array *array, int64_t index)
{
    return &array->slots[index & (array->capacity - 1)];
}

int weft_deque_init(struct weft_deque *deque, size_t capacity)
{
    weft_assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
    struct weft_deque_array *array = array_create(capacity);
    if (array == NULL) {
        return -ENOMEM;
    }
    atomic_init(&deque->top, 0);
    atomic_init(&deque->bottom, 0);
    atomic_init(&deque->array, array);
    deque->retired = NULL;
    deque->alone = false;
    return 0;
}

void weft_deque_alone(struct weft_deque *deque) { deque->alone = true; }

static void *get_alone(struct weft_deque *deque, bool newest)
{
    int64_t top = a_load(&deque->top, RELAXED), bottom = a_load(&deque->bottom, RELAXED);
    if (top >= bottom) {
        return NULL;
    }
    a_store(newest ? &deque->bottom : &deque->top, newest ? bottom - 1 : top + 1, RELAXED);
    return a_load(slot_of(a_load(&deque->array, RELAXED), newest ? bottom - 1 : top), RELAXED);
}

void weft_deque_fini(struct weft_deque *deque)
{
    free(a_load(&deque->array, RELAXED));
    while (deque->retired != NULL) {
        struct weft_deque_array *array = deque->retired;
        deque->retired = array->older;
        free(array);
    }
    a_store(&deque->array, NULL, RELAXED);
}

/* Twice the room. The old array is kept, unchanged, since a thief may be about to read it (H04); what it reads there at an index it
 * then wins is the entry, because no slot is written after the deque has moved on. */
static struct weft_deque_array *grow(struct weft_deque *deque, struct weft_deque_array *old, int64_t top, int64_t bottom)
{
    struct weft_deque_array *array = array_create((size_t)old->capacity * 2);
    if (array == NULL) {
        return NULL;
    }
    for (int64_t i = top; i < bottom; i++) {
        a_store(slot_of(array, i), a_load(slot_of(old, i), RELAXED), RELAXED);
    }
    old->older = deque->retired;
    deque->retired = old;
    a_store(&deque->array, array, RELEASE); /* D7, pairs with D8 */
    return array;
}

bool weft_deque_push(struct weft_deque *deque, void *entry)
{
    int64_t bottom = a_load(&deque->bottom, RELAXED);
    int64_t top = a_load(&deque->top, ACQUIRE); /* D6, pairs with D5 */
    struct weft_deque_array *array = a_load(&deque->array, RELAXED);
    if (weft_unlikely(bottom - top >= array->capacity)) {
        array = grow(deque, array, top, bottom);
        if (array == NULL) {
            return false;
        }
    }
    a_store(slot_of(array, bottom), entry, RELAXED);
    if (deque->alone) {
        a_store(&deque->bottom, bottom + 1, RELEASE); /* for who counts, without order */
        return true;
    }
    a_store(&deque->bottom, bottom + 1, SEQ_CST); /* D1, pairs with D2; seq_cst for the idle protocol (H01), release for us */
    return true;
}

void *weft_deque_take(struct weft_deque *deque)
{
    if (deque->alone) {
        return get_alone(deque, true);
    }
    int64_t bottom = a_load(&deque->bottom, RELAXED) - 1;
    struct weft_deque_array *array = a_load(&deque->array, RELAXED);
    a_store(&deque->bottom, bottom, SEQ_CST);   /* D3, pairs with D4; D1, pairs with D2 */
    int64_t top = a_load(&deque->top, SEQ_CST); /* D3, pairs with D4 */
    if (top < bottom) {
        return a_load(slot_of(array, bottom), RELAXED); /* no thief can get as far as this one */
    }
    void *entry = NULL;
    if (top == bottom) {
        entry = a_load(slot_of(array, bottom), RELAXED);
        if (!a_cas(&deque->top, &top, top + 1, SEQ_CST, RELAXED)) { /* D5, pairs with D5: the last entry goes to one */
            entry = NULL;
        }
    }
    /* Empty again: bottom == top. No entry is published by this store, but a release keeps D1 true of every store of bottom. */
    a_store(&deque->bottom, bottom + 1, RELEASE); /* D1, pairs with D2 */
    return entry;
}

void *weft_deque_steal(struct weft_deque *deque)
{
    if (deque->alone) {
        return get_alone(deque, false);
    }
    for (;;) {
        int64_t top = a_load(&deque->top, SEQ_CST);       /* D4, pairs with D3 */
        int64_t bottom = a_load(&deque->bottom, SEQ_CST); /* D4, pairs with D3; D2, pairs with D1 */
        if (top >= bottom) {
            return NULL;
        }
        struct weft_deque_array *array = a_load(&deque->array, ACQUIRE); /* D8, pairs with D7 */
        void *entry = a_load(slot_of(array, top), RELAXED);              /* before the CAS: after it the slot is the owner's */
        if (a_cas(&deque->top, &top, top + 1, SEQ_CST, RELAXED)) {       /* D5, pairs with D5 and D6 */
            return entry;
        }
        /* Somebody else got it, so the deque moved on: this loop is lock-free. */
        weft_spin_pause();
    }
}

bool weft_deque_empty(struct weft_deque *deque)
{
    /* Top only grows: if it was bottom or more before bottom was read, the deque was empty at that moment. */
    int64_t top = a_load(&deque->top, SEQ_CST); /* D4, pairs with D3; the caller's rescan (H01) needs the order */
    return top >= a_load(&deque->bottom, SEQ_CST);
}

int64_t weft_deque_size(struct weft_deque *deque)
{
    int64_t top = a_load(&deque->top, RELAXED);
    int64_t size = a_load(&deque->bottom, RELAXED) - top;
    return size > 0 ? size : 0;
}
