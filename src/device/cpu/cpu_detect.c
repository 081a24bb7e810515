/* The table of every instruction set, and which of them this processor can run. */
#include "device/cpu/cpu_amx.h"
#include "device/cpu/cpu_ops.h"
#include "device/cpu/cpu_score.h"

#include <stddef.h>

#define X(slot) .slot = hs_##slot##_ref,
static const hs_cpu_kernels KERNELS_REF = {
    .isa = "ref",
    .row_tile = 4,
#include "device/cpu/kernels.def"
};
#undef X

static bool can_run_always(void)
{
    return true;
}

#if defined(__x86_64__)
#define X(slot) .slot = hs_##slot##_avx2,
static const hs_cpu_kernels KERNELS_AVX2 = {
    .isa = "avx2",
    .row_tile = 6,
    .scores = &hs_scores_avx2,
#include "device/cpu/kernels.def"
};
#undef X

#define X(slot) .slot = hs_##slot##_avx512,
static const hs_cpu_kernels KERNELS_AVX512 = {
    .isa = "avx512",
    .row_tile = 12,
    .scores = &hs_scores_avx512,
#include "device/cpu/kernels.def"
};
#undef X

/* float32 is computed by AVX-512's kernels. */
#define X(slot) .slot = hs_##slot##_avx512,
static const hs_cpu_kernels KERNELS_AVX512BF16 = {
    .isa = "avx512bf16",
    .row_tile = 12,
    .pairs = &hs_pairs_avx512bf16,
    .half_norm = hs_half_norm_avx512bf16,
    .scores = &hs_scores_avx512bf16,
#include "device/cpu/kernels.def"
};

static const hs_cpu_kernels KERNELS_AMX = {
    .isa = "amx",
    .row_tile = 12,
    .pairs = &hs_pairs_amx,
    .half_norm = hs_half_norm_avx512bf16,
    .scores = &hs_scores_amx,
#include "device/cpu/kernels.def"
};
#undef X

static bool can_run_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool can_run_avx512(void)
{
    return can_run_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool can_run_avx512bf16(void)
{
    return can_run_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* Intel's family 6 model 207 begins a vdpbf16ps every other cycle and two fused multiply-adds every cycle: half as many products
 * as by widening. AMD's Zen 4 begins one of either every cycle (bench/peak). */
static bool multiplies_pairs_quickly(void)
{
    return !__builtin_cpu_is("intel");
}

static bool can_run_amx(void)
{
    return can_run_avx512bf16() && hs_cpu_may_use_amx();
}

static bool has_tiles_itself(void)
{
#if defined(HSTU_AMX_MODEL)
    return false;
#else
    return true;
#endif
}
#endif

#if defined(__aarch64__)
#define X(slot) .slot = hs_##slot##_neon,
static const hs_cpu_kernels KERNELS_NEON = {
    .isa = "neon",
    .row_tile = 12,
#include "device/cpu/kernels.def"
};
#undef X
#endif

static const struct {
    const hs_cpu_kernels *kernels;
    bool (*can_run)(void), (*gains)(void);
} LADDER[] = {
    {&KERNELS_REF, can_run_always, can_run_always},
#if defined(__x86_64__)
    {&KERNELS_AVX2, can_run_avx2, can_run_always},
    {&KERNELS_AVX512, can_run_avx512, can_run_always},
    {&KERNELS_AVX512BF16, can_run_avx512bf16, multiplies_pairs_quickly},
    {&KERNELS_AMX, can_run_amx, has_tiles_itself},
#elif defined(__aarch64__)
    {&KERNELS_NEON, can_run_always, can_run_always}, /* every such processor that runs Linux has it */
#endif
};
enum { N_LADDER = sizeof LADDER / sizeof LADDER[0] };

const hs_cpu_kernels *hs_cpu_kernels_at(int i)
{
    return i >= 0 && i < N_LADDER ? LADDER[i].kernels : NULL;
}

bool hs_cpu_can_run(int i)
{
    return i >= 0 && i < N_LADDER && LADDER[i].can_run();
}

bool hs_cpu_gains(int i)
{
    return hs_cpu_can_run(i) && LADDER[i].gains();
}
