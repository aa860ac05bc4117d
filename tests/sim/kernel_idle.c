/* Submitters against workers that go to sleep: no work stays while a worker could run it (H01).
 *
 * As in tests/models/idle.pml a job may hold its worker: it blocks the thread until as many such jobs have begun as there are
 * workers, so each of them must have been given to a worker of its own, whoever submitted it and whoever had to be woken for it.
 * Other jobs submit more, yield, or sleep for a while (H37: an idle worker keeps the time). What was lost shows as a hang. */
#include "jobs.h"
#include "scheduler.h"
#include "sim.h"
#include "wait.h"

#define MAX_JOBS 8

enum kind { HOLD, LEAF, YIELD, SLEEP };

static struct {
    struct job job;
    enum kind kind;
    unsigned first_child, n_children;
} jobs[MAX_JOBS];

static unsigned n_jobs, n_workers, n_holders, n_submitters;
static _Atomic uint32_t holding; /* futex */

static void submit_children(unsigned parent);

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void body(void *arg)
{
    unsigned self = (unsigned)(uintptr_t)arg;
    submit_children(self);
    switch (jobs[self].kind) {
    case HOLD:
        atomic_fetch_add(&holding, 1);
        os_futex_wake(&holding, UINT32_MAX);
        uint32_t seen;
        while ((seen = atomic_load(&holding)) < n_holders) {
            (void)os_futex_wait(&holding, seen, OS_FOREVER);
        }
        break;
    case LEAF: break;
    case YIELD: weft_sched_yield(); break;
    case SLEEP: {
        struct weft_waitq queue = { 0 };
        int64_t until = os_now() + 1000 + (int64_t)sim_choose(4) * 1000;
        SIM_CHECK(weft_wait_until(&queue, never, NULL, &(struct weft_wait){ .deadline = until }) == -ETIMEDOUT);
        SIM_CHECK(os_now() >= until);
        sim_count("slept");
        break;
    }
    }
}

static void submit(unsigned i) { jobs_submit(&jobs[i].job, body, (void *)(uintptr_t)i); }

static void submit_children(unsigned parent)
{
    for (unsigned i = 0; i < jobs[parent].n_children; i++) {
        submit(jobs[parent].first_child + i);
    }
}

static unsigned roots;
static _Atomic uint32_t submitters_done; /* futex */

/* Root jobs are dealt out among the submitters. */
static void submitter(void *arg)
{
    for (unsigned i = (unsigned)(uintptr_t)arg; i < roots; i += n_submitters) {
        submit(i);
    }
    atomic_fetch_add(&submitters_done, 1);
    os_futex_wake(&submitters_done, 1);
}

static void driver(void *arg)
{
    (void)arg;
    jobs_begin(n_workers);
    for (unsigned i = 1; i < n_submitters; i++) {
        sim_spawn(submitter, (void *)(uintptr_t)i, "submitter");
    }
    submitter((void *)0);
    uint32_t seen;
    while ((seen = atomic_load(&submitters_done)) != n_submitters) {
        (void)os_futex_wait(&submitters_done, seen, OS_FOREVER);
    }
    jobs_end();
}

/* A random forest: each job gets the next few as its children. */
static void setup(void)
{
    n_workers = 1 + sim_choose(3);
    n_submitters = 1 + sim_choose(2);
    n_jobs = n_workers + sim_choose(MAX_JOBS - n_workers + 1);
    roots = 1 + sim_choose(n_jobs);
    unsigned next = roots;
    for (unsigned i = 0; i < n_jobs; i++) {
        jobs[i].kind = (enum kind)(1 + sim_choose(3));
        jobs[i].first_child = next;
        unsigned left = n_jobs - next;
        jobs[i].n_children = left == 0 ? 0 : i + 1 == next ? 1 + sim_choose(left) : sim_choose(left + 1);
        next += jobs[i].n_children;
    }
    for (unsigned i = 0; i < n_workers && sim_choose(8) != 0; i++) {
        unsigned chosen = sim_choose(n_jobs);
        n_holders += jobs[chosen].kind != HOLD;
        jobs[chosen].kind = HOLD;
    }
    sim_spawn(driver, NULL, "driver");
}

static void check(void)
{
    for (unsigned i = 0; i < n_jobs; i++) {
        SIM_CHECK(jobs[i].job.ran);
    }
    if (n_holders == n_workers && n_workers > 1) {
        sim_count("every worker was held");
    }
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "idle", .setup = setup, .check = check, .length = 1500 };
    return sim_main(argc, argv, &kernel);
}
