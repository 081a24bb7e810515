/* The CSV reader: what is accepted, and for everything else the line and column of the error. */
#include "dataset/scratch.h"

#include "base/dynbuf.h"
#include "data/csv.h"
#include "data/intlist.h"
#include "data/number.h"

typedef struct text_case {
    const char *name, *text;
    const char *rows;    /* header and rows, fields joined by '|', rows by ';', or NULL for an error */
    uint64_t line;       /* of the error */
    const char *problem; /* part of its sentence */
} text_case;

static const text_case text_cases[] = {
    {"plain", "a,b\n1,2\n3,4\n", "a|b;1|2;3|4", 0, NULL},
    {"no final newline", "a,b\n1,2", "a|b;1|2", 0, NULL},
    {"CRLF", "a,b\r\n1,2\r\n", "a|b;1|2", 0, NULL},
    {"CRLF, cut before the line feed", "a,b\r\n1,2\r", NULL, 2, "carriage return"},
    {"mixed line ends", "a,b\r\n1,2\n3,4\r\n", "a|b;1|2;3|4", 0, NULL},
    {"byte order mark",
        "\xef\xbb\xbf"
        "a,b\n1,2\n",
        "a|b;1|2", 0, NULL},
    {"header only", "a,b\n", "a|b", 0, NULL},
    {"header without newline", "a,b", "a|b", 0, NULL},
    {"one column", "a\n1\n", "a;1", 0, NULL},
    {"empty fields", "a,b,c\n,,\n1,,\n", "a|b|c;||;1||", 0, NULL},
    {"quoted", "a,b\n\"1\",\"x,y\"\n", "a|b;1|x,y", 0, NULL},
    {"quoted empty", "a,b\n\"\",\"\"\n", "a|b;|", 0, NULL},
    {"quoted at the very end", "a,b\n1,\"2\"", "a|b;1|2", 0, NULL},
    {"doubled quotes", "a,b\n\"say \"\"hi\"\"\",\"\"\"\"\n", "a|b;say \"hi\"|\"", 0, NULL},
    {"newlines in quotes", "a,b\n\"1\n2\r\n3\",4\n5,6\n", "a|b;1\n2\r\n3|4;5|6", 0, NULL},
    {"quoted header", "\"a\",\"b c\"\n1,2\n", "a|b c;1|2", 0, NULL},
    {"empty file", "", NULL, 1, "is empty"},
    {"byte order mark alone", "\xef\xbb\xbf", NULL, 1, "is empty"},
    {"empty line", "a,b\n1,2\n\n3,4\n", NULL, 3, "the line is empty"},
    {"empty first line", "\na,b\n", NULL, 1, "the line is empty"},
    {"too few fields", "a,b\n1,2\n3\n", NULL, 3, "expected 2 fields, found 1"},
    {"too many fields", "a,b\n1,2\n3,4,5\n", NULL, 3, "there are more fields than columns"},
    {"carriage return alone", "a,b\n1\r,2\n", NULL, 2, "carriage return"},
    {"quote inside", "a,b\n1,x\"y\n", NULL, 2, "a quote stands inside"},
    {"text behind a quote", "a,b\n\"1\"x,2\n", NULL, 2, "closing quote"},
    {"unclosed quote", "a,b\n1,2\n3,\"4\n5,6\n", NULL, 3, "not closed"},
    {"unclosed quote at the end", "a,b\n1,\"", NULL, 2, "not closed"},
    {"line after quoted newlines", "a,b\n\"1\n\n2\",3\n4\n", NULL, 5, "expected 2 fields, found 1"},
};

static bool append_row(hs_dynbuf *rows, const hs_csv_field *field, size_t n)
{
    bool ok = rows->len == 0 || hs_dynbuf_append(rows, ";", 1);
    for (size_t i = 0; ok && i < n; i++)
        ok = (i == 0 || hs_dynbuf_append(rows, "|", 1)) && hs_dynbuf_append(rows, field[i].text, field[i].len);
    return ok;
}

