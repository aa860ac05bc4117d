/* overflow: the message, the signal that ends the process, and that everybody else's faults go where they went before.
 *
 * Each case runs in a child process. Real overflows happen on a thread whose stack was carved by stack.c. */
#include "testing.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "child.h"
#include "memory.h"
#include "os.h"
#include "overflow.h"
#include "sanitize.h"
#include "stack.h"

#define KIB ((size_t)1024)

/* ---- The message ---- */

static void die_named(void)
{
    weft_overflow_die(&(struct weft_overflow){ .task_name = "resize", .stack_size_bytes = 65536, .from_task_option = true });
}

static void die_unnamed(void) { weft_overflow_die(&(struct weft_overflow){ .stack_size_bytes = 1048576 }); }

static void die_with_a_long_name(void)
{
    static char name[3000];
    memset(name, 'n', sizeof(name) - 1);
    weft_overflow_die(&(struct weft_overflow){ .task_name = name, .stack_size_bytes = SIZE_MAX });
}

Test(overflow, message_names_task_size_and_option_H18)
{
    struct child child = child_run(die_named);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_str_eq(
        child.text,
        "weft: stack overflow in task \"resize\": its stack of 65536 bytes is full; raise weft_task_options.stack_size\n");
    child = child_run(die_unnamed);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_str_eq(
        child.text,
        "weft: stack overflow in an unnamed task: its stack of 1048576 bytes is full; raise weft_runtime_options.stack_size\n");
    child = child_run(die_with_a_long_name);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_not_null(
        strstr(child.text, "nnn\": its stack of 18446744073709551615 bytes is full; raise weft_runtime_options.stack_size\n"));
}

/* ---- Real overflows ---- */

static struct weft_stack stack;

static bool on_our_stack(const void *address, struct weft_overflow *what)
{
    what->task_name = "deep";
    what->stack_size_bytes = stack.size_bytes;
    return weft_stack_is_overflow(&stack, address);
}

static weft_noinline int recurse(volatile char *above, int depth)
{
    volatile char frame[512];
    frame[0] = above[0];
    return depth == 0 ? frame[0] : recurse(frame, depth - 1) + frame[0];
}

static void *recurse_without_end(void *arg)
{
    (void)arg;
    volatile char first = 1;
    (void)weft_overflow_thread_enter();
    return recurse(&first, 1 << 30) == 0 ? NULL : &stack;
}

/* Touches one byte, 100 KiB below: more than a page-sized guard, less than ours. */
__attribute__((no_sanitize("address"))) static void *use_a_big_frame(void *arg)
{
    (void)weft_overflow_thread_enter();
    volatile char *here = (volatile char *)__builtin_frame_address(0);
    volatile char *below = stack.base + stack.guard_bytes - 100 * KIB;
    *(here < below ? here : below) = *(char *)arg;
    return NULL;
}

static void run_on_our_stack(void *(*function)(void *))
{
    struct weft_stack_class cls;
    pthread_attr_t attributes;
    pthread_t thread;
    char byte = 0;
    (void)weft_overflow_install(on_our_stack);
    weft_stack_class_init(&cls, 128 * KIB * WEFT_STACK_FACTOR, 128 * KIB);
    if (weft_stack_carve(&cls, &stack) != 0 || weft_stack_carve(&cls, &stack) != 0) {
        _exit(3);
    }
    (void)pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack.base + stack.guard_bytes, stack.size_bytes) != 0 ||
        pthread_create(&thread, &attributes, function, &byte) != 0) {
        _exit(4);
    }
    (void)pthread_join(thread, NULL);
}

static void overflow_by_recursion(void) { run_on_our_stack(recurse_without_end); }
static void overflow_by_a_big_frame(void) { run_on_our_stack(use_a_big_frame); }

static void overflow_with_mprotect(void)
{
    weft_stack_limit_guards(OS_GUARD_MPROTECT, SIZE_MAX);
    run_on_our_stack(recurse_without_end);
}

static void check_overflow(void (*function)(void))
{
    struct child child = child_run(function);
    char expected[200];
    (void)snprintf(expected, sizeof(expected),
                   "weft: stack overflow in task \"deep\": its stack of %zu bytes is full; raise weft_runtime_options.stack_size\n",
                   128 * KIB * WEFT_STACK_FACTOR);
    cr_assert(child_died_by(&child, SIGSEGV), "status %x, %s", (unsigned)child.status, child.text);
    cr_assert_str_eq(child.text, expected);
}

