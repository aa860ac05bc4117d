/* An ordered stream: results come in the order of the source; no more than nine numbers are pulled from it and not yet read. */
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

enum { N = 1000 };

static int next_number(void *ctx, void **item)
{
    int *next = ctx;
    if (*next == N)
        return 0; /* the end */
    int *number = malloc(sizeof *number);
    if (!number)
        return -ENOMEM;
    *number = (*next)++;
    *item = number;
    return 1;
}

static int square(void *ctx, void *item, void **result)
{
    (void)ctx;
    int *number = item, *squared = malloc(sizeof *squared);
    if (!squared)
        return -ENOMEM;
    *squared = *number * *number;
    *result = squared;
    return 0;
}

int main(void)
{
    int next = 0, expected = 0, rc;
    struct weft_source source = { next_number, &next, free };
    struct weft_imap *stream;
    struct weft_item item;
    const struct weft_imap_options *options = WEFT_OPTIONS(weft_imap_options, .maxsize = 8, .result_free = free);
    rc = weft_group_imap(NULL, &source, 1, square, NULL, options, &stream);
    if (rc != 0)
        return fprintf(stderr, "%s\n", weft_strerror(rc)), 1;

    while ((rc = weft_imap_next(stream, &item, WEFT_FOREVER)) == 1) {
        if (item.status != WEFT_OK || *(int *)item.input != expected || *(int *)item.value != expected * expected)
            break;
        free(item.input); /* both are the reader's */
        free(item.value);
        expected++;
    }
    weft_imap_destroy(stream);
    printf("%d results\n", expected);
    return rc == 0 && expected == N ? 0 : 1;
}
