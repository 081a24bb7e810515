/* The bytes of a plain or gzip file as a window that slides forward over a bounded buffer. Hashes the file's own bytes on the
 * way, while they are in the cache. */
#ifndef HS_DATA_BYTESOURCE_H
#define HS_DATA_BYTESOURCE_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_bytesource hs_bytesource;

/* Opens `path`, a regular file, and recognises gzip by its first two bytes. max_window_bytes bounds the window. */
hstu_status hs_bytesource_open(hs_bytesource **out, const char *path, size_t max_window_bytes, hstu_error *err);
/* Bytes in memory, borrowed until close: all of them are the window. */
hstu_status hs_bytesource_open_memory(hs_bytesource **out, const char *text, size_t bytes, hstu_error *err);
void hs_bytesource_close(hs_bytesource *source); /* NULL is fine */
/* From here on nothing is hashed: the file's hash is not wanted. */
void hs_bytesource_no_hash(hs_bytesource *source);

/* The bytes at hand, from the first that was not consumed. Stays valid until the next call of consume or more. */
const char *hs_bytesource_window(const hs_bytesource *source, size_t *size);
/* True when no byte follows the window. */
bool hs_bytesource_at_end(const hs_bytesource *source);
/* Drops the window's first n bytes. */
void hs_bytesource_consume(hs_bytesource *source, size_t n);
/* Lengthens the window. HSTU_EFORMAT for damaged gzip data and for a window that reaches its limit. Not at the end. */
hstu_status hs_bytesource_more(hs_bytesource *source, hstu_error *err);
/* Past the window: consumes it and what follows into `to`, up to `room` bytes and as many as there are. */
hstu_status hs_bytesource_read(hs_bytesource *source, char *to, size_t room, size_t *n, hstu_error *err);

/* Bytes of the file that were read (compressed bytes for gzip), and its size. */
uint64_t hs_bytesource_done_bytes(const hs_bytesource *source);
uint64_t hs_bytesource_file_bytes(const hs_bytesource *source);
/* XXH3 (64 bits, seed 0) of the whole file; reads what was not read yet. */
uint64_t hs_bytesource_hash(hs_bytesource *source);

#endif
