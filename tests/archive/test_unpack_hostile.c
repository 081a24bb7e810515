/* What may not be unpacked: each ends in one sentence, and nothing is written, inside the folder or outside. */
#include "archive_bytes.h"

#include <errno.h>

/* Unpacks b: refused with `status` and words of the sentence, and no file is left in the folder or beside it. */
static void expect_refused(
    place *p, bytes *b, const hstu_unpack_options *options, hstu_status status, const char *words)
{
    hstu_error err;
    hstu_unpack_report report = {.n_files = 77};
    const hstu_status found = place_unpack(p, b, options, &report, &err);
    if (found != status || err.code != status || !strstr(err.msg, words) || !strstr(err.msg, p->archive))
        fail_msg("expected %d with '%s', found %d: %s", (int)status, words, (int)found, err.msg);
    assert_int_equal(report.n_files, 77);
    const size_t n = place_empty(p->top);
    if (n != 1)
        fail_msg("%zu files are left behind: %s", n - 1, err.msg);
}

/* The three forms of an archive that holds a good file and then one entry. */
static void expect_entry_refused(place *p, const char *name, char type, const char *link, const char *words)
{
    for (int packed = 0; packed < 2; packed++) {
        bytes b = {0};
        tar_file(&b, "good.csv", "fine");
        tar_entry(&b, name, type, link);
        tar_file(&b, "later.csv", "fine");
        if (packed)
            tar_gz(&b);
        else
            tar_end(&b);
        expect_refused(p, &b, NULL, HSTU_EFORMAT, words);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *words;
    } c[] = {{"/etc/passwd", "its name is absolute"}, {"../up.csv", "with '..'"}, {"a/../../up.csv", "with '..'"},
        {"a/..", "with '..'"}, {"a\\..\\up.csv", "backslash"}, {"a\x1b[31m.csv", "control character"},
        {"a\n.csv", "control character"}, {"a\xff.csv", "not UTF-8"}, {"//a", "absolute"}};
    place p;
    (void)state;
    place_open(&p);
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        bytes b = {0};
        expect_entry_refused(&p, c[i].name, '0', NULL, c[i].words);
        tar_pax(&b, "path", c[i].name);
        tar_file(&b, "short", "x");
        tar_gz(&b);
        expect_refused(&p, &b, NULL, HSTU_EFORMAT, c[i].words);
        zip(&b, &(zip_entry){.name = c[i].name, .text = "x"}, 1);
        expect_refused(&p, &b, NULL, HSTU_EFORMAT, strchr(c[i].name, '\\') ? "" : c[i].words);
    }
    expect_entry_refused(&p, "d/../x/", '5', NULL, "with '..'"); /* folders too */
    place_close(&p);
}

static void test_types(void **state)
{
    place p;
    (void)state;
    place_open(&p);
    expect_entry_refused(&p, "link", '2', "/etc", "symbolic link");
    expect_entry_refused(&p, "link", '2', "good.csv", "symbolic link");
    expect_entry_refused(&p, "hard", '1', "good.csv", "hard link");
    expect_entry_refused(&p, "hard", '1', "/etc/passwd", "hard link");
    expect_entry_refused(&p, "device", '3', NULL, "device");
    expect_entry_refused(&p, "device", '4', NULL, "device");
    expect_entry_refused(&p, "pipe", '6', NULL, "pipe");
    bytes b = {0};
    tar_entry(&b, "way", '2', p.top); /* the classic: a link, then a file through it */
    tar_file(&b, "way/escaped.csv", "x");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "symbolic link");
    zip(&b, &(zip_entry){.name = "link", .text = "/etc", .mode = 0120777}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "symbolic link");
    place_close(&p);
}

/* An unwanted entry refuses the archive as well: who made it cannot be trusted with the rest. */
static void test_unwanted(void **state)
{
    static const char *const pattern[] = {"good.csv"};
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    options.pattern = pattern;
    options.n_patterns = 1;
    tar_file(&b, "good.csv", "x");
    tar_file(&b, "../unwanted", "x");
    tar_gz(&b);
    expect_refused(&p, &b, &options, HSTU_EFORMAT, "with '..'");
    place_close(&p);
}

