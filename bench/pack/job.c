#include "job.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "deflate.h"
#include "output.h"
#include "progress.h"

struct member {
    struct job *job;
    const struct tree_file *file;
    int error;           /* the file could not be read; then there are no bytes */
    uint64_t read_bytes; /* before compression */
    size_t size_bytes;
    unsigned char bytes[];
};

struct job {
    const struct tree *tree;
    struct output *output;
    struct progress *progress;
    struct deflaters deflaters;
    atomic_size_t held, most_held;
    struct job_totals totals; /* this and the next: of the emitting thread; most_held is filled in when they are read */
    bool output_failed;
};

struct job *job_create(const struct tree *tree, struct output *output, struct progress *progress, int level)
{
    struct job *job = calloc(1, sizeof *job);
    if (job != NULL) {
        job->tree = tree;
        job->output = output;
        job->progress = progress;
        deflaters_init(&job->deflaters, level);
    }
    return job;
}

void job_destroy(struct job *job)
{
    if (job != NULL) {
        deflaters_fini(&job->deflaters);
        free(job);
    }
}

struct job_totals job_read_totals(const struct job *job)
{
    struct job_totals totals = job->totals;
    totals.most_held = atomic_load(&job->most_held);
    return totals;
}

bool job_output_failed(const struct job *job) { return job->output_failed; }

size_t job_n_files(const struct job *job) { return job->tree->n; }

struct tree_file *job_files(const struct job *job) { return job->tree->files; }

static void hold(struct job *job)
{
    size_t held = atomic_fetch_add_explicit(&job->held, 1, memory_order_relaxed) + 1;
    size_t most = atomic_load_explicit(&job->most_held, memory_order_relaxed);
    while (held > most &&
           !atomic_compare_exchange_weak_explicit(&job->most_held, &most, held, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static struct member *member_create(struct job *job, const struct tree_file *file, int error, const struct deflated *deflated)
{
    size_t size = error == 0 ? deflated->size_bytes : 0;
    struct member *member = malloc(sizeof *member + size);
    if (member == NULL) {
        atomic_fetch_sub_explicit(&job->held, 1, memory_order_relaxed);
        return NULL;
    }
    *member = (struct member){ .job = job, .file = file, .error = error, .size_bytes = size };
    if (error == 0) {
        member->read_bytes = deflated->read_bytes;
        memcpy(member->bytes, deflated->bytes, size);
    }
    return member;
}

struct member *job_pack(struct job *job, const struct tree_file *file)
{
    hold(job);
    struct deflater *deflater = deflaters_take(&job->deflaters);
    if (deflater == NULL) {
        return member_create(job, file, -ENOMEM, NULL);
    }
    struct deflated deflated;
    int error = deflater_run(deflater, job->tree->root_fd, file->path, &deflated);
    struct member *member = member_create(job, file, error, &deflated);
    deflaters_give(&job->deflaters, deflater);
    return member;
}

static void skip(struct job *job, const struct member *member)
{
    progress_clear(job->progress);
    tree_name_skipped(job->tree, member->file->path, member->error);
    job->totals.skipped++;
}

int job_emit(struct job *job, struct member *member)
{
    if (member == NULL) {
        return -ENOMEM;
    }
    int rc = 0;
    if (member->error == -ENOMEM || member->error == -EMFILE || member->error == -ENFILE) {
        rc = member->error; /* our failure, not the file's */
    } else if (member->error != 0) {
        skip(job, member);
    } else {
        rc = output_write(job->output, member->bytes, member->size_bytes);
        job->output_failed = rc != 0;
        job->totals.packed++;
        job->totals.read_bytes += member->read_bytes;
        job->totals.written_bytes += member->size_bytes;
        progress_step(job->progress, member->read_bytes);
    }
    job_drop(member);
    return rc;
}

void job_drop(struct member *member)
{
    if (member != NULL) {
        atomic_fetch_sub_explicit(&member->job->held, 1, memory_order_relaxed);
        free(member);
    }
}
