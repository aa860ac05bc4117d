/* weft: an imap in a pool; `window` is a hard bound. Compiled twice; with PACK_UNORDERED the archive is in the order of completion.
 *
 * Workers: the runtime's threads pack, and one of their tasks writes; the calling thread only waits for that task. */
#include <weft.h>

#include "engine.h"

struct packing {
    struct job *job;
    size_t jobs, window;
};

static int pack_file(void *ctx, void *file, void **result)
{
    struct packing *packing = ctx;
    *result = job_pack(packing->job, file);
    return *result != NULL ? 0 : -ENOMEM;
}

static void drop(void *result) { job_drop(result); }

static int write_archive(void *arg, void **result)
{
    (void)result;
    struct packing *packing = arg;
    struct weft_array files = { .base = job_files(packing->job),
                                .stride = sizeof(struct tree_file),
                                .n = job_n_files(packing->job) };
    struct weft_source source = { weft_array_next, &files, NULL };
    struct weft_group *pool;
    struct weft_imap *imap;
    int rc = weft_pool_create(NULL, packing->jobs, NULL, &pool);
    if (rc != 0) {
        return rc;
    }
    rc = (PACK_UNORDERED ? weft_group_imap_unordered : weft_group_imap)(
        pool, &source, 1, pack_file, packing, WEFT_OPTIONS(weft_imap_options, .maxsize = packing->window, .result_free = drop),
        &imap);
    if (rc == 0) {
        struct weft_item item;
        while (rc == 0 && (rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
            rc = item.status == WEFT_OK ? job_emit(packing->job, item.value) : item.error;
        }
        weft_imap_destroy(imap);
    }
    weft_group_destroy(pool);
    return rc;
}

static const char *version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "weft %s", weft_version());
    return text;
}

static int run(struct job *job, const struct engine_options *options)
{
    struct weft_runtime *runtime;
    struct weft_task *writer;
    int rc = weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = options->workers), &runtime);
    if (rc != 0) {
        return rc;
    }
    size_t jobs = options->jobs != 0 ? options->jobs : weft_runtime_workers(runtime);
    struct packing packing = { .job = job, .jobs = jobs, .window = options->window };
    rc = weft_task_spawn(runtime, write_archive, &packing, NULL, &writer);
    if (rc == 0) {
        struct weft_outcome outcome;
        rc = weft_task_get(writer, WEFT_FOREVER, &outcome);
        rc = rc != 0 ? rc : outcome.error;
        weft_task_release(writer);
    }
    weft_runtime_destroy(runtime);
    return rc;
}

const struct engine engine = {
    .name = PACK_UNORDERED ? "weft-unordered" : "weft-pack",
    .summary =
        PACK_UNORDERED ? "Runs on weft: an unordered, bounded imap in a pool" : "Runs on weft: an ordered, bounded imap in a pool",
    .ordered = !PACK_UNORDERED,
    .version = version,
    .run = run,
};
