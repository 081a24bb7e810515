/* The data sets beside KuaiRand that hstu_preprocess knows: whether a name means it, and its whole run. */
#ifndef HS_DATA_PREPROCESS_SETS_H
#define HS_DATA_PREPROCESS_SETS_H

#include "data/preprocess_int.h"

#include <stdbool.h>

/* p is open; the caller closes it. Errors as hstu_preprocess documents. */
bool hs_movielens_knows(const char *dataset_name);
hstu_status hs_movielens_preprocess(hs_preprocessing *p, hstu_preprocess_report *report, hstu_error *err);

bool hs_custom_knows(const char *dataset_name);
hstu_status hs_custom_preprocess(hs_preprocessing *p, hstu_preprocess_report *report, hstu_error *err);

#endif
