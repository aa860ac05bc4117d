#include "thread_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct work {
    struct work *next;
    void (*fn)(void *arg);
    void *arg;
};

struct thread_pool {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    struct work *head, **tail;
    bool closing;
    unsigned n_threads;
    pthread_t threads[];
};

static void *work_until_closed(void *arg)
{
    struct thread_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->head == NULL && !pool->closing) {
            pthread_cond_wait(&pool->not_empty, &pool->lock);
        }
        struct work *work = pool->head;
        if (work == NULL) {
            break;
        }
        pool->head = work->next;
        if (pool->head == NULL) {
            pool->tail = &pool->head;
        }
        pthread_mutex_unlock(&pool->lock);
        work->fn(work->arg);
        free(work);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct thread_pool *thread_pool_create(unsigned n_threads)
{
    struct thread_pool *pool = calloc(1, sizeof *pool + n_threads * sizeof pool->threads[0]);
    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->not_empty, NULL);
    pool->tail = &pool->head;
    while (pool->n_threads < n_threads && pthread_create(&pool->threads[pool->n_threads], NULL, work_until_closed, pool) == 0) {
        pool->n_threads++;
    }
    if (pool->n_threads == 0) {
        thread_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

int thread_pool_submit(struct thread_pool *pool, void (*fn)(void *arg), void *arg)
{
    struct work *work = malloc(sizeof *work);
    if (work == NULL) {
        return -ENOMEM;
    }
    *work = (struct work){ .fn = fn, .arg = arg };
    pthread_mutex_lock(&pool->lock);
    *pool->tail = work;
    pool->tail = &work->next;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_signal(&pool->not_empty);
    return 0;
}

void thread_pool_destroy(struct thread_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_broadcast(&pool->not_empty);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->not_empty);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
