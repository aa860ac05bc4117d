/* C prototypes of Boost.Context's fcontext (boost/context/detail/fcontext.hpp, Boost 1.74): the only part of Boost that weft uses.
 *
 * A context is a pointer to the registers saved on its own stack; it is good for one jump. `weft_context` (src/context.c) is the
 * one caller. The assembly saves the callee-saved registers, and on x86-64 MXCSR and the x87 control word; on aarch64 FPCR is not
 * saved, which src/context.c does itself (hazard H10). An entry function that returns ends the process (H09). */
#ifndef WEFT_ARCH_FCONTEXT_H
#define WEFT_ARCH_FCONTEXT_H

#include <stddef.h>

typedef void *fcontext_t;

/* What a jump brings along: the context that was left, and the pointer that it passed. */
typedef struct transfer_t {
    fcontext_t fctx;
    void *data;
} transfer_t;

transfer_t jump_fcontext(fcontext_t to, void *data);
fcontext_t make_fcontext(void *stack_top, size_t size_bytes, void (*entry)(transfer_t));

#endif
