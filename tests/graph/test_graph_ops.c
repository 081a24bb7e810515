/* graph: what each operator infers and refuses, and which calls change nothing. */
#include "graph/graph_test.h"

static hs_dims dims_5(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
    return (hs_dims){.rank = 5, .size = {a, b, c, d, e}};
}

/* The value is the newest node's, of this operator, type and shape. */
static void expect(hs_value v, const char *op, hs_dtype type, hs_dims dims)
{
    expect_ok();
    const hs_graph_value *value = hs_graph_at(g, v);
    const hs_graph_node *node = &g->node[g->n_nodes - 1];
    assert_int_equal(value->kind, HS_VALUE_NODE);
    assert_int_equal(value->type, type);
    assert_true(hs_dims_equal(&value->dims, &dims));
    assert_string_equal(node->op, op);
    assert_int_equal(node->output[0], v);
    assert_int_equal(node->n_outputs, strcmp(op, "TopK") == 0 ? 2 : 1);
    for (int i = 0; i < node->n_inputs; i++)
        assert_in_range(node->input[i], 0, v - 1);
}

static void expect_attribute(int i, const char *name, bool is_list, int n, int64_t first)
{
    const hs_graph_node *node = &g->node[g->n_nodes - 1];
    assert_in_range(i, 0, node->n_attributes - 1);
    assert_string_equal(node->attribute[i].name, name);
    assert_int_equal(node->attribute[i].is_list, is_list);
    assert_int_equal(node->attribute[i].n, n);
    assert_int_equal(node->attribute[i].value[0], first);
}

/* Constant integers of the newest node. */
static void expect_integers(int place, int n, const int64_t *integer)
{
    const hs_graph_node *node = &g->node[g->n_nodes - 1];
    const hs_graph_value *v = hs_graph_at(g, node->input[place]);
    const hs_dims dims = hs_dims_1(n);
    assert_true(v->kind == HS_VALUE_CONSTANT && v->type == HS_I64 && hs_dims_equal(&v->dims, &dims));
    assert_memory_equal(v->data, integer, (size_t)n * sizeof *integer);
}

static void test_pairs_broadcast(void **state)
{
    (void)state;
    const hs_value a = input(HS_F32, hs_dims_3(4, 1, 3)), b = input(HS_F32, hs_dims_2(5, 1));
    const hs_value scalar = input(HS_F32, (hs_dims){0}), i = input(HS_I64, hs_dims_2(1, 3)),
                   j = input(HS_I64, hs_dims_1(3));
    expect(hs_graph_add(g, a, b), "Add", HS_F32, hs_dims_3(4, 5, 3));
    expect(hs_graph_sub(g, b, a), "Sub", HS_F32, hs_dims_3(4, 5, 3));
    expect(hs_graph_mul(g, a, scalar), "Mul", HS_F32, hs_dims_3(4, 1, 3));
    expect(hs_graph_div(g, scalar, b), "Div", HS_F32, hs_dims_2(5, 1));
    expect(hs_graph_max(g, scalar, scalar), "Max", HS_F32, (hs_dims){0});
    expect(hs_graph_min(g, i, j), "Min", HS_I64, hs_dims_2(1, 3));
    expect(hs_graph_less_equal(g, j, i), "LessOrEqual", HS_BOOL, hs_dims_2(1, 3));
    const hs_graph_node *node = &g->node[g->n_nodes - 1];
    assert_true(node->n_inputs == 2 && node->input[0] == j && node->input[1] == i);
}

static void test_pairs_refuse(void **state)
{
    (void)state;
    hs_value a = input(HS_F32, hs_dims_2(2, 3)), b = input(HS_F32, hs_dims_1(4));
    expect_refused(
        hs_graph_add(g, a, b), "cannot build Add of x0 fp32 [2, 3] and x1 fp32 [4]: the shapes do not broadcast");
    a = input(HS_F32, hs_dims_1(3));
    b = input(HS_F16, hs_dims_1(3));
    expect_refused(hs_graph_less_equal(g, a, b),
        "cannot build LessOrEqual of x0 fp32 [3] and x1 fp16 [3]: it takes numbers of one type");
    a = input(HS_BOOL, (hs_dims){0});
    expect_refused(
        hs_graph_mul(g, a, a), "cannot build Mul of x0 bool [] and x0 bool []: it takes numbers of one type");
    a = input(HS_F32, hs_dims_2((int64_t)1 << 40, 1));
    b = input(HS_F32, hs_dims_1((int64_t)1 << 40));
    expect_refused(hs_graph_max(g, a, b),
        "cannot build Max of x0 fp32 [1099511627776, 1] and x1 fp32 [1099511627776]: no "
        "graph may hold the result's type or shape");
}

