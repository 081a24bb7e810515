/* Configurations from the reference's gin files. */
#ifndef HS_MODEL_CONFIG_GIN_H
#define HS_MODEL_CONFIG_GIN_H

#include "hstu/status.h"
#include "model/config.h"

/* Initialises *config, whose `source` is set, as a ranking configuration and fills it. On failure *config can be freed.
 * HSTU_EUNSUP: another `family` than ranking (or HS_CONFIG_ANY), bindings of the reference's retrieval model, its benchmarks'
 * random data, its values that this version does not run. HSTU_EINVAL: no data set, or two names of one key that differ. Other
 * errors are those of hs_gin_parse and hs_config_parse. */
hstu_status hs_config_read_gin(hs_config *config, const char *text, size_t len, int family, hstu_error *err);

#endif
