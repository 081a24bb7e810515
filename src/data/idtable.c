/* Distinct 64-bit ids: a hash table with open addressing, at most half full. */
#include "data/idtable.h"

#include "base/alloc.h"

enum { FIRST_SLOTS = 1024 };

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

/* The slot that holds `id`, or the empty one where it belongs. */
static size_t probe(const hs_idtable *table, int64_t id)
{
    const size_t mask = table->n_slots - 1;
    size_t i = (size_t)mix((uint64_t)id) & mask;
    while (table->slot[i] && table->id[table->slot[i] - 1] != id)
        i = (i + 1) & mask;
    return i;
}

static bool grow(hs_idtable *table)
{
    const size_t n_slots = table->n_slots ? table->n_slots * 2 : FIRST_SLOTS;
    int64_t *id = hs_realloc(table->id, n_slots / 2, sizeof *id);
    if (!id)
        return false;
    table->id = id;
    uint32_t *slot = hs_calloc(n_slots, sizeof *slot);
    if (!slot)
        return false;
    hs_free(table->slot);
    table->slot = slot;
    table->n_slots = n_slots;
    for (size_t number = 0; number < table->n; number++)
        slot[probe(table, id[number])] = (uint32_t)number + 1;
    return true;
}

bool hs_idtable_add(hs_idtable *table, int64_t id, uint32_t *number)
{
    if (table->n == table->n_slots / 2 && (table->n >= INT32_MAX || !grow(table)))
        return false;
    const size_t i = probe(table, id);
    if (!table->slot[i]) {
        table->id[table->n] = id;
        table->slot[i] = (uint32_t)++table->n;
    }
    *number = table->slot[i] - 1;
    return true;
}

void hs_idtable_free(hs_idtable *table)
{
    hs_free(table->id);
    hs_free(table->slot);
    *table = (hs_idtable){0};
}
