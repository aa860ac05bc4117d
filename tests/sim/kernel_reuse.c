/* Late touches (group.h): who joins a group, and was let go before it slept, locks the group's queue once more; meanwhile another thread
 * has destroyed the group, and its memory serves the next one, in which somebody joins, too. Nobody is lost. */
#include "group.h"
#include "sim.h"

#define ROUNDS 3

static struct weft_runtime *runtime;
static struct weft_group *groups[ROUNDS];
static unsigned joined, joiners_left, same;

static int member(void *arg, void **result)
{
    (void)arg, (void)result;
    for (unsigned pause = sim_choose(4); pause > 0; pause--) {
        weft_yield();
    }
    return 0;
}

static void joiner(void *arg)
{
    struct weft_group *group = arg;
    SIM_CHECK(weft_group_join(group, WEFT_FOREVER) == 0);
    joined++;
    joiners_left--;
}

static void driver(void *arg)
{
    (void)arg;
    const struct weft_runtime_options options = {
        .struct_size = sizeof options, .workers = 1, .stack_size = 16384, .guard_size = 4096
    };
    SIM_CHECK(weft_runtime_create(&options, &runtime) == 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weft_group *group;
        SIM_CHECK((sim_choose(2) == 0 ? weft_group_create(runtime, NULL, &group) : weft_pool_create(runtime, 1, NULL, &group)) ==
                  0);
        groups[i] = group;
        same += i > 0 && group == groups[i - 1];
        SIM_CHECK(weft_group_spawn(group, member, NULL, NULL) == 0);
        unsigned before = joined;
        joiners_left++;
        sim_spawn(joiner, group, "joiner");
        while (joined == before && weft_waitq_empty(&group->joiners)) { /* until it is in its call, or has returned */
            sim_spin();
        }
        SIM_CHECK(weft_group_join(group, WEFT_FOREVER) == 0);
        while (weft_group_destroy(group) == -EBUSY) {
            sim_spin();
        }
        if (joiners_left > 0) {
            sim_count("destroyed before the joiner had returned");
        }
    }
    while (joiners_left > 0) {
        sim_spin();
    }
    if (same > 0) {
        sim_count("the memory served again");
    }
    SIM_CHECK(weft_runtime_destroy(runtime) == 0);
}

static void setup(void) { sim_spawn(driver, NULL, "driver"); }

static void check(void) { SIM_CHECK(joined == ROUNDS); }

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "reuse", .setup = setup, .check = check, .length = 500 };
    return sim_main(argc, argv, &kernel);
}
