/* The nodes of attention. A user's tokens come in two parts, those from before the pass and its own, which are never joined: each
 * has scores and weights of its own, and the sums over both are added. */
#include "device/npu/npu_lower.h"

#include "base/alloc.h"

#include <math.h>
#include <string.h>

/* What a softmax gives no weight. */
static const double MASKED = -1e30, MASKED_HALF = -3e4;

/* One part of the tokens. */
typedef struct part {
    int64_t tokens; /* 0: the part is not there */
    hs_value k, v;  /* [users, heads, dqk, tokens], [users, heads, tokens, dv] */
    hs_value mask;  /* [users, 1, rows, tokens] of ones and zeros */
    hs_value bias;  /* [users, 1, rows, tokens], or HS_NO_VALUE */
} part;

typedef struct attn {
    const npu_step *step;
    int64_t users, heads, dqk, dv;
    npu_rows kind;
    int64_t rows; /* of one user's queries */
    hs_value q;   /* [users, heads, rows, dqk], scaled */
    part past, own;
    hs_value self; /* what a candidate's own term is multiplied with, or HS_NO_VALUE */
} attn;

/* x [users * rows, heads * width] as [users, heads, rows, width], or transposed as keys are. */
static hs_value split_heads(
    npu_lower *l, hs_value x, int64_t users, int64_t rows, int64_t heads, int64_t width, bool key)
{
    static const int by_rows[] = {0, 2, 1, 3}, by_columns[] = {0, 2, 3, 1};
    const hs_value split = hs_graph_reshape(l->g, x, hs_dims_4(users, rows, heads, width));
    return hs_graph_transpose(l->g, split, key ? by_columns : by_rows);
}

static hs_value join_heads(npu_lower *l, hs_value x, int64_t users, int64_t rows, int64_t cols)
{
    static const int perm[] = {0, 2, 1, 3};
    return hs_graph_reshape(l->g, hs_graph_transpose(l->g, x, perm), hs_dims_2(users * rows, cols));
}

/* ---- what every layer shares -------------------------------------------------------------------------------------------- */

static hs_value past_places(npu_lower *l)
{
    if (l->past == HS_NO_VALUE)
        l->past = hs_npu_input(l, NPU_FEED_PAST, 0, HS_I32, hs_dims_4(l->layout->users, 1, 1, l->layout->past));
    return l->past;
}

static hs_value own_places(npu_lower *l)
{
    if (l->own == HS_NO_VALUE)
        l->own = hs_npu_input(l, NPU_FEED_OWN, 0, HS_I32, hs_dims_4(l->layout->users, 1, 1, l->layout->history));
    return l->own;
}

/* Ones where a row sees a token: where the token's place is at most the row's limit. */
static hs_value mask_of(npu_lower *l, npu_rows kind, hs_value *made, hs_value places)
{
    const hs_dims dims = hs_dims_4(l->layout->users, 1, npu_user_rows(l->layout, kind), 1);
    if (l->limit[kind] == HS_NO_VALUE)
        l->limit[kind] = hs_npu_input(l, NPU_FEED_LIMIT, (int64_t)kind, HS_I32, dims);
    if (*made == HS_NO_VALUE)
        *made = hs_graph_cast(l->g, hs_graph_less_equal(l->g, places, l->limit[kind]), l->compute);
    return *made;
}

static hs_value int_number(npu_lower *l, int64_t number)
{
    const int32_t value = (int32_t)number;
    return hs_graph_constant_copy(l->g, HS_I32, hs_dims_1(1), &value);
}

/* Places 0 .. n - 1, [1, 1, 1, n]. */
static hs_value first_places(npu_lower *l, int64_t n)
{
    int32_t *place = hs_alloc((size_t)n, sizeof *place);
    if (!place) {
        l->status = HSTU_ENOMEM;
        return HS_NO_VALUE;
    }
    for (int64_t i = 0; i < n; i++)
        place[i] = (int32_t)i;
    const hs_value v = hs_graph_constant_copy(l->g, HS_I32, hs_dims_4(1, 1, 1, n), place);
    hs_free(place);
    return v;
}

/* Places in position_w [2n - 1], n - 1 + column - row, of the tokens of a part, [users, 1, rows, tokens]; padding looks up whatever
 * is there. */
