#include "channel.h"

#include <stdlib.h>
#include <string.h>

int weft_channel_create(size_t item_size, size_t capacity, struct weft_channel **out)
{
    size_t bytes;
    if (!out) {
        return -EINVAL;
    }
    *out = NULL;
    if (__builtin_mul_overflow(item_size, capacity, &bytes) || bytes > SIZE_MAX / 2) {
        return -EOVERFLOW;
    }
    struct weft_channel *channel = calloc(1, sizeof *channel + bytes);
    if (!channel) {
        return -ENOMEM;
    }
    channel->item_size = item_size;
    channel->capacity = capacity;
    *out = channel;
    return 0;
}

void weft_channel_destroy(struct weft_channel *channel)
{
    if (channel) {
        weft_lock(&channel->lock); /* whoever served the last waiter has let go of it */
        weft_assert(!channel->senders && !channel->receivers);
        weft_unlock(&channel->lock);
        free(channel);
    }
}

/* ---- items; under the lock ---- */

static void copy(const struct weft_channel *channel, void *to, const void *from)
{
    if (to && channel->item_size > 0) {
        memcpy(to, from, channel->item_size);
    }
}

static void *place(struct weft_channel *channel, size_t index)
{
    return channel->items + (channel->first + index) % channel->capacity * channel->item_size;
}

/* The oldest of a ring that nothing else has ended, claimed; or NULL, and then the ring is empty. */
static struct weft_offer *claim_oldest(struct weft_waiter **tail, int rc, struct weft_waiter **ready)
{
    while (*tail) {
        struct weft_offer *oldest = (struct weft_offer *)(*tail)->next;
        oldest->rc = rc;
        if (weft_waitq_claim(tail, &oldest->waiter, NULL, ready)) {
            return oldest;
        }
    }
    return NULL;
}

static int try_send(struct weft_channel *channel, const void *item, struct weft_waiter **ready)
{
    if (channel->closed) {
        return -EPIPE;
    }
    struct weft_offer *receiver = claim_oldest(&channel->receivers, 0, ready);
    if (receiver) {
        copy(channel, receiver->with->receive, item);
        return 0;
    }
    if (channel->count == channel->capacity) {
        return -EAGAIN;
    }
    copy(channel, place(channel, channel->count), item);
    channel->count++;
    return 0;
}

static int try_receive(struct weft_channel *channel, void *item, struct weft_waiter **ready)
{
    if (channel->count > 0) {
        copy(channel, item, place(channel, 0));
        channel->first = (channel->first + 1) % channel->capacity;
        channel->count--;
        struct weft_offer *sender = claim_oldest(&channel->senders, 0, ready);
        if (sender) { /* it moves up */
            copy(channel, place(channel, channel->count), sender->with->send);
            channel->count++;
        }
        return 0;
    }
    struct weft_offer *sender = claim_oldest(&channel->senders, 0, ready);
    if (sender) {
        copy(channel, item, sender->with->send);
        return 0;
    }
    return channel->closed ? -EPIPE : -EAGAIN;
}

int weft_channel_try(struct weft_select_case *with, struct weft_waiter **ready)
{
    return with->send ? try_send(with->channel, with->send, ready) : try_receive(with->channel, with->receive, ready);
}

void weft_channel_close(struct weft_channel *channel)
{
    struct weft_waiter *ready = NULL;
    if (!channel) {
        return;
    }
    weft_lock(&channel->lock);
    channel->closed = true;
    while (claim_oldest(&channel->senders, -EPIPE, &ready) || claim_oldest(&channel->receivers, -EPIPE, &ready)) {
    }
    weft_unlock(&channel->lock);
    weft_waitq_ready(ready);
}

static int one_case(struct weft_select_case *with, int64_t deadline)
{
    size_t chosen;
    int rc = with->channel ? weft_channel_select(with, 1, deadline, &chosen) : -EINVAL;
    return rc != 0 ? rc : with->rc;
}

int weft_channel_send(struct weft_channel *channel, const void *item, int64_t deadline)
{
    static const char nothing; /* of a channel whose items have no bytes */
    if (channel && !item && channel->item_size > 0) {
        return -EINVAL;
    }
    struct weft_select_case with = { .channel = channel, .send = item ? item : &nothing };
    int rc = one_case(&with, deadline);
    return rc == -ETIMEDOUT && deadline == WEFT_NOWAIT ? -EAGAIN : rc;
}

int weft_channel_receive(struct weft_channel *channel, void *item, int64_t deadline)
{
    struct weft_select_case with = { .channel = channel, .receive = item };
    return one_case(&with, deadline);
}
