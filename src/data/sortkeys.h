/* Stable sorting by 64-bit keys. */
#ifndef HS_DATA_SORTKEYS_H
#define HS_DATA_SORTKEYS_H

#include <stddef.h>
#include <stdint.h>

typedef struct hs_sort_key {
    uint64_t key, value; /* the value goes along */
} hs_sort_key;

/* Ascending; equal keys keep their order. spare: [n], overwritten. */
void hs_sort_keys(hs_sort_key *key, hs_sort_key *spare, size_t n);

#endif
