/* Races of streams: close || next || finish, source end || last result. */
#include "contract.h"
#include "race.h"
#include "stream.h"

static struct race race;

static int finish_item(void *ctx, void *item, void **result)
{
    (void)ctx;
    stream_enter();
    *result = value_make(((struct thing *)item)->id);
    race_start(&race, false);
    a_sub(&stream_running, 1u, SEQ_CST);
    return 0;
}

static int end_late(void *arg, void **item)
{
    struct stream *stream = arg;
    if (stream->next == stream->n) {
        race_start(&race, true);
    }
    return stream_next(stream, item);
}

static int act_read(void *arg)
{
    struct weft_item item;
    int n = 0, rc;
    while ((rc = weft_imap_next(arg, &item, WEFT_FOREVER)) == 1) {
        stream_took(&item);
        n++;
    }
    check_eq(rc, 0);
    return n;
}

static struct weft_imap *start(weft_source_fn *next, struct stream *stream)
{
    struct weft_imap *imap;
    check_eq((race.rounds % 2 ? weft_group_imap
                              : weft_group_imap_unordered)(pool, &(struct weft_source){ next, stream, thing_free }, 1, finish_item,
                                                           NULL, WEFT_OPTIONS(weft_imap_options, .result_free = value_free), &imap),
             0);
    return imap;
}

PROMISE(I6_race_close_beside_next_and_finish, ONCE)
{
    race_begin(&race, "finish || close");
    while (race_on(&race)) {
        struct stream stream = { .n = 1 };
        struct actor reader;
        struct weft_imap *imap = start(stream_next, &stream);
        actor_start(&reader, true, act_read, imap);
        race_start(&race, true);
        weft_imap_close(imap);
        int n = actor_end(&reader);
        check(n == 0 || n == 1);
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle(); /* read, or freed */
        race_won(&race, n == 0);
    }
    race_end(&race);
}

PROMISE(I3_race_source_end_beside_the_last_result, ONCE)
{
    race_begin(&race, "last result || source end");
    while (race_on(&race)) {
        struct stream stream = { .n = 1 };
        struct weft_imap *imap = start(end_late, &stream);
        struct weft_item item;
        check_eq(weft_imap_next(imap, &item, weft_after(PATIENCE)), 1);
        stream_took(&item);
        int rc = weft_imap_next(imap, &item, WEFT_NOWAIT); /* is the end known already? */
        check(rc == 0 || rc == -ETIMEDOUT);
        check_eq(weft_imap_next(imap, &item, weft_after(PATIENCE)), 0);
        check_eq(weft_imap_destroy(imap), 0);
        stream_settle();
        race_won(&race, rc == 0);
    }
    race_end(&race);
}
