/* Configurations as JSON text. */
#include "base/alloc.h"
#include "base/json.h"
#include "model/config.h"
#include "model/config_features.h"
#include "model/config_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first spelling of a choice. */
static cJSON *choice_value(const char *spellings)
{
    char text[64] = "";
    const size_t n = (size_t)hs_key_spelling(spellings);
    memcpy(text, spellings, n < sizeof text ? n : sizeof text - 1);
    return cJSON_CreateString(text);
}

/* The fewest digits that read back as the same number: cJSON's own printing may lose the last bit. */
static cJSON *real_value(double x)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    char *comma = strchr(text, ','); /* some locales' decimal point */
    if (comma)
        *comma = '.';
    return cJSON_CreateRaw(text);
}

static cJSON *text_value(const char *text, bool *known)
{
    *known = text && text[0];
    return *known ? cJSON_CreateString(text) : NULL;
}

/* NULL, with *known false, for a key whose value is unknown. */
static cJSON *value_of(const hs_config *config, int row, bool *known)
{
    const hs_key *key = &hs_key_table[row];
    const void *field = (const char *)config + key->offset;
    const int64_t more = key->kind == HS_KEY_COUNT ? 1 : 0;
    *known = true;
    switch (key->kind) {
    case HS_KEY_INT:
    case HS_KEY_COUNT:
        *known = *(const int64_t *)field + more >= key->min;
        return *known ? cJSON_CreateNumber((double)(*(const int64_t *)field + more)) : NULL;
    case HS_KEY_REAL:
        return real_value(*(const double *)field);
    case HS_KEY_BOOL: /* contextual_mask has no default */
        *known = key->offset != offsetof(hs_config, contextual_mask) || hs_key_is_given(config, row);
        return *known ? cJSON_CreateBool(*(const bool *)field) : NULL;
    case HS_KEY_CHOICE:
        return choice_value(key->choice[*(const int *)field]);
    case HS_KEY_DATASET:
        return text_value(config->dataset, known);
    case HS_KEY_FEATURE:
        return text_value(((const hs_config_feature *)field)->name, known);
    case HS_KEY_CONTEXT:
        *known = hs_key_is_given(config, row);
        return *known ? hs_features_context_value(config) : NULL;
    case HS_KEY_TABLES:
        *known = config->n_tables > 0;
        return *known ? hs_features_tables_value(config) : NULL;
    case HS_KEY_TABLE_OF:
        *known = config->n_context || config->item.name[0] || config->action.name[0];
        return *known ? hs_features_table_of_value(config) : NULL;
    case HS_KEY_HEAD:
        break;
    }
    *known = config->n_head > 0;
    return *known ? hs_features_head_value(config) : NULL;
}

static bool add(cJSON *root, const char *name, cJSON *value)
{
    if (value && cJSON_AddItemToObject(root, name, value))
        return true;
    cJSON_Delete(value);
    return false;
}

static bool add_candidates(cJSON *root, const hs_config *config)
{
    if (!config->candidate_id)
        return true;
    cJSON *list = cJSON_CreateArray();
    if (!list || !add(root, "candidate_ids", list))
        return false;
    for (size_t i = 0; i < config->n_candidates; i++) {
        cJSON *id = cJSON_CreateNumber((double)config->candidate_id[i]);
        if (!id || !cJSON_AddItemToArray(list, id)) {
            cJSON_Delete(id);
            return false;
        }
    }
    return true;
}

static bool add_all(cJSON *root, const hs_config *config)
{
    if (!add(root, "family", cJSON_CreateString(hs_family_names[config->family])))
        return false;
    const unsigned families = hs_key_families_of(config);
    for (int row = 0; hs_key_table[row].name; row++) {
        bool known = false;
        if (!(hs_key_table[row].families & families))
            continue;
        cJSON *value = value_of(config, row, &known);
        if (known && !add(root, hs_key_table[row].name, value))
            return false;
    }
    return add_candidates(root, config);
}

char *hs_config_to_json(const hs_config *config)
{
    cJSON *root = cJSON_CreateObject();
    char *printed = root && add_all(root, config) ? cJSON_Print(root) : NULL;
    char *text = printed ? hs_strndup(printed, strlen(printed)) : NULL;
    cJSON_free(printed);
    cJSON_Delete(root);
    return text;
}
