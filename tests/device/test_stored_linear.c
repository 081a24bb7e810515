/* Linear layers of matrices that hold bfloat16 values, in every mixture with float32 ones. */
#include "bf16_test.h"

typedef enum added { ADD_NONE, ADD_FLOAT, ADD_STORED, ADD_OUT, ADD_STREAM, N_ADDED } added;

typedef struct stored_layer {
    int64_t rows, in, n;
    hs_activation act;
    bool with_bias, x_half, out_half, is_f32; /* the last: of the weight */
    added added;
    hs_mat x, w, bias, add;
    hs_mat out, stream;                      /* float32 values of what was computed */
    hs_mat stored_x, stored_add, stored_out; /* what the device is given */
    hs_packed *packed;
} stored_layer;

static void layer_new(stored_layer *l, hs_device *dev, int isa)
{
    l->x = bf16_mat_new(l->rows, l->in, l->in + 1, FILL_SIGNED, 3);
    l->w = bf16_mat_new(l->in, l->n, l->n, FILL_SIGNED, 4);
    l->bias = bf16_mat_new(1, l->n, l->n, FILL_SIGNED, 5);
    l->add = bf16_mat_new(l->rows, l->n, l->n + 2, FILL_SIGNED, 6);
    l->out = mat_out(l->rows, l->n, l->n + 3);
    l->stream = mat_out(l->rows, l->n, l->n + 5);
    for (int64_t r = 0; r < l->rows; r++) {
        const float *add = l->add.data + r * l->add.ld;
        if (l->added == ADD_OUT)
            memcpy(l->out.data + r * l->out.ld, add, (size_t)l->n * sizeof *add);
        for (int64_t c = 0; c < l->n; c++)
            l->stream.data[r * l->stream.ld + c] = add[c] + ldexpf(add[c], -12); /* no bfloat16 value */
    }
    l->stored_x = stored_new(isa, &l->x, l->x_half);
    l->stored_out = stored_new(isa, &l->out, l->out_half);
    l->stored_add = stored_new(isa, &l->add, l->added == ADD_STORED);
    assert_int_equal(
        dev->table->pack(dev, &l->packed, l->w.data, l->is_f32 ? HS_F32 : HS_BF16, l->in, l->n, l->n, 1, NULL),
        HSTU_OK);
}

static void layer_free(stored_layer *l, hs_device *dev)
{
    dev->table->pack_free(l->packed);
    stored_free(&l->stored_x);
    stored_free(&l->stored_out);
    if (l->added == ADD_STORED)
        stored_free(&l->stored_add);
    hs_mat *all[] = {&l->x, &l->w, &l->bias, &l->add, &l->out, &l->stream};
    for (int i = 0; i < 6; i++)
        hs_free(all[i]->data);
}

static hs_linear_args layer_args(const stored_layer *l)
{
    hs_linear_args a = {.out = l->stored_out,
        .x = l->stored_x,
        .w = l->packed,
        .bias = l->with_bias ? l->bias.data : NULL,
        .act = l->act,
        .bf16 = true};
    if (l->added == ADD_STREAM)
        a.stream = l->stream;
    else if (l->added != ADD_NONE)
        a.residual = l->added == ADD_OUT ? l->stored_out : l->stored_add;
    return a;
}

/* Bounds of act(z) before it is rounded: what kernels of pairs may be off, or finish. */
static void activate(hs_activation act, double z, double *low, double *high)
{
    double y = z, error = 0;
    if (act == HS_ACT_SILU) {
        y = silu_exact(z);
        error = ldexp(fabs(y), -16) + ldexp(1.0, -100);
    } else if (act == HS_ACT_RELU) {
        y = fmax(z, 0.0);
    } else {
        y = 0.5 * z * (1.0 + erf(z * sqrt(0.5)));
        error = 8 * ROUNDING * fabs(y) + 4 * ROUNDING * fabs(z);
    }
    *low = y - error;
    *high = y + error;
}

