#include <stdio.h>
#include <weft.h>

static int collatz_steps(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx, (void)index;
    unsigned steps = 0;
    for (unsigned long long n = *(const unsigned *)in; n != 1; steps++)
        n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    *(unsigned *)out = steps;
    return 0;
}

int main(void)
{
    static unsigned start[1000000], steps[1000000], best;
    for (unsigned i = 0; i < 1000000; i++)
        start[i] = i + 1;
    int rc = WEFT_MAP(NULL, collatz_steps, NULL, 1000000, start, steps, NULL);
    for (unsigned i = 0; i < 1000000; i++)
        best = steps[i] > steps[best] ? i : best;
    printf("%s: %u takes %u steps\n", weft_strerror(rc), start[best], steps[best]);
    return rc == 0 && start[best] == 837799 && steps[best] == 524 ? 0 : 1;
}
