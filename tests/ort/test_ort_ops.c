/* Every operator of graph.h against plain C: on ONNX Runtime's own provider, by both routes, and on OpenVINO's CPU device. */
#include "base/half.h"
#include "ort_support.h"

typedef struct way {
    const char *name, *device, *option, *variable; /* variable: that names the library, or NULL for the usual one */
    bool as_onnx;
    double allowed;
} way;

static const way ways[] = {
    {"ort-cpu", "ort-cpu", NULL, NULL, false, 1e-6},
    {"ort-cpu as ONNX", "ort-cpu", NULL, NULL, true, 1e-6},
    {"OpenVINO", "npu:OpenVINOExecutionProvider", "device_type=CPU", "HSTU_ORT_OPENVINO", false, 3e-6},
    {"OpenVINO as ONNX", "npu:OpenVINOExecutionProvider", "device_type=CPU", "HSTU_ORT_OPENVINO", true, 3e-6},
};

static const way *on; /* the way of the tests that run now */
static hs_ort *ort;

/* Opens the way's device. Without a library `ort` stays NULL, and every test is skipped. */
static int setup(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of(on->device);
    choice.as_onnx = on->as_onnx;
    choice.option = &on->option;
    choice.n_options = on->option ? 1 : 0;
    choice.library = on->variable ? getenv(on->variable) : NULL;
    if (on->variable && (!choice.library || !*choice.library)) {
        print_message("SKIPPED on %s: %s names no library\n", on->name, on->variable);
        return 0;
    }
    hstu_error err = {.msg = ""};
    const hstu_status status = hs_ort_open(&ort, &choice, &err);
    if (status != HSTU_OK)
        print_message("%s on %s: %s\n", status == HSTU_ENOENT ? "SKIPPED" : "FAILED", on->name, err.msg);
    return status == HSTU_OK || status == HSTU_ENOENT ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hs_ort_close(ort);
    ort = NULL;
    return 0;
}

static void need_runtime(void)
{
    if (!ort)
        skip();
}

static void near(const rig *r, int out, size_t at, double expected, const char *what)
{
    expect_near(((const float *)r->out[out])[at], expected, on->allowed, what, at);
}

enum { B = 2, M = 3, N = 4, ALL = B * M * N };

/* x [B, M, N] and y [M, N], broadcast. */
static void test_binary(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_3(B, M, N)), y = rig_floats(&r, hs_dims_2(M, N));
    const hs_value half = hs_graph_number(r.g, HS_F32, 0.5);
    const hs_value positive = hs_graph_add(r.g, hs_graph_abs(r.g, y), half);
    rig_output(&r, hs_graph_add(r.g, x, y));
    rig_output(&r, hs_graph_sub(r.g, x, y));
    rig_output(&r, hs_graph_mul(r.g, x, y));
    rig_output(&r, hs_graph_div(r.g, x, positive));
    rig_output(&r, hs_graph_max(r.g, x, y));
    rig_output(&r, hs_graph_min(r.g, x, y));
    rig_output(&r, hs_graph_less_equal(r.g, x, y));
    rig_run(&r);
    for (size_t i = 0; i < ALL; i++) {
        const double a = ((float *)r.in[0])[i], b = ((float *)r.in[1])[i % (M * N)];
        near(&r, 0, i, a + b, "add");
        near(&r, 1, i, a - b, "sub");
        near(&r, 2, i, a * b, "mul");
        near(&r, 3, i, a / (fabs(b) + 0.5), "div");
        near(&r, 4, i, fmax(a, b), "max");
        near(&r, 5, i, fmin(a, b), "min");
        assert_int_equal(((unsigned char *)r.out[6])[i], a <= b);
    }
    rig_free(&r);
}

static void test_unary(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_3(B, M, N));
    rig_output(&r, hs_graph_sqrt(r.g, hs_graph_abs(r.g, x)));
    rig_output(&r, hs_graph_abs(r.g, x));
    rig_output(&r, hs_graph_sigmoid(r.g, x));
    rig_output(&r, hs_graph_relu(r.g, x));
    rig_output(&r, hs_graph_erf(r.g, x));
    rig_run(&r);
    for (size_t i = 0; i < ALL; i++) {
        const double a = ((float *)r.in[0])[i];
        near(&r, 0, i, sqrt(fabs(a)), "sqrt");
        near(&r, 1, i, fabs(a), "abs");
        near(&r, 2, i, 1 / (1 + exp(-a)), "sigmoid");
        near(&r, 3, i, a > 0 ? a : 0, "relu");
        near(&r, 4, i, erf(a), "erf");
    }
    rig_free(&r);
}

