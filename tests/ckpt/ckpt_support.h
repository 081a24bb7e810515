/* What the weight-file tests share: whole files in memory, temporary files, folders of golden files. */
#ifndef TESTS_CKPT_CKPT_SUPPORT_H
#define TESTS_CKPT_CKPT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

/* The caller frees data. */
static inline bytes read_whole(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    bytes b = {.data = malloc(1 << 22)};
    b.size = fread(b.data, 1, 1 << 22, file);
    assert_true(b.size < 1 << 22);
    fclose(file);
    return b;
}

/* A temporary file with this content; `path` gets its name. */
static inline void write_temporary(char path[64], const void *data, size_t size)
{
    snprintf(path, 64, "/tmp/hstu_test_XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

/* Calls each(path, stem) for every "<stem><suffix>" of a folder; returns how many. */
static inline int for_each_file(
    const char *folder, const char *suffix, void (*each)(const char *path, const char *folder, const char *stem))
{
    DIR *dir = opendir(folder);
    if (!dir)
        fail_msg("cannot open the folder %s", folder);
    int n = 0;
    for (struct dirent *item = readdir(dir); item; item = readdir(dir)) {
        const size_t length = strlen(item->d_name), suffix_length = strlen(suffix);
        if (length <= suffix_length || strcmp(item->d_name + length - suffix_length, suffix) != 0)
            continue;
        char path[512], stem[256];
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        snprintf(stem, sizeof stem, "%.*s", (int)(length - suffix_length), item->d_name);
        each(path, folder, stem);
        n++;
    }
    closedir(dir);
    return n;
}

#endif