static hs_value distance_of(npu_lower *l, const npu_bias *b, bool past)
{
    hs_value *made = past ? &l->distance_past[b->rows] : &l->distance_own[b->rows], *place = &l->place[b->rows];
    if (*made != HS_NO_VALUE)
        return *made;
    const int64_t users = l->layout->users, rows = npu_user_rows(l->layout, b->rows);
    if (*place == HS_NO_VALUE)
        *place =
            hs_graph_reshape(l->g, hs_npu_input(l, NPU_FEED_PLACE, (int64_t)b->rows, HS_I32, hs_dims_3(users, rows, 1)),
                hs_dims_4(users, 1, rows, 1));
    const hs_value columns = b->padded_n ? first_places(l, b->padded_n) : past ? past_places(l) : own_places(l);
    const hs_value away = hs_graph_add(l->g, hs_graph_sub(l->g, columns, *place), int_number(l, b->n - 1));
    *made = hs_graph_max(l->g, hs_graph_min(l->g, away, int_number(l, 2 * b->n - 2)), int_number(l, 0));
    return *made;
}

/* Buckets of the tokens of a part, [users, 1, rows, tokens]. */
static hs_value bucket_of(npu_lower *l, int64_t at, bool past)
{
    const npu_bias *b = &l->pass->bias[at];
    const npu_layout *lay = l->layout;
    hs_value *made = &l->bucket[2 * at];
    if (made[0] == HS_NO_VALUE && made[1] == HS_NO_VALUE) {
        const int64_t rows = npu_user_rows(lay, b->rows), cols = b->padded_n ? b->padded_n : lay->past + lay->history;
        const hs_value input = hs_npu_input(l, NPU_FEED_BUCKET, at, HS_U8, hs_dims_3(lay->users, rows, cols));
        const hs_value all =
            hs_graph_reshape(l->g, hs_graph_cast(l->g, input, HS_I32), hs_dims_4(lay->users, 1, rows, cols));
        if (b->padded_n || lay->history)
            made[0] = b->padded_n ? all : hs_graph_slice(l->g, all, 3, lay->past, lay->history);
        if (!b->padded_n && lay->past)
            made[1] = hs_graph_slice(l->g, all, 3, 0, lay->past);
    }
    return made[past];
}

/* position_w[n - 1 + j - i] + time_w[bucket] of a part, [users, 1, rows, tokens]. Qualcomm's HTP asks for two things: an index that the
 * graph computes has four dimensions, and no slice of the sum is added to heads. */
static hs_value bias_of(npu_lower *l, const npu_step *s, bool past)
{
    const int64_t at = s->number[NUM_BIAS];
    if (at < 0)
        return HS_NO_VALUE;
    const npu_bias *b = &l->pass->bias[at];
    const hs_value position = hs_npu_vector(l, s->pointer[PTR_POSITION_W], 2 * s->number[NUM_BIAS_N] - 1);
    const hs_value time = hs_npu_vector(l, s->pointer[PTR_TIME_W], s->number[NUM_BUCKETS] + 1);
    return hs_graph_add(l->g, hs_graph_gather(l->g, position, distance_of(l, b, past)),
        hs_graph_gather(l->g, time, bucket_of(l, at, past)));
}

/* ---- the parts -------------------------------------------------------------------------------------------------------------- */

static part make_past(npu_lower *l, const attn *a)
{
    part p = {.tokens = l->layout->past};
    if (p.tokens == 0)
        return p;
    const int64_t at = l->n_attns;
    const hs_value k = hs_npu_input(l, NPU_FEED_PAST_K, at, HS_F32, hs_dims_4(a->users, a->heads, a->dqk, p.tokens));
    const hs_value v = hs_npu_input(l, NPU_FEED_PAST_V, at, HS_F32, hs_dims_4(a->users, a->heads, p.tokens, a->dv));
    p.k = hs_graph_cast(l->g, k, l->compute);
    p.v = hs_graph_cast(l->g, v, l->compute);
    p.mask = mask_of(l, a->kind, &l->mask_past[a->kind], past_places(l));
    p.bias = bias_of(l, a->step, true);
    return p;
}

/* Keys or values of the pass's history or candidates: `rows` of what the step reads. */
static hs_value read_rows(npu_lower *l, const npu_ref *ref, npu_rows rows)
{
    npu_ref some = *ref;
    some.rows = (int64_t)rows;
    return hs_npu_read(l, &some);
}

static part make_own(npu_lower *l, const attn *a)
{
    part p = {.tokens = l->layout->history};
    if (p.tokens == 0)
        return p;
    const hs_value k = read_rows(l, &a->step->in[IN_K], NPU_HISTORY), v = read_rows(l, &a->step->in[IN_V], NPU_HISTORY);
    p.k = split_heads(l, k, a->users, p.tokens, a->heads, a->dqk, true);
    p.v = split_heads(l, v, a->users, p.tokens, a->heads, a->dv, false);
    p.mask = mask_of(l, a->kind, &l->mask_own[a->kind], own_places(l));
    p.bias = bias_of(l, a->step, false);
    return p;
}

