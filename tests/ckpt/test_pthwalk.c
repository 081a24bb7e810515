/* From objects to named tensors, and the legacy container, on files assembled here: an object pickle, put between the
 * legacy container's head and one storage "0" of the floats 0, 1, 2, 3. */
#include "ckpt/pth.h"

#include "ckpt_support.h"

#define HEAD                                                                                                           \
    "\x80\2\x8a\x0al\xfc\x9c"                                                                                          \
    "F\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}X\x0d\0\0\0little_endian\x88s."
#define KEYS                                                                                                           \
    "\x80\2]X\1\0\0\0"                                                                                                 \
    "0a."
#define DATA "\4\0\0\0\0\0\0\0\0\0\0\0\0\0\x80?\0\0\0@\0\0@@"
/* The storage with a view (N: none), and a tensor of it with the sizes and strides given. */
#define STORAGE(view)                                                                                                  \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                                                 \
    "0X\3\0\0\0cpuK\4" view "tQ"
#define TENSOR(view, offset, size, stride) "ctorch._utils\n_rebuild_tensor\n(" STORAGE(view) offset size stride "tR"
#define PLAIN TENSOR("N", "K\0", "K\4\x85", "K\1\x85")

static hs_statedict dict;
static hstu_error error;

static hstu_status read_file(const void *text, size_t size)
{
    static unsigned char *copy; /* of exactly this size, so that a sanitizer sees a read behind it */
    dict.map = (hs_mapfile){0};
    hs_statedict_close(&dict);
    free(copy);
    copy = malloc(size ? size : 1);
    memcpy(copy, text, size);
    hs_mapfile map = {.data = copy, .size = size};
    error = (hstu_error){0};
    const hstu_status status = hs_pth_read(&dict, &map, "file.pt", &error);
    if (status == HSTU_OK) {
        assert_null(map.data);
        dict.map = (hs_mapfile){0}; /* not a map: close must not unmap it */
    } else {
        free(copy);
        copy = NULL;
        assert_non_null(strstr(error.msg, "file.pt"));
    }
    return status;
}

/* READ: a literal object pickle without STOP, in a whole file. */
#define FILE_OF(object) HEAD object "." KEYS DATA
#define READ(object) read_file(FILE_OF(object), sizeof(FILE_OF(object)) - 1)

static hstu_status read_object(const char *object, size_t size)
{
    static const char tail[] = "." KEYS DATA;
    char *file = malloc(sizeof HEAD + size + sizeof tail);
    memcpy(file, HEAD, sizeof HEAD - 1);
    memcpy(file + sizeof HEAD - 1, object, size);
    memcpy(file + sizeof HEAD - 1 + size, tail, sizeof tail - 1);
    const hstu_status status = read_file(file, sizeof HEAD - 1 + size + sizeof tail - 1);
    free(file);
    return status;
}

static void expect_ok(hstu_status status)
{
    if (status != HSTU_OK)
        fail_msg("%s", error.msg);
}

static void expect_values(const char *group, const char *name, const float *values, int64_t n)
{
    const hs_entry *entry = hs_statedict_find(&dict, group, name);
    float got[16];
    if (!entry)
        fail_msg("no tensor '%s' in '%s'", name, group);
    assert_int_equal(hs_tensor_elements(&entry->tensor), n);
    hs_tensor_to_f32(&entry->tensor, got);
    assert_memory_equal(got, values, (size_t)n * sizeof *values);
}

static const float ALL[] = {0, 1, 2, 3};

static void storage_views(void **state)
{
    (void)state;
    static const float middle[] = {1, 2}, last[] = {2};
    expect_ok(READ("}U\1w" TENSOR("U\1vK\1K\2\x87", "K\0", "K\2\x85", "K\1\x85") "s"));
    expect_values("", "w", middle, 2);
    expect_ok(READ("}U\1w" TENSOR("U\1vK\1K\2\x87", "K\1", "K\1\x85", "K\1\x85") "s"));
    expect_values("", "w", last, 1);
    /* A tensor leaves its view, a view its storage. */
    assert_int_equal(READ("}U\1w" TENSOR("U\1vK\1K\2\x87", "K\1", "K\2\x85", "K\1\x85") "s"), HSTU_EFORMAT);
    assert_int_equal(READ("}U\1w" TENSOR("U\1vK\3K\2\x87", "K\0", "K\1\x85", "K\1\x85") "s"), HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "leaves its storage"));
    assert_int_equal(
        READ("}U\1w" TENSOR("U\1vJ\xff\xff\xff\xffK\2\x87", "K\0", "K\1\x85", "K\1\x85") "s"), HSTU_EFORMAT);
    assert_int_equal(READ("}U\1w" TENSOR("K\1", "K\0", "K\1\x85", "K\1\x85") "s"), HSTU_EFORMAT);
}

