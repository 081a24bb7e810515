/* Stored entries of a zip archive: the central directory, and the checks of one entry. */
#include "ckpt/zipfile.h"

#include "base/error.h"
#include "ckpt/le.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT_BYTES = 65535,
    MAX_NAME_BYTES = 4096,
    FLAG_ENCRYPTED = 1,
    EXTRA_ZIP64 = 1
};

static const uint32_t LOCAL_MAGIC = 0x04034b50, CENTRAL_MAGIC = 0x02014b50, END_MAGIC = 0x06054b50,
                      END64_MAGIC = 0x06064b50, LOCATOR_MAGIC = 0x07064b50;

/* What the end records say about the central directory. */
typedef struct directory {
    uint64_t count, size, at;
    uint64_t end_at; /* where the first end record begins: the directory must not reach past it */
} directory;

/* The end record must be the last thing in the file: one whose comment ends elsewhere is not it. */
static bool find_end(const unsigned char *data, size_t size, size_t *at)
{
    if (size < END_BYTES)
        return false;
    const size_t last = size - END_BYTES;
    const size_t first = last > MAX_COMMENT_BYTES ? last - MAX_COMMENT_BYTES : 0;
    for (size_t i = last + 1; i-- > first;) {
        if (hs_le32(data + i) == END_MAGIC && hs_le16(data + i + 20) == last - i) {
            *at = i;
            return true;
        }
    }
    return false;
}

static bool agrees(uint64_t narrow, uint64_t unset, uint64_t wide)
{
    return narrow == unset || narrow == wide;
}

/* The zip64 end record, where a locator points to one, replaces the narrow fields, which must be all ones or agree. */
static hstu_status read_end64(const hs_zip *zip, size_t end_at, directory *dir, hstu_error *err)
{
    if (end_at < LOCATOR_BYTES || hs_le32(zip->data + end_at - LOCATOR_BYTES) != LOCATOR_MAGIC)
        return HSTU_OK;
    const size_t locator_at = end_at - LOCATOR_BYTES;
    const unsigned char *locator = zip->data + locator_at;
    const uint64_t at = hs_le64(locator + 8);
    if (locator_at < END64_BYTES || at > locator_at - END64_BYTES || hs_le32(zip->data + at) != END64_MAGIC)
        return hs_fail(err, HSTU_EFORMAT, locator_at,
            "%s: the zip64 locator points to byte %llu, where no zip64 end record stands", zip->path,
            (unsigned long long)at);
    const unsigned char *end = zip->data + at;
    if (hs_le32(locator + 4) != 0 || hs_le32(locator + 16) > 1 || hs_le32(end + 16) != 0 || hs_le32(end + 20) != 0)
        return hs_fail(err, HSTU_EUNSUP, at, "%s: a zip archive in several parts is not supported", zip->path);
    const directory wide = {
        .count = hs_le64(end + 32), .size = hs_le64(end + 40), .at = hs_le64(end + 48), .end_at = at};
    if (hs_le64(end + 24) != wide.count || !agrees(dir->count, UINT16_MAX, wide.count) ||
        !agrees(dir->size, UINT32_MAX, wide.size) || !agrees(dir->at, UINT32_MAX, wide.at))
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the zip and zip64 end records contradict each other", zip->path);
    *dir = wide;
    return HSTU_OK;
}

static hstu_status read_end(const hs_zip *zip, directory *dir, hstu_error *err)
{
    size_t end_at = 0;
    if (!find_end(zip->data, zip->size, &end_at))
        return hs_fail(err, HSTU_EFORMAT, zip->size,
            "%s: no zip end record at the end of the file: it is cut short or has foreign bytes behind it", zip->path);
    const unsigned char *end = zip->data + end_at;
    *dir =
        (directory){.count = hs_le16(end + 10), .size = hs_le32(end + 12), .at = hs_le32(end + 16), .end_at = end_at};
    if (hs_le16(end + 4) != 0 || hs_le16(end + 6) != 0 || hs_le16(end + 8) != dir->count)
        return hs_fail(err, HSTU_EUNSUP, end_at, "%s: a zip archive in several parts is not supported", zip->path);
    HS_TRY(read_end64(zip, end_at, dir, err));
    if (dir->at > dir->end_at || dir->size > dir->end_at - dir->at)
        return hs_fail(err, HSTU_EFORMAT, end_at,
            "%s: the zip central directory (%llu bytes at %llu) does not fit before its end record at %llu", zip->path,
            (unsigned long long)dir->size, (unsigned long long)dir->at, (unsigned long long)dir->end_at);
    if (dir->count > dir->size / CENTRAL_BYTES)
        return hs_fail(err, HSTU_EFORMAT, end_at,
            "%s: the zip end record counts %llu entries, but the central directory has only %llu bytes", zip->path,
            (unsigned long long)dir->count, (unsigned long long)dir->size);
    return HSTU_OK;
}

