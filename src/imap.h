/* An imap: a stream through a crew, in order or as it comes, within a window (contract I).
 *
 *   source → pulled → begun → finished → read
 *
 * A task of its own calls the source; participants of the crew begin items in source order; readers take results. All that moves an
 * entry happens under the crew's lock; user code runs outside it.
 *
 *   maxsize m > 0:  begun - read <= m,  pulled - read <= m + 1.
 *   m = 0:          pulled - begun <= 1.
 *
 * The source sleeps in `permits` while it may not pull; who reads (m > 0) or begins (m = 0) an item wakes it. Readers sleep in `readers`;
 * each finished item that can be read wakes one, the end wakes all. The imap is over, and leaves its group, when the source has
 * ended and every entry is finished or dropped; readers need nothing of the group after that.
 *
 * imap.c is its life, from the call to the last reference; source.c pulls; window.c has the entries, and all that moves them. */
#ifndef WEFT_IMAP_H
#define WEFT_IMAP_H

#include "crew.h"

enum weft_entry_state { WEFT_ENTRY_PULLED, WEFT_ENTRY_RUNNING, WEFT_ENTRY_DONE };

struct weft_entry {
    struct weft_entry *next;
    size_t index;
    void *item, *value;
    int error;
    enum weft_status status;
    enum weft_entry_state state;
    uint32_t unused;
    uint64_t slab_link;
};

struct weft_imap {
    struct weft_crew crew; /* first */
    weft_imap_fn *fn;
    void *ctx;
    weft_free_fn *result_free;
    size_t maxsize, n_sources;
    bool ordered;
    struct weft_source *sources;
    struct weft_task *source_task;
    struct weft_drain drain;
    struct weft_waitq permits, readers;
    /* Under the crew's lock. */
    struct weft_entry *first, *last;     /* ordered: all that is not read; unordered: PULLED ones */
    struct weft_entry *pending;          /* the oldest PULLED */
    struct weft_entry *done, *done_last; /* unordered: results */
    size_t pulled, begun, read, running;
    bool source_started, source_ended, closed, over;
    struct weft_entry *reserve; /* the source's, for the news that there is no memory */
    struct weft_entry *failure; /* of the source, not yet read */
    uint64_t slab_link;
};

static inline struct weft_imap *weft_imap_of(struct weft_crew *crew) { return (struct weft_imap *)crew; }

/* window.c */
struct weft_entry *weft_entry_make(void); /* NULL: no memory */
void weft_entry_free(struct weft_entry *entry);
void weft_entries_hold(bool hold); /* around fork */
void weft_imap_item_free(struct weft_imap *imap, void *item);
/* A list of entries that nobody will read. */
void weft_imap_drop(struct weft_imap *imap, struct weft_entry *list);
/* Under the lock: unread results and pulled items, which become a list for drop. Running entries stay. */
struct weft_entry *weft_imap_detach(struct weft_imap *imap);
void weft_imap_append(struct weft_entry **first, struct weft_entry **last, struct weft_entry *entry);
/* Under the lock. True: the caller ends the work, unlocked. */
bool weft_imap_is_over(struct weft_imap *imap);
void weft_imap_wake(struct weft_waitq *queue, bool all);
/* Asks for participants. If there is work and not even one can be made, what may begin fails with -ENOMEM instead: nobody waits for
 * something that nobody will do. */
void weft_imap_invite(struct weft_imap *imap);
/* A crew's ops. */
bool weft_imap_has_work(struct weft_crew *crew);
void weft_imap_work(struct weft_crew *crew, struct weft_participant *participant);

/* source.c: the task that pulls; its argument is the imap. */
int weft_imap_source(void *arg, void **result);

/* imap.c */
void weft_imap_end_work(struct weft_imap *imap);

#endif