Test(overflow, endless_recursion_is_reported_H18)
{
    check_overflow(overflow_by_recursion);
    check_overflow(overflow_with_mprotect);
}

Test(overflow, a_big_frame_lands_in_the_guard_H17) { check_overflow(overflow_by_a_big_frame); }

/* ---- Everybody else's faults ---- */

static bool nobodys(const void *address, struct weft_overflow *what)
{
    (void)address, (void)what;
    return false;
}

static bool anybodys(const void *address, struct weft_overflow *what)
{
    (void)address;
    what->stack_size_bytes = 1;
    return true;
}

static char *forbidden; /* faults on touch */

static void forbid(void)
{
    forbidden = os_map(os_page_size());
    (void)os_guard_mprotect(forbidden, os_page_size());
}

static void touch(void) { *(volatile char *)forbidden = 1; }

static sigjmp_buf back;
static volatile int calls;
static volatile const void *where;
static volatile bool masked, usr1_masked;

static void take_note(int signal, siginfo_t *info, void *context)
{
    (void)context;
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    masked = sigismember(&mask, signal) == 1;
    usr1_masked = sigismember(&mask, SIGUSR1) == 1;
    where = info != NULL ? info->si_addr : NULL;
    calls++;
    siglongjmp(back, 1);
}

static void take_note_plainly(int signal) { take_note(signal, NULL, NULL); }

static void set_action(int signal, struct sigaction action)
{
    if (sigaction(signal, &action, NULL) != 0) {
        _exit(5);
    }
}

/* Two faults, since a mask or a handler that is not restored shows at the second. */
static void fault_twice_expecting(const void *address)
{
    forbid();
    (void)weft_overflow_install(nobodys);
    (void)weft_overflow_thread_enter();
    for (int i = 1; i <= 2; i++) {
        if (sigsetjmp(back, 1) == 0) {
            touch();
            _exit(6);
        }
        if (calls != i || (address != NULL && where != forbidden)) {
            _exit(7);
        }
    }
}

static void chain_to_sigaction(void)
{
    struct sigaction action = { .sa_sigaction = take_note, .sa_flags = SA_SIGINFO };
    (void)sigaddset(&action.sa_mask, SIGUSR1);
    set_action(SIGSEGV, action);
    fault_twice_expecting(&forbidden);
    _exit(masked && usr1_masked ? 0 : 8);
}

static void chain_to_nodefer(void)
{
    set_action(SIGSEGV, (struct sigaction){ .sa_sigaction = take_note, .sa_flags = SA_SIGINFO | SA_NODEFER });
    fault_twice_expecting(&forbidden);
    _exit(WEFT_TSAN || (!masked && !usr1_masked) ? 0 : 8); /* ThreadSanitizer runs handlers with everything blocked */
}

static void chain_to_plain_handler(void)
{
    set_action(SIGSEGV, (struct sigaction){ .sa_handler = take_note_plainly });
    fault_twice_expecting(NULL);
    _exit(masked ? 0 : 8);
}

static void sent_by_kill_to_handler(void)
{
    set_action(SIGBUS, (struct sigaction){ .sa_handler = take_note_plainly });
    (void)weft_overflow_install(anybodys); /* which is not asked: no instruction faulted */
    if (sigsetjmp(back, 1) == 0) {
        (void)raise(SIGBUS);
        _exit(6);
    }
    _exit(calls == 1 ? 0 : 7);
}

Test(overflow, previous_handler_gets_what_is_not_ours_H18)
{
    cr_assert_eq(child_run(chain_to_sigaction).status, 0);
    cr_assert_eq(child_run(chain_to_nodefer).status, 0);
    cr_assert_eq(child_run(chain_to_plain_handler).status, 0);
    cr_assert_eq(child_run(sent_by_kill_to_handler).status, 0);
}

static void fault_by_default(void)
{
    forbid();
    set_action(SIGSEGV, (struct sigaction){ .sa_handler = SIG_DFL });
    (void)weft_overflow_install(nobodys);
    touch();
}

static void fault_ignored(void)
{
    forbid();
    set_action(SIGSEGV, (struct sigaction){ .sa_handler = SIG_IGN });
    (void)weft_overflow_install(nobodys);
    touch();
}

