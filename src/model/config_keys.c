/* The configuration keys of the retrieval family: names of the reference, their kinds and ranges. */
#include "model/config_keys.h"

#include "model/config.h"

#include <string.h>

static const char *const main_modules[] = {"HSTU", "SASRec", NULL};
static const char *const normalizations[] = {"rel_bias|hstu_rel_bias", "softmax_rel_bias", NULL};
static const char *const linear_activations[] = {"none", "silu", NULL};
static const char *const user_norms[] = {"l2_norm", "layer_norm", NULL};
static const char *const ffn_activations[] = {"relu", "gelu", NULL};
static const char *const protocols[] = {"leave-one-out", "sessions", NULL};

#define AT(field) offsetof(hs_config, field)
#define INT(field, low, high)                                                                                          \
    {                                                                                                                  \
#field, NULL, HS_KEY_INT, AT(field), low, high, NULL                                                           \
    }
#define REAL(field)                                                                                                    \
    {                                                                                                                  \
#field, NULL, HS_KEY_REAL, AT(field), 0, 0, NULL                                                               \
    }
#define FLAG(field)                                                                                                    \
    {                                                                                                                  \
#field, NULL, HS_KEY_BOOL, AT(field), 0, 0, NULL                                                               \
    }
#define CHOICE(field, list)                                                                                            \
    {                                                                                                                  \
#field, NULL, HS_KEY_CHOICE, AT(field), 0, 0, list                                                             \
    }

const hs_key hs_key_table[] = {
    CHOICE(main_module, main_modules),
    INT(max_sequence_length, 1, HS_MAX_SEQUENCE),
    INT(gr_output_length, 0, HS_MAX_SEQUENCE),
    {"attention_n", "N", HS_KEY_INT, AT(attention_n), 1, HS_MAX_SEQUENCE, NULL},
    INT(item_embedding_dim, 1, HS_MAX_DIM),
    INT(num_blocks, 1, HS_MAX_BLOCKS),
    INT(num_heads, 1, HS_MAX_DIM),
    INT(dqk, 1, HS_MAX_DIM),
    INT(dv, 1, HS_MAX_DIM),
    INT(ffn_hidden_dim, 1, HS_MAX_DIM),
    CHOICE(ffn_activation_fn, ffn_activations),
    CHOICE(linear_activation, linear_activations),
    CHOICE(normalization, normalizations),
    FLAG(concat_ua),
    FLAG(enable_relative_attention_bias),
    INT(num_time_buckets, 1, HS_MAX_BUCKETS),
    REAL(layer_norm_eps),
    CHOICE(user_embedding_norm, user_norms),
    REAL(user_embedding_norm_eps),
    FLAG(item_l2_norm),
    REAL(l2_norm_eps),
    INT(max_item_id, 1, HS_MAX_ITEM_ID),
    INT(item_id_offset, 0, HS_MAX_ITEM_ID),
    INT(shift_id_by, 0, HS_MAX_ITEM_ID),
    INT(time_unit_ms, 1, 1000000000),
    INT(min_events, 2, 1000000000),
    FLAG(drop_duplicates),
    CHOICE(protocol, protocols),
    INT(session_time_interval_s, 1, 1000000000),
    INT(session_max_sequences, 1, (int64_t)1 << 40),
    INT(session_max_sequence_length, 1, (int64_t)1 << 40),
    {"dataset", NULL, HS_KEY_DATASET, AT(dataset), 0, 0, NULL},
    {"batch_size", "eval_batch_size", HS_KEY_INT, AT(batch_size), 1, 1 << 20, NULL},
    INT(sequence_length, 1, HS_MAX_SEQUENCE),
    INT(top_k, 1, (int64_t)1 << 31),
    INT(warmup, 0, 1 << 20),
    {NULL, NULL, HS_KEY_INT, 0, 0, 0, NULL},
};

const hs_fixed_key hs_fixed_key_table[] = {
    {"family", "\"retrieval\""},
    {"linear_config", "\"uvqk\""},
    {"interaction_module_type", "\"DotProduct\""},
    {"top_k_method", "\"MIPSBruteForceTopK\""},
    {"time_bucket_divisor", "0.301"},
    {"time_bucket_fn", "\"trunc(ln(max(|dt|,1))/0.301), fp32\""},
    {"chronological", "true"},
    {NULL, NULL},
};

const char *const hs_ignored_keys[] = {
    /* training */
    "dropout_rate", "linear_dropout_rate", "attn_dropout_rate", "ffn_dropout_rate", "loss_module", "num_negatives",
    "sampling_strategy", "temperature", "learning_rate", "betas", "adam_eps", "weight_decay", "num_warmup_steps",
    "local_batch_size", "num_epochs", "eval_interval", "full_eval_every_n", "partial_eval_num_iters",
    "save_ckpt_every_n", "enable_tf32", "random_seed", "torch_manual_seed", "sampler_seed", "positional_sampling_ratio",
    "train_users", "optimizer_steps", "main_module_bf16", "activation_checkpoint",
    /* provenance: the tensors say how many there are and of which type */
    "dtype", "parameters", "checkpoint_epoch", "checkpoint", "code", "reference", "torch", "trained_on",
    /* notes of test cases, and choices of a request */
    "case", "seed", "variants", "lengths", "num_candidates", "topk", "filter_invalid_ids", NULL};

int hs_key_find(const char *name)
{
    for (int i = 0; hs_key_table[i].name; i++) {
        const hs_key *key = &hs_key_table[i];
        if (strcmp(key->name, name) == 0 || (key->synonym && strcmp(key->synonym, name) == 0))
            return i;
    }
    return -1;
}

int hs_key_spelling(const char *choice)
{
    return (int)strcspn(choice, "|");
}

/* Levenshtein distance, by rows; anything longer than the table's names counts as far away. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 48 };
    const size_t na = strlen(a), nb = strlen(b);
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t swap = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] : row[j - 1];
            best++;
            row[j] = swap < best ? swap : best;
        }
    }
    return row[nb];
}

static void consider(const char *name, const char *known, const char **best, size_t *best_distance)
{
    const size_t d = distance(name, known);
    if (d < *best_distance) {
        *best = known;
        *best_distance = d;
    }
}

const char *hs_key_nearest(const char *name)
{
    const char *best = NULL;
    size_t best_distance = 1 + strlen(name) / 2;
    for (int i = 0; hs_key_table[i].name; i++)
        consider(name, hs_key_table[i].name, &best, &best_distance);
    for (int i = 0; hs_fixed_key_table[i].name; i++)
        consider(name, hs_fixed_key_table[i].name, &best, &best_distance);
    for (int i = 0; hs_ignored_keys[i]; i++)
        consider(name, hs_ignored_keys[i], &best, &best_distance);
    consider(name, "candidate_ids", &best, &best_distance);
    consider(name, "max_output_length", &best, &best_distance);
    return best;
}
