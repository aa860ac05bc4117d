/* What does a runtime with nothing to do take? CPU ticks and context switches of its threads in ten seconds; both should be 0. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <weft.h>

#include "measure.h"

enum { SETTLE_MS = 500 }; /* after work ends, workers look for more for about a millisecond */

static struct bench bench;

struct usage {
    unsigned threads;
    unsigned long ticks, switches;
};

static unsigned long read_ticks(const char *task)
{
    char path[300];
    char line[1024] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", task);
    FILE *file = fopen(path, "re");
    must(file == NULL ? -errno : 0, path);
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    const char *after_name = got != NULL ? strrchr(line, ')') : NULL; /* the name may hold anything */
    unsigned long user = 0, system = 0;
    int found =
        after_name == NULL ? 0 : sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    must(found == 2 ? 0 : -EIO, path);
    return user + system;
}

static unsigned long read_switches(const char *task)
{
    char path[300];
    char line[256];
    unsigned long sum = 0, value;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "re");
    must(file == NULL ? -errno : 0, path);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "voluntary_ctxt_switches: %lu", &value) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %lu", &value) == 1) {
            sum += value;
        }
    }
    fclose(file);
    return sum;
}

/* Of every thread but the first, which is the one that measures. */
static struct usage read_usage(void)
{
    struct usage usage = { .threads = 0 };
    char self[16];
    snprintf(self, sizeof self, "%d", (int)getpid());
    DIR *tasks = opendir("/proc/self/task");
    must(tasks == NULL ? -errno : 0, "/proc/self/task");
    for (const struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, self) != 0) {
            usage.threads++;
            usage.ticks += read_ticks(entry->d_name);
            usage.switches += read_switches(entry->d_name);
        }
    }
    closedir(tasks);
    return usage;
}

static int nothing(void *ctx, size_t begin, size_t end)
{
    (void)ctx, (void)begin, (void)end;
    return 0;
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL); }

int main(int argc, char **argv)
{
    bench_open(&bench, argc, argv, "What does an idle runtime take?");
    long seconds = bench.quick ? 2 : 10;
    struct weft_runtime *runtime;
    struct weft_group *group;
    must(weft_runtime_create(NULL, &runtime), "weft_runtime_create");
    must(weft_group_create(runtime, NULL, &group), "weft_group_create");
    must(weft_group_for(group, 0, 1000000, nothing, NULL, NULL), "weft_group_for"); /* so that every worker has worked */
    sleep_ms(SETTLE_MS);
    struct usage before = read_usage();
    sleep_ms(seconds * 1000);
    struct usage after = read_usage();
    char question[64];
    unsigned workers = weft_runtime_workers(runtime);
    double ticks = (double)(after.ticks - before.ticks);
    double switches = (double)(after.switches - before.switches);
    snprintf(question, sizeof question, "idle for %ld s: CPU ticks of all workers", seconds);
    bench_report(&bench, question, workers, "ticks", &ticks, 1, 0);
    snprintf(question, sizeof question, "idle for %ld s: context switches of all workers", seconds);
    bench_report(&bench, question, workers, "switches", &switches, 1, 0);
    bench_note("%u threads, one tick is %ld ms", after.threads, 1000 / sysconf(_SC_CLK_TCK));
    must(weft_group_destroy(group), "weft_group_destroy");
    must(weft_runtime_destroy(runtime), "weft_runtime_destroy");
    return bench_close(&bench);
}
