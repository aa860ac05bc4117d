/* Chunks, their objects and the free lists; slab.h says what a slab promises.
 *
 * Equations, under the lock: carved_count == the sum of the chunks' carved; free_count == the length of `free`.
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | S1 | store of chunks | acquire load by a walker | a walker reads a chunk's header before it was written |
 * | S2 | store of carved | acquire load by a walker | today nothing, fresh objects are zero; it keeps a bound with what it bounds |
 *
 * Nothing is poisoned under AddressSanitizer: reading a freed object is what type-stable memory is for. */
#include "slab.h"

#include "sanitize.h"

#define REGION_CHUNKS_MAX 16u
#define HEADER_BYTES ((sizeof(struct weft_slab_chunk) + 63) / 64 * 64)
/* A refill touches fresh memory, so it carves no more than two pages of it at a time. */
#define FRESH_BYTES ((size_t)8192)

_Static_assert(WEFT_SLAB_BATCH < WEFT_SLAB_CACHE_MAX, "a spill leaves something in the cache");
_Static_assert((WEFT_SLAB_CHUNK_BYTES & (WEFT_SLAB_CHUNK_BYTES - 1)) == 0, "weft_slab_owner masks");

static void **link_of(const struct weft_slab *slab, void *object)
{
    return (void **)(void *)((char *)object + slab->object_bytes - sizeof(void *));
}

static size_t capacity(const struct weft_slab *slab) { return (WEFT_SLAB_CHUNK_BYTES - HEADER_BYTES) / slab->object_bytes; }

void weft_slab_init(struct weft_slab *slab, size_t object_bytes, void *owner)
{
    weft_assert(object_bytes >= 16 && object_bytes % 16 == 0 && object_bytes <= WEFT_SLAB_CHUNK_BYTES - HEADER_BYTES);
    *slab = (struct weft_slab){ .object_bytes = object_bytes, .owner = owner, .region_chunks = 1 };
}

/* Maps one chunk more than it counts on, so that aligned ones can be cut from it: the rest is address space, never touched. */
static bool map_region(struct weft_slab *slab)
{
    for (size_t chunks = slab->region_chunks; chunks > 0; chunks /= 2) {
        size_t bytes = (chunks + 1) * WEFT_SLAB_CHUNK_BYTES;
        char *base = os_map(bytes);
        if (base != NULL) {
            weft_lsan_root(base, bytes);
            size_t skip = (size_t)(-(uintptr_t)base & (WEFT_SLAB_CHUNK_BYTES - 1));
            slab->next = base + skip;
            slab->end = slab->next + (bytes - skip) / WEFT_SLAB_CHUNK_BYTES * WEFT_SLAB_CHUNK_BYTES;
            slab->region_chunks = chunks * 2 < REGION_CHUNKS_MAX ? chunks * 2 : REGION_CHUNKS_MAX;
            return true;
        }
    }
    return false;
}

static struct weft_slab_chunk *add_chunk(struct weft_slab *slab)
{
    if (slab->next == slab->end && !map_region(slab)) {
        return NULL;
    }
    struct weft_slab_chunk *chunk = (struct weft_slab_chunk *)(void *)slab->next;
    slab->next += WEFT_SLAB_CHUNK_BYTES;
    chunk->next = a_load(&slab->chunks, RELAXED);
    chunk->owner = slab->owner;
    chunk->object_bytes = slab->object_bytes;
    atomic_init(&chunk->carved, 0);
    chunk->objects = (char *)chunk + HEADER_BYTES;
    a_store(&slab->chunks, chunk, RELEASE); /* S1, pairs with a walker's acquire */
    return chunk;
}

