/* A ranking model's features, embedding tables and prediction head in a configuration: reading, writing, checking. */
#ifndef HS_MODEL_CONFIG_FEATURES_H
#define HS_MODEL_CONFIG_FEATURES_H

#include "base/json.h"
#include "hstu/status.h"
#include "model/config.h"

/* Each sets its part of *config. HSTU_EFORMAT: wrong kind, too many, a name that is empty, too long or holds '/', a size out of
 * range, a name twice. `item->string` names the key. */
hstu_status hs_features_read_name(hs_config_feature *out, const cJSON *item, const char *source, hstu_error *err);
hstu_status hs_features_read_context(hs_config *config, const cJSON *item, hstu_error *err);
hstu_status hs_features_read_table_list(hs_config *config, const cJSON *item, hstu_error *err);
hstu_status hs_features_read_head(hs_config *config, const cJSON *item, hstu_error *err);

/* An object feature -> table; every feature that it names must exist. A feature that it leaves out keeps its table. */
hstu_status hs_features_read_tables(hs_config *config, const cJSON *item, hstu_error *err);

/* A feature without a table gets the one of its own name; then HSTU_EINVAL for a feature twice, or a table that is not among
 * the tables, where those are known. */
hstu_status hs_features_derive(hs_config *config, hstu_error *err);

/* The i-th of n_context + 2 features: contextual ones, then the item, then the action. NULL past the end. */
const hs_config_feature *hs_features_at(const hs_config *config, int i);

/* NULL without memory. */
cJSON *hs_features_context_value(const hs_config *config);
cJSON *hs_features_tables_value(const hs_config *config);
cJSON *hs_features_table_of_value(const hs_config *config);
cJSON *hs_features_head_value(const hs_config *config);

#endif
