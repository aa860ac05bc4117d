/* Nested maps: every item of a map in a pool maps again in the same pool, two levels deep, on one worker and a pool of size 1.
 *
 * weft lends the slot of a member that waits to the work it waits for, so this ends at every size. In a textbook pool the only
 * thread waits for items that only it could run: it hangs, and is ended (by its process id) after two seconds. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft.h>

#include "measure.h"
#include "thread_pool.h"

enum { WIDTH = 8, DEPTH = 3, LIMIT_MS = 2000 };

static const char question[] = "nested maps, pool of size 1, one worker";

/* weft. */

struct level {
    struct weft_group *pool;
    size_t depth;
    _Atomic size_t *leaves;
};

static int weft_item_fn(void *ctx, size_t index, const void *in, void *out)
{
    (void)index, (void)in, (void)out;
    struct level *level = ctx;
    if (level->depth == DEPTH) {
        *level->leaves += 1;
        return 0;
    }
    struct level below = { level->pool, level->depth + 1, level->leaves };
    return weft_group_map(level->pool, weft_item_fn, &below, WIDTH, NULL, 0, NULL, 0, NULL);
}

static size_t run_weft(void)
{
    _Atomic size_t leaves = 0;
    struct weft_runtime *runtime;
    struct weft_group *pool;
    must(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = 1), &runtime), "weft_runtime_create");
    must(weft_pool_create(runtime, 1, NULL, &pool), "weft_pool_create");
    struct level top = { pool, 1, &leaves };
    must(weft_group_map(pool, weft_item_fn, &top, WIDTH, NULL, 0, NULL, 0, NULL), "weft_group_map");
    weft_group_destroy(pool);
    weft_runtime_destroy(runtime);
    return leaves;
}

/* The textbook pool. */

struct pool_map {
    struct thread_pool *pool;
    size_t depth;
    _Atomic size_t *leaves;
    pthread_mutex_t lock;
    pthread_cond_t done;
    size_t left; /* under the lock */
};

static void map_in_pool(struct thread_pool *pool, size_t depth, _Atomic size_t *leaves);

static void pool_item_fn(void *arg)
{
    struct pool_map *map = arg;
    if (map->depth == DEPTH) {
        *map->leaves += 1;
    } else {
        map_in_pool(map->pool, map->depth + 1, map->leaves);
    }
    pthread_mutex_lock(&map->lock);
    if (--map->left == 0) {
        pthread_cond_signal(&map->done); /* under the lock: the waiter may end the map as soon as it is free */
    }
    pthread_mutex_unlock(&map->lock);
}

static void map_in_pool(struct thread_pool *pool, size_t depth, _Atomic size_t *leaves)
{
    struct pool_map map = { .pool = pool, .depth = depth, .leaves = leaves, .left = WIDTH };
    pthread_mutex_init(&map.lock, NULL);
    pthread_cond_init(&map.done, NULL);
    for (size_t i = 0; i < WIDTH; i++) {
        must(thread_pool_submit(pool, pool_item_fn, &map), "thread_pool_submit");
    }
    pthread_mutex_lock(&map.lock);
    while (map.left > 0) {
        pthread_cond_wait(&map.done, &map.lock);
    }
    pthread_mutex_unlock(&map.lock);
    pthread_cond_destroy(&map.done);
    pthread_mutex_destroy(&map.lock);
}

static size_t run_thread_pool(void)
{
    _Atomic size_t leaves = 0;
    struct thread_pool *pool = thread_pool_create(1);
    must(pool == NULL ? -ENOMEM : 0, "thread_pool_create");
    map_in_pool(pool, 1, &leaves);
    thread_pool_destroy(pool);
    return leaves;
}

/* Each in a process of its own, which can be ended. */

static bool ends_in_time(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    must(fd < 0 ? -errno : 0, "pidfd_open");
    struct pollfd ended = { .fd = fd, .events = POLLIN };
    int ready;
    do {
        ready = poll(&ended, 1, LIMIT_MS);
    } while (ready < 0 && errno == EINTR);
    close(fd);
    return ready == 1;
}

/* Whether it finished, rightly. */
static bool show(FILE *json, const char *peer, size_t (*run)(void))
{
    fflush(NULL);
    int64_t start = now_ns();
    pid_t pid = fork();
    must(pid < 0 ? -errno : 0, "fork");
    if (pid == 0) {
        _exit(run() == WIDTH * WIDTH * WIDTH ? 0 : 1);
    }
    bool ended = ends_in_time(pid);
    double ms = (double)(now_ns() - start) / 1e6;
    if (!ended) {
        kill(pid, SIGKILL);
    }
    int status;
    must(waitpid(pid, &status, 0) == pid ? 0 : -errno, "waitpid");
    if (!ended) {
        printf("%-16s hangs; ended after %d ms\n", peer, LIMIT_MS);
        return false;
    }
    bool right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%-16s %s: %d items at depth %d in %.2f ms\n", peer, right ? "finished" : "FAILED", WIDTH * WIDTH * WIDTH, DEPTH, ms);
    record_write(json, &(struct record){ question, peer, 1, "ms", { 1, ms, ms, ms } });
    return right;
}

int main(int argc, char **argv)
{
    FILE *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? fopen(argv[2], "we") : NULL;
    printf("\n%s, each item maps again in the same pool:\n", question);
    bool finished = show(json, "weft", run_weft);
    show(json, "pthread", run_thread_pool);
    if (json != NULL) {
        must(fclose(json) != 0 ? -errno : 0, "results");
    }
    return finished ? 0 : 1;
}
