/* The configuration keys of every family: the references' names, their kinds and ranges. */
#include "model/config_keys.h"

#include "model/config.h"

static const char *const main_modules[] = {"HSTU", "SASRec", NULL};
static const char *const normalizations[] = {"rel_bias|hstu_rel_bias", "softmax_rel_bias", NULL};
static const char *const linear_activations[] = {"none", "silu", NULL};
static const char *const user_norms[] = {"l2_norm", "layer_norm", NULL};
static const char *const ffn_activations[] = {"relu", "gelu", NULL};
static const char *const protocols[] = {"leave-one-out", "sessions", "ranking", NULL};

const char *const hs_family_names[] = {"retrieval", "ranking", "decoder", NULL};

#define AT(field) offsetof(hs_config, field)
#define ROW(families, name, synonym, kind, field, low, high, choice)                                                   \
    {                                                                                                                  \
        HS_KEY_##families, name, synonym, HS_KEY_##kind, AT(field), low, high, choice                                  \
    }
#define INT_AS(families, name, synonym, field, low, high) ROW(families, name, synonym, INT, field, low, high, NULL)
#define INT(families, field, low, high) ROW(families, #field, NULL, INT, field, low, high, NULL)
#define REAL(families, name, field) ROW(families, name, NULL, REAL, field, 0, 0, NULL)
#define FLAG(families, field) ROW(families, #field, NULL, BOOL, field, 0, 0, NULL)
#define CHOICE(families, name, field, list) ROW(families, name, NULL, CHOICE, field, 0, 0, list)
#define SHAPE(name, kind, field) ROW(RANKING, name, NULL, kind, field, 0, 0, NULL)

