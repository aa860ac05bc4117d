/* Channels (B3, C3, C4, E2), on tasks and foreign threads. WEFT_TEST_WORKERS says with how many workers. */
#include "testing.h"

#include "channel.h"
#include "tools.h"

static struct weft_channel *channel;

TestSuite(channel, .init = setup, .fini = teardown);

static void create(size_t capacity) { cr_assert_eq(weft_channel_create(sizeof(int), capacity, &channel), 0); }

static unsigned waiting(bool to_send)
{
    unsigned n = 0;
    weft_lock(&channel->lock);
    struct weft_waiter *tail = to_send ? channel->senders : channel->receivers, *waiter = tail;
    if (tail) {
        do {
            waiter = waiter->next;
            n++;
        } while (waiter != tail);
    }
    weft_unlock(&channel->lock);
    return n;
}

static int send_number(int number, int64_t deadline) { return weft_channel_send(channel, &number, deadline); }

/* The number, or what went wrong. */
static int receive_number(int64_t deadline)
{
    int number = 0, rc = weft_channel_receive(channel, &number, deadline);
    return rc != 0 ? rc : number;
}

static int use_alone(void *arg, void **value)
{
    (void)arg, (void)value;
    struct weft_channel *own = channel;
    CHECK(weft_channel_create(SIZE_MAX / 2, 4, &own) == -EOVERFLOW && !own);
    CHECK(weft_channel_create(1, 1, NULL) == -EINVAL);
    CHECK(weft_channel_create(0, 2, &own) == 0); /* items without bytes are counted */
    CHECK(weft_channel_send(own, NULL, WEFT_NOWAIT) == 0 && weft_channel_send(own, NULL, WEFT_FOREVER) == 0);
    CHECK(weft_channel_send(own, NULL, WEFT_NOWAIT) == -EAGAIN);
    CHECK(weft_channel_receive(own, NULL, WEFT_NOWAIT) == 0 && weft_channel_receive(own, NULL, WEFT_FOREVER) == 0);
    CHECK(weft_channel_receive(own, NULL, WEFT_NOWAIT) == -ETIMEDOUT);
    weft_channel_destroy(own);
    weft_channel_destroy(NULL);
    weft_channel_close(NULL);
    CHECK(weft_channel_send(NULL, "", WEFT_NOWAIT) == -EINVAL && weft_channel_receive(NULL, NULL, WEFT_NOWAIT) == -EINVAL);
    for (size_t capacity = 0; capacity < 4; capacity++) {
        CHECK(weft_channel_create(sizeof(int), capacity, &channel) == 0);
        CHECK(weft_channel_send(channel, NULL, WEFT_NOWAIT) == -EINVAL);
        for (int lap = 0; lap < 3; lap++) {
            for (int i = 1; i <= (int)capacity; i++) {
                CHECK(send_number(i, i == 1 ? WEFT_NOWAIT : WEFT_FOREVER) == 0);
            }
            CHECK(send_number(99, WEFT_NOWAIT) == -EAGAIN);
            int64_t deadline = weft_after(100000);
            CHECK(send_number(99, deadline) == -ETIMEDOUT && weft_now() >= deadline);
            for (int i = 1; i <= (int)capacity; i++) {
                CHECK(i == 2 ? weft_channel_receive(channel, NULL, WEFT_FOREVER) == 0 : receive_number(WEFT_NOWAIT) == i);
            }
            CHECK(receive_number(WEFT_NOWAIT) == -ETIMEDOUT);
            deadline = weft_after(100000);
            CHECK(receive_number(deadline) == -ETIMEDOUT && weft_now() >= deadline);
        }
        for (int i = 1; i <= (int)capacity; i++) {
            CHECK(send_number(i, WEFT_NOWAIT) == 0);
        }
        for (int i = 0; i < 2; i++) { /* closing twice is harmless */
            weft_channel_close(channel);
            CHECK(send_number(9, WEFT_NOWAIT) == -EPIPE && send_number(9, WEFT_FOREVER) == -EPIPE);
        }
        for (int i = 1; i < (int)capacity; i++) { /* what is in it, but for the last, which is dropped */
            CHECK(receive_number(WEFT_FOREVER) == i);
        }
        CHECK(capacity > 0 || (receive_number(WEFT_NOWAIT) == -EPIPE && receive_number(WEFT_FOREVER) == -EPIPE));
        weft_channel_destroy(channel);
    }
    return 0;
}

Test(channel, keeps_its_order_and_its_capacity_and_drains_after_close_B3) { run_on_both(use_alone); }

