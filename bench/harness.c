/* Runs the same job on every peer, in turns, and compares: bench/run calls it.
 *
 * Usage: harness [OPTION]... LABEL PROGRAM LINES [LABEL PROGRAM LINES]...
 * The first peer is the serial one. Each run is a process of its own, so that its CPU time and peak memory are its own; in every
 * round the peers run one after another, beginning with another one, so that what disturbs the machine for a while disturbs all. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"
#include "process.h"

enum { MOST_REPEATS = 100, MOST_PEERS = 16, SHA_LENGTH = 64 };

struct peer {
    const char *label, *program;
    double lines;
    double wall[MOST_REPEATS], cpu[MOST_REPEATS], rss[MOST_REPEATS], held[MOST_REPEATS];
    struct summary wall_s, cpu_mean_s, rss_mb, most_held;
    bool ordered;
    unsigned long long read_bytes, written_bytes;
    char sha[SHA_LENGTH + 1];
    bool sha_varies;
};

struct setup {
    const char *input, *scratch, *json, *chart;
    const char *workers, *every, *window, *level;
    size_t repeats;
    unsigned limit_s;
    double others_share; /* of the machine's CPU time, while it was measured */
    size_t n_peers;
    struct peer peers[MOST_PEERS];
};

static void check_sum(struct peer *peer, const char *archive)
{
    struct run run;
    run_program((char *[]){ "sha256sum", (char *)archive, NULL }, 60, 0, &run);
    run.output[SHA_LENGTH] = '\0';
    if (peer->sha[0] != '\0' && strcmp(peer->sha, run.output) != 0) {
        peer->sha_varies = true;
    }
    memcpy(peer->sha, run.output, sizeof peer->sha);
}

/* The bytes that the archive unpacks to. */
static unsigned long long unpacked_bytes(const char *archive)
{
    struct run run;
    run_program((char *[]){ "sh", "-c", "gzip -dc <\"$1\" | wc -c", "sh", (char *)archive, NULL }, 600, 0, &run);
    return strtoull(run.output, NULL, 10);
}

static void pack_once(struct setup *setup, struct peer *peer, size_t repeat)
{
    char archive[4096];
    snprintf(archive, sizeof archive, "%s/%s.gz", setup->scratch, peer->label);
    char *const argv[] = { (char *)peer->program,
                           "--quiet",
                           "--stats",
                           "--workers",
                           (char *)setup->workers,
                           "--every",
                           (char *)setup->every,
                           "--window",
                           (char *)setup->window,
                           "--level",
                           (char *)setup->level,
                           (char *)setup->input,
                           archive,
                           NULL };
    struct run run;
    run_program(argv, setup->limit_s, 1, &run); /* 1: some files could not be read */
    size_t files, held;
    int ordered;
    if (sscanf(run.output, "files %zu skipped %*u read_bytes %llu written_bytes %llu most_held %zu ordered %d", &files,
               &peer->read_bytes, &peer->written_bytes, &held, &ordered) != 5) {
        give_up(peer->program, "printed no counts");
    }
    peer->ordered = ordered != 0;
    peer->wall[repeat] = run.wall_s;
    peer->cpu[repeat] = run.cpu_s;
    peer->rss[repeat] = run.peak_rss_mb;
    peer->held[repeat] = (double)held;
    check_sum(peer, archive);
    if (repeat == 0 && !peer->ordered && unpacked_bytes(archive) != peer->read_bytes) {
        give_up(peer->label, "the archive does not unpack to what was read");
    }
    unlink(archive);
}

static void print_versions(const struct setup *setup)
{
    for (size_t i = 0; i < setup->n_peers; i++) {
        struct run run;
        run_program((char *[]){ (char *)setup->peers[i].program, "--version", NULL }, 10, 0, &run);
        const char *comma = strstr(run.output, ", ");
        printf("peer       %-16s %s", setup->peers[i].label, comma != NULL ? comma + 2 : run.output);
    }
}

