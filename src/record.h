/* What the files of a task share: record.c (memory, options, references), launch.c (who starts it, or cancels it before it runs) and
 * task.c (its way into the queues, its run, its end). task.h has the states. */
#ifndef WEFT_RECORD_H
#define WEFT_RECORD_H

#include "task.h"

/* record.c. Nobody has a reference any more. `worker`: the calling one, or NULL. */
void weft_record_free(struct weft_task *task, struct weft_worker *worker);
void weft_record_put_fiber(struct weft_task_ext *ext);
void weft_record_drop_value(struct weft_task *task); /* the result of a finished task that nobody took */

/* task.c. The one step that a race decides: who starts it, runs it or cancels it. */
bool weft_task_claim(struct weft_task *task, enum weft_task_state from, enum weft_task_state to, uint32_t flags);
/* Counts a start on whatever thread this is. -ESHUTDOWN unless `forced`: a foreign one, and the end has begun. */
int weft_task_count_queued(struct weft_runtime *runtime, struct weft_worker *worker, bool forced);
void weft_task_uncount(struct weft_runtime *runtime); /* the opposite, for what has not become a task */
/* RUNNING or DOOMED → FINISHED. The caller's reference (the runtime's, or its own for a task that never started) is given up. */
void weft_task_finish(struct weft_task *task, enum weft_task_state from, enum weft_status status, int error, void *value);
void weft_task_forget(struct weft_task *task); /* a note of its failure */

/* launch.c. The timer of the task's option; either it sees that the task has ended, or the end sees the timer. */
void weft_task_arm_deadline(struct weft_task *task, struct weft_runtime *runtime);

#endif
