/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). The value at an index depends on (seed, stream,
 * index) alone, so any number of threads may fill any part of a tensor and the result is the same. */
#ifndef HS_BASE_RANDOM_H
#define HS_BASE_RANDOM_H

#include <stdint.h>

/* out = the 128 random bits of block `index` of `stream`. */
void hs_random_block(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t index);

#endif
