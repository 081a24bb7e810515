/* Times in logs: numbers in some unit, or dates in the form of ISO 8601. */
#ifndef HS_DATA_TIMETEXT_H
#define HS_DATA_TIMETEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum hs_time_unit { HS_TIME_S, HS_TIME_MS, HS_TIME_US, HS_TIME_NS, HS_TIME_ISO } hs_time_unit;

/* "s", "ms", "us", "ns" or "iso". */
bool hs_time_unit_of(const char *name, hs_time_unit *out);

/* The whole text as milliseconds since 1970, UTC; what is finer is cut off, towards the past. Numbers may have a fraction,
 * as in "1650882384.25". ISO: "2022-04-25", or with a time behind 'T' or a blank: "14:46", "14:46:24", "14:46:24.25",
 * and a zone behind that: 'Z', "+08:00", "+0800" or "+08"; without one it is UTC. */
bool hs_time_parse(const char *text, size_t len, hs_time_unit unit, int64_t *out);

#endif
