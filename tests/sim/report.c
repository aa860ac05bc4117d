/* What a failure tells: why, the seed, the threads, the schedule, and with --trace the last points with their lines of source. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

void sim_trace_add(const char *what, const volatile void *address, const void *site)
{
    struct sim_thread *self = sim->current;
    struct sim_event *event = &sim->events[sim->n_events++ % SIM_TRACE_EVENTS];
    *event = (struct sim_event){ what, "", address, site, (unsigned)(self - sim->threads), sim->step };
    memcpy(event->thread, self->name, sizeof event->thread);
}

void sim_count(const char *what)
{
    unsigned i = 0;
    while (i < SIM_COUNTERS && sim->counters[i].what != what && sim->counters[i].what != NULL) {
        i++;
    }
    if (i < SIM_COUNTERS) {
        sim->counters[i].what = what;
        sim->counters[i].times++;
    }
}

void sim_report_counts(void)
{
    for (unsigned i = 0; i < SIM_COUNTERS && sim->counters[i].what != NULL; i++) {
        printf("  %-50s %llu\n", sim->counters[i].what, (unsigned long long)sim->counters[i].times);
    }
}

/* The executables are linked without -pie, so an address in memory is an address in the file. */
static void print_sites(const void *const *sites, char (*lines)[160], unsigned n)
{
    char path[200] = "";
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    for (unsigned i = 0; i < n; i++) {
        snprintf(lines[i], sizeof *lines, "%p", sites[i]);
    }
    size_t room = 64 * 20 + 300;
    char *command = sim_outside(room);
    int used = snprintf(command, room, "addr2line -s -f -e '%s'", length > 0 ? path : "");
    for (unsigned i = 0; i < n; i++) {
        used += snprintf(command + used, room - (size_t)used, " 0x%lx", (unsigned long)sites[i] - (sites[i] != NULL));
    }
    snprintf(command + used, room - (size_t)used, " 2>&1");
    FILE *tool = popen(command, "r");
    if (tool == NULL) {
        return;
    }
    char function[120], place[120];
    for (unsigned i = 0; i < n && fgets(function, sizeof function, tool) != NULL && fgets(place, sizeof place, tool) != NULL; i++) {
        function[strcspn(function, "\n")] = place[strcspn(place, "\n")] = '\0';
        snprintf(lines[i], sizeof *lines, "%.70s %.80s", place, function);
    }
    pclose(tool);
}

static void print_trace(void)
{
    char(*lines)[160] = sim_outside(50 * sizeof *lines);
    const void *sites[50];
    uint64_t first = sim->n_events > SIM_TRACE_EVENTS ? sim->n_events - SIM_TRACE_EVENTS : 0;
    while (first < sim->n_events) {
        unsigned n = (unsigned)(sim->n_events - first < 50 ? sim->n_events - first : 50);
        for (unsigned i = 0; i < n; i++) {
            sites[i] = sim->events[(first + i) % SIM_TRACE_EVENTS].site;
        }
        print_sites(sites, lines, n);
        for (unsigned i = 0; i < n; i++) {
            const struct sim_event *event = &sim->events[(first + i) % SIM_TRACE_EVENTS];
            printf("%7llu  %*s%u %-10s %-5s %-14p %s\n", (unsigned long long)event->step, (int)(2 * (event->id % 8)), "", event->id,
                   event->thread, event->what, (const void *)event->address, lines[i]);
        }
        first += n;
    }
}

static void print_threads(void)
{
    static const char *const states[] = { "free", "ready", "sleeping", "joining", "ended" };
    char(*lines)[160] = sim_outside(SIM_MAX_THREADS * sizeof *lines);
    const void *sites[SIM_MAX_THREADS];
    for (unsigned i = 0; i < sim->n_threads; i++) {
        sites[i] = sim->threads[i].site;
    }
    print_sites(sites, lines, sim->n_threads);
    printf("  clock %lld ns\n", (long long)sim->now);
    for (unsigned i = 0; i < sim->n_threads; i++) {
        const struct sim_thread *thread = &sim->threads[i];
        printf("  %2u %-12s %-9s", i, thread->name, states[thread->state]);
        if (thread->state == SIM_SLEEPING) {
            printf(" on %p", (const void *)thread->word);
            if (thread->deadline != INT64_MAX) {
                printf(" until %lld", (long long)thread->deadline);
            }
        }
        printf(" at %s%s\n", lines[i], thread == sim->current ? "  <- current" : "");
    }
}

