/* What a device must be able to do. One table of operations per device; op/ checks every argument and calls it. No device
 * knows of a model family; no family names a device.
 * Eager devices compute at once. A recording device notes what it is told between `begin` and `end`, where it computes all of it
 * as one graph: until then the matrices that operations write hold nothing. */
#ifndef HS_DEVICE_DEVICE_H
#define HS_DEVICE_DEVICE_H

#include "device/kv.h"
#include "device/profile.h"
#include "hstu/status.h"
#include "tensor/dtype.h"
#include "tensor/mat.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct hs_device hs_device;
/* A linear layer's weight in the layout that a device's kernel wants. Immutable; shared by threads. */
typedef struct hs_packed hs_packed;

typedef enum hs_activation { HS_ACT_NONE, HS_ACT_SILU, HS_ACT_RELU, HS_ACT_GELU } hs_activation;

/* Operations with the member `bf16` compute bfloat16 models: every value that such a model would store is rounded to the nearest
 * bfloat16 (ties to even) where its comment says "bf16:". Inputs and weights then hold bfloat16 values, sums are float32. Matrices
 * are float32 all the same, or, on devices that store bfloat16, any of them may hold bfloat16 values: a value that is
 * no normal number may then become 0, and what is stored of one that was not rounded is rounded. Source of the rounding points: the fused layer of NVIDIA's recsys-examples,
 * examples/hstu/ops/fused_hstu_op.py. */

/* out[r, :] = scale * row[r] + position[position_id[r], :], one fused multiply-add each; a NULL row counts as zeros.
 * row[r]: D values of row_type (HS_F32, or HS_BF16 widened), of any alignment; out [rows, D]; position [position_rows,
 * D] row-major without gaps, or NULL: nothing is added. bf16: row's values before the scaling, and the result. */
typedef struct hs_embed_args {
    hs_mat out;
    const void *const *row;
    hs_dtype row_type;
    float scale;
    const float *position;
    int64_t position_rows;
    const int64_t *position_id;
    bool bf16;
} hs_embed_args;

/* out[r, :] = LN(x[r, :] + add[r, :]; eps) * weight + bias; variance is biased. add.data, weight [cols] and bias [cols]
 * may each be NULL. out may be x. bf16: the result. */
typedef struct hs_layer_norm_args {
    hs_mat out, x, add;
    const float *weight, *bias;
    float eps;
    bool bf16;
} hs_layer_norm_args;

/* On = LN(o; eps) * weight + bias row-wise, weight and bias [C] or NULL; out = u * On [rows, C], or with concat
 * [u, On, u * On] [rows, 3C]. bf16: the result, On itself stays float32. */
typedef struct hs_norm_gate_args {
    hs_mat out, u, o;
    const float *weight, *bias;
    float eps;
    bool concat;
    bool bf16;
} hs_norm_gate_args;

/* Stores keys and values: row r of user b's `n_rows[b]` first rows in k and v becomes token position[b] + r of its pages.
 * Rounded to the pages' type. Of a pair whose even token is written last, the odd one becomes 0: what no token fills
 * stays finite. k [rows, n_heads * dqk], v [rows, n_heads * dv], head-major columns. */
typedef struct hs_kv_write_args {
    hs_kv_view kv;
    hs_mat k, v;
    hs_jagged users;
    const int64_t *n_rows;   /* [n_users], or NULL: all rows */
    const int64_t *position; /* [n_users], or NULL: 0 */
} hs_kv_write_args;

/* out = act(x @ w + bias) + residual. x [rows, in], w packed from [in, n], bias [n] or NULL, residual [rows, n] or data
 * NULL. out may be residual; it overlaps nothing else. One float32 chain of fused multiply-adds per element, ascending
 * over `in` (with bf16 also chains of an instruction set's own), so that a row's result does not depend on the other rows.
 * bf16: act's argument (when there is an act), act's value, and the sum with the residual (x @ w + bias + residual is
 * rounded once when there is no act).
 *   stream [rows, n] float32, or data NULL: a residual stream that is never rounded. It becomes x @ w + bias + stream, and out that,
 * bf16: rounded. Then there is neither act nor residual; it overlaps nothing else. */
