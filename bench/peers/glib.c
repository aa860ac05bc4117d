/* GLib's GThreadPool, a queue of what is done, and a reorder buffer in the calling thread; bounded to `window`.
 *
 * Workers: the pool's threads pack (exclusive ones, as many as workers); the calling thread pushes and writes, and waits most of
 * the time. */
#include <errno.h>
#include <glib.h>

#include "engine.h"

struct slot {
    const struct tree_file *file;
    struct member *member;
    gboolean done;
};

struct line {
    struct job *job;
    GThreadPool *pool;
    GAsyncQueue *finished;
    size_t window, submitted, written; /* of the calling thread */
    struct slot *slots;                /* file i is in slot i % window */
};

static void pack_slot(gpointer data, gpointer user_data)
{
    struct slot *slot = data;
    struct line *line = user_data;
    slot->member = job_pack(line->job, slot->file);
    g_async_queue_push(line->finished, slot);
}

static void push_one(struct line *line)
{
    struct slot *slot = &line->slots[line->submitted % line->window];
    *slot = (struct slot){ .file = &job_files(line->job)[line->submitted] };
    g_thread_pool_push(line->pool, slot, NULL); /* exclusive threads: cannot fail */
    line->submitted++;
}

static struct member *pop_head(struct line *line)
{
    struct slot *head = &line->slots[line->written % line->window];
    while (!head->done) {
        struct slot *slot = g_async_queue_pop(line->finished);
        slot->done = TRUE;
    }
    line->written++;
    return head->member;
}

static const char *version(void)
{
    static char text[32];
    g_snprintf(text, sizeof text, "GLib %u.%u.%u", glib_major_version, glib_minor_version, glib_micro_version);
    return text;
}

static int run(struct job *job, const struct engine_options *options)
{
    unsigned workers = options->workers != 0 ? options->workers : engine_cpus();
    struct line line = { .job = job, .window = options->window };
    line.pool = g_thread_pool_new(pack_slot, &line, (gint)workers, TRUE, NULL);
    if (line.pool == NULL) {
        return -EAGAIN;
    }
    line.finished = g_async_queue_new();
    line.slots = g_new0(struct slot, line.window);
    size_t n = job_n_files(job);
    int rc = 0;
    while (rc == 0 && line.written < n) {
        while (line.submitted < n && line.submitted - line.written < line.window) {
            push_one(&line);
        }
        rc = job_emit(job, pop_head(&line));
    }
    while (line.written < line.submitted) { /* after an error */
        job_drop(pop_head(&line));
    }
    g_thread_pool_free(line.pool, FALSE, TRUE);
    g_async_queue_unref(line.finished);
    g_free(line.slots);
    return rc;
}

const struct engine engine = {
    .name = "glib",
    .summary = "This one runs on GLib's GThreadPool",
    .ordered = true,
    .version = version,
    .run = run,
};
