/* The peak of the multipliers and of reading memory, and the yardstick: the loops on all threads. */
#include "cli/bench_peak.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "cli/bench_loops.h"

#include <pthread.h>
#include <string.h>

enum { MAX_THREADS = 4096, ROUNDS = 400000 /* a millisecond or more */, MIN_BLOCK = 1 << 20 };
enum { LOADED_ROUNDS = 1 << 14 /* between two looks at the clock */ };
static const size_t block_bytes = (size_t)512 << 20;

/* ---- choice ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *isa;
    bool bf16;
    const char *name;
    loop_fn *loop;
    loaded_fn *loaded;
} loops[] = {
#if defined(__x86_64__)
#if !defined(HSTU_AMX_MODEL)
    {"amx", true, "AMX bf16", tile_loop, tile_loaded},
#endif
    {"amx", false, "AVX-512 fp32 FMA", fma512_loop, fma512_loaded},
    {"avx512bf16", true, "AVX-512 bf16 dot products", dot512_loop, dot512_loaded},
    {"avx512bf16", true, "AVX-512 fp32 FMA", fma512_loop, fma512_loaded},
    {"avx512bf16", false, "AVX-512 fp32 FMA", fma512_loop, fma512_loaded},
    {"avx512", true, "AVX-512 fp32 FMA", fma512_loop, fma512_loaded},
    {"avx512", false, "AVX-512 fp32 FMA", fma512_loop, fma512_loaded},
    {"avx2", true, "AVX2 fp32 FMA", fma256_loop, fma256_loaded},
    {"avx2", false, "AVX2 fp32 FMA", fma256_loop, fma256_loaded},
#elif defined(__aarch64__)
    {"neon", true, "NEON fp32 FMA", neon_loop, neon_loaded},
    {"neon", false, "NEON fp32 FMA", neon_loop, neon_loaded},
#endif
    {"ref", true, "portable fp32", portable_loop, portable_loaded},
    {"ref", false, "portable fp32", portable_loop, portable_loaded},
};

/* ---- threads ---------------------------------------------------------------------------------------------------- */

typedef uint64_t lanes __attribute__((vector_size(64)));

typedef struct worker {
    pthread_t id;
    loop_fn *loop; /* one of these, or neither: reads */
    loaded_fn *loaded;
    const lanes *block; /* [n_lanes] */
    size_t n_lanes;
    double until_s;
    double rate; /* operations a second of the best sample of `loop`, of all of `loaded`; bytes a second */
    lanes sum;   /* keeps the reads */
} worker;

/* A neighbour or an interrupt slows a sample: the best one is what the multipliers can do. A thread that comes late on a busy
 * machine takes one all the same. */
static void multiply(worker *w)
{
    double start_s = 0, end_s = hs_clock_s();
    do {
        start_s = end_s;
        const double done = w->loop(ROUNDS);
        end_s = hs_clock_s();
        if (end_s > start_s && done / (end_s - start_s) > w->rate)
            w->rate = done / (end_s - start_s);
    } while (end_s < w->until_s);
}

/* All that was done by all the time it took: a neighbour shall show. */
static void multiply_loaded(worker *w)
{
    _Alignas(64) float operands[OPERAND_BYTES / sizeof(float)] = {0};
    const double start_s = hs_clock_s();
    double now_s = start_s, done = 0;
    do {
        done += w->loaded(LOADED_ROUNDS, (const char *)operands);
        now_s = hs_clock_s();
    } while (now_s < w->until_s);
    if (now_s > start_s)
        w->rate = done / (now_s - start_s);
}

/* Piece behind piece, over and over: when one's turn comes again the others have driven it out of the caches. */
static void read_block(worker *w)
{
    enum { PIECE = 1 << 14, AHEAD = 512 };
    const double start_s = hs_clock_s();
    lanes sum = {0};
    double now_s = start_s, bytes = 0;
    size_t at = 0;
    do {
        const size_t end = at + PIECE < w->n_lanes ? at + PIECE : w->n_lanes;
        for (size_t i = at; i < end; i++) {
            __builtin_prefetch(w->block + i + AHEAD, 0, 2); /* twice as fast on some machines as without */
            sum ^= w->block[i];
        }
        bytes += (double)((end - at) * sizeof sum);
        now_s = hs_clock_s();
        at = end < w->n_lanes ? end : 0;
    } while (now_s < w->until_s);
    w->sum = sum;
    if (now_s > start_s)
        w->rate = bytes / (now_s - start_s);
}

