/* What weft asks of any other processor that Boost.Context supports, in portable C. */
#ifndef WEFT_ARCH_CPU_H
#define WEFT_ARCH_CPU_H

#include <fenv.h>
#include <stdint.h>
#include <time.h>

#define WEFT_LINE_BYTES 64
#define WEFT_APART_BYTES 128

static inline void weft_cpu_relax(void) { __asm__ volatile("" : : : "memory"); }

static inline uint64_t weft_cpu_cycles(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct weft_cpu_fp {
    int rounding;
};

static inline struct weft_cpu_fp weft_cpu_fp_read(void) { return (struct weft_cpu_fp){ .rounding = fegetround() }; }
static inline void weft_cpu_fp_write(struct weft_cpu_fp fp) { (void)fesetround(fp.rounding); }
static inline struct weft_cpu_fp weft_cpu_fp_default(void) { return (struct weft_cpu_fp){ .rounding = FE_TONEAREST }; }
static inline int weft_cpu_fp_equal(struct weft_cpu_fp a, struct weft_cpu_fp b) { return a.rounding == b.rounding; }

#define WEFT_CPU_JUMP_KEEPS_FP 0
#define WEFT_CPU_END_OF_STACK() __asm__ volatile("" : : : "memory")

#endif
