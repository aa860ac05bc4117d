/* The work that is the same whoever runs it: pack one file (any thread), emit one member (one thread at a time).
 *
 * An engine (engine.h) decides on which thread job_pack runs and in which order members are emitted; it owns a member from
 * job_pack until it gives it to job_emit or job_drop. The job counts the members that are held in between. */
#ifndef WEFT_PACK_JOB_H
#define WEFT_PACK_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tree.h"

#ifdef __cplusplus
extern "C" {
#endif

struct job;
struct member;
struct output;
struct progress;

struct job_totals {
    size_t packed, skipped; /* files; skipped: could not be read, named on stderr */
    size_t most_held;       /* members begun and not yet emitted or dropped, at the worst moment */
    uint64_t read_bytes, written_bytes;
};

/* NULL: no memory. The tree, the output and the progress stay the caller's and outlive the job. */
struct job *job_create(const struct tree *tree, struct output *output, struct progress *progress, int level);
void job_destroy(struct job *job);
struct job_totals job_read_totals(const struct job *job);
/* Whether it was the archive that could not be written. */
bool job_output_failed(const struct job *job);

size_t job_n_files(const struct job *job);
struct tree_file *job_files(const struct job *job);

/* Reads and compresses one file. NULL: no memory; pass it on all the same. */
struct member *job_pack(struct job *job, const struct tree_file *file);
/* Writes a member to the archive and ends it. 0, or a negative errno value: the archive cannot be written (or the member is
 * NULL), the engine should stop. */
int job_emit(struct job *job, struct member *member);
/* Ends a member that will not be written; NULL is fine. */
void job_drop(struct member *member);

#ifdef __cplusplus
}
#endif
#endif
