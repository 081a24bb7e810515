/* Layer norms of rows of bfloat16 values. Several rows go side by side, for the sums of one are a chain of additions
 * that each wait for the last; between the passes they lie widened in L1. The order of every sum is that of
 * rows_vec.h. */
#include "device/cpu/x86/pairs_avx512bf16.h"

enum { MOST = HS_HALF_NORM_ROWS };

/* Rows row .. of a norm, `count` of them. That, and how many of a vector's columns there are, `left`, are literals
 * where it matters. The arguments are copied, so that no store can change them as the compiler sees it: they live in
 * registers. */
typedef struct rows {
    hs_half_norm norm;
    hs_affine affine;
    int64_t row, width; /* of one in `space` */
    v_moments m[MOST];
} rows;

HS_INLINE v_f32 value_at(const uint16_t *x, int64_t ld, const rows *s, int i, int64_t c, int64_t left)
{
    return v_load_bf16(x + (s->row + i) * ld + c, left);
}

/* Asks for columns c .. c + 31 of the rows behind these, which may be none: L2's prefetcher does not follow rows that are
 * read in turns. */
HS_INLINE void fetch_next(const uint16_t *x, int64_t ld, const rows *s, int64_t c, const int count)
{
    HS_UNROLL
    for (int i = 0; i < count; i++)
        __builtin_prefetch(x + (s->row + count + i) * ld + c);
}

/* The same, to be written. */
HS_INLINE void claim_next(const rows *s, int64_t c, const int count)
{
    HS_UNROLL
    for (int i = 0; i < count; i++)
        hs_claim(s->norm.out + (s->row + count + i) * s->norm.ldo + c);
}

/* What is normed goes to space. */
HS_INLINE void add_columns(const rows *s, v_f32 *sum, int64_t c, int64_t left, const int count)
{
    const hs_half_norm *a = &s->norm;
    HS_UNROLL
    for (int i = 0; i < count; i++) {
        v_f32 y = value_at(a->x, a->ldx, s, i, c, left);
        if (a->add)
            y = v_add(y, value_at(a->add, a->lda, s, i, c, left));
        _mm512_store_ps(a->space + i * s->width + c, y);
        sum[i] = v_add(sum[i], y);
    }
}

HS_INLINE void find_means(rows *s, const int count)
{
    const int64_t n = s->norm.n;
    v_f32 sum[MOST];
    int64_t c = 0;
    HS_UNROLL
    for (int i = 0; i < count; i++)
        sum[i] = v_set(0.0f);
    for (; c + HS_PAIR_STEP <= n; c += HS_PAIR_STEP) {
        fetch_next(s->norm.x, s->norm.ldx, s, c, count);
        if (s->norm.add)
            fetch_next(s->norm.add, s->norm.lda, s, c, count);
        add_columns(s, sum, c, V_LANES, count);
        add_columns(s, sum, c + V_LANES, V_LANES, count);
    }
    for (; c < n; c += V_LANES)
        add_columns(s, sum, c, n - c, count);
    HS_UNROLL
    for (int i = 0; i < count; i++)
        s->m[i].mean = v_sum(sum[i]) / (float)n;
}

/* The centred values take the place of the others. */
HS_INLINE void centre_columns(const rows *s, v_f32 *squares, int64_t c, int64_t left, const int count)
{
    HS_UNROLL
    for (int i = 0; i < count; i++) {
        float *at = s->norm.space + i * s->width + c;
        const v_f32 centred = v_keep(v_sub(_mm512_load_ps(at), v_set(s->m[i].mean)), 0.0f, left);
        _mm512_store_ps(at, centred);
        squares[i] = v_fma(centred, centred, squares[i]);
    }
}

HS_INLINE void find_deviations(rows *s, const int count)
{
    const int64_t n = s->norm.n;
    v_f32 squares[MOST];
    int64_t c = 0;
    HS_UNROLL
    for (int i = 0; i < count; i++)
        squares[i] = v_set(0.0f);
    for (; c + HS_PAIR_STEP <= n; c += HS_PAIR_STEP) {
        if (s->norm.gate)
            fetch_next(s->norm.gate, s->norm.ldg, s, c, count);
        centre_columns(s, squares, c, V_LANES, count);
        centre_columns(s, squares, c + V_LANES, V_LANES, count);
    }
    for (; c < n; c += V_LANES)
        centre_columns(s, squares, c, n - c, count);
    HS_UNROLL
    for (int i = 0; i < count; i++)
        s->m[i].sd = sqrtf(v_sum(squares[i]) / (float)n + s->affine.eps);
}

HS_INLINE v_f32 result_at(const rows *s, const v_divisor *d, int i, int64_t c, int64_t left, const bool multiply)
{
    const hs_half_norm *a = &s->norm;
    const v_f32 quotient = v_quotient(_mm512_load_ps(a->space + i * s->width + c), &d[i], multiply);
    v_f32 y = v_affine_at(quotient, s->affine.weight, s->affine.bias, c, c + left);
    if (a->gate)
        y = v_mul(value_at(a->gate, a->ldg, s, i, c, left), y);
    return v_add(y, v_set(0.0f));
}

/* Two vectors at once: rounding them together takes half as long. */
HS_INLINE void write(const rows *s, const int count, const bool multiply)
{
    const hs_half_norm *a = &s->norm;
    v_divisor d[MOST];
    int64_t c = 0;
    HS_UNROLL
    for (int i = 0; i < count; i++)
        d[i] = v_divisor_of(s->m[i].sd);
    for (; c + HS_PAIR_STEP <= a->n; c += HS_PAIR_STEP) {
        claim_next(s, c, count);
        HS_UNROLL
        for (int i = 0; i < count; i++) {
            const v_f32 low = result_at(s, d, i, c, V_LANES, multiply);
            const v_f32 high = result_at(s, d, i, c + V_LANES, V_LANES, multiply);
            _mm512_storeu_si512(a->out + (s->row + i) * a->ldo + c, hs_round2(low, high));
        }
    }
    for (; c < a->n; c += V_LANES) {
        for (int i = 0; i < count; i++) {
            const __m512i half = hs_round2(result_at(s, d, i, c, a->n - c, multiply), v_set(0.0f));
            const __mmask32 there = hs_first32(a->n - c) & UINT16_MAX;
            _mm512_mask_storeu_epi16(a->out + (s->row + i) * a->ldo + c, there, half);
        }
    }
}

HS_INLINE void norm(const hs_half_norm *a, int64_t row, const int count)
{
    rows s = {.norm = *a, .affine = *a->affine, .row = row, .width = (a->n + V_LANES - 1) / V_LANES * V_LANES};
    bool multiply = true;
    find_means(&s, count);
    find_deviations(&s, count);
    HS_UNROLL
    for (int i = 0; i < count; i++)
        multiply = multiply && v_may_multiply(&s.m[i]);
    if (multiply)
        write(&s, count, true);
    else
        write(&s, count, false);
}

void hs_half_norm_avx512bf16(const hs_half_norm *a)
{
    int64_t row = 0;
    for (; row + MOST <= a->rows; row += MOST)
        norm(a, row, MOST);
    for (; row < a->rows; row++)
        norm(a, row, 1);
}
