/* The loops that measure the multipliers, in assembly, so that no compiler has a say. Each kind of instruction has two: one over
 * registers alone, and one that loads all operands from L1 on the way. bench_peak.c alone includes this. */
#ifndef HS_CLI_BENCH_LOOPS_H
#define HS_CLI_BENCH_LOOPS_H

#include <stdint.h>

enum { OPERAND_BYTES = 1 << 15 };

/* Both give operations; what they compute is nobody's. operands: OPERAND_BYTES of zeros, aligned to 64. */
typedef double loop_fn(int64_t rounds);
typedef double loaded_fn(int64_t rounds, const char *operands);

/* A round of a loaded loop over vectors is a step of a product of matrices, 6 rows x 2 vectors: it loads the two, and each
 * row's value for both. Rounds read on in the first half of the operands: the L1 of some processors is no larger than all of them. */
enum { STEP_BYTES = 256 };

static const char *operands_of(const char *operands, int64_t round)
{
    return operands + (uint64_t)round % (OPERAND_BYTES / 2 / STEP_BYTES) * STEP_BYTES;
}

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)
#define VECTORS(kind)                                                                                                  \
    kind "0", kind "1", kind "2", kind "3", kind "4", kind "5", kind "6", kind "7", kind "8", kind "9", kind "10",     \
        kind "11", kind "12", kind "13", kind "14"

#define ZERO_Y(r) "vxorps %%ymm" #r ", %%ymm" #r ", %%ymm" #r "\n\t"
#define FMA_Y(r) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #r "\n\t"
#define ZERO_Z(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define FMA_Z(r) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #r "\n\t"
#define DOT_Z(r) "vdpbf16ps %%zmm12, %%zmm13, %%zmm" #r "\n\t"

/* v: kind of the registers; second: bytes in front of the second vector. The rows' values lie behind both vectors. */
#define LOADED_ROW(multiply, broadcast, v, row, sum0, sum1)                                                            \
    broadcast " 128+4*" #row "(%0), %%" v "14\n\t" multiply " %%" v "12, %%" v "14, %%" v #sum0 "\n\t" multiply        \
              " %%" v "13, %%" v "14, %%" v #sum1 "\n\t"
#define LOADED_STEP(multiply, broadcast, v, second)                                                                    \
    "vmovups (%0), %%" v "12\n\tvmovups " second "(%0), %%" v "13\n\t" LOADED_ROW(multiply, broadcast, v, 0, 0, 1)     \
        LOADED_ROW(multiply, broadcast, v, 1, 2, 3) LOADED_ROW(multiply, broadcast, v, 2, 4, 5)                        \
            LOADED_ROW(multiply, broadcast, v, 3, 6, 7) LOADED_ROW(multiply, broadcast, v, 4, 8, 9)                    \
                LOADED_ROW(multiply, broadcast, v, 5, 10, 11)

__attribute__((target("avx2,fma"))) static double fma256_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Y) ZERO_Y(12) ZERO_Y(13)::: VECTORS("ymm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_Y)::: VECTORS("ymm"));
    return (double)rounds * 12 * 8 * 2;
}

__attribute__((target("avx2,fma"))) static double fma256_loaded(int64_t rounds, const char *operands)
{
    __asm__ volatile(EACH(ZERO_Y)::: VECTORS("ymm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(LOADED_STEP("vfmadd231ps", "vbroadcastss", "ymm", "32")::"r"(operands_of(operands, i))
                         : VECTORS("ymm"), "memory");
    return (double)rounds * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) static double fma512_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Z) ZERO_Z(12) ZERO_Z(13)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_Z)::: VECTORS("zmm"));
    return (double)rounds * 12 * 16 * 2;
}

__attribute__((target("avx512f"))) static double fma512_loaded(int64_t rounds, const char *operands)
{
    __asm__ volatile(EACH(ZERO_Z)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(LOADED_STEP("vfmadd231ps", "vbroadcastss", "zmm", "64")::"r"(operands_of(operands, i))
                         : VECTORS("zmm"), "memory");
    return (double)rounds * 12 * 16 * 2;
}

__attribute__((target("avx512f"))) static double dot512_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_Z) ZERO_Z(12) ZERO_Z(13)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(DOT_Z)::: VECTORS("zmm"));
    return (double)rounds * 12 * 32 * 2;
}

