/* close, kill_one, the options of a group's tasks (contract G8, G9, G11), and what a kill does to those who come meanwhile (G7).
 * WEFT_TEST_WORKERS. */
#include "testing.h"

#include "pools.h"

static struct gate gate;
static _Atomic uint32_t begun, items;

static int note_begin(void *arg, void **result)
{
    (void)arg, (void)result;
    a_add(&begun, 1u, SEQ_CST);
    return 0;
}

/* ---- close ---- */

static void spawn_waiting(void *rc) { a_store((_Atomic int *)rc, weft_group_spawn(pool, note_begin, NULL, NULL), SEQ_CST); }

static int item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    a_add(&items, 1u, SEQ_CST);
    return gate_pass(&gate);
}

static void map_waiting(void *rc)
{
    a_store((_Atomic int *)rc, weft_group_map(pool, item, NULL, 4, NULL, 0, NULL, 0, NULL), SEQ_CST);
}

static void apply_waiting(void *rc)
{
    struct weft_outcome outcome;
    a_store((_Atomic int *)rc, weft_group_apply(pool, note_begin, NULL, &outcome), SEQ_CST);
}

Test(group_close, spawners_are_shut_out_and_what_was_accepted_goes_on)
{
    begin(1);
    struct os_thread spawner, mapper, applier;
    _Atomic int spawn_rc = 1, map_rc = 1, apply_rc = 1;
    struct weft_task *queued, *task;
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_group_apply_async(pool, note_begin, NULL, NULL, &queued), 0);
    cr_assert_eq(os_thread_start(&spawner, spawn_waiting, &spawn_rc, "spawner"), 0);
    until(pool_queued(pool) == 2);
    cr_assert_eq(os_thread_start(&mapper, map_waiting, &map_rc, "mapper"), 0);
    until(pool_queued(pool) == 3);
    cr_assert_eq(os_thread_start(&applier, apply_waiting, &apply_rc, "applier"), 0);
    until(pool_queued(pool) == 4);
    weft_group_close(pool);
    os_thread_join(spawner);
    cr_assert_eq(spawn_rc, -ESHUTDOWN);
    cr_assert_eq(pool_queued(pool), 3);
    cr_assert_eq(weft_group_spawn(pool, note_begin, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_spawn_with(pool, note_begin, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN, "it is full before it is closed");
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &task), 0);
    cr_assert_eq(weft_group_add(pool, task, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_group_start(pool, task, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_group_apply_async(pool, note_begin, NULL, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_map(pool, item, NULL, 4, NULL, 0, NULL, 0, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_join(pool, WEFT_NOWAIT), -ETIMEDOUT);
    gate_open(&gate);
    os_thread_join(mapper);
    os_thread_join(applier);
    cr_assert_eq(map_rc, 0);
    cr_assert_eq(items, 4);
    cr_assert_eq(apply_rc, 0);
    cr_assert_eq(weft_task_join(queued, WEFT_FOREVER), 0);
    cr_assert_eq(begun, 2);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_spawn_with(pool, note_begin, NULL, NULL, WEFT_NOWAIT, NULL), -ESHUTDOWN);
    weft_group_close(pool);
    weft_group_close(NULL);
    weft_task_release(queued);
    weft_task_release(task);
    end();
}

Test(group_close, a_map_that_runs_still_gets_participants)
{
    begin(4);
    struct os_thread mapper;
    _Atomic int map_rc = 1;
    struct weft_task *holders[3];
    struct gate held = { 0 };
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_group_spawn(pool, pass_gate, &held, &holders[i]), 0);
    }
    cr_assert_eq(os_thread_start(&mapper, map_waiting, &map_rc, "mapper"), 0);
    until(a_load(&items, SEQ_CST) == 1 && pool_queued(pool) == 1);
    weft_group_close(pool);
    gate_open(&held);
    until(a_load(&items, SEQ_CST) == 4);
    gate_open(&gate);
    os_thread_join(mapper);
    cr_assert_eq(map_rc, 0);
    weft_tasks_release(holders, 3);
    end();
}

