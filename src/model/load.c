/* Bulk work over weights, split into chunks that any thread may take. */
#include "model/load.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 1 << 18 }; /* elements of one task */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t tasks(int64_t n, int64_t per_task)
{
    return n / per_task + (n % per_task != 0);
}

const void *hs_load_in_place(const hs_tensor *t, hs_dtype type)
{
    if (t->dtype != type || !hs_tensor_contiguous(t) || (uintptr_t)t->data % hs_dtype_bytes(type) != 0)
        return NULL;
    return t->data;
}

typedef struct conversion {
    const hs_tensor *t;
    float *out;
    int64_t rows_per_task, row_elements;
} conversion;

static void convert(void *ctx, int64_t task)
{
    const conversion *c = ctx;
    const int64_t first = task * c->rows_per_task;
    hs_tensor part = *c->t;
    part.shape[0] = min64(c->rows_per_task, c->t->shape[0] - first);
    part.data = (const char *)c->t->data + (size_t)(first * c->t->stride[0]) * hs_dtype_bytes(c->t->dtype);
    hs_tensor_to_f32(&part, c->out + first * c->row_elements);
}

void hs_load_f32(hs_device *dev, const hs_tensor *t, float *out)
{
    const int64_t n = hs_tensor_elements(t);
    if (n == 0)
        return;
    conversion c = {.t = t, .out = out, .row_elements = n / t->shape[0]};
    c.rows_per_task = c.row_elements >= CHUNK ? 1 : CHUNK / c.row_elements;
    hs_op_parallel(dev, tasks(t->shape[0], c.rows_per_task), convert, &c);
}

typedef struct narrowing {
    const hs_tensor *t;
    uint16_t *out;
} narrowing;

static void narrow_row(void *ctx, int64_t row)
{
    enum { PIECE = 1024 };
    const narrowing *c = ctx;
    const int64_t cols = c->t->shape[1];
    float piece[PIECE];
    for (int64_t first = 0; first < cols; first += PIECE) {
        hs_tensor part = *c->t;
        part.shape[0] = 1;
        part.shape[1] = min64(PIECE, cols - first);
        part.data = (const char *)c->t->data +
                    (size_t)(row * c->t->stride[0] + first * c->t->stride[1]) * hs_dtype_bytes(c->t->dtype);
        hs_tensor_to_f32(&part, piece);
        for (int64_t i = 0; i < part.shape[1]; i++)
            c->out[row * cols + first + i] = hs_f32_to_bf16(piece[i]);
    }
}

void hs_load_bf16(hs_device *dev, const hs_tensor *t, uint16_t *out)
{
    narrowing c = {.t = t, .out = out};
    if (hs_tensor_elements(t) > 0)
        hs_op_parallel(dev, t->shape[0], narrow_row, &c);
}

typedef struct search {
    const void *values;
    hs_dtype type;
    int64_t n;
    int64_t *found;
} search;

/* x - x is 0 for finite x and NaN for the rest, so a sum tells about many values at once. */
static bool all_finite(const float *x, int64_t n)
{
    float sum[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++)
            sum[j] += x[i + j] - x[i + j];
    }
    for (; i < n; i++)
        sum[0] += x[i] - x[i];
    bool finite = true;
    for (int j = 0; j < 16; j++)
        finite = finite && sum[j] == 0.0f;
    return finite;
}

static bool is_finite_at(const search *s, int64_t i)
{
    return s->type == HS_F32 ? isfinite(((const float *)s->values)[i])
                             : (((const uint16_t *)s->values)[i] & 0x7f80) != 0x7f80;
}

static void search_chunk(void *ctx, int64_t task)
{
    const search *s = ctx;
    const int64_t first = task * CHUNK, n = min64(CHUNK, s->n - first);
    s->found[task] = -1;
    if (s->type == HS_F32 && all_finite((const float *)s->values + first, n))
        return;
    for (int64_t i = first; i < first + n; i++) {
        if (!is_finite_at(s, i)) {
            s->found[task] = i;
            return;
        }
    }
}

int64_t hs_load_chunks(int64_t n)
{
    return tasks(n, CHUNK);
}

int64_t hs_load_find_not_finite(hs_device *dev, const void *values, hs_dtype type, int64_t n, int64_t *chunk_result)
{
    search s = {.values = values, .type = type, .n = n, .found = chunk_result};
    hs_op_parallel(dev, tasks(n, CHUNK), search_chunk, &s);
    for (int64_t i = 0; i < tasks(n, CHUNK); i++) {
        if (chunk_result[i] >= 0)
            return chunk_result[i];
    }
    return -1;
}

