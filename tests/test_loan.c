/* Loans: nested use of full pools always ends, and strangers gain nothing by it (contract P6). WEFT_TEST_WORKERS.
 *
 * Everywhere here a stranger stands in the queues: work that nobody waits for, which may not have a lent slot. */
#include "testing.h"

#include "gate.h"

enum { MOST_DEPTH = 5, WIDTH = 2 };

static struct weft_runtime *runtime;
static struct weft_group *pools[2];
static struct gate gate;
static _Atomic uint32_t leaves, strangers;

/* ---- one level of nesting, each in another way ---- */

struct level {
    unsigned depth;  /* how many levels below */
    unsigned at;     /* how many above */
    unsigned across; /* 1: every level is in the other pool */
    unsigned from;   /* the pool of the topmost */
    unsigned way;    /* 0 map, 1 imap, 2 get of a task that maps, 3 each of them in turn */
};

static int descend(const struct level *level);

static struct weft_group *pool_of(const struct level *level) { return pools[level->from ^ (level->at & level->across)]; }

static int map_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return descend(ctx);
}

static int imap_item(void *ctx, void *item, void **result)
{
    (void)item, (void)result;
    return descend(ctx);
}

static int in_imap(struct level *next, struct weft_group *pool)
{
    static const char things[WIDTH];
    struct weft_array array = { .base = things, .stride = 1, .n = WIDTH };
    struct weft_imap *imap;
    struct weft_item item;
    int n = 0, rc = weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, imap_item, next,
                                    WEFT_OPTIONS(weft_imap_options, .maxsize = 2), &imap);
    check_eq(rc, 0);
    while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
        check_eq(item.status, WEFT_OK);
        n++;
    }
    check_eq(rc, 0);
    check_eq(n, WIDTH);
    return weft_imap_destroy(imap);
}

static int in_map(struct level *next, struct weft_group *pool)
{
    return weft_group_map(pool, map_item, next, WIDTH, NULL, 0, NULL, 0, NULL);
}

/* A task that is no member does it, and this one waits for that. */
struct errand {
    struct level *next;
    struct weft_group *pool;
};

static int run_errand(void *arg, void **result)
{
    (void)result;
    struct errand *errand = arg;
    return in_map(errand->next, errand->pool);
}

static int in_get(struct level *next, struct weft_group *pool)
{
    struct errand errand = { next, pool };
    struct weft_task *task;
    struct weft_outcome outcome;
    check_eq(weft_task_spawn(runtime, run_errand, &errand, NULL, &task), 0);
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    weft_task_release(task);
    return outcome.error;
}

static int descend(const struct level *level)
{
    if (level->depth == 0) {
        a_add(&leaves, 1u, RELAXED);
        weft_yield();
        return 0;
    }
    struct level next = *level;
    next.depth--;
    struct weft_group *pool = pool_of(level);
    next.at++;
    switch (level->way == 3 ? next.at % 3 : level->way) {
    case 0: return in_map(&next, pool);
    case 1: return in_imap(&next, pool);
    default: return in_get(&next, pool);
    }
}

static int topmost(void *arg, void **result)
{
    (void)result;
    return descend(arg);
}

static unsigned power(unsigned base, unsigned exponent) { return exponent ? base * power(base, exponent - 1) : 1; }

static int be_a_stranger(void *arg, void **result)
{
    (void)arg, (void)result;
    a_add(&strangers, 1u, SEQ_CST);
    return 0;
}

static void queue_stranger(void *pool) { check_eq(weft_group_spawn(pool, be_a_stranger, NULL, NULL), 0); }