static void test_one_by_one(void **state)
{
    (void)state;
    const hs_value x = input(HS_F16, hs_dims_3(2, 3, 4)), none = input(HS_F32, (hs_dims){0});
    const hs_dims same = hs_dims_3(2, 3, 4), kept = hs_dims_3(2, 3, 1);
    expect(hs_graph_sqrt(g, x), "Sqrt", HS_F16, same);
    expect(hs_graph_abs(g, x), "Abs", HS_F16, same);
    expect(hs_graph_sigmoid(g, x), "Sigmoid", HS_F16, same);
    expect(hs_graph_relu(g, none), "Relu", HS_F32, (hs_dims){0});
    expect(hs_graph_erf(g, x), "Erf", HS_F16, same);
    assert_int_equal(g->node[g->n_nodes - 1].n_attributes, 0);
    expect(hs_graph_softmax(g, x), "Softmax", HS_F16, same);
    expect_attribute(0, "axis", false, 1, 2);
    expect(hs_graph_mean(g, x), "ReduceMean", HS_F16, kept);
    expect_attribute(0, "axes", true, 1, 2);
    expect_attribute(1, "keepdims", false, 1, 1);
    expect(hs_graph_reduce_max(g, x), "ReduceMax", HS_F16, kept);
    expect_attribute(0, "axes", true, 1, 2);
    expect_attribute(1, "keepdims", false, 1, 1);

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    hs_value wrong = input(HS_I32, hs_dims_1(2));
    expect_refused(hs_graph_erf(g, wrong), "cannot build Erf of x0 int32 [2]: it takes fp32 or fp16");
    wrong = input(HS_F32, (hs_dims){0});
    expect_refused(hs_graph_softmax(g, wrong),
        "cannot build Softmax of x0 fp32 []: it takes fp32 or fp16 of one dimension or more");
    wrong = input(HS_I64, hs_dims_1(2));
    expect_refused(hs_graph_mean(g, wrong),
        "cannot build ReduceMean of x0 int64 [2]: it takes fp32 or fp16 of one dimension or more");
}

static void test_matmul(void **state)
{
    (void)state;
    const hs_value a = input(HS_F32, hs_dims_2(4, 3)), b = input(HS_F32, hs_dims_4(7, 1, 3, 5));
    const hs_value c = input(HS_F32, hs_dims_3(6, 2, 3));
    expect(hs_graph_matmul(g, a, b), "MatMul", HS_F32, hs_dims_4(7, 1, 4, 5));
    expect(hs_graph_matmul(g, c, b), "MatMul", HS_F32, hs_dims_4(7, 6, 2, 5));

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    hs_value x = input(HS_F32, hs_dims_2(4, 3)), y = input(HS_F32, hs_dims_2(4, 3));
    expect_refused(
        hs_graph_matmul(g, x, y), "cannot build MatMul of x0 fp32 [4, 3] and x1 fp32 [4, 3]: 3 columns meet 4 rows");
    x = input(HS_F32, hs_dims_3(2, 4, 3));
    y = input(HS_F32, hs_dims_3(3, 3, 4));
    expect_refused(hs_graph_matmul(g, x, y),
        "cannot build MatMul of x0 fp32 [2, 4, 3] and x1 fp32 [3, 3, 4]: the dimensions "
        "in front do not broadcast");
    x = input(HS_F32, hs_dims_2(4, 3));
    y = input(HS_F32, hs_dims_1(3));
    expect_refused(hs_graph_matmul(g, x, y),
        "cannot build MatMul of x0 fp32 [4, 3] and x1 fp32 [3]: it takes matrices of one type, fp32 or fp16");
}

static void test_cast(void **state)
{
    (void)state;
    static const struct {
        hs_dtype type;
        int number; /* in TensorProto.DataType */
    } types[] = {{HS_F32, 1}, {HS_U8, 2}, {HS_I32, 6}, {HS_I64, 7}, {HS_BOOL, 9}, {HS_F16, 10}};
    const hs_value x = input(HS_F32, hs_dims_2(2, 3));
    assert_int_equal(hs_graph_cast(g, x, HS_F32), x);
    assert_int_equal(g->n_nodes, 0);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_int_equal(hs_onnx_type(types[i].type), types[i].number);
        if (types[i].type == HS_F32)
            continue;
        expect(hs_graph_cast(g, x, types[i].type), "Cast", types[i].type, hs_dims_2(2, 3));
        expect_attribute(0, "to", false, 1, types[i].number);
    }
    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    expect_refused(hs_graph_cast(g, input(HS_F32, hs_dims_1(2)), HS_BF16),
        "cannot build Cast of x0 fp32 [2]: no graph may hold the result's type or shape");
}

