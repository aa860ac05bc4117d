/* Select (B3, C3, C4), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "channel.h"
#include "tools.h"

enum { MOST_CHANNELS = 12 };
static struct weft_channel *channels[MOST_CHANNELS];

static void open_channels(void)
{
    setup();
    for (int i = 0; i < MOST_CHANNELS; i++) {
        cr_assert_eq(weft_channel_create(sizeof(int), (size_t)i % 2, &channels[i]), 0); /* even ones are rendezvous */
    }
}

static void close_channels(void)
{
    for (int i = 0; i < MOST_CHANNELS; i++) {
        cr_assert(!channels[i]->senders && !channels[i]->receivers); /* no case was left behind */
        weft_channel_destroy(channels[i]);
    }
    teardown();
}

TestSuite(select, .init = open_channels, .fini = close_channels);

static unsigned waiting(int index, bool to_send)
{
    weft_lock(&channels[index]->lock);
    struct weft_waiter *tail = to_send ? channels[index]->senders : channels[index]->receivers, *waiter = tail;
    unsigned n = 0;
    if (tail) {
        do {
            waiter = waiter->next;
            n++;
        } while (waiter != tail);
    }
    weft_unlock(&channels[index]->lock);
    return n;
}

static int send_number(int index, int number) { return weft_channel_send(channels[index], &number, WEFT_NOWAIT); }

static int receive_number(int index)
{
    int number = 0, rc = weft_channel_receive(channels[index], &number, WEFT_NOWAIT);
    return rc != 0 ? rc : number;
}

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    size_t chosen = 77;
    int in[2] = { -1, -1 }, out = 5;
    struct weft_select_case cases[] = {
        { .channel = channels[1], .receive = &in[0], .rc = 99 },
        { .channel = channels[3], .receive = &in[1], .rc = 99 },
        { .channel = NULL, .receive = &in[0], .rc = 99 },
        { .channel = channels[0], .send = &out, .rc = 99 },
    };
    CHECK(weft_channel_select(NULL, 1, WEFT_NOWAIT, &chosen) == -EINVAL);
    CHECK(weft_channel_select(cases, 0, WEFT_NOWAIT, &chosen) == -EINVAL);
    CHECK(weft_channel_select(cases, 4, WEFT_NOWAIT, NULL) == -EINVAL);
    CHECK(weft_channel_select(cases, 4, WEFT_NOWAIT, &chosen) == -ETIMEDOUT);
    int64_t deadline = weft_after(WEFT_MSEC);
    CHECK(weft_channel_select(cases, 4, deadline, &chosen) == -ETIMEDOUT && weft_now() >= deadline);
    deadline = weft_after(100000);
    CHECK(weft_channel_select(&cases[2], 1, deadline, &chosen) == -ETIMEDOUT && weft_now() >= deadline); /* never ready */
    CHECK(chosen == 77);
    CHECK(send_number(3, 8) == 0);
    CHECK(weft_channel_select(cases, 4, WEFT_FOREVER, &chosen) == 0);
    CHECK(chosen == 1 && cases[1].rc == 0 && in[1] == 8 && in[0] == -1);
    CHECK(cases[0].rc == 99 && cases[2].rc == 99 && cases[3].rc == 99);
    cases[3].channel = channels[1]; /* has space: sends */
    cases[0].channel = NULL;
    CHECK(weft_channel_select(cases, 4, WEFT_NOWAIT, &chosen) == 0 && chosen == 3 && cases[3].rc == 0);
    CHECK(receive_number(1) == 5);
    return 0;
}

Test(select, lets_exactly_the_case_go_that_can_B3) { run_on_both(use_alone); }

Test(select, closed_channel_fires_with_EPIPE_after_its_items_B3)
{
    int number, out = 1;
    size_t chosen;
    struct weft_select_case receive[] = { { .channel = channels[0], .receive = &number },
                                          { .channel = channels[1], .receive = &number } };
    struct weft_select_case send = { .channel = channels[1], .send = &out };
    cr_assert_eq(send_number(1, 3), 0);
    weft_channel_close(channels[1]);
    cr_assert_eq(weft_channel_select(&send, 1, WEFT_FOREVER, &chosen), 0);
    cr_assert(chosen == 0 && send.rc == -EPIPE);
    cr_assert_eq(weft_channel_select(receive, 2, WEFT_FOREVER, &chosen), 0);
    cr_assert(chosen == 1 && receive[1].rc == 0 && number == 3);
    cr_assert_eq(weft_channel_select(receive, 2, WEFT_FOREVER, &chosen), 0);
    cr_assert(chosen == 1 && receive[1].rc == -EPIPE);
}

/* ---- Waiting in several ---- */

struct wait {
    int n, rc, in[2 * MOST_CHANNELS];
    bool send, twice;
    size_t chosen;
    struct weft_select_case cases[2 * MOST_CHANNELS];
};

