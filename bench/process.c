#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

_Noreturn void give_up(const char *what, const char *why)
{
    fprintf(stderr, "harness: %s: %s\n", what, why);
    exit(2);
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

void run_program(char *const argv[], unsigned limit_s, int worst_exit_code, struct run *run)
{
    int ends[2];
    if (pipe(ends) != 0) {
        give_up("pipe", strerror(errno));
    }
    int64_t start = now_ns();
    pid_t pid = fork();
    if (pid < 0) {
        give_up("fork", strerror(errno));
    }
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        alarm(limit_s); /* survives exec; SIGALRM ends the program */
        execvp(argv[0], argv);
        fprintf(stderr, "harness: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t n;
    while ((n = read(ends[0], run->output + used, sizeof run->output - 1 - used)) > 0) {
        used += (size_t)n;
    }
    run->output[used] = '\0';
    close(ends[0]);
    int status;
    struct rusage usage;
    while (wait4(pid, &status, 0, &usage) < 0) {
        if (errno != EINTR) {
            give_up("wait4", strerror(errno));
        }
    }
    run->wall_s = (double)(now_ns() - start) / 1e9;
    run->cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    run->peak_rss_mb = (double)usage.ru_maxrss * 1024 / 1e6;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        give_up(argv[0], "did not end in time");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) > worst_exit_code) {
        give_up(argv[0], "failed");
    }
}
