// C++: exceptions inside tasks stay inside their task, over suspensions too; one that leaves a task ends the process with a message
// (H13).
#include "testing.h"

#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>

#include <csignal>
#include <unistd.h>

#include <weft.h>

#include "child.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
extern "C" const char *__tsan_default_options();
extern "C" const char *__tsan_default_options() { return "die_after_fork=0"; }
#endif
#endif

namespace
{

weft_runtime *make_runtime(unsigned workers)
{
    weft_runtime_options options{};
    options.struct_size = sizeof options;
    options.workers = workers;
    weft_runtime *runtime = nullptr;
    cr_assert_eq(weft_runtime_create(&options, &runtime), 0);
    return runtime;
}

weft_outcome outcome_of(weft_task *task)
{
    weft_outcome outcome;
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    weft_task_release(task);
    return outcome;
}

std::atomic<int> moved;

struct number {
    int value;
};

// Each catch block suspends with its exception in flight, among others that do the same on the same threads.
int catch_over_suspensions(void *arg, void **) noexcept
{
    int mine = *static_cast<int *>(arg);
    for (int i = 0; i < 50 || (moved == 0 && i < 100000); i++) {
        try {
            throw number{ mine + i };
        } catch (const number &outer) {
            unsigned home = weft_worker_index();
            weft_yield();
            if (weft_sleep_until(weft_after(1000)) != 0 || outer.value != mine + i || std::uncaught_exceptions() != 0) {
                return -EIO;
            }
            moved += weft_worker_index() != home;
            try {
                try {
                    throw std::runtime_error(std::to_string(mine));
                } catch (...) {
                    weft_yield();
                    throw; // the one that is this task's, not that of the last to run
                }
            } catch (const std::runtime_error &inner) {
                weft_yield();
                if (inner.what() != std::to_string(mine) || outer.value != mine + i) {
                    return -EILSEQ;
                }
            }
            auto current = std::current_exception();
            try {
                std::rethrow_exception(current);
            } catch (const number &again) {
                if (again.value != mine + i) {
                    return -EINVAL;
                }
            }
        }
        if (std::current_exception()) {
            return -EBUSY; // another task's
        }
    }
    return 0;
}

struct yields_at_its_end {
    bool *unwound;
    ~yields_at_its_end()
    {
        weft_yield();
        *unwound = std::uncaught_exceptions() == 1;
    }
};

// While the stack unwinds, an exception is uncaught: that count belongs to the task, too.
int suspend_while_unwinding(void *, void **) noexcept
{
    bool unwound = false;
    for (int i = 0; i < 50; i++) {
        unwound = false;
        try {
            yields_at_its_end guard{ &unwound };
            throw number{ i };
        } catch (const number &caught) {
            if (caught.value != i || !unwound || std::uncaught_exceptions() != 0) {
                return -EIO;
            }
        }
    }
    return 0;
}

int leave_by_exception(void *, void **) { throw std::runtime_error("left"); }

void let_one_leave()
{
    weft_runtime *runtime = make_runtime(1);
    weft_task *task = nullptr;
    if (weft_task_spawn(runtime, leave_by_exception, nullptr, nullptr, &task) == 0) {
        (void)outcome_of(task);
    }
}

int suspend_then_leave(void *, void **) { throw number{ weft_sleep_until(weft_after(WEFT_MSEC)) }; }

void let_one_leave_after_a_suspension()
{
    weft_runtime *runtime = make_runtime(2);
    weft_task *task = nullptr;
    if (weft_task_spawn(runtime, suspend_then_leave, nullptr, nullptr, &task) == 0) {
        (void)outcome_of(task);
    }
}

void run_many(weft_task_fn *fn)
{
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        enum { TASKS = 20 };
        weft_runtime *runtime = make_runtime(workers);
        int numbers[TASKS];
        weft_task *tasks[TASKS];
        moved = workers == 1; // there is nowhere to go
        for (int i = 0; i < TASKS; i++) {
            numbers[i] = 1000 * i;
            cr_assert_eq(weft_task_spawn(runtime, fn, &numbers[i], nullptr, &tasks[i]), 0);
        }
        for (weft_task *task : tasks) {
            cr_assert_eq(outcome_of(task).error, 0);
        }
        cr_assert_eq(weft_runtime_destroy(runtime), 0);
    }
}

} // namespace

Test(cxx, exceptions_are_caught_over_suspensions_H13)
{
    run_many(catch_over_suspensions);
    cr_assert_gt(moved.load(), 0, "also on another worker");
}

Test(cxx, unwinding_may_suspend_H13) { run_many(suspend_while_unwinding); }

Test(cxx, exception_that_leaves_a_task_terminates_with_a_message_H13)
{
    for (auto *run : { let_one_leave, let_one_leave_after_a_suspension }) {
        struct child child = child_run(run);
        cr_assert(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT, "status %x: %s", (unsigned)child.status,
                  child.text);
        cr_assert_not_null(strstr(child.text, "terminate called"), "%s", child.text);
    }
}