static void test_twice(void **state)
{
    static const zip_entry entry[] = {{.name = "a/x", .text = "1"}, {.name = "b/x", .text = "2"}};
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    tar_file(&b, "a/x", "1");
    tar_file(&b, "./a//x", "2");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "two files that would become 'a/x'");
    options.flat = 1;
    zip(&b, entry, 2);
    expect_refused(&p, &b, &options, HSTU_EFORMAT, "two files that would become 'x'");
    tar_file(&b, "a", "a file");
    tar_file(&b, "a/b", "in a folder of its name");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "'a' as a file and as a folder");
    tar_file(&b, "a/b/c", "in a folder");
    tar_file(&b, "a/bb", "of another name");
    tar_file(&b, "a/b", "a file of the folder's name");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "'a/b' as a file and as a folder");
    place_close(&p);
}

static void test_limits(void **state)
{
    place p;
    (void)state;
    place_open(&p);
    for (int packed = 0; packed < 3; packed++) {
        for (int which = 0; which < 4; which++) {
            static const zip_entry entry[] = {{.name = "a", .text = "12345"}, {.name = "b", .text = "12345"}};
            static const char *const words[] = {"more than 1 entries", "more than 1 of the wanted files",
                "'a' has more than 4 bytes", "unpacks to more than 9 bytes"};
            bytes b = {0};
            hstu_unpack_options options = place_options(&p);
            options.max_entries = which == 0 ? 1 : 2;
            options.max_files = which == 1 ? 1 : 2;
            options.max_file_bytes = which == 2 ? 4 : 5;
            options.max_total_bytes = which == 3 ? 9 : packed == 1 ? 1 << 20 : 10;
            if (packed == 2) {
                zip(&b, entry, 2);
            } else {
                tar_file(&b, "a", "12345");
                tar_file(&b, "b", "12345");
                if (packed)
                    tar_gz(&b);
                else
                    tar_end(&b);
            }
            expect_refused(&p, &b, &options, HSTU_EUNSUP, words[which]);
        }
    }
    place_close(&p);
}

/* 100 MB of zeros in 100 KB: refused by the ratio, in a file that is wanted and in one that is not. */
static void test_bombs(void **state)
{
    enum { LARGE = 100 << 20 };
    static const char *const pattern[] = {"small"};
    place p;
    (void)state;
    place_open(&p);
    char *text = malloc(LARGE + 1);
    assert_non_null(text);
    memset(text, 'z', LARGE);
    text[LARGE] = '\0';
    hstu_unpack_options options = place_options(&p);
    for (int form = 0; form < 3; form++) {
        bytes b = {0};
        if (form == 2) {
            zip(&b, &(zip_entry){.name = "large", .text = text, .deflated = true}, 1);
        } else {
            tar_file(&b, "small", "x");
            tar_file(&b, "large", text);
            tar_gz(&b);
        }
        options.pattern = form == 1 ? pattern : NULL;
        options.n_patterns = form == 1;
        expect_refused(&p, &b, &options, HSTU_EUNSUP, "times its own");
    }
    free(text);
    place_close(&p);
}

