/* Operators that compute: element by element with broadcasting, over the last axis, matrix products, the largest along an axis. */
#include "graph/graph.h"

#include "graph/graph_build.h"

static bool is_real(hs_dtype type)
{
    return type == HS_F32 || type == HS_F16;
}

static bool is_number(hs_dtype type)
{
    return is_real(type) || type == HS_I32 || type == HS_I64;
}

static hs_value append(hs_graph *g, const char *op, const hs_value *v, int n, hs_dtype type, const hs_dims *dims)
{
    const hs_graph_node node = {.op = op, .n_inputs = n, .n_outputs = 1};
    const hs_graph_result result = {type, *dims};
    return hs_graph_append(g, &node, v, &result);
}

/* numpy's rule over all but the last `kept` dimensions, which *out takes from b. */
static bool broadcast(const hs_dims *a, const hs_dims *b, int kept, hs_dims *out)
{
    const int rank = a->rank > b->rank ? a->rank : b->rank;
    *out = (hs_dims){.rank = rank};
    for (int i = 1; i <= rank; i++) { /* from the back */
        const int64_t m = i <= a->rank ? a->size[a->rank - i] : 1, n = i <= b->rank ? b->size[b->rank - i] : 1;
        if (i > kept && m != n && m != 1 && n != 1)
            return false;
        out->size[rank - i] = i <= kept || m == 1 ? n : m;
    }
    return true;
}

static hs_value pairwise(hs_graph *g, const char *op, hs_value a, hs_value b, bool compares)
{
    const hs_value v[2] = {a, b};
    hs_dims dims;
    if (!hs_graph_ready(g, op, v, 2))
        return HS_NO_VALUE;
    const hs_graph_value *x = hs_graph_at(g, a), *y = hs_graph_at(g, b);
    if (x->type != y->type || !is_number(x->type))
        return hs_graph_refuse(g, op, v, 2, "it takes numbers of one type");
    if (!broadcast(&x->dims, &y->dims, 0, &dims))
        return hs_graph_refuse(g, op, v, 2, "the shapes do not broadcast");
    return append(g, op, v, 2, compares ? HS_BOOL : x->type, &dims);
}

hs_value hs_graph_add(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Add", a, b, false);
}

hs_value hs_graph_sub(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Sub", a, b, false);
}

hs_value hs_graph_mul(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Mul", a, b, false);
}

hs_value hs_graph_div(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Div", a, b, false);
}

hs_value hs_graph_max(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Max", a, b, false);
}

hs_value hs_graph_min(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "Min", a, b, false);
}

hs_value hs_graph_less_equal(hs_graph *g, hs_value a, hs_value b)
{
    return pairwise(g, "LessOrEqual", a, b, true);
}

static hs_value each(hs_graph *g, const char *op, hs_value x)
{
    if (!hs_graph_ready(g, op, &x, 1))
        return HS_NO_VALUE;
    const hs_graph_value value = *hs_graph_at(g, x);
    if (!is_real(value.type))
        return hs_graph_refuse(g, op, &x, 1, "it takes fp32 or fp16");
    return append(g, op, &x, 1, value.type, &value.dims);
}

hs_value hs_graph_sqrt(hs_graph *g, hs_value x)
{
    return each(g, "Sqrt", x);
}

hs_value hs_graph_abs(hs_graph *g, hs_value x)
{
    return each(g, "Abs", x);
}

hs_value hs_graph_sigmoid(hs_graph *g, hs_value x)
{
    return each(g, "Sigmoid", x);
}

hs_value hs_graph_relu(hs_graph *g, hs_value x)
{
    return each(g, "Relu", x);
}

hs_value hs_graph_erf(hs_graph *g, hs_value x)
{
    return each(g, "Erf", x);
}

/* Whether `op` can be built over the last axis of x. */
static bool has_last_axis(hs_graph *g, const char *op, hs_value x)
{
    if (!hs_graph_ready(g, op, &x, 1))
        return false;
    const hs_graph_value *value = hs_graph_at(g, x);
    if (is_real(value->type) && value->dims.rank >= 1)
        return true;
    (void)hs_graph_refuse(g, op, &x, 1, "it takes fp32 or fp16 of one dimension or more");
    return false;
}

