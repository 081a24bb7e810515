/* The safetensors format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
 * Source: the format's published description (huggingface.co/docs/safetensors). */
#ifndef HS_FILE_SAFETENSORS_H
#define HS_FILE_SAFETENSORS_H

#include "file/statedict.h"

#include <stddef.h>
#include <stdint.h>

/* True when the first bytes can only be a safetensors file: a plausible length followed by '{'. */
bool hs_safetensors_recognise(const hs_mapfile *map);

/* Reads a mapped file. On success *out owns `map` (zeroed in the caller); on failure the caller keeps it.
 * Refused with HSTU_EFORMAT: a header past 100 MB or past the file, invalid or duplicate JSON, unknown dtypes, a shape
 * whose byte count differs from its offsets, tensors that overlap, leave holes, or end before or after the file's end. */
hstu_status hs_safetensors_read(hs_statedict *out, hs_mapfile *map, const char *path, hstu_error *err);
/* Opens and reads. */
hstu_status hs_safetensors_open(hs_statedict *out, const char *path, hstu_error *err);

/* Writing: declare every tensor and metadata pair, then give the tensors' bytes in the order of declaration, in pieces of
 * any size. The file appears under its name at commit. Every name and value is copied. */
typedef struct hs_safetensors_writer hs_safetensors_writer;
hstu_status hs_safetensors_create(hs_safetensors_writer **out, const char *path, hstu_error *err);
hstu_status hs_safetensors_add_metadata(hs_safetensors_writer *w, const char *key, const char *value, hstu_error *err);
hstu_status hs_safetensors_add_tensor(
    hs_safetensors_writer *w, const char *name, hs_dtype dtype, int rank, const int64_t *shape, hstu_error *err);
/* The first call writes the header. HSTU_EINVAL when more bytes come than were declared. */
hstu_status hs_safetensors_write(hs_safetensors_writer *w, const void *data, size_t bytes, hstu_error *err);
/* Instead: the tensors' bytes in any order. Fixes where they lie, by the metadata there are now. */
hstu_status hs_safetensors_begin(hs_safetensors_writer *w, hstu_error *err);
/* After begin, from several threads at once: each byte once. tensor: by declaration, from 0; at: bytes of it before. */
hstu_status hs_safetensors_write_at(
    hs_safetensors_writer *w, size_t tensor, uint64_t at, const void *data, size_t bytes, hstu_error *err);
/* Another value for metadata that were added; after begin too. If the header comes to have another length, the commit moves all
 * bytes. */
hstu_status hs_safetensors_set_metadata(hs_safetensors_writer *w, const char *key, const char *value, hstu_error *err);
/* HSTU_EINVAL when bytes are missing. Frees w, on failure too. */
/* Flushes to the disk what a commit would, which then only renames. */
hstu_status hs_safetensors_finish(hs_safetensors_writer *w, hstu_error *err);
hstu_status hs_safetensors_commit(hs_safetensors_writer *w, hstu_error *err);
void hs_safetensors_discard(hs_safetensors_writer *w);

#endif
