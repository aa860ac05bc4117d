/* Parties: jobs and foreign threads that run a body each, while some of the jobs are killed. What the kernels of locks, events and
 * channels share; a kernel includes it once. */
#ifndef WEFT_SIM_PARTIES_H
#define WEFT_SIM_PARTIES_H

#include "jobs.h"
#include "sim.h"

#define MAX_PARTIES 4

struct party {
    struct job job;
    unsigned index, kills, requested, cancelled;
    bool foreign, done;
};

static struct party parties[MAX_PARTIES];
static unsigned n_parties;
static void (*party_body)(struct party *party);
static void (*party_helper)(void *arg); /* one more logical thread beside them; or NULL */
static uint32_t parties_apart;
static _Atomic uint32_t parties_apart_done; /* futex */

static void party_apart_ends(void)
{
    atomic_fetch_add(&parties_apart_done, 1);
    os_futex_wake(&parties_apart_done, 1);
}

static void party_run(void *arg)
{
    struct party *party = arg;
    party_body(party);
    party->done = true;
}

static void party_run_apart(void *arg)
{
    party_run(arg);
    party_apart_ends();
}

static void party_help(void *arg)
{
    party_helper(arg);
    party_apart_ends();
}

/* Kills again as soon as the last kill was delivered; a party that ends is let go. */
static void party_killer(void *arg)
{
    struct party *victim = arg;
    for (unsigned pause = sim_choose(2) == 0 ? sim_choose(64) : 0; pause > 0; pause--) {
        sim_yield();
    }
    while (victim->requested < victim->kills && !victim->done) {
        victim->requested++; /* counted before: the victim may be told at once */
        if (weft_scope_request(&victim->job.scope, -EINTR, true) == 0) {
            weft_scope_wake(&victim->job.scope, -EINTR);
        } else {
            victim->requested--;
            weft_spin_pause();
        }
    }
    party_apart_ends();
}

static void party_driver(void *arg)
{
    (void)arg;
    bool workers = false;
    for (unsigned i = 0; i < n_parties; i++) {
        workers |= !parties[i].foreign;
    }
    if (workers) {
        jobs_begin(1 + sim_choose(2));
    }
    for (unsigned i = 0; i < n_parties; i++) {
        struct party *party = &parties[i];
        if (party->foreign) {
            parties_apart++;
            sim_spawn(party_run_apart, party, "party");
        } else {
            jobs_submit(&party->job, party_run, party);
        }
        if (party->kills > 0) {
            parties_apart++;
            sim_spawn(party_killer, party, "killer");
        }
    }
    if (party_helper) {
        parties_apart++;
        sim_spawn(party_help, NULL, "helper");
    }
    uint32_t seen;
    while ((seen = atomic_load(&parties_apart_done)) != parties_apart) {
        (void)os_futex_wait(&parties_apart_done, seen, OS_FOREVER);
    }
    if (workers) {
        jobs_end();
    }
}

/* From setup. */
static void parties_begin(unsigned least, void (*body)(struct party *party), void (*helper)(void *arg))
{
    party_body = body;
    party_helper = helper;
    n_parties = least + sim_choose(MAX_PARTIES + 1 - least);
    bool all_foreign = sim_choose(4) == 0;
    for (unsigned i = 0; i < n_parties; i++) {
        struct party *party = &parties[i];
        party->index = i;
        party->foreign = all_foreign || sim_choose(3) == 0;
        party->kills = party->foreign ? 0 : sim_choose(3);
    }
    sim_spawn(party_driver, NULL, "driver");
}

static int64_t party_deadline(void)
{
    switch (sim_choose(5)) {
    case 0: return WEFT_NOWAIT;
    case 1: return os_now() + 1 + (int64_t)sim_choose(3) * 1000;
    default: return WEFT_FOREVER;
    }
}

/* What a wait may return, and why. True: it got what it waited for. */
static bool party_got(struct party *party, int rc, int64_t deadline)
{
    switch (rc) {
    case 0: return true;
    case -ETIMEDOUT:
        SIM_CHECK(deadline != WEFT_FOREVER && os_now() >= deadline);
        sim_count(deadline == WEFT_NOWAIT ? "would have to wait" : "timed out");
        return false;
    case -ECANCELED:
        SIM_CHECK(deadline != WEFT_NOWAIT);
        SIM_CHECK(++party->cancelled <= party->requested);
        sim_count("killed");
        return false;
    default: sim_fail("a wait returned %d", rc);
    }
}

#endif
