/* No fsync: a crash of the machine may lose the archive, which can be made again; the rename keeps the old one until then. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 * 1024 };

static const int ending_signals[] = { SIGINT, SIGTERM, SIGHUP };
enum { N_ENDING_SIGNALS = sizeof ending_signals / sizeof ending_signals[0] };

static char unlink_on_signal[PATH_MAX]; /* written only while the signals above are blocked in every thread */

static void remove_and_end(int signal_number)
{
    if (unlink_on_signal[0] != '\0') {
        unlink(unlink_on_signal);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number); /* pending until this handler returns, then the process ends as if there had been no handler */
}

static void block_signals(sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < N_ENDING_SIGNALS; i++) {
        sigaddset(&set, ending_signals[i]);
    }
    sigprocmask(SIG_BLOCK, &set, before);
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = remove_and_end };
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_ENDING_SIGNALS; i++) {
        struct sigaction old;
        if (sigaction(ending_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) { /* nohup stays nohup */
            sigaction(ending_signals[i], &action, NULL);
        }
    }
    /* As errors of write(2), so that they take the path of every other error. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static mode_t default_mode(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

static int open_beside(struct output *out)
{
    size_t size = strlen(out->path) + sizeof ".XXXXXX";
    if (size > sizeof unlink_on_signal) {
        return -ENAMETOOLONG;
    }
    out->temporary = malloc(size);
    if (out->temporary == NULL) {
        return -ENOMEM;
    }
    snprintf(out->temporary, size, "%s.XXXXXX", out->path);
    sigset_t before;
    block_signals(&before);
    out->fd = mkostemp(out->temporary, O_CLOEXEC);
    int rc = out->fd < 0 ? -errno : 0;
    if (rc == 0) {
        memcpy(unlink_on_signal, out->temporary, size);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void free_all(struct output *out)
{
    free(out->path);
    free(out->temporary);
    free(out->buffer);
    *out = (struct output){ .fd = -1 };
}

int output_open(struct output *out, const char *path)
{
    *out = (struct output){ .fd = -1, .buffer = malloc(BUFFER_BYTES) };
    if (out->buffer == NULL) {
        return -ENOMEM;
    }
    catch_signals();
    struct stat stat_now;
    int rc = 0;
    bool exists = stat(path, &stat_now) == 0;
    bool in_place = exists && !S_ISREG(stat_now.st_mode);
    if (exists && S_ISDIR(stat_now.st_mode)) {
        rc = -EISDIR;
    } else {
        /* The target of a link is replaced, not the link. What is written in place may have no path: /dev/stdout. */
        out->path = exists && !in_place ? realpath(path, NULL) : strdup(path);
        out->mode = exists ? stat_now.st_mode & 0777 : default_mode();
        rc = out->path == NULL ? -errno : 0;
    }
    if (rc == 0 && in_place) {
        out->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        rc = out->fd < 0 ? -errno : 0;
    } else if (rc == 0) {
        rc = open_beside(out);
    }
    if (rc != 0) {
        free_all(out);
    }
    return rc;
}

static int write_fully(int fd, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

static int flush(struct output *out)
{
    int rc = write_fully(out->fd, out->buffer, out->used);
    out->used = 0;
    return rc;
}

int output_write(struct output *out, const void *bytes, size_t size)
{
    if (size > BUFFER_BYTES - out->used) {
        int rc = flush(out);
        if (rc != 0) {
            return rc;
        }
    }
    out->written_bytes += size;
    if (size > BUFFER_BYTES) {
        return write_fully(out->fd, bytes, size);
    }
    memcpy(out->buffer + out->used, bytes, size);
    out->used += size;
    return 0;
}

static void forget_temporary(void)
{
    sigset_t before;
    block_signals(&before);
    unlink_on_signal[0] = '\0';
    sigprocmask(SIG_SETMASK, &before, NULL);
}

int output_commit(struct output *out)
{
    int rc = flush(out);
    if (rc == 0 && out->temporary != NULL && fchmod(out->fd, out->mode) != 0) {
        rc = -errno;
    }
    if (close(out->fd) != 0 && rc == 0) {
        rc = -errno; /* some file systems only now say that the disk is full */
    }
    out->fd = -1;
    if (rc == 0 && out->temporary != NULL && rename(out->temporary, out->path) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        output_abandon(out);
        return rc;
    }
    forget_temporary();
    free_all(out);
    return 0;
}

void output_abandon(struct output *out)
{
    if (out->fd >= 0) {
        close(out->fd);
    }
    if (out->temporary != NULL) {
        unlink(out->temporary);
        forget_temporary();
    }
    free_all(out);
}