/* Offers to receive from the first n channels, or to send 50 + i to them; every channel in two cases if `twice`. */
static int wait_in_all(void *arg, void **value)
{
    (void)value;
    struct wait *wait = ((struct player *)arg)->arg;
    int n = wait->twice ? 2 * wait->n : wait->n;
    for (int i = 0; i < n; i++) {
        wait->in[i] = wait->send ? 50 + i : -1;
        wait->cases[i] = (struct weft_select_case){ .channel = channels[i % wait->n], .rc = 99 };
        *(wait->send ? (void **)(uintptr_t)&wait->cases[i].send : &wait->cases[i].receive) = &wait->in[i];
    }
    wait->rc = weft_channel_select(wait->cases, (size_t)n, WEFT_FOREVER, &wait->chosen);
    bool pending = weft_task_current() && wait->rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED;
    for (int i = 0; i < n; i++) {
        CHECK((wait->cases[i].rc != 99) == (wait->rc == 0 && (size_t)i == wait->chosen)); /* exactly one, or none */
        CHECK(wait->send || wait->in[i] == -1 || (size_t)i == wait->chosen);
    }
    return pending ? -ENOTTY : 0;
}

static void wait_begins(struct player *player, int index, struct wait *wait)
{
    player_start(player, index, wait_in_all, wait);
    wait_until(waiting(wait->n - 1, wait->send) == (wait->twice ? 2u : 1u));
}

Test(select, who_waits_in_several_is_served_once_by_any_B3)
{
    for (int n = 1; n <= MOST_CHANNELS; n += n < 3 ? 1 : 9) { /* more than eight, too */
        for (int kind = 0; kind < 8; kind++) {
            for (int by = 0; by < n; by += 3) {
                struct player player;
                struct wait wait = { .n = n, .send = kind & 2, .twice = kind & 4 };
                for (int i = 1; i < n && wait.send; i += 2) {
                    cr_assert_eq(send_number(i, 7), 0); /* those that could take an item are full */
                }
                wait_begins(&player, kind & 1, &wait);
                if (!wait.send) {
                    cr_assert_eq(send_number(by, 9), 0);
                } else if (by % 2 == 0) {
                    int got = receive_number(by);
                    cr_assert(got == 50 + by || got == 50 + by + n, "%d", got);
                } else {
                    cr_assert_eq(receive_number(by), 7); /* and it moves up */
                    int got = receive_number(by);
                    cr_assert(got == 50 + by || got == 50 + by + n, "%d", got);
                }
                player_end(&player);
                cr_assert_eq(wait.rc, 0);
                cr_assert_eq((int)wait.chosen % n, by);
                cr_assert_eq(wait.cases[wait.chosen].rc, 0);
                cr_assert(wait.send || wait.in[wait.chosen] == 9);
                for (int i = 1; i < n && wait.send; i += 2) {
                    cr_assert_eq(receive_number(i), i == by ? -ETIMEDOUT : 7);
                }
            }
        }
    }
}

Test(select, close_serves_who_waits_in_several_with_EPIPE_B3)
{
    struct player task, thread;
    struct wait first = { .n = 3 }, second = { .n = 1, .send = true };
    wait_begins(&task, 0, &first);
    weft_channel_close(channels[2]);
    player_end(&task);
    cr_assert(first.rc == 0 && first.chosen == 2 && first.cases[2].rc == -EPIPE);
    wait_begins(&thread, 1, &second);
    weft_channel_close(channels[0]);
    player_end(&thread);
    cr_assert(second.rc == 0 && second.chosen == 0 && second.cases[0].rc == -EPIPE);
}

/* ---- Never itself, but another ---- */

/* Sends `out` or receives into `*in`, over the same channel. */
static int exchange(int out, int *in, int64_t deadline, size_t *chosen)
{
    struct weft_select_case cases[] = { { .channel = channels[0], .send = &out }, { .channel = channels[0], .receive = in } };
    int rc = weft_channel_select(cases, 2, deadline, chosen);
    return rc != 0 ? rc : cases[*chosen].rc;
}

static int exchange_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    int in = -1;
    size_t chosen = 9;
    CHECK(exchange(1, &in, WEFT_NOWAIT, &chosen) == -ETIMEDOUT);
    CHECK(exchange(1, &in, weft_after(WEFT_MSEC), &chosen) == -ETIMEDOUT);
    CHECK(chosen == 9 && in == -1);
    return 0;
}

Test(select, never_meets_itself_B3) { run_on_both(exchange_alone); }

static int in_of_first;
static size_t chosen_by_first;

static int exchange_with_another(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(exchange(10, &in_of_first, WEFT_FOREVER, &chosen_by_first) == 0);
    return 0;
}

