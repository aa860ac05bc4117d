/* C3: which calls are cancellation points, on entry, even if they need not wait; and which never are. */
#include "contract.h"

/* What the calls work on: nothing of it makes anybody wait. */
struct ground {
    struct weft_task *done, *fresh;
    struct weft_group *group;
    struct weft_imap *imap;
    struct weft_runtime *other;
    struct gate open;
};

typedef int point_fn(struct ground *ground);

static void callback(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome, (void)arg;
}

static int point_sleep(struct ground *ground)
{
    (void)ground;
    return weft_sleep_until(-1);
}

static int point_join(struct ground *ground) { return weft_task_join(ground->done, WEFT_FOREVER); }

static int point_get(struct ground *ground)
{
    struct weft_outcome outcome;
    return weft_task_get(ground->done, weft_after(WEFT_SEC), &outcome);
}

static int point_tasks_wait(struct ground *ground) { return weft_tasks_wait(&ground->done, 1, 1, WEFT_FOREVER); }
static int point_group_join(struct ground *ground) { return weft_group_join(ground->group, WEFT_FOREVER); }

static int point_join_outcome(struct ground *ground)
{
    struct weft_outcome outcome;
    return weft_group_join_outcome(ground->group, WEFT_FOREVER, &outcome, NULL);
}

static int point_available(struct ground *ground) { return weft_pool_wait_available(ground->group, WEFT_FOREVER); }
static int point_spawn(struct ground *ground) { return weft_group_spawn(ground->group, do_nothing, NULL, NULL); }
static int point_add(struct ground *ground) { return weft_group_add(ground->group, ground->done, WEFT_FOREVER); }
static int point_start(struct ground *ground) { return weft_group_start(ground->group, ground->fresh, WEFT_FOREVER); }

static int point_apply(struct ground *ground)
{
    struct weft_outcome outcome;
    return weft_group_apply(ground->group, do_nothing, NULL, &outcome);
}

static int point_map(struct ground *ground) { return weft_group_map(ground->group, item_nothing, NULL, 3, NULL, 0, NULL, 0, NULL); }
static int point_for(struct ground *ground) { return weft_group_for(ground->group, 0, 3, range_nothing, NULL, NULL); }

static int fold_init(void *ctx, void *acc)
{
    (void)ctx;
    *(int *)acc = 0;
    return 0;
}

static int fold_body(void *ctx, size_t begin, size_t end, void *acc)
{
    (void)ctx;
    *(int *)acc += (int)(end - begin);
    return 0;
}

static int fold_join(void *ctx, void *left, void *right)
{
    (void)ctx;
    *(int *)left += *(int *)right;
    return 0;
}

static int point_reduce(struct ground *ground)
{
    static const struct weft_reduce_ops ops = { sizeof ops, sizeof(int), fold_init, fold_body, fold_join, NULL };
    int acc = 0;
    return weft_group_reduce(ground->group, 0, 3, &ops, NULL, &acc, NULL);
}

static int point_next(struct ground *ground)
{
    struct weft_item next;
    return weft_imap_next(ground->imap, &next, WEFT_FOREVER);
}

static int point_runtime_join(struct ground *ground) { return weft_runtime_join(ground->other, WEFT_FOREVER); }

static int never_nowait(struct ground *ground)
{
    struct weft_outcome outcome;
    struct weft_item next;
    struct weft_task *task = ground->done;
    check_eq(weft_task_join(task, WEFT_NOWAIT), 0);
    check_eq(weft_task_get(task, WEFT_NOWAIT, &outcome), 0);
    check_eq(weft_tasks_wait(&task, 1, 1, WEFT_NOWAIT), 1);
    check_eq(weft_group_join(ground->group, WEFT_NOWAIT), 0);
    check(weft_pool_wait_available(ground->group, WEFT_NOWAIT) > 0);
    check_eq(weft_imap_next(ground->imap, &next, WEFT_NOWAIT), 0);
    check_eq(weft_group_add(ground->group, task, WEFT_NOWAIT), 0);
    check_eq(weft_runtime_join(ground->other, WEFT_NOWAIT), 0);
    check_eq(weft_group_spawn_with(ground->group, do_nothing, NULL, NULL, WEFT_NOWAIT, &task), 0);
    weft_task_release(task);
    return 0;
}

static int never_yield(struct ground *ground)
{
    (void)ground;
    weft_yield();
    return 0;
}

static int never_spawn(struct ground *ground)
{
    (void)ground;
    struct weft_task *task;
    check_eq(weft_task_create(NULL, do_nothing, NULL, NULL, &task), 0);
    weft_task_release(task);
    return weft_task_spawn(NULL, do_nothing, NULL, NULL, NULL);
}

static int never_kill(struct ground *ground) { return weft_task_kill(ground->done, 0, WEFT_FOREVER); }

static int never_kill_and_wait(struct ground *ground)
{
    (void)ground;
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(pass_gate, &gate);
    check_eq(weft_task_kill(task, 0, WEFT_FOREVER), 0);
    check(weft_task_finished(task));
    weft_task_release(task);
    return 0;
}

