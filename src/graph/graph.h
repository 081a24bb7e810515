/* A computation as a graph of ONNX operators over static shapes: what a recording device builds and a runtime compiles.
 * Building never fails on the spot: without memory, or after a contradiction of shapes, every later call gives HS_NO_VALUE
 * and hs_graph_check tells the first reason. */
#ifndef HS_GRAPH_GRAPH_H
#define HS_GRAPH_GRAPH_H

#include "hstu/status.h"
#include "tensor/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_GRAPH_OPSET = 17, HS_GRAPH_RANK = 5, HS_GRAPH_NAME_BYTES = 32, HS_GRAPH_ATTRIBUTES = 4 };

typedef int hs_value; /* a place in hs_graph.value */
enum { HS_NO_VALUE = -1 };

typedef struct hs_dims {
    int rank;                    /* 0 .. HS_GRAPH_RANK; 0 is a scalar */
    int64_t size[HS_GRAPH_RANK]; /* each >= 1 */
} hs_dims;

typedef enum hs_value_kind { HS_VALUE_INPUT, HS_VALUE_CONSTANT, HS_VALUE_NODE } hs_value_kind;

typedef struct hs_graph_value {
    char name[HS_GRAPH_NAME_BYTES]; /* unique in the graph: an input's or output's own name, else made up */
    hs_value_kind kind;
    hs_dtype type; /* HS_F32, HS_F16, HS_I32, HS_I64, HS_U8 or HS_BOOL */
    hs_dims dims;
    const void *data; /* of a constant: row-major, no gaps; owned by the graph when `owned`, else by the caller */
    bool owned;
} hs_graph_value;

/* An attribute: one integer, or a list of them. (No operator in use has others.) */
typedef struct hs_graph_attribute {
    const char *name; /* static: "axis", "axes", "perm", "to", "keepdims" */
    bool is_list;
    int n;
    int64_t value[HS_GRAPH_RANK];
} hs_graph_attribute;

typedef struct hs_graph_node {
    const char *op; /* static: ONNX's name, "MatMul" */
    int n_inputs, n_outputs, n_attributes;
    hs_value *input;    /* [n_inputs] */
    hs_value output[2]; /* TopK has two */
    hs_graph_attribute attribute[HS_GRAPH_ATTRIBUTES];
} hs_graph_node;

/* Members are for reading. Nodes stand in an order in which each one's inputs come before it. */
typedef struct hs_graph {
    hs_graph_value *value;
    int n_values, value_capacity;
    hs_graph_node *node;
    int n_nodes, node_capacity;
    hs_value *input;
    int n_inputs, input_capacity;
    hs_value *output;
    int n_outputs, output_capacity;
    hstu_status status; /* the first failure, with its sentence */
    hstu_error err;
} hs_graph;

/* TensorProto.DataType: also what a Cast node's "to" holds. 0 for a type that no graph may hold. */
int hs_onnx_type(hs_dtype type);

/* NULL without memory. */
hs_graph *hs_graph_new(void);
void hs_graph_free(hs_graph *g); /* NULL is fine */
/* Whether all calls so far succeeded: the first failure is given again. HSTU_ENOMEM, or HSTU_EINVAL for an error of ours. */
hstu_status hs_graph_check(const hs_graph *g, hstu_error *err);

/* 0 where the rank or a size is out of bounds, or the product too large: no value of a graph has such dims. */
size_t hs_dims_elements(const hs_dims *dims);
bool hs_dims_equal(const hs_dims *a, const hs_dims *b);
static inline hs_dims hs_dims_1(int64_t a)
{
    return (hs_dims){.rank = 1, .size = {a}};
}
static inline hs_dims hs_dims_2(int64_t a, int64_t b)
{
    return (hs_dims){.rank = 2, .size = {a, b}};
}
static inline hs_dims hs_dims_3(int64_t a, int64_t b, int64_t c)
{
    return (hs_dims){.rank = 3, .size = {a, b, c}};
}
static inline hs_dims hs_dims_4(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (hs_dims){.rank = 4, .size = {a, b, c, d}};
}

/* Names have 1 .. HS_GRAPH_NAME_BYTES - 1 bytes, occur once, and are none of those that graphs make up: "v" and a number. */
hs_value hs_graph_input(hs_graph *g, const char *name, hs_dtype type, hs_dims dims);
/* An output under this name: an Identity node's value when v is an input, a constant, or an output already. */
void hs_graph_output(hs_graph *g, const char *name, hs_value v);
/* data must outlive the graph and every session made of it. */
hs_value hs_graph_constant(hs_graph *g, hs_dtype type, hs_dims dims, const void *data);
/* The graph copies the data. */
hs_value hs_graph_constant_copy(hs_graph *g, hs_dtype type, hs_dims dims, const void *data);
/* One number as a tensor of shape [1], rounded to float and then to `type` (HS_F32 or HS_F16); equal calls give one value. */
hs_value hs_graph_number(hs_graph *g, hs_dtype type, double number);
/* Until the next value is made. A scalar without a name for HS_NO_VALUE. */
const hs_graph_value *hs_graph_at(const hs_graph *g, hs_value v);

/* ---- operators: each appends one node (or none, where it would change nothing) and infers the shape ---------------- */

/* Both of one type, fp32, fp16, int32 or int64; shapes broadcast as in numpy, at most HS_GRAPH_RANK dimensions. */
hs_value hs_graph_add(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_sub(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_mul(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_div(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_max(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_min(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_less_equal(hs_graph *g, hs_value a, hs_value b); /* HS_BOOL */
/* Of fp32 or fp16, as all up to hs_graph_matmul. */
hs_value hs_graph_sqrt(hs_graph *g, hs_value x);
hs_value hs_graph_abs(hs_graph *g, hs_value x);
hs_value hs_graph_sigmoid(hs_graph *g, hs_value x);
hs_value hs_graph_relu(hs_graph *g, hs_value x);
hs_value hs_graph_erf(hs_graph *g, hs_value x);
/* Over the last axis. */
hs_value hs_graph_softmax(hs_graph *g, hs_value x);
/* Over the last axis, which stays with size 1. */
hs_value hs_graph_mean(hs_graph *g, hs_value x);
hs_value hs_graph_reduce_max(hs_graph *g, hs_value x);
/* a [..., m, k], b [..., k, n]; the dimensions in front broadcast. */
hs_value hs_graph_matmul(hs_graph *g, hs_value a, hs_value b);
hs_value hs_graph_cast(hs_graph *g, hs_value x, hs_dtype type);
/* To a scalar nothing but a scalar can be reshaped. */
hs_value hs_graph_reshape(hs_graph *g, hs_value x, hs_dims dims);
hs_value hs_graph_transpose(hs_graph *g, hs_value x, const int *perm); /* [rank] */
hs_value hs_graph_concat(hs_graph *g, int axis, const hs_value *v, int n);
/* Places first .. first + n - 1 of one axis. */
hs_value hs_graph_slice(hs_graph *g, hs_value x, int axis, int64_t first, int64_t n);
/* Along axis 0 of x; index HS_I32 or HS_I64, each inside. Shape: index's, then x's behind its first. */
hs_value hs_graph_gather(hs_graph *g, hs_value x, hs_value index);
/* The k largest along axis 0 of x [n, m], largest first, ties to the smaller place: *values [k, m], *places HS_I64. */
void hs_graph_top_k(hs_graph *g, hs_value x, int64_t k, hs_value *values, hs_value *places);

#endif
