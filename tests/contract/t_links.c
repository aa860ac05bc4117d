/* T8: links; T9: waiting for several. */
#include "contract.h"

static struct weft_outcome seen[8];
static int order[8];
static _Atomic uint32_t fired;

static void note(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    check(weft_task_finished(task));
    uint32_t at = a_load(&fired, SEQ_CST); /* one after the other (T8) */
    seen[at] = *outcome;
    order[at] = *(int *)arg;
    a_add(&fired, 1u, SEQ_CST);
}

static int numbers[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

PROMISE(T8_a_link_fires_once_if_its_flags_match, EVERYWHERE)
{
    static const unsigned flags[] = { WEFT_ON_OK, WEFT_ON_FAILED, WEFT_ON_CANCELLED };
    int code = -EIO;
    for (int what = 0; what < 3; what++) {
        fired = 0;
        struct weft_task *task = what == 1 ? task_create(return_code, &code) : task_create(do_nothing, NULL);
        for (int i = 0; i < 3; i++) {
            check_eq(weft_task_link(task, note, &numbers[i], flags[i], NULL), 0);
        }
        check_eq(weft_task_link(task, note, &numbers[7], WEFT_ON_ANY, NULL), 0);
        check_eq(what == 2 ? weft_task_kill(task, 0, WEFT_NOWAIT) : weft_task_start(task), 0);
        until(a_load(&fired, SEQ_CST) == 2);
        weft_task_release(task);
        ends_ok(task_spawn(do_nothing, NULL)); /* what could still fire would have been before it */
        check_eq(fired, 2);
        check_eq(order[0], what);
        check_eq(order[1], 7);
        check_eq(seen[0].status, what == 0 ? WEFT_OK : what == 1 ? WEFT_FAILED : WEFT_CANCELLED);
        check_eq(seen[0].error, what == 0 ? 0 : what == 1 ? -EIO : -ECANCELED);
    }
}

PROMISE(T8_links_fire_in_the_order_they_were_made, EVERYWHERE)
{
    for (int round = 0; round < 20; round++) {
        fired = 0;
        struct weft_task *task = task_create(do_nothing, NULL);
        for (int i = 0; i < 8; i++) {
            check_eq(weft_task_link(task, note, &numbers[i], WEFT_ON_ANY | (i % 3 == 2 ? WEFT_LINK_RAW : 0), NULL), 0);
        }
        check_eq(weft_task_start(task), 0);
        until(a_load(&fired, SEQ_CST) == 8);
        for (int i = 0; i < 8; i++) {
            check_eq(order[i], i);
        }
        ends_ok(task);
    }
}

static _Atomic bool in_link;

static void stay(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)task, (void)outcome;
    check(!a_swap(&in_link, true, SEQ_CST)); /* the one before has returned or blocked */
    for (int i = 0; i < 1000; i++) {
        (void)weft_now();
    }
    a_store(&in_link, false, SEQ_CST);
    if (arg) {
        check_eq(gate_pass(arg), 0);
    }
    a_add(&fired, 1u, SEQ_CST);
}

PROMISE(T8_the_next_link_begins_when_the_one_before_has_returned_or_blocked, EVERYWHERE)
{
    struct gate gate = { 0 };
    fired = 0;
    struct weft_task *task = task_create(do_nothing, NULL);
    for (int i = 0; i < 6; i++) {
        check_eq(weft_task_link(task, stay, i % 2 ? &gate : NULL, WEFT_ON_ANY, NULL), 0);
    }
    check_eq(weft_task_start(task), 0);
    until(gate_waiting(&gate) == 3 && a_load(&fired, SEQ_CST) == 3);
    gate_open(&gate);
    until(a_load(&fired, SEQ_CST) == 6);
    ends_ok(task);
}

static void look_around(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)outcome;
    check(weft_task_current() != NULL && weft_task_current() != task);
    check_eq(weft_sleep_until(weft_after(1000)), 0);
    gate_open(arg);
}

PROMISE(T8_a_link_runs_in_a_task_of_its_own, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(do_nothing, NULL);
    check_eq(weft_task_link(task, look_around, &gate, WEFT_ON_ANY, NULL), 0);
    check_eq(gate_pass(&gate), 0);
    ends_ok(task);
}

static int note_worker(void *arg, void **result)
{
    (void)result;
    *(unsigned *)arg = weft_worker_index();
    return 0;
}

struct raw {
    struct gate gate;
    unsigned worker;
    struct weft_task *other;
};

