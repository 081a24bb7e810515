/* Configurations from JSON or gin text. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapfile.h"
#include "model/config.h"
#include "model/config_features.h"
#include "model/config_gin.h"
#include "model/config_keys.h"
#include "model/config_value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 64 << 20 };

static int compare_ids(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static hstu_status read_candidate_list(hs_config *config, const cJSON *list, hstu_error *err)
{
    const size_t n = (size_t)cJSON_GetArraySize(list);
    if (n == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: 'candidate_ids' is empty", config->source);
    config->candidate_id = hs_alloc(n, sizeof *config->candidate_id);
    if (!config->candidate_id)
        return hs_fail_nomem(err, n * sizeof *config->candidate_id, "candidate_ids");
    size_t i = 0;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, list)
    {
        int64_t id = 0;
        HS_TRY(hs_json_int(item, &id, "candidate_ids", config->source, err));
        if (id < 1 || id > HS_MAX_ITEM_ID)
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: candidate id %" PRId64 " is no item id (1 .. max_item_id)",
                config->source, id);
        config->candidate_id[i++] = id;
    }
    qsort(config->candidate_id, n, sizeof *config->candidate_id, compare_ids);
    size_t kept = 1;
    for (i = 1; i < n; i++) {
        if (config->candidate_id[i] != config->candidate_id[kept - 1])
            config->candidate_id[kept++] = config->candidate_id[i];
    }
    config->n_candidates = kept;
    return HSTU_OK;
}

/* Either every id, written "1..max_item_id", or a list of ids. */
static hstu_status read_candidates(hs_config *config, const cJSON *root, hstu_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "candidate_ids");
    if (!item)
        return HSTU_OK;
    if (cJSON_IsArray(item))
        return read_candidate_list(config, item, err);
    if (cJSON_IsString(item) && strncmp(item->valuestring, "1..", 3) == 0) {
        char *end = NULL;
        const long long last = strtoll(item->valuestring + 3, &end, 10);
        if (isdigit((unsigned char)item->valuestring[3]) && *end == '\0')
            return hs_config_settle(config, "max_item_id", last, "'candidate_ids'", err);
    }
    return hs_fail(
        err, HSTU_EFORMAT, 0, "%s: 'candidate_ids' must be \"1..<max_item_id>\" or a list of item ids", config->source);
}

static hstu_status read_output_length(hs_config *config, const cJSON *root, hstu_error *err)
{
    int64_t length = config->gr_output_length + 1;
    HS_TRY(hs_json_get_int(root, "max_output_length", &length, config->source, err));
    if (length == config->gr_output_length + 1)
        return HSTU_OK;
    if (!hs_config_is_given(config, "gr_output_length") && length >= 1 && length <= HS_MAX_SEQUENCE) {
        config->gr_output_length = length - 1;
        return HSTU_OK;
    }
    return hs_fail(err, HSTU_EINVAL, 0, "%s: max_output_length %" PRId64 " is not gr_output_length %" PRId64 " + 1",
        config->source, length, config->gr_output_length);
}

/* The mask's name in gin files says the opposite. */
static hstu_status read_disabled_mask(hs_config *config, const cJSON *root, hstu_error *err)
{
    const char *const key = "contextual_mask";
    bool disabled = false;
    if (!cJSON_GetObjectItemCaseSensitive(root, "disable_contextual_mask"))
        return HSTU_OK;
    HS_TRY(hs_json_get_bool(root, "disable_contextual_mask", &disabled, config->source, err));
    return hs_config_settle(config, key, !disabled, "'disable_contextual_mask'", err);
}

hstu_status hs_config_read_rest(hs_config *config, const cJSON *root, hstu_error *err)
{
    if (config->family == HS_CONFIG_RETRIEVAL) {
        HS_TRY(read_output_length(config, root, err));
        HS_TRY(read_candidates(config, root, err));
    } else if (config->family == HS_CONFIG_RANKING) {
        const cJSON *table_of = cJSON_GetObjectItemCaseSensitive(root, "feature_to_table");
        HS_TRY(read_disabled_mask(config, root, err));
        if (table_of)
            HS_TRY(hs_features_read_tables(config, table_of, err));
    }
    return hs_config_derive(config, err);
}

