/* The names in a folder, sorted: what readdir gives depends on the file system. */
#include "base/folder.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static hstu_status add(hs_folder *folder, const char *path, const char *name, hstu_error *err)
{
    if (folder->n == HS_FOLDER_MAX_NAMES)
        return hs_fail(err, HSTU_EUNSUP, 0, "the folder '%s' holds more than %d names", path, HS_FOLDER_MAX_NAMES);
    if (folder->n == folder->cap) {
        const size_t cap = folder->cap ? 2 * folder->cap : 16;
        char **names = hs_realloc(folder->name, cap, sizeof *names);
        if (!names)
            return hs_fail_nomem(err, cap * sizeof *names, "the names of a folder");
        folder->name = names;
        folder->cap = cap;
    }
    folder->name[folder->n] = hs_strndup(name, strlen(name));
    if (!folder->name[folder->n])
        return hs_fail_nomem(err, strlen(name) + 1, "a name of a folder");
    folder->n++;
    return HSTU_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

hstu_status hs_folder_list(hs_folder *out, const char *path, hstu_error *err)
{
    hs_folder folder = {0};
    hstu_status status = HSTU_OK;
    DIR *dir = opendir(path);
    if (!dir)
        return hs_fail_errno(err, errno, "cannot list the folder '%s'", path);
    for (;;) {
        errno = 0;
        const struct dirent *item = readdir(dir);
        if (!item)
            break;
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            HS_TRY_GOTO(add(&folder, path, item->d_name, err));
    }
    if (errno != 0) {
        status = hs_fail_errno(err, errno, "cannot list the folder '%s'", path);
        goto fail;
    }
    (void)closedir(dir);
    if (folder.n)
        qsort(folder.name, folder.n, sizeof *folder.name, compare);
    *out = folder;
    return HSTU_OK;
fail:
    (void)closedir(dir);
    hs_folder_free(&folder);
    return status;
}

bool hs_folder_has(const hs_folder *folder, const char *name)
{
    return folder->n && bsearch(&name, folder->name, folder->n, sizeof *folder->name, compare);
}

hstu_status hs_folder_make(const char *path, hstu_error *err)
{
    hs_path part;
    HS_TRY(hs_path_join(&part, path, "", err)); /* ends with a '/' */
    for (char *slash = part.text + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        int code = mkdir(part.text, 0777) == 0 ? 0 : errno;
        if (code == EEXIST)
            code = hs_path_is_folder(part.text) ? 0 : ENOTDIR;
        if (code)
            return hs_fail_errno(err, code, "cannot make the folder '%s'", part.text);
        *slash = '/';
    }
    return HSTU_OK;
}

void hs_folder_free(hs_folder *folder)
{
    for (size_t i = 0; i < folder->n; i++)
        hs_free(folder->name[i]);
    hs_free(folder->name);
    *folder = (hs_folder){0};
}
