/* Turns a stack overflow of a task into a message (contract R8, hazards H17 and H18).
 *
 * One SIGSEGV/SIGBUS handler for the process, on an alternate stack per worker. For every fault it asks `query` whether the
 * address is a guard that the fiber running on this thread can have hit; if so it writes one line to stderr that names the task,
 * its stack size and the option to raise, restores the default action and lets the fault end the process. Any other fault goes to
 * the handler that was there before. The handler is async-signal-safe: it neither locks nor allocates. */
#ifndef WEFT_OVERFLOW_H
#define WEFT_OVERFLOW_H

#include "base.h"

struct weft_overflow {
    const char *task_name; /* NULL: unnamed */
    size_t stack_size_bytes;
    bool from_task_option; /* which option to raise: weft_task_options.stack_size or weft_runtime_options.stack_size */
};

typedef bool weft_overflow_query(const void *address, struct weft_overflow *what);

/* Installs the handler, once per process; later calls return 0 and change nothing. */
int weft_overflow_install(weft_overflow_query *query);
/* Gives the calling thread an alternate signal stack, and takes it away again. enter fails with -ENOMEM. */
int weft_overflow_thread_enter(void);
void weft_overflow_thread_leave(void);
/* Writes the line for `what` and ends the process; also called when a canary is found broken. */
_Noreturn void weft_overflow_die(const struct weft_overflow *what);

#endif
