/* A heap of timers between threads that arm and cancel, and threads that look at the clock.
 *
 * A timer fires once for each time it was armed, not before its deadline, and not after `cancel` has returned; what was due when
 * somebody looked has fired. `earliest` is never later than the earliest deadline armed. */
#include "os.h"
#include "sim.h"
#include "timer.h"

#define OWNERS 3
#define TIMERS 2
#define STEP INT64_C(1000)

static struct weft_timer_heap heap;

static struct owned {
    struct weft_timer timer;
    int64_t deadline;
    bool armed, fired;
    unsigned round;
} timers[OWNERS][TIMERS];

static unsigned owners_left;

static void fire(struct weft_timer *timer, void *context)
{
    struct owned *owned = weft_container_of(timer, struct owned, timer);
    sim_yield(); /* as a claim would be; cancel must wait for it */
    SIM_CHECK(context == &heap);
    SIM_CHECK(owned->armed && !owned->fired);
    SIM_CHECK(owned->deadline <= os_now());
    owned->fired = true;
    sim_count("fired");
}

static void owner(void *arg)
{
    struct owned *mine = timers[(intptr_t)arg];
    for (unsigned round = 1 + sim_choose(2); round > 0; round--) {
        for (unsigned i = 0; i < TIMERS; i++) {
            mine[i].deadline = os_now() + STEP * ((int64_t)sim_choose(4) - 1);
            mine[i].fired = false;
            mine[i].round++;
            mine[i].armed = true;
            mine[i].timer.fire = fire;
            weft_timer_arm(&heap, &mine[i].timer, mine[i].deadline);
            SIM_CHECK(mine[i].fired || atomic_load(&heap.earliest) <= mine[i].deadline);
        }
        for (unsigned pause = sim_choose(3); pause > 0; pause--) {
            sim_yield();
        }
        for (unsigned i = 0; i < TIMERS; i++) {
            weft_timer_cancel(&mine[i].timer);
            if (!mine[i].fired) {
                sim_count("cancelled");
            }
            mine[i].armed = false;
        }
    }
    owners_left--;
}

static void looker(void *arg)
{
    (void)arg;
    while (owners_left > 0) {
        int64_t now = os_now();
        unsigned due[OWNERS * TIMERS]; /* the round in which it was due, or 0 */
        for (unsigned i = 0; i < OWNERS * TIMERS; i++) {
            struct owned *owned = &timers[i / TIMERS][i % TIMERS];
            due[i] = owned->timer.armed && owned->deadline <= now ? owned->round : 0;
        }
        weft_timer_expire(&heap, now, &heap);
        for (unsigned i = 0; i < OWNERS * TIMERS; i++) {
            struct owned *owned = &timers[i / TIMERS][i % TIMERS];
            if (due[i] != 0 && due[i] == owned->round && owned->timer.armed) {
                sim_fail("a timer that was due is still armed");
            }
        }
        weft_spin_pause();
    }
}

static void setup(void)
{
    weft_timer_heap_init(&heap);
    owners_left = 1 + sim_choose(OWNERS);
    for (unsigned i = 0, n = owners_left; i < n; i++) {
        sim_spawn(owner, (void *)(intptr_t)i, "owner");
    }
    sim_spawn(looker, NULL, "looker");
    if (sim_choose(2) == 1) {
        sim_spawn(looker, NULL, "looker");
    }
}

static void check(void)
{
    SIM_CHECK(heap.root == NULL);
    SIM_CHECK(atomic_load(&heap.earliest) == OS_FOREVER);
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "timer", .setup = setup, .check = check, .length = 100, .tick = STEP };
    return sim_main(argc, argv, &kernel);
}