const hs_key hs_key_table[] = {
    CHOICE(RETRIEVAL, "main_module", main_module, main_modules),
    INT(LISTS, max_sequence_length, 1, HS_MAX_SEQUENCE),
    INT(RETRIEVAL, gr_output_length, 0, HS_MAX_SEQUENCE),
    INT_AS(RETRIEVAL, "attention_n", "N", attention_n, 1, HS_MAX_SEQUENCE),
    INT(RETRIEVAL, item_embedding_dim, 1, HS_MAX_DIM),
    INT(RETRIEVAL, num_blocks, 1, HS_MAX_BLOCKS),
    INT_AS(LISTS, "num_heads", NULL, num_heads, 1, HS_MAX_DIM),
    INT(HSTU, dqk, 1, HS_MAX_DIM),
    INT(HSTU, dv, 1, HS_MAX_DIM),
    INT(SASREC, ffn_hidden_dim, 1, HS_MAX_DIM),
    CHOICE(SASREC, "ffn_activation_fn", ffn_activation_fn, ffn_activations),
    CHOICE(HSTU, "linear_activation", linear_activation, linear_activations),
    CHOICE(HSTU, "normalization", normalization, normalizations),
    FLAG(HSTU, concat_ua),
    FLAG(HSTU, enable_relative_attention_bias),
    INT(HSTU, num_time_buckets, 1, HS_MAX_BUCKETS),
    REAL(HSTU, "layer_norm_eps", layer_norm_eps),
    CHOICE(RETRIEVAL, "user_embedding_norm", user_embedding_norm, user_norms),
    REAL(RETRIEVAL, "user_embedding_norm_eps", user_embedding_norm_eps),
    FLAG(RETRIEVAL, item_l2_norm),
    REAL(RETRIEVAL, "l2_norm_eps", l2_norm_eps),
    INT(RETRIEVAL, max_item_id, 1, HS_MAX_ITEM_ID),

    INT_AS(DECODER, "hidden_size", NULL, item_embedding_dim, 1, HS_MAX_DIM / 4),
    INT_AS(DECODER, "num_layers", NULL, num_blocks, 1, HS_MAX_BLOCKS),
    INT(DECODER, max_position_embeddings, 1, HS_MAX_SEQUENCE),
    REAL(DECODER, "layernorm_eps", layer_norm_eps),
    ROW(DECODER, "vocab_size", NULL, COUNT, max_item_id, 2, HS_MAX_ITEM_ID, NULL),

    INT_AS(RANKING, "hidden_size", NULL, item_embedding_dim, 1, HS_MAX_DIM),
    INT_AS(RANKING, "num_layers", NULL, num_blocks, 1, HS_MAX_BLOCKS),
    INT_AS(RANKING, "num_attention_heads", "num_heads", num_heads, 1, HS_MAX_DIM),
    INT_AS(RANKING, "kv_channels", "head_dim", dqk, 1, HS_MAX_DIM),
    INT_AS(RANKING, "scaling_seqlen", "N", attention_n, 1, HS_MAX_SEQUENCE),
    REAL(RANKING, "norm_epsilon", layer_norm_eps),
    REAL(RANKING, "l2_eps", l2_norm_eps),
    INT(RANKING, num_position_buckets, 1, HS_MAX_SEQUENCE),
    INT_AS(RANKING, "max_history_seqlen", "max_history", max_history, 1, HS_MAX_SEQUENCE),
    INT_AS(RANKING, "max_num_candidates", "max_candidates", max_candidates, 1, HS_MAX_SEQUENCE),
    FLAG(RANKING, contextual_mask),
    FLAG(RANKING, residual),
    FLAG(RANKING, learnable_input_layernorm),
    FLAG(RANKING, learnable_output_layernorm),
    FLAG(RANKING, add_uvqk_bias),
    SHAPE("contextual", CONTEXT, context),
    SHAPE("item_feature", FEATURE, item),
    SHAPE("action_feature", FEATURE, action),
    SHAPE("tables", TABLES, table),
    SHAPE("feature_to_table", TABLE_OF, context),
    SHAPE("prediction_head_arch", HEAD, head),
    CHOICE(RANKING, "prediction_head_act_type", head_activation, ffn_activations),
    ROW(RANKING, "prediction_head_bias", NULL, BOOL, head_bias, 0, 0, NULL),
    INT(RANKING, num_tasks, 1, HS_MAX_DIM),

    INT(LISTS, item_id_offset, 0, HS_MAX_ITEM_ID),
    INT(LISTS, shift_id_by, 0, HS_MAX_ITEM_ID),
    INT(LISTS, time_unit_ms, 1, 1000000000),
    INT(LISTS, min_events, 2, 1000000000),
    FLAG(LISTS, drop_duplicates),
    CHOICE(ALL, "protocol", protocol, protocols),
    INT(LISTS, session_time_interval_s, 1, 1000000000),
    INT(LISTS, session_max_sequences, 1, (int64_t)1 << 40),
    INT(LISTS, session_max_sequence_length, 1, (int64_t)1 << 40),
    ROW(ALL, "dataset", "dataset_name", DATASET, dataset, 0, 0, NULL),
    INT_AS(ALL, "batch_size", "eval_batch_size", batch_size, 1, 1 << 20),
    INT(LISTS, sequence_length, 1, HS_MAX_SEQUENCE),
    INT(LISTS, top_k, 1, (int64_t)1 << 31),
    INT(ALL, warmup, 0, 1 << 20),
    {0, NULL, NULL, HS_KEY_INT, 0, 0, 0, NULL},
};

static const char mlp[] = "a preprocessing MLP", window[] = "an attention window", times[] = "time encoding";