static int never_group_kill(struct ground *ground) { return weft_group_kill(ground->group, 0, WEFT_FOREVER); }

static int never_link(struct ground *ground)
{
    uint64_t id;
    check_eq(weft_task_link(ground->fresh, callback, NULL, WEFT_ON_ANY, &id), 0);
    return weft_task_unlink(ground->fresh, id);
}

static int never_close_or_destroy(struct ground *ground)
{
    struct weft_group *group;
    check_eq(weft_group_create(NULL, NULL, &group), 0);
    weft_group_close(group);
    check_eq(weft_group_destroy(group), 0);
    weft_imap_close(ground->imap);
    struct weft_array array = { 0 };
    struct weft_imap *imap;
    check_eq(weft_group_imap(NULL, &(struct weft_source){ weft_array_next, &array, NULL }, 1, element_nothing, NULL, NULL, &imap),
             0);
    return weft_imap_destroy(imap);
}

static int never_runtime_destroy(struct ground *ground)
{
    (void)ground;
    return weft_runtime_destroy(runtime_with(1));
}

static int never_apply_async(struct ground *ground) { return weft_group_apply_async(ground->group, do_nothing, NULL, NULL, NULL); }

static int never_map_async(struct ground *ground)
{
    return weft_group_map_async(ground->group, item_nothing, NULL, 3, NULL, 0, NULL, 0, NULL, NULL);
}

static const struct {
    const char *name;
    point_fn *fn;
} points[] = { { "sleep", point_sleep },
               { "join", point_join },
               { "get", point_get },
               { "tasks_wait", point_tasks_wait },
               { "group_join", point_group_join },
               { "join_outcome", point_join_outcome },
               { "wait_available", point_available },
               { "group_spawn", point_spawn },
               { "add", point_add },
               { "start", point_start },
               { "apply", point_apply },
               { "map", point_map },
               { "for", point_for },
               { "reduce", point_reduce },
               { "imap_next", point_next },
               { "runtime_join", point_runtime_join } },
  nevers[] = { { "NOWAIT", never_nowait },
               { "yield", never_yield },
               { "spawn", never_spawn },
               { "kill", never_kill },
               { "kill and wait", never_kill_and_wait },
               { "group_kill", never_group_kill },
               { "link", never_link },
               { "close, destroy", never_close_or_destroy },
               { "runtime_destroy", never_runtime_destroy },
               { "apply_async", never_apply_async },
               { "map_async", never_map_async } };

struct visit {
    struct ground *ground;
    point_fn *fn;
    bool delivers;
    const char *name;
    _Atomic bool begun, killed;
};

static int visit(void *arg, void **result)
{
    (void)result;
    struct visit *visit = arg;
    a_store(&visit->begun, true, SEQ_CST);
    while (!a_load(&visit->killed, SEQ_CST)) {
        weft_yield();
    }
    int rc = visit->fn(visit->ground);
    int left = weft_sleep_until(0); /* delivers what the call has not */
    if (rc != (visit->delivers ? -ECANCELED : 0) || left != (visit->delivers ? 0 : -ECANCELED)) {
        fprintf(stderr, "%s: %d, then %d\n", visit->name, rc, left);
        abort();
    }
    return 0;
}

static void visit_with(struct visit *visit_)
{
    struct weft_array array = { 0 };
    struct weft_item end;
    struct ground ground = { .done = task_spawn(do_nothing, NULL),
                             .fresh = task_create(count_run, NULL),
                             .group = pool_make(runtime, size),
                             .other = runtime_with(1) };
    count_reset();
    check_eq(
        weft_group_imap(NULL, &(struct weft_source){ weft_array_next, &array, NULL }, 1, element_nothing, NULL, NULL, &ground.imap),
        0);
    check_eq(weft_imap_next(ground.imap, &end, WEFT_FOREVER), 0);
    check_eq(weft_task_join(ground.done, WEFT_FOREVER), 0);
    visit_->ground = &ground;
    struct weft_task *task = task_spawn(visit, visit_);
    until(a_load(&visit_->begun, SEQ_CST));
    check_eq(weft_task_kill(task, 0, WEFT_NOWAIT), 0);
    a_store(&visit_->killed, true, SEQ_CST);
    ends_ok(task);
    check_eq(weft_group_join(ground.group, WEFT_FOREVER), 0);
    check_eq(weft_group_destroy(ground.group), 0);
    check_eq(weft_imap_destroy(ground.imap), 0);
    weft_task_release(ground.done);
    weft_task_release(ground.fresh);
    check_eq(ran, 0); /* a start that was refused has given its claim back */
    check_eq(weft_runtime_destroy(ground.other), 0);
}

PROMISE(C3_points_deliver_on_entry_even_if_they_need_not_wait, EVERYWHERE)
{
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        visit_with(&(struct visit){ .fn = points[i].fn, .delivers = true, .name = points[i].name });
    }
}

PROMISE(C3_other_calls_never_deliver, EVERYWHERE)
{
    for (size_t i = 0; i < sizeof nevers / sizeof *nevers; i++) {
        visit_with(&(struct visit){ .fn = nevers[i].fn, .name = nevers[i].name });
    }
}