hs_value hs_graph_softmax(hs_graph *g, hs_value x)
{
    if (!has_last_axis(g, "Softmax", x))
        return HS_NO_VALUE;
    const hs_graph_value *value = hs_graph_at(g, x);
    const hs_graph_node node = {.op = "Softmax",
        .n_inputs = 1,
        .n_outputs = 1,
        .n_attributes = 1,
        .attribute = {hs_graph_attribute_1("axis", value->dims.rank - 1)}};
    const hs_graph_result result = {value->type, value->dims};
    return hs_graph_append(g, &node, &x, &result);
}

static hs_value reduce(hs_graph *g, const char *op, hs_value x)
{
    if (!has_last_axis(g, op, x))
        return HS_NO_VALUE;
    const hs_graph_value *value = hs_graph_at(g, x);
    const int last = value->dims.rank - 1;
    hs_graph_node node = {.op = op,
        .n_inputs = 1,
        .n_outputs = 1,
        .n_attributes = 2,
        .attribute = {hs_graph_attribute_1("axes", last), hs_graph_attribute_1("keepdims", 1)}};
    hs_graph_result result = {value->type, value->dims};
    node.attribute[0].is_list = true;
    result.dims.size[last] = 1;
    return hs_graph_append(g, &node, &x, &result);
}

hs_value hs_graph_mean(hs_graph *g, hs_value x)
{
    return reduce(g, "ReduceMean", x);
}

hs_value hs_graph_reduce_max(hs_graph *g, hs_value x)
{
    return reduce(g, "ReduceMax", x);
}

hs_value hs_graph_matmul(hs_graph *g, hs_value a, hs_value b)
{
    const hs_value v[2] = {a, b};
    hs_dims dims;
    if (!hs_graph_ready(g, "MatMul", v, 2))
        return HS_NO_VALUE;
    const hs_graph_value *x = hs_graph_at(g, a), *y = hs_graph_at(g, b);
    if (x->type != y->type || !is_real(x->type) || x->dims.rank < 2 || y->dims.rank < 2)
        return hs_graph_refuse(g, "MatMul", v, 2, "it takes matrices of one type, fp32 or fp16");
    const int64_t columns = x->dims.size[x->dims.rank - 1], rows = y->dims.size[y->dims.rank - 2];
    if (columns != rows)
        return hs_graph_refuse(g, "MatMul", v, 2, "%lld columns meet %lld rows", (long long)columns, (long long)rows);
    if (!broadcast(&x->dims, &y->dims, 2, &dims))
        return hs_graph_refuse(g, "MatMul", v, 2, "the dimensions in front do not broadcast");
    dims.size[dims.rank - 2] = x->dims.size[x->dims.rank - 2];
    return append(g, "MatMul", v, 2, x->type, &dims);
}

void hs_graph_top_k(hs_graph *g, hs_value x, int64_t k, hs_value *values, hs_value *places)
{
    *values = *places = HS_NO_VALUE;
    if (!hs_graph_ready(g, "TopK", &x, 1))
        return;
    const hs_graph_value value = *hs_graph_at(g, x);
    if (!is_real(value.type) || value.dims.rank != 2 || k < 1 || k > value.dims.size[0]) {
        (void)hs_graph_refuse(g, "TopK", &x, 1, "%lld rows are wanted of a matrix of fp32 or fp16", (long long)k);
        return;
    }
    const hs_graph_node node = {.op = "TopK",
        .n_inputs = 2,
        .n_outputs = 2,
        .n_attributes = 3,
        .attribute = {
            hs_graph_attribute_1("axis", 0), hs_graph_attribute_1("largest", 1), hs_graph_attribute_1("sorted", 1)}};
    const hs_dims dims = hs_dims_2(k, value.dims.size[1]);
    const hs_graph_result result[2] = {{value.type, dims}, {HS_I64, dims}};
    const hs_value input[2] = {x, hs_graph_integers(g, &k, 1)};
    const hs_value first = hs_graph_append(g, &node, input, result);
    if (first == HS_NO_VALUE)
        return;
    *values = first;
    *places = first + 1;
}
