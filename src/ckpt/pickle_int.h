/* The pickle reader's inside: pickle.c (opcodes), pklvalue.c (values and their memory), names.c (which names may
 * stand in a pickle), rebuild.c (what they become). */
#ifndef HS_CKPT_PICKLE_INT_H
#define HS_CKPT_PICKLE_INT_H

#include "base/error.h"
#include "ckpt/pickle.h"

typedef struct hs_pkl_reader {
    hs_pickle *out;
    const char *path;
    const unsigned char *data;
    size_t size, at; /* the next byte to read */
    size_t op_at;    /* the opcode at work, for errors */
    hstu_error *err;
    hs_pkl_object **stack;
    size_t n_stack, cap_stack;
    size_t *mark; /* stack heights; a pop never reaches below the topmost */
    size_t n_mark, cap_mark;
    hs_pkl_object **memo; /* by index; NULL where nothing was put */
    size_t cap_memo, n_memo;
    size_t cap_storage;
    char *slab; /* the rest of the arena block that small objects are cut from */
    size_t slab_bytes;
    bool out_of_memory;                             /* the last allocation failed though the limit allowed it */
    hs_pkl_object *none, *yes, *no, *inert, *empty; /* one of each is enough; empty: the tuple () */
} hs_pkl_reader;

/* ---- pklvalue.c ---- */

/* "<path>: pickle byte <op_at>: <sentence>". */
__attribute__((format(printf, 3, 4))) hstu_status hs_pkl_fail(
    const hs_pkl_reader *r, hstu_status code, const char *fmt, ...);
/* HSTU_EUNSUP: the pickle wants more memory than its length allows; HSTU_ENOMEM when it was allowed and is not there.
 * */
hstu_status hs_pkl_fail_memory(const hs_pkl_reader *r);
/* 16-byte aligned; NULL past the limit. */
void *hs_pkl_alloc(hs_pkl_reader *r, size_t n, size_t size);
/* A zeroed object; NULL past the limit. */
hs_pkl_object *hs_pkl_new(hs_pkl_reader *r, hs_pkl_kind kind);
/* Appends n items to a sequence or dictionary. */
hstu_status hs_pkl_extend(hs_pkl_reader *r, hs_pkl_object *seq, hs_pkl_object *const *item, size_t n);
/* Grows a heap array to hold n elements, n never more than the bytes read; HSTU_EUNSUP past 2 GiB. */
hstu_status hs_pkl_reserve(const hs_pkl_reader *r, void **array, size_t *cap, size_t n, size_t size);
bool hs_pkl_utf8(const char *text, size_t bytes);
/* Decodes a protocol 0 string (quoted, Python's escapes) or unicode string (\u escapes) into *out. */
hstu_status hs_pkl_unquote(hs_pkl_reader *r, const char *line, size_t bytes, hs_pkl_object **out);
hstu_status hs_pkl_unescape(hs_pkl_reader *r, const char *line, size_t bytes, hs_pkl_object **out);

/* ---- names.c ---- */

typedef enum hs_pkl_name {
    HS_PKL_NAME_INERT,
    HS_PKL_NAME_ORDERED_DICT,
    HS_PKL_NAME_DEFAULT_DICT,
    HS_PKL_NAME_SET,
    HS_PKL_NAME_SIZE,
    HS_PKL_NAME_TENSOR_TYPE,
    HS_PKL_NAME_REBUILD_TENSOR,
    HS_PKL_NAME_REBUILD_TENSOR_V2,
    HS_PKL_NAME_REBUILD_PARAMETER,
    HS_PKL_NAME_REBUILD_FROM_TYPE,
    HS_PKL_NAME_REBUILD_OTHER, /* tensors of kinds that are not supported */
    HS_PKL_NAME_UNTYPED_STORAGE,
    HS_PKL_NAME_STORAGE /* + hs_dtype */
} hs_pkl_name;

/* False when the name may not stand in a checkpoint. */
bool hs_pkl_name_find(int64_t *out, const char *module, size_t module_bytes, const char *name, size_t name_bytes);

/* ---- rebuild.c ---- */

/* The value that Python's callable(*args) would give, made without calling anything. */
hstu_status hs_pkl_call(
    hs_pkl_reader *r, const hs_pkl_object *callable, const hs_pkl_object *args, hs_pkl_object **out);
/* The storage that a persistent id stands for. */
hstu_status hs_pkl_persistent(hs_pkl_reader *r, const hs_pkl_object *id, hs_pkl_object **out);

#endif
