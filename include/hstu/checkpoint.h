/* Looking into weight files and checkpoint folders without running them, and converting them. */
#ifndef HSTU_CHECKPOINT_H
#define HSTU_CHECKPOINT_H

#include "hstu/dataset.h"
#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hstu_checkpoint hstu_checkpoint;

typedef enum hstu_tensor_use {
    HSTU_TENSOR_BOUND,   /* a weight of the model */
    HSTU_TENSOR_IGNORED, /* known and not needed: optimizer state, buffers that can be rebuilt */
    HSTU_TENSOR_EXTRA,   /* belongs to no weight of the recognised family: opening the model fails */
    HSTU_TENSOR_UNKNOWN  /* no family was recognised */
} hstu_tensor_use;

typedef struct hstu_tensor_info {
    const char *group, *name; /* group: the dictionary it stood in, "" for the root */
    const char *dtype;        /* "fp32", "bf16", "int64", ... */
    int rank;
    int64_t shape[8];
    uint64_t bytes; /* elements x element size */
    hstu_tensor_use use;
    const char *reason; /* why it is ignored; NULL otherwise */
    uint32_t file_rank; /* of a folder: it stands in torch_module/model.<file_rank>.pth; 0 for a file */
} hstu_tensor_info;

typedef struct hstu_checkpoint_info {
    const char *format;        /* "PyTorch zip", "PyTorch legacy", "safetensors", "NVIDIA checkpoint folder" */
    const char *family;        /* "retrieval HSTU", "retrieval SASRec", ..., or NULL */
    const char *not_supported; /* NULL, or why this build cannot run the family */
    uint64_t n_tensors, n_missing;
    uint64_t n_metadata; /* safetensors' __metadata__ pairs */
    /* Of a folder; NULL and 0 for a file. */
    const char *layout;                /* "FUSED", "NATIVE", "DEBUG": how its layers are laid out */
    uint32_t n_ranks, tensor_parallel; /* .pth files; over how many of them split weights are split */
    uint64_t n_tables;                 /* embedding tables */
} hstu_checkpoint_info;

/* An embedding table of a folder. */
typedef struct hstu_table_info {
    const char *name;    /* static tables in one tensor: all names with '/' between them */
    int is_dynamic;      /* keys and rows in files of their own */
    uint64_t rows, dim;  /* both 0 where the checkpoint does not tell them */
    uint64_t bytes;      /* of the rows */
    uint32_t world_size; /* ranks that wrote a dynamic table; 0: static, or named by the weights but without files */
} hstu_table_info;

/* Opens a PyTorch or safetensors file, recognised by content, or a checkpoint folder of NVIDIA's recsys-examples: the one
 * that holds torch_module, or one with exactly one such folder in it. config: a preset's name or a JSON or gin file, used to
 * tell which tensors are missing, and of a folder whether its tables fit; NULL: what a safetensors file carries in itself, else
 * every size comes from the tensors (those of a ranking model in one file do not tell its tables: then they are only listed).
 * Both texts are borrowed for the call. HSTU_ENOENT, HSTU_EIO, HSTU_EFORMAT, HSTU_EUNSUP, HSTU_ENOMEM; HSTU_EINVAL names both
 * sides when config and tensors contradict each other. The files stay mapped until close. A checkpoint is read-only: threads
 * may share it. */
HSTU_API hstu_status hstu_checkpoint_open(hstu_checkpoint **out, const char *path, const char *config, hstu_error *err);
HSTU_API void hstu_checkpoint_close(hstu_checkpoint *checkpoint); /* NULL is fine */

/* All text lives as long as the checkpoint. i counts from 0; HSTU_EINVAL past the end. */
HSTU_API void hstu_checkpoint_get_info(const hstu_checkpoint *checkpoint, hstu_checkpoint_info *info);
HSTU_API hstu_status hstu_checkpoint_tensor(
    const hstu_checkpoint *checkpoint, uint64_t i, hstu_tensor_info *info, hstu_error *err);
/* The i-th weight that the family needs and the file lacks: its name, and its shape where it is known (rank -1 if not). */
HSTU_API hstu_status hstu_checkpoint_missing(
    const hstu_checkpoint *checkpoint, uint64_t i, hstu_tensor_info *info, hstu_error *err);
/* The i-th embedding table of a folder. */
HSTU_API hstu_status hstu_checkpoint_table(
    const hstu_checkpoint *checkpoint, uint64_t i, hstu_table_info *info, hstu_error *err);
/* The i-th pair of a safetensors file's __metadata__. */
HSTU_API hstu_status hstu_checkpoint_metadata(
    const hstu_checkpoint *checkpoint, uint64_t i, const char **key, const char **value, hstu_error *err);
/* The configuration that the tensors (and config, if given) imply, as JSON text; NULL when no supported family was recognised,
 * and where a ranking model's tensors are only listed. */
HSTU_API const char *hstu_checkpoint_config(const hstu_checkpoint *checkpoint);

/* ---- Converting ------------------------------------------------------------------------------------------------- */

typedef struct hstu_convert_options {
    size_t size;        /* set by hstu_convert_options_init */
    const char *config; /* as in hstu_model_options; NULL: what opening `in` would take */
    const char *dtype;  /* how weights are stored: "fp32" (default), or "bf16", rounded to nearest even */
    hstu_progress progress;
} hstu_convert_options;

HSTU_API void hstu_convert_options_init(hstu_convert_options *options);
/* Writes the model of the weight file or checkpoint folder `in` as one safetensors file `out`: its weights and embedding tables
 * under their plain names and, under the metadata key "hstu_config", its whole configuration, so that `out` opens without
 * another file (docs/formats.md, 3.2). What opening `in` would refuse is refused with the same error. `out` appears under its
 * name when it is complete and is replaced where it exists; HSTU_EINVAL when it is a file that is read, or for a weight that
 * bf16 cannot hold. Tables may be larger than memory. A model opened from `out` answers as one opened from `in`, bit for bit;
 * with "bf16" as one whose fp32 weights were rounded. options NULL: the defaults. */
HSTU_API hstu_status hstu_checkpoint_convert(
    const char *in, const char *out, const hstu_convert_options *options, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
