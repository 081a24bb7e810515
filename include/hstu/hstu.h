/* HSTU inference: open a model, open a session on it, ask.
 *
 *     hstu_model *model = NULL;
 *     hstu_session *session = NULL;
 *     hstu_model_options options;
 *     hstu_error err;
 *     hstu_model_options_init(&options);
 *     options.config = "config.json";
 *     if (hstu_model_open(&model, "checkpoint.pt", &options, &err) || hstu_session_open(&session, model, &err))
 *         return report(err.msg);
 *     hstu_recommend(session, &batch, 10, NULL, item, score, NULL, &err);
 *     hstu_session_close(session);
 *     hstu_model_close(model);
 */
#ifndef HSTU_HSTU_H
#define HSTU_HSTU_H

#include "hstu/dataset.h"
#include "hstu/status.h"
#include "hstu/version.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Threads: a model is immutable once it is open and serves any number of sessions in any threads. A session is used by one
 * thread at a time, whichever; it starts threads of its own. */
typedef struct hstu_model hstu_model;     /* weights and configuration */
typedef struct hstu_session hstu_session; /* threads and workspace */

struct hstu_npu_options; /* hstu/npu.h */

/* Text is borrowed for one call. */
typedef struct hstu_model_options {
    size_t size; /* set by hstu_model_options_init */
    /* A preset's name, or the path of a JSON or gin file (docs/formats.md). NULL: what the checkpoint carries in itself, else the
     * config.json beside it (in a folder: inside it), else the preset kuairand_gr; the decoder's tensors tell all, and a
     * ranking model has no default. */
    const char *config;
    /* "cpu" (default); "npu": the first real NPU; "npu:ascend", "npu:intel", "npu:qualcomm", "npu:amd": a vendor's;
     * "npu:<provider>": by the provider's name in ONNX Runtime. See hstu/npu.h. Nothing ever runs elsewhere instead. */
    const char *device;
    /* "fp32" (default), or "bf16": families ranking and decoder only. Weights are rounded to bfloat16, and results where a
     * bfloat16 model stores them; sums are fp32. On an NPU weights are rounded, all else is computed in fp32. "fp16": NPUs only,
     * which compute in it; keys and values stay fp32 in a cache. */
    const char *dtype;
    int threads;         /* 0: what affinity and the control group's quota allow */
    uint64_t seed;       /* of random weights */
    int64_t max_item_id; /* random weights: the largest model item id, where the configuration does not fix it */
    int64_t max_user_id; /* random weights of a ranking model: the largest user id, likewise */
    /* Keys and values of histories: "fp32" or "bf16", with or without a cache. NULL: the dtype. A bf16 model has bf16
     * ones. */
    const char *kv_dtype;
    const struct hstu_npu_options *npu; /* of an NPU device, borrowed for the call; NULL: the defaults */
} hstu_model_options;

/* An input of a ranking model beside items and actions. */
typedef struct hstu_feature_info {
    const char *name;  /* "user_id", "user_active_degree", ... */
    const char *table; /* the embedding table it looks up in */
    int is_dynamic;    /* any id is fine: one that the table lacks has a zero vector */
    int64_t rows;      /* of the table; ids of a static one are 0 .. rows - 1 */
} hstu_feature_info;

/* Text lives as long as the model. */
typedef struct hstu_model_info {
    const char *family;      /* "retrieval", "ranking" or "decoder" */
    const char *main_module; /* "HSTU", "SASRec", "GR ranking" or "decoder" */
    const char *config;      /* the preset's name, or the path of the file that holds the configuration */
    const char *device;      /* as asked for */
    const char *dtype, *kv_dtype;
    const char *isa; /* the kernels in use; of an NPU provider, versions and arithmetic */
    int threads;
    int random_weights;
    int64_t dim, n_blocks, n_heads, dqk, dv;
    int64_t max_sequence_length; /* events of a history that are used: the newest */
    int64_t attention_n;         /* the divisor N; 0 in the decoder */
    /* Item ids are min .. max. A ranking model with a dynamic item table takes any id: then 0 and INT64_MAX. */
    int64_t min_item_id, max_item_id;
    int64_t n_parameters;
    uint64_t weight_bytes;
    int uses_time; /* the relative bias wants timestamps */
    /* Ranking; 0 in other families. */
    size_t n_context; /* contextual features, hstu_model_context tells about each */
    /* n_tasks == n_classes: a sigmoid for each task; n_tasks 1: a softmax over the classes. */
    int64_t n_tasks, n_classes;
    int64_t max_candidates;       /* of a request of the data set's protocol; hstu_rank takes any number */
    int contextual_mask;          /* contextual tokens see the whole history */
    hstu_history_options history; /* the model's own rules for making histories */
    /* What a run takes from a preset where its options are silent. */
    hstu_protocol default_protocol;
    int64_t default_batch_size, default_sequence_length, default_top_k, default_warmup;
    const char *default_dataset; /* "KuaiRand-1K" */
} hstu_model_info;

