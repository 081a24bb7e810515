/* Several threads that do one thing together. */
#ifndef HS_DATA_WORKERS_H
#define HS_DATA_WORKERS_H

#include <stddef.h>

enum { HS_WORKERS_MAX = 256 };

typedef void (*hs_worker_fn)(void *ctx, size_t worker);

/* `threads`, or as many as this process may use where it is 0; 1 to HS_WORKERS_MAX. */
size_t hs_workers_count(int threads);
/* Calls fn with worker 0 .. n - 1, each on its own thread, the calling one as worker 0; returns when all have returned. A
 * thread that cannot be started is done without: fn takes work until none is left and waits for no particular worker. */
void hs_workers_run(size_t n, hs_worker_fn fn, void *ctx);

#endif
