/* The SIGSEGV and SIGBUS handler, its alternate stacks, and the line that it writes; overflow.h says when.
 *
 * What the handler reads (`query`, the previous actions) is written once, before the handler is in place, and never after. It calls
 * write, sigaction, pthread_sigmask and raise, which are async-signal-safe, and formats by hand, because snprintf is not. */
#include "overflow.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"
#include "sanitize.h"

#define ALTERNATE_BYTES ((size_t)64 * 1024 * WEFT_STACK_FACTOR)
#define LINE_BYTES 512
#define NAME_BYTES_MAX ((size_t)128)

static weft_overflow_query *ask;
static struct sigaction previous_segv, previous_bus;

/* Its address stands in the lowest word of an alternate stack of ours, the one a handler overwrites last: threads may have one of
 * somebody else's (sanitizers give theirs to every thread), and thread-local variables are thread.c's alone (H07). */
static const char ours;

/* ---- The message ---- */

static void append(char *line, size_t *length, const char *text, size_t count)
{
    size_t room = LINE_BYTES - *length;
    count = count < room ? count : room;
    memcpy(line + *length, text, count);
    *length += count;
}

static void append_text(char *line, size_t *length, const char *text) { append(line, length, text, strlen(text)); }

static void append_number(char *line, size_t *length, size_t number)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    append(line, length, digits + at, sizeof(digits) - at);
}

/* The default action of `signal`, now: the process ends as it would have without a handler, and its parent sees it. */
static _Noreturn void die_by(int signal)
{
    struct sigaction standard = { .sa_handler = SIG_DFL };
    (void)sigaction(signal, &standard, NULL);
    sigset_t only;
    (void)sigemptyset(&only);
    (void)sigaddset(&only, signal);
    (void)pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    (void)raise(signal);
    abort();
}

_Noreturn void weft_overflow_die(const struct weft_overflow *what)
{
    char line[LINE_BYTES];
    size_t length = 0;
    if (what->task_name != NULL) {
        append_text(line, &length, "weft: stack overflow in task \"");
        append(line, &length, what->task_name, strnlen(what->task_name, NAME_BYTES_MAX));
        append_text(line, &length, "\"");
    } else {
        append_text(line, &length, "weft: stack overflow in an unnamed task");
    }
    append_text(line, &length, ": its stack of ");
    append_number(line, &length, what->stack_size_bytes);
    append_text(line, &length, " bytes is full; raise ");
    append_text(line, &length, what->from_task_option ? "weft_task_options" : "weft_runtime_options");
    append_text(line, &length, ".stack_size\n");
    os_write_stderr(line, length);
    die_by(SIGSEGV);
}

/* ---- The handler ---- */

/* What the process would have done without us. */
static void chain(int signal, siginfo_t *info, void *context)
{
    struct sigaction *previous = signal == SIGBUS ? &previous_bus : &previous_segv;
    bool sent = info->si_code <= 0; /* by kill and the like, and not by an instruction of this thread */
    if ((previous->sa_flags & SA_SIGINFO) != 0) {
        previous->sa_sigaction(signal, info, context);
    } else if (previous->sa_handler == SIG_IGN && sent) {
        return;
    } else if (previous->sa_handler == SIG_DFL || previous->sa_handler == SIG_IGN) {
        /* The kernel does not let a fault be ignored either. Back in the faulting instruction it strikes again, so that the core
         * shows the place; a signal that was sent does not come again by itself. */
        struct sigaction standard = { .sa_handler = SIG_DFL };
        (void)sigaction(signal, &standard, NULL);
        if (sent) {
            (void)raise(signal);
        }
    } else {
        previous->sa_handler(signal);
    }
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    struct weft_overflow what = { .task_name = NULL };
    if (info->si_code > 0 && ask(info->si_addr, &what)) {
        weft_overflow_die(&what);
    }
    chain(signal, info, context);
    errno = saved;
}

/* The previous handler runs inside ours, so it gets its own mask and its own flags that matter there. */
static int take_over(int signal, struct sigaction *previous)
{
    if (sigaction(signal, NULL, previous) != 0) {
        return -errno;
    }
    struct sigaction action = { .sa_sigaction = on_fault };
    action.sa_mask = previous->sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous->sa_flags & (SA_NODEFER | SA_RESTART));
    return sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
}

int weft_overflow_install(weft_overflow_query *query)
{
    static _Atomic bool installed; /* not a lock: a fork in another thread would leave it held in the child */
    if (a_swap(&installed, true, RELAXED)) {
        return 0;
    }
    ask = query;
    int rc = take_over(SIGSEGV, &previous_segv);
    return rc != 0 ? rc : take_over(SIGBUS, &previous_bus); /* some kernels report a guard page as SIGBUS */
}

/* ---- Alternate stacks ---- */

static size_t alternate_bytes(void)
{
    /* What the kernel itself wants for a signal frame grows with the vector registers. */
    long minimum = sysconf(_SC_MINSIGSTKSZ);
    size_t frame = minimum > 0 ? (size_t)minimum : 0;
    size_t page = os_page_size();
    return (ALTERNATE_BYTES + frame + page - 1) / page * page;
}

int weft_overflow_thread_enter(void)
{
    stack_t current;
    if (sigaltstack(NULL, &current) == 0 && (current.ss_flags & SS_DISABLE) == 0) {
        return 0;
    }
    size_t guard = os_page_size();
    size_t size = alternate_bytes();
    char *base = os_map(guard + size);
    if (base == NULL) {
        return -ENOMEM;
    }
    (void)os_guard_mprotect(base, guard); /* a chained handler may be deep; without the guard it runs as well */
    stack_t wanted = { .ss_sp = base + guard, .ss_size = size };
    if (sigaltstack(&wanted, NULL) != 0) {
        int rc = -errno;
        os_unmap(base, guard + size);
        return rc;
    }
    *(const void **)(void *)(base + guard) = &ours;
    return 0;
}

void weft_overflow_thread_leave(void)
{
    stack_t current;
    if (sigaltstack(NULL, &current) != 0 || (current.ss_flags & SS_DISABLE) != 0 || *(const void **)current.ss_sp != &ours) {
        return;
    }
    stack_t none = { .ss_flags = SS_DISABLE };
    if (sigaltstack(&none, NULL) == 0) { /* it fails on the alternate stack itself: better leaked than gone */
        size_t guard = os_page_size();
        os_unmap((char *)current.ss_sp - guard, guard + current.ss_size);
    }
}
