/* What the NPU device's own files share. A pass goes through them in this order:
 *   npu_record*.c  operations become steps over numbered values (npu_pass.c); what changes from pass to pass is noted beside them
 *   npu_plan.c     equal steps over an equal layout have been compiled before, or are now
 *   npu_lower*.c   steps become the nodes of a graph
 *   npu_feed.c     inputs are filled, the graph runs, outputs go where the pass wants them */
#ifndef HS_DEVICE_NPU_NPU_INT_H
#define HS_DEVICE_NPU_NPU_INT_H

#include "base/arena.h"
#include "device/npu/npu_device.h"

#include <pthread.h>
#include <stdatomic.h>

/* A weight as graphs hold it: row-major [in, n], HS_F32 or HS_F16. */
struct hs_packed {
    int64_t in, n;
    hs_dtype type;
    void *data;
};

/* Where padding lies: behind every token. */
enum { NPU_FAR_AWAY = 1 << 24 };

/* Which of a pass's rows a matrix has. A matrix in a graph has the users' rows one behind the other, each padded: `history` rows,
 * then `candidates`. */
typedef enum npu_rows { NPU_TOKENS, NPU_HISTORY, NPU_CANDIDATES, NPU_USERS, NPU_N_ROWS } npu_rows;

/* The padded sizes of a pass. */
typedef struct npu_layout {
    int64_t users, history, candidates, past;
} npu_layout;

/* Rows of one user. */
static inline int64_t npu_user_rows(const npu_layout *l, npu_rows rows)
{
    const int64_t n[NPU_N_ROWS] = {l->history + l->candidates, l->history, l->candidates, 1};
    return n[rows];
}

/* What a whole matrix of the pass holds. */
static inline npu_rows npu_all_rows(const npu_layout *l)
{
    return l->candidates == 0 ? NPU_HISTORY : l->history == 0 ? NPU_CANDIDATES : NPU_TOKENS;
}

typedef enum npu_op {
    NPU_EMBED,
    NPU_LAYER_NORM,
    NPU_NORM_GATE,
    NPU_LINEAR,
    NPU_KV_WRITE,
    NPU_SILU_ATTN,
    NPU_SOFTMAX_ATTN,
    NPU_NEWEST,
    NPU_L2_NORM,
    NPU_SHOW,
    NPU_RESULT
} npu_op;

/* A value, or the part of it that a step reads. Members are wide so that steps have no gaps: they are compared as bytes. */
typedef struct npu_ref {
    int64_t value; /* -1: none */
    int64_t rows;  /* npu_rows of what is read */
    int64_t col, cols;
} npu_ref;

enum { NPU_STEP_INPUTS = 4, NPU_STEP_POINTERS = 4, NPU_STEP_NUMBERS = 8 };

/* Everything that decides over the nodes of one operation. */
typedef struct npu_step {
    int64_t op;
    int64_t out, rows, cols; /* the value that is written, -1: none; its npu_rows and columns */
    npu_ref in[NPU_STEP_INPUTS];
    const void *pointer[NPU_STEP_POINTERS];
    int64_t number[NPU_STEP_NUMBERS];
    double real[2];
} npu_step;

/* Meaning of the members by operation, where a name helps. */
enum { IN_X, IN_ADD = 1, IN_U = 1, IN_RESIDUAL = 1 }; /* layer_norm, norm_gate, linear */
enum { PTR_WEIGHT, PTR_BIAS };                        /* norms, linear */
enum { IN_Q, IN_K, IN_V };                            /* attention: keys and values of the pass's own tokens */
enum {
    NUM_HEADS,
    NUM_DQK,
    NUM_DV,
    NUM_KV,
    NUM_BIAS,
    NUM_CONTEXT,
    NUM_BIAS_N,
    NUM_BUCKETS
};                                   /* attention: kv_write's place, -1; bias's place, -1; its sizes */
enum { PTR_POSITION_W, PTR_TIME_W }; /* attention with a bias */

/* ---- what changes from pass to pass, in the order of its steps ------------------------------------------------------ */