Test(select, meets_another_of_its_kind_B3)
{
    for (int kind = 0; kind < 2; kind++) {
        struct player first;
        int in = -1;
        size_t chosen;
        in_of_first = -1;
        player_start(&first, kind, exchange_with_another, NULL);
        wait_until(waiting(0, true) == 1 && waiting(0, false) == 1);
        cr_assert_eq(exchange(20, &in, WEFT_NOWAIT, &chosen), 0);
        player_end(&first);
        cr_assert_eq(chosen_by_first, 1 - chosen);
        cr_assert_eq(chosen == 0 ? in_of_first : in, chosen == 0 ? 20 : 10);
        cr_assert_eq(chosen == 0 ? in : in_of_first, -1);
    }
}

/* ---- Kills ---- */

Test(select, killed_one_leaves_all_its_channels_C4)
{
    struct player player;
    struct wait wait = { .n = 3 };
    wait_begins(&player, 0, &wait);
    cr_assert_eq(weft_task_kill(player.task, 0, WEFT_NOWAIT), 0);
    player_end(&player);
    cr_assert_eq(wait.rc, -ECANCELED);
    cr_assert_eq(send_number(0, 1), -EAGAIN);
    cr_assert_eq(send_number(1, 1), 0);
    cr_assert_eq(receive_number(1), 1);
}

Test(select, item_at_the_instant_of_a_kill_is_not_lost_C4)
{
    for (int by = 0; by < 2; by++) {
        struct player player;
        struct wait wait = { .n = 2 };
        wait_begins(&player, 0, &wait);
        wait_for_sleep(player.task);
        claim_sleep(player.task, WEFT_CLAIM_KILLED);
        cr_assert_eq(send_number(by, 4), by == 0 ? -EAGAIN : 0); /* it does not receive any more; the channel may keep it */
        let_run(player.task);
        struct weft_outcome outcome = finish_task(player.task);
        cr_assert_eq(wait.rc, by == 0 ? -ECANCELED : 0);
        cr_assert_eq(outcome.error, by == 0 ? 0 : -ENOTTY);
        cr_assert(by == 0 || (wait.chosen == 1 && wait.in[1] == 4));
    }
}

static int select_once(int64_t deadline)
{
    size_t chosen;
    int out = 1;
    struct weft_select_case cases[] = { { .channel = channels[0], .send = &out }, { .channel = channels[1], .send = &out } };
    return weft_channel_select(cases, 2, deadline, &chosen);
}

static int select_for_ever(void *arg) { return (void)arg, select_once(WEFT_FOREVER); }
static int select_at_once(void *arg) { return (void)arg, select_once(WEFT_NOWAIT); }

Test(select, is_a_cancellation_point_unless_NOWAIT_and_may_only_try_in_a_raw_link_C3_T8)
{
    cr_assert_eq(call_with_kill_pending(select_for_ever, NULL), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(select_at_once, NULL), 0);
    cr_assert_eq(receive_number(1), 1);
    cr_assert_eq(call_in_raw_link(select_for_ever, NULL), -EPERM);
    cr_assert_eq(call_in_raw_link(select_at_once, NULL), 0);
    cr_assert_eq(receive_number(1), 1);
}

/* ---- Fairness ---- */

enum { DRAWS = 3000, DRAWERS = 4 };

/* By turns with others, which must not make one case win for long. */
static int draw_by_turns(void *arg, void **value)
{
    (void)value;
    struct weft_channel **own = ((struct player *)arg)->arg;
    int counts[2] = { 0 }, run = 0, longest = 0;
    size_t before = 9;
    for (int i = 0; i < DRAWS; i++) {
        struct weft_select_case cases[] = { { .channel = own[0] }, { .channel = own[1] } };
        size_t chosen;
        CHECK(weft_channel_select(cases, 2, WEFT_FOREVER, &chosen) == 0 && cases[chosen].rc == 0);
        CHECK(weft_channel_send(own[chosen], "", WEFT_NOWAIT) == 0); /* all are ready again */
        counts[chosen]++;
        run = chosen == before ? run + 1 : 1;
        longest = run > longest ? run : longest;
        before = chosen;
        weft_yield();
    }
    CHECK(counts[0] > DRAWS * 2 / 5 && counts[0] < DRAWS * 3 / 5); /* eleven standard deviations */
    CHECK(longest <= 40);                                          /* by chance once in 10^8 runs of the test */
    return 0;
}

Test(select, each_ready_case_is_as_likely_B3)
{
    struct player players[DRAWERS];
    struct weft_channel *own[DRAWERS][2];
    for (int i = 0; i < DRAWERS; i++) {
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(weft_channel_create(1, 1, &own[i][k]), 0);
            cr_assert_eq(weft_channel_send(own[i][k], "", WEFT_NOWAIT), 0);
        }
        player_start(&players[i], 2 * i, draw_by_turns, own[i]);
    }
    for (int i = 0; i < DRAWERS; i++) {
        player_end(&players[i]);
        for (int k = 0; k < 2; k++) {
            weft_channel_destroy(own[i][k]);
        }
    }
}
