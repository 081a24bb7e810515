/* Reading JSON with the checks that hostile input needs; the tree itself is cJSON's. */
#ifndef HS_BASE_JSON_H
#define HS_BASE_JSON_H

#include "hstu/status.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* Parses exactly `len` bytes: one value, white space around it, nothing else. Refused: a NUL byte, an object with the same
 * key twice, nesting past cJSON's limit. `name` stands in the errors, whose pos is the byte offset. The caller frees *out
 * with cJSON_Delete. */
hstu_status hs_json_parse(cJSON **out, const char *text, size_t len, const char *name, hstu_error *err);

/* The member `key` of `object` must be of the kind named, or HSTU_EFORMAT; when it is absent *out stays as it is.
 * Integers must be whole and exactly representable (|x| <= 2^53). */
hstu_status hs_json_get_int(const cJSON *object, const char *key, int64_t *out, const char *name, hstu_error *err);
hstu_status hs_json_get_bool(const cJSON *object, const char *key, bool *out, const char *name, hstu_error *err);
/* *out points into the tree. */
hstu_status hs_json_get_string(
    const cJSON *object, const char *key, const char **out, const char *name, hstu_error *err);
/* The integer that `item` is, by the same rule; `what` names it in the error. */
hstu_status hs_json_int(const cJSON *item, int64_t *out, const char *what, const char *name, hstu_error *err);

#endif
