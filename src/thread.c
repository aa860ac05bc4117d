#include "thread.h"

#include "slab.h"

#include <pthread.h>

struct foreign {
    struct weft_slot slot;
    struct weft_thread thread;
    uint64_t slab_link; /* the last bytes of a free object are the slab's */
};

static struct weft_slab foreigners;

/* Slots are many, and their locks are taken by kills and by calls of map: a table of them is shared. */
enum { LOCKS = 256 };
static struct slot_lock {
    struct weft_lock lock;
    char apart[WEFT_LINE_BYTES - sizeof(struct weft_lock)];
} slot_locks[LOCKS];

struct weft_lock *weft_slot_lock(const struct weft_slot *slot)
{
    uint64_t hash = (uint64_t)(uintptr_t)slot * 0x9e3779b97f4a7c15u; /* Knuth, TAOCP 3, 6.4: multiplicative hashing */
    return &slot_locks[hash >> 56].lock;
}

#ifdef WEFT_SIM
void *sim_tls_get(void);
void sim_tls_set(void *value);

struct weft_thread *weft_thread_self(void) { return sim_tls_get(); }
void weft_thread_set(struct weft_thread *thread) { sim_tls_set(thread); }
static void remember_exit(struct weft_thread *thread) { (void)thread; }
#else
extern __thread struct weft_thread *weft_thread_current;
__thread struct weft_thread *weft_thread_current __attribute__((tls_model("initial-exec")));
static pthread_key_t exit_key;

#ifndef WEFT_CPU_READ_THREAD_LOCAL
__attribute__((noinline, noclone)) struct weft_thread *weft_thread_self(void)
{
    struct weft_thread *thread = weft_thread_current;
    __asm__ volatile("" : "+r"(thread) : : "memory");
    return thread;
}
#endif

__attribute__((noinline, noclone)) void weft_thread_set(struct weft_thread *thread)
{
    weft_thread_current = thread;
    __asm__ volatile("" : : : "memory");
}

/* A foreign thread ends: its slot may serve the next one. Late killers only ever read its claim word. A worker ends by itself only, and
 * is not remembered then (H41). */
static void forget(void *arg)
{
    struct weft_thread *thread = arg;
    if (thread->worker) {
        weft_panic("a task has ended its worker, by pthread_exit or the like: return from the task instead");
    }
    weft_thread_set(NULL);
    weft_slab_free(&foreigners, NULL, weft_container_of(thread, struct foreign, thread));
}

static void remember_exit(struct weft_thread *thread) { (void)pthread_setspecific(exit_key, thread); }
#endif

__attribute__((constructor)) static void start(void)
{
    weft_slab_init(&foreigners, (sizeof(struct foreign) + 63) / 64 * 64, NULL);
#ifndef WEFT_SIM
    if (pthread_key_create(&exit_key, forget) != 0) {
        weft_panic("no thread-specific key is left for weft");
    }
#endif
}

void weft_thread_enter(struct weft_thread *thread)
{
    weft_thread_set(thread);
    remember_exit(thread);
}

void weft_thread_leave(void)
{
    remember_exit(NULL);
    weft_thread_set(NULL);
}

void weft_thread_hold(bool hold)
{
    (hold ? weft_lock : weft_unlock)(&foreigners.lock);
    for (unsigned i = 0; i < LOCKS; i++) {
        (hold ? weft_lock : weft_unlock)(&slot_locks[i].lock);
    }
}

struct weft_slot *weft_slot_self(void)
{
    struct weft_thread *thread = weft_thread_self();
    if (weft_likely(thread != NULL)) {
        return thread->slot;
    }
    struct foreign *foreign = weft_slab_alloc(&foreigners, NULL);
    if (!foreign) {
        return NULL;
    }
    foreign->thread = (struct weft_thread){ .slot = &foreign->slot };
    weft_slot_reset(&foreign->slot);
    weft_thread_set(&foreign->thread);
    remember_exit(&foreign->thread);
    return &foreign->slot;
}
