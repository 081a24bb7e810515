/* Weight files: recognition by content, and the zip container of torch.save.
 * Source: torch/serialization.py and caffe2/serialize/inline_container.cc. */
#include "ckpt/pth.h"

#include "base/error.h"
#include "ckpt/pth_int.h"
#include "ckpt/zipfile.h"
#include "file/safetensors.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The newest version of the zip container that PyTorch defines. */
enum { MAX_ARCHIVE_VERSION = 10, MAX_NAME_BYTES = 4096 };

/* ---- The zip container ------------------------------------------------------------------------------------------ */

/* The folder that holds everything: the one with a data.pkl. */
typedef struct archive {
    hs_zip zip;
    const char *root; /* without the '/' */
    size_t root_bytes;
    const hs_zip_entry *pickle;
} archive;

static hstu_status find_root(archive *a, hstu_error *err)
{
    static const char name[] = "/data.pkl";
    const size_t name_bytes = sizeof name - 1;
    for (size_t i = 0; i < a->zip.n_entries; i++) {
        const hs_zip_entry *entry = &a->zip.entry[i];
        const char *slash = memchr(entry->name, '/', entry->name_bytes);
        if (!slash || slash == entry->name || entry->name + entry->name_bytes - slash != (ptrdiff_t)name_bytes ||
            memcmp(slash, name, name_bytes) != 0)
            continue;
        if (a->pickle)
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: two data.pkl stand in the archive, in '%.*s' and in '%.*s'",
                a->zip.path, (int)a->root_bytes, a->root, (int)(slash - entry->name), entry->name);
        a->pickle = entry;
        a->root = entry->name;
        a->root_bytes = (size_t)(slash - entry->name);
    }
    if (!a->pickle)
        return hs_fail(
            err, HSTU_EFORMAT, 0, "%s: a zip archive without <folder>/data.pkl: no file of torch.save", a->zip.path);
    return HSTU_OK;
}

/* The entry <root>/<folder><name>; *entry is NULL when there is none. */
static const hs_zip_entry *find_entry(const archive *a, const char *folder, const char *name, size_t name_bytes)
{
    char full[MAX_NAME_BYTES];
    const size_t folder_bytes = strlen(folder);
    if (name_bytes > sizeof full || a->root_bytes + 1 + folder_bytes > sizeof full - name_bytes)
        return NULL;
    memcpy(full, a->root, a->root_bytes);
    full[a->root_bytes] = '/';
    memcpy(full + a->root_bytes + 1, folder, folder_bytes);
    if (name_bytes)
        memcpy(full + a->root_bytes + 1 + folder_bytes, name, name_bytes);
    return hs_zip_find(&a->zip, full, a->root_bytes + 1 + folder_bytes + name_bytes);
}

static hstu_status check_byte_order(const archive *a, hstu_error *err)
{
    const hs_zip_entry *entry = find_entry(a, "", "byteorder", 9);
    const unsigned char *data = NULL;
    if (!entry) /* before PyTorch 2.0 */
        return HSTU_OK;
    HS_TRY(hs_zip_read(&a->zip, entry, &data, err));
    if (entry->size == 6 && memcmp(data, "little", 6) == 0)
        return HSTU_OK;
    return hs_fail(err, HSTU_EUNSUP, 0, "%s: its byte order is '%.*s', only 'little' is supported", a->zip.path,
        entry->size > 16 ? 16 : (int)entry->size, (const char *)data);
}

static hstu_status check_version(const archive *a, hstu_error *err)
{
    const hs_zip_entry *entry = find_entry(a, "", "version", 7);
    const unsigned char *data = NULL;
    if (!entry)
        return HSTU_OK;
    HS_TRY(hs_zip_read(&a->zip, entry, &data, err));
    unsigned version = 0;
    uint64_t i = 0;
    for (; i < entry->size && data[i] >= '0' && data[i] <= '9' && version <= MAX_ARCHIVE_VERSION; i++)
        version = version * 10 + (unsigned)(data[i] - '0');
    const bool ends = i == entry->size || data[i] == '\n';
    if (i == 0 || !ends || version > MAX_ARCHIVE_VERSION)
        return hs_fail(err, HSTU_EUNSUP, 0, "%s: archive version '%.*s', expected a number up to %d", a->zip.path,
            entry->size > 16 ? 16 : (int)entry->size, (const char *)data, MAX_ARCHIVE_VERSION);
    return HSTU_OK;
}

/* Keys are looked up in the archive's own table, never on a disk. */
static hstu_status find_storages(const archive *a, hs_pickle *pickle, hstu_error *err)
{
    HS_TRY(hs_pth_sort_storages(pickle, a->zip.path, err));
    hs_pth_record record = {0};
    for (size_t i = 0; hs_pth_next_record(pickle, &i, &record);) {
        const hs_pkl_storage *storage = record.storage[0];
        const int key_bytes = storage->key_bytes > 64 ? 64 : (int)storage->key_bytes;
        const hs_zip_entry *entry = find_entry(a, "data/", storage->key, storage->key_bytes);
        if (!entry)
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: the archive has no entry '%.*s/data/%.*s' for a storage",
                a->zip.path, (int)a->root_bytes, a->root, key_bytes, storage->key);
        if (entry->size != hs_pth_record_bytes(&record))
            return hs_fail(err, HSTU_EFORMAT, 0, "%s: the storage '%.*s' has %llu bytes, expected %llu (%lld x %s)",
                a->zip.path, key_bytes, storage->key, (unsigned long long)entry->size,
                (unsigned long long)hs_pth_record_bytes(&record), (long long)storage->record_numel,
                hs_dtype_name(storage->dtype));
        const unsigned char *data = NULL;
        HS_TRY(hs_zip_read(&a->zip, entry, &data, err));
        hs_pth_set_data(&record, data);
    }
    return HSTU_OK;
}