static void print_schedule(void)
{
    const struct sim_engine *e = sim;
    printf("schedule:");
    size_t end = e->replaying ? e->position : e->length;
    for (size_t i = 0; i < end;) {
        size_t run = 1;
        while (i + run < end && e->schedule[i + run] == e->schedule[i]) {
            run++;
        }
        printf(run == 1 ? " %u" : " %ux%zu", e->schedule[i], run);
        i += run;
    }
    printf("\n");
}

/* On a stack of its own: the one that failed may be small, or broken. */
static void report(transfer_t from)
{
    struct sim_engine *e = sim;
    const char *why = from.data;
    printf("sim_%s: FAILED: %s\n", e->kernel->name, why);
    const char *strategy = e->strategy == SIM_PCT ? "pct" : "random";
    if (e->replaying) {
        printf("  replayed, point %llu\n", (unsigned long long)e->step);
    } else {
        printf("  seed %llu, strategy %s", (unsigned long long)e->seed, strategy);
        if (e->strategy == SIM_PCT) {
            printf(" (%u changes)", e->depth);
        }
        printf(", point %llu\n  again: sim_%s --first %llu --seeds 1 --strategy %s --trace\n", (unsigned long long)e->step,
               e->kernel->name, (unsigned long long)e->seed, strategy);
    }
    fflush(stdout);
    print_threads();
    if (e->tracing) {
        print_trace();
    }
    sim_report_counts();
    print_schedule();
    fflush(stdout);
    _Exit(1);
}

void sim_report_failure(const char *why)
{
    static bool failing;
    if (failing) { /* a fault while reporting */
        fflush(stdout);
        _Exit(1);
    }
    failing = true;
    sim->inside = false;
    size_t size = 256 * 1024;
    char *stack = sim_outside(size);
    char *kept = sim_outside(512);
    snprintf(kept, 512, "%s", why);
    (void)jump_fcontext(make_fcontext(stack + size, size, report), kept);
    abort();
}

/* Boost's contexts end the process with 0 when their entry function returns (H09); a fiber that runs twice can get there. */
_Noreturn void __wrap__exit(int code);
void __wrap__exit(int code)
{
    (void)code;
    sim_fail("the entry function of a context returned");
}

static void on_signal(int number)
{
    static const char *const names[] = { [SIGSEGV] = "segmentation fault",
                                         [SIGBUS] = "bus error",
                                         [SIGABRT] = "aborted",
                                         [SIGALRM] = "no point reached for a long time",
                                         [SIGFPE] = "arithmetic fault",
                                         [SIGILL] = "illegal instruction",
                                         [SIGTRAP] = "trap" };
    sim_report_failure(names[number]);
}

void sim_catch_signals(void)
{
    size_t size = 64 * 1024;
    sigaltstack(&(stack_t){ .ss_sp = sim_outside(size), .ss_size = size }, NULL);
    static const int numbers[] = { SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGFPE, SIGILL, SIGTRAP };
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER };
        sigaction(numbers[i], &action, NULL);
    }
}

/* Reads what print_schedule wrote, out of a file that may hold the whole report. */
void sim_schedule_read(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    char word[64];
    while (fscanf(file, "%63s", word) == 1 && strcmp(word, "schedule:") != 0) {
    }
    while (fscanf(file, "%63s", word) == 1) {
        char *end;
        unsigned long token = strtoul(word, &end, 10);
        unsigned long times = *end == 'x' ? strtoul(end + 1, &end, 10) : 1;
        if (end == word || *end != '\0' || token > UINT8_MAX) {
            break;
        }
        while (times-- > 0) {
            sim_record((uint8_t)token);
        }
    }
    fclose(file);
    if (sim->length == 0) {
        fprintf(stderr, "%s: no schedule in it\n", path);
        exit(2);
    }
    sim->replaying = true;
}
