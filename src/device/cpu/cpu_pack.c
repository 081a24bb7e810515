/* Packing the weights of linear layers into panels. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "device/cpu/cpu_int.h"

static void pack_f32(float *dst, const float *w, int64_t in, int64_t n, int64_t stride_in, int64_t stride_out)
{
    for (int64_t first = 0; first < n; first += HS_PANEL) {
        for (int64_t i = 0; i < in; i++) {
            for (int64_t c = first; c < first + HS_PANEL; c++)
                *dst++ = c < n ? w[i * stride_in + c * stride_out] : 0.0f;
        }
    }
}

static void pack_bf16(uint32_t *dst, const float *w, int64_t in, int64_t n, int64_t stride_in, int64_t stride_out)
{
    for (int64_t first = 0; first < n; first += HS_PANEL) {
        for (int64_t i = 0; i < in; i += 2) {
            for (int64_t c = first; c < first + HS_PANEL; c++) {
                const float *at = w + i * stride_in + c * stride_out;
                const uint32_t odd = c < n && i + 1 < in ? hs_f32_to_bf16(at[stride_in]) : 0;
                *dst++ = c < n ? hs_f32_to_bf16(*at) | odd << 16 : 0;
            }
        }
    }
}

hstu_status hs_cpu_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err)
{
    (void)dev;
    const int64_t columns = hs_ceil_div_i64(n, HS_PANEL) * HS_PANEL;
    size_t words = 0;
    if (!hs_mul_size((size_t)hs_packed_rows(type, in), (size_t)columns, &words))
        return hs_fail_nomem(err, SIZE_MAX, "a packed weight");
    hs_packed *p = hs_calloc(1, sizeof *p);
    void *data = hs_alloc_aligned(words, sizeof(float));
    if (!p || !data) {
        hs_free(p);
        hs_free(data);
        return hs_fail_nomem(err, words * sizeof(float), "a packed weight");
    }
    if (type == HS_BF16)
        pack_bf16(data, w, in, n, stride_in, stride_out);
    else
        pack_f32(data, w, in, n, stride_in, stride_out);
    *p = (hs_packed){.type = type, .in = in, .n = n, .data = data};
    *out = p;
    return HSTU_OK;
}

void hs_cpu_pack_free(hs_packed *w)
{
    if (!w)
        return;
    hs_free(w->data);
    hs_free(w);
}

void hs_cpu_pack_size(const hs_packed *w, int64_t *in, int64_t *n)
{
    *in = w->in;
    *n = w->n;
}