const hs_fixed_key hs_fixed_key_table[] = {
    {HS_KEY_RETRIEVAL, "linear_config", "[\"uvqk\"]", NULL},
    {HS_KEY_RETRIEVAL, "interaction_module_type", "[\"DotProduct\"]", NULL},
    {HS_KEY_RETRIEVAL, "top_k_method", "[\"MIPSBruteForceTopK\"]", NULL},
    {HS_KEY_RETRIEVAL, "time_bucket_divisor", "[0.301]", NULL},
    {HS_KEY_RETRIEVAL, "time_bucket_fn", "[\"trunc(ln(max(|dt|,1))/0.301), fp32\"]", NULL},
    {HS_KEY_RETRIEVAL, "chronological", "[true]", NULL},
    {HS_KEY_RANKING, "is_causal", "[true]", "attention that is not causal"},
    {HS_KEY_RANKING, "target_group_size", "[1]", "candidates in groups"},
    {HS_KEY_RANKING, "item_embedding_dim", "[-1, 0, null]", mlp},
    {HS_KEY_RANKING, "contextual_embedding_dim", "[-1, 0, null]", mlp},
    {HS_KEY_RANKING, "max_attn_len", "[0, null]", window},
    {HS_KEY_RANKING, "attention_window", "[0, null]", window},
    {HS_KEY_RANKING, "window_size", "[[-1, 0], null]", window},
    {HS_KEY_RANKING, "use_time_encoding", "[false]", times},
    {HS_KEY_RANKING, "backbone", "[\"hstu\"]", "another network"},
    {HS_KEY_RANKING, "transformer_ffn_dim", "[null]", "another network"},
    {HS_KEY_RANKING, "scale_embedding", "[\"sqrt(hidden_size)\"]", NULL},
    {HS_KEY_RANKING, "interleave", "[\"item,action\"]", NULL},
    {HS_KEY_RANKING, "ctx_max_len", "[1]", "contextual features of several tokens"},
    {HS_KEY_DECODER, "pad_id", "[0]", NULL},
    {HS_KEY_DECODER, "gelu", "[\"erf\"]", NULL},
    {0, NULL, NULL, NULL},
};

#define RETRIEVAL(name)                                                                                                \
    {                                                                                                                  \
        HS_KEY_RETRIEVAL, name                                                                                         \
    }
#define RANKING(name)                                                                                                  \
    {                                                                                                                  \
        HS_KEY_RANKING, name                                                                                           \
    }
#define DECODER(name)                                                                                                  \
    {                                                                                                                  \
        HS_KEY_DECODER, name                                                                                           \
    }
#define ALL(name)                                                                                                      \
    {                                                                                                                  \
        HS_KEY_ALL, name                                                                                               \
    }

const hs_other_key hs_other_keys[] = {
    /* of use together with others: config_read.c */
    ALL("family"), RETRIEVAL("candidate_ids"), RETRIEVAL("max_output_length"), RANKING("disable_contextual_mask"),
    /* training */
    RETRIEVAL("dropout_rate"), RETRIEVAL("linear_dropout_rate"), RETRIEVAL("attn_dropout_rate"),
    RETRIEVAL("ffn_dropout_rate"), RETRIEVAL("loss_module"), RETRIEVAL("num_negatives"), RETRIEVAL("sampling_strategy"),
    RETRIEVAL("temperature"), RETRIEVAL("sampler_seed"), RETRIEVAL("positional_sampling_ratio"), ALL("learning_rate"),
    ALL("betas"), ALL("adam_eps"), ALL("weight_decay"), ALL("num_warmup_steps"), ALL("local_batch_size"),
    ALL("num_epochs"), ALL("eval_interval"), ALL("full_eval_every_n"), ALL("partial_eval_num_iters"),
    ALL("save_ckpt_every_n"), ALL("enable_tf32"), ALL("random_seed"), ALL("torch_manual_seed"), ALL("train_users"),
    ALL("optimizer_steps"), ALL("main_module_bf16"), ALL("activation_checkpoint"), RANKING("hidden_dropout"),
    RANKING("recompute_input_layernorm"), RANKING("recompute_input_silu"), RANKING("eval_metrics"), RANKING("shuffle"),
    DECODER("dropout"),
    /* how the reference runs it */
    RANKING("dtype_str"), RANKING("kernel_backend"), RANKING("embedding_backend"), RANKING("layer_type"),
    RANKING("hash_size"), RANKING("max_seq_len"), RANKING("dataset_path"), RANKING("world_size"),
    DECODER("max_cache_length"),
    /* provenance: the tensors say how many there are and of which type */
    ALL("dtype"), ALL("parameters"), ALL("checkpoint_epoch"), ALL("checkpoint"), ALL("checkpoints"), ALL("code"),
    ALL("reference"), ALL("torch"), ALL("trained_on"),
    /* notes of test cases, and choices of a request */
    ALL("case"), ALL("seed"), ALL("variants"), ALL("lengths"), ALL("num_candidates"), ALL("topk"),
    ALL("filter_invalid_ids"), RANKING("history_len"), RANKING("bf16_noise"),
    RANKING("N_used_by_expected_N_max_seqlen"), DECODER("bf16_second_call_of_a_user"), {0, NULL}};