/* ---- Who waits ---- */

static _Atomic int done;
static int rcs[MOST_PLAYERS];

static int send_own(void *arg, void **value)
{
    (void)value;
    int index = ((struct player *)arg)->index;
    rcs[index] = send_number(index + 100, WEFT_FOREVER);
    gate_open(&done);
    return 0;
}

static int receive_one(void *arg, void **value)
{
    (void)value;
    int index = ((struct player *)arg)->index;
    rcs[index] = receive_number(WEFT_FOREVER);
    gate_open(&done);
    return 0;
}

static void start_in_turn(struct player players[], weft_task_fn *fn, bool to_send)
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_start(&players[i], i, fn, NULL);
        wait_until(waiting(to_send) == (unsigned)i + 1);
    }
}

static void end_all(struct player players[])
{
    for (int i = 0; i < MOST_PLAYERS; i++) {
        player_end(&players[i]);
    }
}

Test(channel, senders_wait_for_receivers_and_are_served_in_turn_B3)
{
    for (size_t capacity = 0; capacity < 3; capacity++) {
        struct player players[MOST_PLAYERS];
        create(capacity);
        for (int i = 0; i < (int)capacity; i++) {
            cr_assert_eq(send_number(i + 1, WEFT_NOWAIT), 0);
        }
        atomic_store(&done, 0);
        start_in_turn(players, send_own, true);
        for (int i = 0; i < (int)capacity; i++) {
            cr_assert_eq(receive_number(WEFT_NOWAIT), i + 1);
            gate_wait(&done, i + 1); /* a sender moves up */
        }
        for (int i = 0; i < MOST_PLAYERS; i++) {
            cr_assert_eq(receive_number(WEFT_NOWAIT), i + 100);
        }
        end_all(players);
        for (int i = 0; i < MOST_PLAYERS; i++) {
            cr_assert_eq(rcs[i], 0);
        }
        weft_channel_destroy(channel);
    }
}

Test(channel, receivers_are_served_in_turn_B3)
{
    for (size_t capacity = 0; capacity < 2; capacity++) {
        struct player players[MOST_PLAYERS];
        create(capacity);
        start_in_turn(players, receive_one, false);
        for (int i = 0; i < MOST_PLAYERS; i++) {
            cr_assert_eq(send_number(i + 1, WEFT_NOWAIT), 0);
        }
        end_all(players);
        for (int i = 0; i < MOST_PLAYERS; i++) {
            cr_assert_eq(rcs[i], i + 1);
        }
        weft_channel_destroy(channel);
    }
}

Test(channel, close_ends_who_waits_B3)
{
    for (int to_send = 0; to_send < 2; to_send++) {
        struct player players[MOST_PLAYERS];
        create(0);
        start_in_turn(players, to_send ? send_own : receive_one, to_send);
        weft_channel_close(channel);
        end_all(players);
        for (int i = 0; i < MOST_PLAYERS; i++) {
            cr_assert_eq(rcs[i], -EPIPE);
        }
        weft_channel_destroy(channel);
    }
}

/* ---- Kills ---- */

static int wait_rc;

static int send_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    wait_rc = send_number(7, WEFT_FOREVER);
    return wait_rc == 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0;
}

static int receive_and_tell(void *arg, void **value)
{
    (void)arg, (void)value;
    wait_rc = receive_number(WEFT_FOREVER);
    return wait_rc >= 0 && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED ? -ENOTTY : 0;
}

Test(channel, killed_waiter_has_sent_and_received_nothing_C4)
{
    for (int to_send = 0; to_send < 2; to_send++) {
        create(0);
        struct weft_task *task = spawn_in(runtime, to_send ? send_and_tell : receive_and_tell, NULL);
        wait_until(waiting(to_send) == 1);
        cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
        weft_task_release(task);
        cr_assert_eq(wait_rc, -ECANCELED);
        cr_assert_eq(waiting(to_send), 0);
        cr_assert_eq(to_send ? receive_number(WEFT_NOWAIT) : -ETIMEDOUT, -ETIMEDOUT);
        cr_assert_eq(to_send ? -EAGAIN : send_number(1, WEFT_NOWAIT), -EAGAIN);
        weft_channel_destroy(channel);
    }
}