typedef struct npu_embed {
    hs_mat x; /* on the host, the pass's rows */
} npu_embed;

typedef struct npu_kv_write {
    hs_kv_view kv; /* with copies of the lists */
    bool lasting;  /* some page outlives the pass */
} npu_kv_write;

typedef struct npu_attn {
    hs_kv_view kv; /* with copies of the lists */
    const int64_t *n_context;
} npu_attn;

typedef struct npu_bias {
    const uint8_t *bucket;
    const int64_t *offset, *cols;
    npu_rows rows;
    int64_t n;        /* hs_rel_bias */
    int64_t padded_n; /* columns of all buckets, or 0: past and history */
} npu_bias;

typedef struct npu_show {
    hs_show_args args;
    char name[64];
} npu_show;

/* A matrix that a step has written: where the pass thinks that it lies. */
typedef struct npu_written {
    hs_mat m;
    int64_t value, rows;
} npu_written;

typedef struct npu_pass {
    bool open;
    hs_pass_rows rows;
    const int64_t *none; /* [n_users] zeros, for rows.past */
    npu_layout layout;
    npu_step *step;
    npu_embed *embed;
    npu_kv_write *kv_write;
    npu_attn *attn;
    npu_bias *bias;
    npu_show *show;
    npu_written *written;
    int64_t n_steps, n_embeds, n_kv_writes, n_attns, n_biases, n_shows, n_written, n_values;
    int64_t most_steps, most_embeds, most_kv_writes, most_attns, most_biases, most_shows, most_written;
    hs_mat result;  /* data NULL: none */
    hs_arena lists; /* of one pass */
} npu_pass;

/* ---- graphs ----------------------------------------------------------------------------------------------------------- */

typedef enum npu_feed_kind {
    /* inputs */
    NPU_FEED_X,      /* index: embed */
    NPU_FEED_NEWEST, /* int32 [users]: places of the users' newest history rows */
    NPU_FEED_LIMIT,  /* int32 [users, 1, rows, 1] of rows `index`: the newest token that the row sees, -1 for padding */
    NPU_FEED_PLACE,  /* int32 [users, rows, 1] of rows `index`: the row's token */
    NPU_FEED_PAST,   /* int32 [users, 1, 1, past]: tokens before the pass, padding far away */
    NPU_FEED_OWN,    /* int32 [users, 1, 1, history]: tokens of the pass, padding far away */
    NPU_FEED_BUCKET, /* uint8 [users, rows, tokens]; index: bias */
    NPU_FEED_PAST_K, /* [users, heads, dqk, past]; index: attention */
    NPU_FEED_PAST_V, /* [users, heads, past, dv] */
    /* outputs, float32 [users * rows, cols] */
    NPU_FEED_KV_K, /* index: kv_write */
    NPU_FEED_KV_V,
    NPU_FEED_SHOW, /* index: show */
    NPU_FEED_RESULT
} npu_feed_kind;

typedef struct npu_feed {
    npu_feed_kind kind;
    int64_t index;
    npu_rows rows; /* of an output */
    size_t bytes;
} npu_feed;

/* A recorded pass, compiled. Shared by the lanes of a model. */
typedef struct npu_plan {
    struct npu_plan *next;
    npu_layout layout;
    npu_step *step;
    int64_t n_steps;
    hs_graph *graph;
    npu_feed *input, *output;
    int64_t n_inputs, n_outputs;
    hs_ort_session *session; /* NULL on a device without a runtime */
    int64_t n_nodes;
    int64_t n_users; /* instances, and the list of plans */
    _Atomic uint64_t used_at;
    _Atomic bool evicted;
} npu_plan;

/* What the tokens of a page were when they were copied. */
typedef struct npu_tag {
    const char *page;
    uint64_t stamp;
    int64_t tokens;
} npu_tag;

