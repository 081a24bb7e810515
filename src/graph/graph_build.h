/* What the builders of graph/ share: appending to a graph, and the first failure's sentence. */
#ifndef HS_GRAPH_GRAPH_BUILD_H
#define HS_GRAPH_GRAPH_BUILD_H

#include "graph/graph.h"

typedef struct hs_graph_result {
    hs_dtype type;
    hs_dims dims;
} hs_graph_result;

/* Whether nothing failed so far and v [n] are values of the graph; without the latter `op` fails. */
bool hs_graph_ready(hs_graph *g, const char *op, const hs_value *v, int n);
/* Fails with "cannot build <op> of <the first values, by name, type and shape>: <why>". v [n] must be values. HS_NO_VALUE. */
__attribute__((format(printf, 5, 6))) hs_value hs_graph_refuse(
    hs_graph *g, const char *op, const hs_value *v, int n, const char *why, ...);
/* Appends a node with the operator, the counts and the attributes of `node`. Its inputs are `input` [n_inputs], its outputs new
 * values of result [n_outputs]: the first is returned, the second follows it. */
hs_value hs_graph_append(hs_graph *g, const hs_graph_node *node, const hs_value *input, const hs_graph_result *result);
/* Integers as a constant [n], 1 <= n <= HS_GRAPH_RANK; equal ones give one value. */
hs_value hs_graph_integers(hs_graph *g, const int64_t *integer, int n);

static inline hs_graph_attribute hs_graph_attribute_1(const char *name, int64_t value)
{
    return (hs_graph_attribute){.name = name, .n = 1, .value = {value}};
}

#endif
