/* A model in memory: configuration and weights, immutable once made. Made from a checkpoint's tensors or from a seed. */
#ifndef HS_MODEL_MODEL_H
#define HS_MODEL_MODEL_H

#include "base/arena.h"
#include "model/config.h"
#include "model/family.h"
#include "model/weights.h"

typedef struct hs_model {
    hs_config config;        /* complete; owned */
    hs_device *dev;          /* that packed the weights; borrowed until hs_model_free */
    hs_weight_target weight; /* pointers into `arena`, `item`, or the mapped checkpoint */
    float *item_inv_norm;    /* [max_item_id + 1]: 1 / max(|E[id]|, l2_norm_eps); NULL without item_l2_norm */
    float *item;             /* the item table, when it could not be used in place */
    hs_arena arena;          /* every other weight that is kept as it is */
    int64_t n_parameters;
} hs_model;

/* Binds every weight to the dictionary, which must outlive the model: fp32 weights are used in place where they can be,
 * other floating types are converted. `config` is completed from the tensors; the model takes it over, on failure too.
 * A weight that is not finite is HSTU_EFORMAT and named: its model could only answer NaN. */
hstu_status hs_model_bind(hs_model *out, hs_config *config, hs_device *dev, const hs_statedict *dict,
    const hs_recognised *recognised, hstu_error *err);
/* Random weights, a function of the seed and the configuration alone. HSTU_ENOMEM before anything is made when the machine
 * has too little memory. Takes `config` over, on failure too. */
hstu_status hs_model_random(hs_model *out, hs_config *config, hs_device *dev, uint64_t seed, hstu_error *err);
void hs_model_free(hs_model *model); /* accepts a zeroed one */

#endif
