/* What making and ending a runtime share. */
#ifndef WEFT_RUNTIME_H
#define WEFT_RUNTIME_H

#include "task.h"

struct weft_task *weft_task_of_node(struct weft_injector_node *node);
/* Until no task is left that was started. */
int weft_instance_wait_quiet(struct weft_instance *instance, const struct weft_wait *wait);
void weft_instance_no_default(struct weft_instance *instance); /* NULL means another from now on */

#endif