static hstu_status read_archive(hs_pickle *out, archive *a, hstu_error *err)
{
    const unsigned char *data = NULL;
    HS_TRY(find_root(a, err));
    HS_TRY(check_version(a, err));
    HS_TRY(check_byte_order(a, err));
    HS_TRY(hs_zip_read(&a->zip, a->pickle, &data, err));
    hs_pickle pickle = {0};
    HS_TRY(hs_pickle_read(&pickle, data, (size_t)a->pickle->size, a->zip.path, err));
    hstu_status status = HSTU_OK;
    if (pickle.bytes != a->pickle->size)
        status = hs_fail(err, HSTU_EFORMAT, pickle.bytes, "%s: %zu bytes stand behind the pickle's STOP", a->zip.path,
            (size_t)a->pickle->size - pickle.bytes);
    if (status == HSTU_OK)
        status = find_storages(a, &pickle, err);
    if (status != HSTU_OK) {
        hs_pickle_close(&pickle);
        return status;
    }
    *out = pickle;
    return HSTU_OK;
}

static hstu_status read_zip(hs_pickle *out, const hs_mapfile *map, const char *path, hstu_error *err)
{
    hs_arena arena;
    archive a = {0};
    /* An entry is at most sizeof(hs_zip_entry) for each 46 bytes of central directory. */
    hs_arena_init(&arena, map->size > SIZE_MAX / 4 ? SIZE_MAX : 4 * map->size + 4096);
    hstu_status status = hs_zip_open(&a.zip, &arena, map->data, map->size, path, err);
    if (status == HSTU_OK)
        status = read_archive(out, &a, err);
    hs_arena_free(&arena);
    return status;
}

/* ---- Recognition ------------------------------------------------------------------------------------------------ */

static bool begins(const hs_mapfile *map, const char *text)
{
    const size_t n = strlen(text);
    return map->size >= n && memcmp(map->data, text, n) == 0;
}

/* What a file is that is no weight file: people download the wrong thing more often than files break. */
static hstu_status fail_unknown(const hs_mapfile *map, const char *path, hstu_error *err)
{
    const char *what = NULL;
    if (map->size == 0)
        what = "the file is empty";
    else if (begins(map, "version https://git-lfs"))
        what = "a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'";
    else if (begins(map, "<"))
        what = "an HTML or XML page, perhaps the error page of a download";
    else if (begins(map, "\x1f\x8b"))
        what = "gzip-compressed: decompress it first";
    else if (begins(map, "\x80"))
        what = "a Python pickle without PyTorch's magic number";
    if (what)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: expected a PyTorch or safetensors file, found: %s", path, what);
    char bytes[16] = "";
    for (size_t i = 0, n = 0; i < 4 && i < map->size; i++)
        n += (size_t)snprintf(bytes + n, sizeof bytes - n, i ? " %02x" : "%02x", map->data[i]);
    return hs_fail(err, HSTU_EFORMAT, 0,
        "%s: expected a PyTorch or safetensors file, found an unknown kind of file (it begins with the bytes %s)", path,
        bytes);
}

hstu_status hs_pth_read(hs_statedict *out, hs_mapfile *map, const char *path, hstu_error *err)
{
    hs_pickle pickle = {0};
    hs_statedict dict = {0};
    const bool zip = begins(map, "PK");
    if (zip)
        HS_TRY(read_zip(&pickle, map, path, err));
    else if (hs_pth_is_legacy(map->data, map->size))
        HS_TRY(hs_pth_read_legacy(&pickle, map->data, map->size, path, err));
    else
        return fail_unknown(map, path, err);
    const hstu_status status = hs_pth_walk(&dict, &pickle, path, err);
    hs_pickle_close(&pickle);
    HS_TRY(status);
    dict.format = zip ? "PyTorch zip" : "PyTorch legacy";
    dict.map = *map;
    *map = (hs_mapfile){0};
    *out = dict;
    return HSTU_OK;
}

hstu_status hs_ckpt_open(hs_statedict *out, const char *path, hstu_error *err)
{
    hs_mapfile map = {0};
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "'%.200s' is a folder: expected a PyTorch or safetensors file; checkpoint folders such as NVIDIA's are not "
            "part of this version",
            path);
    HS_TRY(hs_mapfile_open(&map, path, err));
    const hstu_status status =
        hs_safetensors_recognise(&map) ? hs_safetensors_read(out, &map, path, err) : hs_pth_read(out, &map, path, err);
    hs_mapfile_close(&map); /* empty when the dictionary has it */
    return status;
}
