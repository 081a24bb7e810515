/* A ranking model's features, embedding tables and prediction head in a configuration. */
#include "model/config_features.h"

#include "base/error.h"

#include <inttypes.h>
#include <string.h>

const hs_config_feature *hs_features_at(const hs_config *config, int i)
{
    if (i < config->n_context)
        return &config->context[i];
    if (i == config->n_context)
        return &config->item;
    return i == config->n_context + 1 ? &config->action : NULL;
}

const hs_config_table *hs_config_find_table(const hs_config *config, const char *name)
{
    for (int i = 0; i < config->n_tables; i++) {
        if (strcmp(config->table[i].name, name) == 0)
            return &config->table[i];
    }
    return NULL;
}

/* Tables stand in file names, and behind each other in a tensor's name with '/' between them. */
static hstu_status read_name(
    char out[HS_MAX_FEATURE_NAME + 1], const cJSON *item, const char *key, const char *source, hstu_error *err)
{
    const size_t len = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
    if (len == 0 || len > HS_MAX_FEATURE_NAME || strchr(item->valuestring, '/'))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: a name in '%s' must be a string of 1 to %d bytes without '/'", source,
            key, HS_MAX_FEATURE_NAME);
    memset(out, 0, HS_MAX_FEATURE_NAME + 1);
    memcpy(out, item->valuestring, len);
    return HSTU_OK;
}

hstu_status hs_features_read_name(hs_config_feature *out, const cJSON *item, const char *source, hstu_error *err)
{
    out->table[0] = '\0';
    return read_name(out->name, item, item->string, source, err);
}

/* How many entries a list holds, at most `most`. */
static hstu_status count_list(int *n, const cJSON *item, int most, const char *source, hstu_error *err)
{
    if (!cJSON_IsArray(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a list", source, item->string);
    *n = cJSON_GetArraySize(item);
    if (*n > most)
        return hs_fail(
            err, HSTU_EFORMAT, 0, "%s: '%s' holds %d entries, at most %d are possible", source, item->string, *n, most);
    return HSTU_OK;
}

hstu_status hs_features_read_context(hs_config *config, const cJSON *item, hstu_error *err)
{
    int n = 0;
    HS_TRY(count_list(&n, item, HS_MAX_FEATURES - 2, config->source, err));
    const cJSON *entry = NULL;
    config->n_context = 0;
    cJSON_ArrayForEach(entry, item)
    {
        hs_config_feature *feature = &config->context[config->n_context];
        feature->table[0] = '\0';
        HS_TRY(read_name(feature->name, entry, item->string, config->source, err));
        config->n_context++;
    }
    return HSTU_OK;
}

static hstu_status read_rows(int64_t *out, const cJSON *entry, const char *key, const char *source, hstu_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, key);
    if (!item)
        return HSTU_OK;
    HS_TRY(hs_json_int(item, out, key, source, err));
    if (*out < 1 || *out > HS_MAX_ITEM_ID)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' of a table must lie in 1 .. %" PRId64 ", but it is %" PRId64,
            source, key, HS_MAX_ITEM_ID, *out);
    return HSTU_OK;
}

static hstu_status read_table(hs_config_table *out, const cJSON *entry, const char *source, hstu_error *err)
{
    static const char *const known[] = {"name", "dynamic", "rows", "reference_rows"};
    if (!cJSON_IsObject(entry))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: an entry of 'tables' must be an object", source);
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, entry)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            found = found || strcmp(item->string, known[i]) == 0;
        if (!found)
            return hs_fail(err, HSTU_EFORMAT, 0,
                "%s: unknown key '%.100s' in 'tables'; known are name, dynamic, rows and reference_rows", source,
                item->string);
    }
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(entry, "name");
    *out = (hs_config_table){0};
    HS_TRY(read_name(out->name, name, "tables", source, err));
    HS_TRY(hs_json_get_bool(entry, "dynamic", &out->dynamic, source, err));
    HS_TRY(read_rows(&out->rows, entry, "rows", source, err));
    HS_TRY(read_rows(&out->reference_rows, entry, "reference_rows", source, err));
    if (out->dynamic) /* a capacity means nothing to a table that holds what its files hold */
        out->rows = out->reference_rows = 0;
    return HSTU_OK;
}

hstu_status hs_features_read_table_list(hs_config *config, const cJSON *item, hstu_error *err)
{
    int n = 0;
    HS_TRY(count_list(&n, item, HS_MAX_FEATURES, config->source, err));
    const cJSON *entry = NULL;
    config->n_tables = 0;
    cJSON_ArrayForEach(entry, item)
    {
        hs_config_table table;
        HS_TRY(read_table(&table, entry, config->source, err));
        if (hs_config_find_table(config, table.name))
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: table '%s' stands twice in 'tables'", config->source, table.name);
        config->table[config->n_tables++] = table;
    }
    return HSTU_OK;
}

