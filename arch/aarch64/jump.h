/* Boost's jump as it is; arch/x86_64/jump.h says what another CPU does around it. */
#ifndef WEFT_ARCH_JUMP_H
#define WEFT_ARCH_JUMP_H

#include "fcontext.h"

static inline transfer_t weft_cpu_jump(fcontext_t to, void *data) { return jump_fcontext(to, data); }

#endif
