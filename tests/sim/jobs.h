/* The scheduler alone, without tasks, groups and outcomes: kernels of the layers 2 to 4 run on it, since every point that a run
 * does not have is one more schedule that matters. A kernel has either this or the public API, not both. */
#ifndef WEFT_SIM_JOBS_H
#define WEFT_SIM_JOBS_H

#include "scope.h"

struct job {
    void (*run)(void *arg);
    void *arg;
    struct weft_scope scope; /* current while it runs */
    struct weft_injector_node node;
    bool ran;
};

/* On a logical thread: starts the workers; waits for every job to end, and stops them. */
void jobs_begin(unsigned workers);
void jobs_end(void);
/* Any thread, also a job. The job's memory lives until jobs_end. */
void jobs_submit(struct job *job, void (*run)(void *arg), void *arg);

#endif
