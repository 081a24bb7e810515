/* Threads that are started once and share out the tasks of one region after the other. A region's tasks are cut into parts, each with
 * a counter of what is taken of it: one for each thread, which begins with its own, or one for all. A region ends when its last task
 * has, not when every thread has looked at it: a thread that the system does not let run delays nobody unless it holds a task.
 *   A region of small tasks lasts a few microseconds, and a cache line that several threads write takes a tenth of one to get from each
 * to the next. So a thread learns of a region from one line, which only the caller writes, takes its own tasks from a counter
 * that nobody else writes before they are through, and counts what it has done where nobody else does.
 *   A region may have tasks of a second kind: a thread that finds none of the first any more, for all are taken, goes on with these.
 *   Waiting threads spin for SPIN_S, since the regions of a forward pass follow each other within microseconds, then sleep. */
#include "device/cpu/cpu_pool.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"

#include <pthread.h>
#include <sched.h>
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
enum { SPINS = 64, TASK_BITS = 16, TASKS_MOST = (1 << TASK_BITS) - 1 /* of a part */ };
static const double SPIN_S = 100e-6;

/* What a thread must know of a region. */
typedef struct region {
    uint64_t number;    /* from 1, below 2^47: regions of a microsecond reach that in four years */
    int64_t first, end; /* tasks */
    int64_t n_then;     /* of the second kind, or 0 */
    int n_parts;
    hs_cpu_task_fn *fn, *then;
    void *ctx;
} region;

/* Of one thread, in cache lines of its own. `taken`, which others write rarely, tells how many tasks of its part are taken: turn <<
 * TASK_BITS | tasks, where a region's turns are twice its number and, for the second kind, one more; with an older turn none is yet.
 * The rest it writes alone. */
typedef struct worker {
    _Alignas(64) _Atomic uint64_t taken;
    _Alignas(64) _Atomic int64_t n_done; /* tasks of all regions */
    hs_cpu_pool *pool;
    int number;
    uint64_t seen; /* number of the last region that it looked at */
} worker;

struct hs_cpu_pool {
    int n_threads, n_started;
    bool spins; /* every thread can have a processor */
    pthread_t *thread;
    worker *worker;        /* [n_threads] */
    pthread_mutex_t mutex; /* of `wake` and `finished` */
    pthread_cond_t wake, finished;
    int64_t n_given;                  /* tasks of all regions */
    _Alignas(64) _Atomic uint64_t at; /* twice the region's number; odd while the caller writes what follows */
    _Atomic int64_t first, end, n_then;
    _Atomic int n_parts;
    _Atomic(hs_cpu_task_fn *) fn, then;
    _Atomic(void *) ctx;
    _Alignas(64) _Atomic int n_asleep;
    _Atomic bool caller_asleep, closing;
};

/* The region at hand; false while it is being written. */
static bool look(hs_cpu_pool *pool, region *r)
{
    const uint64_t at = atomic_load_explicit(&pool->at, memory_order_acquire);
    r->number = at / 2;
    r->first = atomic_load_explicit(&pool->first, memory_order_acquire);
    r->end = atomic_load_explicit(&pool->end, memory_order_acquire);
    r->n_then = atomic_load_explicit(&pool->n_then, memory_order_acquire);
    r->n_parts = atomic_load_explicit(&pool->n_parts, memory_order_acquire);
    r->fn = atomic_load_explicit(&pool->fn, memory_order_acquire);
    r->then = atomic_load_explicit(&pool->then, memory_order_acquire);
    r->ctx = atomic_load_explicit(&pool->ctx, memory_order_acquire);
    return at % 2 == 0 && atomic_load_explicit(&pool->at, memory_order_relaxed) == at;
}

static void show(hs_cpu_pool *pool, const region *r)
{
    atomic_store_explicit(&pool->at, 2 * r->number - 1, memory_order_relaxed);
    atomic_store_explicit(&pool->first, r->first, memory_order_release);
    atomic_store_explicit(&pool->end, r->end, memory_order_release);
    atomic_store_explicit(&pool->n_then, r->n_then, memory_order_release);
    atomic_store_explicit(&pool->n_parts, r->n_parts, memory_order_release);
    atomic_store_explicit(&pool->fn, r->fn, memory_order_release);
    atomic_store_explicit(&pool->then, r->then, memory_order_release);
    atomic_store_explicit(&pool->ctx, r->ctx, memory_order_release);
    atomic_store(&pool->at, 2 * r->number);
}

