/* The deque: an owner that pushes, takes and steals from itself, and thieves. Capacity 2, so that arrays grow while thieves read.
 *
 * Each entry is given out exactly once. NULL, and `empty`, are right only if the deque was empty at some moment of the call: the
 * idle protocol builds on it (a worker that looks everywhere and finds nothing sleeps). */
#include "deque.h"
#include "sim.h"

#define MAX_ENTRIES 10
#define MAX_THREADS 4

static struct weft_deque deque;
static int entries[MAX_ENTRIES]; /* how often each was given out */
static unsigned pushed, n_thieves;

/* A lower bound of the deque's size: entries whose push has returned, minus entries given out, minus calls that may have taken one
 * already. A call's own possible removal does not count against what it must find: `own`. `least` is the minimum since it began. */
static int certain;
static struct {
    int own, least;
} calls[MAX_THREADS];

static void change(int by)
{
    certain += by;
    for (int i = 0; i < MAX_THREADS; i++) {
        int bound = certain + calls[i].own;
        calls[i].least = bound < calls[i].least ? bound : calls[i].least;
    }
}

static void begin(int self, bool removes)
{
    change(removes ? -1 : 0);
    calls[self].own = removes ? 1 : 0;
    calls[self].least = certain + calls[self].own;
}

static void end(int self, bool says_empty, int *entry)
{
    if (says_empty) {
        sim_count("said to be empty");
        if (calls[self].least > 0) {
            sim_fail("said to be empty while it held at least %d", calls[self].least);
        }
    }
    if (entry == NULL) {
        change(calls[self].own);
    } else if (entry < entries || entry >= entries + pushed) {
        sim_fail("%p is no entry", (void *)entry);
    } else if (++*entry != 1) {
        sim_fail("entry %d was given out %d times", (int)(entry - entries), *entry);
    }
    calls[self].own = 0;
}

static void *call(int self, void *(*remove)(struct weft_deque *))
{
    begin(self, true);
    void *entry = remove(&deque);
    end(self, entry == NULL, entry);
    return entry;
}

static void owner(void *arg)
{
    (void)arg;
    unsigned operations = 4 + sim_choose(9);
    while (operations-- > 0) {
        unsigned what = sim_choose(8);
        if (what < 4 && pushed < MAX_ENTRIES) {
            int *entry = &entries[pushed++];
            SIM_CHECK(weft_deque_push(&deque, entry));
            change(1);
        } else if (what < 7) {
            call(0, weft_deque_take);
        } else {
            call(0, weft_deque_steal);
        }
    }
}

static void thief(void *arg)
{
    int self = (int)(intptr_t)arg;
    unsigned times = 1 + sim_choose(3);
    while (times-- > 0) {
        if (sim_choose(4) == 0) {
            begin(self, false);
            bool empty = weft_deque_empty(&deque);
            end(self, empty, NULL);
        } else if (call(self, weft_deque_steal) != NULL) {
            sim_count("stolen");
        }
    }
}

static void setup(void)
{
    SIM_CHECK(weft_deque_init(&deque, 2) == 0);
    sim_spawn(owner, NULL, "owner");
    n_thieves = 1 + sim_choose(3);
    for (unsigned i = 1; i <= n_thieves; i++) {
        sim_spawn(thief, (void *)(intptr_t)i, "thief");
    }
}

static void check(void)
{
    SIM_CHECK(weft_deque_size(&deque) == certain);
    while (call(0, weft_deque_take) != NULL) {
    }
    for (unsigned i = 0; i < pushed; i++) {
        if (entries[i] != 1) {
            sim_fail("entry %u was given out %d times", i, entries[i]);
        }
    }
    weft_deque_fini(&deque);
    SIM_CHECK(sim_live_allocations() == 0);
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "deque", .setup = setup, .check = check, .length = 100 };
    return sim_main(argc, argv, &kernel);
}
