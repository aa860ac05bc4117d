/* lock: mutual exclusion, and that a sleeper is woken. */
#include "testing.h"

#include "lock.h"
#include "os.h"

enum { THREADS = 4, ROUNDS = 100000 };

static struct weft_lock lock;
static long plain; /* only ever touched under the lock */
static _Atomic int got;

static void count(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        weft_lock(&lock);
        long seen = plain;
        weft_cpu_relax(); /* long enough to be met in the middle */
        plain = seen + 1;
        weft_unlock(&lock);
    }
}

static void take_once(void *arg)
{
    (void)arg;
    weft_lock(&lock);
    a_add(&got, 1, RELAXED);
    weft_unlock(&lock);
}

static uint32_t word(void) { return a_load(&lock.word, RELAXED); }

Test(lock, all_zero_is_free)
{
    struct weft_lock fresh = { 0 };
    weft_lock(&fresh);
    cr_assert_eq(a_load(&fresh.word, RELAXED), 1u);
    weft_unlock(&fresh);
    cr_assert_eq(a_load(&fresh.word, RELAXED), 0u);
}

Test(lock, one_holder_at_a_time)
{
    struct os_thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(os_thread_start(&threads[i], count, NULL, "count"), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(threads[i]);
    }
    cr_assert_eq(plain, (long)THREADS * ROUNDS);
    cr_assert_eq(word(), 0u, "free at the end");
}

Test(lock, unlock_wakes_every_sleeper_in_turn)
{
    for (int round = 0; round < 50; round++) {
        struct os_thread threads[THREADS];
        a_store(&got, 0, RELAXED);
        weft_lock(&lock);
        for (int i = 0; i < THREADS; i++) {
            cr_assert_eq(os_thread_start(&threads[i], take_once, NULL, "sleeper"), 0);
        }
        while (word() != 2u) { /* somebody is about to sleep, or sleeps */
            os_thread_yield();
        }
        cr_assert_eq(a_load(&got, RELAXED), 0);
        weft_unlock(&lock);
        for (int i = 0; i < THREADS; i++) {
            os_thread_join(threads[i]); /* a lost wake hangs here */
        }
        cr_assert_eq(a_load(&got, RELAXED), THREADS);
    }
}
