/* What the kernels on the public API share: a small runtime, and logical threads that are counted until they have done their part. */
#ifndef WEFT_SIM_SCENE_H
#define WEFT_SIM_SCENE_H

#include "sim.h"

#include <weft.h>

#define MICROSECOND INT64_C(1000)

/* Threads, and tasks that stand for one, which are still at work. */
static unsigned scene_left;

/* One to `most` workers. */
static inline struct weft_runtime *scene_runtime(unsigned most)
{
    const struct weft_runtime_options options = {
        .struct_size = sizeof options, .workers = 1 + sim_choose(most), .stack_size = 16384, .guard_size = 4096
    };
    struct weft_runtime *runtime;
    SIM_CHECK(weft_runtime_create(&options, &runtime) == 0);
    return runtime;
}

/* `entry` ends with scene_done. */
static inline void scene_start(void (*entry)(void *), void *arg, const char *name)
{
    scene_left++;
    sim_spawn(entry, arg, name);
}

static inline void scene_done(void) { scene_left--; }

/* On a logical thread: until all of them have. */
static inline void scene_wait(void)
{
    while (scene_left > 0) {
        sim_spin();
    }
}

/* So many points, or fewer, in which others go on. */
static inline void scene_pause(unsigned most)
{
    for (unsigned pause = sim_choose(most); pause > 0; pause--) {
        sim_yield();
    }
}

#endif
