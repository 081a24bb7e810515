/* The nodes of the operations on rows, and the graph's inputs and outputs. Only primitive operators, which every provider has. In
 * half precision a norm first divides its row by the row's largest value: the squares of small numbers would vanish. */
#include "device/npu/npu_lower.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- constants, inputs, outputs ------------------------------------------------------------------------------------- */

hs_value hs_npu_number(npu_lower *l, double number)
{
    return hs_graph_number(l->g, l->compute, number);
}

hs_value hs_npu_vector(npu_lower *l, const float *data, int64_t n)
{
    if (l->compute == HS_F32)
        return hs_graph_constant(l->g, HS_F32, hs_dims_1(n), data);
    uint16_t *half = hs_alloc((size_t)n, sizeof *half);
    if (!half) {
        l->status = HSTU_ENOMEM;
        return HS_NO_VALUE;
    }
    for (int64_t i = 0; i < n; i++)
        half[i] = hs_f32_to_f16(data[i]);
    const hs_value v = hs_graph_constant_copy(l->g, HS_F16, hs_dims_1(n), half);
    hs_free(half);
    return v;
}

/* What an input or output is called in files, by hs_npu_feed_kind. */
static void name_feed(char out[NPU_FEED_NAME_BYTES], const npu_feed *f)
{
    static const char *const rows[NPU_N_ROWS] = {"tokens", "history", "candidates", "newest"};
    static const char *const name[] = {"embedding", "newest", "limit", "place", "past_place", "own_place",
        "time_bucket", "past_key", "past_value", "key", "value", "stage", "result"};
    const char *what = name[f->kind];
    if (f->kind == NPU_FEED_NEWEST || f->kind == NPU_FEED_PAST || f->kind == NPU_FEED_OWN ||
        f->kind == NPU_FEED_RESULT || (f->kind == NPU_FEED_X && f->index == 0))
        (void)snprintf(out, NPU_FEED_NAME_BYTES, "%s", what);
    else if (f->kind == NPU_FEED_LIMIT || f->kind == NPU_FEED_PLACE)
        (void)snprintf(out, NPU_FEED_NAME_BYTES, "%s_%s", what, rows[f->index]);
    else
        (void)snprintf(out, NPU_FEED_NAME_BYTES, "%s_%" PRId64, what, f->index);
}

static bool add_feed(npu_lower *l, npu_feed **list, int64_t *n, int64_t *most, const npu_feed *f)
{
    if (*n == *most) {
        const int64_t more = *most ? 2 * *most : 16;
        npu_feed *grown = hs_realloc(*list, (size_t)more, sizeof *grown);
        if (!grown) {
            l->status = HSTU_ENOMEM;
            return false;
        }
        *list = grown;
        *most = more;
    }
    (*list)[(*n)++] = *f;
    return true;
}

hs_value hs_npu_input(npu_lower *l, npu_feed_kind kind, int64_t index, hs_dtype type, hs_dims dims)
{
    char name[NPU_FEED_NAME_BYTES];
    const npu_feed f = {.kind = kind, .index = index, .bytes = hs_dims_elements(&dims) * hs_dtype_bytes(type)};
    if (!add_feed(l, &l->plan->input, &l->plan->n_inputs, &l->most_inputs, &f))
        return HS_NO_VALUE;
    name_feed(name, &f);
    return hs_graph_input(l->g, name, type, dims);
}

/* v [users * rows, cols], given back as float32. */
static void output(npu_lower *l, npu_feed_kind kind, int64_t index, npu_rows rows, int64_t cols, hs_value v)
{
    char name[NPU_FEED_NAME_BYTES];
    const size_t elements = (size_t)(l->layout->users * npu_user_rows(l->layout, rows) * cols);
    const npu_feed f = {.kind = kind, .index = index, .rows = rows, .bytes = elements * sizeof(float)};
    if (!add_feed(l, &l->plan->output, &l->plan->n_outputs, &l->most_outputs, &f))
        return;
    name_feed(name, &f);
    hs_graph_output(l->g, name, hs_graph_cast(l->g, v, HS_F32));
}

/* Without the value's factor. */
static hs_value read_raw(npu_lower *l, const npu_ref *ref)
{
    const npu_layout *lay = l->layout;
    const npu_rows whole = (npu_rows)l->rows[ref->value], part = (npu_rows)ref->rows;
    hs_value v = hs_graph_slice(l->g, l->value[ref->value], 1, ref->col, ref->cols);
    if (part == whole)
        return v;
    const int64_t n = npu_user_rows(lay, part);
    v = hs_graph_reshape(l->g, v, hs_dims_3(lay->users, npu_user_rows(lay, whole), ref->cols));
    v = hs_graph_slice(l->g, v, 1, part == NPU_CANDIDATES ? lay->history : 0, n);
    return hs_graph_reshape(l->g, v, hs_dims_2(lay->users * n, ref->cols));
}

hs_value hs_npu_read(npu_lower *l, const npu_ref *ref)
{
    const hs_value v = read_raw(l, ref);
    const double factor = l->factor[ref->value];
    return factor == 1.0 ? v : hs_graph_mul(l->g, v, hs_npu_number(l, factor));
}

