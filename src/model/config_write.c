/* Configurations as JSON text. */
#include "base/alloc.h"
#include "base/json.h"
#include "model/config.h"
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

static bool is_sasrec_only(const char *name)
{
    return strncmp(name, "ffn_", 4) == 0;
}

static bool is_hstu_only(const char *name)
{
    static const char *const names[] = {"dqk", "dv", "linear_activation", "normalization", "concat_ua",
        "enable_relative_attention_bias", "num_time_buckets", "layer_norm_eps"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

/* NULL, with *known false, for a key whose value is unknown or says nothing about this module. */
static cJSON *value_of(const hs_config *config, const hs_key *key, bool *known)
{
    const void *field = (const char *)config + key->offset;
    *known = config->main_module == HS_MODULE_SASREC ? !is_hstu_only(key->name) : !is_sasrec_only(key->name);
    if (!*known)
        return NULL;
    switch (key->kind) {
    case HS_KEY_INT:
        *known = *(const int64_t *)field >= key->min;
        return *known ? cJSON_CreateNumber((double)*(const int64_t *)field) : NULL;
    case HS_KEY_REAL:
        return real_value(*(const double *)field);
    case HS_KEY_BOOL:
        return cJSON_CreateBool(*(const bool *)field);
    case HS_KEY_CHOICE:
        return choice_value(key->choice[*(const int *)field]);
    case HS_KEY_DATASET:
        break;
    }
    *known = config->dataset != NULL;
    return *known ? cJSON_CreateString(config->dataset) : NULL;
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
    if (!add(root, "family", cJSON_CreateString("retrieval")))
        return false;
    for (const hs_key *key = hs_key_table; key->name; key++) {
        bool known = false;
        cJSON *value = value_of(config, key, &known);
        if (known && !add(root, key->name, value))
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
