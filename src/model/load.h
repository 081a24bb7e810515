/* Large tensors into memory on all threads, and checks over them. */
#ifndef HS_MODEL_LOAD_H
#define HS_MODEL_LOAD_H

#include "model/weights.h"
#include "op/op.h"
#include "tensor/tensor.h"

/* The tensor's values where they lie, when they are row-major, aligned and of this type; else NULL. */
const void *hs_load_in_place(const hs_tensor *t, hs_dtype type);
/* All elements in row-major order; rank >= 1. */
void hs_load_f32(hs_device *dev, const hs_tensor *t, float *out);
/* The same, rounded to bfloat16; rank 2. */
void hs_load_bf16(hs_device *dev, const hs_tensor *t, uint16_t *out);
/* values: float32 or bfloat16. The index of one that is not finite, the first of its chunk; -1 when all are finite. */
int64_t hs_load_find_not_finite(hs_device *dev, const void *values, hs_dtype type, int64_t n, int64_t *chunk_result);
/* Room that hs_load_find_not_finite needs at chunk_result, in elements. */
int64_t hs_load_chunks(int64_t n);
/* inv_norm[r] = 1 / max(|table[r, :]|, eps), table [rows, dim]. */
void hs_load_inv_norm(hs_device *dev, float *inv_norm, const hs_item_rows *table, int64_t rows, int64_t dim, float eps);

/* Rounds to the nearest bfloat16 in place. */
void hs_load_round_bf16(hs_device *dev, float *values, int64_t n);
/* table [rows, dim]: [p, 2 i] = sin(p w_i), [p, 2 i + 1] = cos(p w_i), w_i = exp(2 i * (-ln(10000) / dim)), with angles and
 * frequencies in float32 as the reference computes them. */
void hs_load_sinusoids(hs_device *dev, float *table, int64_t rows, int64_t dim);

#endif
