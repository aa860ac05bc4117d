/* stack: the map of a stack's memory, the guard modes and their limits, and what goes back to the system. */
#include "testing.h"

#include "memory.h"
#include "os.h"
#include "stack.h"

#define KIB ((size_t)1024)

static struct weft_stack_class cls;

static struct weft_stack carve(void)
{
    struct weft_stack stack;
    cr_assert_eq(weft_stack_carve(&cls, &stack), 0);
    return stack;
}

static char *usable(const struct weft_stack *stack) { return stack->base + stack->guard_bytes; }

Test(stack, sizes_are_rounded_up_to_pages)
{
    size_t page = os_page_size();
    weft_stack_class_init(&cls, 64 * KIB + 1, 1);
    cr_assert_eq(cls.size_bytes, 64 * KIB + page);
    cr_assert_eq(cls.guard_bytes, page);
    weft_stack_class_init(&cls, 1, 0);
    cr_assert_eq(cls.size_bytes, WEFT_STACK_MIN_BYTES);
    cr_assert_eq(cls.guard_bytes, 0);
}

Test(stack, memory_lies_as_mapped_and_overlaps_nothing)
{
    enum { STACKS = 100 };
    static struct weft_stack stacks[STACKS];
    weft_stack_class_init(&cls, 16 * KIB, 8 * KIB);
    for (int i = 0; i < STACKS; i++) {
        stacks[i] = carve();
        cr_assert_eq(stacks[i].base + stacks[i].guard_bytes + stacks[i].size_bytes, stacks[i].top);
        cr_assert_eq((uintptr_t)stacks[i].top % 64, 0);
        cr_assert_eq(stacks[i].size_bytes, 16 * KIB);
        memset(usable(&stacks[i]), i, stacks[i].size_bytes);
    }
    for (int i = 0; i < STACKS; i++) {
        for (char *at = usable(&stacks[i]); at < stacks[i].top; at++) {
            cr_assert_eq(*at, (char)i);
        }
    }
}

static void check_guarded(enum os_guard mode)
{
    weft_stack_limit_guards(mode, SIZE_MAX);
    weft_stack_class_init(&cls, 16 * KIB, 128 * KIB);
    for (int i = 0; i < 20; i++) { /* more than the first reservation holds */
        struct weft_stack stack = carve();
        if (mode == OS_GUARD_MADVISE && !memory_has_guards()) {
            cr_skip("this kernel has no MADV_GUARD_INSTALL");
        }
        cr_assert_eq(stack.guard_mode, mode);
        cr_assert(memory_faults(stack.base));
        cr_assert(memory_faults(stack.base + 64 * KIB));
        cr_assert(memory_faults(usable(&stack) - 1));
        cr_assert_not(memory_faults(usable(&stack)));
        cr_assert_not(memory_faults(stack.top - 1));
        cr_assert(weft_stack_canary_whole(&stack));
        *usable(&stack) = 1; /* what would break a canary is nothing here */
        cr_assert(weft_stack_canary_whole(&stack));
    }
}

Test(stack, madvise_guards_fault_H15)
{
    check_guarded(OS_GUARD_MADVISE);
    cr_assert_str_eq(weft_stack_guard_mode(), "madvise");
}

Test(stack, mprotect_guards_fault_H15)
{
    check_guarded(OS_GUARD_MPROTECT);
    cr_assert_str_eq(weft_stack_guard_mode(), "mprotect");
}

Test(stack, canary_tells_when_there_is_no_guard_H15)
{
    weft_stack_limit_guards(OS_GUARD_NONE, SIZE_MAX);
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    struct weft_stack stack = carve();
    cr_assert_eq(stack.guard_mode, OS_GUARD_NONE);
    cr_assert_str_eq(weft_stack_guard_mode(), "canary");
    cr_assert_not(memory_faults(stack.base));
    cr_assert(weft_stack_canary_whole(&stack));
    memset(usable(&stack) + 8, 'x', stack.size_bytes - 8);
    cr_assert(weft_stack_canary_whole(&stack), "the rest of the stack is free to use");
    usable(&stack)[7] ^= 1;
    cr_assert_not(weft_stack_canary_whole(&stack));
}

Test(stack, a_class_without_guard_has_a_canary)
{
    weft_stack_class_init(&cls, 16 * KIB, 0);
    struct weft_stack stack = carve();
    cr_assert_eq(stack.guard_mode, OS_GUARD_NONE);
    cr_assert(weft_stack_canary_whole(&stack));
    cr_assert_not(weft_stack_is_overflow(&stack, stack.base));
    cr_assert_not(weft_stack_is_overflow(&stack, stack.base - 1));
}

