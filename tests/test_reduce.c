/* reduce: partials and their order (contract M7, M4). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "reductions.h"

static int reduce_in_task(void *arg, void **result)
{
    (void)arg, (void)result;
    reduce_whole(7, N, 0, false);
    reduce_whole(7, N, 3, true);
    return 0;
}

Test(reduce, partials_are_made_filled_in_order_joined_in_order_and_ended_once_M7)
{
    begin(4);
    tally.fail_at = WEFT_NO_INDEX;
    static const size_t grains[] = { 0, 1, 3, 1000, N, N + 1, SIZE_MAX };
    for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
        for (int variant = 0; variant < 4; variant++) {
            tally.yield = variant / 2;
            reduce_whole(0, N, grains[i], variant % 2);
            reduce_whole(SIZE_MAX - 3000, 3000, grains[i], variant % 2);
            reduce_whole(5, 1, grains[i], variant % 2);
        }
    }
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, reduce_in_task, NULL, NULL, &task), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_OK);
    weft_task_release(task);
    end();
}

Test(reduce, nothing_is_made_of_an_empty_range)
{
    begin(1);
    struct interval acc;
    cr_assert_eq(reduce(9, 0, NULL, &acc), 0);
    cr_assert_eq(reduce(SIZE_MAX, 0, NULL, &acc), 0);
    cr_assert_eq(tally.made + tally.joined + tally.calls, 0);
    end();
}

/* ---- the same result, to the last bit ---- */

static int add_inverses(void *ctx, size_t from, size_t to, void *acc)
{
    (void)ctx;
    for (size_t i = from; i < to; i++) {
        *(float *)acc += 1.0f / (float)(i + 1);
    }
    if (from % 5 == 0) {
        weft_yield();
    }
    return 0;
}

Test(reduce, a_deterministic_sum_is_the_same_in_every_pool_M7)
{
    static const struct weft_reduce_ops sum = {
        .struct_size = sizeof sum, .acc_size = sizeof(float), .init = zero, .body = add_inverses, .join = add
    };
    static const size_t grains[] = { 0, 1, 7, 5000 };
    for (size_t i = 0; i < 4; i++) {
        float first = 0;
        for (size_t size = 1; size <= 8; size++) {
            begin(size);
            float acc = 0.5f;
            cr_assert_eq(weft_group_reduce(pool, 0, N, &sum, NULL, &acc,
                                           WEFT_OPTIONS(weft_map_options, .deterministic = true, .grain = grains[i])),
                         0);
            cr_assert(size == 1 || memcmp(&acc, &first, sizeof acc) == 0, "grain %zu, pool of %zu", grains[i], size);
            first = acc;
            end();
        }
        cr_assert(first > 10.5f && first < 12.0f);
    }
}

/* ---- blocked calls ---- */

static struct gate gate;

static void reduce_blocked(void *arg)
{
    struct interval acc;
    *(int *)arg = reduce(0, N, WEFT_OPTIONS(weft_map_options, .grain = 10, .report = &report, .deterministic = tally.yield), &acc);
    check(*(int *)arg != 0 || (acc.begin == 0 && acc.end == N));
}

/* M4: the others go on, and nothing is joined past the gap; the pile of partials has a bound. */
static void first_call_blocks(bool deterministic)
{
    begin(2);
    tally = (struct tally){ .gate = &gate, .block_at = 0, .fail_at = WEFT_NO_INDEX, .yield = deterministic };
    struct os_thread thread;
    int rc = 1;
    cr_assert_eq(os_thread_start(&thread, reduce_blocked, &rc, "caller"), 0);
    size_t held_back = deterministic ? 3 : 0; /* calls of the same block */
    until(a_load(&tally.calls, SEQ_CST) == N / 10 - held_back && gate_waiting(&gate) == 1);
    cr_assert_eq(a_load(&tally.joined, SEQ_CST), 0);
    cr_assert_leq(a_load(&tally.most, SEQ_CST), deterministic ? DETERMINISTIC : N / 10);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(rc, 0);
    cr_assert_eq(report.ok, N / 10);
    end();
}

Test(reduce, a_blocked_call_holds_nobody_back_M4) { first_call_blocks(false); }
Test(reduce, a_blocked_call_of_a_deterministic_one_holds_only_its_block_back_M4) { first_call_blocks(true); }

static int block_each(void *ctx, size_t from, size_t to, void *acc)
{
    (void)from, (void)to, (void)acc;
    return gate_pass(ctx);
}

static void reduce_each_blocked(void *arg)
{
    static const struct weft_reduce_ops waits = {
        .struct_size = sizeof waits, .acc_size = sizeof(float), .init = zero, .body = block_each, .join = add
    };
    float acc = 0;
    *(int *)arg = weft_group_reduce(pool, 0, 40, &waits, &gate, &acc, WEFT_OPTIONS(weft_map_options, .grain = 1));
}

Test(reduce, as_many_calls_block_at_once_as_the_pool_has_slots_M4)
{
    begin(5);
    struct os_thread thread;
    int rc = 1;
    cr_assert_eq(os_thread_start(&thread, reduce_each_blocked, &rc, "caller"), 0);
    until(gate_waiting(&gate) == 5);
    cr_assert_eq(weft_group_len(pool), 5);
    gate_open(&gate);
    os_thread_join(thread);
    cr_assert_eq(rc, 0);
    end();
}

/* ---- arguments ---- */

Test(reduce, what_is_wrong_is_refused_and_nothing_runs)
{
    begin(1);
    float acc = 1;
    int status[3];
    const struct weft_reduce_ops good = {
        .struct_size = sizeof good, .acc_size = sizeof(float), .init = zero, .body = do_zero, .join = add
    };
    struct weft_reduce_ops bad = good;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, NULL, NULL, &acc, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 3, 0, &good, NULL, &acc, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &good, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &good, NULL, &acc, WEFT_OPTIONS(weft_map_options, .status = status)), -EINVAL);
    bad.acc_size = 0;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.init = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.body = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.join = NULL;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.struct_size = 0;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -EINVAL);
    bad = good;
    bad.acc_size = SIZE_MAX;
    cr_assert_eq(weft_group_reduce(pool, 0, 3, &bad, NULL, &acc, NULL), -ENOMEM);
    cr_assert(acc == 1);
    cr_assert_eq(weft_group_reduce(NULL, 0, 3, &good, NULL, &acc, NULL), 0);
    cr_assert(acc == 1);
    end();
}
