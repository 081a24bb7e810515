/* The forward passes: histories in, one embedding per user out; or, of a ranking model, requests in, logits out. A row
 * is computed from its own token and the keys and values of those before it, so rows whose keys and values are kept
 * need not be computed again. */
#ifndef HS_MODEL_FORWARD_H
#define HS_MODEL_FORWARD_H

#include "base/arena.h"
#include "hstu/hstu.h"
#include "model/model.h"
#include "model/pages.h"

/* Histories of several users, all rows one behind the other. Every history has 1 .. max_sequence_length events, every id lies
 * in 1 .. max_item_id (decoder: 0 .. max_item_id): the engine has checked. */
typedef struct hs_input {
    hs_jagged users;
    const int64_t *item_id;    /* [rows] */
    const int64_t *timestamp;  /* [rows], or NULL: layers leave the relative bias out, as the reference does */
    const int64_t *query_time; /* [n_users], with timestamp */
    const hs_kept *kept;       /* fewer rows than the user has; NULL: none */
} hs_input;

/* Requests of several users to a ranking model: users first .. end - 1 of a batch. The engine has checked it, and that every id
 * lies inside its table where that is static. */
typedef struct hs_ranking_input {
    const hstu_batch *batch;
    int64_t first, end;
    const int64_t *item_first;    /* [batch->n_users]: place in item_id of the first history event that is used */
    const int64_t *action_first;  /* [batch->n_users]: place in action of that event's action */
    const int64_t *context_first; /* [batch->n_users]: place in context of the user's first id */
    const hs_kept *kept;          /* of users first .. end - 1, or NULL */
    int64_t micro_batch;          /* a lone user's candidates are computed in groups of so many; 0: at once */
} hs_ranking_input;

/* Shows intermediate results, for tests: "x0", "l0.normed", "l0.attn", ... `m` is valid during the call, which a recording
 * device makes at the end of the pass. With a trace
 * every row of the last layer is computed, also those that no answer needs. A ranking model's rows are the histories of
 * all users, then the candidates of all. */
typedef struct hs_trace {
    void *ctx;
    void (*stage)(void *ctx, const char *name, hs_mat m);
} hs_trace;

/* What the layers of one forward pass share. */
typedef struct hs_pass {
    const hs_model *model;
    hs_device *dev;
    hs_arena *scratch;
    const hs_trace *trace; /* or NULL */
    /* NULL, 0 in a ranking model: */
    const hs_input *input;
    hs_jagged users;       /* rows that are computed: each user's newest */
    hs_jagged newest;      /* one row a user */
    int64_t rows;          /* of users */
    const int64_t *reused; /* [n_users]: rows that come before */
    const int64_t *length; /* [n_users]: all rows */
    hs_pages pages;
} hs_pass;

/* user_emb [n_users, D]: the newest event's output, normalised as configured. Workspace comes from `scratch`, which the caller
 * resets. dev runs the same kernels as model->dev. HSTU_ENOMEM and HSTU_EDEVICE. */
hstu_status hs_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_input *input, hs_mat user_emb,
    const hs_trace *trace, hstu_error *err);

/* logits [candidates of the users, n_classes], in the batch's order. Everything else as for hs_forward. */
hstu_status hs_ranking_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_ranking_input *input,
    hs_mat logits, const hs_trace *trace, hstu_error *err);
/* Contextual ids of user u of the batch, and tokens of its history: those, and an item and an action for each event. */
int64_t hs_ranking_context(const hs_model *model, const hs_ranking_input *input, int64_t user);
int64_t hs_ranking_history(const hs_model *model, const hs_ranking_input *input, int64_t user);

/* The layers of each module: x [rows, D] in, which they use as workspace; newest [n_users, D] out, the users' newest
 * rows. */
hstu_status hs_hstu_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err);
hstu_status hs_decoder_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err);
hstu_status hs_sasrec_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err);

/* A matrix, or room for n numbers, in the pass's workspace. */
hstu_status hs_pass_mat(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err);
/* The same of float32 values whatever the model's. */
hstu_status hs_pass_floats(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err);
hstu_status hs_pass_ids(const hs_pass *pass, int64_t **out, int64_t n, hstu_error *err);
/* Whether layer l need compute no more than the users' newest rows. */
bool hs_pass_narrows(const hs_pass *pass, int64_t l);
/* The users' newest rows of x [rows, ...]. */
hstu_status hs_pass_newest(const hs_pass *pass, hs_mat out, hs_mat x, hstu_error *err);
/* How the keys and values of the pass's rows are stored for layer l; and stores them. */
hs_kv_write_args hs_pass_stored(const hs_pass *pass, int64_t l, hs_mat k, hs_mat v);
hstu_status hs_pass_keep(const hs_pass *pass, int64_t l, hs_mat k, hs_mat v, hstu_error *err);
/* Shows a stage of layer `layer`, or with -1 of the whole pass. */
hstu_status hs_pass_trace(const hs_pass *pass, int64_t layer, const char *name, hs_mat m, hstu_error *err);

#endif
