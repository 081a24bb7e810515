/* What a model is, beside its weights: every configuration key of every family, its range and default. Source of the names: the
 * references' gin and config files (docs/formats.md, section 2). Owns no weights. */
#ifndef HS_MODEL_CONFIG_H
#define HS_MODEL_CONFIG_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes past these are refused: no product of the ones that the engine forms can overflow 64 bits. */
enum {
    HS_MAX_BLOCKS = 1024,
    HS_MAX_DIM = 1 << 16,      /* D, H * dqk, H * dv, F, a head's layer */
    HS_MAX_SEQUENCE = 1 << 17, /* N, tokens of a user, positions */
    HS_MAX_BUCKETS = 255,      /* a time bucket number is one byte */
    HS_MAX_FEATURES = 64,      /* contextual features, the item and the action */
    HS_MAX_HEAD_LAYERS = 16,
    HS_MAX_FEATURE_NAME = 63
};
#define HS_MAX_ITEM_ID ((int64_t)1 << 36)

typedef enum hs_config_family { HS_CONFIG_RETRIEVAL, HS_CONFIG_RANKING, HS_CONFIG_DECODER } hs_config_family;
typedef enum hs_main_module { HS_MODULE_HSTU, HS_MODULE_SASREC } hs_main_module;
typedef enum hs_normalization { HS_NORM_REL_BIAS, HS_NORM_SOFTMAX } hs_normalization;
typedef enum hs_linear_activation { HS_LINEAR_NONE, HS_LINEAR_SILU } hs_linear_activation;
typedef enum hs_user_norm { HS_USER_L2, HS_USER_LAYER_NORM } hs_user_norm;
typedef enum hs_ffn_activation { HS_FFN_RELU, HS_FFN_GELU } hs_ffn_activation; /* SASRec's layers, ranking's head */
typedef enum hs_config_protocol {
    HS_CONFIG_LEAVE_ONE_OUT,
    HS_CONFIG_SESSIONS,
    HS_CONFIG_RANKING_REQUESTS
} hs_config_protocol;

/* An input of a ranking model and the embedding table that it looks ids up in. */
typedef struct hs_config_feature {
    char name[HS_MAX_FEATURE_NAME + 1];
    char table[HS_MAX_FEATURE_NAME + 1];
} hs_config_feature;

/* An embedding table of a ranking model. */
typedef struct hs_config_table {
    char name[HS_MAX_FEATURE_NAME + 1];
    bool dynamic; /* a hash table: ids that it lacks have zero vectors */
    int64_t rows; /* static: ids are 0 .. rows - 1; 0 unknown */
    /* A preset's: what the reference's own code gives the table, where `rows` is larger; else 0. */
    int64_t reference_rows;
} hs_config_table;

/* One field for one key of docs/formats.md. A size of 0 is unknown: the checkpoint's tensors may tell it. */
typedef struct hs_config {
    const char *source; /* what errors call it: a preset's name, a file's path */
    /* Bit i % 64 of word i / 64: row i of the key table was set by the preset, the file, or a tensor. */
    uint64_t given[2];
    int family; /* hs_config_family */

    /* The network. */
    int64_t item_embedding_dim;             /* D: hidden_size in ranking and decoder */
    int64_t num_blocks, num_heads, dqk, dv; /* ranking: kv_channels is both dqk and dv */
    /* N: divisor of the scores; retrieval: also rows of the position table, centre of the relative bias. */
    int64_t attention_n;
    double layer_norm_eps; /* of HSTU layers and the decoder's last norm; SASRec's are the reference's constant */
    double l2_norm_eps;    /* retrieval: of the item embeddings; ranking: in front of the head */

    /* retrieval */
    int main_module;             /* hs_main_module */
    int64_t max_sequence_length; /* events of a history that are used, the newest; decoder: likewise */
    int64_t gr_output_length;
    int64_t ffn_hidden_dim; /* SASRec's feed-forward width F; decoder: 4 D */
    int ffn_activation_fn;  /* hs_ffn_activation */
    int linear_activation;  /* hs_linear_activation */
    int normalization;      /* hs_normalization */
    bool concat_ua;
    bool enable_relative_attention_bias;
    int64_t num_time_buckets;
    int user_embedding_norm;        /* hs_user_norm */
    double user_embedding_norm_eps; /* of the user embedding */
    bool item_l2_norm;              /* scores use normalised item embeddings */
    int64_t max_item_id; /* retrieval: item ids are 1 .. max_item_id, 0 is padding; decoder: 0 .. max_item_id */

    /* ranking */
    int64_t num_position_buckets;        /* P: rows of the position table */
    int64_t max_history, max_candidates; /* events of a request's history (the newest are used), its candidates */
    bool contextual_mask;                /* contextual rows see the whole history; no default */
    bool residual, learnable_input_layernorm, learnable_output_layernorm, add_uvqk_bias;
    hs_config_feature context[HS_MAX_FEATURES]; /* [n_context] contextual features in token order */
    int n_context;
    hs_config_feature item, action;
    hs_config_table table[HS_MAX_FEATURES]; /* [n_tables] */
    int n_tables;
    /* [n_head]: outputs of each layer of the prediction head; the last are the classes. */
    int64_t head[HS_MAX_HEAD_LAYERS];
    int n_head;
    int head_activation; /* hs_ffn_activation */
    bool head_bias;
    int64_t num_tasks; /* as many as classes: a sigmoid each; 1 with more classes: a softmax */

    /* decoder */
    int64_t max_position_embeddings;

    /* How events become inputs. */
    int64_t item_id_offset, shift_id_by, time_unit_ms, min_events;
    bool drop_duplicates;
    int protocol; /* hs_config_protocol */
    int64_t session_time_interval_s, session_max_sequences, session_max_sequence_length;

    /* What a run uses where its options are silent; sequence_length 0: max_sequence_length. */
    const char *dataset; /* static text, or NULL */
    int64_t batch_size, sequence_length, top_k, warmup;

    int64_t *candidate_id; /* [n_candidates] ascending, distinct; NULL: every item is a candidate. Owned. */
    size_t n_candidates;
} hs_config;

