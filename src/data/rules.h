/* Checking the numbers among a call's options. */
#ifndef HS_DATA_RULES_H
#define HS_DATA_RULES_H

#include "hstu/status.h"

#include <stdint.h>

/* HSTU_EINVAL, naming the option, unless it is from min to max (INT64_MAX: no upper bound). */
hstu_status hs_rule_check(const char *name, int64_t value, int64_t min, int64_t max, hstu_error *err);

#endif
