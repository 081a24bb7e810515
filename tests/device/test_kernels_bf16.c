/* The rounding points of bfloat16 models in every operation but attention, exactly, on every instruction set. */
#include "bf16_test.h"

/* Every upper half of a float with lower halves around the tie. */
static void test_round(void **state)
{
    (void)state;
    const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1234};
    enum { N = 7 * 64 };
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        for (uint32_t first = 0; first < 0x10000; first += 64) {
            float x[N], got[N];
            for (uint32_t i = 0; i < N; i++) {
                const uint32_t bits = (first + i / 7) << 16 | lower[i % 7];
                memcpy(&x[i], &bits, sizeof bits);
            }
            memcpy(got, x, sizeof x);
            k->round_bf16(got, 1.0f, N);
            for (int i = 0; i < N; i++) {
                const float want = to_bf16(x[i] + 0.0f);
                if (isnan(x[i]) ? !isnan(got[i]) : memcmp(&got[i], &want, sizeof want) != 0)
                    fail_msg("%s: %a is rounded to %a, not %a", k->isa, (double)x[i], (double)got[i], (double)want);
            }
        }
        for (int64_t n = 1; n < 40; n++) {
            hs_mat x = mat_new(1, n, n, FILL_SIGNED, 1), want = mat_new(1, n, n, FILL_SIGNED, 1);
            k->round_bf16(x.data, 0.3f, n);
            for (int64_t j = 0; j < n; j++)
                want.data[j] = to_bf16(0.3f * want.data[j]);
            mat_check_same_bits(&x, &want, "scaled and rounded");
            hs_free(x.data);
            hs_free(want.data);
        }
    }
}

enum { EMBED_ROWS = 9 };

/* Rows at odd addresses, one of them missing. */
static void embed_case(int isa, int64_t d, hs_dtype type, bool with_position, bool bf16)
{
    hs_device *dev = device_new(isa, 2);
    const size_t bytes = hs_dtype_bytes(type);
    hs_mat value = mat_new(EMBED_ROWS, d, d, FILL_SIGNED, 1), position = mat_new(6, d, d, FILL_SIGNED, 2);
    hs_mat out = mat_out(EMBED_ROWS, d, d + 4);
    char *memory = hs_alloc((size_t)d * bytes * EMBED_ROWS + 1, 1);
    assert_non_null(memory);
    const void *row[EMBED_ROWS];
    int64_t position_id[EMBED_ROWS];
    for (int64_t r = 0; r < EMBED_ROWS; r++) {
        char *at = memory + 1 + (size_t)(r * d) * bytes;
        for (int64_t c = 0; c < d; c++) {
            float *x = &value.data[r * d + c];
            const uint16_t half = hs_f32_to_bf16(*x);
            if (type == HS_BF16)
                *x = hs_bf16_to_f32(half);
            memcpy(at + (size_t)c * bytes, type == HS_BF16 ? (const void *)&half : x, bytes);
            if (r == 3)
                *x = 0.0f;
        }
        row[r] = r == 3 ? NULL : at;
        position_id[r] = r * 5 % 6;
    }
    const hs_embed_args a = {.out = out,
        .row = row,
        .row_type = type,
        .scale = 4.3589f,
        .position = with_position ? position.data : NULL,
        .position_rows = 6,
        .position_id = position_id,
        .bf16 = bf16};
    assert_int_equal(dev->table->embed(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    for (int64_t r = 0; r < EMBED_ROWS; r++) {
        for (int64_t c = 0; c < d; c++) {
            const float x = bf16 ? to_bf16(value.data[r * d + c]) : value.data[r * d + c];
            const float y = with_position ? fmaf(4.3589f, x, position.data[position_id[r] * d + c]) : 4.3589f * x;
            assert_true(out.data[r * out.ld + c] == (bf16 ? to_bf16(y) : y));
        }
    }
    hs_free(value.data);
    hs_free(position.data);
    hs_free(out.data);
    hs_free(memory);
    hs_device_close(dev);
}

static void test_embed(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 7, 8, 9, 15, 16, 17, 50};
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int kind = 0; kind < 8; kind++)
                embed_case(isa, sizes[s], kind & 1 ? HS_BF16 : HS_F32, kind & 2, kind & 4);
        }
    }
}

/* act(z), and how far a kernel may be from it: GELU's 1 + erf cancels for negative z. */
static double activate_exact(double z, hs_activation act, double *error)
{
    const double y = act == HS_ACT_SILU   ? silu_exact(z)
                     : act == HS_ACT_RELU ? fmax(z, 0.0)
                                          : 0.5 * z * (1.0 + erf(z * sqrt(0.5)));
    *error = act == HS_ACT_RELU ? 0.0 : 8 * ROUNDING * fabs(y) + (act == HS_ACT_GELU ? 4 * ROUNDING * fabs(z) : 0.0);
    return y;
}