enum { HS_LINEAR_MOST = 4 };
typedef struct hs_linear_args {
    hs_mat out, x;
    const hs_packed *w;
    const float *bias;
    hs_activation act;
    hs_mat residual, stream;
    bool bf16;
    /* out, or its first rows, is k or v of this and is stored as kv_write stores it; another layer of the call, with the same
     * `stored`, makes the other. NULL: it is stored nowhere. With `stored_only` out may hold anything in the rows that are stored. */
    const hs_kv_write_args *stored;
    bool stored_only;
    /* A hint: a matrix of as many rows and columns as out that is written next, by this pass or another; a device may make its memory
     * ready, and leaves what it holds. Data NULL: nothing is known. */
    hs_mat next;
} hs_linear_args;

/* The relative bias of research HSTU (Meta generative-recommenders, research/modeling/sequential/hstu.py):
 *   bias[i, j] = position_w[n - 1 + j - i] + time_w[bucket of user b at (i, j)].
 * The buckets of row r of user b (a row of q, not a position) begin at bucket + bucket_offset[b] + r * bucket_cols[b]. */
typedef struct hs_rel_bias {
    const float *position_w; /* [2n - 1] */
    int64_t n;
    const float *time_w; /* [n_buckets + 1] */
    int64_t n_buckets;
    const uint8_t *bucket;
    const int64_t *bucket_offset, *bucket_cols; /* [n_users] */
} hs_rel_bias;

/* Buckets for hs_rel_bias: for row i of a user, the bucket of |t[min(i + 1, n - 1)] - t[j]|, where user b's t is its row
 * timestamps, then query_time[b], then zeros. One row for each of the user's rows from first[b] on, cols = its own
 * length, where columns past i become 0 (a row sees none of them), or, with `all_columns`, n. The difference is taken in wrapping 64-bit
 * arithmetic, as int64 tensors do. */
typedef struct hs_time_bucket_args {
    uint8_t *out;
    const int64_t *out_offset; /* [n_users] */
    hs_jagged users;
    const int64_t *first;      /* [n_users], or NULL: 0 */
    const int64_t *timestamp;  /* [rows] */
    const int64_t *query_time; /* [n_users] */
    int64_t n;
    int64_t n_buckets; /* the clamp, <= 255 */
    bool all_columns;
} hs_time_bucket_args;

/* HSTU pointwise attention, arXiv:2402.17152 eq. (2), per user and head h, over the user's history of `history[user]`
 * tokens, whose keys and values lie in pages:
 *   out[r, h] = inv_n * sum over the tokens j that r sees of silu(alpha * (q[r, h] . k[j, h]) + bias[r, j]) * v[j, h].
 * q [rows, n_heads * dqk], out [rows, n_heads * dv], head-major columns; they may be column slices of a wider matrix.
 * bias NULL: 0. inv_n = 1 / N, the trained constant, never 1 / length.
 * Rows are those of all users' histories, user b's being rows users.offset[b] on, and behind them those of all users'
 * candidates, user b's from users.offset[n_users] + candidates[b] on.
 * A user's R history rows are its newest tokens: row r is token i = history - R + r and sees j <= i, and, when
 * i < n_context[user], all of the history. n_context [n_users] may be NULL: none.
 * A candidate sees all of the history, and itself, its own term summed last (own_k and own_v, rounded to the pages' type).
 * candidates [n_users + 1] from 0, NULL: none; with candidates there is no bias.
 * Each element is one chain of sums over ascending tokens, or of sums of tokens at fixed positions: a row's result does not
 * depend on the other rows, the page size, or who wrote the pages when.
 * bf16: silu(...) before it meets v, and the result; inv_n is applied to the sum.
 * Tokens that are not seen count for nothing while v is finite. A row of v that is not finite may make rows a little
 * before it NaN (a masked weight is 0, and 0 x Inf is NaN), here and in softmax attention: of finite weights it can
 * only come by overflow. Candidates never disturb each other. */
