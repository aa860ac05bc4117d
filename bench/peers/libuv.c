/* libuv's work queue; what is done is put in order on the loop's thread, and written there; bounded to `window`.
 *
 * Workers: the threads of libuv's one global pool pack (UV_THREADPOOL_SIZE); the calling thread runs the loop, and waits most of
 * the time. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "engine.h"

struct slot {
    uv_work_t request;
    struct line *line;
    const struct tree_file *file;
    struct member *member;
    bool done;
};

struct line {
    struct job *job;
    uv_loop_t loop;
    int rc;                            /* the first failure; nothing is submitted or written after it */
    size_t window, submitted, written; /* of the loop's thread */
    struct slot *slots;                /* file i is in slot i % window */
};

static void after_pack(uv_work_t *request, int status);

static void pack_slot(uv_work_t *request)
{
    struct slot *slot = request->data;
    slot->member = job_pack(slot->line->job, slot->file);
}

static void fill(struct line *line)
{
    while (line->rc == 0 && line->submitted < job_n_files(line->job) && line->submitted - line->written < line->window) {
        struct slot *slot = &line->slots[line->submitted % line->window];
        *slot = (struct slot){ .line = line, .file = &job_files(line->job)[line->submitted], .request.data = slot };
        line->rc = uv_queue_work(&line->loop, &slot->request, pack_slot, after_pack);
        line->submitted += line->rc == 0;
    }
}

static void after_pack(uv_work_t *request, int status)
{
    (void)status; /* nothing is cancelled */
    struct slot *slot = request->data;
    struct line *line = slot->line;
    slot->done = true;
    while (line->written < line->submitted && line->slots[line->written % line->window].done) {
        struct slot *head = &line->slots[line->written++ % line->window];
        head->done = false;
        if (line->rc == 0) {
            line->rc = job_emit(line->job, head->member);
        } else {
            job_drop(head->member);
        }
    }
    fill(line);
}

static const char *version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "libuv %s", uv_version_string());
    return text;
}

static int run(struct job *job, const struct engine_options *options)
{
    char size[16];
    snprintf(size, sizeof size, "%u", options->workers != 0 ? options->workers : engine_cpus());
    setenv("UV_THREADPOOL_SIZE", size, 1); /* read at the first uv_queue_work */
    struct line line = { .job = job, .window = options->window, .slots = calloc(options->window, sizeof *line.slots) };
    if (line.slots == NULL) {
        return -ENOMEM;
    }
    line.rc = uv_loop_init(&line.loop);
    if (line.rc == 0) {
        fill(&line);
        uv_run(&line.loop, UV_RUN_DEFAULT);
        uv_loop_close(&line.loop);
    }
    free(line.slots);
    return line.rc;
}

const struct engine engine = {
    .name = "libuv",
    .summary = "This one runs on libuv's work queue",
    .ordered = true,
    .version = version,
    .run = run,
};