/* Reads all of a file into the notation of text_case; the status of the first failure. */
static hstu_status read_all(hs_dynbuf *rows, const char *path, size_t max_row_bytes, hstu_error *err)
{
    hs_csv csv;
    hstu_status status = hs_csv_open(&csv, path, max_row_bytes, err);
    if (status != HSTU_OK)
        return status;
    hs_csv_field *header = calloc(csv.n_columns, sizeof *header);
    assert_non_null(header);
    for (size_t i = 0; i < csv.n_columns; i++)
        header[i] = (hs_csv_field){csv.column[i], strlen(csv.column[i])};
    assert_true(append_row(rows, header, csv.n_columns));
    free(header);
    for (bool more = true; status == HSTU_OK && more;) {
        status = hs_csv_next(&csv, &more, err);
        if (status == HSTU_OK && more)
            assert_true(append_row(rows, csv.field, csv.n_columns));
    }
    hs_csv_close(&csv);
    return status;
}

static void check_text(const text_case *c, const char *path, size_t max_row_bytes)
{
    hs_dynbuf rows;
    hstu_error err = {0};
    hs_dynbuf_init(&rows, 1 << 20);
    const hstu_status status = read_all(&rows, path, max_row_bytes, &err);
    if (c->rows) {
        if (status != HSTU_OK)
            fail_msg("%s: %s", c->name, err.msg);
        assert_string_equal(rows.data, c->rows);
    } else {
        if (status != HSTU_EFORMAT || err.pos != c->line || !strstr(err.msg, c->problem) || !strstr(err.msg, path))
            fail_msg("%s: status %d, line %d: %s", c->name, status, (int)err.pos, err.msg);
    }
    hs_dynbuf_free(&rows);
}

static void test_texts(void **state)
{
    scratch *s = *state;
    for (size_t i = 0; i < sizeof text_cases / sizeof *text_cases; i++) {
        const text_case *c = &text_cases[i];
        scratch_text(s, "plain.csv", c->text);
        check_text(c, s->path, 1 << 20);
        check_text(c, s->path, 32);
        scratch_gzip(s, "packed.csv.gz", "wb", c->text, strlen(c->text));
        check_text(c, s->path, 1 << 20);
        check_text(c, s->path, 32); /* a window so small that rows are cut everywhere */
    }
}

/* A table with every awkward thing in it, larger than gzip's window. */
static void append_table(hs_dynbuf *text)
{
    uint32_t x = 1;
    assert_true(hs_dynbuf_append_text(text, "a,b,c\r\n"));
    for (int row = 0; row < 20000; row++) {
        x = x * 1664525u + 1013904223u;
        static const char *const cell[] = {
            "", "\"\"", "17", "\"x\n\"\"y\"\"\r\n\"", "\",\"", "a longer text without quotes"};
        assert_true(hs_dynbuf_printf(
            text, "%d,%s,%s%s", row, cell[x >> 8 & 3], cell[2 + (x >> 16 & 3)], x >> 24 & 1 ? "\n" : "\r\n"));
    }
}

static void test_gzip_equals_plain(void **state)
{
    scratch *s = *state;
    hs_dynbuf text, plain, packed;
    hstu_error err;
    hs_dynbuf_init(&text, 1 << 24);
    hs_dynbuf_init(&plain, 1 << 24);
    hs_dynbuf_init(&packed, 1 << 24);
    append_table(&text);
    scratch_write(s, "t.csv", text.data, text.len);
    assert_int_equal(read_all(&plain, s->path, 1 << 20, &err), HSTU_OK);
    /* Two members, cut in the middle of a row: gzip files may be glued together. */
    scratch_gzip(s, "t.csv.gz", "wb", text.data, text.len / 3);
    scratch_gzip(s, "t.csv.gz", "ab", text.data + text.len / 3, text.len - text.len / 3);
    assert_int_equal(read_all(&packed, s->path, 1 << 20, &err), HSTU_OK);
    assert_int_equal(plain.len, packed.len);
    assert_memory_equal(plain.data, packed.data, plain.len);
    hs_dynbuf_free(&text);
    hs_dynbuf_free(&plain);
    hs_dynbuf_free(&packed);
}

