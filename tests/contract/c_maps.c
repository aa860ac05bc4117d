/* C7, C8: what cannot be killed, and maps and applies, which can. */
#include "contract.h"

static int spin(void *go, void **result)
{
    (void)result;
    while (!a_load((_Atomic bool *)go, SEQ_CST)) {
    }
    return 0;
}

PROMISE(C7_who_never_blocks_nor_checks_cannot_be_killed, WORKERS)
{
    _Atomic bool go = false;
    struct weft_task *task = task_spawn(spin, (void *)&go);
    check_eq(weft_sleep_until(weft_after(WEFT_MSEC)), 0);
    if (weft_task_kill(task, 0, weft_after(WEFT_MSEC)) == -ETIMEDOUT) {
        check(!weft_task_finished(task));
        a_store(&go, true, SEQ_CST);
        ends_ok(task);
    } else { /* it had not begun */
        ends_with(task, WEFT_CANCELLED, -ECANCELED);
    }
}

struct mapping {
    _Atomic uint32_t items;
    _Atomic bool killed;
    struct gate gate;
    int rc;
};

static int short_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)in, (void)out, (void)index;
    struct mapping *mapping = ctx;
    a_add(&mapping->items, 1u, SEQ_CST);
    while (!a_load(&mapping->killed, SEQ_CST)) {
        weft_yield();
    }
    return 0;
}

static int map_many(void *arg, void **result)
{
    (void)result;
    struct mapping *mapping = arg;
    mapping->rc =
        weft_group_map(NULL, short_item, mapping, 100000, NULL, 0, NULL, 0, WEFT_OPTIONS(weft_map_options, .grain = 1000));
    return mapping->rc;
}

PROMISE(C7_maps_check_between_items, EVERYWHERE)
{
    struct mapping mapping = { 0 };
    struct weft_task *task = task_spawn(map_many, &mapping);
    until(a_load(&mapping.items, SEQ_CST) > 0);
    check_eq(weft_task_kill(task, -EIO, WEFT_NOWAIT), 0);
    uint32_t begun = a_load(&mapping.items, SEQ_CST);
    a_store(&mapping.killed, true, SEQ_CST);
    ends_with(task, WEFT_CANCELLED, -EIO);
    check_eq(mapping.rc, -ECANCELED);
    check(mapping.items <= begun + 100); /* a participant that was between its look and its item, not a chunk of 1000 */
}

static int wait_item(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return gate_pass(ctx);
}

static int map_gate(void *gate, void **result)
{
    (void)result;
    return weft_group_map(NULL, wait_item, gate, 3, NULL, 0, NULL, 0, NULL);
}

static int apply_gate(void *gate, void **result)
{
    (void)result;
    struct weft_outcome outcome;
    return weft_group_apply(pool, pass_gate, gate, &outcome);
}

PROMISE(C8_killing_a_task_cancels_the_map_or_apply_it_is_in, EVERYWHERE)
{
    struct gate gate = { 0 };
    struct weft_task *task = task_spawn(map_gate, &gate);
    until(gate_waiting(&gate) == 3);
    check_eq(weft_task_kill(task, -EIO, WEFT_FOREVER), 0);
    check_eq(gate_waiting(&gate), 0);
    ends_with(task, WEFT_CANCELLED, -EIO);
    task = task_spawn(apply_gate, &gate);
    until(gate_waiting(&gate) == 1);
    check_eq(weft_task_kill(task, -EIO, WEFT_FOREVER), 0);
    check_eq(gate_waiting(&gate), 0);
    ends_with(task, WEFT_CANCELLED, -EIO);
}
