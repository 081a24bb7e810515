/* The names in a folder. */
#ifndef HS_BASE_FOLDER_H
#define HS_BASE_FOLDER_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { HS_FOLDER_MAX_NAMES = 1 << 20 };

typedef struct hs_folder {
    char **name; /* [n], sorted by bytes; without "." and ".." */
    size_t n, cap;
} hs_folder;

/* HSTU_ENOENT, or HSTU_EIO with the system's reason; HSTU_EUNSUP past HS_FOLDER_MAX_NAMES names. */
hstu_status hs_folder_list(hs_folder *out, const char *path, hstu_error *err);
bool hs_folder_has(const hs_folder *folder, const char *name);
/* Makes the folder, with those above it, where it is absent. HSTU_EIO or HSTU_ENOENT with the system's reason; HSTU_EINVAL for a path
 * that is too long. */
hstu_status hs_folder_make(const char *path, hstu_error *err);
/* Accepts a zeroed listing. */
void hs_folder_free(hs_folder *folder);

#endif
