/* The small lock and the lock of a wait queue: one holder at a time, and nobody sleeps while it is free.
 *
 * Up to four threads, so that sleepers pile up: a lock that forgets one of several hangs. */
#include "lock.h"
#include "sim.h"
#include "waitq.h"

static struct weft_lock lock;
static struct weft_waitq queue;
static bool use_queue;
static unsigned holders;

static void contender(void *arg)
{
    (void)arg;
    unsigned times = 1 + sim_choose(3);
    while (times-- > 0) {
        struct weft_waiter *tail = NULL;
        if (use_queue) {
            tail = weft_waitq_lock(&queue);
        } else {
            weft_lock(&lock);
        }
        if (holders++ != 0) {
            sim_fail("%u threads hold the lock", holders);
        }
        for (unsigned i = sim_choose(3); i > 0; i--) {
            sim_yield();
        }
        holders--;
        if (use_queue) {
            weft_waitq_unlock(&queue, tail);
        } else {
            weft_unlock(&lock);
        }
    }
}

static void setup(void)
{
    use_queue = sim_choose(2) == 1;
    unsigned n = 2 + sim_choose(3);
    for (unsigned i = 0; i < n; i++) {
        sim_spawn(contender, NULL, "contender");
    }
}

static void check(void)
{
    SIM_CHECK(atomic_load(&lock.word) == 0);
    SIM_CHECK(weft_waitq_empty(&queue));
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "lock", .setup = setup, .check = check, .length = 60 };
    return sim_main(argc, argv, &kernel);
}
