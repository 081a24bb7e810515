/* PyTorch checkpoints (torch.save, zip and legacy container) as named tensors. The pickle inside is interpreted as data:
 * nothing in it is imported, called or executed. Facts: docs/formats.md. */
#ifndef HS_CKPT_PTH_H
#define HS_CKPT_PTH_H

#include "file/statedict.h"

/* Reads a mapped file. On success *out owns `map` (zeroed in the caller); on failure the caller keeps it.
 * HSTU_EFORMAT for anything malformed, HSTU_EUNSUP for valid files that hold what is refused (a name outside the known
 * ones, compressed entries, big-endian data), each naming the file and the reason. */
hstu_status hs_pth_read(hs_statedict *out, hs_mapfile *map, const char *path, hstu_error *err);

/* Opens any weight file, recognised by content: PyTorch zip, PyTorch legacy, or safetensors. A Git LFS pointer, an empty
 * file or anything else is an error that says what was found. */
hstu_status hs_ckpt_open(hs_statedict *out, const char *path, hstu_error *err);

#endif
