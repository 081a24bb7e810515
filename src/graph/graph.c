/* The container of a graph: values, nodes, inputs, constants and outputs. Knows no operator beside Identity. */
#include "graph/graph.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "graph/graph_build.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT_BYTES = 160,    /* a value's name, type and shape */
    DESCRIBED_VALUES = 2 /* in an error */
};

hs_graph *hs_graph_new(void)
{
    return hs_calloc(1, sizeof(hs_graph));
}

void hs_graph_free(hs_graph *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_values; i++) {
        if (g->value[i].owned)
            hs_free((void *)(uintptr_t)g->value[i].data);
    }
    for (int i = 0; i < g->n_nodes; i++)
        hs_free(g->node[i].input);
    hs_free(g->value);
    hs_free(g->node);
    hs_free(g->input);
    hs_free(g->output);
    hs_free(g);
}

hstu_status hs_graph_check(const hs_graph *g, hstu_error *err)
{
    if (g->status != HSTU_OK && err)
        *err = g->err;
    return g->status;
}

size_t hs_dims_elements(const hs_dims *dims)
{
    size_t n = 1;
    if (dims->rank < 0 || dims->rank > HS_GRAPH_RANK)
        return 0;
    for (int i = 0; i < dims->rank; i++) {
        if (dims->size[i] < 1 || (uint64_t)dims->size[i] > SIZE_MAX || !hs_mul_size(n, (size_t)dims->size[i], &n))
            return 0;
    }
    return n;
}

bool hs_dims_equal(const hs_dims *a, const hs_dims *b)
{
    return a->rank == b->rank && memcmp(a->size, b->size, (size_t)a->rank * sizeof *a->size) == 0;
}

int hs_onnx_type(hs_dtype type)
{
    static const int number[HS_DTYPE_COUNT] = {
        [HS_F32] = 1, [HS_U8] = 2, [HS_I32] = 6, [HS_I64] = 7, [HS_BOOL] = 9, [HS_F16] = 10};
    return (unsigned)type < HS_DTYPE_COUNT ? number[type] : 0;
}

const hs_graph_value *hs_graph_at(const hs_graph *g, hs_value v)
{
    static const hs_graph_value none = {.type = HS_F32};
    return v >= 0 && v < g->n_values ? &g->value[v] : &none;
}

/* ---- failures ------------------------------------------------------------------------------------------------------- */

static bool fail_nomem(hs_graph *g, size_t bytes, const char *what)
{
    g->status = hs_fail_nomem(&g->err, bytes, what);
    return false;
}

__attribute__((format(printf, 2, 3))) static bool fail(hs_graph *g, const char *fmt, ...)
{
    char text[sizeof g->err.msg];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    g->status = hs_fail(&g->err, HSTU_EINVAL, 0, "%s", text);
    return false;
}

static void describe(char text[TEXT_BYTES], const hs_graph_value *v)
{
    int n = snprintf(text, TEXT_BYTES, "%s %s [", v->name, hs_dtype_name(v->type));
    for (int i = 0; i < v->dims.rank; i++) {
        n += snprintf(text + n, (size_t)(TEXT_BYTES - n), "%s%lld", i ? ", " : "", (long long)v->dims.size[i]);
    }
    (void)snprintf(text + n, (size_t)(TEXT_BYTES - n), "]");
}

hs_value hs_graph_refuse(hs_graph *g, const char *op, const hs_value *v, int n, const char *why, ...)
{
    char text[DESCRIBED_VALUES][TEXT_BYTES] = {"nothing", ""}, reason[TEXT_BYTES];
    for (int i = 0; i < n && i < DESCRIBED_VALUES; i++)
        describe(text[i], hs_graph_at(g, v[i]));
    va_list args;
    va_start(args, why);
    (void)vsnprintf(reason, sizeof reason, why, args);
    va_end(args);
    (void)fail(g, "cannot build %s of %s%s%s: %s", op, text[0], n > 1 ? " and " : "", text[1], reason);
    return HS_NO_VALUE;
}

