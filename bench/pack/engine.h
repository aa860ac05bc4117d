/* What differs between weft-pack and the programs that it is compared with: who runs job_pack, and when a member is emitted.
 *
 * Each program links pack.c, the job, and one file of engines/peers that defines `engine`. */
#ifndef WEFT_PACK_ENGINE_H
#define WEFT_PACK_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#include "job.h"

#ifdef __cplusplus
extern "C" {
#endif

struct engine_options {
    unsigned workers; /* threads that pack; 0: the engine's default, else as many as there are CPUs */
    size_t jobs;      /* files packed at once, where the engine can tell it from workers; 0: as workers */
    size_t window;    /* files begun and not yet written, where the engine can bound them; at least 1 */
};

struct engine {
    const char *name;
    const char *summary; /* one line for --help */
    bool ordered;        /* members are emitted in path order */
    const char *(*version)(void);
    /* Packs every file of the job. 0, or a negative errno value (job_emit's too: then it stops early). No member is left. */
    int (*run)(struct job *job, const struct engine_options *options);
};

extern const struct engine engine;

/* The CPUs this process may use (sched_getaffinity), at least 1. */
unsigned engine_cpus(void);

#ifdef __cplusplus
}
#endif
#endif
