/* Serial: a loop. One thread. */
#include <stddef.h>

#include "engine.h"

static const char *version(void) { return "no library"; }

static int run(struct job *job, const struct engine_options *options)
{
    (void)options;
    int rc = 0;
    for (size_t i = 0; i < job_n_files(job) && rc == 0; i++) {
        rc = job_emit(job, job_pack(job, &job_files(job)[i]));
    }
    return rc;
}

const struct engine engine = {
    .name = "serial",
    .summary = "This one works serially",
    .ordered = true,
    .version = version,
    .run = run,
};
