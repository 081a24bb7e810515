/* Checking the numbers among a call's options. */
#include "data/rules.h"

#include "base/error.h"

#include <inttypes.h>

hstu_status hs_rule_check(const char *name, int64_t value, int64_t min, int64_t max, hstu_error *err)
{
    if (value >= min && value <= max)
        return HSTU_OK;
    if (max == INT64_MAX)
        return hs_fail(err, HSTU_EINVAL, 0, "%s must be at least %" PRId64 ", not %" PRId64, name, min, value);
    return hs_fail(err, HSTU_EINVAL, 0, "%s must be an integer from %" PRId64 " to %" PRId64 ", not %" PRId64, name,
        min, max, value);
}
