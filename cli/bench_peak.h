/* What the processor's multipliers and its memory give, and nothing else, to hold a row's figures against. */
#ifndef HS_CLI_BENCH_PEAK_H
#define HS_CLI_BENCH_PEAK_H

#include "cli/bench.h"

/* Of the widest instructions that kernels of this name (hstu_model_info's isa) multiply with, in fp32 or with bf16 operands, on
 * so many threads for `seconds`; then reading of a block larger than caches for as long. HSTU_EDEVICE when threads cannot be
 * started, HSTU_ENOMEM. */
hstu_status hs_bench_peak_measure(
    hs_bench_peak *out, const char *isa, bool bf16, int threads, double seconds, hstu_error *err);

/* The yardstick, which tells the state of the machine. The peak stays the same while a neighbour on the same cores slows down every
 * multiplication that waits for a load. So this is of the multiplications that the peak is `of`, with all operands loaded
 * from L1 on the way, as in a product of matrices; and the sum of the threads' means over `seconds`, not of their best samples.
 * *out in operations a second; 0 for NULL and for what no peak is of. Errors as above. */
hstu_status hs_bench_yardstick_measure(double *out, const char *of, int threads, double seconds, hstu_error *err);

#endif