/* The zip64 extra field holds, in this order, those of size, compressed size and header offset that are all ones. */
static bool read_extra64(hs_zip_entry *entry, uint64_t *compressed, const unsigned char *extra, size_t extra_bytes)
{
    uint64_t *const wanted[3] = {&entry->size, compressed, &entry->header_at};
    bool missing = entry->size == UINT32_MAX || *compressed == UINT32_MAX || entry->header_at == UINT32_MAX;
    while (missing && extra_bytes >= 4) {
        const uint16_t id = hs_le16(extra);
        size_t field_bytes = hs_le16(extra + 2);
        if (field_bytes > extra_bytes - 4)
            return false;
        const unsigned char *field = extra + 4;
        extra += 4 + field_bytes;
        extra_bytes -= 4 + field_bytes;
        if (id != EXTRA_ZIP64)
            continue;
        for (int i = 0; i < 3; i++) {
            if (*wanted[i] != UINT32_MAX)
                continue;
            if (field_bytes < 8)
                return false;
            *wanted[i] = hs_le64(field);
            field += 8;
            field_bytes -= 8;
        }
        missing = false;
    }
    return !missing;
}

/* One central record of at most `room` bytes; *used is its length. */
static hstu_status read_central(
    const hs_zip *zip, const unsigned char *record, uint64_t room, hs_zip_entry *entry, uint64_t *used, hstu_error *err)
{
    const uint64_t at = (uint64_t)(record - zip->data);
    if (room < CENTRAL_BYTES || hs_le32(record) != CENTRAL_MAGIC)
        return hs_fail(err, HSTU_EFORMAT, at,
            "%s: byte %llu should begin an entry of the zip central directory and does not", zip->path,
            (unsigned long long)at);
    const size_t name_bytes = hs_le16(record + 28), extra_bytes = hs_le16(record + 30);
    const size_t comment_bytes = hs_le16(record + 32);
    *used = CENTRAL_BYTES + (uint64_t)name_bytes + extra_bytes + comment_bytes;
    const char *name = (const char *)record + CENTRAL_BYTES;
    if (*used > room)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the zip central directory is cut inside an entry", zip->path);
    if (name_bytes == 0 || name_bytes > MAX_NAME_BYTES || memchr(name, '\0', name_bytes))
        return hs_fail(err, HSTU_EFORMAT, at,
            "%s: a zip entry's name must have 1 to %d bytes and no NUL byte (entry at byte %llu)", zip->path,
            MAX_NAME_BYTES, (unsigned long long)at);
    *entry = (hs_zip_entry){.name = name,
        .name_bytes = name_bytes,
        .flags = hs_le16(record + 8),
        .method = hs_le16(record + 10),
        .crc = hs_le32(record + 16),
        .size = hs_le32(record + 24),
        .header_at = hs_le32(record + 42)};
    uint64_t compressed = hs_le32(record + 20);
    if (!read_extra64(entry, &compressed, record + CENTRAL_BYTES + name_bytes, extra_bytes))
        return hs_fail(
            err, HSTU_EFORMAT, at, "%s: the zip entry '%.*s' lacks its zip64 sizes", zip->path, (int)name_bytes, name);
    if (entry->method == 0 && compressed != entry->size)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the stored zip entry '%.*s' has two different sizes", zip->path,
            (int)name_bytes, name);
    return HSTU_OK;
}

/* Entries that share bytes would make a small file cost hours of CRC. */
static hstu_status take_room(const hs_zip *zip, const hs_zip_entry *entry, uint64_t *room, hstu_error *err)
{
    if (entry->method != 0) /* its size is that of the expanded bytes, which are never read */
        return HSTU_OK;
    if (entry->size > *room)
        return hs_fail(err, HSTU_EFORMAT, entry->header_at,
            "%s: the zip entry '%.*s' of %llu bytes reaches past the central directory or shares bytes with others",
            zip->path, (int)entry->name_bytes, entry->name, (unsigned long long)entry->size);
    *room -= entry->size;
    return HSTU_OK;
}

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_entries(const void *a, const void *b)
{
    const hs_zip_entry *x = a, *y = b;
    return compare_bytes(x->name, x->name_bytes, y->name, y->name_bytes);
}