/* Bound keys and values of tokens before a pass, of every attention of the pass. Shared by a lane's instances. */
typedef struct npu_past {
    struct npu_past *next;
    int64_t users, tokens, n_attns; /* padded */
    hs_kv_shape shape;
    float **k, **v;            /* [n_attns] */
    npu_tag *tag;              /* [n_attns, users, pages of the smallest size] */
    _Atomic uint64_t *version; /* [n_attns]: grows when k or v change */
    int64_t *filled;           /* [n_attns, users]: tokens from here on are zeros */
    int64_t *page_tokens;      /* [n_attns, users]: of the pages that tags are of */
    int64_t n_users;           /* instances */
} npu_past;

/* A plan's memory in one lane. */
typedef struct npu_instance {
    struct npu_instance *next;
    npu_plan *plan;
    npu_past *past;          /* or NULL */
    uint64_t *told;          /* [past->n_attns]: the versions of `past` that the binding knows */
    void **input, **output;  /* [n_inputs], [n_outputs]; those of `past` are its own */
    hs_ort_binding *binding; /* NULL on a device without a runtime */
    uint64_t used_at;
} npu_instance;

/* The part that all lanes of a model share. */
typedef struct npu_root {
    int64_t n_lanes; /* guarded by lock, as all below */
    pthread_mutex_t lock;
    char *name, *isa;
    hs_dtype compute;
    hs_ort *ort; /* NULL: "onnx" */
    npu_plan *plan;
    int64_t n_plans, max_graphs, n_compiled, n_evicted;
    _Atomic uint64_t clock; /* not guarded */
    double compile_s;
    _Atomic bool no_top_k; /* the device has declined it */
} npu_root;

typedef struct hs_npu {
    hs_device base;
    npu_root *root;
    /* For what stays on the host: all threads, and one alone, where waking others would cost more than the work. */
    hs_device *cpu, *one;
    npu_pass pass;
    npu_instance *instance;
    npu_past *past;
    uint64_t clock;
    hs_npu_stats stats;
    bool compile_only;
    hs_outfile *export_to;
    struct npu_search *search; /* npu_topk.c */
} hs_npu;

/* npu_pass.c, npu_record*.c: one for each slot of the device's table. */
hstu_status hs_npu_begin(hs_device *dev, const hs_pass_rows *rows, hstu_error *err);
hstu_status hs_npu_record_show(hs_device *dev, const hs_show_args *a, hstu_error *err);
hstu_status hs_npu_end(hs_device *dev, hs_mat result, hstu_error *err);
hstu_status hs_npu_record_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err);
hstu_status hs_npu_record_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err);
hstu_status hs_npu_record_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err);
hstu_status hs_npu_record_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err);
hstu_status hs_npu_record_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err);
hstu_status hs_npu_record_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err);
hstu_status hs_npu_record_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err);
hstu_status hs_npu_record_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err);
hstu_status hs_npu_record_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err);
void hs_npu_pass_free(npu_pass *p);

/* npu_topk.c */
hstu_status hs_npu_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err);
void hs_npu_search_free(struct npu_search *s);

/* npu_lower.c: the graph of a pass, with its inputs and outputs in order. *plan holds the result, also after a failure. */
hstu_status hs_npu_lower(npu_plan *plan, const npu_pass *pass, hs_dtype compute, hstu_error *err);

/* npu_plan.c: the plan of the pass with memory for this lane. */
hstu_status hs_npu_find_instance(hs_npu *npu, npu_instance **out, hstu_error *err);
void hs_npu_free_instances(hs_npu *npu);
void hs_npu_free_plans(npu_root *root);
void hs_npu_plan_free(npu_plan *plan);

/* npu_feed.c: fills, runs, hands out. */
hstu_status hs_npu_run(hs_npu *npu, npu_instance *instance, hstu_error *err);

/* npu.c */
hstu_status hs_npu_write_graph(const hs_npu *npu, const npu_plan *plan, hstu_error *err);

/* npu_past.c */
npu_past *hs_npu_past_find(hs_npu *npu, int64_t n_attns, const hs_kv_shape *shape);
void hs_npu_past_leave(hs_npu *npu, npu_past *past);
void hs_npu_past_fill(hs_npu *npu, npu_past *past);

#endif