static void killed_by_default(void)
{
    set_action(SIGSEGV, (struct sigaction){ .sa_handler = SIG_DFL });
    (void)weft_overflow_install(anybodys);
    (void)kill(getpid(), SIGSEGV);
}

static void bus_error_by_default(void)
{
    set_action(SIGBUS, (struct sigaction){ .sa_handler = SIG_DFL });
    (void)weft_overflow_install(anybodys);
    (void)kill(getpid(), SIGBUS);
}

static void killed_ignored(void)
{
    set_action(SIGSEGV, (struct sigaction){ .sa_handler = SIG_IGN });
    (void)weft_overflow_install(anybodys);
    (void)kill(getpid(), SIGSEGV);
    (void)kill(getpid(), SIGSEGV);
    _exit(42);
}

Test(overflow, default_action_ends_the_process_silently_H18)
{
    struct child child = child_run(fault_by_default);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_str_empty(child.text);
    child = child_run(fault_ignored);
    cr_assert(child_died_by(&child, SIGSEGV), "a fault cannot be ignored");
    child = child_run(killed_by_default);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_str_empty(child.text);
    child = child_run(bus_error_by_default);
    cr_assert(child_died_by(&child, SIGBUS));
    child = child_run(killed_ignored);
    cr_assert(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 42, "one that was sent can");
}

static void install_twice(void)
{
    forbid();
    if (weft_overflow_install(anybodys) != 0 || weft_overflow_install(nobodys) != 0) {
        _exit(5);
    }
    touch();
}

Test(overflow, second_install_changes_nothing)
{
    struct child child = child_run(install_twice);
    cr_assert(child_died_by(&child, SIGSEGV));
    cr_assert_not_null(strstr(child.text, "its stack of 1 bytes is full"));
}

/* ---- Alternate stacks ---- */

struct alternate {
    bool had_one, enabled, large_enough, guarded, second_is_same, disabled;
};

static void enter_and_leave(void *arg)
{
    struct alternate *seen = arg;
    stack_t before, inside, again, after;
    (void)sigaltstack(NULL, &before);
    seen->had_one = (before.ss_flags & SS_DISABLE) == 0;
    (void)weft_overflow_thread_enter();
    (void)sigaltstack(NULL, &inside);
    seen->enabled = (inside.ss_flags & SS_DISABLE) == 0;
    seen->large_enough = inside.ss_size >= (seen->had_one ? 1 : 64 * KIB);
    seen->guarded = memory_faults((char *)inside.ss_sp - 1);
    (void)weft_overflow_thread_enter();
    (void)sigaltstack(NULL, &again);
    seen->second_is_same = again.ss_sp == inside.ss_sp;
    weft_overflow_thread_leave();
    (void)sigaltstack(NULL, &after);
    seen->disabled = (after.ss_flags & SS_DISABLE) != 0;
    weft_overflow_thread_leave();
}

Test(overflow, each_thread_gets_an_alternate_stack_and_gives_it_back)
{
    size_t mappings = 0;
    for (int i = 0; i < 200; i++) {
        struct alternate seen;
        struct os_thread thread;
        cr_assert_eq(os_thread_start(&thread, enter_and_leave, &seen, "alternate"), 0);
        os_thread_join(thread);
        cr_assert(seen.enabled && seen.large_enough && seen.second_is_same);
        cr_assert_eq(seen.disabled, !seen.had_one, "one that was there before is left alone");
        cr_assert(seen.guarded || seen.had_one);
        mappings = i == 10 ? memory_mappings() : mappings;
    }
    cr_assert(WEFT_TSAN || memory_mappings() <= mappings + 10); /* ThreadSanitizer maps something for each thread */
}

Test(overflow, no_memory_for_an_alternate_stack_is_an_error)
{
    stack_t before;
    (void)sigaltstack(NULL, &before);
    if ((before.ss_flags & SS_DISABLE) == 0 || !memory_limit(8 * KIB)) {
        cr_skip("this thread has one already, or the address space cannot be limited");
    }
    cr_assert_eq(weft_overflow_thread_enter(), -ENOMEM);
    memory_unlimit();
    cr_assert_eq(weft_overflow_thread_enter(), 0);
    weft_overflow_thread_leave();
}
