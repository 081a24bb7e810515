/* File paths of bounded length. */
#include "base/path.h"

#include "base/error.h"

#include <stdio.h>
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

const char *hs_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
