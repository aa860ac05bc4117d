/* slab: one type for ever, each object to one holder, and what comes back is found again. */
#include "testing.h"

#include "memory.h"
#include "os.h"
#include "slab.h"

struct object {
    uint64_t words[8];
};

enum { LINK = 7, MANY = 5000 };

static struct weft_slab slab;
static struct weft_slab_cache cache;
static char owner;
static struct object *objects[MANY];

static void start(void) { weft_slab_init(&slab, sizeof(struct object), &owner); }

/* The test's own memory; the chunks stay, as they always do. */
static struct object *get(struct weft_slab_cache *from)
{
    struct object *object = weft_slab_alloc(&slab, from);
    cr_assert_not_null(object);
    return object;
}

static bool is_zero(const struct object *object)
{
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) {
        sum |= object->words[i];
    }
    return sum == 0;
}

static int by_address(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return (x > y) - (x < y);
}

static void check_new_objects(struct weft_slab_cache *from)
{
    start();
    for (int i = 0; i < MANY; i++) { /* several chunks, several mappings */
        objects[i] = get(from);
        cr_assert(is_zero(objects[i]));
        cr_assert_eq((uintptr_t)objects[i] % 64, 0);
        cr_assert_eq(weft_slab_owner(objects[i]), &owner);
        memset(objects[i], 0xff, sizeof(struct object));
    }
    qsort(objects, MANY, sizeof(objects[0]), by_address);
    for (int i = 1; i < MANY; i++) {
        cr_assert_geq((char *)objects[i] - (char *)objects[i - 1], (ptrdiff_t)sizeof(struct object));
    }
}

Test(slab, new_objects_are_zero_apart_and_know_their_owner) { check_new_objects(NULL); }
Test(slab, new_objects_from_a_cache_are_the_same) { check_new_objects(&cache); }

static void check_reuse(struct weft_slab_cache *from)
{
    start();
    struct object *object = get(from);
    for (uint64_t i = 0; i < 8; i++) {
        object->words[i] = i + 100;
    }
    weft_slab_free(&slab, from, object);
    for (uint64_t i = 0; i < LINK; i++) {
        cr_assert_eq(object->words[i], i + 100, "a stale reader finds what was there");
    }
    cr_assert_eq(get(from), object, "the last one freed is warm");
    for (uint64_t i = 0; i < LINK; i++) {
        cr_assert_eq(object->words[i], i + 100);
    }
    cr_assert_eq(object->words[LINK], 0);
}

Test(slab, reused_object_keeps_all_but_its_link) { check_reuse(NULL); }
Test(slab, reused_object_from_a_cache_does_too) { check_reuse(&cache); }

Test(slab, in_use_is_exact_without_caches)
{
    start();
    cr_assert_eq(weft_slab_in_use(&slab), 0);
    for (size_t i = 0; i < MANY; i++) {
        objects[i] = get(NULL);
        cr_assert_eq(weft_slab_in_use(&slab), i + 1);
    }
    for (size_t i = 0; i < MANY; i++) {
        weft_slab_free(&slab, NULL, objects[i]);
        cr_assert_eq(weft_slab_in_use(&slab), MANY - 1 - i);
    }
}

Test(slab, a_cache_keeps_no_more_than_its_bound)
{
    start();
    for (int i = 0; i < MANY; i++) {
        objects[i] = get(NULL);
    }
    for (size_t i = 0; i < MANY; i++) {
        weft_slab_free(&slab, &cache, objects[i]);
        cr_assert_leq(cache.count, WEFT_SLAB_CACHE_MAX);
        cr_assert_eq(weft_slab_in_use(&slab), MANY - 1 - i + cache.count);
    }
    weft_slab_cache_drain(&slab, &cache);
    cr_assert_eq(cache.count, 0);
    cr_assert_null(cache.head);
    cr_assert_eq(weft_slab_in_use(&slab), 0);
    size_t carved = slab.carved_count;
    for (int i = 0; i < MANY; i++) {
        objects[i] = get(&cache);
    }
    cr_assert_eq(slab.carved_count, carved, "all of them come back before anything new is carved");
    qsort(objects, MANY, sizeof(objects[0]), by_address);
    for (int i = 1; i < MANY; i++) {
        cr_assert_neq(objects[i], objects[i - 1]);
    }
}

Test(slab, draining_an_empty_cache_does_nothing)
{
    start();
    weft_slab_cache_drain(&slab, &cache);
    cr_assert_eq(weft_slab_in_use(&slab), 0);
}

Test(slab, odd_sizes_fill_their_chunks_and_no_more)
{
    static const size_t sizes[] = { 16, 48, 80, 1008, 4096, 20000, 40000, WEFT_SLAB_CHUNK_BYTES - 64 };
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        weft_slab_init(&slab, sizes[s], &owner);
        cache = (struct weft_slab_cache){ 0 };
        size_t per_chunk = (WEFT_SLAB_CHUNK_BYTES - 64) / sizes[s];
        for (size_t i = 0; i < 3 * per_chunk; i++) {
            char *object = weft_slab_alloc(&slab, i % 2 ? &cache : NULL);
            cr_assert_not_null(object);
            cr_assert_eq(object[0] + object[sizes[s] - 1], 0);
            memset(object, 1, sizes[s]);
            cr_assert_eq(weft_slab_owner(object + sizes[s] - 1), &owner, "the last byte lies in the chunk, the header is whole");
        }
        size_t chunks = 0;
        for (struct weft_slab_chunk *c = a_load(&slab.chunks, ACQUIRE); c != NULL; c = c->next) {
            cr_assert_eq(c->object_bytes, sizes[s]);
            chunks++;
        }
        cr_assert_leq(chunks, 4);
        weft_slab_cache_drain(&slab, &cache);
    }
}

