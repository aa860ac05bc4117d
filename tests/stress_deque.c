/* usage: stress_deque [SEED [SECONDS]]
 * One owner pushes and takes, thieves steal, and every entry must be given out once. The capacity begins at 1 or 2, so that arrays
 * are outgrown under the thieves' eyes (H03, H04). What the owner does follows from the seed; how the threads meet does not, so the
 * end says how often the window was hit: takes that lost their last entry to a thief. */
#include "testing.h"

#include "deque.h"
#include "stress.h"

enum { THIEVES = 3, ENTRIES = 20000 };

/* What an entry points to is plain memory: under ThreadSanitizer an entry that does not bring it along is a race. */
struct item {
    size_t n;
};

static struct weft_deque deque;
static struct item items[ENTRIES];
static _Atomic uint8_t given[ENTRIES];
static _Atomic int round_on, done_threads, failures;
static _Atomic bool owner_done, quit;
static uint64_t lost, stolen_total, rounds;
static _Atomic uint64_t stolen;

static void fail(const char *what, size_t n)
{
    if (a_add(&failures, 1, RELAXED) < 10) {
        fprintf(stderr, "round %llu: entry %zu %s\n", (unsigned long long)rounds, n, what);
    }
}

static void got(const struct item *item)
{
    size_t n = (size_t)(item - items);
    if (n >= ENTRIES || item->n != n) {
        fail("was never pushed", n);
    } else if (a_add(&given[n], 1, RELAXED) != 0) {
        fail("was given out twice", n);
    }
}

static void thief(void *arg)
{
    (void)arg;
    for (int round = 1;; round++) {
        while (a_load(&round_on, ACQUIRE) != round) {
            if (a_load(&quit, RELAXED)) {
                return;
            }
            os_thread_yield();
        }
        uint64_t count = 0;
        for (;;) {
            bool last = a_load(&owner_done, ACQUIRE);
            struct item *entry = weft_deque_steal(&deque);
            if (entry != NULL) {
                got(entry);
                count++;
            } else if (last) {
                break;
            }
        }
        a_add(&stolen, count, RELAXED);
        a_add(&done_threads, 1, RELEASE);
    }
}

static void own(uint64_t seed)
{
    size_t next = 0;
    while (next < ENTRIES) {
        size_t pushes = next_random(&seed) % 4 == 0 ? next_random(&seed) % 64 : next_random(&seed) % 3;
        for (; pushes > 0 && next < ENTRIES; pushes--) {
            items[next].n = next;
            if (!weft_deque_push(&deque, &items[next])) {
                fail("could not be pushed", next);
            }
            next++;
        }
        for (size_t takes = next_random(&seed) % 4; takes > 0; takes--) {
            int64_t size = weft_deque_size(&deque);
            void *entry = next_random(&seed) % 8 == 0 ? weft_deque_steal(&deque) : weft_deque_take(&deque);
            if (entry != NULL) {
                got(entry);
            } else {
                lost += size > 0;
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct stress stress = stress_begin(argc, argv);
    struct os_thread threads[THIEVES];
    for (int i = 0; i < THIEVES; i++) {
        if (os_thread_start(&threads[i], thief, NULL, "thief") != 0) {
            return 2;
        }
    }
    uint64_t state = stress.seed;
    while (stress_goes_on(&stress) && a_load(&failures, RELAXED) == 0) {
        rounds++;
        if (weft_deque_init(&deque, rounds % 2 + 1) != 0) {
            return 2;
        }
        for (size_t i = 0; i < ENTRIES; i++) {
            a_store(&given[i], 0, RELAXED);
            items[i].n = SIZE_MAX;
        }
        a_store(&owner_done, false, RELAXED);
        a_store(&done_threads, 0, RELAXED);
        a_store(&round_on, (int)rounds, RELEASE);
        own(next_random(&state));
        a_store(&owner_done, true, RELEASE);
        while (a_load(&done_threads, ACQUIRE) != THIEVES) {
            os_thread_yield();
        }
        for (size_t i = 0; i < ENTRIES; i++) {
            if (a_load(&given[i], RELAXED) == 0) {
                fail("was lost", i);
            }
        }
        weft_deque_fini(&deque);
    }
    a_store(&quit, true, RELAXED);
    for (int i = 0; i < THIEVES; i++) {
        os_thread_join(threads[i]);
    }
    stolen_total = a_load(&stolen, RELAXED);
    printf("%llu rounds of %d entries, %llu stolen, %llu lost at the last moment, %d failures\n", (unsigned long long)rounds,
           ENTRIES, (unsigned long long)stolen_total, (unsigned long long)lost, a_load(&failures, RELAXED));
    if (stolen_total == 0) {
        printf("no thief ever met the owner: nothing was tested\n");
        return 1;
    }
    return a_load(&failures, RELAXED) != 0;
}