HSTU_API void hstu_model_options_init(hstu_model_options *options);
/* Whether this version and this machine have the device, the dtype and the threads, before any file is looked at:
 * HSTU_EDEVICE, HSTU_EUNSUP, HSTU_EINVAL, HSTU_ENOMEM; HSTU_ENOENT for an NPU without ONNX Runtime. */
HSTU_API hstu_status hstu_model_options_check(const hstu_model_options *options, hstu_error *err);
/* checkpoint NULL: random weights from the seed, the references' initial distributions, the same for any thread count.
 * options NULL: the defaults. HSTU_ENOENT, HSTU_EFORMAT, HSTU_ESHAPE (missing, extra or misshapen tensors, side by side),
 * HSTU_EUNSUP (a family, option or dtype that this version does not run, by name), HSTU_ENOMEM (checked before weights
 * are made), HSTU_EDEVICE, HSTU_EINVAL (a contradiction names both sides). The checkpoint file stays mapped until close. */
HSTU_API hstu_status hstu_model_open(
    hstu_model **out, const char *checkpoint, const hstu_model_options *options, hstu_error *err);
HSTU_API void hstu_model_close(hstu_model *model); /* NULL is fine; close its sessions first */
HSTU_API void hstu_model_get_info(const hstu_model *model, hstu_model_info *info);
/* The i-th contextual feature of a ranking model, in token order; HSTU_EINVAL past the end. Text lives as long as the model. */
HSTU_API hstu_status hstu_model_context(const hstu_model *model, size_t i, hstu_feature_info *info, hstu_error *err);
/* Reads a configuration alone, before any weights exist: info as a model would give it (sizes that only a checkpoint tells
 * are 0). Text in info is static or, for a file, `config` itself. */
HSTU_API hstu_status hstu_config_get_info(const char *config, hstu_model_info *info, hstu_error *err);
/* Names of the presets; NULL past the end. */
HSTU_API const char *hstu_preset_name(size_t i);

/* One request per user. Borrows every pointer for one call; unused members are NULL. Callers pass the whole history; the newest
 * max_sequence_length events of it are used. */
typedef struct hstu_batch {
    size_t n_users;
    const int64_t *offset;      /* [n_users + 1], offset[0] == 0, nondecreasing; every user has at least one event, in a
                                   ranking model none is fine too */
    const int64_t *item_id;     /* [offset[n_users]] model ids, oldest first per user */
    const int64_t *timestamp;   /* [offset[n_users]] model time units, or NULL: the relative bias is left out, as in the
                                  reference */
    const int64_t *query_time;  /* [n_users] when the answer is wanted; needed with timestamp by models that use time */
    const int64_t *cand_offset; /* [n_users + 1], from 0, never falling; NULL, or no candidates for a user: those of the
                                   options. hstu_encode takes no notice of candidates */
    /* [cand_offset[n_users]], any order; hstu_recommend counts duplicates once, hstu_rank scores each. */
    const int64_t *cand_id;
    /* Ranking models. */
    /* [n_users + 1], from 0, or NULL: that of items. A user has as many actions as history events, or as many as history events
     * and candidates, the layout of training batches: those of candidates change nothing. */
    const int64_t *action_offset;
    const int64_t *action;  /* ids of the action table: bit masks of KuaiRand's eight actions */
    const int64_t *context; /* [n_users, n_context] ids of the contextual features, in the model's order */
    /* [n_users, n_context], or NULL: one id for each. How many ids a feature has: `context` then holds them one behind the
     * other. */
    const int64_t *context_length;
    /* [n_users], or NULL. With a cache (hstu/cache.h): whose rows are looked up and kept; any numbers. The same user
     * may stand in a batch more than once. */
    const int64_t *user_id;
} hstu_batch;

