/* A model in memory: configuration and weights, immutable once made. Made from a checkpoint's tensors or from a seed. */
#ifndef HS_MODEL_MODEL_H
#define HS_MODEL_MODEL_H

#include "base/arena.h"
#include "model/config.h"
#include "model/family.h"
#include "model/tables.h"
#include "model/weights.h"

typedef struct hs_model {
    hs_config config;        /* complete; owned */
    hs_device *dev;          /* that packed the weights; borrowed until hs_model_free */
    hs_weight_target weight; /* pointers into `arena`, the tables' own memory, or the mapped checkpoint */
    bool bf16;               /* computes as a bfloat16 model does: dense weights are rounded already */
    hs_dtype kv_type;        /* of keys and values: HS_F32, or HS_BF16, which a bfloat16 model always has */
    float *item_inv_norm;    /* [max_item_id + 1]: 1 / max(|E[id]|, l2_norm_eps); NULL without item_l2_norm */

    hs_arena arena; /* every other weight that is kept as it is */
    int64_t n_parameters;
    /* ranking */
    hs_table *table;                                                            /* [config.n_tables]; owned */
    const hs_table *context_table[HS_MAX_FEATURES], *item_table, *action_table; /* of the features, in `table` */
} hs_model;

/* Where a model's weights come from. */
typedef struct hs_model_source {
    /* Must outlive the model: fp32 weights, and bf16 item tables of a bfloat16 model, are used in place where they can be; other
     * floating types are converted. */
    const hs_statedict *dict;
    const hs_recognised *recognised;
    /* Ranking: [config->n_tables], which the model takes over, on failure too; NULL: they are among the tensors of `dict`. */
    hs_table *table;
} hs_model_source;

/* `config` is completed from the tensors; the model takes it over, on failure too. bf16: compute as bfloat16 models do; HSTU_EUNSUP
 * for a family that does not. A dense weight that is not finite is HSTU_EFORMAT and named: its model could only answer NaN. Table rows
 * are not looked at. */
hstu_status hs_model_bind(
    hs_model *out, hs_config *config, hs_device *dev, const hs_model_source *source, bool bf16, hstu_error *err);

/* Random weights, a function of the seed and the configuration alone. */
typedef struct hs_model_random_options {
    uint64_t seed;
    bool bf16;
    int64_t n_items, n_users; /* ranking: keys of the dynamic item table, and of every other dynamic table */
} hs_model_random_options;

/* HSTU_ENOMEM before anything is made when the machine has too little memory. Takes `config` over, on failure too. */
hstu_status hs_model_random(
    hs_model *out, hs_config *config, hs_device *dev, const hs_model_random_options *options, hstu_error *err);
void hs_model_free(hs_model *model); /* accepts a zeroed one */

#endif