/* Links up to `wanted` fresh objects; fewer when the chunk ends. Under the lock. */
static unsigned carve(struct weft_slab *slab, unsigned wanted, void **list)
{
    struct weft_slab_chunk *chunk = a_load(&slab->chunks, RELAXED);
    if (chunk == NULL || a_load(&chunk->carved, RELAXED) == capacity(slab)) {
        chunk = add_chunk(slab);
        if (chunk == NULL) {
            return 0;
        }
    }
    size_t carved = a_load(&chunk->carved, RELAXED);
    size_t left = capacity(slab) - carved;
    unsigned count = left < wanted ? (unsigned)left : wanted;
    for (size_t i = carved + count; i > carved; i--) { /* backwards: they are given out in the order of their addresses */
        void *object = chunk->objects + (i - 1) * slab->object_bytes;
        *link_of(slab, object) = *list;
        *list = object;
    }
    a_store(&chunk->carved, carved + count, RELEASE); /* S2, pairs with a walker's acquire */
    slab->carved_count += count;
    return count;
}

/* Free objects first, then fresh ones; returns how many were put on `list`, 0 when there is no memory. */
static unsigned take_batch(struct weft_slab *slab, unsigned wanted, void **list)
{
    weft_lock(&slab->lock);
    unsigned count = 0;
    while (count < wanted && slab->free != NULL) {
        void *object = slab->free;
        void **link = link_of(slab, object);
        slab->free = *link;
        *link = *list;
        *list = object;
        count++;
    }
    slab->free_count -= count;
    if (count == 0) {
        size_t fresh = FRESH_BYTES / slab->object_bytes;
        unsigned most = fresh < 1 ? 1 : (unsigned)fresh;
        count = carve(slab, wanted < most ? wanted : most, list);
    }
    weft_unlock(&slab->lock);
    return count;
}

/* Hands the first `count` objects of `list` back. */
static void give_batch(struct weft_slab *slab, void **list, unsigned count)
{
    void *first = *list;
    void **last = link_of(slab, first);
    for (unsigned i = 1; i < count; i++) {
        last = link_of(slab, *last);
    }
    *list = *last;
    weft_lock(&slab->lock);
    *last = slab->free;
    slab->free = first;
    slab->free_count += count;
    weft_unlock(&slab->lock);
}

void *weft_slab_alloc(struct weft_slab *slab, struct weft_slab_cache *cache)
{
    void *object = NULL;
    if (cache == NULL) {
        if (take_batch(slab, 1, &object) == 0) {
            return NULL;
        }
    } else {
        if (weft_unlikely(cache->head == NULL)) {
            cache->count = take_batch(slab, WEFT_SLAB_BATCH, &cache->head);
            if (cache->count == 0) {
                return NULL;
            }
        }
        object = cache->head;
        cache->head = *link_of(slab, object);
        __builtin_prefetch(cache->head, 1); /* the next one: its link is read next (bench/bench_spawn.c) */
        cache->count--;
    }
    *link_of(slab, object) = NULL;
    return object;
}

void weft_slab_free(struct weft_slab *slab, struct weft_slab_cache *cache, void *object)
{
    weft_assert(weft_slab_owner(object) == slab->owner);
    weft_assert(((uintptr_t)object & (WEFT_SLAB_CHUNK_BYTES - 1)) % slab->object_bytes == HEADER_BYTES % slab->object_bytes);
    if (cache == NULL) {
        void *list = object;
        *link_of(slab, object) = NULL;
        give_batch(slab, &list, 1);
        return;
    }
    if (weft_unlikely(cache->count == WEFT_SLAB_CACHE_MAX)) {
        give_batch(slab, &cache->head, WEFT_SLAB_BATCH);
        cache->count -= WEFT_SLAB_BATCH;
    }
    *link_of(slab, object) = cache->head;
    cache->head = object;
    cache->count++;
}

void weft_slab_cache_drain(struct weft_slab *slab, struct weft_slab_cache *cache)
{
    if (cache->count > 0) {
        give_batch(slab, &cache->head, cache->count);
        cache->count = 0;
    }
}

size_t weft_slab_in_use(struct weft_slab *slab)
{
    weft_lock(&slab->lock);
    size_t in_use = slab->carved_count - slab->free_count;
    weft_unlock(&slab->lock);
    return in_use;
}
