#include "inside.h"

#include <weft.h>

#include "measure.h"

struct call {
    void (*fn)(void *arg);
    void *arg;
};

static int call_fn(void *arg, void **result)
{
    (void)result;
    struct call *call = arg;
    call->fn(call->arg);
    return 0;
}

void run_inside(unsigned workers, void (*fn)(void *arg), void *arg)
{
    struct call call = { fn, arg };
    struct weft_runtime *runtime;
    struct weft_task *task;
    must(weft_runtime_create(WEFT_OPTIONS(weft_runtime_options, .workers = workers), &runtime), "weft_runtime_create");
    must(weft_task_spawn(runtime, call_fn, &call, NULL, &task), "weft_task_spawn");
    must(weft_task_join(task, WEFT_FOREVER), "weft_task_join");
    weft_task_release(task);
    must(weft_runtime_destroy(runtime), "weft_runtime_destroy");
}
