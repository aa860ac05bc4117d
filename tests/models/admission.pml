/* A pool of one slot: one FIFO, free slots taken and given back by CAS while nobody waits, hand-over under the queue's lock, against
   kill or timeout of a waiter, and shut. Models src/admission.c: take_free, weft_admission_try, weft_admission_wait, forget, admit,
   weft_admission_hand_over, weft_admission_note_waiters, weft_admission_release, weft_admission_shut; and the claim of src/waitq.c.
   used and W are one word: what is read of them together is changed only if it is still so.
   -DNOLOCK: a release that sees WAITERS hands the slot over without the queue's lock
   -DEARLY: a hand-over clears WAITERS although others stand in the queue
   -DLOST: a waiter that goes for another reason counts as having taken the slot
   -DKEPT: a slot that nobody in the queue took is not given back
   -DLATE: looks for a free slot first, then says that it waits
   -DNOSHUTS: does not look whether the queue was shut between its entry and its place there */
#define SIZE 1
#define N 3
mtype = { IDLE, ASLEEP, WOKEN, GONE };
byte used = 1; bool W; bool lock; byte shuts; bool released;
chan queue = [N] of { byte };
mtype st[N]; bool ended[N]; bool done[N], late[N]; byte inside = 1;
#define LOCK atomic{ !lock -> lock = 1 }
#define UNLOCK lock = 0
inline note() { W = (len(queue) > 0) }
inline take_free(ok) { atomic{ if :: used < SIZE -> used++; ok = 1 :: else -> ok = 0 fi } }
/* the lock is held, but for NOLOCK */
inline admit() {
  do
  :: len(queue) > 0 -> take_free(ok);
     if :: !ok -> break :: else -> skip fi;
     given = 0;
     do
     :: len(queue) > 0 && !given ->
        queue?h;
#ifdef LOST
        atomic{ if :: st[h] == ASLEEP -> st[h] = WOKEN :: else -> skip fi; given = 1 }
#else
        atomic{ if :: st[h] == ASLEEP -> st[h] = WOKEN; given = 1 :: else -> skip fi }
#endif
     :: else -> break
     od;
#ifndef KEPT
     if :: !given -> used-- :: else -> skip fi
#endif
  :: else -> break
  od;
#ifdef EARLY
  W = 0
#else
  note()
#endif
}
inline release() {
  do
  :: atomic{ u = used; w = W };
     if
     :: !w -> atomic{ if :: used == u && !W -> used--; ok = 1 :: else -> ok = 0 fi };
        if :: ok -> break :: else -> skip fi
     :: else ->
#ifndef NOLOCK
        LOCK;
#endif
        used--;
        admit();
#ifndef NOLOCK
        UNLOCK;
#endif
        break
     fi
  od
}
proctype Holder() { byte u, h; bool w, ok, given;
  if :: inside--; released = 1; release() :: shuts > 0 -> skip /* keeps it for ever: only shut ends the others' wait */ fi }
proctype Waiter(byte i) { byte u, h, seen, turns; bool w, ok, given;
  atomic{ seen = shuts; late[i] = (shuts > 0) }; /* who comes after the shut waits like any other */
  atomic{ if :: !W && used < SIZE -> used++; ok = 1 :: else -> ok = 0 fi };
  if :: ok -> goto got :: else -> skip fi;
  LOCK;
#ifndef LATE
  W = 1;
#endif
  ok = 0;
  if :: len(queue) == 0 -> take_free(ok) :: else -> skip fi;
#ifdef LATE
  W = 1;
#endif
  if :: ok -> note(); UNLOCK; goto got :: else -> skip fi;
#ifndef NOSHUTS
  if :: shuts != seen -> note(); UNLOCK; goto out :: else -> skip fi;
#endif
  st[i] = ASLEEP; queue!i; UNLOCK;
  end: st[i] != ASLEEP;
  LOCK; /* forget: also when it was claimed */
  if :: queue??[eval(i)] -> queue??eval(i); note() :: else -> skip fi;
  UNLOCK;
  if :: st[i] == GONE || ended[i] -> goto out :: else -> skip fi;
got:
  atomic{ inside++; assert(inside <= SIZE) };
  atomic{ inside--; };
  release();
out: done[i] = 1 }
proctype Killer(byte i) { if :: atomic{ st[i] == ASLEEP -> st[i] = GONE } :: skip fi }
proctype Shutter() { byte u, h; bool w, ok, given;
  LOCK; shuts++;
  do :: len(queue) > 0 -> queue?h; ended[h] = 1; atomic{ if :: st[h] == ASLEEP -> st[h] = WOKEN :: else -> skip fi } :: else -> break od;
  admit(); UNLOCK }
init { atomic{ run Holder(); run Waiter(0); run Waiter(1); run Waiter(2); run Killer(0); if :: run Shutter() :: skip fi } }
active proctype Mon() { timeout ->
  assert(!lock);
  if :: released -> assert(done[0] && done[1] && done[2] && used == 0 && !W)
     :: else -> assert(used == 1 && (shuts == 0 || ((done[0] || late[0]) && (done[1] || late[1]) && (done[2] || late[2])))) fi }