/* In a member of a pool of `size`, `depth` maps or imaps in one another; a stranger queues in each pool meanwhile. */
static void nest(unsigned way, unsigned across)
{
    runtime = runtime_make();
    unsigned expected_strangers = 0;
    for (size_t size = 1; size <= 3; size++) {
        for (unsigned depth = 1; depth <= MOST_DEPTH; depth++) {
            pools[0] = pool_make(runtime, size);
            pools[1] = pool_make(runtime, size);
            a_store(&leaves, 0u, RELAXED);
            struct level level = { .depth = depth, .across = across, .way = way };
            struct weft_task *tasks[3];
            for (size_t i = 0; i < size; i++) {
                check_eq(weft_group_spawn(pools[0], topmost, &level, &tasks[i]), 0);
            }
            struct os_thread threads[2];
            for (int i = 0; i < 2; i++) {
                check_eq(os_thread_start(&threads[i], queue_stranger, pools[i], "stranger"), 0);
            }
            check_eq(weft_tasks_wait(tasks, size, size, WEFT_FOREVER), size);
            check_eq(leaves, size * power(WIDTH, depth));
            for (size_t i = 0; i < size; i++) {
                struct weft_outcome outcome;
                check_eq(weft_task_get(tasks[i], WEFT_FOREVER, &outcome), 0);
                check_eq(outcome.status, WEFT_OK);
            }
            weft_tasks_release(tasks, size);
            expected_strangers += 2;
            for (int i = 0; i < 2; i++) {
                os_thread_join(threads[i]);
                check_eq(weft_group_join(pools[i], WEFT_FOREVER), 0);
                check_eq(weft_pool_free_count(pools[i]), size); /* every loan and every debt is settled */
                check_eq(weft_group_len(pools[i]), 0);
                check_eq(pool_queued(pools[i]), 0);
                check(pools[i]->admission.loans == NULL);
                check_eq(weft_group_destroy(pools[i]), 0);
            }
            check_eq(strangers, expected_strangers);
        }
    }
    check_eq(weft_runtime_destroy(runtime), 0);
}

Test(loan, nested_maps_end_at_every_size_and_depth_H28) { nest(0, 0); }
Test(loan, nested_imaps_end_at_every_size_and_depth_H28) { nest(1, 0); }
Test(loan, nested_gets_end_at_every_size_and_depth_H28) { nest(2, 0); }
Test(loan, maps_in_imaps_in_gets_end_H28) { nest(3, 0); }
Test(loan, maps_to_and_fro_between_two_pools_end_H28) { nest(0, 1); }
Test(loan, imaps_to_and_fro_between_two_pools_end_H28) { nest(1, 1); }
Test(loan, gets_to_and_fro_between_two_pools_end_H28) { nest(2, 1); }
Test(loan, all_of_them_to_and_fro_end_H28) { nest(3, 1); }

/* A → B and B → A at once, again and again: each waits for the other's slot. */
static void two_chains(unsigned way)
{
    runtime = runtime_make();
    for (size_t size = 1; size <= 2; size++) {
        for (int round = 0; round < 20; round++) {
            struct level levels[2];
            struct weft_task *tasks[4];
            a_store(&leaves, 0u, RELAXED);
            for (unsigned i = 0; i < 2; i++) {
                pools[i] = pool_make(runtime, size);
            }
            for (unsigned i = 0; i < 2; i++) {
                levels[i] = (struct level){ .depth = 3, .at = 1, .across = 1, .from = i, .way = way };
            }
            size_t n = 0;
            for (size_t k = 0; k < size; k++) {
                for (unsigned i = 0; i < 2; i++) { /* a member of pool i, whose first map is in the other one */
                    check_eq(weft_group_spawn(pools[i], topmost, &levels[i], &tasks[n++]), 0);
                }
            }
            check_eq(weft_tasks_wait(tasks, n, n, WEFT_FOREVER), n);
            check_eq(leaves, n * power(WIDTH, 3));
            weft_tasks_release(tasks, n);
            for (int i = 0; i < 2; i++) {
                check_eq(weft_group_join(pools[i], WEFT_FOREVER), 0);
                check_eq(weft_pool_free_count(pools[i]), size);
                check_eq(weft_group_destroy(pools[i]), 0);
            }
        }
    }
    check_eq(weft_runtime_destroy(runtime), 0);
}

