/* A view of a strided tensor that lies in a mapped file or in memory. Owns nothing. */
#ifndef HS_TENSOR_TENSOR_H
#define HS_TENSOR_TENSOR_H

#include "hstu/status.h"
#include "tensor/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_MAX_RANK = 8 };

typedef struct hs_tensor {
    hs_dtype dtype;
    int rank;                    /* 0 for a scalar */
    int64_t shape[HS_MAX_RANK];  /* each >= 0 */
    int64_t stride[HS_MAX_RANK]; /* in elements, >= 0; anything where a size is 0 or 1 */
    const void *data;            /* element [0, ..., 0]; any alignment; NULL when a size is 0 */
} hs_tensor;

/* Product of the sizes. The reader that made the tensor has checked that it does not overflow unless a size is 0. */
int64_t hs_tensor_elements(const hs_tensor *t);
/* Row-major without gaps; so is a tensor without elements. */
bool hs_tensor_contiguous(const hs_tensor *t);
bool hs_tensor_shape_is(const hs_tensor *t, int rank, const int64_t *shape);
/* "[64, 128]"; cut to fit. Returns buf. */
char *hs_tensor_shape_text(const hs_tensor *t, char *buf, size_t size);

/* All elements in row-major order as float32; out holds hs_tensor_elements(t). Floating and integer types convert as C
 * does (int64 and fp64 round to nearest); bool gives 0 or 1, whatever the byte. */
void hs_tensor_to_f32(const hs_tensor *t, float *out);
/* The same as int64: HSTU_ESHAPE for a floating type. `name` stands in the error. */
hstu_status hs_tensor_to_i64(const hs_tensor *t, int64_t *out, const char *name, hstu_error *err);

#endif
