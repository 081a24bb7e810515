/* Finding configuration keys by name, and the nearest name of a misspelt one. */
#include "model/config.h"
#include "model/config_keys.h"

#include <string.h>

unsigned hs_key_families(int family)
{
    switch (family) {
    case HS_CONFIG_RANKING:
        return HS_KEY_RANKING;
    case HS_CONFIG_DECODER:
        return HS_KEY_DECODER;
    default:
        return HS_KEY_RETRIEVAL;
    }
}

unsigned hs_key_families_of(const hs_config *config)
{
    if (config->family != HS_CONFIG_RETRIEVAL)
        return hs_key_families(config->family);
    return config->main_module == HS_MODULE_SASREC ? HS_KEY_SASREC : HS_KEY_HSTU;
}

int hs_key_find(const char *name, int family)
{
    for (int i = 0; hs_key_table[i].name; i++) {
        const hs_key *key = &hs_key_table[i];
        if ((key->families & hs_key_families(family)) &&
            (strcmp(key->name, name) == 0 || (key->synonym && strcmp(key->synonym, name) == 0)))
            return i;
    }
    return -1;
}

bool hs_key_is_given(const hs_config *config, int row)
{
    return row >= 0 && (config->given[row / 64] >> (row % 64) & 1) != 0;
}

void hs_key_mark_given(hs_config *config, int row)
{
    if (row >= 0)
        config->given[row / 64] |= UINT64_C(1) << (row % 64);
}

int hs_key_spelling(const char *choice)
{
    return (int)strcspn(choice, "|");
}

const hs_fixed_key *hs_fixed_key_find(const char *name, int family)
{
    for (const hs_fixed_key *key = hs_fixed_key_table; key->name; key++) {
        if ((key->families & hs_key_families(family)) && strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

bool hs_other_key_find(const char *name, int family)
{
    for (const hs_other_key *key = hs_other_keys; key->name; key++) {
        if ((key->families & hs_key_families(family)) && strcmp(key->name, name) == 0)
            return true;
    }
    return false;
}

int hs_key_family_of(const char *name)
{
    for (int family = 0; hs_family_names[family]; family++) {
        if (hs_key_find(name, family) >= 0 || hs_fixed_key_find(name, family) || hs_other_key_find(name, family))
            return family;
    }
    return -1;
}

/* Levenshtein distance, by rows; anything longer than the tables' names counts as far away. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 48 };
    const size_t na = strlen(a), nb = strlen(b);
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t swap = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] : row[j - 1];
            best++;
            row[j] = swap < best ? swap : best;
        }
    }
    return row[nb];
}

hs_nearest hs_nearest_make(const char *name)
{
    return (hs_nearest){.name = name, .distance = 1 + strlen(name) / 2};
}

void hs_nearest_consider(hs_nearest *nearest, const char *known)
{
    const size_t d = distance(nearest->name, known);
    if (d < nearest->distance) {
        nearest->best = known;
        nearest->distance = d;
    }
}

const char *hs_key_nearest(const char *name, int family)
{
    const unsigned families = hs_key_families(family);
    hs_nearest nearest = hs_nearest_make(name);
    for (const hs_key *key = hs_key_table; key->name; key++) {
        if (!(key->families & families))
            continue;
        hs_nearest_consider(&nearest, key->name);
        if (key->synonym)
            hs_nearest_consider(&nearest, key->synonym);
    }
    for (const hs_fixed_key *key = hs_fixed_key_table; key->name; key++) {
        if (key->families & families)
            hs_nearest_consider(&nearest, key->name);
    }
    for (const hs_other_key *key = hs_other_keys; key->name; key++) {
        if (key->families & families)
            hs_nearest_consider(&nearest, key->name);
    }
    return nearest.best;
}
