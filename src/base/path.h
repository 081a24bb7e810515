/* File paths of bounded length, as values. */
#ifndef HS_BASE_PATH_H
#define HS_BASE_PATH_H

#include "hstu/status.h"

#include <stdbool.h>

typedef struct hs_path {
    char text[1024]; /* as long as the paths of hstu_preprocess_report */
} hs_path;

/* <folder>/<name>; HSTU_EINVAL when it is too long. `out` may be where `folder` lies. */
hstu_status hs_path_join(hs_path *out, const char *folder, const char *name, hstu_error *err);
bool hs_path_is_folder(const char *path);
/* Whether the file `path`, which need not exist, lies anywhere below `folder`, by links too. */
bool hs_path_is_inside(const char *folder, const char *path);
/* Behind the last '/'. */
const char *hs_path_base(const char *path);

#endif
