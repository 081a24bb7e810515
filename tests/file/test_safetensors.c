/* safetensors: what is written is read back, files of other writers open, malformed headers are refused by name. */
#include "file/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static hstu_error error;

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/hstu_test_XXXXXX");
    const int fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void expect(hstu_status status)
{
    if (status != HSTU_OK)
        fail_msg("%s", error.msg);
}

static void write_small(void)
{
    static const int64_t shape[2] = {2, 3}, empty[2] = {0, 5};
    static const float values[6] = {0, 1, 2, 3, 4, 5};
    static const int64_t scalar = -7;
    hs_safetensors_writer *w = NULL;
    expect(hs_safetensors_create(&w, path, &error));
    expect(hs_safetensors_add_metadata(w, "note", "a \"quoted\" \\ text\n\x01 \xc3\xa9", &error));
    expect(hs_safetensors_add_tensor(w, "z.weight", HS_F32, 2, shape, &error));
    expect(hs_safetensors_add_tensor(w, "empty \"name\"", HS_F16, 2, empty, &error));
    expect(hs_safetensors_add_tensor(w, "a", HS_I64, 0, NULL, &error));
    expect(hs_safetensors_add_metadata(w, "format", "pt", &error));
    expect(hs_safetensors_write(w, values, 10, &error));
    expect(hs_safetensors_write(w, (const char *)values + 10, sizeof values - 10, &error));
    expect(hs_safetensors_write(w, &scalar, sizeof scalar, &error));
    expect(hs_safetensors_commit(w, &error));
}

static void round_trip(void **state)
{
    (void)state;
    const int64_t shape[2] = {2, 3};
    hs_statedict dict = {0};
    int64_t scalar = 0;
    write_small();
    expect(hs_safetensors_open(&dict, path, &error));
    assert_string_equal(dict.format, "safetensors");
    assert_string_equal(dict.path, path);
    assert_int_equal(dict.n_entries, 3);
    assert_int_equal(dict.n_metadata, 2);
    assert_string_equal(hs_statedict_metadata(&dict, "note"), "a \"quoted\" \\ text\n\x01 \xc3\xa9");
    assert_string_equal(hs_statedict_metadata(&dict, "format"), "pt");
    assert_string_equal(dict.entry[0].name, "z.weight");
    assert_string_equal(dict.entry[0].group, "");
    const hs_tensor *t = &dict.entry[0].tensor;
    assert_true(hs_tensor_shape_is(t, 2, shape) && hs_tensor_contiguous(t));
    assert_int_equal(((const unsigned char *)t->data - dict.map.data) % 64, 0);
    for (int i = 0; i < 6; i++)
        assert_true(((const float *)t->data)[i] == (float)i);
    const hs_entry *empty = hs_statedict_find(&dict, "", "empty \"name\"");
    assert_non_null(empty);
    assert_null(empty->tensor.data);
    assert_int_equal(empty->tensor.shape[1], 5);
    expect(hs_tensor_to_i64(&hs_statedict_find(&dict, "", "a")->tensor, &scalar, "a", &error));
    assert_int_equal(scalar, -7);
    hs_statedict_close(&dict);
}

static void nothing_is_a_file_too(void **state)
{
    (void)state;
    hs_safetensors_writer *w = NULL;
    hs_statedict dict = {0};
    expect(hs_safetensors_create(&w, path, &error));
    expect(hs_safetensors_commit(w, &error));
    expect(hs_safetensors_open(&dict, path, &error));
    assert_int_equal(dict.n_entries, 0);
    assert_true(hs_safetensors_recognise(&dict.map));
    hs_statedict_close(&dict);
}

static size_t file_size(void)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    fclose(file);
    return (size_t)size;
}

/* A writer used wrongly says so, and the file under the name stays what it was. */
static void misuse_is_refused(void **state)
{
    (void)state;
    const int64_t shape[1] = {2}, negative[1] = {-1}, huge[2] = {INT64_MAX, 2};
    const float values[3] = {1, 2, 3};
    hs_safetensors_writer *w = NULL;
    write_small();
    const size_t before = file_size();

    expect(hs_safetensors_create(&w, path, &error));
    assert_int_equal(hs_safetensors_add_tensor(w, "t", HS_F32, 1, negative, &error), HSTU_EINVAL);
    assert_int_equal(hs_safetensors_add_tensor(w, "t", HS_F32, 2, huge, &error), HSTU_EINVAL);
    assert_int_equal(hs_safetensors_add_tensor(w, "t", HS_F32, 9, shape, &error), HSTU_EINVAL);
    assert_int_equal(hs_safetensors_add_tensor(w, "__metadata__", HS_F32, 1, shape, &error), HSTU_EINVAL);
    expect(hs_safetensors_add_tensor(w, "t", HS_F32, 1, shape, &error));
    assert_int_equal(hs_safetensors_write(w, values, 12, &error), HSTU_EINVAL);
    assert_non_null(strstr(error.msg, path));
    expect(hs_safetensors_write(w, values, 4, &error));
    assert_int_equal(hs_safetensors_add_tensor(w, "u", HS_F32, 1, shape, &error), HSTU_EINVAL);
    assert_int_equal(hs_safetensors_add_metadata(w, "k", "v", &error), HSTU_EINVAL);
    assert_int_equal(hs_safetensors_commit(w, &error), HSTU_EINVAL);
    assert_non_null(strstr(error.msg, "4 of the 8 bytes"));
    assert_int_equal(file_size(), before);

    expect(hs_safetensors_create(&w, path, &error));
    expect(hs_safetensors_add_tensor(w, "twice", HS_U8, 1, shape, &error));
    expect(hs_safetensors_add_tensor(w, "twice", HS_U8, 1, shape, &error));
    assert_int_equal(hs_safetensors_write(w, values, 4, &error), HSTU_EINVAL);
    assert_non_null(strstr(error.msg, "'twice'"));
    hs_safetensors_discard(w);
    assert_int_equal(file_size(), before);
    hs_safetensors_discard(NULL);
}