static void measure(struct setup *setup)
{
    for (size_t i = 0; i < setup->n_peers; i++) {
        pack_once(setup, &setup->peers[i], 0); /* not counted: brings files and programs into the page cache */
    }
    struct disturbance disturbance = disturbance_begin();
    for (size_t repeat = 0; repeat < setup->repeats; repeat++) {
        for (size_t turn = 0; turn < setup->n_peers; turn++) {
            struct peer *peer = &setup->peers[(turn + repeat) % setup->n_peers];
            pack_once(setup, peer, repeat);
            if (isatty(STDERR_FILENO)) {
                fprintf(stderr, "\r\033[Kround %zu of %zu: %s %.2f s", repeat + 1, setup->repeats, peer->label, peer->wall[repeat]);
            }
        }
    }
    if (isatty(STDERR_FILENO)) {
        fputs("\r\033[K", stderr);
    }
    setup->others_share = disturbance_end(&disturbance);
    for (size_t i = 0; i < setup->n_peers; i++) {
        struct peer *peer = &setup->peers[i];
        peer->wall_s = summarise(peer->wall, setup->repeats);
        peer->cpu_mean_s = summarise(peer->cpu, setup->repeats);
        peer->rss_mb = summarise(peer->rss, setup->repeats);
        peer->most_held = summarise(peer->held, setup->repeats);
    }
}

/* A column of the table: lower is better, the best of the parallel peers is marked. */
enum column { WALL, CPU, RSS, HELD, LINES, N_COLUMNS };

static const char *const column_names[N_COLUMNS] = { "wall", "CPU", "peak RSS", "most items held", "lines of user code" };
static const char *const column_units[N_COLUMNS] = { "s", "s", "MB", "items", "lines" };

static struct summary cell(const struct peer *peer, enum column column)
{
    switch (column) {
    case WALL: return peer->wall_s;
    case CPU: return peer->cpu_mean_s;
    case RSS: return peer->rss_mb;
    case HELD: return peer->most_held;
    default: return (struct summary){ 1, peer->lines, peer->lines, peer->lines };
    }
}

static size_t best_of(const struct setup *setup, enum column column, bool ordered_only, const struct peer *without)
{
    size_t best = 0;
    for (size_t i = 1; i < setup->n_peers; i++) {
        const struct peer *peer = &setup->peers[i];
        if (peer == without || (ordered_only && !peer->ordered)) {
            continue;
        }
        if (best == 0 || cell(peer, column).median < cell(&setup->peers[best], column).median) {
            best = i;
        }
    }
    return best;
}

static char mark(const struct setup *setup, size_t peer, enum column column)
{
    size_t best = best_of(setup, column, false, NULL);
    return peer != 0 && cell(&setup->peers[peer], column).median <= cell(&setup->peers[best], column).median ? '*' : ' ';
}

static void print_table(const struct setup *setup)
{
    const struct peer *serial = &setup->peers[0];
    printf("\n%-16s %8s %-15s %8s %7s %9s %6s %6s  %s\n", "peer", "wall s", "(min to max)", "speed-up", "CPU s", "RSS MB", "held",
           "lines", "SHA-256 of the archive");
    for (size_t i = 0; i < setup->n_peers; i++) {
        const struct peer *p = &setup->peers[i];
        char spread[32];
        snprintf(spread, sizeof spread, "(%.2f to %.2f)", p->wall_s.min, p->wall_s.max);
        printf("%-16s %7.3f%c %-15s %8.2f %6.2f%c %8.1f%c %5.0f%c %5.0f%c  %.16s%s\n", p->label, p->wall_s.median,
               mark(setup, i, WALL), spread, serial->wall_s.median / p->wall_s.median, p->cpu_mean_s.median, mark(setup, i, CPU),
               p->rss_mb.median, mark(setup, i, RSS), p->most_held.median, mark(setup, i, HELD), p->lines, mark(setup, i, LINES),
               p->sha, p->ordered ? "" : " in the order of completion; unpacks to as many bytes");
    }
    printf("* the best of the parallel ones; figures are medians of %zu interleaved runs\n", setup->repeats);
    disturbance_print(setup->others_share);
}

static void print_verdict(const struct setup *setup)
{
    const struct peer *serial = &setup->peers[0];
    bool equal = true;
    for (size_t i = 0; i < setup->n_peers; i++) {
        const struct peer *peer = &setup->peers[i];
        if (peer->ordered && (peer->sha_varies || strcmp(peer->sha, serial->sha) != 0)) {
            printf("WRONG: %s wrote another archive than %s\n", peer->label, serial->label);
            equal = false;
        }
    }
    if (equal) {
        printf("all ordered archives are equal, in every run\n");
    }
    const struct peer *weft = NULL;
    for (size_t i = 1; i < setup->n_peers && weft == NULL; i++) {
        weft = strncmp(setup->peers[i].label, "weft", 4) == 0 ? &setup->peers[i] : NULL;
    }
    if (weft == NULL) {
        return;
    }
    for (enum column column = 0; column < N_COLUMNS; column++) {
        size_t best = best_of(setup, column, true, weft);
        double ours = cell(weft, column).median;
        double theirs = cell(&setup->peers[best], column).median;
        printf("%s against the best other ordered one in %s: %.3g against %.3g %s (%s), %+.1f %%%s\n", weft->label,
               column_names[column], ours, theirs, column_units[column], setup->peers[best].label, (ours / theirs - 1) * 100,
               ours > theirs ? ": weft loses" : "");
    }
}

