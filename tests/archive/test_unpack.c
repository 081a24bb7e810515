/* What may be unpacked: forms, names, patterns, and how the files appear. */
#include "archive_bytes.h"

#include "archive/unpack_int.h"

static void expect_ok(hstu_status status, const hstu_error *err)
{
    if (status != HSTU_OK)
        fail_msg("%s", err->msg);
}

static void put_sample(bytes *b)
{
    tar_entry(b, "Set/", '5', NULL);
    tar_entry(b, "Set/data/", '5', NULL);
    tar_file(b, "Set/data/log_1.csv", "a,b\n1,2\n");
    tar_file(b, "Set/data/Other.bin", "x");
    tar_file(b, "./Set//data/./users.csv", "");
}

static void check_sample(const place *p, const hstu_unpack_report *report)
{
    assert_int_equal(report->n_files, 3);
    assert_int_equal(report->n_bytes, 9);
    assert_int_equal(report->n_skipped, 0);
    assert_true(place_holds(p, "Set/data/log_1.csv", "a,b\n1,2\n"));
    assert_true(place_holds(p, "Set/data/Other.bin", "x"));
    assert_true(place_holds(p, "Set/data/users.csv", ""));
    assert_int_equal(place_empty(p->folder), 3);
}

static void test_forms(void **state)
{
    static const zip_entry entry[] = {{.name = "Set/", .text = "", .mode = 040755},
        {.name = "Set/data/log_1.csv", .text = "a,b\n1,2\n", .deflated = true},
        {.name = "Set/data/Other.bin", .text = "x"}, {.name = "Set/data/users.csv", .text = ""}};
    place p;
    hstu_error err;
    hstu_unpack_report report;
    (void)state;
    place_open(&p);
    bytes b = {0};
    put_sample(&b);
    tar_end(&b);
    expect_ok(place_unpack(&p, &b, NULL, &report, &err), &err);
    check_sample(&p, &report);
    put_sample(&b);
    tar_gz(&b);
    expect_ok(place_unpack(&p, &b, NULL, &report, &err), &err);
    check_sample(&p, &report);
    zip(&b, entry, 4);
    expect_ok(place_unpack(&p, &b, NULL, &report, &err), &err);
    check_sample(&p, &report);
    place_close(&p);
}

/* gzip members one behind the other are one file, as in a download that was packed in pieces. */
static void test_members(void **state)
{
    place p;
    hstu_error err;
    hstu_unpack_report report;
    bytes b = {0}, packed = {0};
    (void)state;
    place_open(&p);
    put_sample(&b);
    tar_end(&b);
    for (size_t at = 0; at < b.n; at += 700)
        gzip(&packed, b.data + at, b.n - at < 700 ? b.n - at : 700);
    expect_ok(place_unpack(&p, &packed, NULL, &report, &err), &err);
    check_sample(&p, &report);
    put_free(&b);
    place_close(&p);
}

static void test_patterns(void **state)
{
    static const char *const pattern[] = {"users*.csv", "log_?.csv"};
    place p;
    hstu_error err;
    hstu_unpack_report report;
    bytes b = {0};
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    options.pattern = pattern;
    options.n_patterns = 2;
    options.flat = 1;
    put_sample(&b);
    tar_gz(&b);
    expect_ok(place_unpack(&p, &b, &options, &report, &err), &err);
    assert_int_equal(report.n_files, 2);
    assert_int_equal(report.n_skipped, 1);
    assert_true(place_holds(&p, "log_1.csv", "a,b\n1,2\n") && place_holds(&p, "users.csv", ""));
    assert_int_equal(place_empty(p.folder), 2);
    /* A folder is no file, whatever its name. */
    options.pattern = (const char *const[]){"data"};
    options.n_patterns = 1;
    put_sample(&b);
    tar_gz(&b);
    assert_int_equal(place_unpack(&p, &b, &options, &report, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "holds none of the wanted files, such as 'data'"));
    assert_int_equal(place_empty(p.folder), 0);
    place_close(&p);
}

