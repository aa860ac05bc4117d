/* P6: nested use of full pools always ends: apply, map and imap inside members, to and fro between two pools, while strangers queue
 * for slots and a member holds a lock that a stranger wants. */
#include "contract.h"

enum { MOST_DEPTH = 5, WIDTH = 2 };

static struct weft_group *pools[2];
static _Atomic uint32_t leaves;

struct level {
    unsigned depth, at, across, way; /* levels below; above; 1: each in the other pool; 0 apply, 1 map, 2 imap, 3 in turn */
};

static int descend(const struct level *level);

static int descend_task(void *level, void **result)
{
    (void)result;
    return descend(level);
}

static int descend_item(void *level, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    return descend(level);
}

static int descend_element(void *level, void *item, void **result)
{
    (void)item, (void)result;
    return descend(level);
}

static int descend(const struct level *level)
{
    if (level->depth == 0) {
        a_add(&leaves, 1u, SEQ_CST);
        weft_yield();
        return 0;
    }
    struct level next = { level->depth - 1, level->at + 1, level->across, level->way };
    struct weft_group *into = pools[level->at & level->across];
    switch (level->way == 3 ? level->at % 3 : level->way) {
    case 0:
        for (int i = 0; i < WIDTH; i++) {
            struct weft_outcome outcome;
            check_eq(weft_group_apply(into, descend_task, &next, &outcome), 0);
            check_eq(outcome.status, WEFT_OK);
        }
        return 0;
    case 1: return weft_group_map(into, descend_item, &next, WIDTH, NULL, 0, NULL, 0, NULL);
    default: {
        static const char things[WIDTH];
        struct weft_array array = { things, 1, WIDTH, 0 };
        struct weft_imap *imap;
        struct weft_item item;
        int rc, n = 0;
        check_eq(
            weft_group_imap(into, &(struct weft_source){ weft_array_next, &array, NULL }, 1, descend_element, &next, NULL, &imap),
            0);
        while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
            check_eq(item.status, WEFT_OK);
            n++;
        }
        check(rc == 0 && n == WIDTH);
        return weft_imap_destroy(imap);
    }
    }
}

/* Strangers: work that nobody waits for, for each pool; two of the first pool want a lock that its member holds while it nests. (In the
 * other pool they could take the slot that the member needs: that would be the user's own circle.) */
struct strangers {
    struct gate unlocked;
    struct weft_task *tasks[6];
};

static int nest_with_lock(void *arg, void **result)
{
    (void)result;
    struct {
        struct level level;
        struct strangers *strangers;
    } *locked = arg;
    int rc = descend(&locked->level);
    gate_open(&locked->strangers->unlocked);
    return rc;
}

PROMISE(P6_nested_use_ends_at_every_size_and_depth, WORKERS)
{
    for (size_t slots = 1; slots <= 3; slots++) {
        for (unsigned depth = 1; depth <= MOST_DEPTH; depth++) {
            for (unsigned way = 0; way < 4; way++) {
                for (unsigned across = 0; across < 2; across++) {
                    (void)snprintf(promise_where, sizeof promise_where, "%u workers, %zu slots, depth %u, way %u, across %u\n",
                                   workers, slots, depth, way, across);
                    struct strangers strangers = { 0 };
                    struct {
                        struct level level;
                        struct strangers *strangers;
                    } locked = { { depth, 1, across, way }, &strangers };
                    pools[0] = pool_make(runtime, slots);
                    pools[1] = pool_make(runtime, slots);
                    leaves = 0;
                    struct weft_task *top = task_create(nest_with_lock, &locked);
                    check_eq(weft_group_start(pools[0], top, WEFT_FOREVER), 1);
                    for (int i = 0; i < 6; i++) {
                        check_eq(weft_group_apply_async(pools[i % 2], i % 2 == 0 && i < 4 ? pass_gate : do_nothing,
                                                        &strangers.unlocked, NULL, &strangers.tasks[i]),
                                 0);
                    }
                    ends_ok(top);
                    check_eq(leaves, 1u << depth);
                    for (int i = 0; i < 6; i++) {
                        ends_ok(strangers.tasks[i]);
                    }
                    for (int i = 0; i < 2; i++) {
                        check_eq(weft_group_join(pools[i], WEFT_FOREVER), 0);
                        check_eq(weft_pool_free_count(pools[i]), slots);
                        check_eq(weft_group_destroy(pools[i]), 0);
                    }
                }
            }
        }
    }
}

static _Atomic bool stranger_ran;

static int be_stranger(void *arg, void **result)
{
    (void)arg, (void)result;
    a_store(&stranger_ran, true, SEQ_CST);
    return 0;
}

struct wait_for {
    struct weft_task *task;
    struct gate *gate;
};

static int wait_for_task(void *arg, void **result)
{
    (void)result;
    struct wait_for *wait_for = arg;
    check_eq(weft_task_join(wait_for->task, WEFT_FOREVER), 0);
    return gate_pass(wait_for->gate);
}

/* A member waits for a task that is no member: nobody may have its slot; only what it waits for. */
PROMISE(P6_a_slot_is_lent_to_no_stranger_and_coming_back_waits_not, EVERY)
{
    if (size == WEFT_UNLIMITED) {
        return;
    }
    struct gate outside = { 0 }, gate = { 0 };
    struct wait_for wait_for = { task_spawn(pass_gate, &outside), &gate };
    struct weft_task *stranger;
    stranger_ran = false;
    for (size_t i = 0; i < size; i++) {
        check_eq(weft_group_spawn(pool, wait_for_task, &wait_for, NULL), 0);
    }
    check_eq(weft_group_apply_async(pool, be_stranger, NULL, NULL, &stranger), 0);
    ends_ok(task_spawn(do_nothing, NULL));
    check(!stranger_ran);
    check_eq(weft_group_spawn_with(pool, do_nothing, NULL, NULL, WEFT_NOWAIT, NULL), -EAGAIN);
    gate_open(&outside);
    until(gate_waiting(&gate) == size); /* all came back */
    check(!stranger_ran);
    gate_open(&gate);
    ends_ok(stranger);
    check(stranger_ran);
    weft_task_release(wait_for.task);
    check_eq(weft_group_join(pool, WEFT_FOREVER), 0);
}
