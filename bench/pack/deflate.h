/* One file in, one gzip member out.
 *
 * A deflater is zlib's state (about 300 KB) and two buffers; making one costs more than compressing a small file, so a `deflaters`
 * keeps those that nobody is using. Take and give are for any thread. Whoever holds a deflater has it alone, and must not suspend
 * a green thread meanwhile only because it would keep memory busy: nothing here belongs to a thread. */
#ifndef WEFT_PACK_DEFLATE_H
#define WEFT_PACK_DEFLATE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct deflater;

struct deflaters {
    pthread_mutex_t lock;
    struct deflater *unused; /* last given, first taken: its state is the likeliest to be in a cache */
    int level;
};

void deflaters_init(struct deflaters *all, int level);
/* Everything taken has been given back. */
void deflaters_fini(struct deflaters *all);
/* NULL: no memory. */
struct deflater *deflaters_take(struct deflaters *all);
void deflaters_give(struct deflaters *all, struct deflater *deflater);

/* The member is the deflater's memory and lives until its next use. */
struct deflated {
    const unsigned char *bytes;
    size_t size_bytes;
    uint64_t read_bytes; /* as read, whatever the file's size was said to be */
};

/* Reads the file to its end and compresses it. 0, or a negative errno value. A file of no bytes gives a member all the same. */
int deflater_run(struct deflater *deflater, int root_fd, const char *path, struct deflated *out);

#endif
