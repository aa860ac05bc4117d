/* Coming into a group and leaving it: add, start, discard, contains, snapshot (contract G1 to G4, P7). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"

static struct gate gate;
static _Atomic uint32_t begun;

static int note_begin(void *arg, void **result)
{
    (void)result;
    a_add(&begun, 1u, SEQ_CST);
    return arg ? gate_pass(arg) : 0;
}

static struct weft_task *gated(void)
{
    struct weft_task *task;
    check_eq(weft_task_spawn(runtime, pass_gate, &gate, NULL, &task), 0);
    return task;
}

static struct weft_task *unstarted(void *arg)
{
    struct weft_task *task;
    check_eq(weft_task_create(runtime, note_begin, arg, NULL, &task), 0);
    return task;
}

/* A call on a thread of its own, for calls that wait. */
struct call {
    int (*fn)(struct weft_group *, struct weft_task *, int64_t);
    struct weft_group *group;
    struct weft_task *task;
    int rc;
    struct os_thread thread;
};

static void run_call(void *arg)
{
    struct call *call = arg;
    call->rc = call->fn(call->group, call->task, WEFT_FOREVER);
}

static void call_begin(struct call *call, int (*fn)(struct weft_group *, struct weft_task *, int64_t), struct weft_task *task)
{
    *call = (struct call){ .fn = fn, .group = pool, .task = task };
    size_t before = pool_queued(pool);
    check_eq(os_thread_start(&call->thread, run_call, call, "caller"), 0);
    until(pool_queued(pool) == before + 1);
}

static int call_end(struct call *call)
{
    os_thread_join(call->thread);
    return call->rc;
}

/* ---- add ---- */

Test(membership, add_takes_a_slot_once_and_none_for_a_finished_task)
{
    begin(2);
    struct weft_task *task = gated(), *other = gated(), *done;
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &done), 0);
    cr_assert_eq(weft_task_join(done, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_add(pool, done, WEFT_FOREVER), 0);
    cr_assert_not(weft_group_contains(pool, done));
    cr_assert_eq(weft_pool_free_count(pool), 2);
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
    cr_assert(weft_group_contains(pool, task));
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), -EALREADY);
    cr_assert_eq(weft_group_len(pool), 1);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_add(pool, other, WEFT_NOWAIT), 1);
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), -EALREADY, "also when the pool is full");
    cr_assert_eq(weft_group_add(pool, done, WEFT_FOREVER), 0, "also when the pool is full");
    gate_open(&gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_not(weft_group_contains(pool, task));
    weft_task_release(task);
    weft_task_release(other);
    weft_task_release(done);
    end();
}

Test(membership, a_full_pool_refuses_and_nothing_has_changed)
{
    begin(1);
    struct weft_task *holder = gated(), *task = gated(), *created = unstarted(NULL);
    cr_assert_eq(weft_group_add(pool, holder, WEFT_NOWAIT), 1);
    cr_assert_eq(weft_group_add(pool, task, WEFT_NOWAIT), -EAGAIN);
    cr_assert_eq(weft_group_add(pool, task, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(weft_group_start(pool, created, WEFT_NOWAIT), -EAGAIN);
    cr_assert_eq(weft_group_start(pool, created, weft_after(WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_eq(weft_group_len(pool), 1);
    cr_assert_eq(begun, 0);
    cr_assert_eq(weft_task_start(created), 0, "a refusal gives the claim back");
    cr_assert_eq(weft_task_join(created, WEFT_FOREVER), 0);
    gate_open(&gate);
    weft_task_release(holder);
    weft_task_release(task);
    weft_task_release(created);
    end();
}

Test(membership, a_member_by_spawn_is_a_member)
{
    begin(2);
    struct weft_task *task;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &task), 0);
    cr_assert(weft_group_contains(pool, task));
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), -EALREADY);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    gate_open(&gate);
    weft_task_release(task);
    end();
}

Test(membership, of_several_groups_each_sees_it_leave)
{
    begin(1);
    struct weft_group *others[3];
    struct weft_task *task;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &task), 0);
    for (int i = 0; i < 3; i++) {
        others[i] = pool_make(runtime, 1);
        cr_assert_eq(weft_group_add(others[i], task, WEFT_FOREVER), 1);
        cr_assert(weft_pool_full(others[i]));
    }
    cr_assert_eq(weft_group_discard(others[1], task), 1);
    gate_open(&gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_group_len(others[i]), 0);
        cr_assert_eq(weft_pool_free_count(others[i]), 1);
        cr_assert_eq(weft_group_destroy(others[i]), 0);
    }
    weft_task_release(task);
    end();
}

