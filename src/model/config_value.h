/* Reading the value of one configuration key, by its row of the table. */
#ifndef HS_MODEL_CONFIG_VALUE_H
#define HS_MODEL_CONFIG_VALUE_H

#include "base/json.h"
#include "hstu/status.h"
#include "model/config.h"
#include "model/config_keys.h"

/* Sets the field and marks the key given. `item->string` is the name in the errors. HSTU_EFORMAT: wrong kind, out of range;
 * HSTU_EUNSUP: an unknown choice. The tables of features (HS_KEY_TABLE_OF) wait for hs_features_read_tables. */
hstu_status hs_config_read_key(hs_config *config, const cJSON *item, int row, hstu_error *err);

/* One member of an object of the config's family: a key with a row, a fixed one (HSTU_EUNSUP for another value), or one that is
 * known otherwise. HSTU_EFORMAT: an unknown key, or one of another family; HSTU_EINVAL: a synonym in `root` contradicts it. */
hstu_status hs_config_read_member(hs_config *config, const cJSON *root, const cJSON *item, hstu_error *err);

/* What reads keys that are of use together only, and then derives; after every member was read. */
hstu_status hs_config_read_rest(hs_config *config, const cJSON *root, hstu_error *err);

#endif
