/* Turning steps into nodes: what npu_lower.c shares with npu_lower_attn.c. */
#ifndef HS_DEVICE_NPU_NPU_LOWER_H
#define HS_DEVICE_NPU_NPU_LOWER_H

#include "device/npu/npu_int.h"

enum { NPU_FEED_NAME_BYTES = HS_GRAPH_NAME_BYTES };

typedef struct npu_lower {
    const npu_pass *pass;
    const npu_layout *layout;
    npu_plan *plan; /* takes inputs and outputs as they are made */
    hs_graph *g;
    hs_dtype compute;
    hs_value *value; /* [pass->n_values]: [users * rows, cols] in `compute` */
    int64_t *rows;   /* [pass->n_values]: npu_rows */
    double *factor;  /* [pass->n_values]: what hs_npu_read multiplies with; 1 for all in float32 */
    int64_t most_inputs, most_outputs;
    int64_t n_attns; /* so far */
    /* Made when they are first wanted, HS_NO_VALUE before; by npu_rows of the queries. */
    hs_value newest, past, own, mask_past[NPU_N_ROWS], mask_own[NPU_N_ROWS], limit[NPU_N_ROWS], place[NPU_N_ROWS];
    hs_value distance_past[NPU_N_ROWS], distance_own[NPU_N_ROWS]; /* what a row's relative position looks up */
    hs_value *bucket;   /* [pass->n_biases, 2]: of own tokens, and of those before */
    hstu_status status; /* of memory for inputs and outputs */
} npu_lower;

/* What a step reads, [users * rows, cols]. */
hs_value hs_npu_read(npu_lower *l, const npu_ref *ref);
/* A number of the type that the graph computes in. */
hs_value hs_npu_number(npu_lower *l, double number);
/* n float32 values of the model, as a constant of the type that the graph computes in. */
hs_value hs_npu_vector(npu_lower *l, const float *data, int64_t n);
/* An input that hs_npu_run fills; `index` tells which of its kind. */
hs_value hs_npu_input(npu_lower *l, npu_feed_kind kind, int64_t index, hs_dtype type, hs_dims dims);

/* The value of an attention step. */
hs_value hs_npu_lower_attn(npu_lower *l, const npu_step *s);

#endif
