/* Runs a function as the only task of a fresh runtime, so that what it measures happens on that runtime's workers alone. */
#ifndef WEFT_BENCH_INSIDE_H
#define WEFT_BENCH_INSIDE_H

void run_inside(unsigned workers, void (*fn)(void *arg), void *arg);

#endif
