/* The files that an archive becomes: under temporary names until all of them are whole. */
#include "archive/unpack_int.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/folder.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Whether `folder` is a folder above `name`. */
static bool is_above(const char *folder, const char *name)
{
    const size_t n = strlen(folder);
    return strncmp(folder, name, n) == 0 && name[n] == '/';
}

static hstu_status check_new(const hs_unpack_files *files, const char *name, hstu_error *err)
{
    const hstu_unpack_options *o = files->options;
    for (size_t i = 0; i < files->n; i++) {
        const char *other = files->file[i].name;
        if (strcmp(other, name) == 0)
            return hs_fail(err, HSTU_EFORMAT, 0, "'%s' holds two files that would become '%s'", o->archive, name);
        if (is_above(other, name) || is_above(name, other))
            return hs_fail(err, HSTU_EFORMAT, 0, "'%s' holds '%s' as a file and as a folder", o->archive,
                is_above(other, name) ? other : name);
    }
    if (files->n >= o->max_files)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "'%s' holds more than %" PRIu64 " of the wanted files, the most that is allowed", o->archive, o->max_files);
    return HSTU_OK;
}

hstu_status hs_unpack_files_add(hs_unpack_files *files, const char *name, size_t pattern, hstu_error *err)
{
    HS_TRY(check_new(files, name, err));
    if (files->n == files->cap) {
        const size_t cap = files->cap ? 2 * files->cap : 16;
        hs_unpack_file *file = hs_realloc(files->file, cap, sizeof *file);
        if (!file)
            return hs_fail_nomem(err, cap * sizeof *file, "the list of files");
        files->file = file;
        files->cap = cap;
    }
    char *copy = hs_strndup(name, strlen(name));
    if (!copy)
        return hs_fail_nomem(err, strlen(name) + 1, "the name of a file");
    files->file[files->n++] = (hs_unpack_file){.name = copy, .pattern = pattern};
    return HSTU_OK;
}

/* Makes the folders above a file below the options' folder. They belong to the archive, and may not be links. */
static hstu_status make_folders(const char *folder, const char *name, hstu_error *err)
{
    hs_path path;
    HS_TRY(hs_folder_make(folder, err));
    HS_TRY(hs_path_join(&path, folder, name, err));
    for (char *slash = path.text + strlen(path.text) - strlen(name); (slash = strchr(slash, '/')); slash++) {
        struct stat st;
        *slash = '\0';
        if (mkdir(path.text, 0777) != 0 && errno != EEXIST)
            return hs_fail_errno(err, errno, "cannot make the folder '%s'", path.text);
        if (lstat(path.text, &st) != 0 || !S_ISDIR(st.st_mode))
            return hs_fail(err, HSTU_EIO, 0, "cannot unpack into '%s': it is no folder of its own", path.text);
        *slash = '/';
    }
    return HSTU_OK;
}

hstu_status hs_unpack_files_create(hs_unpack_files *files, hstu_error *err)
{
    const hstu_unpack_options *o = files->options;
    hs_unpack_file *file = &files->file[files->n - 1];
    struct stat st;
    hs_path path;
    HS_TRY(hs_path_join(&path, o->folder, file->name, err));
    HS_TRY(make_folders(o->folder, file->name, err));
    if (lstat(path.text, &st) == 0 && !S_ISREG(st.st_mode))
        return hs_fail(err, HSTU_EIO, 0, "cannot unpack '%s': it is there already, and no regular file", path.text);
    hs_outfile_sweep(path.text);
    return hs_outfile_open(&file->out, path.text, err);
}

/* The part of the folder's path that exists. */
static void existing_part(hs_path *path)
{
    struct stat st;
    while (path->text[0] && stat(path->text, &st) != 0) {
        char *slash = strrchr(path->text, '/');
        if (!slash || slash == path->text)
            memcpy(path->text, slash ? "/" : ".", 2);
        else
            *slash = '\0';
        if (!slash || path->text[1] == '\0')
            return;
    }
}

hstu_status hs_unpack_files_check_space(const hs_unpack_files *files, uint64_t bytes, hstu_error *err)
{
    hs_path path;
    struct statvfs disk;
    HS_TRY(hs_path_join(&path, files->options->folder, "", err));
    existing_part(&path);
    if (statvfs(path.text, &disk) != 0)
        return HSTU_OK; /* what cannot be told beforehand shows when it is written */
    const uint64_t blocks = (uint64_t)disk.f_bavail, block_bytes = (uint64_t)disk.f_frsize;
    if (!block_bytes || bytes / block_bytes < blocks)
        return HSTU_OK;
    return hs_fail(err, HSTU_EIO, 0,
        "too little space for the files of '%s': they need %" PRIu64 " bytes, and the disk of '%s' has %" PRIu64
        " free",
        files->options->archive, bytes, files->options->folder, blocks * block_bytes);
}

hstu_status hs_unpack_files_commit(hs_unpack_files *files, hstu_error *err)
{
    const size_t n_patterns = files->options->n_patterns;
    for (size_t pattern = 0; pattern == 0 || pattern < n_patterns; pattern++) {
        for (size_t i = 0; i < files->n; i++) {
            hs_outfile *out = files->file[i].out;
            if (files->file[i].pattern != pattern)
                continue;
            hs_path path;
            HS_TRY(hs_path_join(&path, files->options->folder, files->file[i].name, err));
            files->file[i].out = NULL;
            HS_TRY(hs_outfile_commit(out, err));
            if (files->options->named)
                files->options->named(files->options->named_ctx, path.text);
        }
    }
    return HSTU_OK;
}

void hs_unpack_files_discard(hs_unpack_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        hs_outfile_discard(files->file[i].out);
        hs_free(files->file[i].name);
    }
    hs_free(files->file);
    *files = (hs_unpack_files){.options = files->options};
}
