/* Named tensors that lie in a mapped file: what every weight and sequence file becomes, whatever its format. */
#ifndef HS_FILE_STATEDICT_H
#define HS_FILE_STATEDICT_H

#include "base/arena.h"
#include "base/mapfile.h"
#include "tensor/tensor.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct hs_entry {
    const char *group; /* where the innermost dictionary stood: "" for the root, else its keys joined by '.', e.g.
                          "model_state_dict" or "optimizer_state_dict.state.0" */
    const char *name;  /* the key in that dictionary, as stored: "module._hstu._attention_layers.0._uvqk" */
    hs_tensor tensor;
} hs_entry;

typedef struct hs_metadata {
    const char *key, *value;
} hs_metadata;

/* Owned by whoever opened it; every pointer inside lives until hs_statedict_close. */
typedef struct hs_statedict {
    const char *format; /* static: "safetensors", "PyTorch zip", "PyTorch legacy" */
    const char *path;
    hs_entry *entry; /* [n_entries], in file order */
    size_t n_entries;
    hs_metadata *metadata; /* [n_metadata]: safetensors' __metadata__; none for PyTorch files */
    size_t n_metadata;
    size_t n_unread;                       /* tensors of kinds that are not supported: they are no entries */
    const char *unread_name, *unread_kind; /* of the first: its name, the class or function that makes it */
    hs_mapfile map;
    hs_arena arena; /* entries, names, metadata, and the tensors that had to be copied */
} hs_statedict;

/* The first entry with this group and name, or NULL. Linear: for binding at load time, not for hot paths. */
const hs_entry *hs_statedict_find(const hs_statedict *dict, const char *group, const char *name);
/* The value of a metadata key, or NULL. */
const char *hs_statedict_metadata(const hs_statedict *dict, const char *key);
/* When a weight is missing: adds to the sentence of `err` (NULL is fine) that tensors were not read, if any were not. */
void hs_statedict_mention_unread(const hs_statedict *dict, hstu_error *err);
/* Accepts a zeroed dictionary. */
void hs_statedict_close(hs_statedict *dict);

#endif
