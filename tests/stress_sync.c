/* Every lock, event and channel against deadlines and kills, for a while (B1 to B3, C4).
 *
 *     stress_sync [SEED [SECONDS]]
 *
 * For each tool in turn a fresh set of players, most of them tasks that are killed at random, the others foreign threads; they wait
 * with random deadlines. At the end the counts are exact: permits given and taken, items sent and received and their sums, a plain
 * counter under a mutex, the rounds of a barrier, and every kill that was accepted has been delivered. Nobody hangs. */
#include "testing.h"

#include <pthread.h>

#include "task.h"
#include "tasks.h"

enum { TASKS = 8, THREADS = 3, PLAYERS = TASKS + THREADS };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 40;
}

struct player {
    unsigned index;
    uint64_t random;
    struct weft_task *task; /* NULL: on a thread */
    pthread_t thread;
    uint64_t got, sum, sent, sent_sum, late, killed;
    uint64_t accepted; /* kills; the killer's */
    int64_t deadline;
};

static struct game {
    const char *name;
    void (*begin)(void);
    bool (*step)(struct player *player); /* one wait, and what follows it. False: the game is over for this one */
    void (*nudge)(uint64_t *random);     /* beside the players, again and again, until all have left; or NULL */
    void (*check)(struct player players[], uint64_t laps);
} const *game;

static _Atomic bool stop;
static _Atomic int begun, leaving;
static _Atomic uint64_t inexact;

static void expect(const char *what, uint64_t left, uint64_t right)
{
    if (left != right) {
        (void)printf("%s: %s: %llu, not %llu\n", game->name, what, (unsigned long long)left, (unsigned long long)right);
        a_add(&inexact, (uint64_t)1, RELAXED);
    }
}

#define MUST(condition)                                                                  \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            (void)printf("%s: line %d: not so: %s\n", game->name, __LINE__, #condition); \
            abort();                                                                     \
        }                                                                                \
    } while (0)

/* What a wait that has returned left on the stack: a late waker would read it. */
static weft_noinline void scribble(void)
{
    volatile unsigned char dead[512];
    for (unsigned i = 0; i < sizeof dead; i++) {
        dead[i] = 0xdd;
    }
}

static int64_t some_deadline(struct player *player)
{
    switch (next_random(&player->random) % 4) {
    case 0: player->deadline = WEFT_NOWAIT; break;
    case 1: player->deadline = WEFT_FOREVER; break;
    default: player->deadline = os_now() + 1000 + (int64_t)(next_random(&player->random) % 30000); break;
    }
    return player->deadline;
}

/* True: it got what it waited for. */
static bool got(struct player *player, int rc)
{
    scribble();
    switch (rc) {
    case 0: return true;
    case -ETIMEDOUT:
    case -EAGAIN:
        MUST(player->deadline != WEFT_FOREVER && os_now() >= player->deadline);
        player->late++;
        return false;
    case -ECANCELED:
        MUST(player->task && player->deadline != WEFT_NOWAIT);
        player->killed++;
        return false;
    default: (void)printf("%s: a wait returned %d\n", game->name, rc); abort();
    }
}

static void delay(uint64_t *random, unsigned most)
{
    for (volatile unsigned left = (unsigned)(next_random(random) % most); left > 0; left--) {
    }
}

/* ---- mutex: a plain counter ---- */

static struct weft_mutex mutex;
static uint64_t counter;

static void mutex_begin(void)
{
    mutex = (struct weft_mutex)WEFT_ZERO_INIT;
    counter = 0;
}

static bool mutex_step(struct player *player)
{
    if (got(player, weft_mutex_lock(&mutex, some_deadline(player)))) {
        player->got++;
        uint64_t seen = counter;
        delay(&player->random, 256);
        if (next_random(&player->random) % 8 == 0) {
            weft_yield();
        }
        counter = seen + 1;
        weft_mutex_unlock(&mutex);
    }
    return !a_load(&stop, RELAXED);
}