static void check_element(const stored_layer *l, int isa, int64_t r, int64_t c)
{
    const float *left = l->x.data + r * l->x.ld, *right = l->w.data + c;
    const float sum = l->x_half ? paired_chain(isa, left, right, l->n, l->in) : chain(left, right, l->n, l->in);
    const float z = sum + (l->with_bias ? l->bias.data[c] : 0.0f);
    const float add = l->add.data[r * l->add.ld + c], in_stream = add + ldexpf(add, -12);
    const float residual = l->added == ADD_NONE ? 0.0f : l->added == ADD_STREAM ? in_stream : add;
    const float got = l->out.data[r * l->out.ld + c];
    float low = z, high = z;
    if (l->act != HS_ACT_NONE) {
        double from, to;
        activate(l->act, (double)to_bf16(z), &from, &to);
        low = to_bf16((float)from); /* nearly always equal */
        high = to_bf16((float)to);
    }
    if (l->added == ADD_STREAM)
        assert_true(l->stream.data[r * l->stream.ld + c] == z + residual);
    if (!(got >= to_bf16(low + residual) && got <= to_bf16(high + residual)))
        fail_msg("%s linear [%d, %d, %d], activation %d, x %d, out %d, residual %d: [%d, %d] is %a, not %a",
            hs_cpu_kernels_at(isa)->isa, (int)l->rows, (int)l->in, (int)l->n, (int)l->act, l->x_half, l->out_half,
            (int)l->added, (int)r, (int)c, (double)got, (double)to_bf16(low + residual));
}

/* Every step-th row; what is behind a row's columns stays as it was. */
static void layer_check(const stored_layer *l, int isa, int64_t step)
{
    stored_read(&l->stored_out, &l->out);
    mat_check_gaps(&l->out);
    mat_check_gaps(&l->stream);
    for (int64_t r = 0; r < l->rows; r += step) {
        for (int64_t c = 0; c < l->n; c++)
            check_element(l, isa, r, c);
        for (int64_t c = l->n; l->out_half && c < l->stored_out.ld; c++) {
            const uint16_t half = l->stored_out.half[r * l->stored_out.ld + c];
            assert_true(half == 0 || half == 0xffff);
        }
    }
}

static void layer_case(int isa, stored_layer l)
{
    hs_device *dev = device_new(isa, 2);
    layer_new(&l, dev, isa);
    const hs_linear_args a = layer_args(&l);
    assert_int_equal(dev->table->linear(dev, &a, 1, NULL), HSTU_OK);
    layer_check(&l, isa, 1);
    layer_free(&l, dev);
    hs_device_close(dev);
}

static void test_mixtures(void **state)
{
    (void)state;
    const hs_activation acts[] = {HS_ACT_NONE, HS_ACT_SILU, HS_ACT_RELU, HS_ACT_GELU};
    static const int64_t sizes[][3] = {{13, 37, 45}, {33, 64, 32}, {1, 1, 1}, {20, 31, 70}};
    FOR_EACH_ISA(isa)
    {
        for (int kind = 0; hs_cpu_kernels_at(isa)->pairs && kind < 4 * 2 * N_ADDED * 2 * 2 * 2; kind++) {
            const int64_t *size = sizes[kind / 7 % 4];
            stored_layer l = {.rows = size[0], .in = size[1], .n = size[2], .act = acts[kind % 4]};
            l.with_bias = kind / 4 % 2;
            l.added = (added)(kind / 8 % N_ADDED);
            l.x_half = kind / 40 % 2;
            l.out_half = kind / 80 % 2;
            l.is_f32 = kind / 160 && !l.x_half;
            if (l.added == ADD_STREAM)
                l.act = HS_ACT_NONE;
            layer_case(isa, l);
        }
    }
}

enum { LAYERS = 4 };