typedef struct hs_silu_attn_args {
    hs_mat out, q;
    hs_mat own_k, own_v; /* [candidates[n_users], ...] */
    hs_kv_view kv;
    hs_jagged users; /* history rows of q */
    const int64_t *candidates;
    const int64_t *history; /* [n_users]: tokens */
    const int64_t *n_context;
    float alpha, inv_n;
    const hs_rel_bias *bias;
    bool bf16;
} hs_silu_attn_args;

/* Softmax attention over histories in pages; rows, positions and matrices as in hs_silu_attn_args, without candidates.
 * S[r, j] = scale * (q[r, h] . k[j, h] + bias[r, j]);  out[r, h] = sum over j <= i of P[r, j] * v[j, h].
 * padded_n == 0: P = softmax of S over j <= i (SASRec, decoder). padded_n > 0: P = softmax over all padded_n columns, where
 * tokens past the user's history have k = 0, and the causal mask is applied afterwards without renormalising
 * (softmax_rel_bias of research HSTU; then bias needs all_columns buckets). bf16: P and the result. */
typedef struct hs_softmax_attn_args {
    hs_mat out, q;
    hs_kv_view kv;
    hs_jagged users;        /* rows of q */
    const int64_t *history; /* [n_users] */
    float scale;
    int64_t padded_n;
    const hs_rel_bias *bias;
    bool bf16;
} hs_softmax_attn_args;

/* out[r, :] = x[row[r], :]. out overlaps nothing. */
typedef struct hs_gather_args {
    hs_mat out, x;
    const int64_t *row;
} hs_gather_args;

/* out[r, :] = x[r, :] / max(|x[r, :]|, eps). out may be x. bf16: the norm, and the result. */
typedef struct hs_l2_norm_args {
    hs_mat out, x;
    float eps;
    bool bf16;
} hs_l2_norm_args;

/* Exact top-k of score = (q . table[id]) * inv_norm[id] + bias[id] over the candidates, best first, ties to the smaller
 * id; NaN scores are never chosen, and -0 is given as 0. Unused places hold item -1, score -INFINITY. The table is read
 * once for hundreds of queries. A score is one sum whose order depends on the table's type and the device alone.
 * rank[u] = 1 + the candidates that come before target[u] in that order; 0 when target[u] is filtered, or no candidate,
 * or its score is NaN. */
#define HS_TOPK_MOST INT64_C(0xffffffff) /* candidates */
typedef struct hs_topk_args {
    hs_mat query;        /* [n, D] */
    const void *table;   /* [table_rows, D], no gaps */
    hs_dtype table_type; /* HS_F32, or HS_BF16: queries are rounded to bfloat16 too */
    int64_t table_rows;
    const float *inv_norm;    /* [table_rows], or NULL for 1 */
    const float *bias;        /* [table_rows], or NULL for 0 */
    const int64_t *candidate; /* [n_candidates] strictly ascending ids, or NULL: first .. first + n_candidates - 1 */
    int64_t first, n_candidates;
    const int64_t *seen_offset,
        *seen;             /* [n + 1] and ids to leave out, ascending for each query, some repeated; both NULL: none */
    const int64_t *target; /* [n], or NULL */
    int64_t k;             /* >= 0 */
    int64_t *item;         /* [n, k] */
    float *score;          /* [n, k] */
    int64_t *rank;         /* [n]; needed with target */
} hs_topk_args;

/* The rows of a forward pass. Every matrix of the pass has one row for each history token that is computed, of all users, and
 * behind them one for each candidate; or it is the part of such a matrix that holds the one or the other; or it has one row a
 * user. */
typedef struct hs_pass_rows {
    hs_jagged users;           /* history rows */
    const int64_t *past;       /* [n_users]: tokens before them, whose keys and values lie in pages; NULL: none */
    const int64_t *candidates; /* [n_users + 1] from 0, or NULL: none */
} hs_pass_rows;

/* Called with a matrix of the pass: at once, or on a recording device during `end`. m is valid during the call. */
typedef struct hs_show_args {
    hs_mat m;
    const char *name; /* copied */
    void (*stage)(void *ctx, const char *name, hs_mat m);
    void *ctx;
} hs_show_args;

/* One table per device; every slot is filled. HSTU_ENOMEM and HSTU_EDEVICE are the only failures: op/ has checked the
 * rest. */
