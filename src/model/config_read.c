/* Configurations from JSON text. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapfile.h"
#include "model/config.h"
#include "model/config_keys.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 64 << 20 };

static const char *const datasets[] = {"KuaiRand-1K", "KuaiRand-Pure", "KuaiRand-27K", "ml-1m", "ml-20m", "amzn-books"};

static bool same_ignoring_case(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

/* The place of `text` in the list, whose entries may hold several spellings; -1 when it is not there. */
static int find_choice(const char *const *choice, const char *text)
{
    const size_t len = strlen(text);
    for (int i = 0; choice[i]; i++) {
        const char *spelling = choice[i];
        for (;;) {
            const size_t n = strcspn(spelling, "|");
            if (n == len && memcmp(spelling, text, n) == 0)
                return i;
            if (spelling[n] == '\0')
                break;
            spelling += n + 1;
        }
    }
    return -1;
}

static hstu_status read_choice(int *out, const cJSON *item, const hs_key *key, const char *source, hstu_error *err)
{
    const int found = cJSON_IsString(item) ? find_choice(key->choice, item->valuestring) : -1;
    if (found >= 0) {
        *out = found;
        return HSTU_OK;
    }
    char *text = cJSON_PrintUnformatted(item);
    const hstu_status status = hs_fail(err, cJSON_IsString(item) ? HSTU_EUNSUP : HSTU_EFORMAT, 0,
        "%s: '%s' must be \"%.*s\" or \"%.*s\", but it is %.100s", source, item->string,
        hs_key_spelling(key->choice[0]), key->choice[0], hs_key_spelling(key->choice[1]), key->choice[1],
        text ? text : "something else");
    cJSON_free(text);
    return status;
}

static hstu_status read_int(int64_t *out, const cJSON *item, const hs_key *key, const char *source, hstu_error *err)
{
    int64_t value = 0;
    HS_TRY(hs_json_int(item, &value, item->string, source, err));
    if (value < key->min || value > key->max)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must lie in %" PRId64 " .. %" PRId64 ", but it is %" PRId64,
            source, item->string, key->min, key->max, value);
    *out = value;
    return HSTU_OK;
}

