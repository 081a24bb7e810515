/* Which matrices the op layer takes for overlapping, of float32 and bfloat16 values. */
#include "op/op_check.h"
#include "op_test.h"

#include <string.h>

static void check_refused(hstu_status status, const char *sentence)
{
    assert_int_equal(status, HSTU_EINVAL);
    assert_int_equal(err.code, HSTU_EINVAL);
    if (strcmp(err.msg, sentence) != 0)
        fail_msg("\"%s\" is not \"%s\"", err.msg, sentence);
    memset(&err, 0, sizeof err);
}

/* In a copy `x` of the good arguments: makes one change, then expects the refusal. */
#define REFUSES(good, change, sentence)                                                                                \
    do {                                                                                                               \
        hs_linear_args x = good;                                                                                       \
        change;                                                                                                        \
        check_refused(hs_op_linear(dev, &x, &err), sentence);                                                          \
    } while (0)

/* A matrix of bfloat16 values that begins so many bytes behind `memory`. */
static hs_mat half_mat(void *memory, int64_t bytes, int64_t rows, int64_t cols, int64_t ld)
{
    return (hs_mat){.half = (uint16_t *)memory + bytes / 2, .rows = rows, .cols = cols, .ld = ld, .bf16 = true};
}

static void expect_apart(const hs_mat *a, const hs_mat *b, bool apart)
{
    const hstu_status want = apart ? HSTU_OK : HSTU_EINVAL;
    if (hs_op_check_apart("test", "a", a, "b", b, &err) != want ||
        hs_op_check_apart("test", "b", b, "a", a, &err) != want)
        fail_msg("[%d, %d] and [%d, %d] with columns %d apart", (int)a->rows, (int)a->cols, (int)b->rows, (int)b->cols,
            (int)((const char *)b->data - (const char *)a->data));
}

/* Slices of one matrix, and matrices of both types one behind the other. */
static void test_apart(void **state)
{
    (void)state;
    float memory[64] = {0};
    const hs_mat whole = half_mat(memory, 0, 4, 12, 16), floats = hs_mat_of(memory, 3, 5); /* 120 and 60 bytes */
    for (int64_t first = 0; first < 12; first++) {
        for (int64_t second = 0; second < 12; second++) {
            for (int64_t cols = 1; first + cols <= 12 && second + 3 <= 12; cols++) {
                const hs_mat a = hs_mat_cols(whole, first, cols), b = hs_mat_part(whole, 1, 2, second, 3);
                expect_apart(&a, &b, first + cols <= second || second + 3 <= first);
            }
        }
    }
    const hs_mat top = hs_mat_rows(whole, 0, 2), below = hs_mat_rows(whole, 2, 2);
    expect_apart(&top, &below, true);
    for (int64_t bytes = 0; bytes < 128; bytes += 2) {
        const hs_mat half = half_mat(memory, bytes, 2, 3, 8); /* 22 bytes */
        expect_apart(&floats, &half, bytes >= 60);
        const hs_mat later = {.data = memory + 8, .rows = 2, .cols = 2, .ld = 3}; /* bytes 32 .. 51 */
        expect_apart(&half, &later, bytes + 22 <= 32 || bytes >= 52);
    }
    /* Columns of rows that are equally many elements apart, but not bytes; and equally many bytes: nobody needs such. */
    const hs_mat left = hs_mat_cols(hs_mat_of(memory, 2, 8), 0, 2), right = half_mat(memory, 16, 2, 3, 8);
    expect_apart(&left, &right, false);
    const hs_mat same_bytes = half_mat(memory, 16, 2, 3, 16), empty = half_mat(memory, 0, 0, 3, 8);
    expect_apart(&left, &same_bytes, false);
    expect_apart(&left, &empty, true);
}

/* out may be the residual, but not another type's view of its memory. */
static void test_linear_types(void **state)
{
    (void)state;
    const float w[6] = {1, 2, 3, 4, 5, 6};
    float in[6] = {0}, memory[16] = {0};
    hs_packed *packed = NULL;
    assert_int_equal(hs_op_pack(dev, &packed, w, HS_BF16, 3, 2, 2, 1, &err), HSTU_OK);
    const hs_linear_args good = {.out = hs_mat_of(memory, 2, 2), .x = hs_mat_of(in, 2, 3), .w = packed, .bf16 = true};
    REFUSES(good, x.residual = half_mat(memory, 0, 2, 2, 2), "op linear: out and residual overlap");
    REFUSES(good, x.out = half_mat(memory, 0, 2, 2, 2); x.residual = good.out, "op linear: out and residual overlap");
    REFUSES(good, x.out = half_mat(in, 20, 2, 2, 2), "op linear: out and x overlap");
    REFUSES(good, x.x = half_mat(memory, 14, 2, 3, 3), "op linear: out and x overlap");
    hs_linear_args two[2] = {good, good};
    two[1].out = half_mat(memory, 14, 2, 2, 2);
    check_refused(hs_op_linears(dev, two, 2, &err), "op linear: a layer's out and another's out overlap");
    hs_op_pack_free(dev, packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_apart), cmocka_unit_test(test_linear_types)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