static void mutex_check(struct player players[], uint64_t laps)
{
    (void)players;
    expect("laps under the mutex", counter, laps);
    expect("owner and flags", mutex.opaque[1], 0);
}

/* ---- semaphore ---- */

static struct weft_semaphore semaphore;
static _Atomic uint64_t released;

static void semaphore_begin(void)
{
    weft_semaphore_init(&semaphore, 2);
    a_store(&released, (uint64_t)2, RELAXED);
}

static bool semaphore_step(struct player *player)
{
    player->got += got(player, weft_semaphore_acquire(&semaphore, some_deadline(player)));
    return !a_load(&stop, RELAXED);
}

static void semaphore_nudge(uint64_t *random)
{
    uint32_t n = (uint32_t)(next_random(random) % 3);
    weft_semaphore_release(&semaphore, n);
    a_add(&released, (uint64_t)n, RELAXED);
}

static void semaphore_check(struct player players[], uint64_t laps)
{
    (void)players;
    while (weft_semaphore_acquire(&semaphore, WEFT_NOWAIT) == 0) {
        laps++;
    }
    expect("permits", laps, a_load(&released, RELAXED));
}

/* ---- event: set and cleared ---- */

static struct weft_event event;

static void event_begin(void) { event = (struct weft_event)WEFT_ZERO_INIT; }

static bool event_step(struct player *player)
{
    player->got += got(player, weft_event_wait(&event, some_deadline(player)));
    return !a_load(&stop, RELAXED);
}

static void event_nudge(uint64_t *random)
{
    weft_event_set(&event);
    delay(random, 64);
    weft_event_clear(&event);
}

static void event_check(struct player players[], uint64_t laps)
{
    (void)players, (void)laps;
    expect("waiters left", event.opaque[0], 0);
}

/* ---- condition variable: a number of things, one signal each ---- */

static struct weft_cond cond;
static uint64_t things, made;

static void cond_begin(void)
{
    mutex_begin();
    cond = (struct weft_cond)WEFT_ZERO_INIT;
    things = made = 0;
}

static bool cond_step(struct player *player)
{
    if (got(player, weft_mutex_lock(&mutex, some_deadline(player)))) {
        (void)some_deadline(player);
        while (things == 0 && got(player, weft_cond_wait(&cond, &mutex, player->deadline))) {
        }
        player->got += things > 0;
        things -= things > 0;
        weft_mutex_unlock(&mutex);
    }
    return !a_load(&stop, RELAXED);
}

static void cond_nudge(uint64_t *random)
{
    MUST(weft_mutex_lock(&mutex, WEFT_FOREVER) == 0);
    things++;
    made++;
    weft_mutex_unlock(&mutex);
    (next_random(random) % 8 == 0 ? weft_cond_broadcast : weft_cond_signal)(&cond);
}

static void cond_check(struct player players[], uint64_t laps)
{
    (void)players;
    expect("things", laps + things, made);
    expect("waiters left", cond.opaque[0], 0);
    expect("owner and flags", mutex.opaque[1], 0);
}

/* ---- barrier: all come, whatever ends their waits, and one is the last ---- */

static struct weft_barrier barrier;
static _Atomic uint64_t came, lasts;
static _Atomic uint64_t last_round; /* all play to this one */

static void barrier_begin(void)
{
    weft_barrier_init(&barrier, PLAYERS);
    a_store(&last_round, UINT64_MAX, RELAXED);
    a_store(&came, (uint64_t)0, RELAXED);
    a_store(&lasts, (uint64_t)0, RELAXED);
}