static void look_raw(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    struct raw *raw = arg;
    struct weft_outcome ignored;
    (void)outcome;
    check_eq(weft_worker_index(), raw->worker);
    check(weft_task_finished(task));
    check_eq(weft_task_join(raw->other, WEFT_FOREVER), -EPERM);
    check_eq(weft_task_get(raw->other, WEFT_FOREVER, &ignored), -EPERM);
    check_eq(weft_sleep_until(weft_after(WEFT_SEC)), -EPERM);
    check_eq(weft_group_join(pool, WEFT_FOREVER), -EPERM);
    check_eq(weft_group_apply(pool, do_nothing, NULL, &ignored), -EPERM);
    gate_open(&raw->gate);
}

PROMISE(T8_a_raw_link_runs_on_the_finishing_worker_and_cannot_block, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct raw raw = { .other = task_spawn(pass_gate, &gate) };
    struct weft_task *task = task_create(note_worker, &raw.worker);
    check_eq(weft_task_link(task, look_raw, &raw, WEFT_ON_ANY | WEFT_LINK_RAW, NULL), 0);
    check_eq(weft_task_start(task), 0);
    check_eq(gate_pass(&raw.gate), 0);
    ends_ok(task);
    gate_open(&gate);
    ends_ok(raw.other);
}

static void not_inline(struct weft_task *task, const struct weft_outcome *outcome, void *arg)
{
    (void)outcome, (void)task;
    check(weft_task_current() != *(struct weft_task **)arg || *(struct weft_task **)arg == NULL);
    check(weft_worker_index() < workers); /* not on the foreign thread that linked */
    a_add(&fired, 1u, SEQ_CST);
}

PROMISE(T8_a_link_made_after_the_end_is_scheduled, EVERYWHERE)
{
    struct weft_task *task = task_spawn(do_nothing, NULL), *self = weft_task_current();
    check_eq(weft_task_join(task, WEFT_FOREVER), 0);
    for (unsigned raw = 0; raw < 2; raw++) {
        fired = 0;
        check_eq(weft_task_link(task, not_inline, &self, WEFT_ON_ANY | (raw ? WEFT_LINK_RAW : 0), NULL), 0);
        if (workers == 1 && in_task) {
            check_eq(fired, 0); /* the one worker is here */
        }
        until(a_load(&fired, SEQ_CST) == 1);
    }
    weft_task_release(task);
}

PROMISE(T8_unlink_0_means_never, EVERYWHERE)
{
    uint64_t ids[3];
    fired = 0;
    struct weft_task *task = task_create(do_nothing, NULL);
    for (int i = 0; i < 3; i++) {
        check_eq(weft_task_link(task, note, &numbers[i], WEFT_ON_ANY, &ids[i]), 0);
    }
    check_eq(weft_task_unlink(task, ids[1]), 0);
    check_eq(weft_task_unlink(task, ids[1]), -ENOENT);
    check_eq(weft_task_unlink(task, ids[0] + ids[1] + ids[2] + 99), -ENOENT);
    check_eq(weft_task_start(task), 0);
    until(a_load(&fired, SEQ_CST) == 2);
    check(order[0] == 0 && order[1] == 2);
    check_eq(weft_task_unlink(task, ids[0]), -ENOENT); /* it has begun */
    ends_ok(task);
}

/* ---- T9 ---- */

PROMISE(T9_wait_returns_how_many_are_finished, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *blocked = task_spawn(pass_gate, &gate), *done = task_spawn(do_nothing, NULL);
    struct weft_task *tasks[] = { blocked, done, done };
    check_eq(weft_tasks_wait(tasks, 3, 2, WEFT_FOREVER), 2); /* twice named counts twice */
    check_eq(weft_tasks_wait(tasks, 3, 3, weft_after(WEFT_MSEC)), 2);
    check_eq(weft_tasks_wait(tasks, 3, 3, WEFT_NOWAIT), 2);
    check_eq(weft_tasks_wait(tasks, 3, 0, WEFT_FOREVER), 2);
    check_eq(weft_tasks_wait(tasks, 0, 0, WEFT_FOREVER), 0);
    check_eq(weft_tasks_wait(tasks, 3, 4, WEFT_FOREVER), -EINVAL);
    gate_open(&gate);
    check_eq(weft_tasks_wait(tasks, 3, 3, WEFT_FOREVER), 3);
    ends_ok(blocked);
    ends_ok(done);
}

static int wait_with_self(void *arg, void **result)
{
    (void)result;
    struct weft_task *tasks[] = { weft_task_current(), arg };
    check_eq(weft_tasks_wait(tasks, 2, 2, WEFT_FOREVER), -EDEADLK);
    check_eq(weft_tasks_wait(tasks, 2, 1, WEFT_FOREVER), 1);
    return 0;
}

PROMISE(T9_oneself_among_those_needed_is_edeadlk, EVERYWHERE)
{
    struct weft_task *done = task_spawn(do_nothing, NULL);
    ends_ok(task_spawn(wait_with_self, done));
    ends_ok(done);
}