static void test_reshape(void **state)
{
    (void)state;
    const hs_value x = input(HS_F32, hs_dims_2(6, 4));
    assert_int_equal(hs_graph_reshape(g, x, hs_dims_2(6, 4)), x);
    assert_int_equal(g->n_nodes, 0);
    expect(hs_graph_reshape(g, x, hs_dims_3(2, 3, 4)), "Reshape", HS_F32, hs_dims_3(2, 3, 4));
    expect_integers(1, 3, (const int64_t[]){2, 3, 4});
    const int n_values = g->n_values;
    expect(hs_graph_reshape(g, x, hs_dims_3(2, 3, 4)), "Reshape", HS_F32, hs_dims_3(2, 3, 4));
    assert_int_equal(g->n_values, n_values + 1); /* the shape was there */
    expect(hs_graph_reshape(g, input(HS_F32, (hs_dims){0}), hs_dims_1(1)), "Reshape", HS_F32, hs_dims_1(1));

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    expect_refused(hs_graph_reshape(g, input(HS_F32, hs_dims_1(6)), hs_dims_1(5)),
        "cannot build Reshape of x0 fp32 [6]: 5 elements in 1 dimensions cannot hold 6");
    expect_refused(hs_graph_reshape(g, input(HS_F32, hs_dims_1(1)), (hs_dims){0}),
        "cannot build Reshape of x0 fp32 [1]: 1 elements in 0 dimensions cannot hold 1");
    expect_refused(hs_graph_reshape(g, input(HS_F32, hs_dims_1(6)), hs_dims_2(6, -1)),
        "cannot build Reshape of x0 fp32 [6]: 0 elements in 2 dimensions cannot hold 6");
}

static void test_transpose(void **state)
{
    (void)state;
    const hs_value x = input(HS_U8, dims_5(2, 3, 4, 5, 6));
    assert_int_equal(hs_graph_transpose(g, x, (const int[]){0, 1, 2, 3, 4}), x);
    assert_int_equal(g->n_nodes, 0);
    expect(hs_graph_transpose(g, x, (const int[]){4, 0, 1, 3, 2}), "Transpose", HS_U8, dims_5(6, 2, 3, 5, 4));
    expect_attribute(0, "perm", true, 5, 4);
    assert_int_equal(g->node[0].attribute[0].value[4], 2);

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    expect_refused(hs_graph_transpose(g, input(HS_F32, hs_dims_2(2, 3)), (const int[]){1, 1}),
        "cannot build Transpose of x0 fp32 [2, 3]: dimension 1 of the result is to be 1");
    expect_refused(hs_graph_transpose(g, input(HS_F32, hs_dims_2(2, 3)), (const int[]){2, 0}),
        "cannot build Transpose of x0 fp32 [2, 3]: dimension 0 of the result is to be 2");
}

static void test_concat(void **state)
{
    (void)state;
    const hs_value v[3] = {
        input(HS_I32, hs_dims_2(2, 3)), input(HS_I32, hs_dims_2(2, 1)), input(HS_I32, hs_dims_2(2, 7))};
    assert_int_equal(hs_graph_concat(g, 1, v, 1), v[0]);
    assert_int_equal(g->n_nodes, 0);
    expect(hs_graph_concat(g, 1, v, 3), "Concat", HS_I32, hs_dims_2(2, 11));
    expect_attribute(0, "axis", false, 1, 1);
    assert_memory_equal(g->node[0].input, v, sizeof v);

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    hs_value w[2] = {input(HS_F32, hs_dims_2(2, 3)), input(HS_F32, hs_dims_2(4, 3))};
    expect_refused(hs_graph_concat(g, 1, w, 2),
        "cannot build Concat of x0 fp32 [2, 3] and x1 fp32 [4, 3]: they differ in more than axis 1");
    w[0] = input(HS_F32, hs_dims_1(3));
    w[1] = input(HS_F16, hs_dims_1(3));
    expect_refused(hs_graph_concat(g, 0, w, 2),
        "cannot build Concat of x0 fp32 [3] and x1 fp16 [3]: they differ in more than axis 0");
    w[0] = input(HS_F32, hs_dims_1(3));
    expect_refused(hs_graph_concat(g, 1, w, 1), "cannot build Concat of x0 fp32 [3]: there is no axis 1");
    expect_refused(hs_graph_concat(g, 0, NULL, 0), "cannot build Concat of nothing: it takes one value or more");
    w[0] = w[1] = input(HS_U8, hs_dims_1(INT64_MAX));
    expect_refused(hs_graph_concat(g, 0, w, 2), "cannot build Concat of x0 uint8 [9223372036854775807] and x0 uint8 "
                                                "[9223372036854775807]: the sizes of axis 0 add up to too much");
}

