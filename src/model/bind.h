/* Which tensor of a checkpoint is which weight: every tensor is bound, deliberately ignored, or an error. */
#ifndef HS_MODEL_BIND_H
#define HS_MODEL_BIND_H

#include "model/family.h"
#include "model/weights.h"

typedef enum hs_use { HS_USE_EXTRA, HS_USE_BOUND, HS_USE_IGNORED } hs_use;

typedef struct hs_binding {
    const hs_statedict *dict;
    hs_weight *weight; /* [n_weights] */
    size_t n_weights;
    const hs_entry **entry; /* [n_weights]: the weight's tensor, or NULL where it is missing */
    hs_use *use;            /* [dict->n_entries] */
    const char **reason;    /* [dict->n_entries]: static text for ignored tensors, else NULL */
    size_t n_missing, n_extra;
} hs_binding;

/* Matches by name. `config` has been through hs_infer; target as for hs_weight_list. */
hstu_status hs_binding_make(hs_binding *out, const hs_statedict *dict, const hs_recognised *recognised,
    const hs_config *config, hs_weight_target *target, hstu_error *err);
void hs_binding_free(hs_binding *binding); /* accepts a zeroed one */

/* HSTU_ESHAPE lists missing and extra tensors side by side, or names the first tensor of a wrong shape or type. */
hstu_status hs_binding_check(const hs_binding *binding, const hs_config *config, hstu_error *err);

#endif
