/* Boost's jump on x86-64, so that the processor's prediction of returns survives it.
 *
 * jump_fcontext is called but leaves by an indirect jump, so the return-address predictor is one entry ahead of the stack from then
 * on, and every return of the fiber that goes on mispredicts, some 5 ns each, as deep as its calls are. Here the surplus entry,
 * which is label 1 itself for whoever was left here, is used up by a return to label 1. A yield then costs some 20 ns less
 * (bench/bench_switch.c). A context's first activation begins at its entry and has no such return. */
#ifndef WEFT_ARCH_JUMP_H
#define WEFT_ARCH_JUMP_H

#include "fcontext.h"

__attribute__((naked, noinline, unused)) static transfer_t weft_cpu_jump(__attribute__((unused)) fcontext_t to,
                                                                         __attribute__((unused)) void *data)
{
    __asm__("pushq %rbx\n\t"
            ".cfi_adjust_cfa_offset 8\n\t"
            ".cfi_rel_offset rbx, 0\n\t"
            "xorl %ebx, %ebx\n\t" /* saved with the context: 0 on the way back */
            "call jump_fcontext@PLT\n"
            "1:\n\t"
            "testl %ebx, %ebx\n\t"
            "jne 2f\n\t"
            "incl %ebx\n\t"
            "leaq 1b(%rip), %rcx\n\t" /* rax and rdx hold the result */
            "pushq %rcx\n\t"
            "ret\n"
            "2:\n\t"
            "popq %rbx\n\t"
            ".cfi_adjust_cfa_offset -8\n\t"
            ".cfi_restore rbx\n\t"
            "ret");
}

#endif
