/* Type-stable memory: objects of one size, cut from chunks that are never unmapped while the process lives.
 *
 * A freed object keeps its type, so a stale pointer may still be read (and its epoch or state found changed): "type-stable" in
 * Greenwald and Cheriton's sense (OSDI 1996). Chunks are WEFT_SLAB_CHUNK_BYTES large and aligned, and begin with a header that
 * names the owner: weft_slab_owner(object) costs one mask and one load. New objects are zero; a reused one keeps its content but for
 * its last 8 bytes, which are the slab's while it is free, and zero when it is given out.
 *
 * `weft_slab_cache` is one thread's private store of free objects (no atomics); it is refilled from and spilled to the slab in
 * batches under the slab's lock, so there is no lock-free list and no ABA (H05). Without a cache (NULL) each call takes the lock. */
#ifndef WEFT_SLAB_H
#define WEFT_SLAB_H

#include "lock.h"

#define WEFT_SLAB_CHUNK_BYTES ((size_t)64 * 1024)
#define WEFT_SLAB_CACHE_MAX \
    8192u /* records of 4096 tasks outstanding come and go without a walk over a batch (bench/bench_spawn.c) */
#define WEFT_SLAB_BATCH 256u

struct weft_slab_chunk {
    struct weft_slab_chunk *next;
    void *owner;
    size_t object_bytes;
    _Atomic size_t carved; /* objects given out so far */
    char *objects;         /* the first one, 64-byte aligned */
};

struct weft_slab {
    struct weft_lock lock;
    size_t object_bytes; /* ≥ 16; a multiple of 16 */
    void *owner;
    _Atomic(struct weft_slab_chunk *) chunks; /* newest first; walk with acquire, objects up to `carved` */
    void *free;                               /* linked through the LAST 8 bytes of each object */
    size_t free_count, carved_count;
    char *next, *end;     /* what is left of the newest mapping: whole, aligned chunks */
    size_t region_chunks; /* chunks in the next mapping: doubles from 1 up to 16 */
};

struct weft_slab_cache {
    void *head;
    unsigned count;
};

void weft_slab_init(struct weft_slab *slab, size_t object_bytes, void *owner);
void *weft_slab_alloc(struct weft_slab *slab, struct weft_slab_cache *cache); /* NULL: no memory */
void weft_slab_free(struct weft_slab *slab, struct weft_slab_cache *cache, void *object);
void weft_slab_cache_drain(struct weft_slab *slab, struct weft_slab_cache *cache); /* all of it back to the slab */
size_t weft_slab_in_use(struct weft_slab *slab);                                   /* objects not free, when no cache holds any */

static inline void *weft_slab_owner(const void *object)
{
    return ((const struct weft_slab_chunk *)((uintptr_t)object & ~(uintptr_t)(WEFT_SLAB_CHUNK_BYTES - 1)))->owner;
}

#endif