/* The next of n tasks of a part. Of a turn that has ended there is none: its parts are through, or newer turns' by now. */
static bool take(_Atomic uint64_t *taken, uint64_t turn, int64_t n, int64_t *task)
{
    uint64_t was = atomic_load_explicit(taken, memory_order_relaxed);
    do {
        *task = was >> TASK_BITS == turn ? (int64_t)(was & TASKS_MOST) : 0;
        if (was >> TASK_BITS > turn || *task == n)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        taken, &was, (turn << TASK_BITS) + (uint64_t)*task + 1, memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void tell_done(worker *w)
{
    hs_cpu_pool *pool = w->pool;
    atomic_store(&w->n_done, atomic_load_explicit(&w->n_done, memory_order_relaxed) + 1);
    if (!atomic_load(&pool->caller_asleep))
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->mutex);
}

/* Tasks first .. end - 1 of a turn until there is none left: of the thread's part, then what others have not begun of theirs. */
static void work_turn(worker *w, const region *r, uint64_t turn, int64_t first, int64_t end, hs_cpu_task_fn *fn)
{
    for (int i = 0; i < r->n_parts; i++) {
        const int part = (w->number + i) % r->n_parts;
        const int64_t from = first + (end - first) * part / r->n_parts;
        const int64_t to = first + (end - first) * (part + 1) / r->n_parts;
        for (int64_t task = 0; take(&w->pool->worker[part].taken, turn, to - from, &task); tell_done(w))
            fn(r->ctx, w->number, from + task);
    }
}

static void work(worker *w, const region *r)
{
    work_turn(w, r, 2 * r->number, r->first, r->end, r->fn);
    if (r->n_then > 0)
        work_turn(w, r, 2 * r->number + 1, 0, r->n_then, r->then);
}

static bool is_new(const worker *w)
{
    const uint64_t at = atomic_load(&w->pool->at);
    return (at % 2 == 0 && at / 2 != w->seen) || atomic_load(&w->pool->closing);
}

static bool is_done(const worker *w)
{
    const hs_cpu_pool *pool = w->pool;
    int64_t n = 0;
    for (int i = 0; i < pool->n_threads; i++)
        n += atomic_load(&pool->worker[i].n_done);
    return n == pool->n_given;
}

/* Whether `ready` came true while spinning. */
static bool spin(const worker *w, bool (*ready)(const worker *w))
{
    if (!w->pool->spins)
        return ready(w);
    const double end = hs_clock_s() + SPIN_S;
    do {
        for (int i = 0; i < SPINS; i++) {
            if (ready(w))
                return true;
            PAUSE();
        }
    } while (hs_clock_s() < end);
    return false;
}

static void *run_worker(void *context)
{
    worker *w = context;
    hs_cpu_pool *pool = w->pool;
    while (!atomic_load(&pool->closing)) {
        region r;
        if (look(pool, &r)) {
            work(w, &r);
            w->seen = r.number;
        }
        if (spin(w, is_new))
            continue;
        pthread_mutex_lock(&pool->mutex);
        atomic_fetch_add(&pool->n_asleep, 1);
        while (!is_new(w)) /* after it counts as asleep: who made a region before that is seen, after it wakes */
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
    pool->worker = hs_alloc_aligned((size_t)threads, sizeof *pool->worker);
    if (!pool->thread || !pool->worker) {
        hs_cpu_pool_close(pool);
        return hs_fail_nomem(err, (size_t)threads * sizeof *pool->worker, "the thread pool");
    }
    for (int i = 0; i < threads; i++)
        pool->worker[i] = (worker){.pool = pool, .number = i};
    for (int i = 1; i < threads; i++) {
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
    hs_free(pool->worker);
    hs_free(pool->thread);
    hs_free(pool);
}

static void run_region(hs_cpu_pool *pool, const region *r)
{
    worker *const caller = &pool->worker[0];
    pool->n_given += r->end - r->first + r->n_then;
    show(pool, r);
    wake_all(pool);
    work(caller, r);
    if (spin(caller, is_done))
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_asleep, true);
    while (!is_done(caller))
        pthread_cond_wait(&pool->finished, &pool->mutex);
    atomic_store(&pool->caller_asleep, false);
    pthread_mutex_unlock(&pool->mutex);
}

/* Tasks of both kinds; the second may have none. */
typedef struct two_kinds {
    int64_t n, n_then;
    hs_cpu_task_fn *fn, *then;
} two_kinds;

static void run_alone(const two_kinds *t, void *ctx)
{
    for (int64_t task = 0; task < t->n; task++)
        t->fn(ctx, 0, task);
    for (int64_t task = 0; task < t->n_then; task++)
        t->then(ctx, 0, task);
}

/* One region, or where tasks are more than its parts can count, several. */
static void run(hs_cpu_pool *pool, const two_kinds *t, int n_parts, void *ctx)
{
    const int64_t most = (int64_t)n_parts * TASKS_MOST;
    if (pool->n_threads == 1 || (t->n <= 1 && t->n_then <= 1)) {
        run_alone(t, ctx);
        return;
    }
    for (int64_t first = 0; first < t->n; first += most) {
        const bool last = t->n - first <= most;
        const region r = {.number = atomic_load_explicit(&pool->at, memory_order_relaxed) / 2 + 1,
            .first = first,
            .end = last ? t->n : first + most,
            .n_then = last && t->n_then <= most ? t->n_then : 0,
            .n_parts = n_parts,
            .fn = t->fn,
            .then = t->then,
            .ctx = ctx};
        run_region(pool, &r);
    }
    if (t->n == 0 || t->n_then > most)
        run(pool, &(two_kinds){.n = t->n_then, .fn = t->then}, n_parts, ctx);
}

void hs_cpu_pool_run(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx)
{
    run(pool, &(two_kinds){.n = n_tasks, .fn = fn}, 1, ctx);
}

void hs_cpu_pool_run_near(hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, void *ctx)
{
    run(pool, &(two_kinds){.n = n_tasks, .fn = fn}, pool->n_threads, ctx);
}

void hs_cpu_pool_run_then(
    hs_cpu_pool *pool, int64_t n_tasks, hs_cpu_task_fn *fn, int64_t n_then, hs_cpu_task_fn *then, void *ctx)
{
    run(pool, &(two_kinds){.n = n_tasks, .n_then = n_then, .fn = fn, .then = then}, pool->n_threads, ctx);
}

void hs_cpu_pool_await(const _Atomic int64_t *count, int64_t n)
{
    for (int i = 1; atomic_load_explicit(count, memory_order_acquire) < n; i++) {
        if (i % SPINS == 0)
            sched_yield();
        else
            PAUSE();
    }
}
