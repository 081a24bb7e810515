/* graph: shapes, constants, of which equal short ones are one, names, and the first failure, which stays. */
#include "graph/graph_test.h"

static void test_dims(void **state)
{
    (void)state;
    const hs_dims scalar = {0}, small = hs_dims_4(2, 3, 4, 5), zero = hs_dims_2(3, 0), negative = hs_dims_2(-3, -3);
    const hs_dims large = hs_dims_3((int64_t)1 << 31, (int64_t)1 << 31, 4), rank = {.rank = 6}, below = {.rank = -1};
    const hs_dims two = hs_dims_2(2, 3), three = hs_dims_3(2, 3, 1);
    assert_int_equal(hs_dims_elements(&scalar), 1);
    assert_int_equal(hs_dims_elements(&small), 120);
    assert_int_equal(hs_dims_elements(&zero), 0);
    assert_int_equal(hs_dims_elements(&negative), 0);
    assert_int_equal(hs_dims_elements(&large), 0);
    assert_int_equal(hs_dims_elements(&rank), 0);
    assert_int_equal(hs_dims_elements(&below), 0);
    assert_true(hs_dims_equal(&two, &(hs_dims){.rank = 2, .size = {2, 3, 9}}));
    assert_false(hs_dims_equal(&two, &three));
}

static void test_constants(void **state)
{
    (void)state;
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    float gone[6];
    memcpy(gone, data, sizeof data);
    const hs_value kept = hs_graph_constant(g, HS_F32, hs_dims_2(2, 3), data);
    const hs_value copy = hs_graph_constant_copy(g, HS_F32, hs_dims_2(3, 2), gone);
    memset(gone, 0, sizeof gone);
    expect_ok();
    assert_ptr_equal(hs_graph_at(g, kept)->data, data);
    assert_false(hs_graph_at(g, kept)->owned);
    assert_true(hs_graph_at(g, copy)->owned);
    assert_memory_equal(hs_graph_at(g, copy)->data, data, sizeof data);
    assert_int_equal(hs_graph_at(g, copy)->kind, HS_VALUE_CONSTANT);

    const hs_value half = hs_graph_number(g, HS_F32, 0.5), minus = hs_graph_number(g, HS_F32, -0.0);
    const hs_value short_half = hs_graph_number(g, HS_F16, 0.5), tenth = hs_graph_number(g, HS_F16, 0.1);
    const int n_values = g->n_values;
    assert_int_equal(hs_graph_number(g, HS_F32, 0.5), half);
    assert_int_equal(hs_graph_number(g, HS_F32, 0.5 + 1e-12), half); /* equal once it is rounded */
    assert_int_equal(hs_graph_number(g, HS_F16, 0.5), short_half);
    assert_int_equal(g->n_values, n_values);
    const hs_value zero = hs_graph_number(g, HS_F32, 0.0);
    assert_true(zero != minus);
    assert_int_equal(
        hs_graph_at(g, hs_graph_number(g, HS_F16, 0.0))->type, HS_F16); /* though its bytes occur already */
    const hs_value infinite = hs_graph_number(g, HS_F16, -1e9);
    assert_int_equal(*(const uint16_t *)hs_graph_at(g, tenth)->data, 0x2e66);
    assert_int_equal(*(const uint16_t *)hs_graph_at(g, infinite)->data, 0xfc00);
    assert_int_equal(hs_graph_at(g, half)->dims.rank, 1);
    expect_ok();

    const char *sentence = "a graph's constant has no data, or a type or a shape that no graph may hold";
    expect_refused(hs_graph_constant(g, HS_F32, hs_dims_1(1), NULL), sentence);
    expect_refused(hs_graph_constant(g, HS_BF16, hs_dims_1(1), data), sentence);
    expect_refused(hs_graph_constant_copy(g, HS_F32, hs_dims_1(0), data), sentence);
    expect_refused(hs_graph_constant(g, HS_F32, hs_dims_2((int64_t)1 << 31, (int64_t)1 << 30), data), sentence);
    expect_refused(hs_graph_number(g, HS_I64, 1), "a graph's number is fp32 or fp16, nothing else");
}

static void test_outputs(void **state)
{
    (void)state;
    const hs_value x = hs_graph_input(g, "x", HS_F32, hs_dims_1(3)), one = hs_graph_number(g, HS_F32, 1);
    const hs_value y = hs_graph_add(g, x, one);
    hs_graph_output(g, "y", y);
    assert_int_equal(g->n_nodes, 1);
    assert_string_equal(hs_graph_at(g, y)->name, "y");
    hs_graph_output(g, "again", y);
    hs_graph_output(g, "same", x);
    hs_graph_output(g, "one", one);
    expect_ok();
    assert_int_equal(g->n_nodes, 4);
    assert_int_equal(g->n_outputs, 4);
    static const char *const name[4] = {"y", "again", "same", "one"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(hs_graph_at(g, g->output[i])->name, name[i]);
        assert_string_equal(g->node[i].op, i ? "Identity" : "Add");
        assert_int_equal(g->node[i].output[0], g->output[i]);
    }
    assert_string_equal(hs_graph_at(g, x)->name, "x");
    assert_int_equal(g->node[2].input[0], x);
}

