/* Views of strided tensors, and their conversion to the types that the engine computes with. */
#include "tensor/tensor.h"

#include "base/error.h"
#include "base/half.h"

#include <stdio.h>
#include <string.h>

int64_t hs_tensor_elements(const hs_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) {
        if (t->shape[d] == 0) /* the other sizes may be anything */
            return 0;
    }
    for (int d = 0; d < t->rank; d++)
        n *= t->shape[d];
    return n;
}

bool hs_tensor_contiguous(const hs_tensor *t)
{
    if (hs_tensor_elements(t) == 0)
        return true;
    int64_t expected = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        if (t->shape[d] != 1 && t->stride[d] != expected)
            return false;
        expected *= t->shape[d];
    }
    return true;
}

bool hs_tensor_shape_is(const hs_tensor *t, int rank, const int64_t *shape)
{
    if (t->rank != rank)
        return false;
    for (int d = 0; d < rank; d++) {
        if (t->shape[d] != shape[d])
            return false;
    }
    return true;
}

char *hs_tensor_shape_text(const hs_tensor *t, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (int d = 0; d < t->rank && used < size; d++)
        used += (size_t)snprintf(buf + used, size - used, d ? ", %lld" : "%lld", (long long)t->shape[d]);
    if (used < size)
        (void)snprintf(buf + used, size - used, "]");
    return buf;
}

static float load_f32(hs_dtype dtype, const unsigned char *p)
{
    switch (dtype) {
    case HS_BOOL:
        return *p ? 1.0f : 0.0f;
    case HS_U8:
        return (float)*p;
    case HS_I8:
        return (float)(int8_t)*p;
    case HS_I16: {
        int16_t v;
        memcpy(&v, p, sizeof v);
        return (float)v;
    }
    case HS_I32: {
        int32_t v;
        memcpy(&v, p, sizeof v);
        return (float)v;
    }
    case HS_I64: {
        int64_t v;
        memcpy(&v, p, sizeof v);
        return (float)v;
    }
    case HS_F16: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        return hs_f16_to_f32(v);
    }
    case HS_BF16: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        return hs_bf16_to_f32(v);
    }
    case HS_F64: {
        double v;
        memcpy(&v, p, sizeof v);
        return (float)v;
    }
    case HS_F32:
    case HS_DTYPE_COUNT:
        break;
    }
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int64_t load_i64(hs_dtype dtype, const unsigned char *p)
{
    int64_t v = 0;
    switch (dtype) {
    case HS_BOOL:
        return *p != 0;
    case HS_I8:
        return (int8_t)*p;
    case HS_I16: {
        int16_t w;
        memcpy(&w, p, sizeof w);
        return w;
    }
    case HS_I32: {
        int32_t w;
        memcpy(&w, p, sizeof w);
        return w;
    }
    case HS_I64:
        memcpy(&v, p, sizeof v);
        return v;
    default:
        return *p;
    }
}

/* Walks the elements in row-major order; `index` counts the position in every dimension. */
typedef struct walk {
    const hs_tensor *t;
    int64_t index[HS_MAX_RANK];
    int64_t offset;
} walk;

static void walk_next(walk *w)
{
    for (int d = w->t->rank - 1; d >= 0; d--) {
        if (w->t->shape[d] == 1) /* its stride leads nowhere, and may be too large to add */
            continue;
        w->offset += w->t->stride[d];
        if (++w->index[d] < w->t->shape[d])
            return;
        w->offset -= w->t->stride[d] * w->t->shape[d];
        w->index[d] = 0;
    }
}

void hs_tensor_to_f32(const hs_tensor *t, float *out)
{
    const int64_t n = hs_tensor_elements(t);
    if (n == 0)
        return;
    if (t->dtype == HS_F32 && hs_tensor_contiguous(t)) {
        memcpy(out, t->data, (size_t)n * sizeof *out);
        return;
    }
    const int64_t bytes = (int64_t)hs_dtype_bytes(t->dtype);
    walk w = {.t = t};
    for (int64_t i = 0; i < n; i++, walk_next(&w))
        out[i] = load_f32(t->dtype, (const unsigned char *)t->data + w.offset * bytes);
}

hstu_status hs_tensor_to_i64(const hs_tensor *t, int64_t *out, const char *name, hstu_error *err)
{
    if (t->dtype == HS_F16 || t->dtype == HS_BF16 || t->dtype == HS_F32 || t->dtype == HS_F64)
        return hs_fail(
            err, HSTU_ESHAPE, 0, "tensor '%s' is %s, expected an integer type", name, hs_dtype_name(t->dtype));
    const int64_t n = hs_tensor_elements(t);
    const int64_t bytes = (int64_t)hs_dtype_bytes(t->dtype);
    walk w = {.t = t};
    for (int64_t i = 0; i < n; i++, walk_next(&w))
        out[i] = load_i64(t->dtype, (const unsigned char *)t->data + w.offset * bytes);
    return HSTU_OK;
}
