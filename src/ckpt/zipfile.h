/* Stored (uncompressed) entries of a zip archive that lies in memory. The central directory alone says what the
 * archive holds: torch.save writes local headers without sizes. Source: PKWARE's APPNOTE, sections 4.3.7 to 4.3.16
 * and 4.5.3. */
#ifndef HS_CKPT_ZIPFILE_H
#define HS_CKPT_ZIPFILE_H

#include "base/arena.h"
#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hs_zip_entry {
    const char *name; /* name_bytes bytes without a NUL among or behind them; points into the archive */
    size_t name_bytes;
    uint64_t header_at; /* byte offset of the local header */
    uint64_t size;      /* bytes stored */
    uint32_t crc;       /* 0: none was written */
    uint16_t flags, method;
} hs_zip_entry;

typedef struct hs_zip {
    const char *path; /* for errors */
    const unsigned char *data;
    size_t size;
    uint64_t directory_at; /* the central directory's byte offset: no entry reaches past it */
    hs_zip_entry *entry;   /* [n_entries], sorted by name */
    size_t n_entries;
} hs_zip;

/* Reads the central directory; keeps data and path, allocates from `arena`. HSTU_EFORMAT: no end record at the very
 * end of the file, counts or offsets that contradict each other or the file, entries larger than the file together, an
 * empty name or one with a NUL, a name that stands twice; HSTU_EUNSUP: an archive in several parts. */
hstu_status hs_zip_open(
    hs_zip *out, hs_arena *arena, const unsigned char *data, size_t size, const char *path, hstu_error *err);
/* The entry named by exactly these bytes, or NULL. */
const hs_zip_entry *hs_zip_find(const hs_zip *zip, const char *name, size_t name_bytes);
/* *data: the entry's bytes in the archive (entry->size of them), after a check of its local header and its CRC.
 * HSTU_EUNSUP for compressed or encrypted entries, HSTU_EFORMAT for the rest. */
hstu_status hs_zip_read(const hs_zip *zip, const hs_zip_entry *entry, const unsigned char **data, hstu_error *err);

#endif