static void test_slice(void **state)
{
    (void)state;
    const hs_value x = input(HS_F32, hs_dims_2(4, 9));
    assert_int_equal(hs_graph_slice(g, x, 1, 0, 9), x);
    assert_int_equal(g->n_nodes, 0);
    expect(hs_graph_slice(g, x, 1, 2, 7), "Slice", HS_F32, hs_dims_2(4, 7));
    expect_integers(1, 1, (const int64_t[]){2});
    expect_integers(2, 1, (const int64_t[]){9});
    expect_integers(3, 1, (const int64_t[]){1});
    expect(hs_graph_slice(g, x, 0, 0, 1), "Slice", HS_F32, hs_dims_2(1, 9));

    static const struct {
        int axis;
        int64_t first, n;
        const char *why;
    } wrong[] = {{2, 0, 1, "there is no axis 2"}, {-1, 0, 1, "there is no axis -1"},
        {0, 1, 4, "4 places from 1 on are wanted of axis 0"}, {0, -1, 2, "2 places from -1 on are wanted of axis 0"},
        {0, 0, 0, "0 places from 0 on are wanted of axis 0"},
        {0, INT64_MAX, 2, "2 places from 9223372036854775807 on are wanted of axis 0"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char sentence[200];
        (void)free_graph(NULL);
        assert_int_equal(make_graph(NULL), 0);
        (void)snprintf(sentence, sizeof sentence, "cannot build Slice of x0 fp32 [4, 9]: %s", wrong[i].why);
        const hs_value y = input(HS_F32, hs_dims_2(4, 9));
        expect_refused(hs_graph_slice(g, y, wrong[i].axis, wrong[i].first, wrong[i].n), sentence);
    }
}

static void test_gather(void **state)
{
    (void)state;
    const hs_value x = input(HS_F16, hs_dims_3(10, 3, 4)), i = input(HS_I32, hs_dims_2(5, 6));
    const hs_value one = input(HS_I64, (hs_dims){0});
    expect(hs_graph_gather(g, x, i), "Gather", HS_F16, hs_dims_4(5, 6, 3, 4));
    expect_attribute(0, "axis", false, 1, 0);
    expect(hs_graph_gather(g, x, one), "Gather", HS_F16, hs_dims_2(3, 4));

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    hs_value from = input(HS_F32, hs_dims_1(3)), which = input(HS_F32, hs_dims_1(2));
    expect_refused(hs_graph_gather(g, from, which),
        "cannot build Gather of x0 fp32 [3] and x1 fp32 [2]: the second must be int32 or int64");
    from = input(HS_F32, hs_dims_4(3, 1, 1, 1));
    which = input(HS_I64, hs_dims_3(2, 1, 1));
    expect_refused(hs_graph_gather(g, from, which),
        "cannot build Gather of x0 fp32 [3, 1, 1, 1] and x1 int64 [2, 1, 1]: the "
        "result would have 6 dimensions, at most 5 are possible");
}

static void test_top_k(void **state)
{
    (void)state;
    const hs_value x = input(HS_F32, hs_dims_2(20, 3));
    hs_value values = 0, places = 0;
    hs_graph_top_k(g, x, 5, &values, &places);
    expect(values, "TopK", HS_F32, hs_dims_2(5, 3));
    const hs_graph_value *second = hs_graph_at(g, places);
    const hs_dims dims = hs_dims_2(5, 3);
    assert_true(second->type == HS_I64 && hs_dims_equal(&second->dims, &dims));
    assert_int_equal(g->node[0].output[1], places);
    expect_attribute(0, "axis", false, 1, 0);
    expect_attribute(1, "largest", false, 1, 1);
    expect_attribute(2, "sorted", false, 1, 1);
    expect_integers(1, 1, (const int64_t[]){5});

    (void)free_graph(NULL);
    assert_int_equal(make_graph(NULL), 0);
    hs_graph_top_k(g, input(HS_F32, hs_dims_2(20, 3)), 21, &values, &places);
    assert_int_equal(places, HS_NO_VALUE);
    expect_refused(values, "cannot build TopK of x0 fp32 [20, 3]: 21 rows are wanted of a matrix of fp32 or fp16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_pairs_broadcast), TEST(test_pairs_refuse), TEST(test_one_by_one),
        TEST(test_matmul), TEST(test_cast), TEST(test_reshape), TEST(test_transpose), TEST(test_concat),
        TEST(test_slice), TEST(test_gather), TEST(test_top_k)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
