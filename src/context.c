#include "context.h"

#include "jump.h"

void weft_context_init_thread(struct weft_context *context)
{
    *context = (struct weft_context){ 0 };
#if WEFT_TSAN
    context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

/* The side that gains control: keeps where the other one stopped. */
static inline void arrive(transfer_t from, struct weft_context *me)
{
    struct weft_context *left = from.data;
    left->fctx = from.fctx;
#if WEFT_ASAN
    const void *bottom;
    size_t size_bytes;
    __sanitizer_finish_switch_fiber(me->fake_stack, &bottom, &size_bytes);
    if (!left->bottom) {
        left->bottom = bottom;
        left->size_bytes = size_bytes;
    }
#else
    (void)me;
#endif
}

/* Outermost frame of every fiber. The target's context travels in `entry_target` of the one that left, see switch. */
struct departure {
    struct weft_context *from, *to;
};

static void trampoline(transfer_t from)
{
    WEFT_CPU_END_OF_STACK();
    struct departure *departure = from.data;
    struct weft_context *me = departure->to;
    from.data = departure->from;
    arrive(from, me);
    weft_cpu_fp_write(weft_cpu_fp_default());
    me->entry(me->arg);
    weft_panic("a fiber's entry function returned");
}

void weft_context_init(struct weft_context *context, char *low, char *top, void (*entry)(void *arg), void *arg)
{
    *context = (struct weft_context){ .entry = entry, .arg = arg };
    context->fctx = make_fcontext(top, (size_t)(top - low), trampoline);
#if !WEFT_CPU_JUMP_KEEPS_FP
    context->fp = weft_cpu_fp_default();
#endif
#if WEFT_ASAN
    context->bottom = low;
    context->size_bytes = (size_t)(top - low);
#endif
#if WEFT_TSAN
    context->tsan_fiber = __tsan_create_fiber(0);
#endif
}

void weft_context_fini(struct weft_context *context)
{
#if WEFT_TSAN
    __tsan_destroy_fiber(context->tsan_fiber);
#endif
    context->fctx = NULL;
}

weft_noinline void weft_context_switch(struct weft_context *from, struct weft_context *to)
{
    struct departure departure = { .from = from, .to = to };
    void *target = to->fctx;
#if !WEFT_CPU_JUMP_KEEPS_FP
    from->fp = weft_cpu_fp_read();
#endif
#if WEFT_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size_bytes);
#endif
#if WEFT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0); /* in the frame that jumps (H44) */
#endif
    transfer_t back = weft_cpu_jump(target, &departure);
    back.data = ((struct departure *)back.data)->from;
    arrive(back, from);
#if !WEFT_CPU_JUMP_KEEPS_FP
    weft_cpu_fp_write(from->fp);
#endif
}
