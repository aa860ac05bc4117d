/* Event, semaphore, barrier and condition variable: what each promises, whatever of hand-over, timeout and kill comes at once (B1, B2,
 * C4). A run is about one of them. A wake or a permit that is lost shows as a hang, one too many as a count that is wrong. Events and
 * semaphores of one use are freed as soon as their wait has returned, so that a setter that touches them late is seen (H20). */
#include <weft.h>

#include "parties.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS 3

static enum { EVENT, SEMAPHORE, BARRIER, COND } kind;

/* ---- of one use ---- */

union own {
    struct weft_event event;
    struct weft_semaphore semaphore;
};

static void own_setter(void *arg) { weft_event_set(arg); }
static void own_releaser(void *arg) { weft_semaphore_release(arg, 1); }

static void wait_on_own(struct party *party)
{
    union own *own = calloc(1, sizeof *own);
    bool event = sim_choose(2) == 0;
    sim_spawn(event ? own_setter : own_releaser, own, "own setter");
    int64_t deadline;
    int rc;
    do {
        deadline = party_deadline();
        rc = event ? weft_event_wait(&own->event, deadline) : weft_semaphore_acquire(&own->semaphore, deadline);
    } while (!party_got(party, rc, deadline));
    memset(own, 0xdd, sizeof *own);
    free(own);
}

/* ---- event: it is cleared some times, and set at last ---- */

static struct weft_event event;

static void event_play(struct party *party)
{
    for (unsigned times = 1 + sim_choose(2); times > 0; times--) {
        int64_t deadline;
        do {
            deadline = party_deadline();
        } while (!party_got(party, weft_event_wait(&event, deadline), deadline));
    }
    wait_on_own(party);
}

static void event_help(void *arg)
{
    (void)arg;
    for (unsigned times = sim_choose(3); times > 0; times--) {
        weft_event_clear(&event); /* while it is clear, too */
        weft_event_set(&event);
        SIM_CHECK(weft_event_is_set(&event));
        weft_event_clear(&event);
        SIM_CHECK(!weft_event_is_set(&event));
    }
    weft_event_set(&event);
}

static void event_check(void) { SIM_CHECK(weft_event_is_set(&event)); }

/* ---- semaphore: as many permits as are needed ---- */

static struct weft_semaphore semaphore;
static unsigned permits_needed[MAX_PARTIES], permits_begun, permits_all;

static void semaphore_play(struct party *party)
{
    for (unsigned got = 0; got < permits_needed[party->index];) {
        int64_t deadline = party_deadline();
        got += party_got(party, weft_semaphore_acquire(&semaphore, deadline), deadline);
    }
    wait_on_own(party);
}

static void semaphore_help(void *arg)
{
    (void)arg;
    for (unsigned left = permits_all - permits_begun; left > 0;) {
        unsigned n = 1 + sim_choose(left);
        weft_semaphore_release(&semaphore, n);
        left -= n;
    }
}

static void semaphore_check(void) { SIM_CHECK(semaphore.opaque[0] >> 2 == 0); }

/* ---- barrier: all have come before one goes on; one of each round is told so ---- */

static struct weft_barrier barrier;
static unsigned came[ROUNDS], lasts[ROUNDS];

static void barrier_play(struct party *party)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        came[round]++;
        int64_t deadline;
        int rc;
        do {
            deadline = party_deadline();
            rc = weft_barrier_wait(&barrier, deadline);
            lasts[round] += rc == 1;
        } while (rc != 1 && !party_got(party, rc, deadline));
        if (came[round] != n_parties) {
            sim_fail("round %u ended with %u of %u", round, came[round], n_parties);
        }
    }
}

static void barrier_check(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        SIM_CHECK(lasts[round] == 1);
    }
}

/* ---- condition variable: an item for each consumer, but who may leave without one when a wait of it ends otherwise ---- */

static struct weft_cond cond;
static struct weft_mutex mutex;
static const struct weft_slot *holder;
static unsigned items, made, taken, left_without;
static bool by_broadcast;

static void mutex_take(struct party *party)
{
    int rc;
    while (rc = weft_mutex_lock(&mutex, WEFT_FOREVER), !party_got(party, rc, WEFT_FOREVER)) {
    }
    SIM_CHECK(holder == NULL);
    holder = weft_slot_self();
}

static void mutex_give(void)
{
    SIM_CHECK(holder == weft_slot_self());
    holder = NULL;
    weft_mutex_unlock(&mutex);
}

static void cond_play(struct party *party)
{
    mutex_take(party);
    bool leave = false;
    while (items == 0 && !leave) {
        int64_t deadline = party_deadline();
        holder = NULL;
        int rc = weft_cond_wait(&cond, &mutex, deadline);
        SIM_CHECK(holder == NULL); /* it holds the mutex on every return */
        holder = weft_slot_self();
        leave = !party_got(party, rc, deadline) && sim_choose(2) == 0;
    }
    if (!leave) {
        items--;
        taken++;
    } else {
        left_without++;
        sim_count("left without");
    }
    mutex_give();
}

static void cond_help(void *arg)
{
    (void)arg;
    struct party nobody = { 0 };
    for (;;) {
        mutex_take(&nobody);
        if (made + left_without >= n_parties) {
            mutex_give();
            break;
        }
        items++;
        made++;
        bool inside = sim_choose(2) == 0;
        if (!inside) {
            mutex_give();
        }
        (by_broadcast ? weft_cond_broadcast : weft_cond_signal)(&cond);
        if (inside) {
            mutex_give();
        }
    }
}

static void cond_check(void)
{
    SIM_CHECK(taken + left_without == n_parties && taken + items == made);
    SIM_CHECK(cond.opaque[0] == 0 && mutex.opaque[0] == 0 && mutex.opaque[1] == 0);
}

/* ---- */

static void setup(void)
{
    static void (*const plays[])(struct party *) = { event_play, semaphore_play, barrier_play, cond_play };
    static void (*const helps[])(void *) = { event_help, semaphore_help, NULL, cond_help };
    kind = sim_choose(4);
    parties_begin(1, plays[kind], helps[kind]);
    for (unsigned i = 0; i < n_parties; i++) {
        permits_needed[i] = 1 + sim_choose(2);
        permits_all += permits_needed[i];
    }
    permits_begun = sim_choose(permits_all + 1);
    if (permits_begun > 0) { /* else it is zeroed memory */
        weft_semaphore_init(&semaphore, permits_begun);
    }
    weft_barrier_init(&barrier, n_parties);
    by_broadcast = sim_choose(3) == 0;
}

static void check(void)
{
    static void (*const checks[])(void) = { event_check, semaphore_check, barrier_check, cond_check };
    checks[kind]();
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "sync", .setup = setup, .check = check, .length = 500, .tick = 1000 };
    return sim_main(argc, argv, &kernel);
}
