/* A graph with every operator: what the tests of ONNX files write, and tests/checks/check_onnx.py works out again. */
#ifndef TESTS_GRAPH_EVERY_OP_H
#define TESTS_GRAPH_EVERY_OP_H

#include "graph/graph.h"

static const int64_t every_op_rows[2][3] = {{4, 0, 2}, {1, 1, 5}};
static const float every_op_weight[4][2] = {{0.5f, -1.0f}, {2.0f, 0.25f}, {-0.75f, 1.5f}, {1.0f, 0.0f}};

static inline void every_op_numbers(hs_graph *g, hs_value a, hs_value b, hs_dtype type)
{
    hs_graph_output(g, "add", hs_graph_add(g, a, b));
    hs_graph_output(g, "sub", hs_graph_sub(g, a, b));
    hs_graph_output(g, "mul", hs_graph_mul(g, a, hs_graph_number(g, type, 0.1)));
    hs_graph_output(g, "div", hs_graph_div(g, b, a));
    hs_graph_output(g, "max", hs_graph_max(g, a, b));
    hs_graph_output(g, "min", hs_graph_min(g, a, b));
    hs_graph_output(g, "less_equal", hs_graph_less_equal(g, a, b));
    hs_graph_output(g, "sqrt", hs_graph_sqrt(g, hs_graph_abs(g, a)));
    hs_graph_output(g, "sigmoid", hs_graph_sigmoid(g, a));
    hs_graph_output(g, "relu", hs_graph_relu(g, a));
    hs_graph_output(g, "erf", hs_graph_erf(g, a));
    hs_graph_output(g, "softmax", hs_graph_softmax(g, a));
    hs_graph_output(g, "mean", hs_graph_mean(g, a));
    hs_graph_output(g, "reduce_max", hs_graph_reduce_max(g, a));
}

/* a [2, 3, 4], b [3, 1], rows [6, 2] of `type`, which is HS_F32 or HS_F16; index int32 [2], limit int64 [3]. */
static inline void every_op(hs_graph *g, hs_dtype type)
{
    static const int perm[3] = {2, 0, 1};
    const hs_value a = hs_graph_input(g, "a", type, hs_dims_3(2, 3, 4));
    const hs_value b = hs_graph_input(g, "b", type, hs_dims_2(3, 1));
    const hs_value rows = hs_graph_input(g, "rows", type, hs_dims_2(6, 2));
    const hs_value index = hs_graph_input(g, "index", HS_I32, hs_dims_1(2));
    const hs_value limit = hs_graph_input(g, "limit", HS_I64, hs_dims_1(3));
    every_op_numbers(g, a, b, type);
    const hs_value kept = hs_graph_constant(g, HS_F32, hs_dims_2(4, 2), every_op_weight);
    const hs_value which = hs_graph_constant_copy(g, HS_I64, hs_dims_2(2, 3), every_op_rows);
    hs_graph_output(g, "matmul", hs_graph_matmul(g, a, hs_graph_cast(g, kept, type)));
    hs_graph_output(g, "cast", hs_graph_cast(g, hs_graph_less_equal(g, which, limit), HS_U8));
    hs_graph_output(g, "reshape", hs_graph_reshape(g, a, hs_dims_4(1, 6, 2, 2)));
    hs_graph_output(g, "transpose", hs_graph_transpose(g, a, perm));
    const hs_value parts[3] = {a, hs_graph_slice(g, a, 1, 1, 1), a};
    hs_graph_output(g, "slice", parts[1]);
    hs_graph_output(g, "concat", hs_graph_concat(g, 1, parts, 3));
    hs_graph_output(g, "gather", hs_graph_gather(g, rows, which));
    hs_graph_output(g, "gather_int32", hs_graph_gather(g, rows, index));
    hs_value values = HS_NO_VALUE, places = HS_NO_VALUE;
    hs_graph_top_k(g, rows, 3, &values, &places);
    hs_graph_output(g, "top_values", values);
    hs_graph_output(g, "top_places", places);
    hs_graph_output(g, "limit_again", limit);
    hs_graph_output(g, "weight", kept);
}

#endif
