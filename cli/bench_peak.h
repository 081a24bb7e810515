/* What the processor's multipliers and its memory give, and nothing else, to hold a row's figures against. */
#ifndef HS_CLI_BENCH_PEAK_H
#define HS_CLI_BENCH_PEAK_H

#include "cli/bench.h"

/* Of the widest instructions that kernels of this name (hstu_model_info's isa) multiply with, in fp32 or with bf16 operands, on
 * so many threads for `seconds`; then reading of a block larger than caches for as long. HSTU_EDEVICE when threads cannot be
 * started, HSTU_ENOMEM. */
hstu_status hs_bench_peak_measure(
    hs_bench_peak *out, const char *isa, bool bf16, int threads, double seconds, hstu_error *err);

#endif
