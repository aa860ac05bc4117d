/* What every test program needs. Criterion programs (test_*.c) include this in place of Criterion's header; plain programs
 * (stress_*.c) include it for the settings alone.
 *
 * Criterion runs each test in a child process that ends without exit handlers, so LeakSanitizer stays silent and no coverage is
 * written. Test() here is Criterion's, with an end to each body that does both; a leak fails the test. (Not in `.fini`: Criterion
 * only warns of what goes wrong there. ParameterizedTest and Theory have no such end, so they are not used.) */
#ifndef WEFT_TESTING_H
#define WEFT_TESTING_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_TEST_LEAKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_TEST_LEAKS 1
#endif
#endif

#ifdef WEFT_TEST_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

/* How many workers this run of the program is about: WEFT_TEST_WORKERS, else 0, which leaves the choice to the library. */
static inline unsigned weft_test_workers(void)
{
    const char *text = getenv("WEFT_TEST_WORKERS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

/* True under `tests/run --full`: sizes that take minutes. */
static inline bool weft_test_full(void)
{
    const char *text = getenv("WEFT_TEST_FULL");
    return text && strcmp(text, "0") != 0 && *text;
}

#ifndef WEFT_TESTING_PLAIN

#include <criterion/criterion.h>

#ifdef WEFT_COVERAGE
CR_BEGIN_C_API
void __gcov_dump(void);
CR_END_C_API
#endif

static inline void weft_test_end(void)
{
#ifdef WEFT_COVERAGE
    __gcov_dump();
#endif
#ifdef WEFT_TEST_LEAKS
    int leaks = __lsan_do_recoverable_leak_check();
    cr_assert(leaks == 0, "the test leaked memory");
#endif
}

/* The body is a function of its own, so that what it left in its frame keeps nothing alive. */
#undef Test
#define Test(Suite, ...) WEFT_TEST_(Suite, __VA_ARGS__, .sentinel_ = 0)
#define WEFT_TEST_(Suite, Name, ...)              \
    static void weft_body_##Suite##_##Name(void); \
    CR_TEST_BASE(Suite, Name, __VA_ARGS__)        \
    {                                             \
        weft_body_##Suite##_##Name();             \
        weft_test_end();                          \
    }                                             \
    static __attribute__((noinline)) void weft_body_##Suite##_##Name(void)

#endif

#endif
