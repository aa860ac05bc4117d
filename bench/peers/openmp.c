/* OpenMP tasks: a pack task and a write task per file, ordered by `depend`; bounded to `window` slots.
 *
 * pack(i) writes slot i % window, so it waits for write(i - window), which read it; every write depends on the one before.
 * Workers: all threads of the team, the calling thread included; it makes the tasks, runs some when the queue is full, and all
 * that is left at the end of the region. */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"

#ifdef __clang__
#define COMPILER "" /* __VERSION__ says it */
#else
#define COMPILER "gcc "
#endif

static const char *version(void)
{
    static char text[64];
    snprintf(text, sizeof text, "OpenMP %d of %s%s", _OPENMP, COMPILER, __VERSION__);
    return text;
}

static bool failed(const int *rc)
{
    int now;
#pragma omp atomic read
    now = *rc;
    return now != 0;
}

static void write_slot(struct job *job, struct member *member, int *rc)
{
    if (*rc != 0) {
        job_drop(member);
        return;
    }
#pragma omp atomic write
    *rc = job_emit(job, member);
}

static int run(struct job *job, const struct engine_options *options)
{
    size_t window = options->window;
    struct member **slots = calloc(window, sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    int rc = 0; /* the first failure; of the write tasks, of which one runs at a time */
    int workers = (int)(options->workers != 0 ? options->workers : engine_cpus());
#pragma omp parallel num_threads(workers)
#pragma omp single
    for (size_t i = 0; i < job_n_files(job) && !failed(&rc); i++) {
        struct member **slot = &slots[i % window];
        const struct tree_file *file = &job_files(job)[i];
#pragma omp task depend(out : *slot) firstprivate(slot, file)
        *slot = job_pack(job, file);
#pragma omp task depend(in : *slot) depend(inout : rc) firstprivate(slot)
        write_slot(job, *slot, &rc);
    }
    free(slots);
    return rc;
}

const struct engine engine = {
    .name = "openmp",
    .summary = "This one runs on OpenMP tasks",
    .ordered = true,
    .version = version,
    .run = run,
};
