/* Storages of a pickle grouped by the record that holds their bytes. */
#include "base/error.h"
#include "ckpt/pth_int.h"

#include <stdlib.h>
#include <string.h>

static int compare_keys(const hs_pkl_storage *a, const char *key, size_t key_bytes)
{
    const int order = memcmp(a->key, key, a->key_bytes < key_bytes ? a->key_bytes : key_bytes);
    return order ? order : (a->key_bytes > key_bytes) - (a->key_bytes < key_bytes);
}

static int compare_storages(const void *a, const void *b)
{
    const hs_pkl_storage *x = *(hs_pkl_storage *const *)a, *y = *(hs_pkl_storage *const *)b;
    return compare_keys(x, y->key, y->key_bytes);
}

hstu_status hs_pth_sort_storages(hs_pickle *pickle, const char *path, hstu_error *err)
{
    if (pickle->n_storages == 0)
        return HSTU_OK;
    qsort(pickle->storage, pickle->n_storages, sizeof *pickle->storage, compare_storages);
    for (size_t i = 1; i < pickle->n_storages; i++) {
        const hs_pkl_storage *a = pickle->storage[i - 1], *b = pickle->storage[i];
        if (compare_storages(&pickle->storage[i - 1], &pickle->storage[i]) != 0)
            continue;
        if (a->dtype != b->dtype || a->untyped != b->untyped || a->record_numel != b->record_numel)
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: the storage '%.*s' is declared as %lld x %s and as %lld x %s",
                path, b->key_bytes > 64 ? 64 : (int)b->key_bytes, b->key, (long long)a->record_numel,
                hs_dtype_name(a->dtype), (long long)b->record_numel, hs_dtype_name(b->dtype));
    }
    return HSTU_OK;
}

bool hs_pth_next_record(const hs_pickle *pickle, size_t *at, hs_pth_record *record)
{
    const size_t first = *at;
    if (first >= pickle->n_storages)
        return false;
    size_t end = first + 1;
    while (end < pickle->n_storages && compare_storages(&pickle->storage[first], &pickle->storage[end]) == 0)
        end++;
    *at = end;
    *record = (hs_pth_record){.storage = pickle->storage + first, .n = end - first};
    return true;
}

bool hs_pth_find_record(const hs_pickle *pickle, const char *key, size_t key_bytes, hs_pth_record *record)
{
    size_t low = 0, high = pickle->n_storages; /* the first storage that is not below the key */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_keys(pickle->storage[middle], key, key_bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < pickle->n_storages && compare_keys(pickle->storage[low], key, key_bytes) == 0 &&
           hs_pth_next_record(pickle, &low, record);
}

uint64_t hs_pth_record_bytes(const hs_pth_record *record)
{
    return (uint64_t)record->storage[0]->record_numel * hs_dtype_bytes(record->storage[0]->dtype);
}

void hs_pth_set_data(const hs_pth_record *record, const unsigned char *data)
{
    for (size_t i = 0; i < record->n; i++) {
        hs_pkl_storage *storage = record->storage[i];
        storage->data = data + (uint64_t)storage->first * hs_dtype_bytes(storage->dtype);
    }
}
