/* debugger: a backtrace on a fiber ends at its first frame, for one that runs and for one that is parked (H12). Needs gdb. */
#include "testing.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "sanitize.h"
#include "task.h"
#include "tasks.h"

struct weft_task *parked_task; /* the debugger looks here */

static weft_noinline int sleep_deep_inside(int depth)
{
    if (depth > 0) {
        return sleep_deep_inside(depth - 1) + 1;
    }
    gate_open(&begun);
    return weft_sleep_until(WEFT_FOREVER);
}

static int park_here(void *arg, void **value)
{
    (void)arg, (void)value;
    return sleep_deep_inside(3);
}

static weft_noinline void spin_deep_inside(void)
{
    gate_open(&begun);
    for (volatile int i = 0; i == 0;) {
    }
}

static int run_here(void *arg, void **value)
{
    (void)arg, (void)value;
    spin_deep_inside();
    return 0;
}

/* The process that is looked at: one task is parked, one runs, one worker is idle. Says so through `ready`, then waits for its end. */
static void be_looked_at(int ready)
{
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    (void)alarm(120);
    struct weft_runtime *runtime = runtime_with(2);
    parked_task = spawn_in(runtime, park_here, NULL);
    gate_wait(&begun, 1);
    struct weft_slot *slot = a_load(&parked_task->scope.slot, ACQUIRE);
    until(weft_claim_state(a_load(&slot->claim, ACQUIRE)) == WEFT_CLAIM_PARKED);
    (void)spawn_in(runtime, run_here, NULL);
    gate_wait(&begun, 2);
    (void)!write(ready, "x", 1);
    for (;;) {
        (void)pause();
    }
}

static char text[1 << 16];

static bool look_with_gdb(pid_t pid)
{
    char command[2048];
    (void)snprintf(
        command, sizeof command,
        "gdb -nx -batch -p %d -ex 'set width 0' -ex 'thread apply all bt'"
#if defined(__x86_64__)
        /* What Boost.Context has saved of the parked one: control words, r12 to r15, rbx, rbp, rip. */
        " -ex 'thread 1' -ex 'frame 0' -ex 'set $at = (long *)((struct weft_fiber *)parked_task->scope.slot)->context.fctx'"
        " -ex 'set $r12 = $at[1]' -ex 'set $r13 = $at[2]' -ex 'set $r14 = $at[3]' -ex 'set $r15 = $at[4]'"
        " -ex 'set $rbx = $at[5]' -ex 'set $rbp = $at[6]' -ex 'set $rsp = (long)($at + 8)' -ex 'set $rip = $at[7]'"
        " -ex 'echo PARKED\\n' -ex bt -ex 'echo END\\n'"
#endif
        " -ex kill 2>&1 </dev/null",
        (int)pid);
    FILE *gdb = popen(command, "r");
    size_t length = gdb ? fread(text, 1, sizeof text - 1, gdb) : 0;
    text[length] = '\0';
    return gdb && pclose(gdb) == 0;
}

/* The frame that holds `function` is followed by others, of which the last is the trampoline's. */
static void check_backtrace(const char *from, const char *function)
{
    const char *frame = strstr(from, function);
    cr_assert_not_null(frame, "%s is not in it: %s", function, text);
    const char *last = strstr(frame, "trampoline");
    cr_assert_not_null(last, "%s has no first frame: %s", function, text);
    const char *line = strchr(last, '\n');
    cr_assert_not_null(line);
    cr_assert_neq(line[1], '#', "it goes on: %s", text);
}

Test(debugger, backtrace_of_a_fiber_ends_H12, .timeout = 120)
{
    if (system("gdb --version >/dev/null 2>&1") != 0) {
        cr_skip("gdb is missing");
    }
    int ends[2];
    char byte;
    cr_assert_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_looked_at(ends[1]);
    }
    (void)close(ends[1]);
    cr_assert_eq(read(ends[0], &byte, 1), 1);
    bool looked = look_with_gdb(pid);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    if (!looked || strstr(text, "ptrace: Operation not permitted")) {
        cr_skip("gdb may not look at processes here");
    }
    cr_assert_null(strstr(text, "Backtrace stopped"), "%s", text);
    cr_assert_null(strstr(text, "corrupt stack"), "%s", text);
    check_backtrace(text, "spin_deep_inside");
    check_backtrace(text, "weft_idle_park");
#if defined(__x86_64__)
    const char *parked = strstr(text, "PARKED");
    cr_assert_not_null(parked, "%s", text);
    check_backtrace(parked, "sleep_deep_inside");
#endif
}
