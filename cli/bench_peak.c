/* The peak of the multipliers: loops over registers alone, in assembly, so that no compiler has a say; and of reading memory. */
#include "cli/bench_peak.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"

#include <pthread.h>
#include <string.h>

enum { MAX_THREADS = 4096, ROUNDS = 400000 /* a millisecond or more */, MIN_BLOCK = 1 << 20 };
static const size_t block_bytes = (size_t)512 << 20;

typedef double loop_fn(int64_t rounds); /* gives operations; what it computes is nobody's */

/* ---- loops ------------------------------------------------------------------------------------------------------ */

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)
#define VECTORS(kind)                                                                                                  \
    kind "0", kind "1", kind "2", kind "3", kind "4", kind "5", kind "6", kind "7", kind "8", kind "9", kind "10",     \
        kind "11", kind "12", kind "13"

#define ZERO_Y(r) "vxorps %%ymm" #r ", %%ymm" #r ", %%ymm" #r "\n\t"
#define FMA_Y(r) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #r "\n\t"
#define ZERO_Z(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define FMA_Z(r) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #r "\n\t"
#define DOT_Z(r) "vdpbf16ps %%zmm12, %%zmm13, %%zmm" #r "\n\t"

__attribute__((target("avx2,fma"))) static double fma256_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Y) ZERO_Y(12) ZERO_Y(13)::: VECTORS("ymm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_Y)::: VECTORS("ymm"));
    return (double)rounds * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) static double fma512_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Z) ZERO_Z(12) ZERO_Z(13)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_Z)::: VECTORS("zmm"));
    return (double)rounds * 12 * 16 * 2;
}

__attribute__((target("avx512f"))) static double dot512_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Z) ZERO_Z(12) ZERO_Z(13)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(DOT_Z)::: VECTORS("zmm"));
    return (double)rounds * 12 * 32 * 2;
}

/* Only after a model with AMX kernels was opened, which asked the system for the tiles. */
static double tile_loop(int64_t rounds)
{
    /* Palette 1; bytes of a row, and rows, of eight tiles. */
    static const struct {
        uint8_t palette, zero[15];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {1, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0\n\t"
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\ttilezero %%tmm7" ::"m"(config));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm1\n\t"
                         "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);
    __asm__ volatile("tilerelease" ::);
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}
#elif defined(__aarch64__)
#define ZERO_V(r) "movi v" #r ".4s, #0\n\t"
#define FMA_V(r) "fmla v" #r ".4s, v12.4s, v13.4s\n\t"

static double neon_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_V) ZERO_V(12) ZERO_V(13)::
                         : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13");
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_V)::
                             : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13");
    return (double)rounds * 12 * 4 * 2;
}
#endif

/* Portable kernels' own: multiplications and additions as the compiler makes them of C. */
static double portable_loop(int64_t rounds)
{
    enum { CHAINS = 32 };
    volatile float factor = 0.5f; /* so that the compiler knows neither what comes in nor what goes out */
    float x[CHAINS] = {0};
    const float a = factor;
    for (int64_t i = 0; i < rounds; i++) {
        for (int c = 0; c < CHAINS; c++)
            x[c] = x[c] * a + a;
    }
    for (int c = 0; c < CHAINS; c++)
        factor = x[c];
    return (double)rounds * CHAINS * 2;
}

/* ---- choice ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *isa;
    bool bf16;
    const char *name;
    loop_fn *loop;
} loops[] = {
#if defined(__x86_64__)
    {"amx", true, "AMX bf16", tile_loop},
    {"amx", false, "AVX-512 fp32 FMA", fma512_loop},
    {"avx512bf16", true, "AVX-512 bf16 dot products", dot512_loop},
    {"avx512bf16", true, "AVX-512 fp32 FMA", fma512_loop},
    {"avx512bf16", false, "AVX-512 fp32 FMA", fma512_loop},
    {"avx512", true, "AVX-512 fp32 FMA", fma512_loop},
    {"avx512", false, "AVX-512 fp32 FMA", fma512_loop},
    {"avx2", true, "AVX2 fp32 FMA", fma256_loop},
    {"avx2", false, "AVX2 fp32 FMA", fma256_loop},
#elif defined(__aarch64__)
    {"neon", true, "NEON fp32 FMA", neon_loop},
    {"neon", false, "NEON fp32 FMA", neon_loop},
#endif
    {"ref", true, "portable fp32", portable_loop},
    {"ref", false, "portable fp32", portable_loop},
};

/* ---- threads ---------------------------------------------------------------------------------------------------- */

typedef uint64_t lanes __attribute__((vector_size(64)));

typedef struct worker {
    pthread_t id;
    loop_fn *loop;      /* NULL: reads */
    const lanes *block; /* [n_lanes] */
    size_t n_lanes;
    double until_s;
    double rate; /* operations a second of the best sample, or bytes a second of all of them */
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

hstu_status hs_bench_peak_measure(
    hs_bench_peak *out, const char *isa, bool bf16, int threads, double seconds, hstu_error *err)
{
    const int n = threads < 1 ? 1 : threads < MAX_THREADS ? threads : MAX_THREADS;
    worker *w = hs_alloc_aligned((size_t)n, sizeof *w);
    hstu_status status = w ? HSTU_OK : hs_fail_nomem(err, (size_t)n * sizeof *w, "measuring the machine's peak");
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
