/* Several threads that do one thing together. */
#include "data/workers.h"

#include "base/system.h"

#include <pthread.h>

typedef struct start {
    hs_worker_fn fn;
    void *ctx;
    size_t worker;
} start;

size_t hs_workers_count(int threads)
{
    const int n = threads > 0 ? threads : hs_system_cpus();
    return n < HS_WORKERS_MAX ? (size_t)n : HS_WORKERS_MAX;
}

static void *begin(void *argument)
{
    const start *s = argument;
    s->fn(s->ctx, s->worker);
    return NULL;
}

void hs_workers_run(size_t n, hs_worker_fn fn, void *ctx)
{
    pthread_t thread[HS_WORKERS_MAX];
    start starts[HS_WORKERS_MAX];
    size_t n_started = 1;
    n = n < HS_WORKERS_MAX ? n : HS_WORKERS_MAX;
    while (n_started < n) {
        starts[n_started] = (start){fn, ctx, n_started};
        if (pthread_create(&thread[n_started], NULL, begin, &starts[n_started]) != 0)
            break;
        n_started++;
    }
    fn(ctx, 0);
    for (size_t i = 1; i < n_started; i++)
        (void)pthread_join(thread[i], NULL);
}