Test(membership, bad_input_is_refused)
{
    begin(1);
    struct weft_runtime *elsewhere = runtime_with(1);
    struct weft_task *stranger;
    cr_assert_eq(weft_task_create(elsewhere, do_nothing, NULL, NULL, &stranger), 0);
    cr_assert_eq(weft_group_add(pool, stranger, WEFT_FOREVER), -EXDEV);
    cr_assert_eq(weft_group_start(pool, stranger, WEFT_FOREVER), -EXDEV);
    cr_assert_eq(weft_group_discard(pool, stranger), 0);
    cr_assert_eq(weft_group_add(pool, NULL, WEFT_FOREVER), -EINVAL);
    cr_assert_eq(weft_group_add(NULL, stranger, WEFT_FOREVER), -EINVAL);
    cr_assert_eq(weft_group_start(pool, NULL, WEFT_FOREVER), -EINVAL);
    cr_assert_eq(weft_group_discard(pool, NULL), -EINVAL);
    cr_assert_not(weft_group_contains(pool, NULL));
    cr_assert_not(weft_group_contains(NULL, stranger));
    cr_assert_eq(weft_group_snapshot(NULL, NULL, 0), 0);
    cr_assert_eq(weft_task_start(stranger), 0);
    weft_task_release(stranger);
    cr_assert_eq(weft_runtime_destroy(elsewhere), 0);
    end();
}

Test(membership, a_wait_to_add_ends_with_the_task)
{
    begin(1);
    struct weft_task *holder;
    struct gate own = { 0 };
    struct call call;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &holder), 0);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, pass_gate, &own, NULL, &task), 0);
    call_begin(&call, weft_group_add, task);
    gate_open(&own);
    cr_assert_eq(call_end(&call), 0, "and the pool is full still");
    cr_assert_eq(weft_group_len(pool), 1);
    gate_open(&gate);
    weft_task_release(task);
    weft_task_release(holder);
    end();
}

Test(membership, an_add_that_waits_gets_the_slot_in_its_turn)
{
    begin(1);
    struct weft_task *holder, *task = gated();
    struct call call;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &holder), 0);
    call_begin(&call, weft_group_add, task);
    cr_assert_eq(weft_group_discard(pool, holder), 1);
    cr_assert_eq(call_end(&call), 1);
    cr_assert(weft_group_contains(pool, task));
    cr_assert_not(weft_group_contains(pool, holder));
    cr_assert(weft_pool_full(pool));
    gate_open(&gate);
    weft_task_release(task);
    weft_task_release(holder);
    end();
}

static int add_itself(void *arg, void **result)
{
    (void)result;
    check_eq(weft_group_add(arg, weft_task_current(), WEFT_FOREVER), 1);
    check(weft_group_contains(arg, weft_task_current()));
    check_eq(weft_group_join(arg, WEFT_FOREVER), -EDEADLK);
    struct weft_task *other = unstarted(NULL);
    check_eq(weft_group_add(arg, other, WEFT_FOREVER), -EDEADLK); /* it would wait for itself (P7) */
    check_eq(weft_group_start(arg, other, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_task_start(other), 0);
    check_eq(weft_group_discard(arg, weft_task_current()), 1);
    check_eq(weft_group_add(arg, other, WEFT_FOREVER) < 0, false);
    weft_task_release(other);
    return 0;
}

Test(membership, a_member_of_a_full_pool_is_told_that_it_would_wait_for_itself)
{
    begin(1);
    struct weft_task *task;
    cr_assert_eq(weft_task_spawn(runtime, add_itself, pool, NULL, &task), 0);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    weft_task_release(task);
    end();
}

/* ---- start ---- */

Test(membership, start_runs_it_as_a_member)
{
    begin(1);
    struct weft_task *task = unstarted(&gate), *killed = unstarted(NULL), *member = unstarted(NULL);
    cr_assert_eq(weft_group_start(pool, task, WEFT_FOREVER), 1);
    cr_assert(weft_group_contains(pool, task));
    cr_assert_eq(weft_group_start(pool, task, WEFT_FOREVER), -EALREADY);
    cr_assert_eq(weft_task_start(task), -EALREADY);
    cr_assert_eq(weft_task_kill(killed, 0, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_group_start(pool, killed, WEFT_NOWAIT), -EALREADY, "killed before the claim");
    gate_open(&gate);
    cr_assert_eq(weft_task_join(task, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_add(pool, member, WEFT_FOREVER), 1);
    cr_assert_eq(weft_group_start(pool, member, WEFT_FOREVER), -EALREADY);
    cr_assert_eq(weft_task_start(member), 0, "the claim was given back");
    cr_assert_eq(weft_task_join(member, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 2);
    weft_task_release(task);
    weft_task_release(killed);
    weft_task_release(member);
    end();
}

Test(membership, killed_after_the_claim_start_is_0)
{
    begin(1);
    struct weft_task *holder, *task = unstarted(NULL);
    struct call call;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &holder), 0);
    call_begin(&call, weft_group_start, task);
    cr_assert_eq(weft_task_start(task), -EALREADY, "it is claimed");
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    cr_assert_eq(call_end(&call), 0);
    cr_assert_eq(begun, 0);
    gate_open(&gate);
    weft_task_release(task);
    weft_task_release(holder);
    end();
}

/* ---- discard ---- */

Test(membership, discard_frees_the_slot_once_and_the_task_runs_on)
{
    begin(1);
    struct weft_task *spawned, *added = gated();
    cr_assert_eq(weft_group_discard(pool, added), 0);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &spawned), 0);
    cr_assert_eq(weft_group_discard(pool, spawned), 1);
    cr_assert_eq(weft_group_discard(pool, spawned), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), 0, "it may make the group empty");
    cr_assert_eq(weft_group_add(pool, added, WEFT_NOWAIT), 1);
    cr_assert_eq(weft_group_discard(pool, added), 1);
    cr_assert_eq(weft_group_discard(pool, added), 0);
    cr_assert_eq(weft_group_add(pool, spawned, WEFT_NOWAIT), 1, "it may come back");
    cr_assert_not(weft_task_finished(spawned));
    gate_open(&gate);
    cr_assert_eq(weft_task_join(spawned, WEFT_FOREVER), 0);
    cr_assert_eq(weft_task_join(added, WEFT_FOREVER), 0);
    cr_assert_eq(weft_pool_free_count(pool), 1);
    weft_task_release(spawned);
    weft_task_release(added);
    end();
}

