/* Archives made by hand, byte by byte, so that they can be wrong in any way; and folders for what comes out of them. */
#ifndef TESTS_ARCHIVE_BYTES_H
#define TESTS_ARCHIVE_BYTES_H

#include "hstu/archive.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

typedef struct bytes {
    unsigned char *data;
    size_t n, cap;
} bytes;

static inline void put(bytes *b, const void *data, size_t n)
{
    while (b->n + n > b->cap) {
        b->cap = b->cap ? 2 * b->cap : 4096;
        b->data = realloc(b->data, b->cap);
        assert_non_null(b->data);
    }
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

static inline void put_zeros(bytes *b, size_t n)
{
    static const char zeros[512];
    for (; n > sizeof zeros; n -= sizeof zeros)
        put(b, zeros, sizeof zeros);
    put(b, zeros, n);
}

static inline void put_le(bytes *b, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)(value >> (8 * i));
        put(b, &byte, 1);
    }
}

static inline void put_free(bytes *b)
{
    free(b->data);
    *b = (bytes){0};
}

/* ---- tar ---- */

/* One ustar header; returns where it begins. type '0' file, '1' hard link, '2' link, '3' device, '5' folder, '6' pipe. */
static inline size_t tar_header(bytes *b, const char *name, char type, uint64_t size, const char *link)
{
    char h[512] = {0};
    const size_t at = b->n;
    assert_true(strlen(name) <= 100);
    memcpy(h, name, strlen(name));
    (void)snprintf(h + 100, 8, "%07o", 0777);
    (void)snprintf(h + 108, 8, "%07o", 0);
    (void)snprintf(h + 116, 8, "%07o", 0);
    for (int i = 0; i < 11; i++)
        h[124 + i] = (char)('0' + (size >> (3 * (10 - i)) & 7));
    (void)snprintf(h + 136, 12, "%011o", 1);
    h[156] = type;
    if (link)
        memcpy(h + 157, link, strlen(link));
    memcpy(h + 257, "ustar\00000", 8);
    put(b, h, sizeof h);
    return at;
}

/* Sets the checksum of the header at `at`: after the last change to it. */
static inline void tar_sum(bytes *b, size_t at)
{
    unsigned sum = 0;
    memset(b->data + at + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += b->data[at + i];
    (void)snprintf((char *)b->data + at + 148, 8, "%06o", sum);
}

static inline void tar_data(bytes *b, const void *data, size_t n)
{
    put(b, data, n);
    put_zeros(b, (512 - n % 512) % 512);
}

static inline void tar_entry(bytes *b, const char *name, char type, const char *link)
{
    tar_sum(b, tar_header(b, name, type, 0, link));
}

static inline void tar_file(bytes *b, const char *name, const char *text)
{
    tar_sum(b, tar_header(b, name, '0', strlen(text), NULL));
    tar_data(b, text, strlen(text));
}

/* A pax header with one record in front of the next entry. */
static inline void tar_pax(bytes *b, const char *key, const char *value)
{
    char record[2048];
    size_t n = strlen(key) + strlen(value) + 3; /* blank, '=' and line end, then the digits of the length itself */
    n += n + 1 < 10 ? 1 : n + 2 < 100 ? 2 : n + 3 < 1000 ? 3 : 4;
    (void)snprintf(record, sizeof record, "%zu %s=%s\n", n, key, value);
    assert_int_equal(strlen(record), n);
    tar_sum(b, tar_header(b, "pax", 'x', n, NULL));
    tar_data(b, record, n);
}

static inline void tar_gnu_long_name(bytes *b, const char *name)
{
    tar_sum(b, tar_header(b, "././@LongLink", 'L', strlen(name) + 1, NULL));
    tar_data(b, name, strlen(name) + 1);
}

static inline void tar_end(bytes *b)
{
    put_zeros(b, 1024);
}

/* Appends `data` as one gzip member. */
static inline void gzip(bytes *b, const void *data, size_t n)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t room = deflateBound(&z, (uLong)n);
    unsigned char *out = malloc(room);
    assert_non_null(out);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    put(b, out, room - z.avail_out);
    (void)deflateEnd(&z);
    free(out);
}

/* Ends the tar and packs it in place. */
static inline void tar_gz(bytes *b)
{
    bytes packed = {0};
    tar_end(b);
    gzip(&packed, b->data, b->n);
    put_free(b);
    *b = packed;
}

/* ---- zip ---- */

typedef struct zip_entry {
    const char *name;
    const char *text;
    bool deflated;
    unsigned flags;          /* bit 0: encrypted; bit 11: the name is UTF-8 */
    unsigned mode;           /* Unix mode; 0: 0100644 */
    const char *local_name;  /* of the local header, where it differs */
    uint32_t local_size_add; /* what the local header's size is wrong by */
    uint32_t crc_xor;        /* what both checksums are wrong by */
} zip_entry;

