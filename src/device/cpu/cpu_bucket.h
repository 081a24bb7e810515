/* The bucket of one time difference, exact; apart from the device so that tests can ask for any difference. */
#ifndef HS_DEVICE_CPU_CPU_BUCKET_H
#define HS_DEVICE_CPU_CPU_BUCKET_H

#include <stdint.h>

/* For differences in [2^e, 2^(e + 1)): how many thresholds lie below, and the at most three inside. */
typedef struct hs_bucket_index {
    int64_t threshold[45][3];
    uint8_t below[45];
} hs_bucket_index;

void hs_bucket_index_init(hs_bucket_index *index);

/* min(n_buckets, trunc(logf(max(|delta|, 1)) / 0.301f)) as PyTorch computes it in float32 on CPUs, for every int64. */
int64_t hs_bucket_of(const hs_bucket_index *index, int64_t delta, int64_t n_buckets);

#endif