static void containers_are_consistent(void **state)
{
    (void)state;
#define WITH(keys, data) read_file(HEAD PLAIN "." keys data, sizeof(HEAD PLAIN "." keys data) - 1)
    expect_ok(WITH(KEYS, DATA));
    expect_values("", "", ALL, 4);
    assert_int_equal(WITH("].", ""), HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "'0' is missing"));
    assert_int_equal(WITH("]X\1\0\0\0"
                          "1a.",
                         DATA),
        HSTU_EFORMAT);
    assert_int_equal(WITH("](X\1\0\0\0"
                          "0X\1\0\0\0"
                          "0e.",
                         DATA DATA),
        HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "twice"));
    assert_int_equal(WITH(KEYS, DATA "x"), HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "1 bytes stand behind"));
    assert_int_equal(WITH(").", DATA), HSTU_EFORMAT);
#undef WITH
    /* Two sizes for one storage. */
    assert_int_equal(READ("}U\1w" PLAIN "sU\1v(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                          "0X\3\0\0\0cpuK\3NtQs"),
        HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "4 x fp32 and as 3 x fp32"));
    static const char big_endian[] = "\x80\2\x8a\x0al\xfc\x9c"
                                     "F\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}X\x0d\0\0\0little_endian\x89s.";
    assert_int_equal(read_file(big_endian, sizeof big_endian - 1), HSTU_EUNSUP);
    static const char protocol[] = "\x80\2\x8a\x0al\xfc\x9c"
                                   "F\xf9 j\xa8P\x19.K\1.";
    assert_int_equal(read_file(protocol, sizeof protocol - 1), HSTU_EUNSUP);
}

/* Python 2 wrote every text as bytes, and whole numbers of tensors as long ones. */
static void python_2_files_load(void **state)
{
    (void)state;
    static const char file[] =
        "\x80\2\x8a\x0al\xfc\x9c"
        "F\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}q\1(U\x10protocol_versionq\2M\xe9\3U\x0dlittle_endianq\3\x88u."
        "\x80\2ccollections\nOrderedDict\nq\1]q\2]q\3(U\1wq\4ctorch._utils\n_rebuild_tensor_v2\nq\5((U\7storageq\6"
        "ctorch\nFloatStorage\nq\7U\1"
        "0q\x08U\3cpuq\x09\x8a\1\4NtQK\0\x8a\1\4\x85\x8a\1\1\x85\x89"
        "ccollections\nOrderedDict\n]\x85RtRea\x85R."
        "\x80\2]U\1"
        "0a." DATA;
    expect_ok(read_file(file, sizeof file - 1));
    assert_int_equal(dict.n_entries, 1);
    expect_values("", "w", ALL, 4);
}

static void keys_become_names(void **state)
{
    (void)state;
    /* {"a": {5: t, -1: t, None: t, ("x",): t, "": t}, "b": [t, (t,)]} */
    expect_ok(READ(PLAIN "q\1"
                         "0}(U\1a}(K\5h\1J\xff\xff\xff\xffh\1Nh\1U\1x\x85h\1U\0h\1uU\1b](h\1h\1\x85"
                         "eu"));
    assert_int_equal(dict.n_entries, 7);
    expect_values("a", "5", ALL, 4);
    expect_values("a", "-1", ALL, 4);
    expect_values("a", "key#2", ALL, 4);
    expect_values("a", "key#3", ALL, 4);
    expect_values("a", "", ALL, 4);
    expect_values("b", "0", ALL, 4);
    expect_values("b.1", "0", ALL, 4);
    /* What a set or an inert object holds has no name. */
    expect_ok(READ("}(U\1ac__builtin__\nset\n]" PLAIN "a\x85RU\1bctorch.nn\nModule\n)\x81}U\1w" PLAIN "sbu"));
    assert_int_equal(dict.n_entries, 0);
}

