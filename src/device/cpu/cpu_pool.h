/* The CPU device's threads. */
#ifndef HS_DEVICE_CPU_CPU_POOL_H
#define HS_DEVICE_CPU_CPU_POOL_H

#include "hstu/status.h"

#include <stdint.h>

typedef struct hs_cpu_pool hs_cpu_pool;

/* threads >= 1, the caller's own included. */
hstu_status hs_cpu_pool_open(hs_cpu_pool **out, int threads, hstu_error *err);
void hs_cpu_pool_close(hs_cpu_pool *pool); /* NULL is fine */

/* fn(ctx, worker, task) for every task in 0 .. n_tasks - 1, handed out in ascending order to whichever thread is free.
 * Calls with the same worker, 0 .. threads - 1, never overlap: a worker number stands for scratch memory. Returns when
 * all are done. One thread calls at a time, and fn calls none of these. */
typedef void hs_cpu_task_fn(void *ctx, int worker, int64_t task);
void hs_cpu_pool_run(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx);
/* The same, but each thread begins with a run of neighbouring tasks, and takes others' when it is through with its own: for tasks
 * whose neighbours read the same. Worker w's run is the w-th share of the tasks in every such region (of more than 65,535 tasks for each
 * thread, a share of as many at a time): what one region writes, the next finds in the cache of the thread that wants it, if both share
 * out the same rows in order. */
void hs_cpu_pool_run_near(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx);
/* The same, and behind them n_then tasks of another kind, shared out likewise. Threads do not meet in between: one of these
 * begins when all of the first kind are taken, and waits with hs_cpu_pool_await for those that it needs. */
void hs_cpu_pool_run_then(
    hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, int64_t n_then, hs_cpu_task_fn *then, void *ctx);
/* Until *count, to which tasks of the first kind add (memory_order_release) when they end, is n or more. */
void hs_cpu_pool_await(const _Atomic int64_t *count, int64_t n);

#endif
