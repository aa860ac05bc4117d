/* Groups: who belongs, who waits, who is killed (contract G). WEFT_TEST_WORKERS. */
#include "testing.h"

#include "gate.h"

static struct weft_runtime *runtime;
static struct weft_group *group;
static struct gate gate;

static void begin(void)
{
    runtime = runtime_make();
    check_eq(weft_group_create(runtime, NULL, &group), 0);
}

static void end(void)
{
    check_eq(weft_group_join(group, WEFT_FOREVER), 0);
    check_eq(weft_group_len(group), 0);
    check_eq(weft_group_destroy(group), 0);
    check_eq(weft_runtime_destroy(runtime), 0);
}

static void spawn_gated(int n)
{
    for (int i = 0; i < n; i++) {
        check_eq(weft_group_spawn(group, pass_gate, &gate, NULL), 0);
    }
}

/* ---- members ---- */

Test(group, tasks_that_live_count_at_once_and_once)
{
    runtime = runtime_make();
    struct weft_task *tasks[5];
    cr_assert_eq(weft_task_create(runtime, pass_gate, &gate, NULL, &tasks[0]), 0); /* never started: it lives */
    cr_assert_eq(weft_task_spawn(runtime, pass_gate, &gate, NULL, &tasks[1]), 0);
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, NULL, NULL, &tasks[2]), 0);
    cr_assert_eq(weft_task_join(tasks[2], WEFT_FOREVER), 0);
    tasks[3] = tasks[1];
    tasks[4] = tasks[0];
    struct weft_group *other;
    const struct weft_group_options *options = WEFT_OPTIONS(weft_group_options, .name = "named", .tasks = tasks, .n_tasks = 5);
    cr_assert_eq(weft_group_create(runtime, options, &group), 0);
    cr_assert_eq(weft_group_len(group), 2, "not the finished one, and none twice");
    cr_assert_eq(weft_group_create(runtime, options, &other), 0);
    cr_assert_eq(weft_group_len(other), 2, "a task may be in several groups");
    cr_assert_eq(weft_group_destroy(group), -EBUSY);
    cr_assert_eq(weft_task_start(tasks[0]), 0);
    gate_open(&gate);
    cr_assert_eq(weft_group_join(other, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_len(group), 0, "each group sees it leave");
    weft_tasks_release(tasks, 3);
    cr_assert_eq(weft_group_destroy(other), 0);
    end();
}

Test(group, a_task_of_another_runtime_is_refused_and_nothing_has_changed)
{
    begin();
    struct weft_runtime *other = runtime_with(1);
    struct weft_task *tasks[2];
    cr_assert_eq(weft_task_create(runtime, do_nothing, NULL, NULL, &tasks[0]), 0);
    cr_assert_eq(weft_task_create(other, do_nothing, NULL, NULL, &tasks[1]), 0);
    struct weft_group *mixed = group;
    cr_assert_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .tasks = tasks, .n_tasks = 2), &mixed), -EXDEV);
    cr_assert_null(mixed);
    cr_assert_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .n_tasks = 2), &mixed), -EINVAL);
    cr_assert_eq(weft_group_create(runtime, &(struct weft_group_options){ .n_tasks = 0 }, &mixed), -EINVAL);
    weft_tasks_release(tasks, 2);
    cr_assert_eq(weft_runtime_destroy(other), 0);
    end();
}

Test(group, len_is_exact_when_quiescent)
{
    begin();
    spawn_gated(100);
    cr_assert_eq(weft_group_len(group), 100);
    struct weft_task *task;
    cr_assert_eq(weft_group_spawn(group, pass_gate, &gate, &task), 0);
    cr_assert_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    cr_assert_eq(weft_group_len(group), 100, "who sees it finished sees it gone");
    weft_task_release(task);
    gate_open(&gate);
    end();
}

/* ---- join ---- */

