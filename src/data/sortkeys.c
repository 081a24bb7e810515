/* Stable sorting: by insertion where there is little to sort, else by the bytes in which the keys differ, lowest first. */
#include "data/sortkeys.h"

#include <stdbool.h>
#include <string.h>

enum { FEW = 48, DIGITS = 256 };

/* False after `budget` moves: too far from sorted; what was done keeps the order of equal keys. */
static bool insert(hs_sort_key *key, size_t n, size_t budget)
{
    for (size_t i = 1; i < n; i++) {
        const hs_sort_key moved = key[i];
        size_t at = i;
        for (; at > 0 && key[at - 1].key > moved.key; at--)
            key[at] = key[at - 1];
        key[at] = moved;
        if (i - at > budget)
            return false;
        budget -= i - at;
    }
    return true;
}

/* One pass: from -> to by the byte at `shift`. */
static void distribute(hs_sort_key *to, const hs_sort_key *from, size_t n, unsigned shift)
{
    size_t next[DIGITS] = {0};
    for (size_t i = 0; i < n; i++)
        next[from[i].key >> shift & (DIGITS - 1)]++;
    size_t sum = 0;
    for (size_t d = 0; d < DIGITS; d++) {
        const size_t count = next[d];
        next[d] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        to[next[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
}

void hs_sort_keys(hs_sort_key *key, hs_sort_key *spare, size_t n)
{
    if (insert(key, n, n <= FEW ? SIZE_MAX : n))
        return;
    uint64_t differ = 0;
    for (size_t i = 1; i < n; i++)
        differ |= key[i].key ^ key[0].key;
    hs_sort_key *from = key, *to = spare;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((differ >> shift & (DIGITS - 1)) == 0)
            continue;
        distribute(to, from, n, shift);
        hs_sort_key *const swapped = from;
        from = to;
        to = swapped;
    }
    if (from != key)
        memcpy(key, from, n * sizeof *key);
}
