/* A participant: one that works on a map or imap. It holds a slot of the pool and counts as a member; its items do neither. One is the
 * calling thread (of a map); the others are carriers, tasks of the library.
 *
 * | state of a participant | holds | who ends it |
 * |---|---|---|
 * | ASKED | nothing; its request stands in the pool's FIFO | withdrawn when the work is over |
 * | INVITED | slot and membership; its carrier is queued | its own start, or it is revoked when the work is over (the carrier then only frees it) |
 * | ACTIVE | the same; runs | itself, when it finds nothing more to do |
 * | REVOKED | nothing | its carrier |
 *
 * All under the crew's lock. While it is ACTIVE it is a frame on the slot of whoever runs it (scope.h): that is how a wait inside an item
 * finds the work to hand back, a kill the map that was called, and a loan the chain of callers. A participant that leaves looks for work
 * under the lock once more.
 *
 * A kill of the crew says "stop", then requests the kill in the scope of every ACTIVE participant. Between two items that scope is made
 * new (renew), which may undo the request, so whoever does it looks at "stop" after: either the request comes after the new word, and
 * the next item has it; or it comes before, and so does the "stop" that is seen then (tests/models/renew.pml).
 *
 * | tag | access | partner | without it |
 * |---|---|---|---|
 * | K1 | seq_cst swap of stop, then X1 (scope.h) of the item's scope | K2 | a killed map begins an item that never hears of the kill |
 * | K2 | seq_cst store of the scope's word, then seq_cst load of stop | K1 | the same |
 *
 * Where the last item left the word empty nothing is undone, and a look at "stop" that misses it only begins an item that is told. */
#ifndef WEFT_PARTICIPANT_H
#define WEFT_PARTICIPANT_H

#include "group.h"
#include "range.h"

struct weft_crew;

enum weft_participant_state { WEFT_ASKED, WEFT_INVITED, WEFT_ACTIVE, WEFT_REVOKED };

struct weft_participant {
    /* Of the items of a task that called; others' items run in the scope of a carrier. First, and type-stable: whoever put a waiter to
     * sleep may look at its word late (wait.h, W3). */
    struct weft_scope scope;
    struct weft_frame frame;
    struct weft_scope *item_scope; /* one of the two */
    struct weft_crew *crew;
    struct weft_participant *next, *previous; /* of the crew */
    struct weft_token token;
    struct weft_request request;
    struct weft_task *task; /* carrier; of a foreign caller, too; NULL of a task that called */
    enum weft_participant_state state;
    /* The work at hand; what it means is the owner's (chunk.c; an imap claims nothing ahead). */
    struct weft_range range;
    _Atomic uint32_t hungry;  /* a thief waits for what it may put back */
    _Atomic size_t sheddable; /* how much of the chunk at hand it had not begun when it took it */
    size_t at, limit, chunk;
    void *partial; /* of a reduce: into which its calls go */
    size_t ok, failed, cancelled, first_failed;
    int first_error;
    uint64_t relented; /* cycles: when it last did */
    uint64_t slab_link;
};

/* Not listed, with a reference to the crew. NULL: no memory. */
struct weft_participant *weft_participant_make(struct weft_crew *crew);
void weft_participant_free(struct weft_participant *participant);
/* Under the crew's lock. */
void weft_participant_list(struct weft_participant *participant);
void weft_participant_unlist(struct weft_participant *participant);
/* It counts as a member from here until `give_back`, which gives back its slot, too. The crew itself keeps the group open for it. */
void weft_participant_become_member(struct weft_participant *participant);
void weft_participant_give_back(struct weft_participant *participant);
/* It is the innermost frame of `slot`, in which `task` runs. */
void weft_participant_enter(struct weft_participant *participant, struct weft_slot *slot, struct weft_task *task);

/* The caller of a map becomes a participant; waits for a slot. 0, or what weft_admission_wait returns. */
int weft_participant_join(struct weft_crew *crew, int64_t deadline, struct weft_participant **out);
void weft_participant_leave(struct weft_participant *participant);
/* Between two items: once in a while lets what else is ready run (H32): a map is one turn of its worker otherwise, however long. */
void weft_participant_relent(struct weft_participant *participant);
/* Between two items: a kill that was meant for the last one, and its mask, do not meet the next. False: the crew has been stopped, and
 * no next one may begin. */
bool weft_participant_renew(struct weft_participant *participant);
/* What an item returned, read as a task's (T2). */
enum weft_status weft_participant_judge(struct weft_participant *participant, int rc, int *error);

#endif