static void linear_case(int isa, hs_dtype type, hs_activation act, bool with_bias, bool with_residual)
{
    enum { ROWS = 13, IN = 37, OUT = 45 };
    hs_device *dev = device_new(isa, 2);
    hs_mat x = bf16_mat_new(ROWS, IN, IN + 1, FILL_SIGNED, 3), w = bf16_mat_new(IN, OUT, OUT, FILL_SIGNED, 4);
    hs_mat bias = bf16_mat_new(1, OUT, OUT, FILL_SIGNED, 5), add = bf16_mat_new(ROWS, OUT, OUT + 2, FILL_SIGNED, 6);
    hs_mat out = mat_out(ROWS, OUT, OUT + 3);
    hs_packed *packed = NULL;
    assert_int_equal(dev->table->pack(dev, &packed, w.data, type, IN, OUT, OUT, 1, NULL), HSTU_OK);
    hs_linear_args a = {
        .out = out, .x = x, .w = packed, .bias = with_bias ? bias.data : NULL, .act = act, .bf16 = true};
    if (with_residual)
        a.residual = add;
    assert_int_equal(dev->table->linear(dev, &a, 1, NULL), HSTU_OK);
    mat_check_gaps(&out);
    int n_exact = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t c = 0; c < OUT; c++) {
            const float got = out.data[r * out.ld + c], residual = with_residual ? add.data[r * add.ld + c] : 0.0f;
            const float *left = x.data + r * x.ld, *right = w.data + c;
            const float z = chain(left, right, OUT, IN) + (with_bias ? bias.data[c] : 0.0f);
            double error = 0;
            const double y = activate_exact((double)to_bf16(z), act, &error);
            float low = to_bf16((float)(y - error)), high = to_bf16((float)(y + error)); /* nearly always equal */
            if (act == HS_ACT_NONE)
                low = high = z;
            if (!(got >= to_bf16(low + residual) && got <= to_bf16(high + residual)))
                fail_msg("%s linear, activation %d: [%d, %d] is %a", dev->isa, (int)act, (int)r, (int)c, (double)got);
            n_exact += low == high;
        }
    }
    assert_true(n_exact > ROWS * OUT * 9 / 10);
    dev->table->pack_free(packed);
    hs_free(x.data);
    hs_free(w.data);
    hs_free(bias.data);
    hs_free(add.data);
    hs_free(out.data);
    hs_device_close(dev);
}

static void test_linear(void **state)
{
    (void)state;
    const hs_activation acts[] = {HS_ACT_NONE, HS_ACT_SILU, HS_ACT_RELU, HS_ACT_GELU};
    FOR_EACH_ISA(isa)
    {
        for (int a = 0; a < 4; a++) {
            for (int kind = 0; kind < 8; kind++)
                linear_case(isa, kind & 4 ? HS_BF16 : HS_F32, acts[a], kind & 1, kind & 2);
        }
    }
}

enum { LAYERS = 3 };

/* Layers at once, the first two with one left side; every row alone too. All bits against
 * one chain, since the left sides are float32. */
static void linears_case(int isa, int64_t rows, int64_t in, const int64_t *n)
{
    hs_device *three = device_new(isa, 3);
    hs_mat x[LAYERS] = {[0] = bf16_mat_new(rows, in, in + 3, FILL_SIGNED, 1)};
    x[1] = x[0];
    x[2] = bf16_mat_new(rows, in, in, FILL_POSITIVE, 2);
    hs_mat w[LAYERS], out[LAYERS], alone = mat_out(1, n[0], n[0]);
    hs_linear_args a[LAYERS];
    hs_packed *packed[LAYERS] = {NULL};
    for (int i = 0; i < LAYERS; i++) {
        w[i] = bf16_mat_new(in, n[i], n[i], FILL_SIGNED, (uint64_t)(10 + i));
        out[i] = mat_out(rows, n[i], n[i] + 1);
        assert_int_equal(three->table->pack(three, &packed[i], w[i].data, HS_BF16, in, n[i], n[i], 1, NULL), HSTU_OK);
        a[i] = (hs_linear_args){.out = out[i], .x = x[i], .w = packed[i], .bf16 = true};
    }
    assert_int_equal(three->table->linear(three, a, LAYERS, NULL), HSTU_OK);
    for (int i = 0; i < LAYERS; i++) {
        mat_check_gaps(&out[i]);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < n[i]; c++) {
                const float want = to_bf16(chain(x[i].data + r * x[i].ld, w[i].data + c, n[i], in));
                if (out[i].data[r * out[i].ld + c] != want)
                    fail_msg("%s linears: layer %d [%d, %d] is %a, not %a", three->isa, i, (int)r, (int)c,
                        (double)out[i].data[r * out[i].ld + c], (double)want);
            }
        }
    }
    for (int64_t r = 0; r < rows; r += 1 + rows / 7) {
        hs_mat row = x[0];
        row.data += r * row.ld;
        row.rows = 1;
        const hs_linear_args one = {.out = alone, .x = row, .w = packed[0], .bf16 = true};
        assert_int_equal(three->table->linear(three, &one, 1, NULL), HSTU_OK);
        check_same_bits(alone.data, out[0].data + r * out[0].ld, n[0], "a row alone");
    }
    for (int i = 0; i < LAYERS; i++) {
        three->table->pack_free(packed[i]);
        hs_free(w[i].data);
        hs_free(out[i].data);
    }
    hs_free(x[0].data);
    hs_free(x[2].data);
    hs_free(alone.data);
    hs_device_close(three);
}

