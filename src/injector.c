#include "injector.h"

void weft_injector_push(struct weft_injector *injector, struct weft_injector_node *node)
{
    node->next = NULL;
    weft_lock(&injector->lock);
    if (injector->tail) {
        injector->tail->next = node;
    } else {
        injector->head = node;
    }
    injector->tail = node;
    a_store(&injector->count, a_load(&injector->count, RELAXED) + 1, SEQ_CST); /* I1 of idle.h */
    weft_unlock(&injector->lock);
}

struct weft_injector_node *weft_injector_pop(struct weft_injector *injector)
{
    if (weft_injector_count(injector) == 0) {
        return NULL;
    }
    weft_lock(&injector->lock);
    struct weft_injector_node *node = injector->head;
    if (node) {
        injector->head = node->next;
        if (!injector->head) {
            injector->tail = NULL;
        }
        a_store(&injector->count, a_load(&injector->count, RELAXED) - 1, SEQ_CST);
    }
    weft_unlock(&injector->lock);
    return node;
}