static hstu_status read_real(double *out, const cJSON *item, const char *source, hstu_error *err)
{
    if (!cJSON_IsNumber(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a number", source, item->string);
    const double value = item->valuedouble;
    if (!((float)value > 0.0f && value <= 1.0))
        return hs_fail(
            err, HSTU_EFORMAT, 0, "%s: '%s' must be above 0 and at most 1, but it is %g", source, item->string, value);
    *out = value;
    return HSTU_OK;
}

static hstu_status read_key(hs_config *config, const cJSON *item, const hs_key *key, hstu_error *err)
{
    void *field = (char *)config + key->offset;
    const char *source = config->source;
    switch (key->kind) {
    case HS_KEY_INT:
        return read_int(field, item, key, source, err);
    case HS_KEY_REAL:
        return read_real(field, item, source, err);
    case HS_KEY_CHOICE:
        return read_choice(field, item, key, source, err);
    case HS_KEY_BOOL:
        if (!cJSON_IsBool(item))
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be true or false", source, item->string);
        *(bool *)field = cJSON_IsTrue(item);
        return HSTU_OK;
    case HS_KEY_DATASET:
        break;
    }
    if (!cJSON_IsString(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a string", source, item->string);
    for (size_t i = 0; i < sizeof datasets / sizeof datasets[0]; i++) {
        if (same_ignoring_case(datasets[i], item->valuestring))
            config->dataset = datasets[i];
    }
    return HSTU_OK;
}

/* A key and its synonym may both stand there when they agree. */
static hstu_status refuse_contradiction(const cJSON *root, const hs_key *key, const char *source, hstu_error *err)
{
    if (!key->synonym)
        return HSTU_OK;
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(root, key->name);
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(root, key->synonym);
    if (!a || !b || cJSON_Compare(a, b, true))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "%s: '%s' and '%s' are one thing, but differ", source, key->name, key->synonym);
}

/* True when the key is a fixed one; *status then says whether its value is the one that runs. */
static bool check_fixed(const cJSON *item, const char *source, hstu_status *status, hstu_error *err)
{
    for (const hs_fixed_key *fixed = hs_fixed_key_table; fixed->name; fixed++) {
        if (strcmp(fixed->name, item->string) != 0)
            continue;
        cJSON *expected = cJSON_Parse(fixed->value);
        if (!expected)
            *status = hs_fail_nomem(err, strlen(fixed->value), source);
        else if (cJSON_Compare(expected, item, true))
            *status = HSTU_OK;
        else
            *status =
                hs_fail(err, HSTU_EUNSUP, 0, "%s: this version runs only %s = %s", source, fixed->name, fixed->value);
        cJSON_Delete(expected);
        return true;
    }
    return false;
}

static bool is_ignored(const char *name)
{
    for (size_t i = 0; hs_ignored_keys[i]; i++) {
        if (strcmp(hs_ignored_keys[i], name) == 0)
            return true;
    }
    return false;
}

static hstu_status read_member(hs_config *config, const cJSON *root, const cJSON *item, hstu_error *err)
{
    const int row = hs_key_find(item->string);
    hstu_status status = HSTU_OK;
    if (row >= 0) {
        HS_TRY(refuse_contradiction(root, &hs_key_table[row], config->source, err));
        HS_TRY(read_key(config, item, &hs_key_table[row], err));
        config->given |= UINT64_C(1) << row;
        return HSTU_OK;
    }
    if (check_fixed(item, config->source, &status, err))
        return status;
    if (is_ignored(item->string) || strcmp(item->string, "candidate_ids") == 0 ||
        strcmp(item->string, "max_output_length") == 0)
        return HSTU_OK;
    const char *near = hs_key_nearest(item->string);
    if (near)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'; the nearest known key is '%s'", config->source,
            item->string, near);
    return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'", config->source, item->string);
}

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

static hstu_status read_root(hs_config *config, const cJSON *root, hstu_error *err)
{
    if (!cJSON_IsObject(root))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: a configuration must be one JSON object", config->source);
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, root) HS_TRY(read_member(config, root, item, err));
    HS_TRY(read_output_length(config, root, err));
    HS_TRY(read_candidates(config, root, err));
    return hs_config_derive(config, err);
}

hstu_status hs_config_parse(hs_config *out, const char *text, size_t len, const char *source, hstu_error *err)
{
    cJSON *root = NULL;
    HS_TRY(hs_json_parse(&root, text, len, source, err));
    hs_config config;
    hs_config_init(&config, source);
    const hstu_status status = read_root(&config, root, err);
    cJSON_Delete(root);
    if (status == HSTU_OK)
        *out = config;
    else
        hs_config_free(&config);
    return status;
}

static hstu_status fail_unknown_name(const char *name, hstu_error *err)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; hs_preset_name(i) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", hs_preset_name(i));
    return hs_fail(err, HSTU_ENOENT, 0, "%.150s: neither a file nor a preset (%s)", name, names);
}

hstu_status hs_config_open(hs_config *out, const char *name_or_path, hstu_error *err)
{
    if (hs_preset_find(out, name_or_path))
        return HSTU_OK;
    hs_mapfile map = {0};
    hstu_status status = hs_mapfile_open(&map, name_or_path, err);
    if (status == HSTU_ENOENT)
        return fail_unknown_name(name_or_path, err);
    HS_TRY(status);
    if (map.size == 0)
        status = hs_fail(err, HSTU_EFORMAT, 0, "%s: the file is empty, expected a JSON configuration", name_or_path);
    else if (map.size > MAX_CONFIG_BYTES)
        status = hs_fail(err, HSTU_EFORMAT, 0, "%s: %zu bytes are too many for a configuration (at most %d)",
            name_or_path, map.size, MAX_CONFIG_BYTES);
    else
        status = hs_config_parse(out, (const char *)map.data, map.size, name_or_path, err);
    hs_mapfile_close(&map);
    return status;
}