static void test_damaged_gzip(void **state)
{
    scratch *s = *state;
    hs_dynbuf text, rows;
    hstu_error err;
    hs_dynbuf_init(&text, 1 << 24);
    hs_dynbuf_init(&rows, 1 << 24);
    append_table(&text);
    scratch_gzip(s, "t.csv.gz", "wb", text.data, text.len);
    size_t n = 0;
    char *packed = read_whole(s->path, &n);
    static const int parts[] = {0, 1, 2, 3};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        scratch_write(s, "cut.csv.gz", packed, 2 + (n - 3) * (size_t)parts[i] / 3);
        assert_int_equal(read_all(&rows, s->path, 1 << 20, &err), HSTU_EFORMAT);
        assert_non_null(strstr(err.msg, "end early"));
    }
    packed[n / 2] = (char)(packed[n / 2] ^ 0x55);
    scratch_write(s, "flipped.csv.gz", packed, n);
    assert_int_equal(read_all(&rows, s->path, 1 << 20, &err), HSTU_EFORMAT);
    packed[n / 2] = (char)(packed[n / 2] ^ 0x55);
    packed[n - 8] = (char)(packed[n - 8] ^ 1); /* the checksum */
    scratch_write(s, "checksum.csv.gz", packed, n);
    assert_int_equal(read_all(&rows, s->path, 1 << 20, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "damaged gzip data"));
    free(packed);
    hs_dynbuf_free(&text);
    hs_dynbuf_free(&rows);
}

static void test_long_rows(void **state)
{
    scratch *s = *state;
    hs_dynbuf rows;
    hstu_error err;
    hs_dynbuf_init(&rows, 1 << 20);
    const char *text = "a,b\n1,2\n3,0123456789012345678901234567890123456789\n";
    scratch_text(s, "t.csv", text);
    assert_int_equal(read_all(&rows, s->path, 42, &err), HSTU_EFORMAT);
    assert_int_equal(err.pos, 3);
    assert_non_null(strstr(err.msg, "longer than 42 bytes"));
    assert_int_equal(read_all(&rows, s->path, 43, &err), HSTU_OK);
    scratch_gzip(s, "t.csv.gz", "wb", text, strlen(text));
    assert_int_equal(read_all(&rows, s->path, 20, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "longer than 20 bytes"));
    /* A quote that is never closed ends at the limit, not at the end of the file. */
    scratch_text(s, "open.csv", "a\n\"0123456789\n0123456789\n0123456789\n0123456789\n");
    assert_int_equal(read_all(&rows, s->path, 20, &err), HSTU_EFORMAT);
    assert_int_equal(err.pos, 2);
    hs_dynbuf_free(&rows);
}

static void test_columns(void **state)
{
    scratch *s = *state;
    hs_csv csv;
    hstu_error err;
    size_t index = 99;
    scratch_text(s, "t.csv", "b,a,c,c\n1,2,3,4\n");
    assert_int_equal(hs_csv_open(&csv, s->path, 1000, &err), HSTU_OK);
    assert_int_equal(hs_csv_column(&csv, "a", &index, &err), HSTU_OK);
    assert_int_equal(index, 1);
    assert_int_equal(hs_csv_column(&csv, "d", &index, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "'d' is missing"));
    assert_non_null(strstr(err.msg, "t.csv"));
    assert_int_equal(hs_csv_column(&csv, "c", &index, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "twice (columns 3 and 4)"));
    hs_csv_close(&csv);
    char *wide = malloc(2 * HS_CSV_MAX_COLUMNS + 2);
    assert_non_null(wide);
    for (size_t i = 0; i <= HS_CSV_MAX_COLUMNS; i++)
        memcpy(wide + 2 * i, "x,", 2);
    scratch_write(s, "wide.csv", wide, 2 * HS_CSV_MAX_COLUMNS + 1);
    assert_int_equal(hs_csv_open(&csv, s->path, 10000, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "too many columns"));
    free(wide);
}

typedef struct number_case {
    const char *text;
    bool ok;
    int64_t value;
} number_case;

