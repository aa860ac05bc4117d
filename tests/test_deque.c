/* deque: order, growth, and that an entry goes to one. The races themselves are stress_deque's and the simulator's. */
#include "testing.h"

#include <stddef.h>

#include "deque.h"
#include "memory.h"
#include "os.h"

static struct weft_deque deque;

static void *entry(size_t n) { return (void *)(uintptr_t)(n + 1); }

static void push(size_t n) { cr_assert(weft_deque_push(&deque, entry(n))); }

static void start(size_t capacity) { cr_assert_eq(weft_deque_init(&deque, capacity), 0); }

Test(deque, owner_takes_the_newest)
{
    start(4);
    for (size_t i = 0; i < 3; i++) {
        push(i);
    }
    for (size_t i = 3; i-- > 0;) {
        cr_assert_eq(weft_deque_take(&deque), entry(i));
    }
    cr_assert_null(weft_deque_take(&deque));
    weft_deque_fini(&deque);
}

Test(deque, thief_and_owner_as_thief_get_the_oldest)
{
    start(4);
    for (size_t i = 0; i < 3; i++) {
        push(i);
    }
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(weft_deque_steal(&deque), entry(i));
    }
    cr_assert_null(weft_deque_steal(&deque));
    weft_deque_fini(&deque);
}

Test(deque, taking_from_an_empty_one_changes_nothing)
{
    start(2);
    for (int i = 0; i < 5; i++) {
        cr_assert_null(weft_deque_take(&deque));
        cr_assert_null(weft_deque_steal(&deque));
        cr_assert(weft_deque_empty(&deque));
    }
    push(7);
    cr_assert_not(weft_deque_empty(&deque));
    cr_assert_eq(weft_deque_size(&deque), 1);
    cr_assert_eq(weft_deque_take(&deque), entry(7));
    cr_assert(weft_deque_empty(&deque));
    cr_assert_eq(weft_deque_size(&deque), 0);
    weft_deque_fini(&deque);
}

Test(deque, size_counts_what_both_ends_left)
{
    start(2);
    for (size_t i = 0; i < 10; i++) {
        push(i);
    }
    (void)weft_deque_take(&deque);
    (void)weft_deque_steal(&deque);
    (void)weft_deque_steal(&deque);
    cr_assert_eq(weft_deque_size(&deque), 7);
    weft_deque_fini(&deque);
}

Test(deque, grows_around_the_end_of_the_array_H03)
{
    start(2);
    size_t oldest = 0, next = 0;
    for (size_t batch = 1; batch <= 500; batch++) { /* each time with another offset of top in the array */
        push(next++);
        push(next++);
        cr_assert_eq(weft_deque_steal(&deque), entry(oldest++));
    }
    cr_assert_eq(weft_deque_size(&deque), 500);
    while (oldest < next) {
        cr_assert_eq(weft_deque_steal(&deque), entry(oldest++));
    }
    cr_assert_null(weft_deque_steal(&deque));
    weft_deque_fini(&deque);
}

/* An entry of an old array that a thief is still reading is unchanged after any growth. */
Test(deque, old_arrays_stay_as_they_were_H04)
{
    start(1);
    push(0);
    _Atomic(void *) *old_slot = (_Atomic(void *) *)((char *)a_load(&deque.array, RELAXED) + 16);
    cr_assert_eq(a_load(old_slot, RELAXED), entry(0), "the test looks at the slot");
    for (size_t i = 1; i < 1000; i++) {
        push(i);
    }
    cr_assert_eq(a_load(old_slot, RELAXED), entry(0)); /* under AddressSanitizer: and not freed */
    cr_assert_eq(weft_deque_steal(&deque), entry(0));
    weft_deque_fini(&deque);
}

