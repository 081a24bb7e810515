/* tensor: strided views and their conversion. */
#include "tensor/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_strided_views(void **state)
{
    (void)state;
    float data[12];
    for (int i = 0; i < 12; i++)
        data[i] = (float)i;
    /* The transpose of a 3 x 4 matrix, its second column, and a row repeated by stride 0. */
    const hs_tensor transposed = {HS_F32, 2, {4, 3}, {1, 4}, data};
    const hs_tensor column = {HS_F32, 1, {3}, {4}, data + 1};
    const hs_tensor repeated = {HS_F32, 2, {2, 4}, {0, 1}, data};
    float out[12];
    hs_tensor_to_f32(&transposed, out);
    for (int i = 0; i < 12; i++)
        assert_true(out[i] == data[i % 3 * 4 + i / 3]);
    hs_tensor_to_f32(&column, out);
    assert_true(out[0] == 1.0f && out[1] == 5.0f && out[2] == 9.0f);
    hs_tensor_to_f32(&repeated, out);
    assert_true(out[0] == 0.0f && out[4] == 0.0f && out[7] == 3.0f);
    assert_false(hs_tensor_contiguous(&transposed));
    const hs_tensor plain = {HS_F32, 2, {3, 4}, {4, 1}, data};
    assert_true(hs_tensor_contiguous(&plain));
    const hs_tensor one_row = {HS_F32, 2, {1, 4}, {77, 1}, data};
    assert_true(hs_tensor_contiguous(&one_row));
    char text[32];
    assert_string_equal(hs_tensor_shape_text(&plain, text, sizeof text), "[3, 4]");
    assert_string_equal(hs_tensor_shape_text(&plain, text, 5), "[3, ");
}

static void test_every_dtype(void **state)
{
    (void)state;
    unsigned char bytes[9];
    const struct {
        hs_dtype dtype;
        unsigned char bytes[8];
        float value;
    } cases[] = {
        {HS_BOOL, {255}, 1.0f},
        {HS_U8, {200}, 200.0f},
        {HS_I8, {0x80}, -128.0f},
        {HS_I16, {0xfe, 0xff}, -2.0f},
        {HS_I32, {0x01, 0x00, 0x00, 0x80}, -2147483647.0f},
        {HS_I64, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -1.0f},
        {HS_F16, {0x00, 0xc0}, -2.0f},
        {HS_BF16, {0x80, 0x3f}, 1.0f},
        {HS_F32, {0x00, 0x00, 0x80, 0x3f}, 1.0f},
        {HS_F64, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, 1.5f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bytes + 1, cases[i].bytes, 8); /* an odd address: files do not align their tensors */
        const hs_tensor scalar = {.dtype = cases[i].dtype, .data = bytes + 1};
        float value = 0;
        hs_tensor_to_f32(&scalar, &value);
        assert_true(value == cases[i].value);
        int64_t integer = 0;
        hstu_error err;
        const hstu_status status = hs_tensor_to_i64(&scalar, &integer, "x", &err);
        if (cases[i].dtype >= HS_F16) {
            assert_int_equal(status, HSTU_ESHAPE);
        } else {
            assert_int_equal(status, HSTU_OK);
            assert_true(cases[i].dtype == HS_I32 ? integer == -2147483647 : (float)integer == cases[i].value);
        }
    }
}

static void test_empty_tensor(void **state)
{
    (void)state;
    const hs_tensor empty = {.dtype = HS_F16, .rank = 2, .shape = {3, 0}, .stride = {0, 1}};
    float untouched = 5.0f;
    hs_tensor_to_f32(&empty, &untouched);
    assert_true(untouched == 5.0f);
    int64_t integer = 6;
    const hs_tensor none = {.dtype = HS_I64, .rank = 1, .shape = {0}, .stride = {1}};
    assert_int_equal(hs_tensor_to_i64(&none, &integer, "x", NULL), HSTU_OK);
    assert_int_equal(integer, 6);
    /* A size of 0 anywhere: the product of the others need not fit. */
    const hs_tensor wide = {.dtype = HS_F32, .rank = 3, .shape = {INT64_MAX, 4, 0}, .stride = {1, 1, 1}};
    const hs_tensor tall = {.dtype = HS_F32, .rank = 3, .shape = {0, 4, INT64_MAX}, .stride = {1, 1, 1}};
    assert_int_equal(hs_tensor_elements(&wide), 0);
    assert_int_equal(hs_tensor_elements(&tall), 0);
    assert_true(hs_tensor_contiguous(&wide) && hs_tensor_contiguous(&tall));
}

/* The stride of a dimension of size 1 means nothing, so a file may hold any. */
static void test_meaningless_stride(void **state)
{
    (void)state;
    const float data[4] = {1, 2, 3, 4};
    const int64_t numbers[2] = {5, 6};
    const hs_tensor column = {HS_F32, 2, {2, 1}, {2, INT64_MAX}, data};
    float out[2];
    hs_tensor_to_f32(&column, out);
    assert_true(out[0] == 1.0f && out[1] == 3.0f);
    const hs_tensor integers = {HS_I64, 3, {1, 2, 1}, {INT64_MAX, 1, INT64_MAX}, numbers};
    int64_t integer[2];
    assert_int_equal(hs_tensor_to_i64(&integers, integer, "x", NULL), HSTU_OK);
    assert_true(integer[0] == 5 && integer[1] == 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strided_views),
        cmocka_unit_test(test_every_dtype),
        cmocka_unit_test(test_empty_tensor),
        cmocka_unit_test(test_meaningless_stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
