/* Operators that move elements or change their type: each gives x back where it would change nothing. */
#include "graph/graph.h"

#include "graph/graph_build.h"

hs_value hs_graph_cast(hs_graph *g, hs_value x, hs_dtype type)
{
    if (!hs_graph_ready(g, "Cast", &x, 1))
        return HS_NO_VALUE;
    const hs_graph_value *value = hs_graph_at(g, x);
    if (value->type == type)
        return x;
    const hs_graph_node node = {.op = "Cast",
        .n_inputs = 1,
        .n_outputs = 1,
        .n_attributes = 1,
        .attribute = {hs_graph_attribute_1("to", hs_onnx_type(type))}};
    const hs_graph_result result = {type, value->dims};
    return hs_graph_append(g, &node, &x, &result);
}

hs_value hs_graph_reshape(hs_graph *g, hs_value x, hs_dims dims)
{
    if (!hs_graph_ready(g, "Reshape", &x, 1))
        return HS_NO_VALUE;
    const hs_graph_value value = *hs_graph_at(g, x);
    const size_t from = hs_dims_elements(&value.dims), to = hs_dims_elements(&dims);
    if (hs_dims_equal(&value.dims, &dims))
        return x;
    if (dims.rank < 1 || from != to)
        return hs_graph_refuse(
            g, "Reshape", &x, 1, "%zu elements in %d dimensions cannot hold %zu", to, dims.rank, from);
    const hs_value input[2] = {x, hs_graph_integers(g, dims.size, dims.rank)};
    const hs_graph_node node = {.op = "Reshape", .n_inputs = 2, .n_outputs = 1};
    const hs_graph_result result = {value.type, dims};
    return hs_graph_append(g, &node, input, &result);
}

hs_value hs_graph_transpose(hs_graph *g, hs_value x, const int *perm)
{
    if (!hs_graph_ready(g, "Transpose", &x, 1))
        return HS_NO_VALUE;
    const hs_graph_value *value = hs_graph_at(g, x);
    const int rank = value->dims.rank;
    hs_graph_node node = {.op = "Transpose", .n_inputs = 1, .n_outputs = 1, .n_attributes = 1};
    hs_graph_result result = {value->type, value->dims};
    hs_graph_attribute list = {.name = "perm", .is_list = true, .n = rank};
    bool seen[HS_GRAPH_RANK] = {false}, changes = false;
    for (int i = 0; i < rank; i++) {
        if (perm[i] < 0 || perm[i] >= rank || seen[perm[i]])
            return hs_graph_refuse(g, "Transpose", &x, 1, "dimension %d of the result is to be %d", i, perm[i]);
        seen[perm[i]] = true;
        changes = changes || perm[i] != i;
        list.value[i] = perm[i];
        result.dims.size[i] = value->dims.size[perm[i]];
    }
    node.attribute[0] = list;
    return changes ? hs_graph_append(g, &node, &x, &result) : x;
}

/* The shape of n values behind one another; false, and the graph has failed, where they do not fit. */
static bool joined(hs_graph *g, int axis, const hs_value *v, int n, hs_graph_result *out)
{
    const hs_graph_value *first = hs_graph_at(g, v[0]);
    *out = (hs_graph_result){first->type, first->dims};
    if (axis < 0 || axis >= first->dims.rank) {
        (void)hs_graph_refuse(g, "Concat", v, n, "there is no axis %d", axis);
        return false;
    }
    for (int i = 1; i < n; i++) {
        const hs_graph_value *next = hs_graph_at(g, v[i]);
        hs_dims beside = next->dims;
        if (next->dims.rank == first->dims.rank)
            beside.size[axis] = first->dims.size[axis];
        const hs_value pair[2] = {v[0], v[i]};
        if (next->type != first->type || !hs_dims_equal(&beside, &first->dims)) {
            (void)hs_graph_refuse(g, "Concat", pair, 2, "they differ in more than axis %d", axis);
            return false;
        }
        if (next->dims.size[axis] > INT64_MAX - out->dims.size[axis]) {
            (void)hs_graph_refuse(g, "Concat", pair, 2, "the sizes of axis %d add up to too much", axis);
            return false;
        }
        out->dims.size[axis] += next->dims.size[axis];
    }
    return true;
}

hs_value hs_graph_concat(hs_graph *g, int axis, const hs_value *v, int n)
{
    hs_graph_result result;
    if (!hs_graph_ready(g, "Concat", v, n))
        return HS_NO_VALUE;
    if (n < 1)
        return hs_graph_refuse(g, "Concat", v, 0, "it takes one value or more");
    if (!joined(g, axis, v, n, &result))
        return HS_NO_VALUE;
    const hs_graph_node node = {.op = "Concat",
        .n_inputs = n,
        .n_outputs = 1,
        .n_attributes = 1,
        .attribute = {hs_graph_attribute_1("axis", axis)}};
    return n == 1 ? v[0] : hs_graph_append(g, &node, v, &result);
}

hs_value hs_graph_slice(hs_graph *g, hs_value x, int axis, int64_t first, int64_t n)
{
    if (!hs_graph_ready(g, "Slice", &x, 1))
        return HS_NO_VALUE;
    const hs_graph_value value = *hs_graph_at(g, x);
    if (axis < 0 || axis >= value.dims.rank)
        return hs_graph_refuse(g, "Slice", &x, 1, "there is no axis %d", axis);
    if (first < 0 || n < 1 || n > value.dims.size[axis] || first > value.dims.size[axis] - n)
        return hs_graph_refuse(
            g, "Slice", &x, 1, "%lld places from %lld on are wanted of axis %d", (long long)n, (long long)first, axis);
    if (n == value.dims.size[axis])
        return x;
    const int64_t end = first + n, which = axis;
    const hs_value input[4] = {
        x, hs_graph_integers(g, &first, 1), hs_graph_integers(g, &end, 1), hs_graph_integers(g, &which, 1)};
    const hs_graph_node node = {.op = "Slice", .n_inputs = 4, .n_outputs = 1};
    hs_graph_result result = {value.type, value.dims};
    result.dims.size[axis] = n;
    return hs_graph_append(g, &node, input, &result);
}

hs_value hs_graph_gather(hs_graph *g, hs_value x, hs_value index)
{
    const hs_value v[2] = {x, index};
    if (!hs_graph_ready(g, "Gather", v, 2))
        return HS_NO_VALUE;
    const hs_graph_value *from = hs_graph_at(g, x), *which = hs_graph_at(g, index);
    if (which->type != HS_I32 && which->type != HS_I64)
        return hs_graph_refuse(g, "Gather", v, 2, "the second must be int32 or int64");
    if (from->dims.rank < 1 || which->dims.rank + from->dims.rank - 1 > HS_GRAPH_RANK)
        return hs_graph_refuse(g, "Gather", v, 2, "the result would have %d dimensions, at most %d are possible",
            which->dims.rank + from->dims.rank - 1, HS_GRAPH_RANK);
    hs_graph_result result = {from->type, which->dims};
    for (int i = 1; i < from->dims.rank; i++)
        result.dims.size[result.dims.rank++] = from->dims.size[i];
    const hs_graph_node node = {.op = "Gather",
        .n_inputs = 2,
        .n_outputs = 1,
        .n_attributes = 1,
        .attribute = {hs_graph_attribute_1("axis", 0)}};
    return hs_graph_append(g, &node, v, &result);
}