/* Sizes in the header that lie: larger than the archive, negative, more than any disk has. */
static void test_sizes(void **state)
{
    static const unsigned char huge[12] = {0x80, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                               negative[12] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0};
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    tar_sum(&b, tar_header(&b, "lies", '0', 5000, NULL));
    tar_data(&b, "short", 5);
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "'lies' cannot be read");
    for (int kind = 0; kind < 3; kind++) {
        const size_t at = tar_header(&b, "lies", '0', 0, NULL);
        memcpy(b.data + at + 124, kind == 2 ? negative : huge, 12);
        tar_sum(&b, at);
        tar_data(&b, "short", 5);
        tar_gz(&b);
        options.max_file_bytes = options.max_total_bytes = kind ? UINT64_MAX : UINT64_C(1) << 40;
        options.max_ratio = UINT64_MAX;
        expect_refused(&p, &b, &options,
            kind == 0   ? HSTU_EUNSUP
            : kind == 1 ? HSTU_EIO
                        : HSTU_EFORMAT,
            kind == 0   ? "'lies' has more than"
            : kind == 1 ? "too little space"
                        : "");
    }
    options = place_options(&p);
    options.needed_bytes = UINT64_C(1) << 62;
    tar_file(&b, "small", "x");
    tar_gz(&b);
    expect_refused(&p, &b, &options, HSTU_EIO, "too little space");
    options.needed_bytes = 0;
    /* A lie of what is not wanted. */
    const size_t at = tar_header(&b, "lies", '0', 0, NULL);
    memcpy(b.data + at + 124, huge, 12);
    tar_sum(&b, at);
    tar_gz(&b);
    options.pattern = (const char *const[]){"wanted"};
    options.n_patterns = 1;
    expect_refused(&p, &b, &options, HSTU_EFORMAT, "damaged or cut short");
    place_close(&p);
}

static void test_sparse(void **state)
{
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    const char map[] = "26 GNU.sparse.map=0,1,9,1\n22 GNU.sparse.size=10\n26 GNU.sparse.numblocks=2\n";
    tar_sum(&b, tar_header(&b, "pax", 'x', strlen(map), NULL));
    tar_data(&b, map, strlen(map));
    tar_file(&b, "holes", "ab");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "sparse file");
    tar_pax(&b, "GNU.sparse.map", "0,1,1048575,1"); /* in two headers, as nobody writes it */
    tar_pax(&b, "GNU.sparse.size", "1048576");
    tar_file(&b, "holes", "ab");
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "");
    const size_t at = tar_header(&b, "holes", 'S', 2, NULL); /* GNU's older form */
    memset(b.data + at + 345, 0, 155);
    memcpy(b.data + at + 257, "ustar  ", 8);
    memcpy(b.data + at + 386,
        "00000000000\0"
        "00000000001\0"
        "00003777777\0"
        "00000000001",
        48);
    memcpy(b.data + at + 483, "00004000000", 12);
    tar_sum(&b, at);
    tar_data(&b, "ab", 2);
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "sparse file");
    place_close(&p);
}

static void test_zips(void **state)
{
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    zip(&b, &(zip_entry){.name = "secret", .text = "xxxxxxxxxxxxxxxx", .flags = 1}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "it is encrypted");
    zip(&b, &(zip_entry){.name = "a", .text = "text", .crc_xor = 1}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "'a' cannot be read");
    zip(&b, &(zip_entry){.name = "a", .text = "text", .deflated = true, .crc_xor = 1}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "'a' cannot be read");
    zip(&b, &(zip_entry){.name = "a", .text = "text", .local_size_add = 3}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "damaged or cut short");
    /* Which name counts is libarchive's choice; the harmful one must not. */
    zip(&b, &(zip_entry){.name = "aaaaaaaaa", .text = "text", .local_name = "../escape"}, 1);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "with '..'");
    place_close(&p);
}

static void test_no_archives(void **state)
{
    static const char page[] = "<!DOCTYPE html><title>404 Not Found</title>";
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    put(&b, "", 0);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "it is empty");
    put(&b, page, sizeof page);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "neither .tar.gz, .tar nor .zip");
    gzip(&b, page, sizeof page);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "entry 1 cannot be read");
    tar_end(&b);
    bytes packed = {0};
    gzip(&packed, b.data, b.n);
    expect_refused(&p, &packed, NULL, HSTU_EFORMAT, ""); /* zeros alone are no tar to libarchive */
    put_free(&b);
    zip(&b, NULL, 0);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "");
    tar_entry(&b, "folder/", '5', NULL);
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "holds no file");
    const size_t at = tar_header(&b, "sum", '0', 4, NULL);
    tar_sum(&b, at);
    tar_data(&b, "text", 4);
    b.data[at + 10] ^= 1;
    tar_gz(&b);
    expect_refused(&p, &b, NULL, HSTU_EFORMAT, "cannot be read");
    place_close(&p);
}

