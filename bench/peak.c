/* What the processor's multipliers give, and nothing else: loops of fp32 fused multiply-adds (AVX-512), vdpbf16ps and tdpbf16ps over
 * registers, on 1, 2, 4, ... all processors. A kernel's figure means something beside these alone, measured in the same minute: a
 * neighbour or a low clock slows both.
 *
 *     peak [SECONDS]     of each loop, in samples of about 5 ms; default 0.5
 *
 * Built and run by bench/peak. */
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MOST = 64, SAMPLES_MOST = 4096, CHAINS = 24 };

typedef double loop_fn(int64_t rounds); /* returns operations; what it computes is nobody's */

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Independent chains enough for any latency; the registers are named so that no compiler spills them. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define FMA(r) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #r "\n\t"
#define DOT(r) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #r "\n\t"
#define ZERO(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define VECTORS                                                                                                        \
    "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm30", "zmm31"

__attribute__((target("avx512f"))) static double fma_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO) ZERO(30) ZERO(31)::: VECTORS);
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA) EACH(FMA)::: VECTORS);
    return (double)rounds * CHAINS * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) static double dot_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO) ZERO(30) ZERO(31)::: VECTORS);
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(DOT) EACH(DOT)::: VECTORS);
    return (double)rounds * CHAINS * 32 * 2;
}

__attribute__((target("amx-tile,amx-bf16"))) static double tile_loop(int64_t rounds)
{
    /* Palette 1; bytes of a row, and rows, of eight tiles. Static: gcc 12 does not see that the instruction reads all of it. */
    static const uint8_t config[64] = {[0] = 1,
        [16] = 64,
        [18] = 64,
        [20] = 64,
        [22] = 64,
        [24] = 64,
        [26] = 64,
        [28] = 64,
        [30] = 64,
        [48] = 16,
        16,
        16,
        16,
        16,
        16,
        16,
        16};
    _tile_loadconfig(config);
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

static int has_dot(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

static int has_tiles(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1u << 22)) || !(d & (1u << 24)))
        return 0;
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ARCH_REQ_XCOMP_PERM, tile data */
}

typedef struct worker {
    loop_fn *loop;
    int64_t rounds;
    double until_s, best; /* operations a second of the best sample, and of all */
    double operations, taken_s;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    for (double start_s = now_s(), end_s = 0; start_s < w->until_s; start_s = end_s) {
        const double operations = w->loop(w->rounds);
        end_s = now_s();
        w->operations += operations;
        w->taken_s += end_s - start_s;
        if (operations / (end_s - start_s) > w->best)
            w->best = operations / (end_s - start_s);
    }
    return NULL;
}

static void measure(const char *name, loop_fn *loop, int threads, double seconds)
{
    pthread_t id[THREADS_MOST];
    worker w[THREADS_MOST] = {{0}};
    int64_t rounds = 1000;
    double taken_s = 0, best = 0, mean = 0;
    for (; taken_s < 5e-3; rounds *= 2) {
        const double start_s = now_s();
        (void)loop(rounds);
        taken_s = now_s() - start_s;
    }
    const double until_s = now_s() + seconds;
    for (int t = 0; t < threads; t++) {
        w[t] = (worker){.loop = loop, .rounds = rounds / 2, .until_s = until_s};
        if (pthread_create(&id[t], NULL, work, &w[t]) != 0)
            exit(1);
    }
    for (int t = 0; t < threads; t++) {
        (void)pthread_join(id[t], NULL);
        best += w[t].best;
        mean += w[t].operations / w[t].taken_s;
    }
    printf("| %s | %d | %.1f | %.1f |\n", name, threads, 1e-9 * best, 1e-9 * mean);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        loop_fn *loop;
        int (*has)(void);
    } loops[] = {{"fp32 FMA, AVX-512", fma_loop, has_avx512}, {"vdpbf16ps", dot_loop, has_dot},
        {"tdpbf16ps", tile_loop, has_tiles}};
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int most = online < 1 ? 1 : online > THREADS_MOST ? THREADS_MOST : (int)online;
    printf("| loop | threads | GFLOP/s, best sample | mean |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        if (!loops[i].has())
            continue;
        for (int threads = 1; threads < most; threads *= 2)
            measure(loops[i].name, loops[i].loop, threads, seconds);
        measure(loops[i].name, loops[i].loop, most, seconds);
    }
    return 0;
}
