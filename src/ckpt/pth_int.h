/* The PyTorch reader's inside: pth.c (recognition and the zip container), pthlegacy.c (the container before PyTorch
 * 1.6), pthstorage.c (storages and their bytes), pthwalk.c (objects to named tensors). */
#ifndef HS_CKPT_PTH_INT_H
#define HS_CKPT_PTH_INT_H

#include "ckpt/pickle.h"
#include "file/statedict.h"

/* All storages of a pickle that name the same record. */
typedef struct hs_pth_record {
    hs_pkl_storage **storage; /* [n] */
    size_t n;
} hs_pth_record;

/* Sorts the pickle's storages by key, so that each record's stand together, and refuses two that disagree on type or
 * size. Keys in errors are cut to 64 bytes. */
hstu_status hs_pth_sort_storages(hs_pickle *pickle, const char *path, hstu_error *err);
/* The record whose first storage is pickle->storage[*at]; *at moves behind it. False at the end. */
bool hs_pth_next_record(const hs_pickle *pickle, size_t *at, hs_pth_record *record);
/* The record with this key; false when no storage names it. */
bool hs_pth_find_record(const hs_pickle *pickle, const char *key, size_t key_bytes, hs_pth_record *record);
uint64_t hs_pth_record_bytes(const hs_pth_record *record);
void hs_pth_set_data(const hs_pth_record *record, const unsigned char *data);

/* Names every tensor that dictionaries, lists and tuples reach from the root. out: a zeroed dictionary, closed on
 * failure. A container inside itself is not entered again; one that stands in several places gives entries in each,
 * up to 65536 plus one for every 4 bytes of pickle. HSTU_EFORMAT when two tensors get the same name, HSTU_EUNSUP past
 * the limits. */
hstu_status hs_pth_walk(hs_statedict *out, const hs_pickle *pickle, const char *path, hstu_error *err);

/* True when the bytes begin with the legacy container's magic number. */
bool hs_pth_is_legacy(const unsigned char *data, size_t size);
/* Reads the legacy container's pickles and finds its storages. */
hstu_status hs_pth_read_legacy(
    hs_pickle *out, const unsigned char *data, size_t size, const char *path, hstu_error *err);

#endif