/* ---- operations on rows --------------------------------------------------------------------------------------------------- */

static hs_value lower_embed(npu_lower *l, const npu_step *s)
{
    const int64_t rows = l->layout->users * npu_user_rows(l->layout, (npu_rows)s->rows);
    const hs_value x = hs_npu_input(l, NPU_FEED_X, s->number[0], HS_F32, hs_dims_2(rows, s->cols));
    return hs_graph_cast(l->g, x, l->compute);
}

/* A row's largest value. */
static hs_value largest(hs_graph *g, hs_value x)
{
    return hs_graph_reduce_max(g, hs_graph_abs(g, x));
}

/* Bounds of the root of a norm's eps in half precision. */
static const double LEAST_ROOT = 0x1p-12, MOST_ROOT = 0x1p15;

/* (x - mean) / sqrt(variance + eps) * weight + bias, over the columns. In half precision all under the root is divided by the square
 * of the larger of the row's largest value and the root of eps, so that neither can leave the range. */
static hs_value normalise(npu_lower *l, hs_value x, int64_t cols, double eps, const float *weight, const float *bias)
{
    hs_graph *g = l->g;
    hs_value d = hs_graph_sub(g, x, hs_graph_mean(g, x)), added = hs_npu_number(l, eps);
    if (l->compute == HS_F16) {
        const hs_value root = hs_npu_number(l, fmin(fmax(sqrt(eps), LEAST_ROOT), MOST_ROOT));
        const hs_value most = hs_graph_max(g, largest(g, d), root), ratio = hs_graph_div(g, root, most);
        d = hs_graph_div(g, d, most);
        added = hs_graph_mul(g, ratio, ratio);
    }
    const hs_value variance = hs_graph_mean(g, hs_graph_mul(g, d, d));
    hs_value y = hs_graph_div(g, d, hs_graph_sqrt(g, hs_graph_add(g, variance, added)));
    if (weight)
        y = hs_graph_mul(g, y, hs_npu_vector(l, weight, cols));
    if (bias)
        y = hs_graph_add(g, y, hs_npu_vector(l, bias, cols));
    return y;
}

static hs_value lower_layer_norm(npu_lower *l, const npu_step *s)
{
    hs_value x = hs_npu_read(l, &s->in[IN_X]);
    if (s->in[IN_ADD].value >= 0)
        x = hs_graph_add(l->g, x, hs_npu_read(l, &s->in[IN_ADD]));
    return normalise(l, x, s->cols, s->real[0], s->pointer[PTR_WEIGHT], s->pointer[PTR_BIAS]);
}

static hs_value lower_norm_gate(npu_lower *l, const npu_step *s)
{
    const npu_ref *in = &s->in[IN_X];
    const double factor = l->factor[in->value], eps = s->real[0] / (factor * factor); /* a norm undoes any factor */
    const hs_value u = hs_npu_read(l, &s->in[IN_U]);
    const hs_value on = normalise(l, read_raw(l, in), in->cols, eps, s->pointer[PTR_WEIGHT], s->pointer[PTR_BIAS]);
    const hs_value gated = hs_graph_mul(l->g, u, on);
    const hs_value all[] = {u, on, gated};
    return s->number[0] ? hs_graph_concat(l->g, 1, all, 3) : gated;
}

static hs_value activate(npu_lower *l, hs_activation act, hs_value x)
{
    hs_graph *g = l->g;
    switch (act) {
    case HS_ACT_NONE:
        break;
    case HS_ACT_SILU:
        return hs_graph_mul(g, x, hs_graph_sigmoid(g, x));
    case HS_ACT_RELU:
        return hs_graph_relu(g, x);
    case HS_ACT_GELU: {
        const hs_value e = hs_graph_erf(g, hs_graph_mul(g, x, hs_npu_number(l, sqrt(0.5))));
        const hs_value one = hs_graph_add(g, e, hs_npu_number(l, 1.0));
        return hs_graph_mul(g, hs_graph_mul(g, x, hs_npu_number(l, 0.5)), one);
    }
    }
    return x;
}

static hs_value lower_linear(npu_lower *l, const npu_step *s)
{
    const struct hs_packed *w = s->pointer[PTR_WEIGHT];
    const hs_value weight = hs_graph_constant(l->g, w->type, hs_dims_2(w->in, w->n), w->data);
    hs_value y = hs_graph_matmul(l->g, hs_npu_read(l, &s->in[IN_X]), weight);
    if (s->pointer[PTR_BIAS])
        y = hs_graph_add(l->g, y, hs_npu_vector(l, s->pointer[PTR_BIAS], w->n));
    y = activate(l, (hs_activation)s->number[0], y);
    if (s->in[IN_RESIDUAL].value >= 0)
        y = hs_graph_add(l->g, y, hs_npu_read(l, &s->in[IN_RESIDUAL]));
    return y;
}