static void test_numbers(void **state)
{
    (void)state;
    static const number_case cases[] = {{"0", true, 0}, {"-0", true, 0}, {"17", true, 17}, {"-17", true, -17},
        {"007", true, 7}, {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0}, {"18446744073709551616", false, 0},
        {"99999999999999999999999", false, 0}, {"", false, 0}, {"-", false, 0}, {"+1", false, 0}, {" 1", false, 0},
        {"1 ", false, 0}, {"1.0", false, 0}, {"1e3", false, 0}, {"0x10", false, 0}, {"--1", false, 0},
        {"nan", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = 12345;
        if (hs_number_int(cases[i].text, strlen(cases[i].text), &value) != cases[i].ok)
            fail_msg("'%s'", cases[i].text);
        assert_true(value == (cases[i].ok ? cases[i].value : 12345));
    }
}

static void test_number_errors(void **state)
{
    scratch *s = *state;
    hs_csv csv;
    hstu_error err;
    bool more;
    int64_t value = 7;
    scratch_text(s, "t.csv", "user_id,time_ms\n1,12x\n2,300\n");
    assert_int_equal(hs_csv_open(&csv, s->path, 1000, &err), HSTU_OK);
    assert_int_equal(hs_csv_next(&csv, &more, &err), HSTU_OK);
    assert_int_equal(hs_csv_int(&csv, 1, 0, 100, &value, &err), HSTU_EFORMAT);
    assert_int_equal(err.pos, 2);
    assert_non_null(strstr(err.msg, "t.csv', line 2, column 2 (time_ms): expected an integer, found '12x'"));
    assert_int_equal(hs_csv_next(&csv, &more, &err), HSTU_OK);
    assert_int_equal(hs_csv_int(&csv, 1, 0, 100, &value, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "line 3, column 2 (time_ms): expected an integer from 0 to 100, found 300"));
    assert_int_equal(value, 7);
    hs_csv_close(&csv);
}

typedef struct list_case {
    const char *text;
    hs_intlist_form form;
    const char *values; /* NULL: no list */
    size_t at;
} list_case;

static void test_lists(void **state)
{
    (void)state;
    static const list_case cases[] = {{"[1, 2, 3]", HS_INTLIST_JSON, "1 2 3 ", 0}, {"[]", HS_INTLIST_JSON, "", 0},
        {" [ -1,2 ] ", HS_INTLIST_JSON, "-1 2 ", 0}, {"1,2", HS_INTLIST_JSON, NULL, 0},
        {"[1,2", HS_INTLIST_JSON, NULL, 4}, {"[1,]", HS_INTLIST_JSON, NULL, 3}, {"[,1]", HS_INTLIST_JSON, NULL, 1},
        {"[1]2", HS_INTLIST_JSON, NULL, 3}, {"[1 2]", HS_INTLIST_JSON, NULL, 3}, {"[1.5]", HS_INTLIST_JSON, NULL, 2},
        {"", HS_INTLIST_JSON, NULL, 0}, {"[[1]]", HS_INTLIST_JSON, NULL, 1},
        {"[99999999999999999999]", HS_INTLIST_JSON, NULL, 1}, {"1,2,3", HS_INTLIST_BARE, "1 2 3 ", 0},
        {"7", HS_INTLIST_BARE, "7 ", 0}, {"[1, 2]", HS_INTLIST_BARE, "1 2 ", 0}, {"", HS_INTLIST_BARE, NULL, 0},
        {"1,", HS_INTLIST_BARE, NULL, 2}, {"1]", HS_INTLIST_BARE, NULL, 1}, {"4.5", HS_INTLIST_BARE, NULL, 1},
        {"4.5,-0.5,-3.9,2", HS_INTLIST_FRACTIONS, "4 0 -3 2 ", 0}, {"4.", HS_INTLIST_FRACTIONS, NULL, 1},
        {".5", HS_INTLIST_FRACTIONS, NULL, 0}, {"1e5", HS_INTLIST_FRACTIONS, NULL, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const list_case *c = &cases[i];
        hs_intlist list = {0};
        const char *problem = NULL;
        size_t at = 0;
        char shown[256] = "";
        const bool ok = hs_intlist_parse(&list, c->text, strlen(c->text), c->form, &problem, &at);
        for (size_t k = 0, used = 0; ok && k < list.n; k++)
            used += (size_t)snprintf(shown + used, sizeof shown - used, "%lld ", (long long)list.value[k]);
        if (ok != (c->values != NULL) || (ok && strcmp(shown, c->values) != 0) || (!ok && (!problem || at != c->at)))
            fail_msg("'%s': %s at %zu: %s", c->text, ok ? shown : "error", at, problem ? problem : "");
        hs_intlist_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_texts, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_gzip_equals_plain, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_gzip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_long_rows, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_columns, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test_setup_teardown(test_number_errors, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