static inline void zip_header(bytes *b, const zip_entry *e, bool local, uint32_t crc, size_t packed, uint32_t at)
{
    const char *name = local && e->local_name ? e->local_name : e->name;
    const size_t size = strlen(e->text) + (local ? e->local_size_add : 0);
    put(b, local ? "PK\3\4" : "PK\1\2", 4);
    if (!local)
        put_le(b, 3 << 8 | 20, 2); /* made on Unix */
    put_le(b, 20, 2);
    put_le(b, e->flags, 2);
    put_le(b, e->deflated ? 8 : 0, 2);
    put_le(b, 0, 4);
    put_le(b, crc, 4);
    put_le(b, packed, 4);
    put_le(b, size, 4);
    put_le(b, strlen(name), 2);
    put_le(b, 0, 2);
    if (!local) {
        put_le(b, 0, 6);
        put_le(b, (uint64_t)(e->mode ? e->mode : 0100644) << 16, 4);
        put_le(b, at, 4);
    }
    put(b, name, strlen(name));
}

static inline void zip(bytes *b, const zip_entry *entry, size_t n)
{
    bytes central = {0};
    for (size_t i = 0; i < n; i++) {
        const zip_entry *e = &entry[i];
        const size_t len = strlen(e->text), at = b->n;
        const uint32_t crc = (uint32_t)crc32(0, (const Bytef *)e->text, (uInt)len) ^ e->crc_xor;
        bytes packed = {0};
        if (e->deflated) { /* raw deflate is what lies between gzip's 10 bytes and 8 bytes */
            gzip(&packed, e->text, len);
            memmove(packed.data, packed.data + 10, packed.n -= 18);
        } else {
            put(&packed, e->text, len);
        }
        zip_header(b, e, true, crc, packed.n, 0);
        put(b, packed.data, packed.n);
        zip_header(&central, e, false, crc, packed.n, (uint32_t)at);
        put_free(&packed);
    }
    const size_t at = b->n;
    put(b, central.data, central.n);
    put(b, "PK\5\6\0\0\0\0", 8);
    put_le(b, n, 2);
    put_le(b, n, 2);
    put_le(b, central.n, 4);
    put_le(b, at, 4);
    put_le(b, 0, 2);
    put_free(&central);
}

/* ---- folders ---- */

typedef struct place {
    char top[64], archive[96], folder[96]; /* the archive and the folder lie in top; the folder is not made */
} place;

static inline void place_open(place *p)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(p->top, sizeof p->top, "%s/hstu_unpack_XXXXXX", base && strlen(base) < 30 ? base : "/tmp");
    assert_non_null(mkdtemp(p->top));
    (void)snprintf(p->archive, sizeof p->archive, "%s/archive", p->top);
    (void)snprintf(p->folder, sizeof p->folder, "%s/out", p->top);
}

static inline void place_write(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (n)
        assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* Removes everything below `path`, and gives the number of files that were there. */
static inline size_t place_empty(const char *path)
{
    size_t n = 0;
    DIR *dir = opendir(path);
    const struct dirent *item;
    while (dir && (item = readdir(dir))) {
        char inner[1024];
        struct stat st;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        assert_true(snprintf(inner, sizeof inner, "%s/%s", path, item->d_name) < (int)sizeof inner);
        if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            n += place_empty(inner);
        else
            n++;
        assert_int_equal(remove(inner), 0);
    }
    if (dir)
        (void)closedir(dir);
    return n;
}

static inline void place_close(place *p)
{
    (void)place_empty(p->top);
    assert_int_equal(rmdir(p->top), 0);
}

/* Whether <folder>/<name> holds exactly `text`; NULL text: whether there is no such file. */
static inline bool place_holds(const place *p, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", p->folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || !text) {
        if (file)
            (void)fclose(file);
        return !file && !text;
    }
    bool same = true;
    for (; same && *text; text++)
        same = fgetc(file) == (unsigned char)*text;
    same = same && fgetc(file) == EOF;
    (void)fclose(file);
    return same;
}

static inline hstu_unpack_options place_options(const place *p)
{
    hstu_unpack_options options;
    hstu_unpack_options_init(&options);
    options.archive = p->archive;
    options.folder = p->folder;
    return options;
}

/* Unpacks b, and frees it. */
static inline hstu_status place_unpack(
    const place *p, bytes *b, const hstu_unpack_options *options, hstu_unpack_report *report, hstu_error *err)
{
    const hstu_unpack_options all = place_options(p);
    place_write(p->archive, b->data, b->n);
    put_free(b);
    *err = (hstu_error){0};
    return hstu_unpack(options ? options : &all, report, err);
}

#endif
