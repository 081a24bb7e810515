/* pthreadpool behind our own words. Its threads are started once and each takes tasks from one shared counter. Debian
 * builds the library without ThreadSanitizer, so the ordering that it gives (everything before the parallel region, the
 * region, everything behind it) is told to the sanitizer here and nowhere else. */
#include "device/cpu/cpu_pool.h"

#include "base/alloc.h"
#include "base/error.h"

#include <pthreadpool.h>
#include <stdatomic.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HS_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define HS_TSAN 1
#endif

#if defined(HS_TSAN)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define TSAN_ACQUIRE(address) __tsan_acquire(address)
#define TSAN_RELEASE(address) __tsan_release(address)
#else
#define TSAN_ACQUIRE(address) ((void)(address))
#define TSAN_RELEASE(address) ((void)(address))
#endif

struct hs_cpu_pool {
    pthreadpool_t threads; /* NULL for one thread */
    int n_threads;
};

typedef struct region {
    hs_cpu_task_fn *fn;
    void *ctx;
    int64_t n_tasks;
    _Atomic int64_t next;
    char begun, ended; /* only their addresses are used, for ThreadSanitizer */
} region;

hstu_status hs_cpu_pool_open(hs_cpu_pool **out, int threads, hstu_error *err)
{
    hs_cpu_pool *pool = hs_calloc(1, sizeof *pool);
    if (!pool)
        return hs_fail_nomem(err, sizeof *pool, "the thread pool");
    pool->n_threads = threads;
    if (threads > 1) {
        pool->threads = pthreadpool_create((size_t)threads);
        if (!pool->threads) {
            hs_free(pool);
            return hs_fail(err, HSTU_EDEVICE, 0, "device cpu: cannot start %d threads", threads);
        }
    }
    *out = pool;
    return HSTU_OK;
}

void hs_cpu_pool_close(hs_cpu_pool *pool)
{
    if (!pool)
        return;
    if (pool->threads)
        pthreadpool_destroy(pool->threads);
    hs_free(pool);
}

static void work(void *context, size_t worker)
{
    region *r = context;
    TSAN_ACQUIRE(&r->begun);
    for (;;) {
        const int64_t task = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
        if (task >= r->n_tasks)
            break;
        r->fn(r->ctx, (int)worker, task);
    }
    TSAN_RELEASE(&r->ended);
}

void hs_cpu_pool_run(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx)
{
    if (!pool->threads || n_tasks <= 1) {
        for (int64_t task = 0; task < n_tasks; task++)
            fn(ctx, 0, task);
        return;
    }
    region r = {.fn = fn, .ctx = ctx, .n_tasks = n_tasks};
    atomic_init(&r.next, 0);
    const int64_t workers = n_tasks < pool->n_threads ? n_tasks : pool->n_threads;
    TSAN_RELEASE(&r.begun);
    /* Waiting workers sleep. The library's default, to spin, is quicker by some 50 us while every thread has a processor of
     * its own, and slower by tens of milliseconds a region when it has not. */
    pthreadpool_parallelize_1d(pool->threads, work, &r, (size_t)workers, PTHREADPOOL_FLAG_YIELD_WORKERS);
    TSAN_ACQUIRE(&r.ended);
}
