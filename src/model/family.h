/* Which model a file of named tensors holds. Names of the families' tensors: docs/formats.md. */
#ifndef HS_MODEL_FAMILY_H
#define HS_MODEL_FAMILY_H

#include "file/statedict.h"
#include "model/config.h"

typedef enum hs_family {
    HS_FAMILY_UNKNOWN,
    HS_FAMILY_HSTU,    /* Meta's research HSTU, retrieval */
    HS_FAMILY_SASREC,  /* its published baseline */
    HS_FAMILY_RANKING, /* NVIDIA's ranking model */
    HS_FAMILY_NV_RETRIEVAL,
    HS_FAMILY_DLRM_V3,
    HS_FAMILY_DECODER
} hs_family;

typedef struct hs_recognised {
    hs_family family;
    const char *name;          /* "retrieval HSTU"; NULL when unknown */
    const char *not_supported; /* NULL, or why this version cannot run it */
    const char *group;         /* the dictionary that holds the weights, as in hs_entry.group */
} hs_recognised;

/* The configuration's family of a model family that this version runs; retrieval for any other. */
hs_config_family hs_family_config(hs_family family);

/* Looks at the usual dictionaries of a checkpoint, the first that holds a known family. */
hs_recognised hs_family_recognise(const hs_statedict *dict);

/* The name behind the wrappers' prefixes "module.", "_orig_mod." and "model.", however many there are. */
const char *hs_family_peel(const char *name);

/* The number in "<prefix><number>.<rest>", or -1; *rest points at <rest>. At most 9 digits. */
int64_t hs_family_layer(const char *name, const char *prefix, const char **rest);

#endif