bool hs_graph_ready(hs_graph *g, const char *op, const hs_value *v, int n)
{
    if (g->status != HSTU_OK)
        return false;
    for (int i = 0; i < n; i++) {
        if (v[i] < 0 || v[i] >= g->n_values)
            return fail(g, "cannot build %s: %d is no value of the graph", op, v[i]);
    }
    return true;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Room for `more` elements behind the n that *array has; false, and the graph has failed, without memory. */
static bool reserve(hs_graph *g, void **array, int *capacity, int n, int more, size_t size, const char *what)
{
    if (*capacity - n >= more)
        return true;
    const int wanted = *capacity ? *capacity : 16;
    if (wanted > INT_MAX / 2)
        return fail_nomem(g, SIZE_MAX, what);
    void *grown = hs_realloc(*array, (size_t)wanted * 2, size);
    if (!grown)
        return fail_nomem(g, (size_t)wanted * 2 * size, what);
    *array = grown;
    *capacity = wanted * 2;
    return true;
}

static bool reserve_values(hs_graph *g, int more)
{
    void *array = g->value;
    const bool done = reserve(g, &array, &g->value_capacity, g->n_values, more, sizeof *g->value, "a graph's values");
    g->value = array;
    return done;
}

static bool reserve_nodes(hs_graph *g)
{
    void *array = g->node;
    const bool done = reserve(g, &array, &g->node_capacity, g->n_nodes, 1, sizeof *g->node, "a graph's nodes");
    g->node = array;
    return done;
}

/* One more place in a list of inputs or outputs. */
static bool reserve_list(hs_graph *g, hs_value **list, int *capacity, int n)
{
    void *array = *list;
    const bool done = reserve(g, &array, capacity, n, 1, sizeof **list, "a graph's inputs and outputs");
    *list = array;
    return done;
}

/* *bytes of a tensor; false where its type or its shape is none that a graph may hold. */
static bool tensor_bytes(hs_dtype type, const hs_dims *dims, size_t *bytes)
{
    const size_t n = hs_dims_elements(dims);
    return hs_onnx_type(type) && n && hs_mul_size(n, hs_dtype_bytes(type), bytes) && *bytes <= PTRDIFF_MAX;
}

/* There is room. The value's name is made up. */
static hs_value add_value(hs_graph *g, hs_value_kind kind, hs_dtype type, const hs_dims *dims)
{
    hs_graph_value *v = &g->value[g->n_values];
    *v = (hs_graph_value){.kind = kind, .type = type, .dims = *dims};
    (void)snprintf(v->name, sizeof v->name, "v%d", g->n_values);
    return g->n_values++;
}

/* Made-up names are not for callers: a later value could get the same. */
static bool name_is_free(hs_graph *g, const char *name)
{
    const size_t n = strnlen(name, HS_GRAPH_NAME_BYTES);
    if (n == 0 || n == HS_GRAPH_NAME_BYTES)
        return fail(g, "the name '%.40s' of a graph's input or output has not between 1 and %d bytes", name,
            HS_GRAPH_NAME_BYTES - 1);
    if (name[0] == 'v' && n > 1 && strspn(name + 1, "0123456789") == n - 1)
        return fail(g, "the name '%s' of a graph's input or output is one that graphs make up themselves", name);
    for (int i = 0; i < g->n_values; i++) {
        if (strcmp(g->value[i].name, name) == 0)
            return fail(g, "the graph has two inputs or outputs of the name '%s'", name);
    }
    return true;
}

hs_value hs_graph_input(hs_graph *g, const char *name, hs_dtype type, hs_dims dims)
{
    size_t bytes = 0;
    if (g->status != HSTU_OK || !name_is_free(g, name))
        return HS_NO_VALUE;
    if (!tensor_bytes(type, &dims, &bytes)) {
        (void)fail(g, "the graph's input '%s' has a type or a shape that no graph may hold", name);
        return HS_NO_VALUE;
    }
    if (!reserve_values(g, 1) || !reserve_list(g, &g->input, &g->input_capacity, g->n_inputs))
        return HS_NO_VALUE;
    const hs_value v = add_value(g, HS_VALUE_INPUT, type, &dims);
    (void)snprintf(g->value[v].name, HS_GRAPH_NAME_BYTES, "%s", name);
    g->input[g->n_inputs++] = v;
    return v;
}

static bool is_output(const hs_graph *g, hs_value v)
{
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->output[i] == v)
            return true;
    }
    return false;
}

void hs_graph_output(hs_graph *g, const char *name, hs_value v)
{
    if (!hs_graph_ready(g, "an output", &v, 1) || !name_is_free(g, name) ||
        !reserve_list(g, &g->output, &g->output_capacity, g->n_outputs))
        return;
    if (g->value[v].kind != HS_VALUE_NODE || is_output(g, v)) {
        const hs_graph_node node = {.op = "Identity", .n_inputs = 1, .n_outputs = 1};
        const hs_graph_result result = {g->value[v].type, g->value[v].dims};
        v = hs_graph_append(g, &node, &v, &result);
        if (v == HS_NO_VALUE)
            return;
    }
    (void)snprintf(g->value[v].name, HS_GRAPH_NAME_BYTES, "%s", name);
    g->output[g->n_outputs++] = v;
}

