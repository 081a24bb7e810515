/* The built-in configurations of ranking models, and what the reference's data sets feed them. */
#ifndef HS_MODEL_PRESET_H
#define HS_MODEL_PRESET_H

#include "model/config.h"

/* The features and tables that the reference gives a ranking model of this data set, and its name. False for a data set
 * that has none. Capitals and small letters are alike. */
bool hs_preset_use_dataset(hs_config *config, const char *dataset);

const char *hs_preset_ranking_name(size_t i); /* NULL past the end */
/* A complete configuration; *out is initialised. */
void hs_preset_make_ranking(hs_config *out, size_t i);

#endif
