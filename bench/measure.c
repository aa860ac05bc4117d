#include "measure.h"

#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

struct summary summarise(double *samples, size_t n)
{
    qsort(samples, n, sizeof *samples, ascending);
    double median = n % 2 == 1 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
    return (struct summary){ .n = n, .median = median, .min = samples[0], .max = samples[n - 1] };
}

static void write_string(FILE *file, const char *text)
{
    putc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            putc('\\', file);
        }
        putc(*text, file);
    }
    putc('"', file);
}

void record_write(FILE *file, const struct record *r)
{
    if (file == NULL) {
        return;
    }
    fputs("{\"question\": ", file);
    write_string(file, r->question);
    fputs(", \"peer\": ", file);
    write_string(file, r->peer);
    fprintf(file, ", \"workers\": %u, \"unit\": ", r->workers);
    write_string(file, r->unit);
    fprintf(file, ", \"n\": %zu, \"median\": %.6g, \"min\": %.6g, \"max\": %.6g}\n", r->summary.n, r->summary.median,
            r->summary.min, r->summary.max);
}

unsigned machine_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static void print_processor(void)
{
    char line[256];
    char name[256] = "unknown processor";
    FILE *info = fopen("/proc/cpuinfo", "re");
    while (info != NULL && fgets(line, sizeof line, info) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", strlen("model name")) == 0 && colon != NULL) {
            snprintf(name, sizeof name, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (info != NULL) {
        fclose(info);
    }
    printf("processor  %s, %u CPUs to use\n", name, machine_cpus());
}

void machine_print(void)
{
    struct utsname name;
    if (uname(&name) == 0) {
        printf("kernel     %s %s %s\n", name.sysname, name.release, name.machine);
    }
    print_processor();
#ifdef __clang__
    printf("compiler   %s\n", __VERSION__);
#else
    printf("compiler   gcc %s\n", __VERSION__);
#endif
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

/* CPU time of all processes since the machine started: all of /proc/stat's first line but the idle columns (proc(5)). */
static double all_cpu_s(void)
{
    double user = 0, nice = 0, system = 0, irq = 0, softirq = 0, steal = 0;
    FILE *file = fopen("/proc/stat", "re");
    int found =
        file == NULL ? 0 : fscanf(file, "cpu %lf %lf %lf %*f %*f %lf %lf %lf", &user, &nice, &system, &irq, &softirq, &steal);
    if (file != NULL) {
        fclose(file);
    }
    return found == 6 ? (user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static double our_cpu_s(void)
{
    struct rusage self, children;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return seconds(self.ru_utime) + seconds(self.ru_stime) + seconds(children.ru_utime) + seconds(children.ru_stime);
}

struct disturbance disturbance_begin(void)
{
    return (struct disturbance){ .all_s = all_cpu_s(), .ours_s = our_cpu_s(), .begin_s = (double)now_ns() / 1e9 };
}

double disturbance_end(const struct disturbance *begin)
{
    double others_s = (all_cpu_s() - begin->all_s) - (our_cpu_s() - begin->ours_s);
    double wall_s = (double)now_ns() / 1e9 - begin->begin_s;
    return others_s > 0 ? others_s / (wall_s * (double)sysconf(_SC_NPROCESSORS_ONLN)) : 0;
}

void disturbance_print(double others_share)
{
    static const double too_much = 0.03;
    printf("other processes used %.1f %% of the machine meanwhile%s\n", others_share * 100,
           others_share > too_much ? ": TOO MUCH for the figures to be trusted" : "");
}

static const char help[] = "Usage: %s [--json FILE] [--quick] [--only WORD]\n"
                           "%s.\n\n"
                           "  --json FILE  write the results there, one object a line\n"
                           "  --quick      fewer samples, smaller sizes\n"
                           "  --only WORD  measure only the questions that contain WORD\n";

void bench_open(struct bench *bench, int argc, char **argv, const char *title)
{
    static const struct option known[] = {
        { "json", required_argument, NULL, 'j' },
        { "quick", no_argument, NULL, 'q' },
        { "only", required_argument, NULL, 'o' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    *bench = (struct bench){ .json = NULL };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'j':
            bench->json = fopen(optarg, "we");
            if (bench->json == NULL) {
                perror(optarg);
                exit(2);
            }
            break;
        case 'q': bench->quick = true; break;
        case 'o': bench->only = optarg; break;
        case 'h': printf(help, argv[0], title); exit(0);
        default: fprintf(stderr, help, argv[0], title); exit(2);
        }
    }
    bench->disturbance = disturbance_begin();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("\n%s\n", title);
    machine_print();
    printf("%-58s %7s %10s %-24s %5s %8s\n", "", "workers", "median", "(min to max)", "runs", "budget");
}

bool bench_wants(const struct bench *bench, const char *question)
{
    return bench->only == NULL || strstr(question, bench->only) != NULL;
}

void bench_report(struct bench *bench, const char *question, unsigned workers, const char *unit, double *samples, size_t n,
                  double budget)
{
    struct summary s = summarise(samples, n);
    char spread[64];
    snprintf(spread, sizeof spread, "(%.4g to %.4g) %s", s.min, s.max, unit);
    printf("%-58s %7u %10.4g %-24s %5zu", question, workers, s.median, spread, s.n);
    if (budget >= 0) {
        bool over = s.median > budget;
        bench->over += over;
        printf(" %8.4g%s", budget, over ? "  over" : "");
    }
    putchar('\n');
    record_write(bench->json, &(struct record){ question, "weft", workers, unit, s });
}

void bench_note(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("    ", stdout);
    vprintf(format, list);
    putchar('\n');
    va_end(list);
}

int bench_close(struct bench *bench)
{
    disturbance_print(disturbance_end(&bench->disturbance));
    if (bench->over > 0) {
        printf("%u above budget\n", bench->over);
    }
    if (bench->json != NULL && fclose(bench->json) != 0) {
        perror("results");
        return 2;
    }
    return 0;
}

void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(rc < 0 ? -rc : rc));
        exit(2);
    }
}
