/* The one place that switches stacks: Boost.Context's jump, told to the sanitizers, with what the jump leaves behind.
 *
 * A context is either a thread's own stack (`init_thread`) or a stack of ours (`init`), whose entry never returns (H09) and is the
 * outermost frame for unwinders (H12). `switch` leaves `from` and returns when somebody switches back to it, perhaps on another
 * thread: whatever was read from thread-local storage before is stale then (H07). `from` may be resumed by another thread only after
 * the target has gained control (H14): publishing it is the target's business.
 *
 * The jump is 3.7 ns on x86-64 as long as the sticky floating-point flags of the two agree; control bits travel with the context,
 * on every CPU (H10). */
#ifndef WEFT_CONTEXT_H
#define WEFT_CONTEXT_H

#include "sanitize.h"
#include "stack.h"

struct weft_context {
    void *fctx;
    void (*entry)(void *arg);
    void *arg;
#if !WEFT_CPU_JUMP_KEEPS_FP
    struct weft_cpu_fp fp;
#endif
#if WEFT_ASAN
    const void *bottom; /* NULL in a thread's own: learnt when it is first left */
    size_t size_bytes;
    void *fake_stack;
#endif
#if WEFT_TSAN
    void *tsan_fiber;
#endif
};

void weft_context_init_thread(struct weft_context *context);
/* `low` and `top`: the usable stack; entry(arg) runs at the first switch to it, with default floating-point control. */
void weft_context_init(struct weft_context *context, char *low, char *top, void (*entry)(void *arg), void *arg);
void weft_context_fini(struct weft_context *context); /* its stack will be used no more, or inited anew */
void weft_context_switch(struct weft_context *from, struct weft_context *to);

#endif
