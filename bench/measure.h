/* What every benchmark does the same way: reads the clock, summarises samples, says on which machine, writes results.
 *
 * Results are JSON objects, one a line, {question, peer, workers, unit, n, median, min, max}; bench/run joins them to a list. */
#ifndef WEFT_BENCH_MEASURE_H
#define WEFT_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int64_t now_ns(void);

struct summary {
    size_t n;
    double median, min, max;
};

/* Sorts the samples. n is at least 1. */
struct summary summarise(double *samples, size_t n);

struct record {
    const char *question, *peer;
    unsigned workers;
    const char *unit;
    struct summary summary;
};

/* `file` may be NULL. */
void record_write(FILE *file, const struct record *record);

/* Kernel, processor, CPUs that may be used, compiler: lines for people. */
void machine_print(void);
unsigned machine_cpus(void);

/* What else the machine did, while something was measured. */
struct disturbance {
    double all_s, ours_s; /* CPU time: of all processes, of this one and its children */
    double begin_s;
};

struct disturbance disturbance_begin(void);
/* The share of the machine's CPU time since the beginning that others used, and, in a virtual machine, that its host took away. */
double disturbance_end(const struct disturbance *begin);

/* Says so in a line, and whether it is too much. */
void disturbance_print(double others_share);

/* The micro-benchmarks: options --json FILE, --quick, --only WORD; then a table with the budget beside each figure. */

struct bench {
    FILE *json;
    bool quick;       /* fewer samples and smaller sizes, for a look */
    const char *only; /* measure only questions that contain this */
    unsigned over;    /* figures above their budget */
    struct disturbance disturbance;
};

/* Parses the options (or ends the process) and prints what is measured and where. */
void bench_open(struct bench *bench, int argc, char **argv, const char *title);
/* Whether to measure this one. */
bool bench_wants(const struct bench *bench, const char *question);
/* Prints a line and writes a record. `budget`: the most that the figure should be, or NO_BUDGET. */
#define NO_BUDGET (-1.0)
void bench_report(struct bench *bench, const char *question, unsigned workers, const char *unit, double *samples, size_t n,
                  double budget);
/* An indented remark below the last line. */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Returns main's exit code: 0; a figure above its budget is no error. */
int bench_close(struct bench *bench);

/* Ends the process unless rc is 0: a benchmark has no use for a failure. */
void must(int rc, const char *what);

#endif
