/* The file is read in pieces until read(2) says that it ended, so a file that grows or shrinks meanwhile is packed as it was read. */
#include "deflate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    INPUT_BYTES = 128 * 1024,
    OUTPUT_BYTES_FIRST = 64 * 1024,
    OUTPUT_BYTES_KEPT = 4 * 1024 * 1024, /* a larger buffer is freed after use */
    WINDOW_BITS_GZIP = 15 + 16,          /* zlib.h: 16 asks for a gzip header and trailer */
    MEMORY_LEVEL = 8                     /* zlib's and gzip's default */
};

struct deflater {
    struct deflater *next;
    z_stream stream;
    unsigned char *output;
    size_t output_size;
    unsigned char input[INPUT_BYTES];
};

static struct deflater *deflater_create(int level)
{
    struct deflater *d = malloc(sizeof *d);
    if (d == NULL) {
        return NULL;
    }
    d->stream = (z_stream){ .zalloc = Z_NULL };
    d->output_size = OUTPUT_BYTES_FIRST;
    d->output = malloc(d->output_size);
    if (d->output == NULL ||
        deflateInit2(&d->stream, level, Z_DEFLATED, WINDOW_BITS_GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(d->output);
        free(d);
        return NULL;
    }
    return d;
}

static void deflater_destroy(struct deflater *d)
{
    deflateEnd(&d->stream);
    free(d->output);
    free(d);
}

void deflaters_init(struct deflaters *all, int level)
{
    *all = (struct deflaters){ .level = level };
    pthread_mutex_init(&all->lock, NULL);
}

void deflaters_fini(struct deflaters *all)
{
    while (all->unused != NULL) {
        struct deflater *d = all->unused;
        all->unused = d->next;
        deflater_destroy(d);
    }
    pthread_mutex_destroy(&all->lock);
}

struct deflater *deflaters_take(struct deflaters *all)
{
    pthread_mutex_lock(&all->lock);
    struct deflater *d = all->unused;
    if (d != NULL) {
        all->unused = d->next;
    }
    pthread_mutex_unlock(&all->lock);
    return d != NULL ? d : deflater_create(all->level);
}

void deflaters_give(struct deflaters *all, struct deflater *d)
{
    if (d->output_size > OUTPUT_BYTES_KEPT) {
        deflater_destroy(d);
        return;
    }
    pthread_mutex_lock(&all->lock);
    d->next = all->unused;
    all->unused = d;
    pthread_mutex_unlock(&all->lock);
}

static int grow(struct deflater *d)
{
    size_t size = d->output_size * 2;
    unsigned char *output = realloc(d->output, size);
    if (output == NULL) {
        return -ENOMEM;
    }
    d->output = output;
    d->output_size = size;
    return 0;
}

/* Compresses what stream.next_in holds, behind the *used bytes of output that are there. */
static int compress_piece(struct deflater *d, size_t *used, bool last)
{
    for (;;) {
        size_t room = d->output_size - *used;
        if (room == 0) {
            int rc = grow(d);
            if (rc != 0) {
                return rc;
            }
            continue;
        }
        uInt given = room > INPUT_BYTES ? INPUT_BYTES : (uInt)room; /* avail_out is an unsigned int */
        d->stream.next_out = d->output + *used;
        d->stream.avail_out = given;
        int state = deflate(&d->stream, last ? Z_FINISH : Z_NO_FLUSH);
        *used += given - d->stream.avail_out;
        if (state == Z_STREAM_END) {
            return 0;
        }
        if (state != Z_OK && state != Z_BUF_ERROR) {
            return -EIO;
        }
        if (!last && d->stream.avail_in == 0) {
            return 0; /* the rest is in zlib's window */
        }
    }
}

static ssize_t read_piece(int fd, void *buffer, size_t size)
{
    ssize_t n;
    do {
        n = read(fd, buffer, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int compress_all(struct deflater *d, int fd, struct deflated *out)
{
    size_t used = 0;
    uint64_t total = 0;
    ssize_t n;
    do {
        n = read_piece(fd, d->input, sizeof d->input);
        if (n < 0) {
            return (int)n;
        }
        total += (uint64_t)n;
        d->stream.next_in = d->input;
        d->stream.avail_in = (uInt)n;
        int rc = compress_piece(d, &used, n == 0);
        if (rc != 0) {
            return rc;
        }
    } while (n > 0);
    *out = (struct deflated){ .bytes = d->output, .size_bytes = used, .read_bytes = total };
    return 0;
}

int deflater_run(struct deflater *d, int root_fd, const char *path, struct deflated *out)
{
    if (deflateReset(&d->stream) != Z_OK) {
        return -EINVAL;
    }
    /* The tree held a regular file here; if a link or a pipe has taken its place, neither follow nor wait. */
    int fd = openat(root_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    struct stat stat;
    int rc = fstat(fd, &stat) != 0 ? -errno : S_ISREG(stat.st_mode) ? compress_all(d, fd, out) : -ENODEV;
    close(fd); /* only read from: nothing that close could report would matter */
    return rc;
}