Test(stack, madvise_guards_cost_no_mapping_H15)
{
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    if (!memory_has_guards()) {
        cr_skip("this kernel has no MADV_GUARD_INSTALL");
    }
    size_t before = memory_mappings();
    for (int i = 0; i < 2000; i++) {
        cr_assert_eq(carve().guard_mode, OS_GUARD_MADVISE);
    }
    cr_assert_leq(memory_mappings(), before + 200); /* and not + 4000 */
}

Test(stack, mprotect_guards_stay_within_their_limit_H15)
{
    struct weft_stack_class other;
    weft_stack_limit_guards(OS_GUARD_MPROTECT, 10);
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    weft_stack_class_init(&other, 32 * KIB, 16 * KIB);
    struct weft_stack stack;
    for (int i = 0; i < 10; i++) { /* one limit for all classes: it is the process's */
        cr_assert_eq(weft_stack_carve(i % 2 ? &cls : &other, &stack), 0);
        cr_assert_eq(stack.guard_mode, OS_GUARD_MPROTECT);
    }
    cr_assert_str_eq(weft_stack_guard_mode(), "mprotect");
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(weft_stack_carve(i % 2 ? &cls : &other, &stack), 0);
        cr_assert_eq(stack.guard_mode, OS_GUARD_NONE);
    }
    cr_assert_str_eq(weft_stack_guard_mode(), "canary");
}

/* Far more stacks than there may be mappings: every one is had, and the process can still map. */
Test(stack, mprotect_guards_leave_half_of_the_mappings_H15)
{
    size_t most = os_max_mappings();
    if (most > 200000) {
        cr_skip("vm.max_map_count is too large to be reached in a test");
    }
    weft_stack_limit_guards(OS_GUARD_MPROTECT, SIZE_MAX);
    weft_stack_class_init(&cls, 16 * KIB, os_page_size());
    size_t before = memory_mappings();
    size_t guarded = 0;
    for (size_t i = 0; i < most / 4 + 100; i++) {
        guarded += carve().guard_mode == OS_GUARD_MPROTECT;
    }
    cr_assert_eq(guarded, most / 4);
    cr_assert_gt(memory_mappings(), most / 4, "the test makes mappings");
    cr_assert_leq(memory_mappings(), before + most / 2 + 100);
}

Test(stack, no_memory_is_an_error_and_changes_nothing_H16)
{
    weft_stack_class_init(&cls, 4096 * KIB, 128 * KIB);
    struct weft_stack stack = { .colour = 99 };
    if (!memory_limit(1024 * KIB)) {
        cr_skip("the address space cannot be limited here");
    }
    cr_assert_eq(weft_stack_carve(&cls, &stack), -ENOMEM);
    cr_assert_eq(weft_stack_carve(&cls, &stack), -ENOMEM);
    memory_unlimit();
    cr_assert_eq(stack.colour, 99);
    cr_assert_eq(cls.carved, 0);
    cr_assert_eq(a_load(&cls.reserved_bytes, RELAXED), 0);
    cr_assert_eq(weft_stack_carve(&cls, &stack), 0);
}

Test(stack, little_address_space_is_used_to_the_last_stack_H16)
{
    weft_stack_class_init(&cls, 4096 * KIB, 0);
    if (!memory_limit(14 * 1024 * KIB)) { /* three, not sixteen */
        cr_skip("the address space cannot be limited here");
    }
    struct weft_stack stack;
    int had = 0;
    while (had < 100 && weft_stack_carve(&cls, &stack) == 0) {
        had++;
    }
    memory_unlimit();
    cr_assert_eq(had, 3);
}

Test(stack, reservations_double_up_to_1024_stacks)
{
    size_t stride = 32 * KIB;
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    size_t expected[] = { 16, 32, 64, 128, 256, 512, 1024, 1024 };
    size_t reserved = 0;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        reserved += expected[i];
        for (size_t n = 0; n < expected[i]; n++) {
            (void)carve();
            cr_assert_eq(a_load(&cls.reserved_bytes, RELAXED), reserved * stride);
        }
    }
}