/* The columns of `whole` that belong to a part. */
static hs_value columns(npu_lower *l, const attn *a, const part *p, hs_value whole)
{
    return hs_graph_slice(l->g, whole, 3, p == &a->own ? a->past.tokens : 0, p->tokens);
}

/* ---- SiLU --------------------------------------------------------------------------------------------------------------------- */

static hs_value silu(npu_lower *l, hs_value x)
{
    return hs_graph_mul(l->g, x, hs_graph_sigmoid(l->g, x));
}

static hs_value add(npu_lower *l, hs_value sum, hs_value more)
{
    return sum == HS_NO_VALUE ? more : hs_graph_add(l->g, sum, more);
}

/* The sum over the tokens of a part, [users, heads, rows, dv]. */
static hs_value silu_part(npu_lower *l, const attn *a, const part *p)
{
    hs_value s = hs_graph_matmul(l->g, a->q, p->k);
    if (p->bias != HS_NO_VALUE)
        s = hs_graph_add(l->g, s, p->bias);
    return hs_graph_matmul(l->g, hs_graph_mul(l->g, silu(l, s), p->mask), p->v);
}

/* A candidate's own term, for all rows of the queries: those of the history get zeros. */
static hs_value silu_self(npu_lower *l, const attn *a)
{
    const int64_t n = l->layout->candidates;
    const hs_value k = read_rows(l, &a->step->in[IN_K], NPU_CANDIDATES);
    const hs_value v = read_rows(l, &a->step->in[IN_V], NPU_CANDIDATES);
    const hs_value q = hs_graph_slice(l->g, a->q, 2, a->rows - n, n);
    const hs_value product = hs_graph_mul(l->g, q, split_heads(l, k, a->users, n, a->heads, a->dqk, false));
    const hs_value s = hs_graph_mul(l->g, hs_graph_mean(l->g, product), hs_npu_number(l, (double)a->dqk));
    hs_value weight = silu(l, s);
    if (a->self != HS_NO_VALUE)
        weight = hs_graph_mul(l->g, weight, a->self);
    const hs_value term = hs_graph_mul(l->g, weight, split_heads(l, v, a->users, n, a->heads, a->dv, false));
    if (a->rows == n)
        return term;
    const hs_dims dims = hs_dims_4(a->users, a->heads, a->rows - n, a->dv);
    const size_t bytes = hs_dims_elements(&dims) * hs_dtype_bytes(l->compute);
    void *zeros = hs_calloc(bytes, 1);
    if (!zeros) {
        l->status = HSTU_ENOMEM;
        return HS_NO_VALUE;
    }
    const hs_value both[] = {hs_graph_constant_copy(l->g, l->compute, dims, zeros), term};
    hs_free(zeros);
    return hs_graph_concat(l->g, 2, both, 2);
}

/* In half precision a sum over many tokens may be too large, and its mean too small. The root of 1 / N goes into the terms, and
 * the rest left to whoever reads the value: a norm needs no multiplication. */
static void split_factor(npu_lower *l, attn *a)
{
    const double inv_n = a->step->real[1];
    const double early = ldexp(1.0, (int)fmin(fmax(floor(log2(inv_n) / 2), -12), 0)); /* exact in both types */
    const hs_value number = hs_npu_number(l, early);
    if (a->past.tokens)
        a->past.mask = hs_graph_mul(l->g, a->past.mask, number);
    if (a->own.tokens)
        a->own.mask = hs_graph_mul(l->g, a->own.mask, number);
    a->self = number;
    l->factor[a->step->out] = inv_n / early;
}

static hs_value lower_silu(npu_lower *l, attn *a)
{
    hs_value sum = HS_NO_VALUE;
    const bool split = l->compute == HS_F16 && a->step->real[1] > 0;
    if (split)
        split_factor(l, a);
    if (a->past.tokens)
        sum = add(l, sum, silu_part(l, a, &a->past));
    if (a->own.tokens)
        sum = add(l, sum, silu_part(l, a, &a->own));
    if (l->layout->candidates)
        sum = add(l, sum, silu_self(l, a));
    sum = join_heads(l, sum, a->users, a->rows, a->heads * a->dv);
    return split ? sum : hs_graph_mul(l->g, sum, hs_npu_number(l, a->step->real[1]));
}

/* ---- softmax ------------------------------------------------------------------------------------------------------------------ */

