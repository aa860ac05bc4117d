#include <inttypes.h>
#include <stdio.h>
#include <weft.h>

static int sum_up_to(void *arg, void **result)
{
    uint64_t *n = arg, sum = 0;
    for (uint64_t i = 1; i <= *n; i++)
        sum += i;
    *n = sum;
    *result = n;
    return 0;
}

int main(void)
{
    uint64_t n = 1000;
    struct weft_task *task;
    struct weft_outcome outcome;
    int rc = weft_task_spawn(NULL, sum_up_to, &n, NULL, &task);
    if (rc != 0 || (rc = weft_task_get(task, WEFT_FOREVER, &outcome)) != 0)
        return fprintf(stderr, "%s\n", weft_strerror(rc)), 1;
    printf("%" PRIu64 "\n", *(uint64_t *)outcome.value);
    weft_task_release(task);
    return outcome.status == WEFT_OK && n == 500500 ? 0 : 1;
}