typedef struct hstu_recommend_options {
    size_t size;                 /* set by hstu_recommend_options_init */
    int filter_seen;             /* leave out the items of the history that is used; default 0 */
    const int64_t *candidate_id; /* candidates of every user without own ones: model ids, any order, duplicates count
                                    once; NULL: those of the configuration, which are all items unless it lists some */
    size_t n_candidates;
    const int64_t *target_id; /* [n_users] or NULL: items whose rank is wanted; goes with the argument rank */
    /* [n_users + 1], from 0, never falling: each user has that many targets, and target_id and rank hold
     * target_offset[n_users]; NULL: one each. */
    const int64_t *target_offset;
} hstu_recommend_options;

HSTU_API void hstu_recommend_options_init(hstu_recommend_options *options);

/* The model stays borrowed until close. HSTU_ENOMEM; HSTU_EDEVICE when threads cannot be started, or when HSTU_ISA has
 * changed since the model was opened. On an NPU the sessions of a model share its compiled graphs. */
HSTU_API hstu_status hstu_session_open(hstu_session **out, const hstu_model *model, hstu_error *err);
HSTU_API void hstu_session_close(hstu_session *session); /* NULL is fine */
/* Ranking: a request's candidates are scored in groups of at most n, 1 or more (default 256), so workspace does not
 * grow with their number. Scores do not depend on it. HSTU_EINVAL. */
HSTU_API hstu_status hstu_session_set_micro_batch(hstu_session *session, int64_t n, hstu_error *err);

/* What a session's calls have spent on one operation. */
typedef struct hstu_stage_time {
    const char
        *stage; /* "linear", "silu_attn", ..., "graph": an NPU's whole pass, with what compiling it took. Static */
    int64_t calls;
    /* Of the clock, while the session's threads shared the operation; where each thread took whole users, the sum of theirs divided
     * by the number of threads. All stages together are at most the time of the calls; the rest is checking, copying and waiting. */
    double seconds;
    double flop; /* multiplications and additions of linear layers, attention (causal pairs alone) and top-k; else 0 */
} hstu_stage_time;
/* Begins to time the session's operations, from zero, also when it did before. It costs two looks at the clock an operation. */
HSTU_API void hstu_session_start_profile(hstu_session *session);
/* The i-th stage, in an order that does not change; HSTU_EINVAL past the end, and for a session without a profile. */
HSTU_API hstu_status hstu_session_get_stage(
    const hstu_session *session, size_t i, hstu_stage_time *stage, hstu_error *err);

/* The user embeddings. out [n_users, dim], out_len its elements. HSTU_EINVAL names the user, what was expected and what was
 * found; HSTU_EFORMAT when an embedding comes out as no finite number; HSTU_ENOMEM; HSTU_EDEVICE and HSTU_EUNSUP when an NPU fails,
 * or declines an operator. Outputs are untouched on failure and the session stays usable, here and below. A user's answer is the
 * same, bit for bit, alone or in any batch and on any number of threads; on an NPU, which pads users who share a pass, as far as
 * its arithmetic allows. */
HSTU_API hstu_status hstu_encode(
    hstu_session *session, const hstu_batch *batch, float *out, size_t out_len, hstu_error *err);
/* The k best candidates, best first, ties to the smaller id. item, score [n_users, k]; places without a candidate hold -1
 * and -INFINITY; with k 0 both may be NULL. rank [n_users], or NULL without target_id: 1-based place of the target among the
 * candidates, 0 when it is filtered or no candidate. options NULL: the defaults. Errors as for hstu_encode. */
HSTU_API hstu_status hstu_recommend(hstu_session *session, const hstu_batch *batch, size_t k,
    const hstu_recommend_options *options, int64_t *item, float *score, int64_t *rank, hstu_error *err);

/* Scores every candidate of every user with a ranking model: logits [cand_offset[n_users], n_classes] in the batch's order,
 * logits_len its elements; probabilities are their sigmoids, or softmax (hstu_model_info). Candidates do not see each other: a
 * candidate's logits are the same, bit for bit, whichever others stand beside it, in any batch and on any number of threads.
 * HSTU_EINVAL for a model of another family, and naming user, feature, id and the table's rows for an id outside its static
 * table; HSTU_EFORMAT when a logit comes out as no finite number, for a table row that holds none, or one far too large;
 * HSTU_ENOMEM. */
HSTU_API hstu_status hstu_rank(
    hstu_session *session, const hstu_batch *batch, float *logits, size_t logits_len, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
