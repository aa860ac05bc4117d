/* What weft asks of an aarch64 processor. The same names stand in every arch/<cpu>/cpu.h; CMake picks the folder. */
#ifndef WEFT_ARCH_CPU_H
#define WEFT_ARCH_CPU_H

#include <stdint.h>

#define WEFT_LINE_BYTES 64
#define WEFT_APART_BYTES 128

static inline void weft_cpu_relax(void) { __asm__ volatile("yield" : : : "memory"); }

static inline uint64_t weft_cpu_cycles(void)
{
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
}

/* FPCR: rounding, flush-to-zero, traps. The sticky flags live in FPSR and are not touched. */
struct weft_cpu_fp {
    uint64_t fpcr;
};

static inline struct weft_cpu_fp weft_cpu_fp_read(void)
{
    struct weft_cpu_fp fp;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fp.fpcr));
    return fp;
}

static inline void weft_cpu_fp_write(struct weft_cpu_fp fp) { __asm__ volatile("msr fpcr, %0" : : "r"(fp.fpcr)); }

static inline struct weft_cpu_fp weft_cpu_fp_default(void) { return (struct weft_cpu_fp){ .fpcr = 0 }; }

static inline int weft_cpu_fp_equal(struct weft_cpu_fp a, struct weft_cpu_fp b) { return a.fpcr == b.fpcr; }

/* Boost's jump leaves FPCR alone: src/context.c carries it (H10). */
#define WEFT_CPU_JUMP_KEEPS_FP 0

#define WEFT_CPU_END_OF_STACK() __asm__ volatile(".cfi_undefined x30\n\t.cfi_undefined x29" : : : "memory")

#endif
