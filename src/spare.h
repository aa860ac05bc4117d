/* Spare runners: fibers that a worker holds ready, so that a wait never needs memory (S1 in scheduler.h; contract R7).
 *
 * A worker that gets none says so in `starved`, and does without: it goes on with fibers that are ready, which give their stacks back in
 * the end. It says so before it looks once more, and who gives a stack back looks at `starved` after that, both seq_cst: one of the two
 * sees the other, and then idle workers are told. */
#ifndef WEFT_SPARE_H
#define WEFT_SPARE_H

#include "scheduler.h"

/* On the worker's own thread. */
bool weft_spare_ensure(struct weft_worker *worker); /* it holds one, and so may start a task */
void weft_spare_keep(struct weft_worker *worker, struct weft_fiber *fiber);
struct weft_fiber *weft_spare_take(struct weft_worker *worker); /* it holds one */

/* Any thread: a stack has been given back. */
void weft_spare_returned(struct weft_runtime *runtime);

#endif
