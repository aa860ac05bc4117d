/* A participant between two items against a kill of its crew (participant.h, K1 and K2). The owner's store of a new word goes through a
 store buffer of one entry, which a seq_cst load drains first; the killer's accesses are read-modify-writes.
 -DRELAXED: the look at "stop" after the store does not drain the buffer
 -DBEFORE: the look at "stop" comes before the store */
bool stop, requested; /* the crew's, the item scope's */
bool buffered;        /* the owner's store of an empty word, not yet visible */
bool begun;
inline drain() { atomic { if :: buffered -> requested = 0; buffered = 0 :: else -> skip fi } }
active proctype Flush() { end: do :: atomic { buffered -> requested = 0; buffered = 0 } od }
active proctype Owner() {
 bool seen;
 /* the last item has ended with something in its word: a mask, or a kill of that item alone */
#ifdef BEFORE
 seen = stop; buffered = 1; drain();
#else
 buffered = 1;
#ifndef RELAXED
 drain();
#endif
 seen = stop;
#endif
 if :: !seen -> begun = 1 :: else -> skip fi
}
active proctype Killer() { atomic { stop = 1 }; atomic { requested = 1 } }
/* nothing moves any more: whoever has begun knows */
active proctype Monitor() { timeout -> assert(!begun || requested) }
