/* A temporary folder per test, and files in it. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "cmocka_all.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

typedef struct scratch {
    char folder[64];
    char path[512]; /* of the last scratch_path */
} scratch;

static inline void scratch_open(scratch *s)
{
    (void)snprintf(s->folder, sizeof s->folder, "/tmp/hstu_test_XXXXXX");
    assert_non_null(mkdtemp(s->folder));
}

/* <folder>/<name>, valid until the next call. */
static inline const char *scratch_path(scratch *s, const char *name)
{
    assert_true(snprintf(s->path, sizeof s->path, "%s/%s", s->folder, name) < (int)sizeof s->path);
    return s->path;
}

static inline void scratch_mkdir(scratch *s, const char *name)
{
    assert_int_equal(mkdir(scratch_path(s, name), 0700), 0);
}

static inline void scratch_write(scratch *s, const char *name, const void *data, size_t n)
{
    /* A new file each time: some file systems wait for the disk when a file is cut and written again. */
    (void)unlink(scratch_path(s, name));
    FILE *file = fopen(s->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void scratch_text(scratch *s, const char *name, const char *text)
{
    scratch_write(s, name, text, strlen(text));
}

/* mode "wb" starts a new file, "ab" adds a gzip member. */
static inline void scratch_gzip(scratch *s, const char *name, const char *mode, const void *data, size_t n)
{
    gzFile file = gzopen(scratch_path(s, name), mode);
    assert_non_null(file);
    assert_int_equal(gzwrite(file, data, (unsigned)n), (int)n);
    assert_int_equal(gzclose(file), Z_OK);
}

/* The whole file, with a NUL behind it; free it. */
static inline char *read_whole(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    assert_true(size >= 0);
    rewind(file);
    char *data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, file), (size_t)size);
    data[size] = '\0';
    *n = (size_t)size;
    (void)fclose(file);
    return data;
}

static inline void scratch_copy(scratch *s, const char *name, const char *from)
{
    size_t n = 0;
    char *data = read_whole(from, &n);
    scratch_write(s, name, data, n);
    free(data);
}

static inline bool scratch_exists(scratch *s, const char *name)
{
    return access(scratch_path(s, name), F_OK) == 0;
}

/* Entries of a folder, without "." and "..". */
static inline int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = -2;
    while (readdir(dir))
        n++;
    (void)closedir(dir);
    return n;
}

static inline void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char child[1024];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= (int)sizeof child)
            continue;
        if (lstat(child, &st) == 0 && S_ISDIR(st.st_mode))
            remove_folder(child);
        else
            (void)unlink(child);
    }
    if (dir)
        (void)closedir(dir);
    (void)rmdir(path);
}

static inline int scratch_setup(void **state)
{
    scratch *s = calloc(1, sizeof *s);
    scratch_open(s);
    *state = s;
    return 0;
}

static inline int scratch_teardown(void **state)
{
    scratch *s = *state;
    remove_folder(s->folder);
    free(s);
    return 0;
}

#endif