/* header + data as a file of exactly that many bytes in memory, so that a sanitizer sees a read behind it. */
static hstu_status read_text(hs_statedict *dict, const char *header, size_t data_bytes)
{
    const size_t n = strlen(header);
    unsigned char *file = calloc(8 + n + data_bytes, 1);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    hs_mapfile map = {.data = file, .size = 8 + n + data_bytes};
    const hstu_status status = hs_safetensors_read(dict, &map, "weights.st", &error);
    if (status == HSTU_OK)
        dict->map = (hs_mapfile){0}; /* not a map: close must not unmap it */
    free(file);
    return status;
}

static void malformed_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *says;
    } cases[] = {
        {"", 0, "JSON"},
        {"[]", 0, "JSON object"},
        {"{", 0, "JSON"},
        {"{}x", 0, "JSON"},
        {"{}", 4, "the data has 4 bytes, its tensors 0"},
        {"{\"t\":1}", 0, "'t'"},
        {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype"},
        {"{\"t\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'F33'"},
        {"{\"t\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype"},
        {"{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no shape"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "negative"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4,
            "the shape of tensor 't' must be whole"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "whole number"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "8 dimensions"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "63 bits"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2147483648,2147483648],\"data_offsets\":[0,0]}}", 0, "63 bits"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "data_offsets"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "the data has 4 bytes"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "offsets 4 to 0"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "offsets -4 to 0"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "need 8"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "begins at byte 4"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"t\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[4,8]}}",
            8, "twice"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"u\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[0,4]}}",
            4, "begins at byte 0"},
        {"{\"__metadata__\":1}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "'k'"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,18014398509481986]}}", 0, "the data_offsets of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hs_statedict dict = {0};
        if (read_text(&dict, cases[i].header, cases[i].data_bytes) != HSTU_EFORMAT)
            fail_msg("accepted: %s", cases[i].header);
        if (!strstr(error.msg, cases[i].says) || !strstr(error.msg, "weights.st"))
            fail_msg("expected '%s' for %s in: %s", cases[i].says, cases[i].header, error.msg);
        assert_null(dict.entry);
    }
}

static void valid_headers(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    /* Order in the header and in the data may differ; white space may follow; a size of 0 hides any other. */
    expect(read_text(&dict,
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[1,5]},\"a\":{\"shape\":[],\"dtype\":\"BOOL\","
        "\"data_offsets\":[0,1]},\"e\":{\"dtype\":\"F64\",\"shape\":[0,9007199254740992,9007199254740992],"
        "\"data_offsets\":[5,5]}}   ",
        5));
    assert_int_equal(dict.n_entries, 3);
    assert_string_equal(dict.entry[0].name, "b");
    assert_int_equal(dict.entry[0].tensor.dtype, HS_BF16);
    assert_int_equal(dict.entry[1].tensor.rank, 0);
    assert_null(dict.entry[2].tensor.data);
    hs_statedict_close(&dict);
    expect(read_text(&dict,
        "{\"e\":{\"dtype\":\"F64\",\"shape\":[9007199254740992,9007199254740992,0],\"data_offsets\":[0,0]}}", 0));
    assert_int_equal(hs_tensor_elements(&dict.entry[0].tensor), 0);
    hs_statedict_close(&dict);
}

static void lengths_are_checked(void **state)
{
    (void)state;
    static const unsigned char files[][12] = {
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'},
        {1, 0xe1, 0xf5, 5, 0, 0, 0, 0, '{', '}'}, /* 100000001 */
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        hs_statedict dict = {0};
        hs_mapfile map = {.data = files[i], .size = 10};
        assert_int_equal(hs_safetensors_read(&dict, &map, "weights.st", &error), HSTU_EFORMAT);
        assert_non_null(strstr(error.msg, "length"));
        assert_ptr_equal(map.data, files[i]);
    }
    hs_statedict dict = {0};
    hs_mapfile map = {.data = files[1], .size = 7};
    assert_int_equal(hs_safetensors_read(&dict, &map, "weights.st", &error), HSTU_EFORMAT);
    assert_false(hs_safetensors_recognise(&map));
    map = (hs_mapfile){.data = files[1], .size = 10};
    assert_true(hs_safetensors_recognise(&map));
    map = (hs_mapfile){.data = files[0], .size = 10};
    assert_false(hs_safetensors_recognise(&map));
    assert_int_equal(hs_safetensors_open(&dict, "/tmp/no/such/file", &error), HSTU_ENOENT);
}