Test(group, join_of_an_empty_one_is_immediate_and_of_a_busy_one_takes_no_longer_than_asked)
{
    begin();
    cr_assert_eq(weft_group_join(group, WEFT_NOWAIT), 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    spawn_gated(2);
    cr_assert_eq(weft_group_join(group, WEFT_NOWAIT), -ETIMEDOUT);
    gate_open(&gate);
    end();
}

static int sleep_ten_seconds(void *arg, void **result)
{
    (void)arg, (void)result;
    return weft_sleep_until(weft_after(10 * WEFT_SEC));
}

/* gevent: spawn of a 10 s sleep, join(0.2). */
Test(group, join_times_out_after_a_fifth_of_a_second_and_not_before)
{
    begin();
    cr_assert_eq(weft_group_spawn(group, sleep_ten_seconds, NULL, NULL), 0);
    int64_t before = weft_now();
    cr_assert_eq(weft_group_join(group, weft_after(200 * WEFT_MSEC)), -ETIMEDOUT);
    cr_assert_geq(weft_now() - before, 200 * WEFT_MSEC);
    cr_assert_eq(weft_group_len(group), 1, "the thing waited for goes on");
    cr_assert_eq(weft_group_kill(group, 0, WEFT_FOREVER), 0);
    cr_assert_lt(weft_now() - before, 9 * WEFT_SEC);
    end();
}

static void join_thread(void *arg) { check_eq(weft_group_join(arg, WEFT_FOREVER), 0); }

static int join_task(void *arg, void **result)
{
    (void)result;
    check_eq(weft_group_join(arg, WEFT_FOREVER), 0);
    return 0;
}

Test(group, any_number_may_join)
{
    begin();
    struct os_thread threads[3];
    struct weft_task *tasks[20];
    spawn_gated(5);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(os_thread_start(&threads[i], join_thread, group, "joiner"), 0);
    }
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(weft_task_spawn(runtime, join_task, group, NULL, &tasks[i]), 0);
    }
    gate_open(&gate);
    for (int i = 0; i < 3; i++) {
        os_thread_join(threads[i]);
    }
    cr_assert_eq(weft_tasks_wait(tasks, 20, 20, WEFT_FOREVER), 20);
    weft_tasks_release(tasks, 20);
    end();
}

static _Atomic int rcs[4];

static int join_mine(void *arg, void **result)
{
    (void)result;
    a_store(&rcs[0], weft_group_join(arg, WEFT_FOREVER), SEQ_CST);
    a_store(&rcs[1], weft_group_join(arg, WEFT_NOWAIT), SEQ_CST);
    return 0;
}

static int join_mine_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in;
    *(int *)out = weft_group_join(ctx, WEFT_FOREVER);
    return 0;
}

static int map_in_my_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in;
    int inner[6] = { 0 };
    check_eq(WEFT_MAP(NULL, join_mine_item, ctx, 6, inner, inner, NULL), 0);
    for (int i = 0; i < 6; i++) {
        check_eq(inner[i], -EDEADLK); /* also on a carrier of a map that my item has called */
    }
    *(int *)out = 0;
    return 0;
}

Test(group, join_from_within_would_wait_for_itself)
{
    begin();
    int out[8] = { 0 };
    cr_assert_eq(weft_group_spawn(group, join_mine, group, NULL), 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_eq(rcs[0], -EDEADLK);
    cr_assert_eq(rcs[1], -EDEADLK);
    cr_assert_eq(WEFT_MAP(group, join_mine_item, group, 8, out, out, NULL), 0);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(out[i], -EDEADLK);
    }
    cr_assert_eq(WEFT_MAP(group, map_in_my_item, group, 8, out, out, NULL), 0);
    end();
}

/* Empty once since the call is enough (G5), also if it is busy again at once: the model is join.pml. */
static _Atomic bool stop;

static void keep_busy(void *arg)
{
    while (!a_load(&stop, SEQ_CST)) {
        check_eq(weft_group_spawn(arg, do_nothing, NULL, NULL), 0);
        check_eq(weft_group_join(arg, WEFT_FOREVER), 0);
    }
}