/* ---- kill_one ---- */

static int until_killed(void *arg, void **result)
{
    (void)result;
    int rc = gate_pass(arg);
    check_eq(rc, -ECANCELED);
    check_eq(weft_group_kill_one(pool, weft_task_current(), 0, WEFT_NOWAIT), -EALREADY);
    check_eq(weft_group_kill_one(pool, weft_task_current(), 0, WEFT_FOREVER), -EDEADLK);
    struct weft_wait wait = { .deadline = WEFT_FOREVER }; /* cleaning up */
    check_eq(weft_wait_until(&gate.queue, gate_is_open, &gate, &wait), 0);
    return rc;
}

Test(group_close, kill_one_kills_members_alone)
{
    begin(3);
    struct gate never = { 0 };
    struct weft_task *member, *other, *fresh;
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_spawn(runtime, pass_gate, &gate, NULL, &other), 0);
    cr_assert_eq(weft_group_kill_one(pool, other, 0, WEFT_NOWAIT), -ENOENT);
    cr_assert_eq(weft_group_kill_one(pool, other, 0, WEFT_FOREVER), -ENOENT);
    cr_assert_eq(weft_group_kill_one(pool, NULL, 0, WEFT_NOWAIT), -EINVAL);
    cr_assert_eq(weft_group_spawn(pool, until_killed, &never, &member), 0);
    cr_assert_eq(weft_group_kill_one(pool, member, 1, WEFT_NOWAIT), -EINVAL);
    until(gate_waiting(&never) == 1);
    cr_assert_eq(weft_group_kill_one(pool, member, -EINTR, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_group_kill_one(pool, member, -EIO, WEFT_NOWAIT), -EALREADY);
    until(gate_waiting(&never) == 0);
    cr_assert_eq(weft_group_kill_one(pool, member, -EIO, WEFT_NOWAIT), -EALREADY, "after the delivery, too");
    cr_assert_eq(weft_group_kill_one(pool, member, -EIO, weft_after(WEFT_MSEC)), -ETIMEDOUT, "it waits for a dying one");
    gate_open(&gate);
    cr_assert_eq(weft_group_kill_one(pool, member, -EIO, WEFT_FOREVER) == -ENOENT || weft_task_finished(member), 1);
    cr_assert_eq(weft_task_get(member, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(weft_group_kill_one(pool, member, 0, WEFT_FOREVER), -ENOENT, "a finished one is none");
    cr_assert_eq(weft_task_create(runtime, note_begin, NULL, NULL, &fresh), 0);
    cr_assert_eq(weft_group_add(pool, fresh, WEFT_FOREVER), 1);
    cr_assert_eq(weft_group_kill_one(pool, fresh, 0, WEFT_FOREVER), 0);
    cr_assert(weft_task_finished(fresh));
    cr_assert_eq(begun, 0);
    weft_task_release(member);
    weft_task_release(other);
    weft_task_release(fresh);
    end();
}

static int kill_itself(void *arg, void **result)
{
    (void)arg, (void)result;
    (void)weft_cancel_mask(true);
    check_eq(weft_group_kill_one(pool, weft_task_current(), -EINTR, WEFT_NOWAIT), 0);
    (void)weft_cancel_mask(false);
    check_eq(weft_group_kill_one(pool, weft_task_current(), -EIO, WEFT_FOREVER), -ECANCELED);
    check_eq(weft_cancel_reason(), -EINTR);
    return -ECANCELED;
}

Test(group_close, on_oneself_kill_one_is_the_delivery)
{
    begin(1);
    struct weft_task *task;
    struct weft_outcome outcome;
    cr_assert_eq(weft_group_spawn(pool, kill_itself, NULL, &task), 0);
    cr_assert_eq(weft_task_get(task, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(outcome.error, -EINTR);
    weft_task_release(task);
    end();
}

/* ---- who comes while a kill goes on ---- */

static void kill_all(void *arg) { check_eq(weft_group_kill(arg, -EINTR, WEFT_FOREVER), 0); }

Test(group_close, a_kill_that_goes_on_takes_in_what_is_added_started_and_applied)
{
    begin(WEFT_UNLIMITED);
    struct os_thread killer;
    struct gate never = { 0 };
    struct weft_task *member, *added, *started, *applied;
    struct weft_outcome outcome;
    cr_assert_eq(weft_group_spawn(pool, until_killed, &never, &member), 0);
    until(gate_waiting(&never) == 1);
    cr_assert_eq(os_thread_start(&killer, kill_all, pool, "killer"), 0);
    until(!weft_waitq_empty(&pool->joiners));
    cr_assert_eq(weft_task_spawn(runtime, pass_gate, &never, NULL, &added), 0);
    until(gate_waiting(&never) == 1);
    cr_assert_eq(weft_group_add(pool, added, WEFT_FOREVER), 1);
    cr_assert_eq(weft_task_get(added, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.error, -EINTR);
    cr_assert_eq(weft_task_create(runtime, note_begin, NULL, NULL, &started), 0);
    cr_assert_eq(weft_group_start(pool, started, WEFT_FOREVER), 0, "killed after the claim");
    cr_assert_eq(weft_group_apply_async(pool, pass_gate, &never, NULL, &applied), 0);
    cr_assert_eq(weft_task_get(applied, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.status, WEFT_CANCELLED);
    cr_assert_eq(begun, 0);
    gate_open(&gate);
    os_thread_join(killer);
    struct weft_task *all[] = { member, added, started, applied };
    weft_tasks_release(all, 4);
    cr_assert_eq(weft_group_destroy(pool), 0);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
}

Test(group_close, a_kill_ends_queued_applies_before_their_time_comes)
{
    begin(1);
    struct weft_task *member, *queued[3];
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, &member), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weft_group_apply_async(pool, note_begin, NULL, NULL, &queued[i]), 0);
    }
    cr_assert_eq(weft_group_kill(pool, 0, WEFT_FOREVER), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert(weft_task_finished(queued[i]));
    }
    cr_assert_eq(begun, 0);
    weft_tasks_release(queued, 3);
    weft_task_release(member);
    end();
}

/* ---- options ---- */

static int say_name(void *arg, void **result)
{
    (void)arg;
    *result = (void *)(uintptr_t)weft_task_name(weft_task_current());
    return 0;
}

static void expect_name(const struct weft_task_options *own, const char *name)
{
    struct weft_task *task;
    check_eq(weft_group_spawn_with(pool, say_name, NULL, own, WEFT_FOREVER, &task), 0);
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    check(name ? weft_task_name(task) && !strcmp(weft_task_name(task), name) : !weft_task_name(task));
    weft_task_release(task);
}

Test(group_close, options_of_the_groups_tasks_can_be_set_later)
{
    begin(2);
    char name[] = "first";
    expect_name(NULL, NULL);
    cr_assert_eq(weft_group_set_task_options(pool, WEFT_OPTIONS(weft_task_options, .name = name)), 0);
    name[0] = 'x'; /* it was copied */
    expect_name(NULL, "first");
    expect_name(WEFT_OPTIONS(weft_task_options, .name = "own"), "own");
    cr_assert_eq(weft_group_set_task_options(pool, WEFT_OPTIONS(weft_task_options, .stack_size = SIZE_MAX)), -EINVAL);
    expect_name(NULL, "first");
    for (int i = 0; i < 1000; i++) { /* the same again is kept once */
        cr_assert_eq(weft_group_set_task_options(pool, WEFT_OPTIONS(weft_task_options, .name = i % 2 ? "odd" : "even")), 0);
    }
    cr_assert_eq(pool->all_defaults->older->older->older, NULL);
    expect_name(NULL, "odd");
    cr_assert_eq(weft_group_set_task_options(pool, NULL), 0);
    expect_name(NULL, NULL);
    cr_assert_eq(weft_group_set_task_options(NULL, NULL), -EINVAL);
    end();
}

static _Atomic uint32_t hooked[3];

static void on_spawn(struct weft_task *task, void *ctx)
{
    (void)task;
    a_add(&((_Atomic uint32_t *)ctx)[0], 1u, SEQ_CST);
}

static void on_start(struct weft_task *task, void *ctx)
{
    check(!strcmp(weft_task_name(task), "wrapped"));
    a_add(&((_Atomic uint32_t *)ctx)[1], 1u, SEQ_CST);
}

static void on_finish(struct weft_task *task, void *ctx)
{
    (void)task;
    a_add(&((_Atomic uint32_t *)ctx)[2], 1u, SEQ_CST);
}

enum { DEEP = 160 * 1024 };

/* More than the default stack holds. */
static int deep_item(void *ctx, void *item, void **result)
{
    volatile char room[DEEP];
    (void)ctx, (void)item, (void)result;
    memset((char *)room, 1, sizeof room);
    a_add(&items, 1u, SEQ_CST);
    return room[DEEP / 2] == 1 ? 0 : -EIO;
}

Test(group_close, carriers_have_the_groups_name_stack_and_hooks)
{
    begin(2);
    static int numbers[20];
    struct weft_array array = { .base = numbers, .stride = sizeof *numbers, .n = 20 };
    struct weft_source source = { weft_array_next, &array, NULL };
    struct weft_imap *imap;
    struct weft_item next;
    static const struct weft_task_hooks hooks = { on_spawn, on_start, on_finish, (void *)hooked };
    const struct weft_task_options *options =
        WEFT_OPTIONS(weft_task_options, .name = "wrapped", .stack_size = 2 * DEEP, .hooks = &hooks);
    cr_assert_eq(weft_group_set_task_options(pool, options), 0);
    cr_assert_eq(weft_group_imap(pool, &source, 1, deep_item, NULL, NULL, &imap), 0);
    while (weft_imap_next(imap, &next, WEFT_FOREVER) == 1) {
        cr_assert_eq(next.status, WEFT_OK);
    }
    cr_assert_eq(weft_imap_destroy(imap), 0);
    cr_assert_eq(weft_group_join(pool, WEFT_FOREVER), 0);
    cr_assert_eq(items, 20);
    until(hooked[0] == hooked[2]);
    cr_assert_geq(hooked[0], 2, "a carrier and the source");
    cr_assert_leq(hooked[1], hooked[0]);
    end();
}

static _Atomic bool armed;

/* Spawns into the pool whose slot is just being handed over. */
static void spawn_once(struct weft_task *task, void *ctx)
{
    (void)task, (void)ctx;
    if (a_swap(&armed, false, SEQ_CST)) {
        int rc = weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL);
        check(rc == 0 || rc == -EAGAIN);
        a_add(&begun, 1u, SEQ_CST);
    }
}

static struct gate second;

/* Both at once; the first makes room for the second. */
static int with_the_other(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in, (void)out;
    if (a_add(&items, 1u, SEQ_CST) == 1) {
        gate_open(&second);
    }
    gate_open(&gate);
    return gate_pass(&second);
}

Test(group_close, a_hook_of_a_carrier_may_use_the_pool_G2)
{
    static const struct weft_task_hooks hooks = { .spawn = spawn_once };
    begin(2);
    cr_assert_eq(weft_group_spawn(pool, pass_gate, &gate, NULL), 0);
    cr_assert_eq(weft_group_set_task_options(pool, WEFT_OPTIONS(weft_task_options, .hooks = &hooks)), 0);
    a_store(&armed, true, SEQ_CST);
    cr_assert_eq(weft_group_map(pool, with_the_other, NULL, 2, NULL, 0, NULL, 0, NULL), 0);
    cr_assert_eq(begun, 1);
    end();
}
