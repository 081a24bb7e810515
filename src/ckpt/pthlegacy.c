/* The container that torch.save wrote before PyTorch 1.6 (and still does on request): pickles of a magic number, a
 * protocol number, the writer's system, the object and the storages' keys, then per key an element count and the bytes.
 * Source: torch/serialization.py, _legacy_save. */
#include "base/error.h"
#include "ckpt/le.h"
#include "ckpt/pth_int.h"

#include <string.h>

enum { PROTOCOL = 1001, MAGIC_BYTES = 10, MAGIC_WITHIN = 64 };

/* 0x1950a86a20f9469cfc6c as a pickled integer: LONG1, its length, its bytes, STOP. */
static const unsigned char MAGIC[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

bool hs_pth_is_legacy(const unsigned char *data, size_t size)
{
    if (size < 2 || data[0] != 0x80)
        return false;
    for (size_t i = 2; i + sizeof MAGIC <= size && i < MAGIC_WITHIN; i++) {
        if (memcmp(data + i, MAGIC, sizeof MAGIC) == 0)
            return true;
    }
    return false;
}

static hstu_status check_magic(const hs_pkl_object *root, const char *path, hstu_error *err)
{
    if (root->kind == HS_PKL_LONG && root->as.string.bytes == MAGIC_BYTES &&
        memcmp(root->as.string.text, MAGIC + 2, MAGIC_BYTES) == 0)
        return HSTU_OK;
    return hs_fail(err, HSTU_EFORMAT, 0, "%s: a pickle without PyTorch's magic number", path);
}

static hstu_status check_protocol(const hs_pkl_object *root, const char *path, hstu_error *err)
{
    if (root->kind == HS_PKL_INT && root->as.integer == PROTOCOL)
        return HSTU_OK;
    return hs_fail(err, HSTU_EUNSUP, 0, "%s: the legacy container's protocol number must be %d", path, PROTOCOL);
}

static hstu_status check_system(const hs_pkl_object *root, const char *path, hstu_error *err)
{
    const hs_pkl_object *little = hs_pkl_get(root, "little_endian");
    if (little && little->kind == HS_PKL_BOOL && little->as.integer)
        return HSTU_OK;
    return hs_fail(
        err, HSTU_EUNSUP, 0, "%s: the file does not say that its data is little-endian, nothing else is read", path);
}

typedef hstu_status (*check_fn)(const hs_pkl_object *root, const char *path, hstu_error *err);

/* The bytes of one key's record at data[*at]. */
static hstu_status read_record(const hs_pickle *object, const hs_pkl_object *key, const unsigned char *data,
    size_t size, size_t *at, const char *path, hstu_error *err)
{
    hs_pth_record record = {0};
    if (key->kind != HS_PKL_STR || !hs_pth_find_record(object, key->as.string.text, key->as.string.bytes, &record))
        return hs_fail(err, HSTU_EFORMAT, *at, "%s: the list of storages has a key that no tensor uses", path);
    const int key_bytes = key->as.string.bytes > 64 ? 64 : (int)key->as.string.bytes;
    if (record.storage[0]->data)
        return hs_fail(
            err, HSTU_EFORMAT, *at, "%s: the storage '%.*s' stands twice", path, key_bytes, key->as.string.text);
    const int64_t expected = record.storage[0]->record_numel;
    if (size - *at < 8)
        return hs_fail(err, HSTU_EFORMAT, *at, "%s: the file ends before the storage '%.*s'", path, key_bytes,
            key->as.string.text);
    const uint64_t found = hs_le64(data + *at);
    if (found != (uint64_t)expected)
        return hs_fail(err, HSTU_EFORMAT, *at, "%s: the storage '%.*s' has %lld elements, expected %lld", path,
            key_bytes, key->as.string.text, (long long)found, (long long)expected);
    *at += 8;
    const uint64_t bytes = hs_pth_record_bytes(&record);
    if (bytes > size - *at)
        return hs_fail(err, HSTU_EFORMAT, *at, "%s: the storage '%.*s' needs %llu bytes, but the file ends after %zu",
            path, key_bytes, key->as.string.text, (unsigned long long)bytes, size - *at);
    hs_pth_set_data(&record, data + *at);
    *at += (size_t)bytes;
    return HSTU_OK;
}

static hstu_status read_records(const hs_pickle *object, const hs_pkl_object *keys, const unsigned char *data,
    size_t size, size_t at, const char *path, hstu_error *err)
{
    if (keys->kind != HS_PKL_LIST)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: the storages' keys are not a list", path);
    for (size_t i = 0; i < keys->as.seq.n; i++)
        HS_TRY(read_record(object, keys->as.seq.item[i], data, size, &at, path, err));
    if (at != size)
        return hs_fail(err, HSTU_EFORMAT, at, "%s: %zu bytes stand behind the last storage", path, size - at);
    hs_pth_record record = {0};
    for (size_t i = 0; hs_pth_next_record(object, &i, &record);) {
        if (!record.storage[0]->data)
            return hs_fail(err, HSTU_EFORMAT, at, "%s: the storage '%.*s' is missing", path,
                record.storage[0]->key_bytes > 64 ? 64 : (int)record.storage[0]->key_bytes, record.storage[0]->key);
    }
    return HSTU_OK;
}

hstu_status hs_pth_read_legacy(
    hs_pickle *out, const unsigned char *data, size_t size, const char *path, hstu_error *err)
{
    static const check_fn head[] = {check_magic, check_protocol, check_system};
    size_t at = 0;
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) {
        hs_pickle pickle = {0};
        HS_TRY(hs_pickle_read(&pickle, data + at, size - at, path, err));
        const hstu_status status = head[i](pickle.root, path, err);
        at += pickle.bytes;
        hs_pickle_close(&pickle);
        HS_TRY(status);
    }
    hs_pickle object = {0}, keys = {0};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_pickle_read(&object, data + at, size - at, path, err));
    at += object.bytes;
    HS_TRY_GOTO(hs_pth_sort_storages(&object, path, err));
    HS_TRY_GOTO(hs_pickle_read(&keys, data + at, size - at, path, err));
    at += keys.bytes;
    HS_TRY_GOTO(read_records(&object, keys.root, data, size, at, path, err));
    hs_pickle_close(&keys);
    *out = object;
    return HSTU_OK;
fail:
    hs_pickle_close(&keys);
    hs_pickle_close(&object);
    return status;
}
