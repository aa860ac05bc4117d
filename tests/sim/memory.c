/* Memory that is the same at the start of every run, so that a run depends on its seed alone.
 *
 * Static variables of weft and of the kernel are copied back; allocations (the linker's --wrap brings them here) and mappings come
 * from two regions at fixed addresses that start again from their beginning. Nothing is reused within a run: what was freed is
 * filled with 0xdd, and what malloc gives with 0xcd, so that a read of either shows; a write to freed memory is found when the run
 * ends. The simulator's own state lives outside of all this, behind the pointer `sim`; its static variables do not change after the
 * freeze. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"
#include "sanitize.h"

#define ARENA_AT ((char *)0x110000000000)
#define ARENA_BYTES ((size_t)256 << 20)
#define MAPS_AT ((char *)0x200000000000)
#define MAPS_BYTES ((size_t)16 << 30)
#define OUTSIDE_AT ((char *)0x300000000000)
#define OUTSIDE_BYTES ((size_t)4 << 30)
#define PAGE ((size_t)4096)
#define CLEAR_PAGES ((size_t)1024)
#define ALIGNMENT ((size_t)16)

struct header {
    struct header *older;
    uint32_t size_bytes, live;
};

/* The linker's: all static variables of the executable that may change. */
extern char __data_start[], _end[];

static char *frozen;

static char *reserve(char *at, size_t size_bytes)
{
    void *base =
        mmap(at, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (base != at) {
        perror("simulator: mmap");
        _Exit(2);
    }
    madvise(base, size_bytes, MADV_NOHUGEPAGE); /* a run touches few pages, and each is given back after it */
    return base;
}

void *sim_outside(size_t size_bytes)
{
    char *base = sim->outside_next;
    sim->outside_next += (size_bytes + 4095) & ~(size_t)4095;
    if (sim->outside_next > OUTSIDE_AT + OUTSIDE_BYTES) {
        abort();
    }
    return base;
}

/* Also before main, when a constructor allocates. */
void sim_memory_begin(void)
{
    if (sim == NULL) {
        sim = (struct sim_engine *)(void *)reserve(OUTSIDE_AT, OUTSIDE_BYTES);
        sim->outside_next = OUTSIDE_AT + ((sizeof *sim + 4095) & ~(size_t)4095);
        sim->arena = reserve(ARENA_AT, ARENA_BYTES);
        sim->maps = reserve(MAPS_AT, MAPS_BYTES);
    }
}

/* AddressSanitizer has redzones between static variables, and must not watch them being copied. */
__attribute__((no_sanitize("address"))) static void copy(char *to, const char *from, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i += sizeof(uint64_t)) {
        *(volatile uint64_t *)(void *)(to + i) = *(const volatile uint64_t *)(const void *)(from + i);
    }
}

static char *data_begin(void) { return (char *)((uintptr_t)__data_start & ~(uintptr_t)7); }
static size_t data_bytes(void) { return ((size_t)(_end - data_begin()) + 7) & ~(size_t)7; }

void sim_memory_freeze(void)
{
    if (sim->arena != ARENA_AT || sim->maps != MAPS_AT) {
        fprintf(stderr, "simulator: memory was allocated before the first run\n");
        _Exit(2);
    }
    frozen = sim_outside(data_bytes()); /* before the copy, so that the copy knows where it is */
    copy(frozen, data_begin(), data_bytes());
}

/* Page faults cost more than all else in a run, so pages stay, and only those that were ever touched are written over. Redzones of
 * frames that were left there are none of our business. */
__attribute__((no_sanitize("address"))) void sim_clear(void *base, size_t size_bytes)
{
    unsigned char resident[CLEAR_PAGES];
    for (size_t done = 0; done < size_bytes;) {
        size_t part = size_bytes - done < CLEAR_PAGES * PAGE ? size_bytes - done : CLEAR_PAGES * PAGE;
        if (mincore((char *)base + done, part, resident) != 0) {
            abort();
        }
        for (size_t i = 0; i < part / PAGE; i++) {
            if (resident[i] & 1) {
#if WEFT_ASAN
                for (size_t byte = 0; byte < PAGE; byte++) {
                    ((volatile char *)base)[done + i * PAGE + byte] = 0;
                }
#else
                memset((char *)base + done + i * PAGE, 0, PAGE);
#endif
            }
        }
        done += part;
    }
}

