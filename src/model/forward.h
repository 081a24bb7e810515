/* The forward passes: histories in, one embedding per user out; or, of a ranking model, requests in, logits out. */
#ifndef HS_MODEL_FORWARD_H
#define HS_MODEL_FORWARD_H

#include "base/arena.h"
#include "hstu/hstu.h"
#include "model/model.h"

/* Histories of several users, all rows one behind the other. Every history has 1 .. max_sequence_length events, every id lies
 * in 1 .. max_item_id (decoder: 0 .. max_item_id): the engine has checked. */
typedef struct hs_input {
    hs_jagged users;
    const int64_t *item_id;    /* [rows] */
    const int64_t *timestamp;  /* [rows], or NULL: layers leave the relative bias out, as the reference does */
    const int64_t *query_time; /* [n_users], with timestamp */
} hs_input;

/* Requests of several users to a ranking model: users first .. end - 1 of a batch. The engine has checked it, and that every id
 * lies inside its table where that is static. */
typedef struct hs_ranking_input {
    const hstu_batch *batch;
    int64_t first, end;
    const int64_t *item_first;    /* [batch->n_users]: place in item_id of the first history event that is used */
    const int64_t *action_first;  /* [batch->n_users]: place in action of that event's action */
    const int64_t *context_first; /* [batch->n_users]: place in context of the user's first id */
} hs_ranking_input;

/* Shows intermediate results, for tests: "x0", "l0.normed", "l0.attn", ... `m` is valid during the call. */
typedef struct hs_trace {
    void *ctx;
    void (*stage)(void *ctx, const char *name, hs_mat m);
} hs_trace;

/* What the layers of one forward pass share. */
typedef struct hs_pass {
    const hs_model *model;
    hs_device *dev;
    hs_arena *scratch;
    const hs_input *input; /* NULL in a ranking model */
    int64_t rows;
    const hs_trace *trace; /* or NULL */
} hs_pass;

/* user_emb [n_users, D]: the newest event's output, normalised as configured. Workspace comes from `scratch`, which the caller
 * resets. dev runs the same kernels as model->dev. HSTU_ENOMEM and HSTU_EDEVICE. */
hstu_status hs_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_input *input, hs_mat user_emb,
    const hs_trace *trace, hstu_error *err);

/* logits [candidates of the users, n_classes], in the batch's order. Everything else as for hs_forward. */
hstu_status hs_ranking_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_ranking_input *input,
    hs_mat logits, const hs_trace *trace, hstu_error *err);
/* Tokens of user u: contextual ones, an item and an action for each history event, the candidates. */
int64_t hs_ranking_tokens(const hs_model *model, const hs_ranking_input *input, int64_t user);

/* The layers of each module: x [rows, D] in and out. */
hstu_status hs_hstu_layers(const hs_pass *pass, hs_mat x, hstu_error *err);
hstu_status hs_decoder_layers(const hs_pass *pass, hs_mat x, hstu_error *err);
hstu_status hs_sasrec_layers(const hs_pass *pass, hs_mat x, hstu_error *err);

/* A matrix in the pass's workspace. */
hstu_status hs_pass_mat(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err);
/* Shows a stage of layer `layer`, or with -1 of the whole pass. */
void hs_pass_trace(const hs_pass *pass, int64_t layer, const char *name, hs_mat m);

#endif
