/* Operations on rows of matrices that hold bfloat16 values, in every mixture with float32 ones: the float32 operation's result,
 * rounded; the same on one thread and on three. */
#include "bf16_test.h"

typedef enum row_op { EMBED, LAYER_NORM, LAYER_NORM_ADD, NORM_GATE, NORM_GATE_CONCAT, GATHER, L2_NORM, N_OPS } row_op;

/* Where the result goes. */
typedef enum place { APART, OVER_X, OVER_OTHER, N_PLACES } place;

typedef struct rows_case {
    row_op op;
    int64_t rows, n;
    bool bf16;
    hs_mat x, other, affine, table; /* x and other: values of bfloat16; the table's are embedded */
    const void **row;
    int64_t *id;
} rows_case;

static void case_new(rows_case *c)
{
    uint64_t seed = 8;
    c->x = bf16_mat_new(c->rows, c->n, c->n + 1, FILL_SIGNED, 1);
    c->other = bf16_mat_new(c->rows, c->n, c->n + 2, FILL_SIGNED, 2);
    c->affine = bf16_mat_new(2, c->n, c->n, FILL_SIGNED, 3);
    c->table = mat_new(9, c->n, c->n, FILL_SIGNED, 4);
    c->row = hs_alloc((size_t)c->rows, sizeof *c->row);
    c->id = hs_alloc((size_t)c->rows, sizeof *c->id);
    assert_true(c->row && c->id);
    for (int64_t r = 0; r < c->rows; r++) {
        c->id[r] = random_below(&seed, c->op == GATHER ? c->rows : 9);
        c->row[r] = r % 5 == 3 ? NULL : c->table.data + random_below(&seed, 9) * c->n;
    }
}

static void case_free(rows_case *c)
{
    hs_mat *all[] = {&c->x, &c->other, &c->affine, &c->table};
    for (int i = 0; i < 4; i++)
        hs_free(all[i]->data);
    hs_free(c->row);
    hs_free(c->id);
}

static hstu_status apply(hs_device *dev, const rows_case *c, hs_mat out, hs_mat x, hs_mat other)
{
    const float *weight = c->affine.data, *bias = c->affine.data + c->n;
    const hs_mat none = {0};
    switch (c->op) {
    case EMBED:
        return dev->table->embed(dev,
            &(hs_embed_args){.out = out,
                .row = c->row,
                .row_type = HS_F32,
                .scale = 4.3589f,
                .position = c->table.data,
                .position_rows = 9,
                .position_id = c->id,
                .bf16 = c->bf16},
            NULL);
    case LAYER_NORM:
    case LAYER_NORM_ADD:
        return dev->table->layer_norm(dev,
            &(hs_layer_norm_args){.out = out,
                .x = x,
                .add = c->op == LAYER_NORM ? none : other,
                .weight = weight,
                .bias = bias,
                .eps = 1e-5f,
                .bf16 = c->bf16},
            NULL);
    case NORM_GATE:
    case NORM_GATE_CONCAT:
        return dev->table->norm_gate(dev,
            &(hs_norm_gate_args){.out = out,
                .u = x,
                .o = other,
                .weight = weight,
                .bias = bias,
                .eps = 1e-5f,
                .concat = c->op == NORM_GATE_CONCAT,
                .bf16 = c->bf16},
            NULL);
    case GATHER:
        return dev->table->gather(dev, &(hs_gather_args){.out = out, .x = x, .row = c->id}, NULL);
    default:
        return dev->table->l2_norm(dev, &(hs_l2_norm_args){.out = out, .x = x, .eps = 1e-6f, .bf16 = c->bf16}, NULL);
    }
}

static int64_t out_cols(const rows_case *c)
{
    return c->op == NORM_GATE_CONCAT ? 3 * c->n : c->n;
}

/* The operation with float32 matrices only. */
static hs_mat float_result(int isa, const rows_case *c)
{
    hs_mat out = mat_out(c->rows, out_cols(c), out_cols(c) + 3);
    hs_device *dev = device_new(isa, 1);
    assert_int_equal(apply(dev, c, out, c->x, c->other), HSTU_OK);
    hs_device_close(dev);
    return out;
}

static void check_values(const rows_case *c, const hs_mat *got, const hs_mat *want, bool half, const char *isa, int mix)
{
    for (int64_t r = 0; r < want->rows; r++) {
        for (int64_t i = 0; i < want->cols; i++) {
            const float exact = want->data[r * want->ld + i];
            const float value = half ? flushed(to_bf16(exact)) : exact, x = got->data[r * got->ld + i];
            if (x != value)
                fail_msg("%s, operation %d, mixture %d: [%d, %d] is %a, not %a", isa, (int)c->op, mix, (int)r, (int)i,
                    (double)x, (double)value);
        }
    }
}