Test(group, a_joiner_sees_a_short_emptiness_H01)
{
    begin();
    struct os_thread thread;
    unsigned slept = 0;
    cr_assert_eq(os_thread_start(&thread, keep_busy, group, "busy"), 0);
    for (int i = 0; i < 2000; i++) {
        slept += weft_group_join(group, WEFT_NOWAIT) != 0;
        cr_assert_eq(weft_group_join(group, weft_after(20 * WEFT_SEC)), 0);
    }
    a_store(&stop, true, SEQ_CST);
    os_thread_join(thread);
    cr_log_info("busy %u times of 2000\n", slept);
    end();
}

static int fan_out(void *arg, void **result)
{
    (void)result;
    uintptr_t depth = (uintptr_t)arg;
    for (int i = 0; i < 3 && depth > 0; i++) {
        check_eq(weft_group_spawn(group, fan_out, (void *)(depth - 1), NULL), 0);
    }
    return 0;
}

/* Members make members: a joiner comes back only when all have ended. */
Test(group, join_waits_for_what_members_spawn_H24)
{
    begin();
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(weft_group_spawn(group, fan_out, (void *)5, NULL), 0);
        cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
        cr_assert_eq(weft_group_len(group), 0);
    }
    end();
}

/* ---- life ---- */

Test(group, destroy_wants_nobody_left)
{
    begin();
    cr_assert_eq(weft_group_destroy(NULL), 0);
    spawn_gated(1);
    cr_assert_eq(weft_group_destroy(group), -EBUSY);
    cr_assert_eq(weft_group_len(group), 1, "it kills nothing");
    gate_open(&gate);
    end();
}

Test(group, it_may_outlive_its_runtime)
{
    begin();
    spawn_gated(3);
    gate_open(&gate);
    cr_assert_eq(weft_runtime_destroy(runtime), 0);
    cr_assert_eq(weft_group_len(group), 0);
    cr_assert_eq(weft_group_spawn(group, do_nothing, NULL, NULL), -ESHUTDOWN);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), -ESHUTDOWN);
    cr_assert_eq(weft_group_destroy(group), 0);
}

/* ---- options ---- */

static _Atomic uint32_t group_frees, call_frees, result_frees, starts;

static void group_free(void *p) { (void)p, (void)a_add(&group_frees, 1u, SEQ_CST); }
static void call_free(void *p) { (void)p, (void)a_add(&call_frees, 1u, SEQ_CST); }
static void result_free(void *p) { (void)p, (void)a_add(&result_frees, 1u, SEQ_CST); }
static void count_start(struct weft_task *task, void *ctx) { (void)task, (void)ctx, (void)a_add(&starts, 1u, SEQ_CST); }

static int give(void *arg, void **result)
{
    *result = arg;
    return 0;
}

Test(group, task_options_apply_where_the_call_says_nothing)
{
    runtime = runtime_make();
    char name[] = "of the group";
    const struct weft_task_hooks hooks = { .start = count_start };
    const struct weft_task_options *task_options =
        WEFT_OPTIONS(weft_task_options, .name = name, .arg_free = group_free, .result_free = result_free, .hooks = &hooks);
    cr_assert_eq(weft_group_create(runtime, WEFT_OPTIONS(weft_group_options, .task_options = task_options), &group), 0);
    memset(name, 'x', sizeof name - 1); /* names are copied */
    struct weft_task *tasks[2];
    cr_assert_eq(weft_group_spawn(group, give, &gate, &tasks[0]), 0);
    cr_assert_eq(weft_group_spawn_with(group, give, &gate, WEFT_OPTIONS(weft_task_options, .name = "mine", .arg_free = call_free),
                                       WEFT_FOREVER, &tasks[1]),
                 0);
    cr_assert_eq(weft_group_join(group, WEFT_FOREVER), 0);
    cr_assert_str_eq(weft_task_name(tasks[0]), "of the group");
    cr_assert_str_eq(weft_task_name(tasks[1]), "mine");
    weft_tasks_release(tasks, 2);
    cr_assert_eq(group_frees, 1);
    cr_assert_eq(call_frees, 1);
    cr_assert_eq(result_frees, 2);
    cr_assert_eq(starts, 2);
    end();
}
