/* The dense weights of a model: what they are called, their shapes and first values, and where they go. One list serves
 * binding a checkpoint, reporting on one, and making random weights. */
#ifndef HS_MODEL_WEIGHTS_H
#define HS_MODEL_WEIGHTS_H

#include "model/config.h"
#include "op/op.h"

enum { HS_WEIGHT_NAME_BYTES = 96 };

typedef struct hs_hstu_layer {
    hs_packed *u, *v, *q, *k; /* [D, H * dv] the first two, [D, H * dqk]: columns of one weight, in this order */
    hs_packed *o;             /* [H * dv, or 3 * H * dv with concat_ua, D] */
    const float *o_bias;      /* [D] */
    const float *time_w;      /* [num_time_buckets + 1], or NULL */
    const float *position_w;  /* [2 * N - 1], or NULL */
} hs_hstu_layer;

typedef struct hs_sasrec_layer {
    hs_packed *q, *kv;      /* [D, D] and [D, 2 * D] */
    const float *in_bias;   /* [3 * D]: q, k, v */
    hs_packed *out;         /* [D, D] */
    const float *out_bias;  /* [D] */
    hs_packed *ffn1, *ffn2; /* [D, F] and [F, D] */
    const float *ffn1_bias, *ffn2_bias;
} hs_sasrec_layer;

typedef struct hs_ranking_layer {
    const float *in_norm_weight, *in_norm_bias;   /* [D], or NULL: 1 and 0 */
    hs_packed *u, *v, *q, *k;                     /* [D, H * d] each: columns of one weight, in this order */
    const float *uvqk_bias;                       /* [4 * H * d], or NULL */
    const float *out_norm_weight, *out_norm_bias; /* [H * d], or NULL */
    hs_packed *proj;                              /* [H * d, D] */
} hs_ranking_layer;

/* A layer of the ranking model's prediction head. */
typedef struct hs_head_layer {
    hs_packed *w;
    const float *bias; /* or NULL */
} hs_head_layer;

typedef struct hs_decoder_layer {
    hs_packed *q, *k, *v, *out; /* [D, D] */
    const float *q_bias, *k_bias, *v_bias, *out_bias;
    hs_packed *ffn1, *ffn2; /* [D, F] and [F, D] */
    const float *ffn1_bias, *ffn2_bias;
} hs_decoder_layer;

/* First values of random weights. */
typedef enum hs_init {
    HS_INIT_ZERO,
    HS_INIT_ONE,
    HS_INIT_UNIFORM,         /* in -scale .. scale */
    HS_INIT_NORMAL,          /* standard deviation scale */
    HS_INIT_TRUNCATED_NORMAL /* of scale * z with |z| < 2 */
} hs_init;

/* A packed matrix that is made of (a part of) a weight: element [i, o] at first + i * stride_in + o * stride_out. */
typedef struct hs_weight_pack {
    hs_packed **out;
    int64_t first, in, n, stride_in, stride_out;
} hs_weight_pack;

/* A table of item rows, row-major without gaps: float32, or bfloat16 in a bfloat16 model. */
typedef struct hs_item_rows {
    const void *data;
    hs_dtype type;
    void *memory; /* owned; NULL: data lies in the mapped checkpoint */
} hs_item_rows;

typedef struct hs_weight {
    char name[HS_WEIGHT_NAME_BYTES]; /* without wrappers' prefixes */
    int rank;
    int64_t shape[3]; /* 0: not known yet */
    hs_init init;
    double scale;
    const float **keep; /* where the row-major values stay; NULL when they are only packed */
    hs_item_rows *rows; /* where they stay instead, if they are a table of items */
    hs_weight_pack pack[4];
    int n_packs;
} hs_weight;

/* Where the list's weights go. Of the layers, [num_blocks], one kind is there. */
typedef struct hs_weight_target {
    hs_item_rows item;     /* [max_item_id + 1, D]; none in a ranking model, whose tables are no dense weights */
    const float *position; /* retrieval [N, D], ranking [P, D], decoder [max_position_embeddings, D] (computed) */
    hs_hstu_layer *hstu;
    hs_sasrec_layer *sasrec;
    hs_ranking_layer *ranking;
    hs_decoder_layer *decoder;
    hs_head_layer head[HS_MAX_HEAD_LAYERS]; /* ranking: [n_head] */
    const float *norm_weight, *norm_bias;   /* decoder: of the last norm, [D] */
    hs_item_rows vocabulary;                /* decoder: [max_item_id + 1, D] */
    const float *vocabulary_bias;           /* decoder: [max_item_id + 1] */
} hs_weight_target;

/* Every dense weight of the configured model, layer by layer. target NULL: a list to look at, whose `keep`, `rows` and `pack` are empty.
 * *out is freed with hs_free. */
hstu_status hs_weight_list(
    hs_weight **out, size_t *n, const hs_config *config, hs_weight_target *target, hstu_error *err);
/* Product of the shape; 0 while a size is unknown. */
int64_t hs_weight_elements(const hs_weight *weight);

#endif