/* Bits 0, 1 and 2 of mix: out, x and other are stored. */
static void mixture(int isa, const rows_case *c, const hs_mat *want, int mix, place where, int threads)
{
    hs_device *dev = device_new(isa, threads);
    hs_mat got = mat_out(c->rows, out_cols(c), out_cols(c) + 3);
    hs_mat x = stored_new(isa, &c->x, mix & 2), other = stored_new(isa, &c->other, mix & 4);
    hs_mat apart = stored_new(isa, &got, mix & 1);
    const hs_mat out = where == OVER_X ? x : where == OVER_OTHER ? other : apart;
    assert_int_equal(apply(dev, c, out, x, other), HSTU_OK);
    stored_read(&out, &got);
    mat_check_gaps(&got);
    for (int64_t r = 0; out.bf16 && r < out.rows; r++) { /* what is behind a row stays */
        for (int64_t i = out.cols; i < out.ld; i++)
            assert_true(out.half[r * out.ld + i] == 0 || out.half[r * out.ld + i] == 0xffff);
    }
    check_values(c, &got, want, out.bf16, dev->isa, mix);
    stored_free(&x);
    stored_free(&other);
    stored_free(&apart);
    hs_free(got.data);
    hs_device_close(dev);
}

static bool has_other(row_op op)
{
    return op == LAYER_NORM_ADD || op == NORM_GATE || op == NORM_GATE_CONCAT;
}

/* In place only stored matrices: float32 ones are tested elsewhere. */
static bool is_allowed(row_op op, int mix, place where)
{
    if (where == OVER_X)
        return mix & 2 && op != EMBED && op != GATHER && op != NORM_GATE_CONCAT;
    return where == APART || (mix & 4 && has_other(op) && op == NORM_GATE);
}

static void check_op(int isa, row_op op, int64_t rows, int64_t n)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        rows_case c = {.op = op, .rows = rows, .n = n, .bf16 = bf16};
        case_new(&c);
        hs_mat want = float_result(isa, &c);
        const int n_mixtures = op == EMBED ? 2 : has_other(op) ? 8 : 4;
        for (int mix = 0; mix < n_mixtures; mix++) {
            for (place where = APART; where < N_PLACES; where++) {
                for (int threads = 1; is_allowed(op, mix, where) && threads <= 3; threads += 2)
                    mixture(isa, &c, &want, mix, where, threads);
            }
        }
        hs_free(want.data);
        case_free(&c);
    }
}

static void test_rows(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (row_op op = 0; hs_cpu_kernels_at(isa)->pairs && op < N_OPS; op++) {
            check_op(isa, op, 7, 1);
            check_op(isa, op, 21, 31);
            check_op(isa, op, 270, 64); /* enough for several threads */
            check_op(isa, op, 170, 101);
        }
    }
}

/* Rows of bfloat16 values at odd addresses, stored. */
static void test_embed_halves(void **state)
{
    (void)state;
    enum { ROWS = 300, N = 59 };
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        for (int threads = 1; threads <= 3; threads += 2) {
            hs_device *dev = device_new(isa, threads);
            hs_mat value = bf16_mat_new(ROWS, N, N, FILL_SIGNED, 1), got = mat_out(ROWS, N, N + 1);
            hs_mat out = stored_new(isa, &got, true);
            char *memory = hs_alloc((size_t)ROWS * N * 2 + 1, 1);
            const void *row[ROWS];
            assert_non_null(memory);
            for (int64_t r = 0; r < ROWS; r++) {
                row[r] = memory + 1 + r * N * 2;
                for (int64_t c = 0; c < N; c++) {
                    const uint16_t half = hs_f32_to_bf16(value.data[r * N + c]);
                    memcpy(memory + 1 + (r * N + c) * 2, &half, sizeof half);
                }
            }
            const hs_embed_args a = {.out = out, .row = row, .row_type = HS_BF16, .scale = 3.3f, .bf16 = true};
            assert_int_equal(dev->table->embed(dev, &a, NULL), HSTU_OK);
            stored_read(&out, &got);
            for (int64_t r = 0; r < ROWS; r++) {
                for (int64_t c = 0; c < N; c++)
                    assert_true(got.data[r * got.ld + c] == to_bf16(3.3f * value.data[r * N + c]));
            }
            stored_free(&out);
            hs_free(value.data);
            hs_free(got.data);
            hs_free(memory);
            hs_device_close(dev);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_embed_halves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