/* Tensors of kinds that are not supported are no entries, and the first is kept for the error about a missing weight. */
static void unread_tensors_are_mentioned(void **state)
{
    (void)state;
    hstu_error err = {.code = HSTU_ESHAPE, .msg = "x is missing"};
    expect_ok(READ("}U\1w" PLAIN "s"));
    assert_int_equal(dict.n_unread, 0);
    hs_statedict_mention_unread(&dict, &err);
    assert_string_equal(err.msg, "x is missing");
    /* A float8 tensor in its untyped storage, one of a subclass, a parameter made of such, and an inert object. */
    expect_ok(READ("}(U\1w" PLAIN "U\2x\x1b"
                   "ctorch._utils\n_rebuild_tensor_v3\n(ctorch\ng\n)RK\0K\4\x85K\1\x85\x89Nctorch\nfloat8_e5m2\ntR"
                   "U\1yctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nf\nctorchrec.x\nSharded\n)NtR"
                   "U\1zctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_qtensor\n)R\x89NtR"
                   "U\1dctorch\ndevice\n)Ru"));
    assert_int_equal(dict.n_entries, 1);
    expect_values("", "w", ALL, 4);
    assert_int_equal(dict.n_unread, 3);
    hs_statedict_mention_unread(&dict, &err);
    hs_statedict_mention_unread(&dict, NULL);
    assert_string_equal(
        err.msg, "x is missing; tensors of kinds that are not supported: 3 (the first: 'x?', _rebuild_tensor_v3)");
    assert_int_equal(READ("(X\7\0\0\0storagectorch\nComplexFloatStorage\nX\1\0\0\0"
                          "0X\3\0\0\0cpuK\4NtQ"),
        HSTU_EUNSUP);
    assert_non_null(strstr(error.msg, "the storage type 'ComplexFloatStorage' is not supported"));
}

static void ambiguous_names_are_refused(void **state)
{
    (void)state;
    assert_int_equal(READ("}(U\1w" PLAIN "U\1w" PLAIN "u"), HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "'w' stands twice"));
    assert_int_equal(READ("}(K\1" PLAIN "U\0011" PLAIN "u"), HSTU_EFORMAT);
    assert_int_equal(READ("}U\3a\0b" PLAIN "s"), HSTU_EFORMAT);
    assert_non_null(strstr(error.msg, "NUL"));
}

static void shared_and_circular_containers(void **state)
{
    (void)state;
    /* d = {"w": t}; {"a": d, "b": d} */
    expect_ok(READ("}q\1U\1w" PLAIN "s0}(U\1ah\1U\1bh\1u"));
    assert_int_equal(dict.n_entries, 2);
    expect_values("a", "w", ALL, 4);
    expect_values("b", "w", ALL, 4);
    /* d = {"d": d, "w": t, "l": [d]} */
    expect_ok(READ("}q\1(U\1dh\1U\1w" PLAIN "U\1l]h\1au"));
    assert_int_equal(dict.n_entries, 1);
    expect_values("", "w", ALL, 4);
}

static void expansion_is_bounded(void **state)
{
    (void)state;
    char object[512];
    size_t n = sizeof PLAIN - 1;
    memcpy(object, PLAIN, n);
    for (int i = 0; i < 40; i++, n += 2)
        memcpy(object + n, "2\x86", 2); /* x becomes (x, x) */
    assert_int_equal(read_object(object, n), HSTU_EUNSUP);
    assert_non_null(strstr(error.msg, "shared references"));
}

static void depth_is_bounded(void **state)
{
    (void)state;
    const size_t plain = sizeof PLAIN - 1, deep = 200000;
    char *object = malloc(plain + deep);
    memcpy(object, PLAIN, plain);
    memset(object + plain, '\x85', deep);
    expect_ok(read_object(object, plain + 2000));
    assert_int_equal(dict.n_entries, 1);
    assert_int_equal(strlen(dict.entry[0].group), 2 * 1999 - 1);
    assert_int_equal(read_object(object, plain + deep), HSTU_EUNSUP);
    assert_non_null(strstr(error.msg, "4096 bytes"));
    free(object);
}

static int close_dict(void **state)
{
    (void)state;
    (void)read_file("", 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storage_views),
        cmocka_unit_test(containers_are_consistent),
        cmocka_unit_test(python_2_files_load),
        cmocka_unit_test(keys_become_names),
        cmocka_unit_test(unread_tensors_are_mentioned),
        cmocka_unit_test(ambiguous_names_are_refused),
        cmocka_unit_test(shared_and_circular_containers),
        cmocka_unit_test(expansion_is_bounded),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, close_dict);
}