static bool barrier_step(struct player *player)
{
    a_add(&came, (uint64_t)1, RELAXED);
    int rc;
    do {
        rc = weft_barrier_wait(&barrier, some_deadline(player));
    } while (rc != 1 && !got(player, rc));
    if (rc == 1 && a_load(&stop, RELAXED) && a_load(&last_round, RELAXED) == UINT64_MAX) {
        a_store(&last_round, player->got + 1, RELAXED); /* the next one: all have come to that when this was done */
    }
    a_add(&lasts, (uint64_t)(rc == 1), RELAXED);
    player->got++;
    MUST(a_load(&came, RELAXED) >= player->got * PLAYERS); /* nobody went on before all had come */
    return player->got <= a_load(&last_round, RELAXED);
}

static void barrier_check(struct player players[], uint64_t laps)
{
    for (unsigned i = 1; i < PLAYERS; i++) {
        expect("rounds", players[i].got, players[0].got);
    }
    expect("arrivals", a_load(&came, RELAXED), laps);
    expect("last ones", a_load(&lasts, RELAXED), players[0].got);
}

/* ---- channels: even players send, odd ones receive; by one channel, or by a select over both ---- */

static struct weft_channel *channels[2];
static _Atomic int senders_left;

static void channels_begin(void)
{
    MUST(weft_channel_create(sizeof(uint64_t), 0, &channels[0]) == 0 &&
         weft_channel_create(sizeof(uint64_t), 3, &channels[1]) == 0);
    atomic_store(&senders_left, (PLAYERS + 1) / 2);
}

static bool channels_send(struct player *player)
{
    uint64_t item = player->sent * PLAYERS + player->index;
    struct weft_select_case cases[2] = { { .channel = channels[0], .send = &item }, { .channel = channels[1], .send = &item } };
    size_t chosen;
    unsigned way = (unsigned)(next_random(&player->random) % 4);
    int64_t deadline = some_deadline(player);
    int rc = way < 2 ? weft_channel_send(channels[way], &item, deadline) : weft_channel_select(cases, 2, deadline, &chosen);
    if (got(player, rc)) {
        player->sent++;
        player->sent_sum += item;
    }
    if (!a_load(&stop, RELAXED)) {
        return true;
    }
    if (atomic_fetch_sub(&senders_left, 1) == 1) {
        weft_channel_close(channels[0]);
        weft_channel_close(channels[1]);
    }
    return false;
}

static bool channels_receive(struct player *player)
{
    uint64_t items[2] = { UINT64_MAX, UINT64_MAX };
    struct weft_select_case cases[2] = { { .channel = channels[0], .receive = &items[0] },
                                         { .channel = channels[1], .receive = &items[1] } };
    size_t chosen = next_random(&player->random) % 4;
    int64_t deadline = some_deadline(player);
    int rc = chosen < 2 ? weft_channel_receive(channels[chosen], &items[chosen], deadline)
                        : weft_channel_select(cases, 2, deadline, &chosen);
    if (rc == 0 && cases[chosen].rc != 0) {
        rc = cases[chosen].rc;
    }
    if (rc == -EPIPE) { /* the other may have more */
        rc = weft_channel_receive(channels[1 - chosen], &items[chosen], player->deadline = WEFT_NOWAIT);
        if (rc == -EPIPE) {
            return false;
        }
    }
    if (got(player, rc)) {
        MUST(items[chosen] != UINT64_MAX && items[1 - chosen] == UINT64_MAX);
        player->got++;
        player->sum += items[chosen];
    } else {
        MUST(items[0] == UINT64_MAX && items[1] == UINT64_MAX);
    }
    return true;
}

static bool channels_step(struct player *player)
{
    return player->index % 2 == 0 ? channels_send(player) : channels_receive(player);
}

static void channels_check(struct player players[], uint64_t laps)
{
    uint64_t sum = 0, sent = 0, sent_sum = 0;
    for (unsigned i = 0; i < PLAYERS; i++) {
        sum += players[i].sum;
        sent += players[i].sent;
        sent_sum += players[i].sent_sum;
    }
    expect("items received", laps, sent);
    expect("their sum", sum, sent_sum);
    weft_channel_destroy(channels[0]);
    weft_channel_destroy(channels[1]);
}

