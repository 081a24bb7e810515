/* The zip reader on archives assembled here, each broken in one place. */
#include "ckpt/zipfile.h"

#include "ckpt_support.h"

enum { MAX_ARCHIVE = 4096 };

/* An archive under construction: local entries first, then the directory. */
typedef struct archive {
    unsigned char data[MAX_ARCHIVE];
    size_t size;
    unsigned char directory[MAX_ARCHIVE];
    size_t directory_size;
    unsigned count;
} archive;

static void put(unsigned char *to, size_t *at, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        to[(*at)++] = (unsigned char)(i < 8 ? value >> 8 * i : 0);
}

static void put_text(unsigned char *to, size_t *at, const char *text, size_t n)
{
    memcpy(to + *at, text, n);
    *at += n;
}

static void add_entry(archive *a, const char *name, size_t name_bytes, const char *content, uint32_t crc)
{
    const size_t header_at = a->size, size = strlen(content);
    put(a->data, &a->size, 0x04034b50, 4);
    put(a->data, &a->size, 0, 2 + 2 + 2 + 4); /* version, flags, method, time */
    put(a->data, &a->size, 0, 8);             /* CRC and compressed size: as torch.save, unknown here */
    put(a->data, &a->size, 0, 4);             /* size */
    put(a->data, &a->size, name_bytes, 2);
    put(a->data, &a->size, 0, 2);
    put_text(a->data, &a->size, name, name_bytes);
    put_text(a->data, &a->size, content, size);
    put(a->directory, &a->directory_size, 0x02014b50, 4);
    put(a->directory, &a->directory_size, 0, 8);
    put(a->directory, &a->directory_size, 0, 4);
    put(a->directory, &a->directory_size, crc, 4);
    put(a->directory, &a->directory_size, size, 4);
    put(a->directory, &a->directory_size, size, 4);
    put(a->directory, &a->directory_size, name_bytes, 2);
    put(a->directory, &a->directory_size, 0, 8);
    put(a->directory, &a->directory_size, 0, 4);
    put(a->directory, &a->directory_size, header_at, 4);
    put_text(a->directory, &a->directory_size, name, name_bytes);
    a->count++;
}

static void finish(archive *a)
{
    const size_t at = a->size;
    put_text(a->data, &a->size, (const char *)a->directory, a->directory_size);
    put(a->data, &a->size, 0x06054b50, 4);
    put(a->data, &a->size, 0, 4);
    put(a->data, &a->size, a->count, 2);
    put(a->data, &a->size, a->count, 2);
    put(a->data, &a->size, a->directory_size, 4);
    put(a->data, &a->size, at, 4);
    put(a->data, &a->size, 0, 2);
}

/* "hello" has the CRC 0x3610a686. */
static void make_good(archive *a)
{
    memset(a, 0, sizeof *a);
    add_entry(a, "x/b", 3, "hello", 0x3610a686);
    add_entry(a, "x/a", 3, "", 0);
    finish(a);
}

static hstu_error error;

/* Opens the archive and reads the entry "x/b". */
static hstu_status read_b(const archive *a)
{
    hs_arena arena;
    hs_zip zip = {0};
    const unsigned char *data = NULL;
    unsigned char *exact = malloc(a->size);
    error = (hstu_error){0};
    memcpy(exact, a->data, a->size);
    hs_arena_init(&arena, 1 << 20);
    hstu_status status = hs_zip_open(&zip, &arena, exact, a->size, "file.pt", &error);
    if (status == HSTU_OK) {
        const hs_zip_entry *entry = hs_zip_find(&zip, "x/b", 3);
        assert_non_null(entry);
        status = hs_zip_read(&zip, entry, &data, &error);
        if (status == HSTU_OK)
            assert_memory_equal(data, "hello", 5);
    }
    hs_arena_free(&arena);
    free(exact);
    return status;
}

static void expect_refused(const archive *a, hstu_status status, const char *says)
{
    assert_int_equal(read_b(a), status);
    if (!strstr(error.msg, says) || !strstr(error.msg, "file.pt"))
        fail_msg("expected '%s' in: %s", says, error.msg);
}

static void good_archive(void **state)
{
    (void)state;
    archive a;
    make_good(&a);
    assert_int_equal(read_b(&a), HSTU_OK);
    hs_arena arena;
    hs_zip zip = {0};
    hs_arena_init(&arena, 1 << 20);
    assert_int_equal(hs_zip_open(&zip, &arena, a.data, a.size, "file.pt", NULL), HSTU_OK);
    assert_int_equal(zip.n_entries, 2);
    assert_null(hs_zip_find(&zip, "x/", 2));
    assert_null(hs_zip_find(&zip, "x/bb", 4));
    assert_int_equal(hs_zip_find(&zip, "x/a", 3)->size, 0);
    hs_arena_free(&arena);
    /* A comment behind the end record is part of the format. */
    a.data[a.size - 2] = 4;
    put_text(a.data, &a.size, "PK\5\6", 4);
    assert_int_equal(read_b(&a), HSTU_OK);
}

static void crc_zero_means_none(void **state)
{
    (void)state;
    archive a = {0};
    add_entry(&a, "x/b", 3, "hello", 0);
    finish(&a);
    assert_int_equal(read_b(&a), HSTU_OK);
    memset(&a, 0, sizeof a);
    add_entry(&a, "x/b", 3, "hello", 0x3610a687);
    finish(&a);
    expect_refused(&a, HSTU_EFORMAT, "expected 3610a687");
}