Test(loan, two_chains_of_maps_in_opposite_directions_end) { two_chains(0); }
Test(loan, two_chains_of_imaps_in_opposite_directions_end) { two_chains(1); }
Test(loan, two_chains_of_gets_in_opposite_directions_end) { two_chains(2); }
Test(loan, two_chains_of_all_in_opposite_directions_end) { two_chains(3); }

/* ---- what a lent slot is for, and what not ---- */

static _Atomic bool stranger_ran, lender_back;
static struct gate inner;

static int run_as_stranger(void *arg, void **result)
{
    (void)arg, (void)result;
    check(lender_back); /* the only slot was lent, and is the lender's until it ends */
    a_store(&stranger_ran, true, SEQ_CST);
    return 0;
}

static void queue_as_stranger(void *pool) { check_eq(weft_group_spawn(pool, run_as_stranger, NULL, NULL), 0); }

static int wait_for_task(void *task, void **result)
{
    (void)result;
    struct weft_outcome outcome;
    check_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check_eq(weft_tasks_wait((struct weft_task *const *)&task, 1, 1, WEFT_FOREVER), 1);
    a_store(&lender_back, true, SEQ_CST);
    return 0;
}

/* The member waits for a task outside; a stranger waits for the slot, and gets it only when the member has ended. */
Test(loan, a_stranger_never_gets_a_lent_slot)
{
    runtime = runtime_make();
    struct weft_group *pool = pool_make(runtime, 1);
    struct weft_task *outside;
    struct os_thread thread;
    cr_assert_eq(weft_task_spawn(runtime, pass_gate, &gate, NULL, &outside), 0);
    cr_assert_eq(weft_group_spawn(pool, wait_for_task, outside, NULL), 0);
    until(pool->admission.loan_count == 1);
    cr_assert_eq(weft_group_spawn_with(pool, run_as_stranger, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    cr_assert_eq(weft_pool_free_count(pool), 0, "a lent slot is not free");
    cr_assert_eq(os_thread_start(&thread, queue_as_stranger, pool, "stranger"), 0);
    until(pool_queued(pool) == 1);
    for (int i = 0; i < 200; i++) {
        weft_yield();
        cr_assert_eq(pool_queued(pool), 1);
    }
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert(stranger_ran);
    weft_task_release(outside);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

static int spawn_inside(void *pool, void **result)
{
    (void)result;
    check_eq(gate_pass(&inner), 0);
    struct weft_task *task;
    check_eq(weft_group_spawn(pool, do_nothing, NULL, &task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    check_eq(weft_group_map(pool, map_item, &(struct level){ 0 }, 5, NULL, 0, NULL, 0, NULL), 0);
    return 0;
}

/* What the member waits for needs the pool itself: it has the slot, past the stranger that came first. Directly (get of a task that
 * spawns and maps), and through another task that waits for that one. */
static void by_way_of(bool indirect)
{
    runtime = runtime_make();
    struct weft_group *pool = pool_make(runtime, 1);
    struct weft_task *worker, *middle = NULL;
    struct os_thread thread;
    check_eq(weft_task_spawn(runtime, spawn_inside, pool, NULL, &worker), 0);
    if (indirect) {
        check_eq(weft_task_spawn(runtime, wait_for_task, worker, NULL, &middle), 0);
    }
    a_store(&lender_back, false, SEQ_CST);
    check_eq(weft_group_spawn(pool, wait_for_task, indirect ? middle : worker, NULL), 0);
    until(pool->admission.loan_count == 1);
    check_eq(os_thread_start(&thread, queue_as_stranger, pool, "stranger"), 0);
    until(pool_queued(pool) == 1);
    gate_open(&inner);
    os_thread_join(thread);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    check(stranger_ran);
    weft_task_release(worker);
    weft_task_release(middle);
    check_eq(weft_pool_free_count(pool), 1);
    check_eq(weft_group_destroy(pool), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

Test(loan, what_is_waited_for_may_have_the_slot) { by_way_of(false); }
Test(loan, what_is_waited_for_through_another_may_have_the_slot) { by_way_of(true); }

/* ---- coming back ---- */

static struct weft_imap *the_imap;

static int pass_in_item(void *ctx, void *item, void **result)
{
    (void)item, (void)result;
    return gate_pass(ctx);
}

static int lend_and_come_back(void *pool, void **result)
{
    (void)result;
    struct weft_array array = { .base = &gate, .stride = 1, .n = 1 };
    struct weft_item item;
    check_eq(weft_group_imap(pool, &(struct weft_source){ weft_array_next, &array, NULL }, 1, pass_in_item, &gate, NULL, &the_imap),
             0);
    while (gate_waiting(&gate) == 0) { /* its item runs on my slot, lent by this wait */
        check_eq(weft_imap_next(the_imap, &item, weft_after(5 * WEFT_MSEC)), -ETIMEDOUT);
    }
    while (weft_group_len(pool) != 2) { /* a participant that was one too many is on its way out */
        weft_yield();
    }
    check_eq(gate_pass(&inner), 0); /* I am back although it still runs: the pool is over by one */
    check_eq(weft_imap_next(the_imap, &item, WEFT_FOREVER), 1);
    check_eq(weft_imap_destroy(the_imap), 0);
    return 0;
}

Test(loan, coming_back_never_waits_and_the_debt_is_paid)
{
    runtime = runtime_make();
    struct weft_group *pool = pool_make(runtime, 1);
    struct os_thread thread;
    cr_assert_eq(weft_group_spawn(pool, lend_and_come_back, pool, NULL), 0);
    until(gate_waiting(&gate) == 1 && gate_waiting(&inner) == 1);
    cr_assert_eq(weft_pool_free_count(pool), 0);
    cr_assert(weft_pool_full(pool));
    size_t queued = pool_queued(pool); /* the imap may have asked for one participant more than it has items */
    cr_assert_eq(os_thread_start(&thread, queue_stranger, pool, "stranger"), 0);
    until(pool_queued(pool) == queued + 1);
    gate_open(&gate); /* the borrower ends: that pays the debt, and leaves no slot for the stranger */
    until(weft_group_len(pool) == 1);
    for (int i = 0; i < 200; i++) {
        weft_yield();
        cr_assert_geq(pool_queued(pool), 1);
        cr_assert_eq(strangers, 0);
    }
    gate_open(&inner);
    os_thread_join(thread);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(strangers, 1);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

/* Who destroys an imap waits for its running items like a reader. */
static int map_after_gate(void *ctx, void *item, void **result)
{
    (void)item, (void)result;
    check_eq(gate_pass(&gate), 0);
    return weft_group_map(ctx, map_item, &(struct level){ 0 }, 3, NULL, 0, NULL, 0, NULL);
}

static int leave_and_destroy(void *arg, void **result)
{
    (void)arg, (void)result;
    struct weft_array array = { .base = &gate, .stride = 1, .n = 1 };
    struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_item item;
    check_eq(weft_group_imap(pools[1], &source, 1, map_after_gate, pools[0], NULL, &the_imap), 0);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_imap_next(the_imap, &item, WEFT_NOWAIT), -ETIMEDOUT);
    gate_open(&gate);
    until(pool_queued(pools[0]) == 1); /* the item wants my slot */
    check_eq(weft_imap_destroy(the_imap), 0);
    return 0;
}

Test(loan, destroy_of_an_imap_lends_too_H28)
{
    runtime = runtime_make();
    for (int i = 0; i < 2; i++) {
        pools[i] = pool_make(runtime, 1);
    }
    cr_assert_eq(weft_group_spawn(pools[0], leave_and_destroy, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(weft_group_join(pools[i], WEFT_FOREVER), 0);
        cr_assert_eq(weft_pool_free_count(pools[i]), 1);
        cr_assert_eq(weft_group_destroy(pools[i]), 0);
    }
    cr_assert_eq(leaves, 3);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}