hstu_status hs_features_read_head(hs_config *config, const cJSON *item, hstu_error *err)
{
    int n = 0;
    HS_TRY(count_list(&n, item, HS_MAX_HEAD_LAYERS, config->source, err));
    if (n == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' is empty", config->source, item->string);
    const cJSON *entry = NULL;
    config->n_head = 0;
    cJSON_ArrayForEach(entry, item)
    {
        int64_t size = 0;
        HS_TRY(hs_json_int(entry, &size, item->string, config->source, err));
        if (size < 1 || size > HS_MAX_DIM)
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: a size in '%s' must lie in 1 .. %d, but it is %" PRId64,
                config->source, item->string, HS_MAX_DIM, size);
        config->head[config->n_head++] = size;
    }
    return HSTU_OK;
}

static hs_config_feature *find_feature(hs_config *config, const char *name)
{
    for (int i = 0; i < config->n_context; i++) {
        if (strcmp(config->context[i].name, name) == 0)
            return &config->context[i];
    }
    if (strcmp(config->item.name, name) == 0)
        return &config->item;
    return strcmp(config->action.name, name) == 0 ? &config->action : NULL;
}

hstu_status hs_features_read_tables(hs_config *config, const cJSON *item, hstu_error *err)
{
    if (!cJSON_IsObject(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be an object", config->source, item->string);
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, item)
    {
        hs_config_feature *feature = *entry->string ? find_feature(config, entry->string) : NULL;
        if (!feature)
            return hs_fail(err, HSTU_EFORMAT, 0,
                "%s: '%s' names '%.100s', which is no contextual, item or action feature", config->source, item->string,
                entry->string);
        HS_TRY(read_name(feature->table, entry, item->string, config->source, err));
    }
    return HSTU_OK;
}

static hstu_status check_feature(const hs_config *config, int place, hstu_error *err)
{
    const hs_config_feature *feature = hs_features_at(config, place);
    for (int i = 0; i < place; i++) {
        if (strcmp(hs_features_at(config, i)->name, feature->name) == 0)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: feature '%s' stands twice among the contextual, item and action "
                "features",
                config->source, feature->name);
    }
    if (config->n_tables && !hs_config_find_table(config, feature->table))
        return hs_fail(err, HSTU_EINVAL, 0, "%s: feature '%s' looks up in table '%s', which is not in 'tables'",
            config->source, feature->name, feature->table);
    return HSTU_OK;
}

static void own_table(hs_config_feature *feature)
{
    if (!feature->table[0])
        memcpy(feature->table, feature->name, sizeof feature->table);
}

hstu_status hs_features_derive(hs_config *config, hstu_error *err)
{
    for (int i = 0; i < config->n_context; i++)
        own_table(&config->context[i]);
    own_table(&config->item);
    own_table(&config->action);
    for (int i = 0; i < config->n_context + 2; i++) {
        if (hs_features_at(config, i)->name[0])
            HS_TRY(check_feature(config, i, err));
    }
    return HSTU_OK;
}

/* False, with `value` freed, without memory. */
static bool append(cJSON *list, cJSON *value)
{
    if (value && cJSON_AddItemToArray(list, value))
        return true;
    cJSON_Delete(value);
    return false;
}

static cJSON *finish(cJSON *value, bool complete)
{
    if (complete)
        return value;
    cJSON_Delete(value);
    return NULL;
}

cJSON *hs_features_context_value(const hs_config *config)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int i = 0; i < config->n_context && ok; i++)
        ok = append(list, cJSON_CreateString(config->context[i].name));
    return finish(list, ok);
}

cJSON *hs_features_tables_value(const hs_config *config)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int i = 0; i < config->n_tables && ok; i++) {
        const hs_config_table *table = &config->table[i];
        cJSON *entry = cJSON_CreateObject();
        ok =
            append(list, entry) && cJSON_AddStringToObject(entry, "name", table->name) &&
            cJSON_AddBoolToObject(entry, "dynamic", table->dynamic) &&
            (!table->rows || cJSON_AddNumberToObject(entry, "rows", (double)table->rows)) &&
            (!table->reference_rows || cJSON_AddNumberToObject(entry, "reference_rows", (double)table->reference_rows));
    }
    return finish(list, ok);
}

cJSON *hs_features_table_of_value(const hs_config *config)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = object != NULL;
    for (int i = 0; i < config->n_context + 2 && ok; i++) {
        const hs_config_feature *feature = hs_features_at(config, i);
        ok = !feature->name[0] || cJSON_AddStringToObject(object, feature->name, feature->table);
    }
    return finish(object, ok);
}

cJSON *hs_features_head_value(const hs_config *config)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int i = 0; i < config->n_head && ok; i++)
        ok = append(list, cJSON_CreateNumber((double)config->head[i]));
    return finish(list, ok);
}