/* ---- constants ------------------------------------------------------------------------------------------------------ */

static bool constant_fits(hs_graph *g, hs_dtype type, const hs_dims *dims, const void *data, size_t *bytes)
{
    if (g->status != HSTU_OK)
        return false;
    if (!data || !tensor_bytes(type, dims, bytes))
        return fail(g, "a graph's constant has no data, or a type or a shape that no graph may hold");
    return true;
}

hs_value hs_graph_constant(hs_graph *g, hs_dtype type, hs_dims dims, const void *data)
{
    size_t bytes = 0;
    if (!constant_fits(g, type, &dims, data, &bytes) || !reserve_values(g, 1))
        return HS_NO_VALUE;
    const hs_value v = add_value(g, HS_VALUE_CONSTANT, type, &dims);
    g->value[v].data = data;
    return v;
}

hs_value hs_graph_constant_copy(hs_graph *g, hs_dtype type, hs_dims dims, const void *data)
{
    size_t bytes = 0;
    if (!constant_fits(g, type, &dims, data, &bytes) || !reserve_values(g, 1))
        return HS_NO_VALUE;
    void *copy = hs_alloc_aligned(bytes, 1);
    if (!copy) {
        (void)fail_nomem(g, bytes, "a graph's constant");
        return HS_NO_VALUE;
    }
    memcpy(copy, data, bytes);
    const hs_value v = add_value(g, HS_VALUE_CONSTANT, type, &dims);
    g->value[v].data = copy;
    g->value[v].owned = true;
    return v;
}

/* A short constant of n elements: one that is there already, or a new one. */
static hs_value short_constant(hs_graph *g, hs_dtype type, int n, const void *data)
{
    const hs_dims dims = hs_dims_1(n);
    const size_t bytes = (size_t)n * hs_dtype_bytes(type);
    for (int i = 0; i < g->n_values; i++) {
        const hs_graph_value *v = &g->value[i];
        if (v->owned && v->type == type && hs_dims_equal(&v->dims, &dims) && memcmp(v->data, data, bytes) == 0)
            return i;
    }
    return hs_graph_constant_copy(g, type, dims, data);
}

hs_value hs_graph_number(hs_graph *g, hs_dtype type, double number)
{
    const float value = (float)number;
    const uint16_t half = hs_f32_to_f16(value);
    if (g->status != HSTU_OK)
        return HS_NO_VALUE;
    if (type == HS_F16)
        return short_constant(g, type, 1, &half);
    if (type == HS_F32)
        return short_constant(g, type, 1, &value);
    (void)fail(g, "a graph's number is fp32 or fp16, nothing else");
    return HS_NO_VALUE;
}

hs_value hs_graph_integers(hs_graph *g, const int64_t *integer, int n)
{
    return g->status == HSTU_OK ? short_constant(g, HS_I64, n, integer) : HS_NO_VALUE;
}

/* ---- nodes ---------------------------------------------------------------------------------------------------------- */

hs_value hs_graph_append(hs_graph *g, const hs_graph_node *node, const hs_value *input, const hs_graph_result *result)
{
    size_t bytes = 0;
    if (!hs_graph_ready(g, node->op, input, node->n_inputs))
        return HS_NO_VALUE;
    for (int i = 0; i < node->n_outputs; i++) {
        if (!tensor_bytes(result[i].type, &result[i].dims, &bytes))
            return hs_graph_refuse(g, node->op, input, node->n_inputs, "no graph may hold the result's type or shape");
    }
    if (!reserve_values(g, node->n_outputs) || !reserve_nodes(g))
        return HS_NO_VALUE;
    hs_value *inputs = hs_alloc((size_t)node->n_inputs, sizeof *inputs);
    if (!inputs) {
        (void)fail_nomem(g, (size_t)node->n_inputs * sizeof *inputs, "a node's inputs");
        return HS_NO_VALUE;
    }
    memcpy(inputs, input, (size_t)node->n_inputs * sizeof *inputs);
    hs_graph_node *added = &g->node[g->n_nodes++];
    *added = *node;
    added->input = inputs;
    for (int i = 0; i < node->n_outputs; i++)
        added->output[i] = add_value(g, HS_VALUE_NODE, result[i].type, &result[i].dims);
    return added->output[0];
}
