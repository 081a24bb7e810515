/* The bytes of a plain or gzip file as a window that slides forward: the whole map of a plain file, a bounded buffer of
 * a compressed one. Hashes the file's own bytes on the way, while they are in the cache. */
#ifndef HS_DATA_BYTESOURCE_H
#define HS_DATA_BYTESOURCE_H

#include "base/mapfile.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_bytesource hs_bytesource;

/* Opens `path` and recognises gzip by its first two bytes. max_window_bytes bounds a compressed file's buffer. */
hstu_status hs_bytesource_open(hs_bytesource **out, const char *path, size_t max_window_bytes, hstu_error *err);
void hs_bytesource_close(hs_bytesource *source); /* NULL is fine */

/* The bytes at hand, from the first that was not consumed. Stays valid until the next call of consume or more. */
const char *hs_bytesource_window(const hs_bytesource *source, size_t *size);
/* True when no byte follows the window. */
bool hs_bytesource_at_end(const hs_bytesource *source);
/* Drops the window's first n bytes. */
void hs_bytesource_consume(hs_bytesource *source, size_t n);
/* Lengthens the window. HSTU_EFORMAT for damaged gzip data and for a window that reaches its limit. Not at the end. */
hstu_status hs_bytesource_more(hs_bytesource *source, hstu_error *err);

/* Bytes of the file that are behind us (compressed bytes for gzip), and its size. */
uint64_t hs_bytesource_done_bytes(const hs_bytesource *source);
uint64_t hs_bytesource_file_bytes(const hs_bytesource *source);
/* XXH3 (64 bits, seed 0) of the whole file; hashes what was not read yet. */
uint64_t hs_bytesource_hash(hs_bytesource *source);

#endif
