/* Channels: each item is received once, in order, whatever of hand-over, timeout, kill and close comes at once (B3, C4).
 *
 * Senders send numbered items, by send or by a select over both channels; receivers receive until both are closed and drained, by
 * receive or by a select; an exchanger offers to send and to receive in the same channel in one select, which never meets itself. Who
 * is late or killed tries again. When the last sender has ended, the channels are closed. An item lost shows in the count, a wake that
 * is lost as a hang. Selects have their cases twice in some runs. */
#include <weft.h>

#include "parties.h"

#define CHANNELS 2
#define MAX_ITEMS 3

struct item {
    unsigned party, number;
};

static struct weft_channel *channels[CHANNELS];
static size_t capacities[CHANNELS];
static unsigned sent[MAX_PARTIES][MAX_ITEMS], received[MAX_PARTIES][MAX_ITEMS];
static unsigned senders_left;
static enum role { SENDER, RECEIVER, EXCHANGER } roles[MAX_PARTIES];

static void close_after(void)
{
    if (--senders_left == 0) {
        weft_channel_close(channels[0]);
        weft_channel_close(channels[1]);
    }
}

static void note_received(unsigned last[CHANNELS][MAX_PARTIES], unsigned channel, const struct item *item)
{
    SIM_CHECK(item->party < MAX_PARTIES && item->number < MAX_ITEMS);
    SIM_CHECK(++received[item->party][item->number] == 1);
    SIM_CHECK(last[channel][item->party] <= item->number); /* one that sends in turn is received in turn */
    last[channel][item->party] = item->number + 1;
}

static void send_all(struct party *party)
{
    for (unsigned number = 0; number < MAX_ITEMS; number++) {
        struct item item = { party->index, number };
        for (;;) {
            int64_t deadline = party_deadline();
            struct weft_select_case cases[2 * CHANNELS];
            size_t n = 2 + 2 * sim_choose(2), chosen = 99;
            for (size_t i = 0; i < n; i++) {
                cases[i] = (struct weft_select_case){ .channel = channels[i % CHANNELS], .send = &item, .rc = 1 };
            }
            sent[party->index][number] = 1; /* it may be received before the call returns */
            bool select = sim_choose(2) == 0;
            int rc = select ? weft_channel_select(cases, n, deadline, &chosen)
                            : weft_channel_send(channels[party->index % CHANNELS], &item, deadline);
            SIM_CHECK(rc != 0 || !select || (chosen < n && cases[chosen].rc == 0));
            if (!select && rc == -EAGAIN) {
                SIM_CHECK(deadline == WEFT_NOWAIT);
                rc = -ETIMEDOUT;
            }
            if (party_got(party, rc, deadline)) {
                break;
            }
            SIM_CHECK(received[party->index][number] == 0);
            sent[party->index][number] = 0;
        }
    }
    close_after();
}

/* -EPIPE is what it waited for, too. */
static bool got_or_closed(struct party *party, int rc, int64_t deadline) { return rc == -EPIPE || party_got(party, rc, deadline); }

static void receive_all(struct party *party)
{
    unsigned last[CHANNELS][MAX_PARTIES] = { { 0 } };
    bool open[CHANNELS] = { true, true };
    while (open[0] || open[1]) {
        struct item items[2 * CHANNELS] = { { 77, 77 }, { 77, 77 }, { 77, 77 }, { 77, 77 } };
        int64_t deadline = party_deadline();
        if (open[0] && open[1]) {
            struct weft_select_case cases[2 * CHANNELS];
            size_t n = 2 + 2 * sim_choose(2), chosen = 99;
            for (size_t i = 0; i < n; i++) {
                cases[i] = (struct weft_select_case){ .channel = channels[i % CHANNELS], .receive = &items[i], .rc = 1 };
            }
            if (party_got(party, weft_channel_select(cases, n, deadline, &chosen), deadline)) {
                SIM_CHECK(chosen < n && (cases[chosen].rc == 0 || cases[chosen].rc == -EPIPE));
                if (cases[chosen].rc == 0) {
                    note_received(last, (unsigned)chosen % CHANNELS, &items[chosen]);
                    items[chosen].party = 77;
                }
                open[chosen % CHANNELS] = cases[chosen].rc == 0;
            }
        } else {
            unsigned channel = open[1];
            int rc = weft_channel_receive(channels[channel], &items[0], deadline);
            if (got_or_closed(party, rc, deadline)) {
                if (rc == 0) {
                    note_received(last, channel, &items[0]);
                    items[0].party = 77;
                }
                open[channel] = rc == 0;
            }
        }
        for (unsigned i = 0; i < 2 * CHANNELS; i++) {
            SIM_CHECK(items[i].party == 77); /* exactly one case, or none */
        }
    }
}

static void exchange(struct party *party)
{
    unsigned last[CHANNELS][MAX_PARTIES] = { { 0 } };
    bool open = true;
    for (unsigned number = 0; number < MAX_ITEMS && open; number++) {
        struct item out = { party->index, number }, in = { 77, 77 };
        unsigned channel = sim_choose(CHANNELS);
        int64_t deadline = sim_choose(2) == 0 ? WEFT_NOWAIT : os_now() + 1000;
        struct weft_select_case cases[] = {
            { .channel = channels[channel], .send = &out },
            { .channel = channels[channel], .receive = &in },
            { .channel = NULL, .receive = &in },
        };
        size_t chosen = 99;
        sent[party->index][number] = 1;
        if (party_got(party, weft_channel_select(cases, 3, deadline, &chosen), deadline)) {
            SIM_CHECK(chosen < 2);
            open = cases[chosen].rc == 0;
            if (open && chosen == 1) {
                SIM_CHECK(in.party != party->index || (capacities[channel] > 0 && in.number < number)); /* not itself */
                note_received(last, channel, &in);
                in.party = 77;
                sim_count("exchanger received");
            } else if (open) {
                sim_count("exchanger sent");
                continue;
            }
        }
        SIM_CHECK(in.party == 77 && received[party->index][number] == 0);
        sent[party->index][number] = 0;
    }
}

static void play(struct party *party)
{
    switch (roles[party->index]) {
    case SENDER: send_all(party); break;
    case RECEIVER: receive_all(party); break;
    case EXCHANGER: exchange(party); break;
    }
}

static void setup(void)
{
    parties_begin(2, play, NULL);
    for (unsigned i = 0; i < CHANNELS; i++) {
        capacities[i] = sim_choose(3);
        SIM_CHECK(weft_channel_create(sizeof(struct item), capacities[i], &channels[i]) == 0);
    }
    for (unsigned i = 0; i < n_parties; i++) {
        roles[i] = i < 2 ? (enum role)i : (enum role)sim_choose(3);
        senders_left += roles[i] == SENDER;
    }
}

static void check(void)
{
    for (unsigned i = 0; i < n_parties; i++) {
        for (unsigned number = 0; number < MAX_ITEMS; number++) {
            if (sent[i][number] != received[i][number]) {
                sim_fail("item %u of party %u: sent %u times, received %u times", number, i, sent[i][number], received[i][number]);
            }
        }
    }
    weft_channel_destroy(channels[0]);
    weft_channel_destroy(channels[1]);
}

int main(int argc, char **argv)
{
    static const struct sim_kernel kernel = { .name = "select", .setup = setup, .check = check, .length = 800, .tick = 1000 };
    return sim_main(argc, argv, &kernel);
}
