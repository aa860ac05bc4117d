/* The loan of a pool's slot (P6): a member waits for two pieces of work of its own, while a stranger wants the slot, too. Models
   src/loan.c: open_loan, close_loan, weft_loan_is_for, weft_lending_begin, weft_lending_end; and with them loan_for, take_now,
   weft_admission_try, admit, admit_by_loan, weft_admission_release of src/admission.c. One slot; all but the quick ways is under the
   queue's lock. The member's wait may end early (deadline, kill); a piece of work may wait for what the member does after that.
   -DSTRANGER: a loan is given to whoever asks
   -DWAITS: coming back, the lender waits until the borrower has given the slot back
   -DNODEBT: it does not wait, but the slot that it is over by is not counted
   -DORDER: the borrower is told first, and may give the slot back, to a stranger, before it is counted
   -DSTALE: the borrower is not told that the slot is its own now
   -DNOLOOK: a new loan is not offered to those who wait already
   -DNOAGAIN: a loan that comes back is not offered again
   -DOPENED: the loan is opened without the queue's lock, after a look at the queue */
#define SIZE 1
#define C1 0
#define C2 1
#define S 2
#define NOBODY 9
byte used = 1; bool W; bool lock; byte loans; byte borrower = NOBODY; bool open;
bool granted[3], done[3]; bool by_loan[4]; bool back, m_done, impatient;
chan queue = [3] of { byte };
#define LOCK atomic{ !lock -> lock = 1 }
#define UNLOCK lock = 0
#ifdef STRANGER
#define IS_FOR(r) 1
#else
#define IS_FOR(r) (r != S)
#endif
#define FREE_LOAN(r) (open && borrower == NOBODY && IS_FOR(r))
inline lend(r) { assert(r != S); borrower = r; by_loan[r] = 1 }
inline take_free(ok) { atomic{ if :: used < SIZE -> used++; ok = 1 :: else -> ok = 0 fi } }
/* first in the queue by a free slot; whoever it is meant for by a loan; then WAITERS */
inline admit() {
  do :: len(queue) > 0 -> take_free(ok); if :: ok -> queue?h; granted[h] = 1 :: else -> break fi :: else -> break od;
  do
  :: queue??[C1] && FREE_LOAN(C1) -> queue??eval(C1); lend(C1); granted[C1] = 1
  :: queue??[C2] && FREE_LOAN(C2) -> queue??eval(C2); lend(C2); granted[C2] = 1
  :: queue??[S] && FREE_LOAN(S) -> queue??eval(S); lend(S); granted[S] = 1
  :: else -> break
  od;
  W = (len(queue) > 0)
}
inline release(r) {
  ok = 0;
  do
  :: !by_loan[r] && !ok -> /* the quick way, while nobody waits */
     atomic{ u = used; w = W };
     if
     :: !w -> atomic{ if :: used == u && !W -> used--; ok = 1 :: else -> skip fi }
     :: else -> break
     fi
  :: else -> break
  od;
  if
  :: !ok ->
     LOCK;
     if :: by_loan[r] -> borrower = NOBODY; by_loan[r] = 0 :: else -> used-- fi;
#ifdef NOAGAIN
     if :: used < SIZE -> admit() :: else -> W = (len(queue) > 0) fi;
#else
     admit();
#endif
     UNLOCK
  :: else -> skip
  fi
}
proctype Asker(byte r) { byte u, h; bool w, ok;
  ok = 0;
  atomic{ if :: loans == 0 && !W && used < SIZE -> used++; ok = 1 :: else -> skip fi };
  if :: ok -> goto got :: else -> skip fi;
  LOCK;
  W = 1;
  if
  :: FREE_LOAN(r) -> lend(r); ok = 1
  :: else -> if :: len(queue) == 0 -> take_free(ok) :: else -> skip fi
  fi;
  if :: ok -> W = (len(queue) > 0); UNLOCK; goto got :: else -> skip fi;
  queue!r; UNLOCK;
  end: granted[r];
got:
  if
  :: r == S -> assert(m_done || back); /* the member's slot was its own, or the work's, as long as it waited */
  :: else -> skip
  fi;
  if :: r == C2 && by_loan[r] -> if :: true -> skip :: impatient -> back fi :: else -> skip fi; /* may wait for what the member does when it is back */
  release(r);
  done[r] = 1 }
proctype Member() { byte u, h; bool w, ok, early;
#ifdef OPENED
  ok = (len(queue) > 0);
  atomic{ open = 1; loans++ };
  if :: ok -> LOCK; admit(); UNLOCK :: else -> skip fi;
#else
  LOCK; open = 1; loans++;
#ifndef NOLOOK
  admit();
#endif
  UNLOCK;
#endif
  end: if :: done[C1] && done[C2] -> skip :: impatient -> early = 1 fi; /* all has ended, or the wait has */
#ifdef WAITS
  borrower == NOBODY;
#endif
  LOCK; open = 0; loans--;
  if
  :: borrower != NOBODY ->
#ifdef ORDER
     by_loan[borrower] = 0; used++;
#else
#ifndef NODEBT
     used++;
#endif
#ifndef STALE
     by_loan[borrower] = 0;
#endif
#endif
     borrower = NOBODY
  :: else -> skip
  fi;
  UNLOCK;
  back = 1;
  release(3);
  m_done = 1 }
init { atomic{ if :: impatient = 1 :: skip fi; run Member(); run Asker(C1); run Asker(C2); run Asker(S) } }
active proctype Mon() { timeout -> assert(!lock && m_done && done[C1] && done[C2] && done[S] && used == 0 && !W && !open) }