hstu_status hs_zip_open(
    hs_zip *out, hs_arena *arena, const unsigned char *data, size_t size, const char *path, hstu_error *err)
{
    hs_zip zip = {.path = path, .data = data, .size = size};
    directory dir = {0};
    HS_TRY(read_end(&zip, &dir, err));
    zip.directory_at = dir.at;
    zip.n_entries = (size_t)dir.count; /* at most size / 46 */
    zip.entry = hs_arena_alloc(arena, zip.n_entries, sizeof *zip.entry);
    if (!zip.entry)
        return hs_fail_nomem(err, zip.n_entries * sizeof *zip.entry, path);
    uint64_t at = dir.at, room = dir.at;
    for (size_t i = 0; i < zip.n_entries; i++) {
        uint64_t used = 0;
        HS_TRY(read_central(&zip, data + at, dir.at + dir.size - at, &zip.entry[i], &used, err));
        HS_TRY(take_room(&zip, &zip.entry[i], &room, err));
        at += used;
    }
    if (at != dir.at + dir.size)
        return hs_fail(err, HSTU_EFORMAT, at,
            "%s: the zip central directory has bytes behind the %zu entries that its end record counts", path,
            zip.n_entries);
    qsort(zip.entry, zip.n_entries, sizeof *zip.entry, compare_entries);
    for (size_t i = 1; i < zip.n_entries; i++) {
        if (compare_entries(&zip.entry[i - 1], &zip.entry[i]) == 0)
            return hs_fail(err, HSTU_EFORMAT, dir.at, "%s: the zip entry '%.*s' stands twice in the archive", path,
                (int)zip.entry[i].name_bytes, zip.entry[i].name);
    }
    *out = zip;
    return HSTU_OK;
}

const hs_zip_entry *hs_zip_find(const hs_zip *zip, const char *name, size_t name_bytes)
{
    const hs_zip_entry key = {.name = name, .name_bytes = name_bytes};
    return bsearch(&key, zip->entry, zip->n_entries, sizeof *zip->entry, compare_entries);
}

static hstu_status check_crc(const hs_zip *zip, const hs_zip_entry *entry, const unsigned char *data, hstu_error *err)
{
    if (entry->crc == 0)
        return HSTU_OK;
    const uint32_t found = (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, (size_t)entry->size);
    if (found != entry->crc)
        return hs_fail(err, HSTU_EFORMAT, (uint64_t)(data - zip->data),
            "%s: the zip entry '%.*s' is damaged: its CRC is %08x, expected %08x", zip->path, (int)entry->name_bytes,
            entry->name, (unsigned)found, (unsigned)entry->crc);
    return HSTU_OK;
}

hstu_status hs_zip_read(const hs_zip *zip, const hs_zip_entry *entry, const unsigned char **data, hstu_error *err)
{
    const int name_bytes = (int)entry->name_bytes;
    const uint64_t at = entry->header_at;
    if (entry->flags & FLAG_ENCRYPTED)
        return hs_fail(err, HSTU_EUNSUP, at, "%s: the zip entry '%.*s' is encrypted, which is not supported", zip->path,
            name_bytes, entry->name);
    if (entry->method != 0)
        return hs_fail(err, HSTU_EUNSUP, at,
            "%s: compressed entry not supported: '%.*s' uses zip method %u, expected 0 (stored)", zip->path, name_bytes,
            entry->name, (unsigned)entry->method);
    if (zip->directory_at < LOCAL_BYTES || at > zip->directory_at - LOCAL_BYTES ||
        hs_le32(zip->data + at) != LOCAL_MAGIC)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the zip entry '%.*s' has no local header at byte %llu", zip->path,
            name_bytes, entry->name, (unsigned long long)at);
    const unsigned char *local = zip->data + at;
    const uint64_t data_at = at + LOCAL_BYTES + hs_le16(local + 26) + hs_le16(local + 28);
    if (data_at > zip->directory_at || entry->size > zip->directory_at - data_at)
        return hs_fail(err, HSTU_EFORMAT, at,
            "%s: the zip entry '%.*s' of %llu bytes reaches past the central directory", zip->path, name_bytes,
            entry->name, (unsigned long long)entry->size);
    if (hs_le16(local + 26) != entry->name_bytes || memcmp(local + LOCAL_BYTES, entry->name, entry->name_bytes) != 0)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the local header of the zip entry '%.*s' names another entry",
            zip->path, name_bytes, entry->name);
    if (hs_le16(local + 8) != entry->method || (hs_le16(local + 6) & FLAG_ENCRYPTED))
        return hs_fail(err, HSTU_EFORMAT, at,
            "%s: the local header of the zip entry '%.*s' contradicts the central directory", zip->path, name_bytes,
            entry->name);
    HS_TRY(check_crc(zip, entry, zip->data + data_at, err));
    *data = zip->data + data_at;
    return HSTU_OK;
}
