/* A pool of two slots: what waits for a slot, what a wait that runs out leaves behind, and how a kill ends the rest. */
#include <stdio.h>
#include <weft.h>

static int sleeper(void *arg, void **result)
{
    (void)arg, (void)result;
    return weft_sleep_until(weft_after(60 * WEFT_SEC)); /* -ECANCELED when it is killed meanwhile */
}

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition))                                                     \
            return fprintf(stderr, "line %d: %s\n", __LINE__, #condition), 1; \
    } while (0)

int main(void)
{
    struct weft_group *pool;
    struct weft_task *tasks[2];
    CHECK(weft_pool_create(NULL, 2, NULL, &pool) == 0);
    CHECK(weft_group_spawn(pool, sleeper, NULL, &tasks[0]) == 0);
    CHECK(weft_group_spawn(pool, sleeper, NULL, &tasks[1]) == 0);
    CHECK(weft_pool_full(pool) && weft_group_len(pool) == 2);

    /* No slot is free: not now, and not within 10 ms. */
    CHECK(weft_group_spawn_with(pool, sleeper, NULL, NULL, WEFT_NOWAIT, NULL) == -EAGAIN);
    CHECK(weft_group_spawn_with(pool, sleeper, NULL, NULL, weft_after(10 * WEFT_MSEC), NULL) == -ETIMEDOUT);

    /* One is killed and has ended when the call returns; its slot is free then. */
    CHECK(weft_task_kill(tasks[0], 0, WEFT_FOREVER) == 0);
    CHECK(weft_pool_free_count(pool) == 1);

    /* The wait runs out; the task goes on. Killing the pool ends what is left, and waits for it. */
    CHECK(weft_group_join(pool, weft_after(10 * WEFT_MSEC)) == -ETIMEDOUT);
    CHECK(!weft_task_finished(tasks[1]));
    CHECK(weft_group_kill(pool, -EINTR, WEFT_FOREVER) == 0);

    /* What became of them is in their outcomes. */
    struct weft_outcome outcome;
    CHECK(weft_task_get(tasks[0], WEFT_NOWAIT, &outcome) == 0);
    CHECK(outcome.status == WEFT_CANCELLED && outcome.error == -ECANCELED);
    CHECK(weft_task_get(tasks[1], WEFT_NOWAIT, &outcome) == 0);
    CHECK(outcome.status == WEFT_CANCELLED && outcome.error == -EINTR);

    weft_tasks_release(tasks, 2);
    CHECK(weft_group_destroy(pool) == 0);
    return 0;
}
