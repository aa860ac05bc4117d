/* I5 to I7, M8: how streams end. */
#include "contract.h"
#include "stream.h"

PROMISE(I5_the_source_is_killed_at_close_and_its_wait_holds_no_slot, EVERY)
{
    struct gate ahead = { 0 };
    struct stream stream = { .n = 0, .ahead = &ahead };
    struct weft_item item;
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, NULL);
    until(gate_waiting(&ahead) == 1);
    check_eq(weft_pool_free_count(pool), size == WEFT_UNLIMITED ? 1 : size);
    weft_imap_close(imap);
    until(gate_waiting(&ahead) == 0);
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
}

PROMISE(I6_close_drops_what_is_unread_and_kills_no_running_item, EVERY)
{
    struct stream stream = { .n = 30 };
    struct gate gate = { 0 };
    struct weft_item item;
    struct actor reader;
    struct weft_imap *imap = stream_start(pool, false, &stream, 0, &gate);
    until(gate_waiting(&gate) >= 1);
    actor_start(&reader, !in_task, stream_read_one, imap);
    weft_imap_close(imap);
    weft_imap_close(imap);
    check_eq(actor_end(&reader), 0); /* readers get the end */
    uint32_t begun = a_load(&stream_begun, SEQ_CST);
    check(gate_waiting(&gate) >= 1); /* they run on */
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    gate_open(&gate);
    check_eq(weft_imap_destroy(imap), 0);
    check(stream_begun <= begun + workers); /* one that had been given to a worker already may just begin */
    stream_settle();
    check_eq(weft_imap_destroy(NULL), 0);
    weft_imap_close(NULL);
}

static struct weft_imap *own;
static struct gate own_known;

static int destroy_own(void *ctx, void *item, void **result)
{
    (void)ctx, (void)item, (void)result;
    check_eq(gate_pass(&own_known), 0);
    check_eq(weft_imap_destroy(own), -EDEADLK);
    return 0;
}

static int destroy_in_source(void *ctx, void **item)
{
    check_eq(gate_pass(&own_known), 0);
    check_eq(weft_imap_destroy(own), -EDEADLK);
    return weft_array_next(ctx, item);
}

PROMISE(I6_destroy_from_its_own_item_or_source_is_edeadlk, EVERY)
{
    static const char thing;
    struct weft_array array = { &thing, 1, 1, 0 };
    struct weft_item item;
    own_known = (struct gate){ 0 };
    check_eq(weft_group_imap(pool, &(struct weft_source){ destroy_in_source, &array, NULL }, 1, destroy_own, NULL, NULL, &own), 0);
    gate_open(&own_known);
    check_eq(weft_imap_next(own, &item, WEFT_FOREVER), 1); /* nothing has changed */
    check_eq(item.status, WEFT_OK);
    check_eq(weft_imap_next(own, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(own), 0);
}

PROMISE(I7_killing_the_group_ends_an_imap, EVERY)
{
    struct stream stream = { .n = 5 };
    struct gate gate = { 0 };
    struct weft_item item;
    int rc, n = 0;
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, &gate);
    until(gate_waiting(&gate) >= 1);
    check_eq(weft_group_kill(pool, -EIO, WEFT_FOREVER), 0);
    while ((rc = weft_imap_next(imap, &item, WEFT_FOREVER)) == 1) {
        check(item.status == WEFT_CANCELLED && item.error == -EIO && !item.value);
        stream_took(&item);
        n++;
    }
    check_eq(rc, 0);
    check(n >= 1 && n <= 5);
    check_eq(weft_imap_destroy(imap), 0);
    stream_settle();
}

/* Departure: map takes arrays; what has no known length goes to imap. */
PROMISE(M8_iterables_go_to_imap, EVERY)
{
    struct gate known = { 0 };
    struct stream stream = { .n = 20, .ahead = &known };
    struct weft_item item;
    struct weft_imap *imap = stream_start(pool, true, &stream, 0, NULL);
    for (size_t i = 0; i < 20; i++) {
        check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 1);
        check_eq(item.index, i);
        stream_took(&item);
    }
    gate_open(&known); /* only now the source knows that this was all */
    check_eq(weft_imap_next(imap, &item, WEFT_FOREVER), 0);
    check_eq(weft_imap_destroy(imap), 0);
    stream_settle();
}
