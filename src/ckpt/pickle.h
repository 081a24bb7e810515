/* Python pickles, protocols 0 to 5, read as data. No name is imported and nothing is called: tensors, parameters,
 * ordered dictionaries and a few containers are known by name and become values of the kinds below, every other
 * permitted name becomes an inert object, and any name that is not permitted is refused. Source: CPython's
 * pickletools.py (opcodes), torch/_utils.py and torch/serialization.py (how PyTorch uses them). */
#ifndef HS_CKPT_PICKLE_H
#define HS_CKPT_PICKLE_H

#include "base/arena.h"
#include "hstu/status.h"
#include "tensor/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum hs_pkl_kind {
    HS_PKL_NONE,
    HS_PKL_BOOL,
    HS_PKL_INT,
    HS_PKL_LONG,  /* an integer past 64 bits: its two's complement bytes, or its digits */
    HS_PKL_FLOAT, /* whatever its value */
    HS_PKL_STR,
    HS_PKL_BYTES,
    HS_PKL_TUPLE,
    HS_PKL_LIST,
    HS_PKL_SET,
    HS_PKL_DICT,
    HS_PKL_GLOBAL,
    HS_PKL_STORAGE,
    HS_PKL_TENSOR,
    HS_PKL_INERT
} hs_pkl_kind;

/* One persistent id: elements first .. first + numel - 1 of the record `key`, which holds record_numel elements. */
typedef struct hs_pkl_storage {
    const char *key; /* key_bytes bytes, not NUL-terminated */
    size_t key_bytes;
    hs_dtype dtype;
    bool untyped; /* torch.UntypedStorage: bytes; no tensor can be made of it */
    int64_t record_numel;
    int64_t first, numel;
    const unsigned char *data; /* element `first`; NULL until the container's reader finds the record */
} hs_pkl_storage;

/* Checked against its storage: every element lies inside. */
typedef struct hs_pkl_tensor {
    const hs_pkl_storage *storage;
    int64_t offset; /* in elements, from the storage's first */
    hs_tensor view; /* data is NULL */
} hs_pkl_tensor;

typedef struct hs_pkl_object {
    hs_pkl_kind kind;
    bool on_path, barren; /* for walks, which must neither loop nor repeat: false when the pickle has been read */
    union {
        int64_t integer; /* HS_PKL_BOOL, HS_PKL_INT */
        struct {
            int64_t id;       /* of names.c */
            const char *name; /* not NUL-terminated, without the module */
            size_t bytes;
        } global; /* HS_PKL_GLOBAL */
        struct {
            const char *text; /* not NUL-terminated; in the pickle or in its arena */
            size_t bytes;
        } string; /* HS_PKL_STR (valid UTF-8), HS_PKL_BYTES, HS_PKL_LONG; HS_PKL_INERT: what it was made with when
                     it stands for a tensor of a kind that is not supported, else empty */
        struct {
            struct hs_pkl_object **item; /* HS_PKL_DICT: key, value, key, value ... as they were set */
            size_t n, cap;
        } seq; /* HS_PKL_TUPLE, HS_PKL_LIST, HS_PKL_SET, HS_PKL_DICT */
        hs_pkl_storage *storage;
        hs_pkl_tensor *tensor;
    } as;
} hs_pkl_object;

typedef struct hs_pickle {
    hs_arena arena; /* every object: freed at once, whatever they refer to */
    hs_pkl_object *root;
    hs_pkl_storage **storage; /* [n_storages] of every persistent id, in order of appearance */
    size_t n_storages;
    size_t bytes; /* length of the pickle, STOP included */
} hs_pickle;

/* Reads the pickle at the start of data[0 .. size); keeps data. Its objects get at most 64 bytes a byte read, plus
 * 16 MiB, and 2 GiB in all. HSTU_EFORMAT for anything malformed, HSTU_EUNSUP for what is valid and refused. */
hstu_status hs_pickle_read(hs_pickle *out, const unsigned char *data, size_t size, const char *path, hstu_error *err);
/* Accepts a zeroed pickle. */
void hs_pickle_close(hs_pickle *pickle);

/* The value of a dictionary's last item with this text as key, or NULL. */
const hs_pkl_object *hs_pkl_get(const hs_pkl_object *dict, const char *key);

#endif
