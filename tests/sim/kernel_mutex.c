/* The mutex: one holder, no wake lost, whatever of hand-over, barging, timeout and kill comes at once (B1, C4); and its memory may go
 * as soon as the last one that needs it has unlocked it (H20).
 *
 * Parties lock it, each some times, and give up when a wait ends otherwise. The last to leave frees it. The clock jumps far, so that
 * waiters are starved, and are given the mutex. A wake that is lost shows as a hang. */
#include <weft.h>

#include "parties.h"

#include <stdlib.h>
#include <string.h>

static struct guarded {
    struct weft_mutex mutex;
    unsigned users;
} * guarded;
static const struct weft_slot *holder;
static uint64_t word_before;

/* From one owner to another in one step: handed over. */
static void observe(void)
{
    if (guarded == NULL) {
        return;
    }
    uint64_t word = guarded->mutex.opaque[1] & ~UINT64_C(3);
    if (word != word_before && word != 0 && word_before != 0) {
        sim_count("handed over");
    }
    word_before = word;
}

/* Holding it. True: it was the last user. */
static bool section(bool leave)
{
    if (holder != NULL) {
        sim_fail("two hold the mutex");
    }
    holder = weft_slot_self();
    for (unsigned i = sim_choose(4) == 0 ? sim_choose(128) : sim_choose(3); i > 0; i--) {
        sim_yield();
    }
    SIM_CHECK(weft_mutex_lock(&guarded->mutex, WEFT_NOWAIT) == -EDEADLK);
    SIM_CHECK(holder == weft_slot_self());
    holder = NULL;
    return leave && --guarded->users == 0;
}

static void lock_often(struct party *party)
{
    for (unsigned times = sim_choose(3); times > 0; times--) {
        int64_t deadline = party_deadline();
        if (party_got(party, weft_mutex_lock(&guarded->mutex, deadline), deadline)) {
            (void)section(false);
            weft_mutex_unlock(&guarded->mutex);
        }
    }
    int rc;
    while (rc = weft_mutex_lock(&guarded->mutex, WEFT_FOREVER), !party_got(party, rc, WEFT_FOREVER)) {
    }
    bool last = section(true);
    weft_mutex_unlock(&guarded->mutex);
    if (last) {
        SIM_CHECK(guarded->mutex.opaque[0] == 0 && guarded->mutex.opaque[1] == 0);
        struct guarded *gone = guarded;
        guarded = NULL;
        memset(gone, 0xdd, sizeof *gone);
        free(gone);
    }
}

static void setup(void)
{
    parties_begin(2, lock_often, NULL);
    guarded = calloc(1, sizeof *guarded);
    guarded->users = n_parties;
}

static void check(void) { SIM_CHECK(guarded == NULL); }

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = {
        .name = "mutex", .setup = setup, .check = check, .observe = observe, .length = 400, .tick = 600000
    };
    return sim_main(argc, argv, &kernel);
}
