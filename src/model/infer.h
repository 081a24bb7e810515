/* What the shapes of a checkpoint's tensors say about the configuration. */
#ifndef HS_MODEL_INFER_H
#define HS_MODEL_INFER_H

#include "model/config.h"
#include "model/family.h"

/* Settles every key that a tensor's shape tells; `recognised` must be a supported family. HSTU_EINVAL names a key, its value
 * and the tensor that contradicts it. Sizes that no tensor tells (num_heads) stay as they are. */
hstu_status hs_infer(hs_config *config, const hs_statedict *dict, const hs_recognised *recognised, hstu_error *err);

#endif
