/* One line on a terminal: how far, how fast, how long still. Used by one thread at a time. Silent where `shown` is false. */
#ifndef WEFT_PACK_PROGRESS_H
#define WEFT_PACK_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    bool shown;
    size_t files, n_files;
    uint64_t bytes, total_bytes;
    int64_t start_ns, last_ns; /* last: when the line was drawn, 0 when none is on the screen */
};

void progress_init(struct progress *progress, bool shown, size_t n_files, uint64_t total_bytes);
void progress_step(struct progress *progress, uint64_t bytes);
/* Clears the line, so that a message can be printed. */
void progress_clear(struct progress *progress);
double progress_seconds(const struct progress *progress);

#endif