static void *work(void *arg)
{
    worker *w = arg;
    if (w->loop)
        multiply(w);
    else if (w->loaded)
        multiply_loaded(w);
    else
        read_block(w);
    return NULL;
}

/* The sum of the threads' rates. */
static hstu_status run_workers(double *out, worker *w, int threads, double seconds, hstu_error *err)
{
    int n = 0, failed = 0;
    double sum = 0;
    const double until_s = hs_clock_s() + seconds;
    for (; n < threads && !failed; n += !failed) {
        w[n].until_s = until_s;
        failed = pthread_create(&w[n].id, NULL, work, &w[n]);
    }
    for (int i = 0; i < n; i++) {
        (void)pthread_join(w[i].id, NULL);
        sum += w[i].rate;
    }
    if (failed)
        return hs_fail_errno(err, failed, "cannot start a thread to measure the machine's peak");
    *out = sum;
    return HSTU_OK;
}

static hstu_status measure_reading(double *out, worker *w, int threads, double seconds, hstu_error *err)
{
    const uint64_t room = hs_system_memory_bytes() / 4;
    const size_t bytes = room < block_bytes ? (size_t)room : block_bytes;
    *out = 0;
    if (bytes < (size_t)threads * MIN_BLOCK)
        return HSTU_OK; /* no figure is better than that of a cache */
    lanes *block = hs_alloc_aligned(bytes, 1);
    if (!block)
        return hs_fail_nomem(err, bytes, "measuring memory");
    memset(block, 1, bytes);
    const size_t each = bytes / sizeof *block / (size_t)threads;
    for (int i = 0; i < threads; i++)
        w[i] = (worker){.block = block + (size_t)i * each, .n_lanes = each};
    const hstu_status status = run_workers(out, w, threads, seconds, err);
    hs_free(block);
    return status;
}

/* *threads becomes their number. */
static hstu_status make_workers(worker **out, int *threads, hstu_error *err)
{
    *threads = *threads < 1 ? 1 : *threads < MAX_THREADS ? *threads : MAX_THREADS;
    *out = hs_alloc_aligned((size_t)*threads, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, (size_t)*threads * sizeof **out, "measuring the machine's peak");
}

hstu_status hs_bench_peak_measure(
    hs_bench_peak *out, const char *isa, bool bf16, int threads, double seconds, hstu_error *err)
{
    int n = threads;
    worker *w = NULL;
    hstu_status status = make_workers(&w, &n, err);
    hs_bench_peak peak = {.of = NULL};
    for (size_t i = 0; i < sizeof loops / sizeof *loops && status == HSTU_OK; i++) {
        double flops = 0;
        if (loops[i].bf16 != bf16 || strcmp(loops[i].isa, isa) != 0)
            continue;
        for (int t = 0; t < n; t++)
            w[t] = (worker){.loop = loops[i].loop};
        status = run_workers(&flops, w, n, seconds, err);
        if (status == HSTU_OK && flops > peak.flops) {
            peak.flops = flops;
            peak.of = loops[i].name;
        }
    }
    if (status == HSTU_OK)
        status = measure_reading(&peak.memory_bytes_s, w, n, seconds, err);
    hs_free(w);
    if (status == HSTU_OK)
        *out = peak;
    return status;
}

hstu_status hs_bench_yardstick_measure(double *out, const char *of, int threads, double seconds, hstu_error *err)
{
    size_t i = 0;
    int n = threads;
    worker *w = NULL;
    while (i < sizeof loops / sizeof *loops && !(of && strcmp(loops[i].name, of) == 0))
        i++;
    if (i == sizeof loops / sizeof *loops) {
        *out = 0;
        return HSTU_OK;
    }
    HS_TRY(make_workers(&w, &n, err));
    for (int t = 0; t < n; t++)
        w[t] = (worker){.loaded = loops[i].loaded};
    const hstu_status status = run_workers(out, w, n, seconds, err);
    hs_free(w);
    return status;
}