/* The family's defaults; every size unknown. */
void hs_config_init(hs_config *config, hs_config_family family, const char *source);
void hs_config_free(hs_config *config); /* accepts a zeroed one */

/* The built-in configurations; NULL past the end. A name that several families share (kuairand_gr) is shown once. */
const char *hs_preset_name(size_t i);
/* False when `name` is no preset. '-' and '_' are alike, as are small and capital letters. Where a name stands for several
 * families, `family` chooses (HS_CONFIG_ANY: the first). On success *out is initialised. */
enum { HS_CONFIG_ANY = -1 };
bool hs_preset_find(hs_config *out, const char *name, int family);

/* Reads `text` over the defaults: JSON, or gin when it does not begin with '{' (src/model/gin.h). `source` stays borrowed.
 * `family`: what a text without the key "family" means, HS_CONFIG_ANY: retrieval, or ranking for gin. HSTU_EFORMAT: malformed
 * text, an unknown key (the nearest known one is named), a key of another family, a value of the wrong kind or out of range.
 * HSTU_EUNSUP: a value that the reference knows and this version does not run, by name. HSTU_EINVAL: two keys that contradict
 * each other. */
hstu_status hs_config_parse(
    hs_config *out, const char *text, size_t len, int family, const char *source, hstu_error *err);
/* A preset's name, or the path of a JSON or gin file. Neither: HSTU_ENOENT, with the presets' names. */
hstu_status hs_config_open(hs_config *out, const char *name_or_path, int family, hstu_error *err);

/* A size that a tensor tells: sets the key when it is unknown, fails with HSTU_EINVAL naming both sides when the
 * configuration says otherwise. `what` describes the tensor's side. */
hstu_status hs_config_settle(hs_config *config, const char *key, int64_t value, const char *what, hstu_error *err);
/* Whether the preset, the file or a tensor has set the key. */
bool hs_config_is_given(const hs_config *config, const char *key);

/* Derives what follows from other keys (N, max_sequence_length, dv), then checks what needs several keys. Unknown sizes are fine. */
hstu_status hs_config_derive(hs_config *config, hstu_error *err);
/* HSTU_EINVAL names the first size, or for ranking contextual_mask, that is still unknown. */
hstu_status hs_config_require_complete(const hs_config *config, hstu_error *err);

/* Every key that is known, as JSON text, which hs_config_parse reads back. NULL without memory; the caller frees it. */
char *hs_config_to_json(const hs_config *config);

/* The table of this name, or NULL; its place in config->table is the difference to that. */
const hs_config_table *hs_config_find_table(const hs_config *config, const char *name);

/* Layers add the relative bias when a request brings times. */
static inline bool hs_config_uses_time(const hs_config *config)
{
    return config->family == HS_CONFIG_RETRIEVAL && config->main_module == HS_MODULE_HSTU &&
           config->enable_relative_attention_bias;
}

#endif