static void test_fits(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool fits;
    } c[] = {{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"?", "", false}, {"?", "a", true},
        {"a*c", "abbc", true}, {"a*c", "abcb", false}, {"a*b*c", "aXbXbXc", true}, {"*.csv", "x.csv.gz", false},
        {"*.csv*", "x.csv.gz", true}, {"log_*_1k.csv", "log_standard_1k.csv", true}, {"A", "a", false},
        {"**a", "bba", true}, {"a**", "a", true}, {"*ab", "aab", true}};
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        if (hs_unpack_fits(c[i].pattern, c[i].name) != c[i].fits)
            fail_msg("'%s' and '%s'", c[i].pattern, c[i].name);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *to, *why;
    } c[] = {{"a", "a", NULL}, {"a/b", "a/b", NULL}, {"./a//./b/", "a/b", NULL}, {"./", "", NULL}, {".", "", NULL},
        {"a..b/..c/d..", "a..b/..c/d..", NULL}, {"...", "...", NULL}, {".a", ".a", NULL},
        {"\xc3\xa9/\xe4\xb8\xad", "\xc3\xa9/\xe4\xb8\xad", NULL}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", NULL},
        {"", NULL, "no name"}, {"/", NULL, "absolute"}, {"/a", NULL, "absolute"}, {"..", NULL, "'..'"},
        {"../a", NULL, "'..'"}, {"a/../b", NULL, "'..'"}, {"a/..", NULL, "'..'"}, {"a\\b", NULL, "backslash"},
        {"a\nb", NULL, "control"}, {"a\x7f", NULL, "control"}, {"\xc2\x85", NULL, "control"},
        {"\x1b[2J", NULL, "control"}, {"\xff", NULL, "UTF-8"}, {"\xc0\xaf", NULL, "UTF-8"}, {"\xc3", NULL, "UTF-8"},
        {"\xed\xa0\x80", NULL, "UTF-8"}, {"\xf4\x90\x80\x80", NULL, "UTF-8"}, {"\xe0\x80\xaf", NULL, "UTF-8"},
        {"\x80", NULL, "UTF-8"}};
    hs_path path;
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        const char *why = hs_unpack_name(&path, c[i].name);
        if (c[i].why ? !why || !strstr(why, c[i].why) : why || strcmp(path.text, c[i].to) != 0)
            fail_msg("'%s': %s", c[i].name, why ? why : path.text);
    }
}

static void test_name_lengths(void **state)
{
    char name[2048];
    hs_path path;
    (void)state;
    memset(name, 'a', sizeof name);
    name[255] = '\0';
    assert_null(hs_unpack_name(&path, name));
    name[255] = 'a';
    name[256] = '\0';
    assert_non_null(hs_unpack_name(&path, name));
    for (size_t i = 0; i < 33; i++)
        memcpy(name + 2 * i, "d/", 2);
    name[63] = '\0';
    assert_null(hs_unpack_name(&path, name));
    name[63] = '/';
    name[65] = '\0';
    assert_non_null(hs_unpack_name(&path, name));
    for (size_t i = 0; i < 6; i++) {
        memset(name + 200 * i, 'b', 199);
        name[200 * i + 199] = '/';
    }
    name[1000] = '\0';
    assert_null(hs_unpack_name(&path, name));
    name[1000] = 'b';
    name[1100] = '\0';
    assert_non_null(hs_unpack_name(&path, name));
}

/* Long names come in two ways, and those of zips may be UTF-8, which the locale of this program is not. */
static void test_long_and_foreign_names(void **state)
{
    char name[300] = {0};
    place p;
    hstu_error err;
    bytes b = {0};
    (void)state;
    place_open(&p);
    memset(name, 'n', 150);
    memcpy(name + 60, "/", 1);
    tar_pax(&b, "path", name);
    tar_file(&b, "short", "pax");
    name[0] = 'G';
    tar_gnu_long_name(&b, name);
    tar_file(&b, "short", "gnu");
    tar_pax(&b, "uname", "\xff"); /* whose it was is nothing to us */
    tar_file(&b, "owned", "");
    tar_pax(&b, "LIBARCHIVE.xattr.com.apple.quarantine", "MDA4MTs");
    tar_file(&b, "marked", "");
    tar_pax(&b, "path", "\xe4\xb8\xad/\xc3\xa9");
    tar_file(&b, "short", "utf-8");
    tar_gz(&b);
    expect_ok(place_unpack(&p, &b, NULL, NULL, &err), &err);
    assert_true(place_holds(&p, name, "gnu"));
    name[0] = 'n';
    assert_true(place_holds(&p, name, "pax") && place_holds(&p, "\xe4\xb8\xad/\xc3\xa9", "utf-8"));
    zip(&b, &(zip_entry){.name = "\xe4\xb8\xad.csv", .text = "zip", .flags = 1 << 11}, 1);
    expect_ok(place_unpack(&p, &b, NULL, NULL, &err), &err);
    assert_true(place_holds(&p, "\xe4\xb8\xad.csv", "zip"));
    assert_int_equal(place_empty(p.folder), 6);
    place_close(&p);
}

