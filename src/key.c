/* Task-local values: a list in the task's extension, touched only by the code that runs as that task. A value is known by its key's
 * number, which is never used again, so a key may go while tasks have values of it; each value keeps its destructor. */
#include "task.h"

#include <stdlib.h>

struct weft_key {
    uint64_t number;
    weft_free_fn *destructor;
};

struct weft_local {
    struct weft_local *next;
    uint64_t number;
    weft_free_fn *destructor;
    void *value;
};

int weft_key_create(weft_free_fn *destructor, struct weft_key **out)
{
    static _Atomic uint64_t numbers;
    if (!out) {
        return -EINVAL;
    }
    if (!(*out = malloc(sizeof **out))) {
        return -ENOMEM;
    }
    **out = (struct weft_key){ .number = a_add(&numbers, (uint64_t)1, RELAXED), .destructor = destructor };
    return 0;
}

void weft_key_destroy(struct weft_key *key) { free(key); }

static struct weft_local **find(struct weft_task_ext *ext, uint64_t number)
{
    struct weft_local **at = &ext->locals;
    while (*at && (*at)->number != number) {
        at = &(*at)->next;
    }
    return at;
}

void *weft_key_get(const struct weft_key *key)
{
    struct weft_task *task = key ? weft_task_current() : NULL;
    struct weft_task_ext *ext = task ? a_load(&task->ext, ACQUIRE) : NULL;
    struct weft_local *local = ext ? *find(ext, key->number) : NULL;
    return local ? local->value : NULL;
}

int weft_key_set(struct weft_key *key, void *value)
{
    struct weft_task *task = weft_task_current();
    if (!key || !task) {
        return key ? -EPERM : -EINVAL;
    }
    struct weft_task_ext *ext = weft_task_extend(task);
    if (!ext) {
        return -ENOMEM;
    }
    struct weft_local **at = find(ext, key->number), *local = *at;
    if (!local && value) {
        if (!(local = malloc(sizeof *local))) {
            return -ENOMEM;
        }
        *local = (struct weft_local){ .number = key->number, .destructor = key->destructor };
        *at = local;
    }
    if (local && value) {
        local->value = value;
    } else if (local) {
        *at = local->next;
        free(local);
    }
    return 0;
}

void weft_locals_end(struct weft_task_ext *ext)
{
    while (ext->locals) {
        struct weft_local local = *ext->locals;
        free(ext->locals);
        ext->locals = local.next; /* before the call: a destructor may look, and set others */
        if (local.destructor) {
            local.destructor(local.value);
        }
    }
}
