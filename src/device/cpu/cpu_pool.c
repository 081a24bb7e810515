/* Threads that are started once and share out the tasks of one region after the other. A region ends when its last task has, not
 * when every thread has looked at it: a thread that the system does not let run delays nobody unless it holds a task.
 * Waiting threads spin for SPIN_S, since the regions of a forward pass follow each other within microseconds, then sleep. */
#include "device/cpu/cpu_pool.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* SPINS pauses between two looks at the clock. */
enum { SPINS = 64, LEFT_BITS = 32 };
static const double SPIN_S = 100e-6;

/* A region's fields are written while the region before it has no task left, so that nobody takes one; who read them before, or
 * too late, finds `state` changed. What many threads write lies in cache lines of its own. */
struct hs_cpu_pool {
    int n_threads, n_started;
    bool spins; /* every thread can have a processor */
    pthread_t *thread;
    struct worker *worker;
    struct part *part;     /* [n_threads] */
    pthread_mutex_t mutex; /* of `wake` and `finished` */
    pthread_cond_t wake, finished;
    _Alignas(64) _Atomic uint64_t state; /* region << LEFT_BITS | its tasks that nobody has taken */
    _Alignas(64) _Atomic int64_t n_tasks;
    _Atomic(hs_cpu_task_fn *) fn;
    _Atomic(void *) ctx;
    _Alignas(64) _Atomic int64_t n_done;
    _Alignas(64) _Atomic int n_asleep;
    _Atomic bool caller_asleep, closing;
};

/* The next task of one part of a region whose threads have parts of their own. */
typedef struct part {
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
} part;

typedef struct worker {
    hs_cpu_pool *pool;
    int number;
} worker;

static int64_t tasks_left(uint64_t state)
{
    return (int64_t)(uint32_t)state;
}

