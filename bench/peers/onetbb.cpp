/* oneTBB's parallel_pipeline: number the files in order, pack in parallel, write in order; bounded to `window` live tokens.
 *
 * Workers: all threads of the arena, the calling thread included; it runs the pipeline as the others do. */
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/version.h>

#include "engine.h"

namespace
{

const char *version()
{
    static char text[64];
    std::snprintf(text, sizeof text, "oneTBB %s", TBB_runtime_version());
    return text;
}

int run_pipeline(struct job *job, const struct engine_options *options)
{
    namespace tbb = oneapi::tbb;
    std::size_t workers = options->workers != 0 ? options->workers : engine_cpus();
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, workers);
    std::size_t next = 0;
    int rc = 0;
    auto number =
        tbb::make_filter<void, tree_file *>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control &flow) -> tree_file * {
            if (next == job_n_files(job) || __atomic_load_n(&rc, __ATOMIC_RELAXED) != 0) {
                flow.stop();
                return nullptr;
            }
            return &job_files(job)[next++];
        });
    auto pack =
        tbb::make_filter<tree_file *, member *>(tbb::filter_mode::parallel, [&](tree_file *file) { return job_pack(job, file); });
    auto write = tbb::make_filter<member *, void>(tbb::filter_mode::serial_in_order, [&](member *packed) {
        if (rc == 0) {
            __atomic_store_n(&rc, job_emit(job, packed), __ATOMIC_RELAXED);
        } else {
            job_drop(packed);
        }
    });
    tbb::parallel_pipeline(options->window, number & pack & write);
    return rc;
}

int run(struct job *job, const struct engine_options *options)
{
    try {
        return run_pipeline(job, options);
    } catch (const std::bad_alloc &) {
        return -ENOMEM;
    } catch (const std::exception &) {
        return -EAGAIN;
    }
}

} // namespace

extern "C" const struct engine engine = { "onetbb", "This one runs on oneTBB's parallel_pipeline", true, version, run };
