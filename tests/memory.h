/* What tests ask about memory without touching it: does an address fault, is a page resident, how many mappings are there. */
#ifndef WEFT_MEMORY_H
#define WEFT_MEMORY_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* True if reading the byte at `address` faults: the kernel tries it for us and says so. */
static inline bool memory_faults(const void *address)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    bool faults = write(ends[1], address, 1) == -1 && errno == EFAULT;
    (void)close(ends[0]);
    (void)close(ends[1]);
    return faults;
}

/* True where the kernel has MADV_GUARD_INSTALL (Linux 6.13) and means it. */
static inline bool memory_has_guards(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *base = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool guards = base != MAP_FAILED && madvise(base, page, 102) == 0 && memory_faults(base);
    (void)munmap(base, page);
    return guards;
}

/* Pages of [base, base + bytes) that have memory behind them. */
static inline size_t memory_resident_pages(const void *base, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t resident = 0;
    for (size_t offset = 0; offset < bytes; offset += page) {
        unsigned char in_core = 0;
        if (mincore((void *)((uintptr_t)base + offset), page, &in_core) == 0) {
            resident += in_core & 1;
        }
    }
    return resident;
}

static inline size_t memory_mappings(void)
{
    size_t lines = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    if (file != NULL) {
        for (int c = getc(file); c != EOF; c = getc(file)) {
            lines += c == '\n';
        }
        (void)fclose(file);
    }
    return lines;
}

/* Leaves room for `spare` bytes of new mappings; false where the address space cannot be limited (sanitizers map what they need at
 * any moment). memory_unlimit takes the limit away. */
static inline bool memory_limit(size_t spare)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)spare;
    return false;
#else
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return false;
#endif
#endif
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) {
        return false;
    }
    int got = fscanf(file, "%zu", &pages);
    (void)fclose(file);
    struct rlimit limit;
    if (got != 1 || getrlimit(RLIMIT_AS, &limit) != 0) {
        return false;
    }
    limit.rlim_cur = (rlim_t)(pages * (size_t)sysconf(_SC_PAGESIZE) + spare);
    return setrlimit(RLIMIT_AS, &limit) == 0;
#endif
}

static inline void memory_unlimit(void)
{
    struct rlimit limit;
    (void)getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_AS, &limit);
}

#endif
