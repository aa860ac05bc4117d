/* A user's program, in the common part of C11 and C++17. */
#include <stdio.h>

#include <weft.h>

static int square(void *ctx, size_t index, const void *in, void *out)
{
    (void)ctx;
    (void)index;
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

int main(void)
{
    enum { N = 1000 };
    static int in[N], out[N];
    for (int i = 0; i < N; i++)
        in[i] = i;

    int rc = WEFT_MAP(NULL, square, NULL, N, in, out, NULL);
    if (rc) {
        fprintf(stderr, "map: %s\n", weft_strerror(rc));
        return 1;
    }
    for (int i = 0; i < N; i++) {
        if (out[i] != i * i) {
            fprintf(stderr, "out[%d] is %d\n", i, out[i]);
            return 1;
        }
    }
    printf("weft %s\n", weft_version());
    return 0;
}