/* q k + bias, with keys of a part, or some of them. */
static hs_value scores(npu_lower *l, const attn *a, const part *p, hs_value k)
{
    const hs_value s = hs_graph_matmul(l->g, a->q, k);
    if (p->bias == HS_NO_VALUE)
        return s;
    return hs_graph_add(l->g, s, hs_graph_mul(l->g, p->bias, hs_npu_number(l, a->step->real[0])));
}

/* Softmax over the tokens that a row sees. */
static hs_value lower_softmax(npu_lower *l, attn *a)
{
    hs_value both[2], masks[2], sum = HS_NO_VALUE;
    part *const parts[] = {&a->past, &a->own};
    int n = 0;
    for (int i = 0; i < 2; i++) {
        if (parts[i]->tokens == 0)
            continue;
        both[n] = scores(l, a, parts[i], parts[i]->k);
        masks[n++] = parts[i]->mask;
    }
    const hs_value s = hs_graph_concat(l->g, 3, both, n);
    const double masked = l->compute == HS_F16 ? MASKED_HALF : MASKED;
    const hs_value unseen = hs_graph_sub(l->g, hs_npu_number(l, 1.0), hs_graph_concat(l->g, 3, masks, n));
    const hs_value p =
        hs_graph_softmax(l->g, hs_graph_add(l->g, s, hs_graph_mul(l->g, unseen, hs_npu_number(l, masked))));
    for (int i = 0; i < 2; i++) {
        if (parts[i]->tokens)
            sum = add(l, sum, hs_graph_matmul(l->g, columns(l, a, parts[i], p), parts[i]->v));
    }
    return join_heads(l, sum, a->users, a->rows, a->heads * a->dv);
}

/* x [.., n] with zeros behind it up to `size` columns. */
static hs_value widen(npu_lower *l, hs_value x, hs_dims dims, int64_t n, int64_t size)
{
    if (n == size)
        return x;
    dims.size[3] = size - n;
    void *zeros = hs_calloc(hs_dims_elements(&dims), hs_dtype_bytes(l->compute));
    if (!zeros) {
        l->status = HSTU_ENOMEM;
        return HS_NO_VALUE;
    }
    const hs_value both[] = {x, hs_graph_constant_copy(l->g, l->compute, dims, zeros)};
    hs_free(zeros);
    return hs_graph_concat(l->g, 3, both, 2);
}

/* Softmax over padded_n columns, zeros where the history ends, then the mask. A padded row's key may be anything: it is made zero.
 * Rows past column padded_n are padding. */
static hs_value lower_padded_softmax(npu_lower *l, attn *a)
{
    const int64_t all = a->step->number[NUM_CONTEXT], n = a->own.tokens < all ? a->own.tokens : all;
    const hs_value there =
        hs_graph_cast(l->g, hs_graph_less_equal(l->g, own_places(l), int_number(l, NPU_FAR_AWAY - 1)), l->compute);
    const hs_value k = hs_graph_slice(l->g, hs_graph_mul(l->g, a->own.k, there), 3, 0, n);
    const hs_value wide = widen(l, k, hs_dims_4(a->users, a->heads, a->dqk, 1), n, all);
    const hs_value s = scores(l, a, &a->own, wide);
    const hs_value p = hs_graph_slice(l->g, hs_graph_softmax(l->g, s), 3, 0, n);
    const hs_value seen = hs_graph_mul(l->g, p, hs_graph_slice(l->g, a->own.mask, 3, 0, n));
    return join_heads(
        l, hs_graph_matmul(l->g, seen, hs_graph_slice(l->g, a->own.v, 2, 0, n)), a->users, a->rows, a->heads * a->dv);
}

hs_value hs_npu_lower_attn(npu_lower *l, const npu_step *s)
{
    attn a = {.step = s,
        .users = l->layout->users,
        .heads = s->number[NUM_HEADS],
        .dqk = s->number[NUM_DQK],
        .dv = s->number[NUM_DV],
        .self = HS_NO_VALUE,
        .kind = (npu_rows)s->in[IN_Q].rows};
    a.rows = npu_user_rows(l->layout, a.kind);
    const hs_value q = hs_graph_mul(l->g, hs_npu_read(l, &s->in[IN_Q]), hs_npu_number(l, s->real[0]));
    a.q = split_heads(l, q, a.users, a.rows, a.heads, a.dqk, false);
    a.past = make_past(l, &a);
    a.own = make_own(l, &a);
    l->n_attns++;
    if (s->op == NPU_SILU_ATTN)
        return lower_silu(l, &a);
    return s->number[NUM_CONTEXT] > 0 ? lower_padded_softmax(l, &a) : lower_softmax(l, &a);
}