/* Going because of a kill, but not yet gone, when its partner comes: the next one is served in its place. */
Test(channel, partner_at_the_instant_of_a_kill_gets_the_next_C4_H23)
{
    for (int to_send = 0; to_send < 2; to_send++) {
        struct player player;
        create(0);
        struct weft_task *task = spawn_in(runtime, to_send ? send_and_tell : receive_and_tell, NULL);
        wait_until(waiting(to_send) == 1);
        wait_for_sleep(task);
        player_start(&player, 1, to_send ? send_own : receive_one, NULL);
        wait_until(waiting(to_send) == 2);
        claim_sleep(task, WEFT_CLAIM_KILLED);
        cr_assert_eq(to_send ? receive_number(WEFT_NOWAIT) : send_number(8, WEFT_NOWAIT), to_send ? 101 : 0);
        player_end(&player);
        cr_assert_eq(rcs[1], to_send ? 0 : 8);
        let_run(task);
        cr_assert_eq(finish_task(task).error, 0);
        cr_assert_eq(wait_rc, -ECANCELED);
        weft_channel_destroy(channel);
    }
}

Test(channel, item_at_the_instant_of_a_kill_is_received_and_the_kill_comes_next_C4)
{
    create(1);
    struct weft_task *task = spawn_in(runtime, receive_and_tell, NULL);
    wait_until(waiting(false) == 1);
    wait_for_sleep(task);
    claim_sleep(task, WEFT_CLAIM_KILLED);
    cr_assert_eq(send_number(8, WEFT_NOWAIT), 0); /* into the channel */
    let_run(task);
    cr_assert_eq(finish_task(task).error, -ENOTTY);
    cr_assert_eq(wait_rc, 8);
    weft_channel_destroy(channel);
}

static int send_for_ever(void *arg) { return (void)arg, send_number(1, WEFT_FOREVER); }
static int send_at_once(void *arg) { return (void)arg, send_number(1, WEFT_NOWAIT); }
static int receive_for_ever(void *arg) { return (void)arg, receive_number(WEFT_FOREVER); }
static int receive_at_once(void *arg) { return (void)arg, receive_number(WEFT_NOWAIT); }

Test(channel, both_are_cancellation_points_unless_NOWAIT_C3)
{
    create(1);
    cr_assert_eq(call_with_kill_pending(send_for_ever, NULL), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(send_at_once, NULL), 0);
    cr_assert_eq(call_with_kill_pending(receive_for_ever, NULL), -ECANCELED);
    cr_assert_eq(call_with_kill_pending(receive_at_once, NULL), 1);
    weft_channel_destroy(channel);
}

Test(channel, raw_link_may_only_try_T8)
{
    create(1);
    cr_assert_eq(call_in_raw_link(send_for_ever, NULL), -EPERM);
    cr_assert_eq(call_in_raw_link(send_at_once, NULL), 0);
    cr_assert_eq(call_in_raw_link(receive_for_ever, NULL), -EPERM);
    cr_assert_eq(call_in_raw_link(receive_at_once, NULL), 1);
    weft_channel_destroy(channel);
}

/* ---- Many ---- */

enum { ITEMS = 2000, SENDERS = MOST_PLAYERS / 2 };
static _Atomic int got[SENDERS * ITEMS], senders_left;

/* Half of them send, and the last one closes; the others receive until then, each sender's items in their order. */
static int play_many(void *arg, void **value)
{
    (void)value;
    int index = ((struct player *)arg)->index, last[SENDERS] = { 0 }, number;
    if (index < SENDERS) {
        for (int i = 0; i < ITEMS; i++) {
            CHECK(send_number(index * ITEMS + i + 1, WEFT_FOREVER) == 0);
        }
        if (atomic_fetch_sub(&senders_left, 1) == 1) {
            weft_channel_close(channel);
        }
        return 0;
    }
    while ((number = receive_number(WEFT_FOREVER)) > 0) {
        int sender = (number - 1) / ITEMS;
        CHECK(number > last[sender]);
        last[sender] = number;
        gate_open(&got[number - 1]);
    }
    CHECK(number == -EPIPE);
    return 0;
}

Test(channel, each_item_is_received_once_and_in_order_B3)
{
    for (size_t capacity = 0; capacity < 4; capacity += 1 + capacity) {
        struct player players[MOST_PLAYERS];
        create(capacity);
        atomic_store(&senders_left, SENDERS);
        for (int i = 0; i < SENDERS * ITEMS; i++) {
            atomic_store(&got[i], 0);
        }
        for (int i = 0; i < MOST_PLAYERS; i++) {
            player_start(&players[i], i, play_many, NULL);
        }
        end_all(players);
        for (int i = 0; i < SENDERS * ITEMS; i++) {
            cr_assert_eq(atomic_load(&got[i]), 1);
        }
        weft_channel_destroy(channel);
    }
}
