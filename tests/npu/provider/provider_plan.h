/* The tests' own NPU: a compiled graph from within. */
#ifndef TESTS_NPU_PROVIDER_PLAN_H
#define TESTS_NPU_PROVIDER_PLAN_H

#include "provider.h"

enum { ABSENT = -1 }; /* in place of a value: an input or output that is left out */

typedef struct plan_value {
    char *name;
    vnpu_tensor tensor; /* without memory */
    int last_use;       /* the last node that reads it */
    bool bound;         /* an input or output of the whole graph */
} plan_value;

typedef struct plan_node {
    const vnpu_op *op;
    vnpu_attribute *attribute;
    int n_attributes, n_inputs, n_outputs;
    int *value; /* [n_inputs + n_outputs] */
} plan_node;

struct vnpu_plan {
    const vnpu_ort *ort;
    plan_value *value;
    plan_node *node;
    int *bound; /* [n_inputs + n_outputs] values in the fused node's order */
    int n_values, n_nodes, n_inputs, n_outputs;
};

#endif
