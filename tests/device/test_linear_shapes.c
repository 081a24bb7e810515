/* Linear layers of random shapes, several at once: bits depend neither on threads, nor on other layers, nor on the rows of a call. */
#include "bf16_test.h"

enum { LAYERS_MOST = 4, CASES = TEST_SANITIZED ? 10 : 40 };

typedef struct layer {
    int64_t rows;
    hs_activation act;
    bool halves, with_bias, with_residual;
    hs_mat x, w, bias, residual;
} layer;

static layer layer_new(bool halves, uint64_t *seed)
{
    const int64_t in = 1 + random_below(seed, 300), n = 1 + random_below(seed, 600), kind = random_below(seed, 8);
    layer l = {.rows = kind == 0   ? 0
                       : kind == 1 ? 1 + random_below(seed, 5)
                                   : random_below(seed, 500),
        .act = random_below(seed, 2) ? HS_ACT_SILU : HS_ACT_NONE,
        .halves = halves,
        .with_bias = random_below(seed, 2),
        .with_residual = random_below(seed, 2)};
    l.x = bf16_mat_new(l.rows, in, in, FILL_SIGNED, random_u32(seed));
    l.w = bf16_mat_new(in, n, n, FILL_SIGNED, random_u32(seed));
    l.bias = bf16_mat_new(1, n, n, FILL_SIGNED, random_u32(seed));
    l.residual = bf16_mat_new(l.rows, n, n, FILL_SIGNED, random_u32(seed));
    return l;
}

static void layer_free(layer *l)
{
    hs_mat *const all[] = {&l->x, &l->w, &l->bias, &l->residual};
    for (int i = 0; i < 4; i++)
        hs_free(all[i]->data);
}

/* out[i] = what the device makes of rows from[i] .. from[i] + rows[i] - 1 of n layers at once. */
static void compute(
    const layer *l, int64_t n, int isa, int threads, const int64_t *from, const int64_t *rows, hs_mat *out)
{
    hs_device *dev = device_new(isa, threads);
    hs_linear_args a[LAYERS_MOST] = {0};
    hs_packed *packed[LAYERS_MOST];
    for (int64_t i = 0; i < n; i++) {
        const hs_mat x = hs_mat_rows(l[i].x, from[i], rows[i]), residual = hs_mat_rows(l[i].residual, from[i], rows[i]);
        const int64_t in = l[i].x.cols, cols = l[i].w.cols;
        out[i] = mat_out(rows[i], cols, cols + 3);
        assert_int_equal(
            dev->table->pack(dev, &packed[i], l[i].w.data, l[i].halves ? HS_BF16 : HS_F32, in, cols, cols, 1, NULL),
            HSTU_OK);
        a[i] = (hs_linear_args){.out = stored_new(isa, &out[i], l[i].halves),
            .x = stored_new(isa, &x, l[i].halves),
            .w = packed[i],
            .bias = l[i].with_bias ? l[i].bias.data : NULL,
            .act = l[i].act,
            .bf16 = l[i].halves};
        if (l[i].with_residual)
            a[i].residual = stored_new(isa, &residual, l[i].halves);
    }
    assert_int_equal(dev->table->linear(dev, a, n, NULL), HSTU_OK);
    for (int64_t i = 0; i < n; i++) {
        stored_read(&a[i].out, &out[i]);
        mat_check_gaps(&out[i]);
        const hs_mat *const all[] = {&a[i].out, &a[i].x, &a[i].residual};
        for (int m = 0; m < 3; m++)
            stored_free(all[m]);
        dev->table->pack_free(packed[i]);
    }
    hs_device_close(dev);
}

static void check_case(int isa, uint64_t seed)
{
    static const int threads[] = {2, 3, 5, 16};
    static const int64_t zeros[LAYERS_MOST];
    layer l[LAYERS_MOST];
    int64_t rows[LAYERS_MOST];
    hs_mat all[LAYERS_MOST], other[LAYERS_MOST];
    const int64_t n = 1 + random_below(&seed, LAYERS_MOST);
    const bool halves = random_below(&seed, 2);
    for (int64_t i = 0; i < n; i++) {
        l[i] = layer_new(halves != (random_below(&seed, 4) == 0), &seed);
        rows[i] = l[i].rows;
    }
    compute(l, n, isa, 1, zeros, rows, all);
    for (int t = 0; t < 4; t++) {
        compute(l, n, isa, threads[t], zeros, rows, other);
        for (int64_t i = 0; i < n; i++) {
            mat_check_same_bits(&other[i], &all[i], "other threads");
            hs_free(other[i].data);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = rows[i] > 1 ? random_below(&seed, rows[i]) : 0;
        const int64_t some = rows[i] - from > 0 ? 1 + random_below(&seed, rows[i] - from) : 0;
        compute(&l[i], 1, isa, 3, &from, &some, other);
        const hs_mat part = hs_mat_rows(all[i], from, some);
        mat_check_same_bits(&other[0], &part, "rows alone");
        hs_free(other[0].data);
    }
    for (int64_t i = 0; i < n; i++) {
        layer_free(&l[i]);
        hs_free(all[i].data);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (uint64_t i = 0; isa > 0 && i < CASES; i++) /* the reference kernels are slow */
            check_case(isa, 100 * (uint64_t)isa + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