/* ---- */

static const struct game games[] = {
    { "mutex", mutex_begin, mutex_step, NULL, mutex_check },
    { "semaphore", semaphore_begin, semaphore_step, semaphore_nudge, semaphore_check },
    { "event", event_begin, event_step, event_nudge, event_check },
    { "cond", cond_begin, cond_step, cond_nudge, cond_check },
    { "barrier", barrier_begin, barrier_step, NULL, barrier_check },
    { "channel", channels_begin, channels_step, NULL, channels_check },
};
enum { GAMES = sizeof games / sizeof games[0] };

static int play(void *arg, void **value)
{
    (void)value;
    struct player *player = arg;
    gate_open(&begun);
    while (game->step(player)) {
        if (next_random(&player->random) % 8 == 0) {
            weft_yield();
        }
    }
    gate_open(&leaving);
    gate_wait(&leaving, PLAYERS + 1); /* no more kills */
    if (player->task && weft_sleep_until(WEFT_NOWAIT) == -ECANCELED) {
        player->killed++;
    }
    return 0;
}

static void *play_on_a_thread(void *arg)
{
    void *value;
    (void)play(arg, &value);
    return NULL;
}

static void play_game(struct weft_runtime *runtime, uint64_t *random, int64_t duration)
{
    static struct player players[PLAYERS];
    memset(players, 0, sizeof players);
    a_store(&stop, false, RELAXED);
    atomic_store(&begun, 0);
    atomic_store(&leaving, 0);
    game->begin();
    for (unsigned i = 0; i < PLAYERS; i++) {
        players[i].index = i;
        players[i].random = *random + 1 + i;
        if (i < TASKS) {
            MUST(weft_task_create(runtime, play, &players[i], NULL, &players[i].task) == 0);
            MUST(weft_task_start(players[i].task) == 0);
        } else {
            MUST(pthread_create(&players[i].thread, NULL, play_on_a_thread, &players[i]) == 0);
        }
    }
    gate_wait(&begun, PLAYERS); /* a task that is killed before would never begin */
    for (int64_t end = os_now() + duration; atomic_load(&leaving) < PLAYERS;) {
        a_store(&stop, os_now() >= end, RELAXED);
        struct player *victim = &players[next_random(random) % TASKS];
        victim->accepted += weft_task_kill(victim->task, 0, WEFT_NOWAIT) == 0;
        if (game->nudge) {
            game->nudge(random);
        }
        delay(random, 4096);
        if (a_load(&stop, RELAXED)) {
            os_thread_yield();
        }
    }
    gate_open(&leaving);
    uint64_t laps = 0, late = 0, killed = 0;
    for (unsigned i = 0; i < PLAYERS; i++) {
        if (players[i].task) {
            expect("outcome", finish_task(players[i].task).status, WEFT_OK);
            expect("kills", players[i].killed, players[i].accepted);
        } else {
            (void)pthread_join(players[i].thread, NULL);
        }
        laps += players[i].got;
        late += players[i].late;
        killed += players[i].killed;
    }
    game->check(players, laps);
    (void)printf("%-10s %llu got it, %llu timed out, %llu were killed\n", game->name, (unsigned long long)laps,
                 (unsigned long long)late, (unsigned long long)killed);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)os_now();
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : weft_test_full() ? 120 : 3;
    (void)printf("seed %llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    for (unsigned i = 0; i < 2 * GAMES; i++) { /* with several workers, and with one */
        uint64_t random = seed + 1000 * i;
        game = &games[i % GAMES];
        struct weft_runtime *runtime = runtime_with(i < GAMES ? 3 : 1);
        play_game(runtime, &random, seconds * WEFT_SEC / (2 * GAMES));
        (void)weft_runtime_destroy(runtime);
    }
    return a_load(&inexact, RELAXED) == 0 ? 0 : 1;
}