typedef struct norms {
    float *inv_norm;
    const hs_item_rows *table;
    int64_t rows, dim, rows_per_task;
    float eps;
} norms;

static double norm(const float *x, int64_t n)
{
    float sum[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++)
            sum[j] += x[i + j] * x[i + j];
    }
    double total = 0.0;
    for (; i < n; i++)
        total += (double)x[i] * (double)x[i];
    for (int j = 0; j < 16; j++)
        total += (double)sum[j];
    if (total >= 1e-20 && total <= 1e30)
        return sqrt(total);
    total = 0.0; /* float squares may have lost small values or overflowed */
    for (i = 0; i < n; i++)
        total += (double)x[i] * (double)x[i];
    return sqrt(total);
}

static double norm_bf16(const uint16_t *x, int64_t n)
{
    double sum[8] = {0}, total = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double y = (double)hs_bf16_to_f32(x[i]);
        sum[i % 8] += y * y;
    }
    for (int j = 0; j < 8; j++)
        total += sum[j];
    return sqrt(total);
}

static void norm_rows(void *ctx, int64_t task)
{
    const norms *a = ctx;
    const int64_t first = task * a->rows_per_task, end = min64(a->rows, first + a->rows_per_task);
    for (int64_t r = first; r < end; r++) {
        const float length =
            (float)(a->table->type == HS_F32 ? norm((const float *)a->table->data + r * a->dim, a->dim)
                                             : norm_bf16((const uint16_t *)a->table->data + r * a->dim, a->dim));
        a->inv_norm[r] = 1.0f / (length > a->eps ? length : a->eps);
    }
}

void hs_load_inv_norm(hs_device *dev, float *inv_norm, const hs_item_rows *table, int64_t rows, int64_t dim, float eps)
{
    norms a = {.inv_norm = inv_norm, .table = table, .rows = rows, .dim = dim, .eps = eps};
    a.rows_per_task = dim >= CHUNK ? 1 : CHUNK / dim;
    hs_op_parallel(dev, tasks(rows, a.rows_per_task), norm_rows, &a);
}

typedef struct rounding {
    float *values;
    int64_t n;
} rounding;

static void round_chunk(void *ctx, int64_t task)
{
    const rounding *r = ctx;
    const int64_t first = task * CHUNK, n = min64(CHUNK, r->n - first);
    for (int64_t i = first; i < first + n; i++)
        r->values[i] = hs_bf16_to_f32(hs_f32_to_bf16(r->values[i]));
}

void hs_load_round_bf16(hs_device *dev, float *values, int64_t n)
{
    rounding r = {.values = values, .n = n};
    hs_op_parallel(dev, tasks(n, CHUNK), round_chunk, &r);
}

/* exp(x) for -88 < x <= 0 with the roundings of PyTorch's vectorised kernel: 2^q (1 + s + s^2 p(s)), s = x - q ln 2 in two steps.
 * An exact exp is another float in one frequency of ten, and 4095 times that is 1e-4 radian. Coefficients: SLEEF's expf. */
static float torch_exp(float x)
{
    static const float p[] = {0.000198527617612853646f, 0.00139304355252534151f, 0.00833336077630519867f,
        0.0416664853692054749f, 0.166666671633720398f, 0.5f};
    const float q = rintf(x * 1.44269504088896341f);
    const float s = fmaf(q, -1.428606765330187045e-06f, fmaf(q, -0.693145751953125f, x));
    float sum = p[0];
    for (size_t i = 1; i < sizeof p / sizeof p[0]; i++)
        sum = fmaf(sum, s, p[i]);
    return ldexpf(1.0f + fmaf(s * s, sum, s), (int)q);
}

typedef struct sinusoids {
    float *table;
    int64_t dim;
} sinusoids;

static void fill_position(void *ctx, int64_t position)
{
    const sinusoids *s = ctx;
    const float step = (float)(-log(10000.0) / (double)s->dim);
    float *row = s->table + position * s->dim;
    for (int64_t c = 0; c < s->dim; c++) {
        const float angle = (float)position * torch_exp((float)(c - c % 2) * step);
        row[c] = (float)(c % 2 ? cos((double)angle) : sin((double)angle));
    }
}

void hs_load_sinusoids(hs_device *dev, float *table, int64_t rows, int64_t dim)
{
    sinusoids s = {.table = table, .dim = dim};
    hs_op_parallel(dev, rows, fill_position, &s);
}
