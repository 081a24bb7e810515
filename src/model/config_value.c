/* Reading the value of one configuration key. */
#include "model/config_value.h"

#include "base/error.h"
#include "model/config_features.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

static const char *const datasets[] = {"KuaiRand-1K", "KuaiRand-Pure", "KuaiRand-27K", "ml-1m", "ml-20m", "amzn-books"};

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
    const char *last = key->choice[2] ? key->choice[2] : "";
    char *text = cJSON_PrintUnformatted(item);
    const hstu_status status = hs_fail(err, cJSON_IsString(item) ? HSTU_EUNSUP : HSTU_EFORMAT, 0,
        "%s: '%s' must be \"%.*s\" or \"%.*s\"%s%.*s%s, but it is %.100s", source, item->string,
        hs_key_spelling(key->choice[0]), key->choice[0], hs_key_spelling(key->choice[1]), key->choice[1],
        *last ? " or \"" : "", hs_key_spelling(last), last, *last ? "\"" : "", text ? text : "something else");
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
    *out = key->kind == HS_KEY_COUNT ? value - 1 : value;
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

static hstu_status read_dataset(hs_config *config, const cJSON *item, hstu_error *err)
{
    if (!cJSON_IsString(item))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a string", config->source, item->string);
    for (size_t i = 0; i < sizeof datasets / sizeof datasets[0]; i++) {
        if (strcasecmp(datasets[i], item->valuestring) == 0)
            config->dataset = datasets[i];
    }
    return HSTU_OK;
}

static hstu_status read_field(hs_config *config, const cJSON *item, const hs_key *key, hstu_error *err)
{
    void *field = (char *)config + key->offset;
    const char *source = config->source;
    switch (key->kind) {
    case HS_KEY_INT:
    case HS_KEY_COUNT:
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
        return read_dataset(config, item, err);
    case HS_KEY_FEATURE:
        return hs_features_read_name(field, item, source, err);
    case HS_KEY_CONTEXT:
        return hs_features_read_context(config, item, err);
    case HS_KEY_TABLES:
        return hs_features_read_table_list(config, item, err);
    case HS_KEY_HEAD:
        return hs_features_read_head(config, item, err);
    case HS_KEY_TABLE_OF:
        break;
    }
    return HSTU_OK;
}

hstu_status hs_config_read_key(hs_config *config, const cJSON *item, int row, hstu_error *err)
{
    const hs_key *key = &hs_key_table[row];
    /* The reference's gin files write -1 for a divisor that follows from other keys. */
    if (config->family == HS_CONFIG_RANKING && key->offset == offsetof(hs_config, attention_n) &&
        cJSON_IsNumber(item) && item->valuedouble == -1)
        return HSTU_OK;
    HS_TRY(read_field(config, item, key, err));
    hs_key_mark_given(config, row);
    return HSTU_OK;
}

/* A key and its synonym may both stand there when they agree. Lists and objects, which neither may be, are left to what reads
 * the key: comparing large objects takes time squared. */
static hstu_status refuse_contradiction(const cJSON *root, const hs_key *key, const char *source, hstu_error *err)
{
    if (!key->synonym)
        return HSTU_OK;
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(root, key->name);
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(root, key->synonym);
    if (!a || !b || cJSON_IsObject(a) || cJSON_IsArray(a) || cJSON_Compare(a, b, true))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "%s: '%s' and '%s' are one thing, but differ", source, key->name, key->synonym);
}

static hstu_status check_fixed(const hs_fixed_key *fixed, const cJSON *item, const char *source, hstu_error *err)
{
    cJSON *allowed = cJSON_Parse(fixed->allowed);
    if (!allowed)
        return hs_fail_nomem(err, strlen(fixed->allowed), source);
    bool found = false;
    const cJSON *value = NULL;
    cJSON_ArrayForEach(value, allowed) found = found || cJSON_Compare(value, item, true);
    cJSON_Delete(allowed);
    if (found)
        return HSTU_OK;
    return hs_fail(err, HSTU_EUNSUP, 0, "%s: this version runs only %s = %.*s%s%s%s", source, fixed->name,
        (int)strlen(fixed->allowed) - 2, fixed->allowed + 1, fixed->what ? "; another value asks for " : "",
        fixed->what ? fixed->what : "", fixed->what ? ", which is not supported" : "");
}

static hstu_status fail_unknown(const hs_config *config, const char *name, hstu_error *err)
{
    const int family = hs_key_family_of(name);
    if (family >= 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%.100s' is a key of the family \"%s\", and this one is \"%s\"",
            config->source, name, hs_family_names[family], hs_family_names[config->family]);
    const char *near = hs_key_nearest(name, config->family);
    if (near)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'; the nearest known key is '%s'", config->source,
            name, near);
    return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'", config->source, name);
}

hstu_status hs_config_read_member(hs_config *config, const cJSON *root, const cJSON *item, hstu_error *err)
{
    const int row = hs_key_find(item->string, config->family);
    if (row >= 0) {
        HS_TRY(refuse_contradiction(root, &hs_key_table[row], config->source, err));
        return hs_config_read_key(config, item, row, err);
    }
    const hs_fixed_key *fixed = hs_fixed_key_find(item->string, config->family);
    if (fixed)
        return check_fixed(fixed, item, config->source, err);
    if (hs_other_key_find(item->string, config->family))
        return HSTU_OK;
    return fail_unknown(config, item->string, err);
}
