/* First values of random weights. */
#ifndef HS_MODEL_INIT_H
#define HS_MODEL_INIT_H

#include "model/weights.h"

/* Fills out [n] on all threads of the device. Element i depends on (init, scale, seed, stream, i) alone. */
void hs_init_fill(hs_device *dev, float *out, int64_t n, hs_init init, double scale, uint64_t seed, uint64_t stream);

#endif