/* Tensors of 9 MB and of a few bytes: in order, or from the last byte to the first behind metadata that are replaced later. */
enum { WIDE = 9 << 20, PIECE = 1 << 16 };

static unsigned char *write_wide(const char *likely, const char *final, size_t *n)
{
    static const int64_t wide = WIDE, narrow = 5;
    static unsigned char bytes[WIDE];
    hs_safetensors_writer *w = NULL;
    for (size_t i = 0; i < WIDE; i++)
        bytes[i] = (unsigned char)(i * 31 + (i >> 13));
    expect(hs_safetensors_create(&w, path, &error));
    expect(hs_safetensors_add_metadata(w, "first", "1", &error));
    expect(hs_safetensors_add_metadata(w, "note", likely ? likely : final, &error));
    expect(hs_safetensors_add_tensor(w, "narrow", HS_U8, 1, &narrow, &error));
    expect(hs_safetensors_add_tensor(w, "wide", HS_U8, 1, &wide, &error));
    if (likely) {
        expect(hs_safetensors_begin(w, &error));
        for (size_t at = WIDE; at > 0; at -= PIECE)
            expect(hs_safetensors_write_at(w, 1, at - PIECE, bytes + at - PIECE, PIECE, &error));
        assert_int_equal(hs_safetensors_write_at(w, 1, WIDE - 1, bytes, 2, &error), HSTU_EINVAL);
        assert_int_equal(hs_safetensors_write_at(w, 2, 0, bytes, 1, &error), HSTU_EINVAL);
        assert_int_equal(hs_safetensors_write(w, bytes, 1, &error), HSTU_EINVAL);
        expect(hs_safetensors_write_at(w, 0, 0, "12345", 5, &error));
        expect(hs_safetensors_set_metadata(w, "note", final, &error));
        assert_int_equal(hs_safetensors_set_metadata(w, "else", final, &error), HSTU_EINVAL);
        expect(hs_safetensors_finish(w, &error));
    } else {
        expect(hs_safetensors_write(w, "12345", 5, &error));
        expect(hs_safetensors_write(w, bytes, WIDE, &error));
    }
    expect(hs_safetensors_commit(w, &error));
    FILE *file = fopen(path, "rb");
    unsigned char *data = malloc(WIDE + 4096);
    assert_true(file && data);
    *n = fread(data, 1, WIDE + 4096, file);
    (void)fclose(file);
    return data;
}

static void any_order(void **state)
{
    (void)state;
    char long_text[700];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    const char *const text[] = {"a", "b", long_text};
    for (size_t final = 0; final < 3; final++) {
        size_t n_expected = 0, n = 0;
        unsigned char *expected = write_wide(NULL, text[final], &n_expected);
        for (size_t likely = 0; likely < 3; likely++) {
            unsigned char *data = write_wide(text[likely], text[final], &n);
            assert_true(n == n_expected && memcmp(data, expected, n) == 0);
            free(data);
        }
        free(expected);
    }
}

/* Bytes that are missing are noticed in any order too, and nothing appears. */
static void any_order_missing(void **state)
{
    (void)state;
    static const int64_t five = 5;
    hs_safetensors_writer *w = NULL;
    (void)unlink(path);
    expect(hs_safetensors_create(&w, path, &error));
    expect(hs_safetensors_add_tensor(w, "narrow", HS_U8, 1, &five, &error));
    expect(hs_safetensors_begin(w, &error));
    expect(hs_safetensors_write_at(w, 0, 1, "1234", 4, &error));
    assert_int_equal(hs_safetensors_commit(w, &error), HSTU_EINVAL);
    assert_non_null(strstr(error.msg, "4 of the 5 bytes"));
    assert_int_equal(access(path, F_OK), -1);
    write_small(); /* the next test's file */
}

/* Written by the Python package. */
static void foreign_file_opens(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    expect(hs_safetensors_open(&dict, TEST_DATA "/pickle/valid_torch2.11/views.safetensors", &error));
    assert_int_equal(dict.n_entries, 8);
    const hs_entry *entry = hs_statedict_find(&dict, "", "perm");
    const int64_t shape[3] = {5, 3, 4};
    assert_non_null(entry);
    assert_true(hs_tensor_shape_is(&entry->tensor, 3, shape));
    hs_statedict_close(&dict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(nothing_is_a_file_too),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(malformed_headers),
        cmocka_unit_test(valid_headers),
        cmocka_unit_test(lengths_are_checked),
        cmocka_unit_test(any_order),
        cmocka_unit_test(any_order_missing),
        cmocka_unit_test(foreign_file_opens),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