static void test_linears(void **state)
{
    (void)state;
    static const int64_t few[LAYERS] = {3, 64, 1}, many[LAYERS] = {130, 65, 530};
    FOR_EACH_ISA(isa)
    {
        linears_case(isa, 1, 1, few);
        linears_case(isa, 37, 31, few);
        linears_case(isa, 101, 97, many);
        linears_case(isa, 197, 64, many);
    }
    int best = 0;
    FOR_EACH_ISA(isa) best = isa;
    static const int64_t large[LAYERS] = {16, 8, 24};
    linears_case(best, 1100, 130, large); /* so many that threads pack the left side */
}

/* `bf16` rounds what the same operation gives in float32, and changes nothing else. */
static void check_rounded(const hs_mat *got, const hs_mat *plain, const char *what)
{
    int n_changed = 0;
    for (int64_t r = 0; r < got->rows; r++) {
        for (int64_t c = 0; c < got->cols; c++) {
            const float exact = plain->data[r * plain->ld + c], x = got->data[r * got->ld + c];
            if (x != to_bf16(exact))
                fail_msg("%s [%d, %d]: %a is not the rounded %a", what, (int)r, (int)c, (double)x, (double)exact);
            n_changed += x != exact;
        }
    }
    assert_true(n_changed > 0);
    mat_check_gaps(got);
}

static void test_norms(void **state)
{
    (void)state;
    enum { ROWS = 5, N = 41 };
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        hs_mat x = bf16_mat_new(ROWS, N, N + 1, FILL_SIGNED, 1), u = bf16_mat_new(ROWS, N, N + 2, FILL_SIGNED, 2);
        hs_mat weight = bf16_mat_new(1, N, N, FILL_SIGNED, 3), bias = bf16_mat_new(1, N, N, FILL_SIGNED, 4);
        hs_mat plain = mat_out(ROWS, 3 * N, 3 * N), got = mat_out(ROWS, 3 * N, 3 * N + 1);
        hs_norm_gate_args gate = {
            .out = plain, .u = u, .o = x, .weight = weight.data, .bias = bias.data, .eps = 1e-5f, .concat = true};
        assert_int_equal(dev->table->norm_gate(dev, &gate, NULL), HSTU_OK);
        gate.out = got;
        gate.bf16 = true;
        assert_int_equal(dev->table->norm_gate(dev, &gate, NULL), HSTU_OK);
        check_rounded(&got, &plain, "norm_gate");

        plain.cols = got.cols = N;
        hs_layer_norm_args norm = {.out = plain, .x = x, .weight = weight.data, .bias = bias.data, .eps = 1e-5f};
        assert_int_equal(dev->table->layer_norm(dev, &norm, NULL), HSTU_OK);
        norm.out = x; /* in place */
        norm.bf16 = true;
        assert_int_equal(dev->table->layer_norm(dev, &norm, NULL), HSTU_OK);
        for (int64_t r = 0; r < ROWS; r++) {
            for (int64_t c = 0; c < N; c++)
                assert_true(x.data[r * x.ld + c] == to_bf16(plain.data[r * plain.ld + c]));
        }
        hs_free(x.data);
        hs_free(u.data);
        hs_free(weight.data);
        hs_free(bias.data);
        hs_free(plain.data);
        hs_free(got.data);
        hs_device_close(dev);
    }
}

static void test_l2_norm(void **state)
{
    (void)state;
    enum { ROWS = 21, N = 50 };
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        hs_mat x = bf16_mat_new(ROWS, N, N + 1, FILL_SIGNED, 3), out = mat_out(ROWS, N, N + 2);
        for (int64_t c = 0; c < N; c++)
            x.data[c] = 0.0f; /* norm 0: divided by eps */
        const hs_l2_norm_args a = {.out = out, .x = x, .eps = 1e-6f, .bf16 = true};
        assert_int_equal(dev->table->l2_norm(dev, &a, NULL), HSTU_OK);
        mat_check_gaps(&out);
        for (int64_t r = 0; r < ROWS; r++) {
            double sum = 0;
            for (int64_t c = 0; c < N; c++)
                sum += (double)x.data[r * x.ld + c] * (double)x.data[r * x.ld + c];
            const float norm = fmaxf(to_bf16((float)sqrt(sum)), 1e-6f);
            for (int64_t c = 0; c < N; c++)
                assert_true(out.data[r * out.ld + c] == to_bf16(x.data[r * x.ld + c] / norm));
        }
        hs_free(x.data);
        hs_free(out.data);
        hs_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round), cmocka_unit_test(test_embed),
        cmocka_unit_test(test_linear), cmocka_unit_test(test_linears), cmocka_unit_test(test_norms),
        cmocka_unit_test(test_l2_norm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