__attribute__((target("avx512f"))) static double dot512_loaded(int64_t rounds, const char *operands)
{
    __asm__ volatile(EACH(ZERO_Z)::: VECTORS("zmm"));
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(LOADED_STEP("vdpbf16ps", "vpbroadcastd", "zmm", "64")::"r"(operands_of(operands, i))
                         : VECTORS("zmm"), "memory");
    return (double)rounds * 12 * 32 * 2;
}

#if !defined(HSTU_AMX_MODEL)
/* Tiles of zeros; only after a model with AMX kernels was opened, which asked the system for them. */
static void enter_tiles(void)
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
}

static double tile_loop(int64_t rounds)
{
    enter_tiles();
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm1\n\t"
                         "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);
    __asm__ volatile("tilerelease" ::);
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}

/* As HS_TILES_STEP (device/cpu/x86/tiles_amx.h) does it: each operand is zeroed behind its last product. */
static double tile_loaded(int64_t rounds, const char *operands)
{
    enum { TILE_BYTES = 1024, N_STEPS = OPERAND_BYTES / (4 * TILE_BYTES) };
    const int64_t row_bytes = 64;
    enter_tiles();
    for (int64_t i = 0; i < rounds; i++) {
        const char *at = operands + (uint64_t)i % N_STEPS * 4 * TILE_BYTES;
        __asm__ volatile("tileloadd (%0,%1), %%tmm4\n\ttileloadd 2048(%0,%1), %%tmm6\n\t"
                         "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
                         "tileloadd 1024(%0,%1), %%tmm5\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm1\n\ttilezero %%tmm6\n\t"
                         "tileloadd 3072(%0,%1), %%tmm7\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3\n\ttilezero %%tmm5\n\t"
                         "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\ttilezero %%tmm4\n\ttilezero %%tmm7" ::"r"(at),
                         "r"(row_bytes)
                         : "memory");
    }
    __asm__ volatile("tilerelease" ::);
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}
#endif
#elif defined(__aarch64__)
#define ZERO_V(r) "movi v" #r ".4s, #0\n\t"
#define FMA_V(r) "fmla v" #r ".4s, v12.4s, v13.4s\n\t"
#define VECTORS "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15"
#define LOADED_ROW(value, sum0, sum1)                                                                                  \
    "fmla v" #sum0 ".4s, v12.4s, " value "\n\tfmla v" #sum1 ".4s, v13.4s, " value "\n\t"
#define LOADED_ROWS                                                                                                    \
    LOADED_ROW("v14.s[0]", 0, 1)                                                                                       \
    LOADED_ROW("v14.s[1]", 2, 3)                                                                                       \
    LOADED_ROW("v14.s[2]", 4, 5)                                                                                       \
    LOADED_ROW("v14.s[3]", 6, 7) LOADED_ROW("v15.s[0]", 8, 9) LOADED_ROW("v15.s[1]", 10, 11)

static double neon_loop(int64_t rounds)
{
    __asm__ volatile(EACH(ZERO_V) ZERO_V(12) ZERO_V(13)::: VECTORS);
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile(EACH(FMA_V)::: VECTORS);
    return (double)rounds * 12 * 4 * 2;
}

static double neon_loaded(int64_t rounds, const char *operands)
{
    __asm__ volatile(EACH(ZERO_V)::: VECTORS);
    for (int64_t i = 0; i < rounds; i++)
        __asm__ volatile("ldp q12, q13, [%0]\n\tldp q14, q15, [%0, #32]\n\t" LOADED_ROWS::"r"(operands_of(operands, i))
                         : VECTORS, "memory");
    return (double)rounds * 12 * 4 * 2;
}
#endif

/* Portable kernels' own: multiplications and additions as the compiler makes them of C. */
enum { CHAINS = 32 };

static double portable_loop(int64_t rounds)
{
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

static double portable_loaded(int64_t rounds, const char *operands)
{
    volatile float factor = 0.5f;
    float x[CHAINS] = {0};
    const float a = factor;
    for (int64_t i = 0; i < rounds; i++) {
        const float *y = (const float *)(const void *)operands_of(operands, i);
        for (int c = 0; c < CHAINS; c++)
            x[c] = x[c] * a + y[c];
    }
    for (int c = 0; c < CHAINS; c++)
        factor = x[c];
    return (double)rounds * CHAINS * 2;
}

#endif
