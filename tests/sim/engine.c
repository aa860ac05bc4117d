/* A run: logical threads as contexts, the point where they change places, the virtual clock.
 *
 * There is no scheduler stack. The thread that reaches a point chooses who goes on and jumps straight there, from wherever it is;
 * that may be the stack of one of weft's own fibers, which the jump saves like any other. */
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sanitize.h"

struct sim_engine *sim;

void sim_record(uint8_t token)
{
    struct sim_engine *e = sim;
    if (e->replaying) {
        return;
    }
    if (e->length == e->capacity) {
        uint8_t *longer = sim_outside(2 * e->capacity + 65536);
        if (e->length > 0) {
            memcpy(longer, e->schedule, e->length);
        }
        e->schedule = longer;
        e->capacity = 2 * e->capacity + 65536;
    }
    e->schedule[e->length++] = token;
}

uint8_t sim_replayed(void)
{
    struct sim_engine *e = sim;
    if (e->position == e->length) {
        sim_fail("the schedule ends before the run does");
    }
    return e->schedule[e->position++];
}

static void jump_to(struct sim_thread *to)
{
    struct sim_engine *e = sim;
    struct sim_thread *from = e->current;
    e->current = to;
    e->inside = to != &e->outside;
#if WEFT_ASAN
    __sanitizer_start_switch_fiber(from->state == SIM_ENDED ? NULL : &from->fake_stack, to->bounds_low, to->bounds_bytes);
#endif
    transfer_t back = jump_fcontext(to->context, from);
    struct sim_thread *left = back.data;
    left->context = back.fctx;
#if WEFT_ASAN
    __sanitizer_finish_switch_fiber(e->current->fake_stack, &left->bounds_low, &left->bounds_bytes);
#endif
}

static void thread_main(transfer_t from)
{
    struct sim_thread *left = from.data;
    left->context = from.fctx;
    struct sim_thread *self = sim->current;
#if WEFT_ASAN
    __sanitizer_finish_switch_fiber(NULL, &left->bounds_low, &left->bounds_bytes);
#endif
    self->entry(self->arg);
    self->state = SIM_ENDED;
    sim->ready &= ~sim_bit(self);
    for (unsigned i = 0; i < sim->n_threads; i++) {
        struct sim_thread *thread = &sim->threads[i];
        if (thread->state == SIM_JOINING && thread->joined == self) {
            sim_wake(thread, 0);
        }
    }
    sim_pass();
    abort();
}

struct sim_thread *sim_start(void (*entry)(void *), void *arg, const char *name)
{
    struct sim_engine *e = sim;
    struct sim_thread *thread = e->threads;
    while (thread < e->threads + e->n_threads && !thread->forgotten) {
        thread++;
    }
    if (thread == e->threads + SIM_MAX_THREADS) {
        return NULL;
    }
    if (thread == e->threads + e->n_threads) {
        e->n_threads++;
    }
    if (thread->stack == NULL) {
        thread->stack = sim_outside(SIM_STACK_BYTES);
    }
#if WEFT_ASAN
    ASAN_UNPOISON_MEMORY_REGION(thread->stack, SIM_STACK_BYTES); /* frames of the last run */
#endif
    *thread = (struct sim_thread){ .state = SIM_READY, .stack = thread->stack, .entry = entry, .arg = arg };
    snprintf(thread->name, sizeof thread->name, "%s", name ? name : "");
    thread->bounds_low = thread->stack;
    thread->bounds_bytes = SIM_STACK_BYTES;
    thread->context = make_fcontext(thread->stack + SIM_STACK_BYTES, SIM_STACK_BYTES, thread_main);
    sim_strategy_new_thread(thread);
    e->ready |= sim_bit(thread);
    return thread;
}

void sim_spawn(void (*entry)(void *), void *arg, const char *name)
{
    if (sim_start(entry, arg, name) == NULL) {
        sim_fail("more than %u logical threads", SIM_MAX_THREADS);
    }
}

void sim_wake(struct sim_thread *thread, int result)
{
    thread->state = SIM_READY;
    thread->result = result;
    sim->sleeping &= ~sim_bit(thread);
    sim->timed &= ~sim_bit(thread);
    sim->ready |= sim_bit(thread);
}

void sim_clock_jump(void)
{
    struct sim_engine *e = sim;
    if (e->timed == 0) {
        e->now += e->kernel->tick ? e->kernel->tick : 1000; /* everybody spins: perhaps for time to pass */
        return;
    }
    int64_t earliest = INT64_MAX;
    for (uint64_t set = e->timed; set != 0; set &= set - 1) {
        struct sim_thread *thread = &e->threads[__builtin_ctzll(set)];
        earliest = thread->deadline < earliest ? thread->deadline : earliest;
    }
    e->now = e->now > earliest ? e->now : earliest;
    for (uint64_t set = e->timed; set != 0; set &= set - 1) {
        struct sim_thread *thread = &e->threads[__builtin_ctzll(set)];
        if (thread->deadline <= e->now) {
            sim_wake(thread, -ETIMEDOUT);
        }
    }
}