static void broken_archives(void **state)
{
    (void)state;
    archive a;
    const size_t local_bytes = 30 + 3, directory_at = 2 * local_bytes + 5, record_bytes = 46 + 3;
    const size_t end_at = directory_at + 2 * record_bytes;
    const struct {
        size_t at;
        unsigned char value;
        hstu_status status;
        const char *says;
    } cases[] = {
        {0, 0, HSTU_EFORMAT, "no local header"},
        {6, 1, HSTU_EFORMAT, "contradicts"},
        {8, 8, HSTU_EFORMAT, "contradicts"},
        {26, 2, HSTU_EFORMAT, "names another entry"},
        {32, 'c', HSTU_EFORMAT, "names another entry"},
        {29, 1, HSTU_EFORMAT, "reaches past"},
        {33, 'H', HSTU_EFORMAT, "damaged"},
        {directory_at, 0, HSTU_EFORMAT, "central directory"},
        {directory_at + 8, 1, HSTU_EUNSUP, "encrypted"},
        {directory_at + 10, 8, HSTU_EUNSUP, "compressed entry not supported"},
        {directory_at + 20, 6, HSTU_EFORMAT, "two different sizes"},
        {directory_at + 28, 0, HSTU_EFORMAT, "NUL"},
        {directory_at + 29, 9, HSTU_EFORMAT, "cut inside"},
        {directory_at + 45, 0x7f, HSTU_EFORMAT, "no local header"},
        {directory_at + 48, 'a', HSTU_EFORMAT, "twice"},
        {directory_at + 47, 0, HSTU_EFORMAT, "NUL"},
        {end_at, 0, HSTU_EFORMAT, "end record"},
        {end_at + 4, 1, HSTU_EUNSUP, "several parts"},
        {end_at + 8, 3, HSTU_EUNSUP, "several parts"},
        {end_at + 12, 97, HSTU_EFORMAT, "cut inside"},
        {end_at + 13, 1, HSTU_EFORMAT, "does not fit"},
        {end_at + 16, 0, HSTU_EFORMAT, "central directory"},
        {end_at + 19, 0x80, HSTU_EFORMAT, "does not fit"},
        {end_at + 20, 1, HSTU_EFORMAT, "end record"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_good(&a);
        a.data[cases[i].at] = cases[i].value;
        expect_refused(&a, cases[i].status, cases[i].says);
    }
    make_good(&a);
    a.data[end_at + 8] = a.data[end_at + 10] = 1;
    expect_refused(&a, HSTU_EFORMAT, "bytes behind the 1 entries");
    make_good(&a);
    a.data[end_at + 8] = a.data[end_at + 10] = 200;
    expect_refused(&a, HSTU_EFORMAT, "counts 200 entries");
}

/* Entries whose bytes stand inside one another: CRCs over all of them would cost the square of the file's size. */
static void shared_bytes_are_refused(void **state)
{
    (void)state;
    archive a;
    make_good(&a);
    const size_t directory_at = 2 * 33 + 5, a_record = directory_at + 49;
    a.data[a_record + 20] = a.data[a_record + 24] = (unsigned char)(directory_at - 5);
    assert_int_equal(read_b(&a), HSTU_OK); /* as large as is left; "x/a" itself is not read here */
    a.data[a_record + 20]++;
    a.data[a_record + 24]++;
    expect_refused(&a, HSTU_EFORMAT, "shares bytes");
}

/* Fields of all ones send to the zip64 extra field, which holds those fields alone, in a fixed order. */
static void zip64_fields(void **state)
{
    (void)state;
    static const struct {
        bool size, compressed, header_at; /* all ones in the record */
        unsigned values;                  /* how many the extra field holds */
        hstu_status status;
    } cases[] = {
        {false, false, false, 0, HSTU_OK},
        {true, true, true, 3, HSTU_OK},
        {true, true, false, 2, HSTU_OK},
        {false, false, true, 1, HSTU_OK},
        {true, false, false, 1, HSTU_OK},
        {false, false, false, 3, HSTU_OK}, /* not needed: ignored */
        {true, true, true, 2, HSTU_EFORMAT},
        {false, false, true, 0, HSTU_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        archive a = {0};
        unsigned char *d = a.directory;
        add_entry(&a, "x/b", 3, "hello", 0x3610a686);
        memset(d + 24, cases[i].size ? 0xff : d[24], cases[i].size ? 4 : 1);
        memset(d + 20, cases[i].compressed ? 0xff : d[20], cases[i].compressed ? 4 : 1);
        memset(d + 42, cases[i].header_at ? 0xff : d[42], cases[i].header_at ? 4 : 1);
        /* An unrelated field stands before it. */
        d[30] = (unsigned char)(4 + 2 + 4 + 8 * cases[i].values);
        put(d, &a.directory_size, 0x5455, 2);
        put(d, &a.directory_size, 2, 2);
        put(d, &a.directory_size, 0xffff, 2);
        put(d, &a.directory_size, 1, 2);
        put(d, &a.directory_size, 8 * cases[i].values, 2);
        const bool wanted[3] = {cases[i].size, cases[i].compressed, cases[i].header_at};
        const uint64_t value[3] = {5, 5, 0};
        size_t n = 0;
        for (size_t k = 0; k < 3 && n < cases[i].values; k++) {
            if (wanted[k]) {
                put(d, &a.directory_size, value[k], 8);
                n++;
            }
        }
        for (; n < cases[i].values; n++)
            put(d, &a.directory_size, 77, 8);
        finish(&a);
        if (read_b(&a) != cases[i].status)
            fail_msg("case %zu: %s", i, error.msg);
        assert_true(cases[i].status == HSTU_OK || strstr(error.msg, "zip64"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_archive),
        cmocka_unit_test(crc_zero_means_none),
        cmocka_unit_test(broken_archives),
        cmocka_unit_test(shared_bytes_are_refused),
        cmocka_unit_test(zip64_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