void sim_memory_reset(void)
{
    copy(data_begin(), frozen, data_bytes());
#if WEFT_ASAN
    ASAN_UNPOISON_MEMORY_REGION(ARENA_AT, (size_t)(sim->arena - ARENA_AT));
    ASAN_UNPOISON_MEMORY_REGION(MAPS_AT, (size_t)(sim->maps - MAPS_AT));
#endif
    memset(ARENA_AT, 0, (size_t)(sim->arena - ARENA_AT));
    sim_clear(MAPS_AT, (size_t)(sim->maps - MAPS_AT));
    sim->arena = ARENA_AT;
    sim->maps = MAPS_AT;
    sim->newest = NULL;
    sim->live = 0;
}

/* Each mapping begins at a multiple of 64 KiB, with one unused page before the next. */
void *sim_map(size_t size_bytes)
{
    char *base = sim->maps;
    char *next = base + ((size_bytes + 4096 + 65535) & ~(size_t)65535);
    if (next > MAPS_AT + MAPS_BYTES) {
        return NULL;
    }
    sim->maps = next;
    return base;
}

static struct header *header_of(void *p) { return (struct header *)p - 1; }

static void *allocate(size_t alignment, size_t size_bytes)
{
    sim_memory_begin();
    uintptr_t start = ((uintptr_t)sim->arena + sizeof(struct header) + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size_t rounded = (size_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    char *p = (char *)start;
    if (size_bytes > ARENA_BYTES || p + rounded + ALIGNMENT > ARENA_AT + ARENA_BYTES) {
        return NULL;
    }
    sim->arena = p + rounded + ALIGNMENT;
    *header_of(p) = (struct header){ .older = sim->newest, .size_bytes = (uint32_t)size_bytes, .live = 1 };
    sim->newest = header_of(p);
    sim->live++;
    return p;
}

void *__wrap_malloc(size_t size_bytes);
void *__wrap_calloc(size_t n, size_t size_bytes);
void *__wrap_realloc(void *p, size_t size_bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t size_bytes);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size_bytes);
char *__wrap_strdup(const char *text);
void __wrap_free(void *p);

void *__wrap_malloc(size_t size_bytes)
{
    void *p = allocate(ALIGNMENT, size_bytes);
    return p == NULL ? NULL : memset(p, 0xcd, size_bytes);
}

void *__wrap_calloc(size_t n, size_t size_bytes)
{
    return size_bytes != 0 && n > SIZE_MAX / size_bytes ? NULL : allocate(ALIGNMENT, n * size_bytes);
}

void __wrap_free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct header *header = header_of(p);
    if ((char *)p < ARENA_AT || (char *)p >= ARENA_AT + ARENA_BYTES || header->live != 1) {
        sim_fail("free of %p, which is %s", p, header->live == 0 ? "free already" : "no allocation");
    }
    header->live = 0;
    sim->live--;
    memset(p, 0xdd, header->size_bytes);
#if WEFT_ASAN
    ASAN_POISON_MEMORY_REGION(p, header->size_bytes);
#endif
}

void *__wrap_realloc(void *p, size_t size_bytes)
{
    void *grown = __wrap_malloc(size_bytes);
    if (grown != NULL && p != NULL) {
        size_t old = header_of(p)->size_bytes;
        memcpy(grown, p, old < size_bytes ? old : size_bytes);
        __wrap_free(p);
    }
    return grown;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size_bytes)
{
    void *p = allocate(alignment < ALIGNMENT ? ALIGNMENT : alignment, size_bytes);
    return p == NULL ? NULL : memset(p, 0xcd, size_bytes);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size_bytes)
{
    void *p = __wrap_aligned_alloc(alignment, size_bytes);
    if (p == NULL) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}

char *__wrap_strdup(const char *text)
{
    char *copied = __wrap_malloc(strlen(text) + 1);
    return copied == NULL ? NULL : strcpy(copied, text);
}

void sim_memory_check(void)
{
#if !WEFT_ASAN
    for (struct header *header = sim->newest; header != NULL; header = header->older) {
        const unsigned char *content = (const unsigned char *)(header + 1);
        for (size_t i = 0; !header->live && i < header->size_bytes; i++) {
            if (content[i] != 0xdd) {
                sim_fail("byte %zu of the %u bytes at %p was written after they were freed", i, header->size_bytes,
                         (const void *)content);
            }
        }
    }
#endif
}

size_t sim_live_allocations(void) { return sim->live; }