Test(deque, indices_pass_32_bits_H02)
{
    start(2);
    atomic_store(&deque.top, (int64_t)UINT32_MAX - 2);
    atomic_store(&deque.bottom, (int64_t)UINT32_MAX - 2);
    for (size_t i = 0; i < 100; i++) {
        push(i);
    }
    cr_assert_eq(weft_deque_size(&deque), 100);
    for (size_t i = 0; i < 50; i++) {
        cr_assert_eq(weft_deque_steal(&deque), entry(i));
        cr_assert_eq(weft_deque_take(&deque), entry(99 - i));
    }
    cr_assert(weft_deque_empty(&deque));
    weft_deque_fini(&deque);
}

Test(deque, owner_and_thieves_write_lines_far_apart_H06)
{
    cr_assert_geq(offsetof(struct weft_deque, bottom), offsetof(struct weft_deque, top) + 128);
    cr_assert_geq(sizeof(struct weft_deque), offsetof(struct weft_deque, bottom) + 128);
}

Test(deque, push_without_memory_changes_nothing)
{
    start((size_t)1 << 17);
    for (size_t i = 0; i < (size_t)1 << 17; i++) {
        push(i);
    }
    if (!memory_limit(1024 * 1024)) { /* the next array takes 2 MiB */
        weft_deque_fini(&deque);
        cr_skip("the address space cannot be limited here");
    }
    cr_assert_not(weft_deque_push(&deque, entry(999)));
    cr_assert_not(weft_deque_push(&deque, entry(999)));
    memory_unlimit();
    cr_assert_eq(weft_deque_size(&deque), (int64_t)1 << 17);
    cr_assert_eq(weft_deque_steal(&deque), entry(0));
    cr_assert_eq(weft_deque_take(&deque), entry(((size_t)1 << 17) - 1));
    push(999);
    cr_assert_eq(weft_deque_take(&deque), entry(999));
    weft_deque_fini(&deque);
}

/* ---- One entry, an owner and a thief ---- */

enum { DUELS = 30000 };
static _Atomic int duel;       /* number of the duel that is on; -1 the end */
static _Atomic int thief_at;   /* number of the last one that the thief finished */
static _Atomic bool thief_won; /* that one */

/* Waits on another core if there is one, and lets the other thread run if there is not. */
static void relax(unsigned *spins)
{
    if (++*spins % 1000 == 0) {
        os_thread_yield();
    } else {
        weft_cpu_relax();
    }
}

static void thief(void *arg)
{
    (void)arg;
    unsigned spins = 0;
    for (int n = 1;; n++) {
        int seen;
        while ((seen = a_load(&duel, ACQUIRE)) != n && seen != -1) {
            relax(&spins);
        }
        if (seen == -1) {
            return;
        }
        a_store(&thief_won, weft_deque_steal(&deque) != NULL, RELAXED);
        a_store(&thief_at, n, RELEASE);
    }
}

/* The owner waits a little longer after each duel that it won and a little less after each that it lost, and so keeps meeting the
 * thief in the middle of what both do. */
Test(deque, last_entry_goes_to_one)
{
    start(2);
    struct os_thread thread;
    cr_assert_eq(os_thread_start(&thread, thief, NULL, "thief"), 0);
    int owner_won = 0, turns = 0;
    bool won_before = false;
    unsigned spins = 0, delay = 0;
    for (int n = 1; n <= DUELS; n++) {
        push((size_t)n);
        a_store(&duel, n, RELEASE);
        for (volatile unsigned i = 0; i < delay; i++) {
        }
        bool won = weft_deque_take(&deque) != NULL;
        while (a_load(&thief_at, ACQUIRE) != n) {
            relax(&spins);
        }
        cr_assert_neq(won, a_load(&thief_won, RELAXED), "duel %d", n);
        owner_won += won;
        turns += won != won_before;
        won_before = won;
        delay = won ? (delay + 1) % 2000 : delay - (delay > 0);
    }
    a_store(&duel, -1, RELEASE);
    os_thread_join(thread);
    cr_log_info("owner %d, thief %d, the winner changed %d times\n", owner_won, DUELS - owner_won, turns);
    cr_assert(weft_deque_empty(&deque));
    weft_deque_fini(&deque);
}
