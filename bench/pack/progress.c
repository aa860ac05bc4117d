#include "progress.h"

#include <stdio.h>
#include <time.h>

static const int64_t interval_ns = 100000000;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void progress_init(struct progress *p, bool shown, size_t n_files, uint64_t total_bytes)
{
    *p = (struct progress){ .shown = shown, .n_files = n_files, .total_bytes = total_bytes, .start_ns = now_ns() };
}

double progress_seconds(const struct progress *p) { return (double)(now_ns() - p->start_ns) / 1e9; }

static void draw(const struct progress *p)
{
    double seconds = progress_seconds(p);
    double rate = seconds > 0 ? (double)p->bytes / seconds : 0;
    /* Files may have grown since the tree was read: never less than nothing. */
    double left = rate > 0 && p->total_bytes > p->bytes ? (double)(p->total_bytes - p->bytes) / rate : 0;
    unsigned long rest = (unsigned long)(left + 0.5);
    fprintf(stderr, "\r\033[K%zu/%zu files  %.1f/%.1f MB  %.1f MB/s  %lu:%02lu left", p->files, p->n_files, (double)p->bytes / 1e6,
            (double)p->total_bytes / 1e6, rate / 1e6, rest / 60, rest % 60);
    fflush(stderr);
}

void progress_step(struct progress *p, uint64_t bytes)
{
    p->files++;
    p->bytes += bytes;
    if (!p->shown) {
        return;
    }
    int64_t now = now_ns();
    if (now - (p->last_ns != 0 ? p->last_ns : p->start_ns) >= interval_ns) {
        p->last_ns = now;
        draw(p);
    }
}

void progress_clear(struct progress *p)
{
    if (p->shown && p->last_ns != 0) {
        fputs("\r\033[K", stderr);
        p->last_ns = 0;
    }
}
