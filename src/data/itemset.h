/* Distinct items: a bit per id where ids are small. */
#ifndef HS_DATA_ITEMSET_H
#define HS_DATA_ITEMSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_itemset {
    uint64_t *word; /* [n_words], bit per id */
    size_t n_words, max_words;
    bool sparse; /* an id did not fit: the set says nothing */
} hs_itemset;    /* zeroed but for max_words: an empty one */

/* ids >= 0. False without memory. */
bool hs_itemset_add(hs_itemset *set, const int64_t *id, size_t n);
/* Adds the other one's ids. False without memory. */
bool hs_itemset_join(hs_itemset *set, const hs_itemset *other);
uint64_t hs_itemset_count(const hs_itemset *set);
void hs_itemset_free(hs_itemset *set);

/* Distinct ids of any size, at most as many as there was room for: open addressing, at most half full. */
typedef struct hs_idbag {
    int64_t *slot; /* [n_slots], -1: empty */
    size_t n_slots, n;
    uint64_t seed; /* so that nobody can choose ids that collide */
} hs_idbag;

/* As large as fits into `bytes`. False without memory. */
bool hs_idbag_init(hs_idbag *bag, size_t bytes);
void hs_idbag_clear(hs_idbag *bag);
/* Spreads ids evenly over 64 bits. */
uint64_t hs_idbag_mix(const hs_idbag *bag, int64_t id);
/* id >= 0, mixed: hs_idbag_mix of it. False when it is new and there is no room. */
bool hs_idbag_add(hs_idbag *bag, int64_t id, uint64_t mixed);
void hs_idbag_free(hs_idbag *bag);

#endif
