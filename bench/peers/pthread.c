/* A textbook pool of threads and a reorder buffer: a ring of `window` slots, so memory is bounded.
 *
 * Workers: the pool's threads pack; the calling thread submits and writes, and waits most of the time. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine.h"
#include "thread_pool.h"

struct slot {
    struct line *line;
    const struct tree_file *file;
    struct member *member;
    bool done;
};

struct line {
    struct job *job;
    pthread_mutex_t lock;
    pthread_cond_t head_done;
    size_t window, submitted, written; /* the two counts: of the calling thread, but `written` is read under the lock */
    struct slot *slots;                /* file i is in slot i % window */
};

static void pack_slot(void *arg)
{
    struct slot *slot = arg;
    struct line *line = slot->line;
    struct member *member = job_pack(line->job, slot->file);
    pthread_mutex_lock(&line->lock);
    slot->member = member;
    slot->done = true;
    bool is_head = slot == &line->slots[line->written % line->window];
    pthread_mutex_unlock(&line->lock);
    if (is_head) {
        pthread_cond_signal(&line->head_done);
    }
}

static int submit_one(struct line *line, struct thread_pool *pool)
{
    struct slot *slot = &line->slots[line->submitted % line->window];
    *slot = (struct slot){ .line = line, .file = &job_files(line->job)[line->submitted] };
    int rc = thread_pool_submit(pool, pack_slot, slot);
    line->submitted += rc == 0;
    return rc;
}

static struct member *wait_for_head(struct line *line)
{
    struct slot *slot = &line->slots[line->written % line->window];
    pthread_mutex_lock(&line->lock);
    while (!slot->done) {
        pthread_cond_wait(&line->head_done, &line->lock);
    }
    line->written++;
    pthread_mutex_unlock(&line->lock);
    return slot->member;
}

static int run_line(struct line *line, struct thread_pool *pool)
{
    size_t n = job_n_files(line->job);
    int rc = 0;
    while (rc == 0 && line->written < n) {
        while (rc == 0 && line->submitted < n && line->submitted - line->written < line->window) {
            rc = submit_one(line, pool);
        }
        if (rc == 0) {
            rc = job_emit(line->job, wait_for_head(line));
        }
    }
    while (line->written < line->submitted) { /* after an error */
        job_drop(wait_for_head(line));
    }
    return rc;
}

static const char *version(void) { return "POSIX threads"; }

static int run(struct job *job, const struct engine_options *options)
{
    struct line line = { .job = job, .window = options->window, .slots = calloc(options->window, sizeof *line.slots) };
    struct thread_pool *pool = thread_pool_create(options->workers != 0 ? options->workers : engine_cpus());
    int rc = -ENOMEM;
    if (line.slots != NULL && pool != NULL) {
        pthread_mutex_init(&line.lock, NULL);
        pthread_cond_init(&line.head_done, NULL);
        rc = run_line(&line, pool);
    }
    if (pool != NULL) {
        thread_pool_destroy(pool); /* first: a worker may still be inside pthread_cond_signal */
    }
    if (line.slots != NULL && pool != NULL) {
        pthread_cond_destroy(&line.head_done);
        pthread_mutex_destroy(&line.lock);
    }
    free(line.slots);
    return rc;
}

const struct engine engine = {
    .name = "pthread",
    .summary = "This one runs on a textbook pthread pool",
    .ordered = true,
    .version = version,
    .run = run,
};