/* Tasks of the region at hand until there is none left. */
static void work(hs_cpu_pool *pool, int number)
{
    for (;;) {
        uint64_t state = atomic_load(&pool->state);
        const int64_t n_tasks = atomic_load_explicit(&pool->n_tasks, memory_order_relaxed);
        hs_cpu_task_fn *fn = atomic_load_explicit(&pool->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&pool->ctx, memory_order_relaxed);
        const int64_t left = tasks_left(state);
        if (left == 0)
            return;
        if (!atomic_compare_exchange_weak(&pool->state, &state, state - 1))
            continue;
        fn(ctx, number, n_tasks - left);
        if (atomic_fetch_add(&pool->n_done, 1) + 1 == n_tasks && atomic_load(&pool->caller_asleep)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static bool has_task(hs_cpu_pool *pool)
{
    return tasks_left(atomic_load(&pool->state)) > 0 || atomic_load(&pool->closing);
}

static bool is_done(hs_cpu_pool *pool)
{
    return atomic_load(&pool->n_done) == atomic_load(&pool->n_tasks);
}

/* Whether `ready` came true while spinning. */
static bool spin(hs_cpu_pool *pool, bool (*ready)(hs_cpu_pool *pool))
{
    if (!pool->spins)
        return ready(pool);
    const double end = hs_clock_s() + SPIN_S;
    do {
        for (int i = 0; i < SPINS; i++) {
            if (ready(pool))
                return true;
            PAUSE();
        }
    } while (hs_clock_s() < end);
    return false;
}

static void *run_worker(void *context)
{
    const worker *w = context;
    hs_cpu_pool *pool = w->pool;
    while (!atomic_load(&pool->closing)) {
        work(pool, w->number);
        if (spin(pool, has_task))
            continue;
        pthread_mutex_lock(&pool->mutex);
        atomic_fetch_add(&pool->n_asleep, 1);
        while (!has_task(pool)) /* after it counts as asleep: who made the task before that is seen, after it wakes */
            pthread_cond_wait(&pool->wake, &pool->mutex);
        atomic_fetch_sub(&pool->n_asleep, 1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

static void wake_all(hs_cpu_pool *pool)
{
    if (atomic_load(&pool->n_asleep) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

hstu_status hs_cpu_pool_open(hs_cpu_pool **out, int threads, hstu_error *err)
{
    hs_cpu_pool *pool = hs_alloc_aligned(1, sizeof *pool);
    if (!pool)
        return hs_fail_nomem(err, sizeof *pool, "the thread pool");
    memset(pool, 0, sizeof *pool);
    *pool = (hs_cpu_pool){.n_threads = threads, .spins = threads <= hs_system_cpus()};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->thread = hs_calloc((size_t)threads, sizeof *pool->thread);
    pool->worker = hs_calloc((size_t)threads, sizeof *pool->worker);
    pool->part = hs_alloc_aligned((size_t)threads, sizeof *pool->part);
    if (!pool->thread || !pool->worker || !pool->part) {
        hs_cpu_pool_close(pool);
        return hs_fail_nomem(err, (size_t)threads * sizeof *pool->worker, "the thread pool");
    }
    for (int i = 1; i < threads; i++) {
        pool->worker[i] = (worker){.pool = pool, .number = i};
        if (pthread_create(&pool->thread[i], NULL, run_worker, &pool->worker[i]) != 0) {
            hs_cpu_pool_close(pool);
            return hs_fail(err, HSTU_EDEVICE, 0, "device cpu: cannot start %d threads", threads);
        }
        pool->n_started++;
    }
    *out = pool;
    return HSTU_OK;
}

void hs_cpu_pool_close(hs_cpu_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->closing, true);
    wake_all(pool);
    for (int i = 1; i <= pool->n_started; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    hs_free(pool->part);
    hs_free(pool->worker);
    hs_free(pool->thread);
    hs_free(pool);
}

void hs_cpu_pool_run(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx)
{
    if (pool->n_threads == 1 || n_tasks <= 1) {
        for (int64_t task = 0; task < n_tasks; task++)
            fn(ctx, 0, task);
        return;
    }
    const uint64_t region = (atomic_load_explicit(&pool->state, memory_order_relaxed) >> LEFT_BITS) + 1;
    atomic_store(&pool->n_done, 0);
    atomic_store(&pool->fn, fn);
    atomic_store(&pool->ctx, ctx);
    atomic_store(&pool->n_tasks, n_tasks);
    atomic_store(&pool->state, region << LEFT_BITS | (uint64_t)n_tasks);
    wake_all(pool);
    work(pool, 0);
    if (spin(pool, is_done))
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_asleep, true);
    while (!is_done(pool))
        pthread_cond_wait(&pool->finished, &pool->mutex);
    atomic_store(&pool->caller_asleep, false);
    pthread_mutex_unlock(&pool->mutex);
}

typedef struct near_region {
    hs_cpu_pool *pool;
    hs_cpu_task_fn *fn;
    void *ctx;
} near_region;

/* The worker's part, then what others have not begun of theirs. */
static void near_task(void *context, int number, int64_t place)
{
    const near_region *r = context;
    const int n = r->pool->n_threads;
    (void)place; /* whoever comes first, a worker's part is its own */
    for (int i = 0; i < n; i++) {
        part *p = &r->pool->part[(number + i) % n];
        for (;;) {
            const int64_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
            if (task >= p->end)
                break;
            r->fn(r->ctx, number, task);
        }
    }
}

void hs_cpu_pool_run_near(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx)
{
    near_region r = {.pool = pool, .fn = fn, .ctx = ctx};
    const int64_t n = pool->n_threads;
    if (n_tasks <= n) {
        hs_cpu_pool_run(pool, n_tasks, fn, ctx);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        atomic_store_explicit(&pool->part[i].next, n_tasks * i / n, memory_order_relaxed);
        pool->part[i].end = n_tasks * (i + 1) / n;
    }
    hs_cpu_pool_run(pool, n, near_task, &r);
}
