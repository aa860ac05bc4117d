/* The archive: written beside its final name and renamed at the end, so that OUT is the old file or the whole new one, never half.
 *
 * One at a time in a process (the signal handler knows one name). Used by one thread at a time. What is not a regular file
 * (a pipe, a device such as /dev/full) is written in place. */
#ifndef WEFT_PACK_OUTPUT_H
#define WEFT_PACK_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct output {
    char *path;      /* where it shall be, links resolved */
    char *temporary; /* where it is meanwhile; NULL when written in place */
    int fd;
    mode_t mode; /* of the finished file */
    unsigned char *buffer;
    size_t used;
    uint64_t written_bytes;
};

/* Each returns 0 or a negative errno value. After a failed open there is nothing to abandon. */
int output_open(struct output *out, const char *path);
int output_write(struct output *out, const void *bytes, size_t size);
/* Flushes, closes and renames; on failure nothing is left behind. Ends `out` either way. */
int output_commit(struct output *out);
/* Removes what was written. Ends `out`. */
void output_abandon(struct output *out);

#endif