static void test_rows(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_3(B, M, N));
    rig_output(&r, hs_graph_softmax(r.g, x));
    rig_output(&r, hs_graph_mean(r.g, x));
    rig_output(&r, hs_graph_reduce_max(r.g, x));
    rig_run(&r);
    for (size_t row = 0; row < B * M; row++) {
        const float *a = (float *)r.in[0] + row * N;
        double sum = 0, most = a[0], all = 0;
        for (int i = 0; i < N; i++) {
            sum += a[i];
            most = fmax(most, a[i]);
        }
        for (int i = 0; i < N; i++)
            all += exp(a[i] - most);
        for (size_t i = 0; i < N; i++)
            near(&r, 0, row * N + i, exp(a[i] - most) / all, "softmax");
        near(&r, 1, row, sum / N, "mean");
        near(&r, 2, row, most, "reduce_max");
    }
    rig_free(&r);
}

/* a [B, M, N] by b [N, 5]. */
static void test_matmul(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value a = rig_floats(&r, hs_dims_3(B, M, N)), b = rig_floats(&r, hs_dims_2(N, 5));
    rig_output(&r, hs_graph_matmul(r.g, a, b));
    rig_run(&r);
    for (size_t row = 0; row < B * M; row++) {
        for (size_t col = 0; col < 5; col++) {
            double sum = 0;
            for (size_t k = 0; k < N; k++)
                sum += (double)((float *)r.in[0])[row * N + k] * ((float *)r.in[1])[k * 5 + col];
            near(&r, 0, row * 5 + col, sum, "matmul");
        }
    }
    rig_free(&r);
}

static void test_moves(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_3(B, M, N)), y = rig_floats(&r, hs_dims_3(B, 1, N));
    const int perm[] = {2, 0, 1};
    const hs_value both[] = {x, y};
    /* Each from a computed value, so that no runtime may take the input's memory for the output. */
    rig_output(&r, hs_graph_reshape(r.g, hs_graph_abs(r.g, x), hs_dims_2(N, B * M)));
    rig_output(&r, hs_graph_transpose(r.g, x, perm));
    rig_output(&r, hs_graph_concat(r.g, 1, both, 2));
    rig_output(&r, hs_graph_slice(r.g, x, 2, 1, 2));
    rig_output(&r, x);
    rig_run(&r);
    const float *a = r.in[0], *b = r.in[1];
    for (size_t i = 0; i < ALL; i++) {
        const size_t at_b = i / (M * N), at_m = i / N % M, at_n = i % N;
        near(&r, 0, i, fabs(a[i]), "reshape");
        near(&r, 1, at_n * B * M + at_b * M + at_m, a[i], "transpose");
        near(&r, 2, at_b * (M + 1) * N + at_m * N + at_n, a[i], "concat");
        if (at_n == 1 || at_n == 2)
            near(&r, 3, at_b * M * 2 + at_m * 2 + at_n - 1, a[i], "slice");
        near(&r, 4, i, a[i], "an input as an output");
    }
    for (size_t i = 0; i < B * N; i++)
        near(&r, 2, i / N * (M + 1) * N + M * N + i % N, b[i], "concat");
    rig_free(&r);
}

static void test_gather(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_2(7, N)), small = rig_input(&r, HS_I32, hs_dims_2(B, M)),
                   large = rig_input(&r, HS_I64, hs_dims_1(5));
    for (int i = 0; i < B * M; i++)
        ((int32_t *)r.in[1])[i] = (i * 5) % 7;
    for (int i = 0; i < 5; i++)
        ((int64_t *)r.in[2])[i] = 6 - i;
    rig_output(&r, hs_graph_gather(r.g, x, small));
    rig_output(&r, hs_graph_gather(r.g, x, large));
    rig_run(&r);
    for (size_t i = 0; i < B * M * N; i++)
        near(&r, 0, i, ((float *)r.in[0])[(i / N * 5) % 7 * N + i % N], "gather");
    for (size_t i = 0; i < 5 * N; i++)
        near(&r, 1, i, ((float *)r.in[0])[(6 - i / N) * N + i % N], "gather by int64");
    rig_free(&r);
}

/* Columns with equal values: the smaller place comes first. */
static void test_top_k(void **state)
{
    (void)state;
    need_runtime();
    enum { ROWS = 9, COLS = 3, K = 4 };
    rig r = rig_on(ort);
    const hs_value x = rig_input(&r, HS_F32, hs_dims_2(ROWS, COLS));
    float *a = r.in[0];
    for (int i = 0; i < ROWS * COLS; i++)
        a[i] = (float)((i * 7) % 5);
    hs_value values, places;
    /* Of a computed matrix: OpenVINO's older builds decline this operator on a graph's input. */
    hs_graph_top_k(r.g, hs_graph_abs(r.g, x), K, &values, &places);
    rig_output(&r, values);
    rig_output(&r, places);
    rig_run(&r);
    for (int col = 0; col < COLS; col++) {
        bool taken[ROWS] = {false};
        for (int k = 0; k < K; k++) {
            int best = -1;
            for (int row = 0; row < ROWS; row++) {
                if (!taken[row] && (best < 0 || a[row * COLS + col] > a[best * COLS + col]))
                    best = row;
            }
            taken[best] = true;
            near(&r, 0, (size_t)(k * COLS + col), a[best * COLS + col], "top_k");
            assert_int_equal(((int64_t *)r.out[1])[k * COLS + col], best);
        }
    }
    rig_free(&r);
}

