/* File paths of bounded length. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "base/path.h"

#include "base/error.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

hstu_status hs_path_join(hs_path *out, const char *folder, const char *name, hstu_error *err)
{
    hs_path joined;
    const size_t len = strlen(folder);
    const char *slash = len && folder[len - 1] == '/' ? "" : "/";
    const int n = snprintf(joined.text, sizeof joined.text, "%s%s%s", folder, slash, name);
    if (n < 0 || (size_t)n >= sizeof joined.text)
        return hs_fail(err, HSTU_EINVAL, 0, "the path of '%s' is longer than %zu bytes", name, sizeof joined.text - 1);
    *out = joined;
    return HSTU_OK;
}

bool hs_path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool hs_path_is_inside(const char *folder, const char *path)
{
    char top[PATH_MAX], where[PATH_MAX];
    const size_t n_parent = (size_t)(hs_path_base(path) - path);
    if (!realpath(folder, top) || strlen(path) >= sizeof where)
        return false;
    if (!realpath(path, where)) { /* a file that is not there yet is where its folder is */
        char parent[PATH_MAX] = ".";
        if (n_parent) {
            memcpy(parent, path, n_parent);
            parent[n_parent] = '\0';
        }
        if (!realpath(parent, where))
            return false;
    }
    const size_t n = strlen(top);
    return strncmp(where, top, n) == 0 && (top[n - 1] == '/' || where[n] == '/' || where[n] == '\0');
}

const char *hs_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