static hs_value lower_newest(npu_lower *l, const npu_step *s)
{
    if (l->newest == HS_NO_VALUE)
        l->newest = hs_npu_input(l, NPU_FEED_NEWEST, 0, HS_I32, hs_dims_1(l->layout->users));
    return hs_graph_gather(l->g, hs_npu_read(l, &s->in[IN_X]), l->newest);
}

/* The root of a sum of squares is the root of their mean times that of their number, which stays small. */
static hs_value lower_l2_norm(npu_lower *l, const npu_step *s)
{
    hs_graph *g = l->g;
    hs_value x = hs_npu_read(l, &s->in[IN_X]), least = hs_npu_number(l, s->real[0]);
    if (l->compute == HS_F16) {
        const hs_value most = hs_graph_max(g, largest(g, x), hs_npu_number(l, 0x1p-14));
        x = hs_graph_div(g, x, most);
        least = hs_graph_div(g, hs_npu_number(l, fmax(s->real[0], ldexp(1.0, -24))), most);
    }
    const hs_value mean = hs_graph_sqrt(g, hs_graph_mean(g, hs_graph_mul(g, x, x)));
    const hs_value norm = hs_graph_mul(g, mean, hs_npu_number(l, sqrt((double)s->cols)));
    return hs_graph_div(g, x, hs_graph_max(g, norm, least));
}

/* A step without a value: keys and values that outlive the pass, a stage, the result. */
static void lower_output(npu_lower *l, const npu_step *s)
{
    if (s->op == NPU_KV_WRITE) {
        if (!s->number[NUM_BIAS])
            return;
        output(l, NPU_FEED_KV_K, s->number[NUM_KV], NPU_HISTORY, s->in[IN_K].cols, hs_npu_read(l, &s->in[IN_K]));
        output(l, NPU_FEED_KV_V, s->number[NUM_KV], NPU_HISTORY, s->in[IN_V].cols, hs_npu_read(l, &s->in[IN_V]));
        return;
    }
    const npu_ref *x = &s->in[IN_X];
    output(l, s->op == NPU_SHOW ? NPU_FEED_SHOW : NPU_FEED_RESULT, s->number[0], (npu_rows)x->rows, x->cols,
        hs_npu_read(l, x));
}

static void lower_step(npu_lower *l, const npu_step *s)
{
    hs_value v = HS_NO_VALUE;
    if (s->out >= 0)
        l->factor[s->out] = 1.0;
    switch ((npu_op)s->op) {
    case NPU_EMBED:
        v = lower_embed(l, s);
        break;
    case NPU_LAYER_NORM:
        v = lower_layer_norm(l, s);
        break;
    case NPU_NORM_GATE:
        v = lower_norm_gate(l, s);
        break;
    case NPU_LINEAR:
        v = lower_linear(l, s);
        break;
    case NPU_NEWEST:
        v = lower_newest(l, s);
        break;
    case NPU_L2_NORM:
        v = lower_l2_norm(l, s);
        break;
    case NPU_SILU_ATTN:
    case NPU_SOFTMAX_ATTN:
        v = hs_npu_lower_attn(l, s);
        break;
    case NPU_KV_WRITE:
    case NPU_SHOW:
    case NPU_RESULT:
        lower_output(l, s);
        break;
    }
    if (s->out >= 0) {
        l->value[s->out] = v;
        l->rows[s->out] = s->rows;
    }
}

static void forget_shared(npu_lower *l)
{
    l->newest = l->past = l->own = HS_NO_VALUE;
    for (int i = 0; i < NPU_N_ROWS; i++)
        l->mask_past[i] = l->mask_own[i] = l->limit[i] = l->place[i] = l->distance_past[i] = l->distance_own[i] =
            HS_NO_VALUE;
    for (int64_t i = 0; i < 2 * l->pass->n_biases; i++)
        l->bucket[i] = HS_NO_VALUE;
}

hstu_status hs_npu_lower(npu_plan *plan, const npu_pass *pass, hs_dtype compute, hstu_error *err)
{
    npu_lower l = {.pass = pass, .layout = &plan->layout, .plan = plan, .compute = compute, .status = HSTU_OK};
    l.g = plan->graph = hs_graph_new();
    l.value = hs_alloc((size_t)pass->n_values + 1, sizeof *l.value);
    l.rows = hs_alloc((size_t)pass->n_values + 1, sizeof *l.rows);
    l.factor = hs_alloc((size_t)pass->n_values + 1, sizeof *l.factor);
    l.bucket = hs_alloc(2 * (size_t)pass->n_biases + 1, sizeof *l.bucket);
    if (!l.g || !l.value || !l.rows || !l.factor || !l.bucket) {
        l.status = HSTU_ENOMEM;
    } else {
        forget_shared(&l);
        for (int64_t i = 0; i < plan->n_steps; i++)
            lower_step(&l, &plan->step[i]);
    }
    hs_free(l.value);
    hs_free(l.rows);
    hs_free(l.factor);
    hs_free(l.bucket);
    if (l.status != HSTU_OK)
        return hs_fail_nomem(err, 4096, "a graph");
    return hs_graph_check(l.g, err);
}