/* The next thread to go on, or NULL when all have ended. Clock and spurious wakes happen on the way. */
static struct sim_thread *choose(void)
{
    struct sim_engine *e = sim;
    for (;;) {
        if (e->ready == 0 && e->timed == 0) {
            bool ended = true;
            for (unsigned i = 0; i < e->n_threads; i++) {
                ended = ended && e->threads[i].state == SIM_ENDED;
            }
            if (ended) {
                return NULL;
            }
            sim_fail("hang: no thread can go on, and no deadline is pending");
        }
        uint8_t token = e->replaying ? sim_replayed() : sim_strategy_choose();
        sim_record(token);
        if (token == SIM_TOKEN_CLOCK) {
            if (++e->step > e->max_steps) {
                sim_fail("livelock: still running after %llu points", (unsigned long long)e->max_steps);
            }
            sim_clock_jump();
        } else if (token < SIM_TOKEN_CLOCK && (e->ready >> token & 1) != 0) {
            e->spinning &= ~(UINT64_C(1) << token);
            return &e->threads[token];
        } else if (token >= SIM_TOKEN_SPURIOUS && token < SIM_TOKEN_CHOICE &&
                   (e->sleeping >> (token - SIM_TOKEN_SPURIOUS) & 1) != 0) {
            sim_wake(&e->threads[token - SIM_TOKEN_SPURIOUS], 0);
        } else {
            sim_fail("the schedule does not fit this program");
        }
    }
}

void sim_pass(void)
{
    struct sim_thread *next = choose();
    if (next == NULL) {
        next = &sim->outside;
    }
    if (next != sim->current) {
        jump_to(next);
    }
}

void sim_step(const char *what, const volatile void *address, const void *site)
{
    struct sim_engine *e = sim;
    if (!e->inside) {
        return;
    }
    e->current->site = site;
    if (e->kernel->observe != NULL) {
        e->kernel->observe();
    }
    if (++e->step > e->max_steps) {
        sim_fail("livelock: still running after %llu points", (unsigned long long)e->max_steps);
    }
    sim_pass();
    if (e->tracing) {
        sim_trace_add(what, address, site);
    }
}

void sim_point(enum sim_point_kind kind, const volatile void *address)
{
    static const char *const names[] = { "load", "store", "rmw" };
    sim_step(names[kind], address, __builtin_return_address(0));
}

void sim_spin(void)
{
    if (sim->inside) {
        sim_strategy_spun(sim->current);
        sim_step("spin", NULL, __builtin_return_address(0));
    }
}

void sim_yield(void) { sim_step("yield", NULL, __builtin_return_address(0)); }

unsigned sim_choose(unsigned n)
{
    struct sim_engine *e = sim;
    uint8_t token = (uint8_t)(e->replaying ? sim_replayed() : SIM_TOKEN_CHOICE + sim_random() % n);
    sim_record(token);
    if (token < SIM_TOKEN_CHOICE || token >= SIM_TOKEN_CHOICE + n) {
        sim_fail("the schedule does not fit this program");
    }
    return token - SIM_TOKEN_CHOICE;
}

void sim_fail(const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_report_failure(text);
}

void sim_run(const struct sim_kernel *kernel, uint64_t seed, enum sim_strategy strategy)
{
    struct sim_engine *e = sim;
    e->kernel = kernel;
    e->seed = seed;
    e->strategy = strategy;
    e->current = &e->outside;
    e->n_threads = 0;
    e->ready = e->spinning = e->timed = e->sleeping = 0;
    e->step = 0;
    e->max_steps = kernel->max_steps ? kernel->max_steps : SIM_MAX_STEPS;
    e->now = INT64_C(1000000000);
    e->cycles = 0;
    e->position = 0;
    if (!e->replaying) {
        e->length = 0;
    }
    for (unsigned i = 0; i < SIM_MAX_THREADS; i++) {
        e->threads[i].state = SIM_FREE;
        e->threads[i].forgotten = false;
    }
    sim_memory_reset();
    sim_strategy_begin();
    kernel->setup();
    sim_pass();
    if (kernel->check != NULL) {
        kernel->check();
    }
    sim_memory_check();
    if (e->replaying && e->position != e->length) {
        sim_fail("the schedule goes on after the run's end");
    }
}
