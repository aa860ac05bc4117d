/* weft-pack DIR OUT: options, then tree → engine → archive. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "output.h"
#include "progress.h"

enum { EXIT_SKIPPED = 1, EXIT_ERROR = 2 };
enum { DEFAULT_LEVEL = 6, DEFAULT_WINDOW = 256, MOST_WORKERS = 4096 };

struct options {
    const char *directory, *out;
    struct engine_options engine;
    int level;
    size_t every;
    bool quiet, stats, progress;
};

static const char help[] = "Usage: %s [OPTION]... DIR OUT\n"
                           "Compress every regular file below DIR, in path order, into OUT: one gzip member a\n"
                           "file, so that zcat OUT is the files concatenated. Links are not followed.\n"
                           "%s.\n\n"
                           "  -l, --level N    zlib's level, 0 to 9 (6)\n"
                           "  -j, --jobs N     files compressed at once, the size of the pool (as workers)\n"
                           "      --window N   files begun and not yet written: the bound on memory (256)\n"
                           "      --workers N  worker threads (the CPUs this process may use)\n"
                           "      --every N    only each N-th file: a sample for quick measurements (1)\n"
                           "      --stats      print one line of counts on standard output at the end\n"
                           "  -q, --quiet      no progress and no summary; errors only\n"
                           "  -h, --help       this text\n"
                           "  -V, --version    versions of this program and of the library it runs on\n\n"
                           "Exit status: 0 all files packed, 1 some could not be read (they are named and\n"
                           "skipped), 2 an error; OUT is then as it was before.\n";

static _Noreturn void bad_usage(void)
{
    fprintf(stderr, "Try '%s --help'.\n", program_invocation_short_name);
    exit(EXIT_ERROR);
}

static size_t parse_number(const char *option, const char *text, size_t least, size_t most)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < least || value > most) {
        fprintf(stderr, "%s: --%s: '%s' is not a number from %zu to %zu\n", program_invocation_short_name, option, text, least,
                most);
        bad_usage();
    }
    return value;
}

static void parse(int argc, char **argv, struct options *o)
{
    enum { WINDOW = 256, WORKERS, EVERY, STATS };
    static const struct option known[] = {
        { "level", required_argument, NULL, 'l' },     { "jobs", required_argument, NULL, 'j' },
        { "window", required_argument, NULL, WINDOW }, { "workers", required_argument, NULL, WORKERS },
        { "every", required_argument, NULL, EVERY },   { "stats", no_argument, NULL, STATS },
        { "quiet", no_argument, NULL, 'q' },           { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },         { NULL, 0, NULL, 0 },
    };
    *o = (struct options){ .level = DEFAULT_LEVEL, .every = 1, .engine.window = DEFAULT_WINDOW };
    int option;
    while ((option = getopt_long(argc, argv, "l:j:qhV", known, NULL)) != -1) {
        switch (option) {
        case 'l': o->level = (int)parse_number("level", optarg, 0, 9); break;
        case 'j': o->engine.jobs = parse_number("jobs", optarg, 1, INT32_MAX); break;
        case WINDOW: o->engine.window = parse_number("window", optarg, 1, INT32_MAX); break;
        case WORKERS: o->engine.workers = (unsigned)parse_number("workers", optarg, 1, MOST_WORKERS); break;
        case EVERY: o->every = parse_number("every", optarg, 1, INT32_MAX); break;
        case STATS: o->stats = true; break;
        case 'q': o->quiet = true; break;
        case 'h': printf(help, program_invocation_short_name, engine.summary); exit(EXIT_SUCCESS);
        case 'V': printf("%s %s, %s\n", engine.name, PACK_VERSION, engine.version()); exit(EXIT_SUCCESS);
        default: bad_usage(); /* getopt has named the option */
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr, "%s: expected a directory and an output file\n", program_invocation_short_name);
        bad_usage();
    }
    o->progress = !o->quiet && isatty(STDERR_FILENO);
    o->directory = argv[optind];
    o->out = argv[optind + 1];
}

unsigned engine_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
    return online > 0 ? (unsigned)online : 1;
}

static int complain(const char *what, int rc)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(-rc));
    return EXIT_ERROR;
}

static void summarise(const struct options *o, const struct job_totals *totals, double seconds)
{
    if (!o->quiet) {
        fprintf(stderr, "%zu files, %.1f MB in, %.1f MB out, %.2f s, %.1f MB/s\n", totals->packed, (double)totals->read_bytes / 1e6,
                (double)totals->written_bytes / 1e6, seconds, (double)totals->read_bytes / 1e6 / seconds);
    }
    if (o->stats) {
        printf("files %zu skipped %zu read_bytes %llu written_bytes %llu most_held %zu ordered %d\n", totals->packed,
               totals->skipped, (unsigned long long)totals->read_bytes, (unsigned long long)totals->written_bytes,
               totals->most_held, engine.ordered);
    }
}

/* From an open archive to a finished one, or none. */
static int pack(const struct options *o, const struct tree *tree, struct output *output)
{
    struct progress progress;
    progress_init(&progress, o->progress, tree->n, tree->total_bytes);
    struct job *job = job_create(tree, output, &progress, o->level);
    int rc = job == NULL ? -ENOMEM : engine.run(job, &o->engine);
    progress_clear(&progress);
    bool committing = rc == 0;
    if (committing) {
        rc = output_commit(output);
    } else {
        output_abandon(output);
    }
    int status = EXIT_ERROR;
    if (rc != 0) {
        complain(committing || (job != NULL && job_output_failed(job)) ? o->out : "cannot pack", rc);
    } else {
        struct job_totals totals = job_read_totals(job);
        totals.skipped += tree->n_skipped;
        summarise(o, &totals, progress_seconds(&progress));
        status = totals.skipped == 0 ? EXIT_SUCCESS : EXIT_SKIPPED;
    }
    job_destroy(job);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    parse(argc, argv, &options);

    struct tree_options tree_options = { .sizes = options.progress, .every = options.every };
    struct stat stat_out;
    if (stat(options.out, &stat_out) == 0) {
        tree_options.exclude = true;
        tree_options.exclude_device = stat_out.st_dev;
        tree_options.exclude_inode = stat_out.st_ino;
    }
    struct tree tree; /* read before the archive is made, which may be inside */
    int rc = tree_read(&tree, options.directory, &tree_options);
    if (rc != 0) {
        return complain(options.directory, rc);
    }
    struct output output;
    rc = output_open(&output, options.out);
    int status = rc == 0 ? pack(&options, &tree, &output) : complain(options.out, rc);
    tree_fini(&tree);
    if (fflush(stdout) != 0 && status == EXIT_SUCCESS) {
        status = complain("standard output", -errno);
    }
    return status;
}
