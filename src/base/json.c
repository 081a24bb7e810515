/* Reading JSON with the checks that hostile input needs. */
#include "base/json.h"

#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* cJSON keeps both of two equal keys and finds the first: an ambiguity that a hostile file could use. */
static hstu_status refuse_duplicates(const cJSON *node, const char *name, hstu_error *err)
{
    const cJSON *child = NULL;
    if (cJSON_IsObject(node) && node->child && node->child->next) {
        const size_t n = (size_t)cJSON_GetArraySize(node);
        const char **names = hs_alloc(n, sizeof *names);
        if (!names)
            return hs_fail_nomem(err, n * sizeof *names, name);
        size_t i = 0;
        cJSON_ArrayForEach(child, node) names[i++] = child->string;
        qsort(names, n, sizeof *names, compare_names);
        const char *twice = NULL;
        for (i = 1; i < n && !twice; i++)
            twice = strcmp(names[i - 1], names[i]) == 0 ? names[i] : NULL;
        hstu_status status = HSTU_OK;
        if (twice)
            status = hs_fail(err, HSTU_EFORMAT, 0, "%s: the JSON key '%.100s' stands twice in one object", name, twice);
        hs_free(names);
        HS_TRY(status);
    }
    /* Recursion is bounded by cJSON's own nesting limit, which parsing has enforced. */
    cJSON_ArrayForEach(child, node) HS_TRY(refuse_duplicates(child, name, err));
    return HSTU_OK;
}

hstu_status hs_json_parse(cJSON **out, const char *text, size_t len, const char *name, hstu_error *err)
{
    if (len == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: expected JSON, found nothing", name);
    if (memchr(text, '\0', len))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: a NUL byte stands in the JSON text", name);
    const char *end = text;
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!root) {
        const size_t pos = (size_t)(end - text);
        return hs_fail(err, HSTU_EFORMAT, pos, "%s: not valid JSON (byte %zu)", name, pos);
    }
    while (end < text + len && strchr(" \t\r\n", *end))
        end++;
    hstu_status status = HSTU_OK;
    if (end != text + len) {
        const size_t pos = (size_t)(end - text);
        status = hs_fail(err, HSTU_EFORMAT, pos, "%s: text after the end of the JSON value (byte %zu)", name, pos);
    } else {
        status = refuse_duplicates(root, name, err);
    }
    if (status != HSTU_OK) {
        cJSON_Delete(root);
        return status;
    }
    *out = root;
    return HSTU_OK;
}

hstu_status hs_json_int(const cJSON *item, int64_t *out, const char *what, const char *name, hstu_error *err)
{
    const double limit = 9007199254740992.0; /* 2^53: cJSON holds numbers as double */
    if (!cJSON_IsNumber(item) || item->valuedouble != floor(item->valuedouble) || fabs(item->valuedouble) > limit)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a whole number of at most 2^53", name, what);
    *out = (int64_t)item->valuedouble;
    return HSTU_OK;
}

hstu_status hs_json_get_int(const cJSON *object, const char *key, int64_t *out, const char *name, hstu_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item ? hs_json_int(item, out, key, name, err) : HSTU_OK;
}

hstu_status hs_json_get_bool(const cJSON *object, const char *key, bool *out, const char *name, hstu_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item)
        return HSTU_OK;
    if (!cJSON_IsBool(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be true or false", name, key);
    *out = cJSON_IsTrue(item);
    return HSTU_OK;
}

hstu_status hs_json_get_string(
    const cJSON *object, const char *key, const char **out, const char *name, hstu_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item)
        return HSTU_OK;
    if (!cJSON_IsString(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a string", name, key);
    *out = item->valuestring;
    return HSTU_OK;
}
