/* What weft asks of an x86-64 processor. The same names stand in every arch/<cpu>/cpu.h; CMake picks the folder. */
#ifndef WEFT_ARCH_CPU_H
#define WEFT_ARCH_CPU_H

#include <stdint.h>

/* The prefetcher pulls cache lines in pairs, so what two threads write stays two lines apart (H06). */
#define WEFT_LINE_BYTES 64
#define WEFT_APART_BYTES 128

static inline void weft_cpu_relax(void) { __builtin_ia32_pause(); }

/* A counter that grows at a constant rate; its frequency is measured once (os_cycles_per_us). */
static inline uint64_t weft_cpu_cycles(void) { return __builtin_ia32_rdtsc(); }

/* Floating-point control: rounding, masks and precision, without the sticky exception flags. */
struct weft_cpu_fp {
    uint32_t mxcsr;
    uint16_t x87;
};

#define WEFT_CPU_MXCSR_FLAGS 0x3fu

static inline struct weft_cpu_fp weft_cpu_fp_read(void)
{
    struct weft_cpu_fp fp;
    __asm__ volatile("stmxcsr %0" : "=m"(fp.mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(fp.x87));
    fp.mxcsr &= ~WEFT_CPU_MXCSR_FLAGS;
    return fp;
}

static inline void weft_cpu_fp_write(struct weft_cpu_fp fp)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(fp.mxcsr));
    __asm__ volatile("fldcw %0" : : "m"(fp.x87));
}

/* What a thread has when the system starts it: round to nearest, every exception masked, extended precision. */
static inline struct weft_cpu_fp weft_cpu_fp_default(void) { return (struct weft_cpu_fp){ .mxcsr = 0x1f80, .x87 = 0x037f }; }

static inline int weft_cpu_fp_equal(struct weft_cpu_fp a, struct weft_cpu_fp b) { return a.mxcsr == b.mxcsr && a.x87 == b.x87; }

/* The value of the thread-local pointer `name` (initial-exec) on the thread that runs this line: found anew each time, in two
 * instructions that the compiler can neither merge with others nor take apart (H07). */
#define WEFT_CPU_READ_THREAD_LOCAL(name)                                                                          \
    __extension__({                                                                                               \
        void *value_;                                                                                             \
        __asm__ volatile("movq " #name "@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(value_) : : "memory"); \
        value_;                                                                                                   \
    })

/* The jump itself carries the control words. */
#define WEFT_CPU_JUMP_KEEPS_FP 1

/* Stands first in a fiber's entry function: unwinders stop here (H12). */
#define WEFT_CPU_END_OF_STACK() __asm__ volatile(".cfi_undefined rip\n\t.cfi_undefined rbp" : : : "memory")

#endif