static void test_names(void **state)
{
    (void)state;
    (void)input(HS_F32, hs_dims_1(1));
    expect_refused(
        hs_graph_input(g, "x0", HS_F32, hs_dims_1(1)), "the graph has two inputs or outputs of the name 'x0'");
    hs_graph_output(g, "x0", input(HS_F32, hs_dims_1(1)));
    expect_refused(HS_NO_VALUE, "the graph has two inputs or outputs of the name 'x0'");
    expect_refused(hs_graph_input(g, "v12", HS_F32, hs_dims_1(1)),
        "the name 'v12' of a graph's input or output is one that graphs make up themselves");
    expect_refused(hs_graph_input(g, "", HS_F32, hs_dims_1(1)),
        "the name '' of a graph's input or output has not between 1 and 31 bytes");
    expect_refused(hs_graph_input(g, "a name of two and thirty letters", HS_F32, hs_dims_1(1)),
        "the name 'a name of two and thirty letters' of a graph's input or output has not between 1 and 31 bytes");
    expect_refused(hs_graph_input(g, "x", HS_I8, hs_dims_1(1)),
        "the graph's input 'x' has a type or a shape that no graph may hold");
    expect_refused(hs_graph_input(g, "x", HS_F32, hs_dims_1(-1)),
        "the graph's input 'x' has a type or a shape that no graph may hold");
    assert_true(hs_graph_input(g, "v", HS_F32, hs_dims_1(1)) >= 0);
    assert_true(hs_graph_input(g, "v1x", HS_F32, hs_dims_1(1)) >= 0);
    assert_true(hs_graph_input(g, "a name of one and thirty letter", HS_F32, hs_dims_1(1)) >= 0);
    expect_ok();
}

/* After the first failure every call gives nothing and leaves the sentence alone. */
static void test_failure_stays(void **state)
{
    (void)state;
    static const float data[3];
    const hs_value x = input(HS_F32, hs_dims_1(3)), bad = hs_graph_add(g, x, 77);
    const int n_values = g->n_values;
    hs_value v[12];
    hs_value *next = v;
    assert_int_equal(bad, HS_NO_VALUE);
    assert_int_equal(hs_graph_at(g, bad)->dims.rank, 0);
    *next++ = hs_graph_add(g, x, x);
    *next++ = hs_graph_sqrt(g, bad);
    *next++ = hs_graph_softmax(g, x);
    *next++ = hs_graph_cast(g, x, HS_F32);
    *next++ = hs_graph_reshape(g, x, hs_dims_1(3));
    *next++ = hs_graph_concat(g, 0, &x, 1);
    *next++ = hs_graph_input(g, "new", HS_F32, hs_dims_1(1));
    *next++ = hs_graph_number(g, HS_F32, 1);
    *next++ = hs_graph_number(g, HS_BOOL, 1);
    *next++ = hs_graph_constant(g, HS_F32, hs_dims_1(3), data);
    hs_graph_top_k(g, x, 1, next, next + 1);
    hs_graph_output(g, "y", x);
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        assert_int_equal(v[i], HS_NO_VALUE);
    assert_true(g->n_values == n_values && g->n_outputs == 0 && g->n_inputs == 1);
    assert_int_equal(hs_graph_check(g, NULL), HSTU_EINVAL);
    expect_refused(bad, "cannot build Add: 77 is no value of the graph");
    hs_graph_free(NULL);
}

/* Values keep their names and nodes their inputs while the arrays grow. */
static void test_many(void **state)
{
    (void)state;
    hs_value x = input(HS_F32, hs_dims_1(3));
    for (int i = 0; i < 3000; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "y%d", i);
        x = hs_graph_relu(g, x);
        if (i % 10 == 0)
            hs_graph_output(g, name, x);
    }
    expect_ok();
    assert_int_equal(g->n_nodes, 3000);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(g->node[i].input[0], i ? g->node[i - 1].output[0] : 0);
        assert_int_equal(hs_graph_at(g, g->node[i].output[0])->name[0], i % 10 ? 'v' : 'y');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_dims), TEST(test_constants), TEST(test_outputs), TEST(test_names),
        TEST(test_failure_stays), TEST(test_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
