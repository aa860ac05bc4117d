/* Runs a function in a child process and brings back how it ended and what it wrote to standard error: for what ends a process. */
#ifndef WEFT_CHILD_H
#define WEFT_CHILD_H

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __cplusplus
#include "sanitize.h"

#if WEFT_TSAN
/* The children start threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }
#endif
#endif

struct child {
    int status; /* waitpid's; 0 if the function returned */
    char text[4096];
};

static inline struct child child_run(void (*function)(void))
{
    struct child child = { -1, { 0 } }; /* C++ reads this, too */
    int ends[2];
    if (pipe(ends) != 0) {
        return child;
    }
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit none = { 0, 0 };
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        function();
        _exit(0);
    }
    (void)close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length < sizeof(child.text) - 1 && (got = read(ends[0], child.text + length, sizeof(child.text) - 1 - length)) > 0) {
        length += (size_t)got;
    }
    (void)close(ends[0]);
    (void)waitpid(pid, &child.status, 0);
    return child;
}

static inline bool child_died_by(const struct child *child, int signal)
{
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == signal;
}

/* In the child: what is not so is said on standard error, and ends it. */
#define must(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
            _exit(1);                                                             \
        }                                                                         \
    } while (0)

#endif
