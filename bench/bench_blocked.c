/* What does a task take that is blocked? Memory per task (resident pages and page tables) and the time to make, block, wake and
 * end it, with 100,000 and 10^6 of them at once. One worker.
 *
 * Each case is a process of its own, so that it begins with no memory of the one before. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weft.h>

#include "measure.h"

enum { MOST_SAMPLES = 5 };

static struct bench bench;

struct figures {
    double bytes, ns; /* per task */
    char guard_mode[16];
};

/* A line of /proc/self/status or /proc/meminfo, in bytes. */
static double read_kb(const char *path, const char *name)
{
    char line[256];
    double bytes = 0;
    FILE *file = fopen(path, "re");
    must(file == NULL ? -errno : 0, path);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
            bytes = strtod(line + strlen(name) + 1, NULL) * 1024;
        }
    }
    fclose(file);
    return bytes;
}

static double memory_now(void) { return read_kb("/proc/self/status", "VmRSS") + read_kb("/proc/self/status", "VmPTE"); }

static int sleep_for_ever(void *arg, void **result)
{
    (void)arg, (void)result;
    return weft_sleep_until(WEFT_FOREVER);
}

static size_t blocked_now(struct weft_runtime *runtime, struct figures *figures)
{
    struct weft_runtime_stats stats = { .struct_size = sizeof stats };
    must(weft_runtime_read_stats(runtime, &stats), "weft_runtime_read_stats");
    snprintf(figures->guard_mode, sizeof figures->guard_mode, "%s", stats.guard_mode);
    return stats.blocked;
}

static struct figures block_many(size_t n)
{
    struct figures figures = { .bytes = 0 };
    struct weft_runtime *runtime;
    struct weft_group *group;
    must(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 1), &runtime), "weft_runtime_create");
    must(weft_group_create(runtime, NULL, &group), "weft_group_create");
    double before = memory_now();
    int64_t start = now_ns();
    for (size_t i = 0; i < n; i++) {
        must(weft_group_spawn(group, sleep_for_ever, NULL, NULL), "weft_group_spawn");
    }
    while (blocked_now(runtime, &figures) < n) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    int64_t all_blocked = now_ns();
    figures.bytes = (memory_now() - before) / (double)n;
    int64_t go_on = now_ns();
    must(weft_group_kill(group, 0, WEFT_FOREVER), "weft_group_kill");
    figures.ns = (double)(all_blocked - start + now_ns() - go_on) / (double)n;
    must(weft_group_destroy(group), "weft_group_destroy");
    must(weft_runtime_destroy(runtime), "weft_runtime_destroy");
    return figures;
}

static struct figures in_a_process(size_t n)
{
    int ends[2];
    must(pipe(ends) != 0 ? -errno : 0, "pipe");
    fflush(NULL);
    pid_t pid = fork();
    must(pid < 0 ? -errno : 0, "fork");
    struct figures figures = { .bytes = 0 };
    if (pid == 0) {
        figures = block_many(n);
        _exit(write(ends[1], &figures, sizeof figures) == sizeof figures ? 0 : 2);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], &figures, sizeof figures);
    close(ends[0]);
    int status;
    must(waitpid(pid, &status, 0) == pid ? 0 : -errno, "waitpid");
    must(got == sizeof figures && status == 0 ? 0 : -ECHILD, "blocked tasks");
    return figures;
}

static void measure_blocked(const char *bytes_question, const char *ns_question, size_t n, size_t samples)
{
    if (!bench_wants(&bench, bytes_question)) {
        return;
    }
    enum { BYTES_EACH_AT_MOST = 8000 };
    if (read_kb("/proc/meminfo", "MemAvailable") < (double)n * BYTES_EACH_AT_MOST) {
        bench_note("%s: not measured, there is not enough memory", bytes_question);
        return;
    }
    double bytes[MOST_SAMPLES], ns[MOST_SAMPLES];
    struct figures figures = { .bytes = 0 };
    for (size_t i = 0; i < samples; i++) {
        figures = in_a_process(n);
        bytes[i] = figures.bytes;
        ns[i] = figures.ns;
    }
    bench_report(&bench, bytes_question, 1, "bytes", bytes, samples, 5000);
    bench_report(&bench, ns_question, 1, "ns", ns, samples, NO_BUDGET);
    bench_note("guards: %s", figures.guard_mode);
}

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "What does a blocked task take?");
    measure_blocked("a blocked task, 100,000 at once", "spawn + block + wake + end, 100,000 at once", 100000, bench.quick ? 1 : 3);
    if (!bench.quick) {
        measure_blocked("a blocked task, 10^6 at once", "spawn + block + wake + end, 10^6 at once", 1000000, 1);
    }
    return bench_close(&bench);
}
