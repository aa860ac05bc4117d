/* Task-local values (contract B6): whose they are, when their destructors run, and what a foreign thread may do. */
#include "testing.h"

#include "tasks.h"

static struct weft_runtime *runtime;
static struct weft_key *key, *other;
static struct weft_task *handle;
static _Atomic int destroyed, finished_at_destruction;

static void destroy_value(void *value)
{
    atomic_fetch_add(&destroyed, *(int *)value);
    if (handle && weft_task_finished(handle)) {
        atomic_fetch_add(&finished_at_destruction, 1);
    }
}

static void setup(void)
{
    runtime = runtime_with(weft_test_workers());
    cr_assert_eq(weft_key_create(destroy_value, &key), 0);
    cr_assert_eq(weft_key_create(NULL, &other), 0);
}

static void teardown(void)
{
    weft_key_destroy(key);
    weft_key_destroy(other);
    weft_key_destroy(NULL);
    (void)weft_runtime_destroy(runtime);
}

TestSuite(key, .init = setup, .fini = teardown);

static int one = 1, ten = 10;

static int child(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_key_get(key) == NULL);
    return 0;
}

static int set_and_get(void *arg, void **value)
{
    (void)arg, (void)value;
    CHECK(weft_key_get(key) == NULL);
    CHECK(weft_key_set(key, &one) == 0);
    CHECK(weft_key_set(other, &ten) == 0);
    weft_yield();
    CHECK(weft_key_get(key) == &one);
    CHECK(weft_key_get(other) == &ten);
    CHECK(run_in(NULL, child, NULL) == 0); /* inherited by nobody */
    CHECK(weft_key_set(key, &ten) == 0);   /* &one is ours again */
    CHECK(atomic_load(&destroyed) == 0);
    CHECK(weft_key_set(other, NULL) == 0);
    CHECK(weft_key_get(other) == NULL);
    return 0;
}

Test(key, each_task_has_its_own_and_the_destructor_runs_before_the_end_B6)
{
    cr_assert_eq(weft_task_create(runtime, set_and_get, NULL, NULL, &handle), 0);
    cr_assert_eq(weft_task_start(handle), 0);
    struct weft_outcome outcome;
    cr_assert_eq(weft_task_get(handle, WEFT_FOREVER, &outcome), 0);
    cr_assert_eq(outcome.error, 0);
    cr_assert_eq(atomic_load(&destroyed), 10);
    cr_assert_eq(atomic_load(&finished_at_destruction), 0);
    weft_task_release(handle);
}

Test(key, on_a_foreign_thread_there_are_none_B6)
{
    cr_assert_null(weft_key_get(key));
    cr_assert_eq(weft_key_set(key, &one), -EPERM);
    cr_assert_eq(weft_key_set(NULL, &one), -EINVAL);
    cr_assert_null(weft_key_get(NULL));
    cr_assert_eq(weft_key_create(NULL, NULL), -EINVAL);
}

static int set_only(void *arg, void **value)
{
    (void)arg, (void)value;
    return weft_key_set(key, &one);
}

Test(key, tasks_that_run_one_after_another_on_one_fiber_share_nothing_B6)
{
    enum { TASKS = 1000 };
    for (int i = 0; i < TASKS; i++) {
        cr_assert_eq(run_in(runtime, child, NULL), 0);
        cr_assert_eq(run_in(runtime, set_only, NULL), 0);
    }
    cr_assert_eq(atomic_load(&destroyed), TASKS);
}

static int item(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index, (void)in;
    int *mine = weft_key_get(key);
    *(bool *)out = (mine == NULL || mine == &one) && weft_key_set(key, &one) == 0 && weft_key_get(key) == &one;
    return 0;
}

Test(key, in_an_item_they_are_its_tasks_B6)
{
    enum { ITEMS = 1000 };
    static bool good[ITEMS];
    struct weft_group *group;
    cr_assert_eq(weft_group_create(runtime, NULL, &group), 0);
    cr_assert_eq(weft_group_map(group, item, NULL, ITEMS, NULL, 0, good, sizeof good[0], NULL), 0);
    cr_assert_eq(weft_group_destroy(group), 0);
    for (int i = 0; i < ITEMS; i++) {
        cr_assert(good[i], "item %d", i);
    }
    cr_assert_geq(atomic_load(&destroyed), 1, "each carrier's value was given back");
}

static void set_again(void *value)
{
    if (value == &one) {
        atomic_fetch_add(&destroyed, weft_key_set(other, &ten) == 0 ? 0 : 100);
    }
    atomic_fetch_add(&destroyed, 1);
}

static int set_given(void *arg, void **value)
{
    (void)value;
    return weft_key_set(arg, &one);
}

Test(key, a_destructor_may_set_another_and_a_key_may_go_before_its_values_B6)
{
    struct weft_key *mine, *next = other;
    cr_assert_eq(weft_key_create(set_again, &mine), 0);
    cr_assert_eq(weft_key_create(set_again, &other), 0);
    cr_assert_eq(run_in(runtime, set_given, mine), 0);
    cr_assert_eq(atomic_load(&destroyed), 2);
    weft_key_destroy(mine);
    weft_key_destroy(other);
    other = next;
}

static void set_late(void *arg) { atomic_fetch_add(&destroyed, weft_key_set(arg, &one) == 0 ? 0 : 100); }

Test(key, what_arg_free_sets_is_given_back_too_B6)
{
    struct weft_task *task;
    struct weft_task_options options = { .struct_size = sizeof options, .arg_free = set_late };
    cr_assert_eq(weft_task_spawn(runtime, do_nothing, key, &options, &task), 0);
    cr_assert_eq(finish_task(task).error, 0);
    cr_assert_eq(atomic_load(&destroyed), 1);
}