static void join_pool(void *arg) { check_eq(weft_group_join(arg, WEFT_FOREVER), 0); }

Test(membership, discarding_the_last_member_lets_joiners_go)
{
    begin(2);
    struct os_thread joiner;
    struct weft_task *task = gated();
    cr_assert_eq(weft_group_add(pool, task, WEFT_NOWAIT), 1);
    cr_assert_eq(os_thread_start(&joiner, join_pool, pool, "joiner"), 0);
    until(!weft_waitq_empty(&pool->joiners));
    cr_assert_eq(weft_group_discard(pool, task), 1);
    os_thread_join(joiner);
    gate_open(&gate);
    weft_task_release(task);
    end();
}

static int get_other(void *arg, void **result)
{
    (void)result;
    return weft_task_join(arg, WEFT_FOREVER);
}

static struct weft_group *lent;

static int spawn_into_lent(void *arg, void **result)
{
    (void)result;
    check_eq(weft_group_spawn(lent, pass_gate, arg, NULL), 0);
    return gate_pass(arg);
}

/* A member waits, its slot is lent to what it waits for; then it is discarded: the slot is the borrower's, and comes back once. */
static void discard_a_lender(bool by_add)
{
    begin(1);
    lent = pool;
    struct gate inner = { 0 };
    struct weft_task *waits, *other;
    cr_assert_eq(weft_task_create(runtime, spawn_into_lent, &inner, NULL, &other), 0);
    if (by_add) {
        cr_assert_eq(weft_task_spawn(runtime, get_other, other, NULL, &waits), 0);
        until(!weft_waitq_empty(&other->waitq)); /* it waits already, and lends what it gets now */
        cr_assert_eq(weft_group_add(pool, waits, WEFT_FOREVER), 1);
    } else {
        cr_assert_eq(weft_group_spawn(pool, get_other, other, &waits), 0);
        until(!weft_waitq_empty(&other->waitq));
    }
    until(a_load(&pool->admission.loan_count, SEQ_CST) == 1);
    cr_assert_eq(weft_task_start(other), 0);
    until(weft_group_len(pool) == 2);
    cr_assert_eq(weft_group_discard(pool, waits), 1);
    cr_assert_eq(a_load(&pool->admission.loan_count, SEQ_CST), 0);
    cr_assert_eq(weft_pool_free_count(pool), 0, "the slot is the borrower's");
    gate_open(&inner);
    cr_assert_eq(weft_task_join(waits, WEFT_FOREVER), 0);
    weft_task_release(waits);
    weft_task_release(other);
    end();
}

Test(membership, a_slot_that_is_lent_goes_to_the_borrower_when_its_lender_is_discarded) { discard_a_lender(false); }

Test(membership, a_member_that_came_while_it_waited_lends_too) { discard_a_lender(true); }

/* ---- looking ---- */

Test(membership, snapshot_retains_what_it_returns_and_tells_how_many_there_were)
{
    begin(10);
    struct weft_task *out[8] = { 0 }, *task = gated();
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    }
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), 1);
    cr_assert_eq(weft_group_snapshot(pool, NULL, 0), 5);
    cr_assert_eq(weft_group_snapshot(pool, out, 2), 5);
    cr_assert_not_null(out[1]);
    cr_assert_null(out[2]);
    weft_tasks_release(out, 2);
    cr_assert_eq(weft_group_snapshot(pool, out, 8), 5);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    for (int i = 0; i < 5; i++) {
        struct weft_outcome outcome;
        cr_assert_eq(weft_task_get(out[i], WEFT_NOWAIT, &outcome), 0);
        cr_assert_eq(outcome.status, WEFT_OK);
    }
    weft_tasks_release(out, 5);
    cr_assert_eq(weft_group_snapshot(pool, out, 8), 0);
    weft_task_release(task);
    end();
}

static int look_from_an_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    struct weft_task *some[4];
    check(weft_group_len(ctx) >= 1);
    check_eq(weft_group_snapshot(ctx, some, 4), 0);
    return 0;
}

Test(membership, participants_of_a_map_count_and_are_in_no_snapshot)
{
    begin(4);
    cr_assert_eq(weft_group_map(pool, look_from_an_item, pool, 100, NULL, 0, NULL, 0, NULL), 0);
    end();
}
