/* What a model of the retrieval family is, beside its weights: every configuration key, its range and default. Source of the
 * names: the reference's gin and config files (meta-recsys/generative-recommenders, research). Owns no weights. */
#ifndef HS_MODEL_CONFIG_H
#define HS_MODEL_CONFIG_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes past these are refused: no product of the ones that the engine forms can overflow 64 bits. */
enum {
    HS_MAX_BLOCKS = 1024,
    HS_MAX_DIM = 1 << 16,      /* D, H * dqk, H * dv, F */
    HS_MAX_SEQUENCE = 1 << 17, /* N */
    HS_MAX_BUCKETS = 255       /* a bucket number is one byte */
};
#define HS_MAX_ITEM_ID ((int64_t)1 << 36)

typedef enum hs_main_module { HS_MODULE_HSTU, HS_MODULE_SASREC } hs_main_module;
typedef enum hs_normalization { HS_NORM_REL_BIAS, HS_NORM_SOFTMAX } hs_normalization;
typedef enum hs_linear_activation { HS_LINEAR_NONE, HS_LINEAR_SILU } hs_linear_activation;
typedef enum hs_user_norm { HS_USER_L2, HS_USER_LAYER_NORM } hs_user_norm;
typedef enum hs_ffn_activation { HS_FFN_RELU, HS_FFN_GELU } hs_ffn_activation;
typedef enum hs_config_protocol { HS_CONFIG_LEAVE_ONE_OUT, HS_CONFIG_SESSIONS } hs_config_protocol;

/* One field for one key of docs/formats.md. A size of 0 is unknown: the checkpoint's tensors may tell it. */
typedef struct hs_config {
    const char *source; /* what errors call it: a preset's name, a file's path */
    uint64_t given;     /* bit i: row i of the key table was set by the preset, the file, or a tensor */

    /* The network. */
    int main_module;             /* hs_main_module */
    int64_t max_sequence_length; /* events of a history that are used, the newest */
    int64_t gr_output_length;
    int64_t attention_n; /* N: rows of the position table, divisor of the scores, centre of the relative bias */
    int64_t item_embedding_dim;
    int64_t num_blocks, num_heads, dqk, dv;
    int64_t ffn_hidden_dim; /* SASRec's feed-forward width F */
    int ffn_activation_fn;  /* hs_ffn_activation */
    int linear_activation;  /* hs_linear_activation */
    int normalization;      /* hs_normalization */
    bool concat_ua;
    bool enable_relative_attention_bias;
    int64_t num_time_buckets;
    double layer_norm_eps;          /* of HSTU layers; SASRec's are the reference's constant */
    int user_embedding_norm;        /* hs_user_norm */
    double user_embedding_norm_eps; /* of the user embedding */
    bool item_l2_norm;              /* scores use normalised item embeddings */
    double l2_norm_eps;             /* of the item embeddings */
    int64_t max_item_id;            /* item ids are 1 .. max_item_id; 0 is padding */

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

/* The reference's defaults; every size unknown. */
void hs_config_init(hs_config *config, const char *source);
void hs_config_free(hs_config *config); /* accepts a zeroed one */

/* The built-in configurations; NULL past the end. */
const char *hs_preset_name(size_t i);
/* False when `name` is no preset. '-' and '_' are alike, as are small and capital letters. On success *out is initialised. */
bool hs_preset_find(hs_config *out, const char *name);

/* Reads `text` over the defaults. `source` stays borrowed. HSTU_EFORMAT: not JSON, an unknown key (the nearest known one is
 * named), a value of the wrong kind or out of range. HSTU_EUNSUP: a value that the reference knows and this version does not
 * run. HSTU_EINVAL: two keys that contradict each other. */
hstu_status hs_config_parse(hs_config *out, const char *text, size_t len, const char *source, hstu_error *err);
/* A preset's name, or a JSON file's path. Neither: HSTU_ENOENT, with the presets' names. */
hstu_status hs_config_open(hs_config *out, const char *name_or_path, hstu_error *err);

/* A size that a tensor tells: sets the key when it is unknown, fails with HSTU_EINVAL naming both sides when the
 * configuration says otherwise. `what` describes the tensor's side. */
hstu_status hs_config_settle(hs_config *config, const char *key, int64_t value, const char *what, hstu_error *err);
/* Whether the preset, the file or a tensor has set the key. */
bool hs_config_is_given(const hs_config *config, const char *key);

/* Derives what follows from other keys (N, max_sequence_length), then checks what needs several keys. Unknown sizes are fine. */
hstu_status hs_config_derive(hs_config *config, hstu_error *err);
/* HSTU_EINVAL names the first size that is still unknown. */
hstu_status hs_config_require_complete(const hs_config *config, hstu_error *err);

/* Every key that is known, as JSON text, which hs_config_parse reads back. NULL without memory; the caller frees it. */
char *hs_config_to_json(const hs_config *config);

/* Layers add the relative bias when a request brings times. */
static inline bool hs_config_uses_time(const hs_config *config)
{
    return config->main_module == HS_MODULE_HSTU && config->enable_relative_attention_bias;
}

#endif