/* Layers at once, in more rows than a task has: one thread and three give the same bits, and those of each layer by itself. */
static void layers_case(int isa, int64_t rows, int64_t in)
{
    const stored_layer shape[LAYERS] = {{.n = 130, .act = HS_ACT_SILU, .x_half = true, .out_half = true},
        {.n = 65, .x_half = true, .out_half = true, .with_bias = true, .added = ADD_OUT},
        {.n = 47, .act = HS_ACT_GELU, .out_half = true, .added = ADD_FLOAT},
        {.n = 96, .x_half = true, .out_half = true, .added = ADD_STREAM}};
    hs_device *dev[] = {device_new(isa, 1), device_new(isa, 3)};
    stored_layer layer[3][LAYERS];
    for (int way = 0; way < 3; way++) { /* the last: three threads, one layer after the other */
        hs_linear_args a[LAYERS];
        hs_device *d = dev[way > 0];
        for (int i = 0; i < LAYERS; i++) {
            layer[way][i] = shape[i];
            layer[way][i].rows = rows;
            layer[way][i].in = in;
            layer_new(&layer[way][i], d, isa);
            a[i] = layer_args(&layer[way][i]);
            if (way == 2)
                assert_int_equal(d->table->linear(d, &a[i], 1, NULL), HSTU_OK);
        }
        if (way < 2)
            assert_int_equal(d->table->linear(d, a, LAYERS, NULL), HSTU_OK);
        for (int i = 0; i < LAYERS; i++)
            layer_check(&layer[way][i], isa, way == 0 ? 7 : rows);
    }
    for (int i = 0; i < LAYERS; i++) {
        mat_check_same_bits(&layer[1][i].out, &layer[0][i].out, "layers on three threads");
        mat_check_same_bits(&layer[2][i].out, &layer[0][i].out, "a layer by itself");
        mat_check_same_bits(&layer[1][i].stream, &layer[0][i].stream, "a stream on three threads");
    }
    for (int way = 0; way < 3; way++) {
        for (int i = 0; i < LAYERS; i++)
            layer_free(&layer[way][i], dev[way > 0]);
    }
    hs_device_close(dev[0]);
    hs_device_close(dev[1]);
}

static void test_layers(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        layers_case(isa, 3, 40);
        layers_case(isa, 203, 129); /* enough for several threads */
        layers_case(isa, 500, 33);
    }
}

/* Rows and columns of wider matrices: what is around them stays. */
static void test_parts(void **state)
{
    (void)state;
    enum { ROWS = 50, IN = 64, N = 70, BEFORE = 5 };
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        hs_device *dev = device_new(isa, 1);
        stored_layer l = {.rows = ROWS, .in = IN, .n = N, .x_half = true, .out_half = true, .added = ADD_STORED};
        layer_new(&l, dev, isa);
        hs_mat around = mat_out(ROWS + 2, N + 2 * BEFORE, N + 2 * BEFORE), wide = stored_new(isa, &around, true);
        hs_linear_args a = layer_args(&l);
        assert_int_equal(dev->table->linear(dev, &a, 1, NULL), HSTU_OK);
        a.out = hs_mat_part(wide, 1, ROWS, BEFORE, N);
        assert_int_equal(dev->table->linear(dev, &a, 1, NULL), HSTU_OK);
        for (int64_t r = 0; r < wide.rows; r++) {
            for (int64_t c = 0; c < wide.cols; c++) {
                const bool is_part = r > 0 && r <= ROWS && c >= BEFORE && c < BEFORE + N;
                assert_int_equal(wide.half[r * wide.ld + c],
                    is_part ? l.stored_out.half[(r - 1) * l.stored_out.ld + c - BEFORE] : hs_f32_to_bf16(GUARD));
            }
        }
        stored_free(&wide);
        hs_free(around.data);
        layer_free(&l, dev);
        hs_device_close(dev);
    }
}

static void test_wrong_weight(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        hs_device *dev = device_new(isa, 1);
        stored_layer l = {.rows = 3, .in = 5, .n = 7, .x_half = true, .out_half = true, .is_f32 = true};
        stored_layer good = {.rows = 3, .in = 5, .n = 7};
        layer_new(&l, dev, isa);
        layer_new(&good, dev, isa);
        const hs_linear_args a[] = {layer_args(&good), layer_args(&l)};
        hstu_error err = {0};
        assert_int_equal(dev->table->linear(dev, a, 2, &err), HSTU_EINVAL);
        assert_string_equal(err.msg, "op linear: x holds bfloat16 values, but the weight was packed as fp32");
        layer_free(&l, dev);
        layer_free(&good, dev);
        hs_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mixtures), cmocka_unit_test(test_layers),
        cmocka_unit_test(test_parts), cmocka_unit_test(test_wrong_weight)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