/* Names that differ in case are two files; a file that is there is replaced and keeps its permissions, which the archive's do not. */
static void test_case_and_replacement(void **state)
{
    place p;
    hstu_error err;
    struct stat st;
    char path[160];
    bytes b = {0};
    (void)state;
    place_open(&p);
    assert_int_equal(mkdir(p.folder, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/A", p.folder);
    place_write(path, "older and longer", 16);
    assert_int_equal(chmod(path, 0600), 0);
    tar_file(&b, "A", "upper");
    tar_file(&b, "a", "lower");
    tar_gz(&b);
    const mode_t mask = umask(022);
    expect_ok(place_unpack(&p, &b, NULL, NULL, &err), &err);
    (void)umask(mask);
    assert_true(place_holds(&p, "A", "upper") && place_holds(&p, "a", "lower"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    (void)snprintf(path, sizeof path, "%s/a", p.folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_true(st.st_mtime > 1000000);
    place_close(&p);
}

/* Larger than every buffer on the way, and with runs of zeros at its end. */
static void test_large_file(void **state)
{
    enum { LARGE = 5 * 1024 * 1024 + 77 };
    place p;
    hstu_error err;
    hstu_unpack_report report;
    (void)state;
    place_open(&p);
    char *text = malloc(LARGE + 1);
    assert_non_null(text);
    for (uint32_t i = 0, x = 1; i < LARGE; i++, x = x * 1664525u + 1013904223u)
        text[i] = (char)('a' + (x >> 27) % 26);
    text[LARGE] = '\0';
    for (int form = 0; form < 3; form++) {
        bytes b = {0};
        if (form == 2)
            zip(&b, &(zip_entry){.name = "large", .text = text, .deflated = true}, 1);
        else
            tar_file(&b, "large", text);
        if (form == 0)
            tar_gz(&b);
        else if (form == 1)
            tar_end(&b);
        expect_ok(place_unpack(&p, &b, NULL, &report, &err), &err);
        assert_int_equal(report.n_bytes, LARGE);
        assert_true(place_holds(&p, "large", text));
        assert_int_equal(place_empty(p.folder), 1);
    }
    free(text);
    place_close(&p);
}

static void test_many_entries(void **state)
{
    enum { MANY = 100000 };
    static const char *const pattern[] = {"wanted"};
    place p;
    hstu_error err;
    hstu_unpack_report report;
    bytes b = {0};
    (void)state;
    place_open(&p);
    for (int i = 0; i < MANY; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "d%d/f%d", i % 100, i);
        tar_entry(&b, name, '0', NULL);
    }
    tar_file(&b, "wanted", "yes");
    tar_gz(&b);
    hstu_unpack_options options = place_options(&p);
    options.pattern = pattern;
    options.n_patterns = 1;
    bytes copy = {0};
    put(&copy, b.data, b.n);
    expect_ok(place_unpack(&p, &b, &options, &report, &err), &err);
    assert_int_equal(report.n_skipped, MANY);
    assert_true(place_holds(&p, "wanted", "yes"));
    assert_int_equal(place_empty(p.folder), 1);
    options.max_entries = MANY;
    assert_int_equal(place_unpack(&p, &copy, &options, &report, &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "holds more than 100000 entries"));
    assert_int_equal(place_empty(p.folder), 0);
    place_close(&p);
}

typedef struct watch {
    uint64_t done, total;
    int calls;
    int cancel_at;
    volatile int cancel;
} watch;

static void on_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    watch *w = ctx;
    assert_string_equal(stage, "unpacking");
    assert_true(done <= total && done >= w->done);
    w->done = done;
    w->total = total;
    w->cancel = ++w->calls == w->cancel_at;
}

/* Progress ends at the archive's size; an interruption at any step leaves nothing. */
static void test_progress(void **state)
{
    place p;
    hstu_error err;
    (void)state;
    place_open(&p);
    int calls = 2;
    for (int cancel_at = 0; cancel_at < calls; cancel_at++) {
        bytes b = {0};
        watch w = {.cancel_at = cancel_at};
        hstu_unpack_options options = place_options(&p);
        options.progress = (hstu_progress){.ctx = &w, .step = on_step, .cancel = &w.cancel};
        char *text = malloc(2000001);
        assert_non_null(text);
        for (uint32_t i = 0, x = 1; i < 2000000; i++, x = x * 1664525u + 1013904223u)
            text[i] = (char)(1 + (x >> 24) % 255);
        text[2000000] = '\0';
        tar_file(&b, "file", text);
        free(text);
        tar_gz(&b);
        const size_t size = b.n;
        const hstu_status status = place_unpack(&p, &b, &options, NULL, &err);
        assert_int_equal(status, cancel_at ? HSTU_ECANCELLED : HSTU_OK);
        assert_int_equal(place_empty(p.folder), cancel_at ? 0 : 1);
        if (!cancel_at) {
            calls = w.calls;
            assert_true(w.done == size && w.total == size && calls > 4);
        }
    }
    place_close(&p);
}

static void test_options(void **state)
{
    place p;
    hstu_error err;
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, p.archive));
    options.archive = p.top;
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "no regular file"));
    options = place_options(&p);
    options.size--;
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    options = place_options(&p);
    options.folder = "";
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    options = place_options(&p);
    options.max_ratio = 0;
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    options = place_options(&p);
    options.n_patterns = 1;
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    options.pattern = (const char *const[]){NULL};
    assert_int_equal(hstu_unpack(&options, NULL, &err), HSTU_EINVAL);
    place_close(&p);
}

/* Without the library the sentence names the package; a library that is another one is not taken. */
static void test_library(void **state)
{
    hs_la la = {0};
    hstu_error err;
    (void)state;
    assert_int_equal(hs_la_load(&la, "libarchive_that_is_not_there.so.13", &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "please install the Debian package libarchive13"));
    assert_int_equal(hs_la_load(&la, "libz.so.1", &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "it has no archive_"));
    assert_null(la.handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_name_lengths),
        cmocka_unit_test(test_long_and_foreign_names),
        cmocka_unit_test(test_case_and_replacement),
        cmocka_unit_test(test_large_file),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