Test(stack, a_guarded_stack_has_no_memory_before_it_is_used)
{
    weft_stack_class_init(&cls, 64 * KIB, 128 * KIB);
    for (int i = 0; i < 40; i++) {
        struct weft_stack stack = carve();
        if (stack.guard_mode != OS_GUARD_NONE) {
            cr_assert_eq(memory_resident_pages(usable(&stack), stack.size_bytes), 0);
        }
    }
}

Test(stack, trim_gives_memory_back_and_leaves_zero_H19)
{
    for (int mode = OS_GUARD_MADVISE; mode <= OS_GUARD_NONE; mode++) {
        weft_stack_limit_guards((enum os_guard)mode, SIZE_MAX);
        weft_stack_class_init(&cls, 64 * KIB, 16 * KIB);
        (void)carve();
        struct weft_stack stack = carve();
        bool canary = stack.guard_mode == OS_GUARD_NONE;
        memset(usable(&stack) + canary * 8, 'x', stack.size_bytes - canary * 8u);
        cr_assert_eq(memory_resident_pages(usable(&stack), stack.size_bytes), 64 * KIB / os_page_size());
        weft_stack_trim(&stack);
        cr_assert_leq(memory_resident_pages(usable(&stack), stack.size_bytes), canary ? 1u : 0u, "mode %d", mode);
        cr_assert(weft_stack_canary_whole(&stack));
        for (char *at = usable(&stack) + canary * 8; at < stack.top; at++) {
            cr_assert_eq(*at, 0);
        }
        cr_assert_eq(memory_faults(usable(&stack) - 1), !canary);
    }
}

Test(stack, overflow_is_the_own_guard_and_the_next_one_below_H17)
{
    weft_stack_class_init(&cls, 64 * KIB, 128 * KIB);
    struct weft_stack first = carve();
    struct weft_stack second = carve();
    cr_assert(first.lowest);
    cr_assert_not(second.lowest);
    cr_assert_eq(second.base, first.top);

    cr_assert(weft_stack_is_overflow(&second, second.base));
    cr_assert(weft_stack_is_overflow(&second, usable(&second) - 1));
    cr_assert(weft_stack_is_overflow(&second, first.base), "a frame that jumped the guard and the stack below");
    cr_assert(weft_stack_is_overflow(&second, usable(&first) - 1));
    cr_assert_not(weft_stack_is_overflow(&second, usable(&second)));
    cr_assert_not(weft_stack_is_overflow(&second, second.top));
    cr_assert_not(weft_stack_is_overflow(&second, usable(&first)));
    cr_assert_not(weft_stack_is_overflow(&second, first.top - 1));
    cr_assert_not(weft_stack_is_overflow(&second, first.base - 1));
    cr_assert_not(weft_stack_is_overflow(&second, NULL));

    cr_assert(weft_stack_is_overflow(&first, first.base));
    cr_assert_not(weft_stack_is_overflow(&first, first.base - 1), "what lies below the reservation is not ours");
    cr_assert_not(weft_stack_is_overflow(&first, first.base - 192 * KIB));
}

Test(stack, neighbours_have_different_colours)
{
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    for (int round = 0; round < 3; round++) {
        unsigned seen = 0;
        for (int i = 0; i < WEFT_STACK_COLOURS; i++) {
            unsigned colour = carve().colour;
            cr_assert_lt(colour, WEFT_STACK_COLOURS);
            seen |= 1u << colour;
        }
        cr_assert_eq(seen, (1u << WEFT_STACK_COLOURS) - 1);
    }
}

enum { THREADS = 4, EACH = 300 };
static char *bases[THREADS][EACH];

static void carve_many(void *arg)
{
    char **mine = arg;
    for (int i = 0; i < EACH; i++) {
        struct weft_stack stack;
        mine[i] = weft_stack_carve(&cls, &stack) == 0 ? stack.base : NULL;
    }
}

static int by_address(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return (x > y) - (x < y);
}

Test(stack, many_threads_get_different_stacks)
{
    struct os_thread threads[THREADS];
    weft_stack_class_init(&cls, 16 * KIB, 16 * KIB);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(os_thread_start(&threads[i], carve_many, bases[i], "carve"), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(threads[i]);
    }
    char **all = &bases[0][0];
    qsort(all, (size_t)THREADS * EACH, sizeof(*all), by_address);
    cr_assert_not_null(all[0]);
    for (int i = 1; i < THREADS * EACH; i++) {
        cr_assert_geq(all[i] - all[i - 1], (ptrdiff_t)(32 * KIB));
    }
}