Test(slab, no_memory_is_null_and_changes_nothing_H16)
{
    start();
    for (int i = 0; i < 10; i++) {
        (void)get(&cache);
    }
    if (!memory_limit(16 * 1024)) {
        cr_skip("the address space cannot be limited here");
    }
    size_t had = 0;
    while (weft_slab_alloc(&slab, &cache) != NULL) {
        had++;
    }
    cr_assert_null(weft_slab_alloc(&slab, &cache));
    cr_assert_null(weft_slab_alloc(&slab, NULL));
    memory_unlimit();
    cr_assert_eq(cache.count, 0);
    cr_assert_eq(weft_slab_in_use(&slab), had + 10);
    cr_assert(is_zero(get(&cache)));
}

/* ---- Several threads ---- */

enum { THREADS = 4, HELD = 400, ROUNDS = 200 };
static _Atomic int twice, walker_stop;

/* Holds up to HELD objects and marks each: whoever else got one finds the mark (H05: no object is ever given out twice). */
static void hold_and_mark(void *arg)
{
    struct weft_slab_cache mine = { 0 };
    struct weft_slab_cache *from = arg != NULL ? &mine : NULL;
    struct object *held[HELD];
    uint64_t me = (uint64_t)(uintptr_t)held;
    for (int round = 0; round < ROUNDS; round++) {
        int count = (round * 37) % HELD + 1;
        for (int i = 0; i < count; i++) {
            held[i] = weft_slab_alloc(&slab, from);
            if (held[i] == NULL || held[i]->words[0] != 0) {
                a_add(&twice, 1, RELAXED);
                return;
            }
            held[i]->words[0] = me;
        }
        for (int i = 0; i < count; i++) {
            if (held[i]->words[0] != me) {
                a_add(&twice, 1, RELAXED);
            }
            held[i]->words[0] = 0;
            weft_slab_free(&slab, from, held[i]);
        }
    }
    weft_slab_cache_drain(&slab, &mine);
}

Test(slab, an_object_has_one_holder_H05)
{
    struct os_thread threads[THREADS];
    start();
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(os_thread_start(&threads[i], hold_and_mark, i % 2 ? &slab : NULL, "hold"), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(threads[i]);
    }
    cr_assert_eq(a_load(&twice, RELAXED), 0);
    cr_assert_eq(weft_slab_in_use(&slab), 0);
}

/* Producer and consumer: objects freed into another cache than they came from. */
static struct object *_Atomic mailbox[64];

static void produce(void *arg)
{
    struct weft_slab_cache mine = { 0 };
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        struct object *object = weft_slab_alloc(&slab, &mine);
        if (object == NULL || object->words[0] != 0) {
            a_add(&twice, 1, RELAXED);
            break;
        }
        object->words[0] = 1;
        while (a_load(&mailbox[i % 64], ACQUIRE) != NULL) {
            os_thread_yield();
        }
        a_store(&mailbox[i % 64], object, RELEASE);
    }
    weft_slab_cache_drain(&slab, &mine);
}

Test(slab, objects_may_be_freed_by_another_thread)
{
    struct os_thread thread;
    start();
    cr_assert_eq(os_thread_start(&thread, produce, NULL, "produce"), 0);
    for (int i = 0; i < 20000; i++) {
        struct object *object;
        while ((object = a_load(&mailbox[i % 64], ACQUIRE)) == NULL) {
            os_thread_yield();
        }
        a_store(&mailbox[i % 64], NULL, RELEASE);
        object->words[0] = 0;
        weft_slab_free(&slab, &cache, object);
    }
    os_thread_join(thread);
    weft_slab_cache_drain(&slab, &cache);
    cr_assert_eq(a_load(&twice, RELAXED), 0);
    cr_assert_eq(weft_slab_in_use(&slab), 0);
    cr_assert_leq(slab.carved_count, WEFT_SLAB_CACHE_MAX + 8 * WEFT_SLAB_BATCH, "they went round, the slab did not only grow");
}

/* Stats and kills walk all objects while others carve; what they read must be a whole header and objects of the type. */
static void walk(void *arg)
{
    (void)arg;
    size_t last = 0;
    while (!a_load(&walker_stop, ACQUIRE)) {
        size_t total = 0;
        for (struct weft_slab_chunk *chunk = a_load(&slab.chunks, ACQUIRE); chunk != NULL; chunk = chunk->next) {
            size_t carved = a_load(&chunk->carved, ACQUIRE);
            if (chunk->owner != &owner || chunk->object_bytes != sizeof(struct object) || chunk->objects == NULL) {
                a_add(&twice, 1, RELAXED);
            }
            for (size_t i = 0; i < carved; i++) {
                struct object *object = (struct object *)(void *)(chunk->objects + i * chunk->object_bytes);
                if (a_load((_Atomic uint64_t *)&object->words[1], RELAXED) > 1) {
                    a_add(&twice, 1, RELAXED);
                }
            }
            total += carved;
        }
        if (total < last) {
            a_add(&twice, 1, RELAXED);
        }
        last = total;
    }
}

Test(slab, chunks_can_be_walked_while_they_grow)
{
    struct os_thread thread;
    start();
    cr_assert_eq(os_thread_start(&thread, walk, NULL, "walk"), 0);
    for (int i = 0; i < 20000; i++) {
        struct object *object = get(i % 2 ? &cache : NULL);
        a_store((_Atomic uint64_t *)&object->words[1], 1, RELAXED);
    }
    a_store(&walker_stop, 1, RELEASE);
    os_thread_join(thread);
    cr_assert_eq(a_load(&twice, RELAXED), 0);
}