typedef struct hs_device_table {
    void (*close)(hs_device *dev);
    /* Element [i, o] of the weight is w[i * stride_in + o * stride_out]. type: HS_F32, or HS_BF16: all are bfloat16 values. */
    hstu_status (*pack)(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
        int64_t stride_in, int64_t stride_out, hstu_error *err);
    void (*pack_free)(hs_packed *w);
    void (*pack_size)(const hs_packed *w, int64_t *in, int64_t *n);
    /* fn(ctx, i) for i in 0 .. n - 1 on all threads, in any order; returns when all are done. */
    void (*parallel)(hs_device *dev, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx);
    /* A pass begins; one that was not ended is forgotten. What rows and the operations' arguments point to stays until `end`. */
    hstu_status (*begin)(hs_device *dev, const hs_pass_rows *rows, hstu_error *err);
    hstu_status (*show)(hs_device *dev, const hs_show_args *a, hstu_error *err);
    /* All is computed: `result`, a matrix of the pass (data NULL: none), holds its values, and pages what was written to them. */
    hstu_status (*end)(hs_device *dev, hs_mat result, hstu_error *err);
    hstu_status (*embed)(hs_device *dev, const hs_embed_args *a, hstu_error *err);
    hstu_status (*layer_norm)(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err);
    hstu_status (*norm_gate)(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err);
    /* n layers at once, 1 .. HS_LINEAR_MOST, none of which reads what another writes. */
    hstu_status (*linear)(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err);
    hstu_status (*kv_write)(hs_device *dev, const hs_kv_write_args *a, hstu_error *err);
    hstu_status (*time_bucket)(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err);
    hstu_status (*silu_attn)(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err);
    hstu_status (*softmax_attn)(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err);
    hstu_status (*gather)(hs_device *dev, const hs_gather_args *a, hstu_error *err);
    hstu_status (*l2_norm)(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err);
    hstu_status (*topk)(hs_device *dev, const hs_topk_args *a, hstu_error *err);
} hs_device_table;

/* The head of every device's own struct. */
struct hs_device {
    const hs_device_table *table;
    const char *name; /* "cpu", "npu" */
    /* What decides over its bits: "avx512", the kernels in use; of an NPU provider, versions and arithmetic. Devices of equal name
     * and isa may exchange packed weights. */
    const char *isa;
    int n_threads;
    bool stores_bf16;    /* bfloat16 models' matrices hold bfloat16 values, not float32 ones of such values */
    bool pads;           /* users of a pass are padded to the longest: hs_device_bucket tells who goes well together */
    bool records;        /* what a pass computes, it computes during `end` */
    hs_profile *profile; /* borrowed; NULL: nothing is timed */
};

/* Text is borrowed for the call. */
typedef struct hs_device_options {
    const char *name; /* "cpu"; "npu", "npu:<vendor or provider>", "ort-cpu" */
    int threads;      /* 0: what affinity and the control group's quota allow */
    /* NPU: */
    hs_dtype compute;        /* HS_F32 or HS_F16: what graphs compute in */
    const char *ort_library; /* these as in ort/ort.h */
    const char *provider_library;
    const char *const *option;
    size_t n_options;
    bool as_onnx;
    int64_t max_graphs; /* 0: 64 */
} hs_device_options;

/* The environment variable HSTU_ISA (ref, avx2, avx512, avx512bf16, amx) forces the CPU's kernels down; naming more than the CPU has is HSTU_EINVAL.
 * HSTU_EDEVICE, HSTU_ENOENT, HSTU_EUNSUP with a sentence that says what was looked for. One thread at a time uses a device. */
hstu_status hs_device_open(hs_device **out, const hs_device_options *options, hstu_error *err);
/* Another device for another thread, which runs what `dev` has packed and, on an NPU, shares its compiled graphs. dev must outlive
 * it. HSTU_EDEVICE when HSTU_ISA has changed. */
hstu_status hs_device_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err);
void hs_device_close(hs_device *dev); /* NULL is fine */

/* n rounded up on the ladder of padded sizes: 0, 1, 16, 32, 48, 64, then four steps for each doubling. */
int64_t hs_device_bucket(int64_t n);

#endif
