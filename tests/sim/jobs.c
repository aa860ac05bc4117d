#include "jobs.h"

#include "scheduler.h"
#include "sim.h"

#define JOB_STACK_BYTES ((size_t)16 * 1024)

static struct weft_runtime runtime;
static _Atomic uint32_t ended; /* futex */
static uint32_t submitted;

static struct job *job_of(struct weft_task *task) { return (struct job *)(void *)task; }

static void run(struct weft_worker *worker, struct weft_task *task)
{
    struct weft_slot *slot = worker->thread.slot;
    struct job *job = job_of(task);
    if (job->ran) {
        sim_fail("a job runs twice");
    }
    job->ran = true;
    a_store(&job->scope.slot, slot, SEQ_CST);
    weft_lock(weft_slot_lock(slot));
    a_store(&slot->scope, &job->scope, SEQ_CST);
    weft_unlock(weft_slot_lock(slot));
    job->run(job->arg);
    weft_lock(weft_slot_lock(slot));
    a_store(&slot->scope, NULL, SEQ_CST);
    weft_unlock(weft_slot_lock(slot));
    atomic_fetch_add(&ended, 1);
    os_futex_wake(&ended, 1);
}

static void on_idle(struct weft_runtime *idle) { (void)idle; }
static struct weft_injector_node *task_node(struct weft_task *task) { return &job_of(task)->node; }
static struct weft_task *node_task(struct weft_injector_node *node)
{
    return (struct weft_task *)(void *)weft_container_of(node, struct job, node);
}

void jobs_begin(unsigned workers)
{
    runtime.run = run;
    runtime.on_idle = on_idle;
    runtime.task_node = task_node;
    runtime.node_task = node_task;
    SIM_CHECK(weft_sched_init(&runtime, workers, JOB_STACK_BYTES, 0, 1000) == 0);
    SIM_CHECK(weft_sched_start(&runtime, NULL) == (int)workers);
}

void jobs_submit(struct job *job, void (*body)(void *arg), void *arg)
{
    job->run = body;
    job->arg = arg;
    job->ran = false;
    weft_scope_init(&job->scope);
    submitted++;
    weft_sched_push(&runtime, (struct weft_task *)(void *)job);
}

void jobs_end(void)
{
    uint32_t seen;
    while ((seen = atomic_load(&ended)) != submitted) {
        (void)os_futex_wait(&ended, seen, OS_FOREVER);
    }
    weft_sched_stop(&runtime);
    weft_sched_fini(&runtime);
}
