/* What sanitizers and Valgrind must be told about stacks that we switch (H44). All of it vanishes in a plain build.
 *
 * ThreadSanitizer models a fiber as a thread of its own; AddressSanitizer wants to know whose stack is current and keeps a fake
 * stack per fiber; Valgrind wants the bounds of each stack. context.c is the only caller. */
#ifndef WEFT_SANITIZE_H
#define WEFT_SANITIZE_H

#include "base.h"

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif
#ifndef WEFT_ASAN
#define WEFT_ASAN 0
#endif
#ifndef WEFT_TSAN
#define WEFT_TSAN 0
#endif

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
/* Our own mappings point to what malloc gave: LeakSanitizer looks there, too. (Stacks it must not touch: guards fault.) */
#define weft_lsan_root(base, bytes) __lsan_register_root_region(base, bytes)
#else
#define weft_lsan_root(base, bytes) ((void)0)
#endif

#if WEFT_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

#if defined(WEFT_VALGRIND)
#include <valgrind/valgrind.h>
#endif

/* Frames grow several times over under the sanitizers, and so do the default stacks. */
#if WEFT_ASAN || WEFT_TSAN
#define WEFT_STACK_FACTOR 4
#else
#define WEFT_STACK_FACTOR 1
#endif

#endif