static void write_results(const struct setup *setup)
{
    FILE *json = fopen(setup->json, "we");
    FILE *chart = fopen(setup->chart, "we");
    if (json == NULL || chart == NULL) {
        give_up("results", strerror(errno));
    }
    unsigned workers = (unsigned)strtoul(setup->workers, NULL, 10);
    for (size_t i = 0; i < setup->n_peers; i++) {
        const struct peer *peer = &setup->peers[i];
        for (enum column column = 0; column < N_COLUMNS; column++) {
            char question[64];
            snprintf(question, sizeof question, "pack: %s", column_names[column]);
            struct record record = { question, peer->label, i == 0 ? 1 : workers, column_units[column], cell(peer, column) };
            record_write(json, &record);
        }
        fprintf(chart, "\"%s\" %g %g %g %g\n", peer->label, peer->wall_s.median, peer->wall_s.min, peer->wall_s.max,
                peer->rss_mb.median);
    }
    if (fclose(json) != 0 || fclose(chart) != 0) {
        give_up("results", strerror(errno));
    }
}

static void parse(int argc, char **argv, struct setup *setup)
{
    static const struct option known[] = {
        { "input", required_argument, NULL, 'i' },
        { "scratch", required_argument, NULL, 's' },
        { "json", required_argument, NULL, 'j' },
        { "chart", required_argument, NULL, 'c' },
        { "workers", required_argument, NULL, 'w' },
        { "every", required_argument, NULL, 'e' },
        { "window", required_argument, NULL, 'W' },
        { "level", required_argument, NULL, 'l' },
        { "repeats", required_argument, NULL, 'r' },
        { "limit", required_argument, NULL, 'L' },
        { NULL, 0, NULL, 0 },
    };
    static char default_workers[16];
    snprintf(default_workers, sizeof default_workers, "%u", machine_cpus());
    setup->scratch = ".";
    setup->json = setup->chart = "/dev/null";
    setup->workers = default_workers;
    setup->every = "1";
    setup->window = "256";
    setup->level = "6";
    setup->repeats = 5;
    setup->limit_s = 120;
    int option;
    while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        switch (option) {
        case 'i': setup->input = optarg; break;
        case 's': setup->scratch = optarg; break;
        case 'j': setup->json = optarg; break;
        case 'c': setup->chart = optarg; break;
        case 'w': setup->workers = optarg; break;
        case 'e': setup->every = optarg; break;
        case 'W': setup->window = optarg; break;
        case 'l': setup->level = optarg; break;
        case 'r': setup->repeats = strtoul(optarg, NULL, 10); break;
        case 'L': setup->limit_s = (unsigned)strtoul(optarg, NULL, 10); break;
        default: exit(2);
        }
    }
    int rest = argc - optind;
    if (setup->input == NULL || rest == 0 || rest % 3 != 0 || rest / 3 > MOST_PEERS || setup->repeats < 1 ||
        setup->repeats > MOST_REPEATS) {
        give_up("usage", "--input DIR [OPTION]... LABEL PROGRAM LINES...");
    }
    for (int i = optind; i < argc; i += 3) {
        setup->peers[setup->n_peers++] =
            (struct peer){ .label = argv[i], .program = argv[i + 1], .lines = strtod(argv[i + 2], NULL) };
    }
}

int main(int argc, char **argv)
{
    static struct setup setup;
    parse(argc, argv, &setup);
    setvbuf(stdout, NULL, _IOLBF, 0);
    machine_print();
    print_versions(&setup);
    measure(&setup);
    const struct peer *serial = &setup.peers[0];
    printf("job        %s, %.1f MB to %.1f MB, level %s, window %s, %s workers\n", setup.input, (double)serial->read_bytes / 1e6,
           (double)serial->written_bytes / 1e6, setup.level, setup.window, setup.workers);
    print_table(&setup);
    print_verdict(&setup);
    write_results(&setup);
    return 0;
}