/* The key "family", or what a text without it means. */
static hstu_status read_family(int *out, const cJSON *root, int family, const char *source, hstu_error *err)
{
    const char *name = NULL;
    HS_TRY(hs_json_get_string(root, "family", &name, source, err));
    *out = family == HS_CONFIG_ANY ? HS_CONFIG_RETRIEVAL : family;
    if (!name)
        return HSTU_OK;
    for (int i = 0; hs_family_names[i]; i++) {
        if (strcmp(hs_family_names[i], name) == 0) {
            *out = i;
            return HSTU_OK;
        }
    }
    return hs_fail(err, HSTU_EUNSUP, 0,
        "%s: 'family' must be \"retrieval\", \"ranking\" or \"decoder\", but it is \"%.100s\"", source, name);
}

static hstu_status read_root(hs_config *config, const cJSON *root, int family, hstu_error *err)
{
    const char *source = config->source;
    if (!cJSON_IsObject(root))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: a configuration must be one JSON object", source);
    HS_TRY(read_family(&family, root, family, source, err));
    hs_config_init(config, (hs_config_family)family, source);
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, root) HS_TRY(hs_config_read_member(config, root, item, err));
    return hs_config_read_rest(config, root, err);
}

/* A gin file begins with a comment or a name, a JSON value with neither (but for true, false and null, which are no
 * configuration). */
static bool is_gin(const char *text, size_t len)
{
    size_t i = len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (i < len && strchr(" \t\r\n", text[i]) && text[i])
        i++;
    return i < len && (isalpha((unsigned char)text[i]) || (text[i] && strchr("_#%@", text[i])));
}

hstu_status hs_config_parse(
    hs_config *out, const char *text, size_t len, int family, const char *source, hstu_error *err)
{
    hs_config config = {.source = source};
    hstu_status status = HSTU_OK;
    if (is_gin(text, len)) {
        status = hs_config_read_gin(&config, text, len, family, err);
    } else {
        cJSON *root = NULL;
        HS_TRY(hs_json_parse(&root, text, len, source, err));
        status = read_root(&config, root, family, err);
        cJSON_Delete(root);
    }
    if (status == HSTU_OK)
        *out = config;
    else
        hs_config_free(&config);
    return status;
}

static hstu_status fail_unknown_name(const char *name, hstu_error *err)
{
    char names[512] = "";
    size_t used = 0;
    for (size_t i = 0; hs_preset_name(i) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", hs_preset_name(i));
    return hs_fail(err, HSTU_ENOENT, 0, "%.150s: neither a file nor a preset (%s)", name, names);
}

hstu_status hs_config_open(hs_config *out, const char *name_or_path, int family, hstu_error *err)
{
    if (hs_preset_find(out, name_or_path, family))
        return HSTU_OK;
    hs_mapfile map = {0};
    hstu_status status = hs_mapfile_open(&map, name_or_path, err);
    if (status == HSTU_ENOENT)
        return fail_unknown_name(name_or_path, err);
    HS_TRY(status);
    if (map.size == 0)
        status = hs_fail(
            err, HSTU_EFORMAT, 0, "%s: the file is empty, expected a configuration in JSON or gin", name_or_path);
    else if (map.size > MAX_CONFIG_BYTES)
        status = hs_fail(err, HSTU_EFORMAT, 0, "%s: %zu bytes are too many for a configuration (at most %d)",
            name_or_path, map.size, MAX_CONFIG_BYTES);
    else
        status = hs_config_parse(out, (const char *)map.data, map.size, family, name_or_path, err);
    hs_mapfile_close(&map);
    return status;
}
