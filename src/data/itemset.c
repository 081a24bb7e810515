/* Distinct items. */
#include "data/itemset.h"

#include "base/alloc.h"
#include "base/system.h"

#include <string.h>

enum { FIRST_WORDS = 1 << 10, MIN_SLOTS = 1 << 10 };

/* Room for `word`; false without memory, or past max_words, which makes the set sparse. */
static bool grow(hs_itemset *set, size_t word)
{
    if (word >= set->max_words) {
        set->sparse = true;
        return false;
    }
    size_t n = set->n_words ? set->n_words : FIRST_WORDS;
    while (n <= word)
        n *= 2;
    n = n < set->max_words ? n : set->max_words;
    uint64_t *words = hs_realloc(set->word, n, sizeof *words);
    if (!words)
        return false;
    memset(words + set->n_words, 0, (n - set->n_words) * sizeof *words);
    set->word = words;
    set->n_words = n;
    return true;
}

bool hs_itemset_add(hs_itemset *set, const int64_t *id, size_t n)
{
    for (size_t i = 0; i < n && !set->sparse; i++) {
        const uint64_t word = (uint64_t)id[i] / 64;
        if (word >= set->n_words && !grow(set, word))
            return set->sparse;
        set->word[word] |= (uint64_t)1 << id[i] % 64;
    }
    return true;
}

bool hs_itemset_join(hs_itemset *set, const hs_itemset *other)
{
    set->sparse = set->sparse || other->sparse;
    if (set->sparse || other->n_words == 0)
        return true;
    if (other->n_words > set->n_words && !grow(set, other->n_words - 1))
        return set->sparse;
    for (size_t i = 0; i < other->n_words; i++)
        set->word[i] |= other->word[i];
    return true;
}

uint64_t hs_itemset_count(const hs_itemset *set)
{
    uint64_t n = 0;
    for (size_t i = 0; i < set->n_words; i++)
        n += (uint64_t)__builtin_popcountll(set->word[i]);
    return n;
}

void hs_itemset_free(hs_itemset *set)
{
    hs_free(set->word);
    *set = (hs_itemset){.max_words = set->max_words};
}

uint64_t hs_idbag_mix(const hs_idbag *bag, int64_t id)
{
    uint64_t x = (uint64_t)id ^ bag->seed;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

bool hs_idbag_init(hs_idbag *bag, size_t bytes)
{
    size_t n_slots = MIN_SLOTS;
    while (n_slots <= bytes / 2 / sizeof *bag->slot)
        n_slots *= 2;
    *bag = (hs_idbag){.slot = hs_alloc(n_slots, sizeof *bag->slot), .n_slots = n_slots, .seed = hs_system_seed()};
    if (!bag->slot)
        return false;
    hs_idbag_clear(bag);
    return true;
}

void hs_idbag_clear(hs_idbag *bag)
{
    bag->n = 0;
    memset(bag->slot, 0xff, bag->n_slots * sizeof *bag->slot);
}

bool hs_idbag_add(hs_idbag *bag, int64_t id, uint64_t mixed)
{
    size_t at = (size_t)mixed & (bag->n_slots - 1);
    while (bag->slot[at] >= 0 && bag->slot[at] != id)
        at = (at + 1) & (bag->n_slots - 1);
    if (bag->slot[at] == id)
        return true;
    if (bag->n >= bag->n_slots / 2)
        return false;
    bag->slot[at] = id;
    bag->n++;
    return true;
}

void hs_idbag_free(hs_idbag *bag)
{
    hs_free(bag->slot);
    *bag = (hs_idbag){0};
}