static void put_small(bytes *b, int form)
{
    static const zip_entry entry[] = {
        {.name = "one.csv", .text = "a,b\n1,2\n", .deflated = true}, {.name = "two.csv", .text = "c\n3\n"}};
    if (form == 2) {
        zip(b, entry, 2);
        return;
    }
    tar_file(b, "one.csv", "a,b\n1,2\n");
    tar_file(b, "two.csv", "c\n3\n");
    if (form == 0)
        tar_gz(b);
    else
        tar_end(b);
}

/* An archive that was cut off anywhere is refused, whatever is still there. Of a plain tar the last zeros may be missing when those
 * that fill up the last file's block stand in for them. */
static void test_every_truncation(void **state)
{
    place p;
    (void)state;
    place_open(&p);
    for (int form = 0; form < 3; form++) {
        bytes whole = {0};
        put_small(&whole, form);
        for (size_t n = 0; n < whole.n - (form == 1 ? 508 : 0); n++) {
            bytes b = {0};
            put(&b, whole.data, n);
            expect_refused(&p, &b, NULL, HSTU_EFORMAT, "");
        }
        put_free(&whole);
    }
    place_close(&p);
}

/* A changed byte is found, or changes nothing of what comes out. A tar's contents alone have no checksum. */
static void test_every_damage(void **state)
{
    place p;
    hstu_error err;
    (void)state;
    place_open(&p);
    for (int form = 0; form < 3; form += 2) {
        bytes whole = {0};
        size_t found = 0;
        put_small(&whole, form);
        for (size_t i = 0; i < whole.n; i++) {
            bytes b = {0};
            put(&b, whole.data, whole.n);
            b.data[i] ^= 0x21;
            const hstu_status status = place_unpack(&p, &b, NULL, NULL, &err);
            if (status != HSTU_OK) {
                assert_true(err.code == status && err.msg[0]);
                assert_int_equal(place_empty(p.folder), 0);
                found++;
                continue;
            }
            /* The names in a zip have no checksum. */
            if (form == 0)
                assert_true(place_holds(&p, "one.csv", "a,b\n1,2\n") && place_holds(&p, "two.csv", "c\n3\n"));
            assert_int_equal(place_empty(p.folder), 2);
        }
        assert_true(found > whole.n / 2);
        put_free(&whole);
    }
    place_close(&p);
}

/* Links that stand in the folder already are no way out of it either. */
static void test_links_in_the_folder(void **state)
{
    char path[256], elsewhere[256];
    place p;
    hstu_error err;
    (void)state;
    place_open(&p);
    assert_int_equal(mkdir(p.folder, 0700), 0);
    (void)snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", p.top);
    assert_int_equal(mkdir(elsewhere, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/way", p.folder);
    assert_int_equal(symlink(elsewhere, path), 0);
    bytes b = {0};
    tar_file(&b, "way/file", "x");
    tar_gz(&b);
    assert_int_equal(place_unpack(&p, &b, NULL, NULL, &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, "no folder of its own"));
    assert_int_equal(place_empty(elsewhere), 0);
    tar_file(&b, "way", "x");
    tar_gz(&b);
    assert_int_equal(place_unpack(&p, &b, NULL, NULL, &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, "no regular file"));
    /* The folder itself may be one: that is its owner's wish. */
    assert_int_equal(place_empty(p.folder), 1);
    assert_int_equal(rmdir(p.folder), 0);
    assert_int_equal(symlink(elsewhere, p.folder), 0);
    tar_file(&b, "file", "x");
    tar_gz(&b);
    assert_int_equal(place_unpack(&p, &b, NULL, NULL, &err), HSTU_OK);
    assert_int_equal(place_empty(elsewhere), 1);
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_unwanted),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_zips),
        cmocka_unit_test(test_no_archives),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_damage),
        cmocka_unit_test(test_links_in_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
