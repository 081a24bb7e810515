/* Embedding tables: rows by number and by key, over several parts, at any alignment. What the index does with millions of keys and
 * with hostile ones is in ckpt/test_dynemb.c. */
#include "file/embtable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void finish(hs_table *t)
{
    hstu_error err;
    if (hs_table_finish(t, "here", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void test_static_rows(void **state)
{
    static const float first[6] = {0}, last[4] = {0};
    hs_table t = {0};
    (void)state;
    assert_int_equal(hs_table_make(&t, "t", HS_F32, false, 2, 4, NULL), HSTU_OK);
    t.part[0] = (hs_table_part){.values = first, .n_rows = 3};
    t.part[2] = (hs_table_part){.values = last, .n_rows = 2}; /* between two empty ones */
    finish(&t);
    assert_int_equal(t.n_rows, 5);
    for (int64_t id = 0; id < 5; id++)
        assert_ptr_equal(hs_table_row(&t, id), id < 3 ? first + 2 * id : last + 2 * (id - 3));
    assert_null(hs_table_row(&t, 5));
    assert_null(hs_table_row(&t, -1));
    assert_null(hs_table_row(&t, INT64_MIN));
    assert_null(hs_table_row(&t, INT64_MAX));
    hs_table_close(&t);
    assert_null(t.part);
    hs_table_close(&t);
}

/* Keys and bf16 rows that begin at odd addresses. */
static void test_keys_at_any_alignment(void **state)
{
    static const int64_t keys[] = {-5, INT64_MAX, 0, 77, INT64_MIN};
    enum { N = sizeof keys / sizeof *keys, CUT = 2 };
    unsigned char *key_bytes = malloc(sizeof keys + 1), *row_bytes = malloc(N * 6 + 1);
    hs_table t = {0};
    (void)state;
    memcpy(key_bytes + 1, keys, sizeof keys);
    assert_int_equal(hs_table_make(&t, "t", HS_BF16, true, 3, 2, NULL), HSTU_OK);
    t.part[0] = (hs_table_part){.keys = key_bytes + 1, .values = row_bytes + 1, .n_rows = CUT};
    t.part[1] = (hs_table_part){.keys = key_bytes + 1 + 8 * CUT, .values = row_bytes + 1 + 6 * CUT, .n_rows = N - CUT};
    finish(&t);
    for (size_t i = 0; i < N; i++)
        assert_ptr_equal(hs_table_row(&t, keys[i]), row_bytes + 1 + 6 * i);
    for (int64_t id = 1; id < 77; id++)
        assert_null(hs_table_row(&t, id));
    hs_table_close(&t);
    free(key_bytes);
    free(row_bytes);
}

static void test_empty_tables(void **state)
{
    hs_table t = {0};
    (void)state;
    assert_null(hs_table_row(&t, 0));
    for (int dynamic = 0; dynamic < 2; dynamic++) {
        assert_int_equal(hs_table_make(&t, "t", HS_F32, dynamic, 0, 1, NULL), HSTU_OK);
        finish(&t);
        assert_null(hs_table_row(&t, 0));
        hs_table_close(&t);
    }
}

static void test_duplicate_keys(void **state)
{
    static const int64_t one[] = {1, 2}, two[] = {3, 2};
    static const float values[2] = {0};
    hs_table t = {0};
    hstu_error err;
    (void)state;
    assert_int_equal(hs_table_make(&t, "t", HS_F32, true, 1, 2, NULL), HSTU_OK);
    t.part[0] = (hs_table_part){.keys = one, .values = values, .n_rows = 2, .source = "first"};
    t.part[1] = (hs_table_part){.keys = two, .values = values, .n_rows = 2};
    assert_int_equal(hs_table_finish(&t, "here", &err), HSTU_EFORMAT);
    assert_string_equal(err.msg, "here: the key 2 stands twice, in first (row 1) and in t (row 1)");
    hs_table_close(&t);
}

static void test_too_many_rows(void **state)
{
    static const uint64_t rows[][2] = {{UINT64_C(1) << 31, 1}, {UINT64_MAX, 2}, {2, UINT64_MAX}};
    hstu_error err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hs_table t = {0};
        assert_int_equal(hs_table_make(&t, "t", HS_F32, i % 2, 1, 2, NULL), HSTU_OK);
        t.part[0].n_rows = rows[i][0];
        t.part[1].n_rows = rows[i][1];
        assert_int_equal(hs_table_finish(&t, "here", &err), HSTU_EUNSUP);
        assert_string_equal(err.msg, "here: the table 't' has more than 2147483648 rows, which is the most supported");
        hs_table_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_rows),
        cmocka_unit_test(test_keys_at_any_alignment),
        cmocka_unit_test(test_empty_tables),
        cmocka_unit_test(test_duplicate_keys),
        cmocka_unit_test(test_too_many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
