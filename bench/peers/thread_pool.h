/* The textbook pool: threads that wait on a condition variable for the head of a queue. What many programs carry with them. */
#ifndef WEFT_PEERS_THREAD_POOL_H
#define WEFT_PEERS_THREAD_POOL_H

struct thread_pool;

/* NULL: no memory, or not one thread could be started. */
struct thread_pool *thread_pool_create(unsigned n_threads);
/* Any thread, the pool's own too. 0, or -ENOMEM. The queue has no bound. */
int thread_pool_submit(struct thread_pool *pool, void (*fn)(void *arg), void *arg);
/* Runs what was submitted, then ends the threads. */
void thread_pool_destroy(struct thread_pool *pool);

#endif
