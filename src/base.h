/* Assertions, and the few words that every file uses. Includes nothing of weft's but the CPU's header. */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

#define weft_likely(x) __builtin_expect(!!(x), 1)
#define weft_unlikely(x) __builtin_expect(!!(x), 0)
#define weft_noinline __attribute__((noinline))
#define weft_container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Says what is broken and ends the process: for states that no caller can have caused. */
_Noreturn void weft_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Invariants, checked in debug builds alone. */
#ifdef WEFT_DEBUG
#define weft_assert(condition) \
    (weft_likely(condition) ? (void)0 : weft_panic("%s:%d: %s: invariant broken: %s", __FILE__, __LINE__, __func__, #condition))
#else
#define weft_assert(condition) ((void)sizeof(!(condition)))
#endif

#endif