static void test_cast(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_1(ALL)), flag = rig_input(&r, HS_BOOL, hs_dims_1(ALL));
    for (int i = 0; i < ALL; i++)
        ((unsigned char *)r.in[1])[i] = i % 3 == 0;
    rig_output(&r, hs_graph_cast(r.g, x, HS_F16));
    rig_output(&r, hs_graph_cast(r.g, flag, HS_F32));
    rig_output(&r, hs_graph_cast(r.g, hs_graph_cast(r.g, x, HS_F16), HS_F32));
    rig_run(&r);
    for (size_t i = 0; i < ALL; i++) {
        expect_near(hs_f16_to_f32(((uint16_t *)r.out[0])[i]), ((float *)r.in[0])[i], 0, "cast to fp16", i);
        near(&r, 1, i, i % 3 == 0, "cast from bool");
        near(&r, 2, i, ((float *)r.in[0])[i], "cast to fp16 and back");
    }
    rig_free(&r);
}

/* Half precision end to end: inputs, a product, outputs. */
static void test_half(void **state)
{
    (void)state;
    need_runtime();
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_2(M, 8)), w = rig_floats(&r, hs_dims_2(8, M));
    const hs_value x16 = hs_graph_cast(r.g, x, HS_F16), w16 = hs_graph_cast(r.g, w, HS_F16);
    const hs_value product = hs_graph_matmul(r.g, x16, w16);
    rig_output(&r, hs_graph_cast(r.g, hs_graph_mul(r.g, product, hs_graph_sigmoid(r.g, product)), HS_F32));
    rig_run(&r);
    for (size_t row = 0; row < M; row++) {
        for (size_t col = 0; col < M; col++) {
            double sum = 0;
            for (size_t k = 0; k < 8; k++)
                sum += (double)((float *)r.in[0])[row * 8 + k] * ((float *)r.in[1])[k * M + col];
            expect_near(((float *)r.out[0])[row * M + col], sum / (1 + exp(-sum)), 3e-3, "half", row * M + col);
        }
    }
    rig_free(&r);
}

/* Large constants of the caller, small ones, the graph's own, scalars. */
static void test_constants(void **state)
{
    (void)state;
    need_runtime();
    enum { ROWS = 16, COLS = 24 };
    static _Alignas(64) float w[ROWS * COLS];
    const float small[COLS] = {1, 2, 3};
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = (float)(i % 17) / 8 - 1;
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_2(2, ROWS));
    const hs_value c = hs_graph_constant(r.g, HS_F32, hs_dims_2(ROWS, COLS), w);
    const hs_value few = hs_graph_constant(r.g, HS_F32, hs_dims_1(3), small);
    const hs_value own = hs_graph_constant_copy(r.g, HS_F32, hs_dims_1(COLS), small);
    const hs_value scalar = hs_graph_constant_copy(r.g, HS_F32, (hs_dims){.rank = 0}, &(const float){2.5f});
    const hs_value y = hs_graph_add(r.g, hs_graph_matmul(r.g, x, c), own);
    rig_output(&r, y);
    rig_output(&r, hs_graph_mul(r.g, hs_graph_slice(r.g, y, 1, 0, 3), few));
    rig_output(&r, hs_graph_mul(r.g, x, scalar));
    rig_run(&r);
    for (size_t i = 0; i < 2 * COLS; i++) {
        double sum = small[i % COLS];
        for (size_t k = 0; k < ROWS; k++)
            sum += (double)((float *)r.in[0])[i / COLS * ROWS + k] * w[k * COLS + i % COLS];
        near(&r, 0, i, sum, "product and sum");
        if (i % COLS < 3)
            near(&r, 1, i / COLS * 3 + i % COLS, sum * small[i % COLS], "small constant");
    }
    for (size_t i = 0; i < 2 * ROWS; i++)
        near(&r, 2, i, 2.5 * ((float *)r.in[0])[i], "scalar");
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_cast),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_constants),
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        on = &ways[i];
        failed += cmocka_run_group_tests_name(on->name, tests, setup, teardown) != 0;
    }
    return failed;
}
