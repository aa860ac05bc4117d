/* Runs another program and says what it took. */
#ifndef WEFT_BENCH_PROCESS_H
#define WEFT_BENCH_PROCESS_H

struct run {
    char output[512]; /* what it printed, cut off */
    double wall_s, cpu_s, peak_rss_mb;
};

_Noreturn void give_up(const char *what, const char *why);

/* Starts a program, reads what it prints, and waits for it. Gives up if it does not end within limit_s seconds, dies of a signal, or
 * has an exit code above the worst that is fine. */
void run_program(char *const argv[], unsigned limit_s, int worst_exit_code, struct run *run);

#endif
