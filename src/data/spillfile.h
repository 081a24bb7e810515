/* A temporary file without a name: it goes with the process, however that ends. */
#ifndef HS_DATA_SPILLFILE_H
#define HS_DATA_SPILLFILE_H

#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hs_spillfile hs_spillfile;

/* In `folder`. */
hstu_status hs_spillfile_open(hs_spillfile **out, const char *folder, hstu_error *err);
/* Room for `bytes` more bytes, from *at on. HSTU_EIO where the disk has less. */
hstu_status hs_spillfile_extend(hs_spillfile *file, uint64_t bytes, uint64_t *at, hstu_error *err);
/* Both from several threads at once. */
hstu_status hs_spillfile_write(hs_spillfile *file, uint64_t at, const void *data, size_t bytes, hstu_error *err);
hstu_status hs_spillfile_read(const hs_spillfile *file, uint64_t at, void *data, size_t bytes, hstu_error *err);
void hs_spillfile_close(hs_spillfile *file); /* NULL is fine */

/* HSTU_EIO when the file system that holds `folder` has less than `bytes` bytes left; what: "the sorted events". */
hstu_status hs_disk_check(const char *folder, uint64_t bytes, const char *what, hstu_error *err);

#endif
