/* The tests' own NPU: a fused graph becomes a list of nodes over numbered values (a plan). */
#include "provider_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_OF_INT = 1, KIND_OF_INTS = 2, KIND_OF_FLOAT = 3 };

/* ---- reading the runtime's graph ------------------------------------------------------------------------------------- */

/* *fits: a tensor of a type and a static shape that we know. */
static ort_status *read_tensor(const vnpu_ort *ort, const ort_value_info *info, vnpu_tensor *out, bool *fits)
{
    const ort_type_info *type = NULL;
    const ort_tensor_info *tensor = NULL;
    size_t rank = 0;
    *out = (vnpu_tensor){0};
    *fits = false;
    VNPU_TRY(ort->value_type(info, &type));
    if (type)
        VNPU_TRY(ort->type_as_tensor(type, &tensor));
    if (!tensor)
        return NULL;
    VNPU_TRY(ort->element_type(tensor, &out->type));
    VNPU_TRY(ort->n_dimensions(tensor, &rank));
    if (vnpu_type_bytes(out->type) == 0 || rank > VNPU_RANK)
        return NULL;
    out->rank = (int)rank;
    if (rank > 0)
        VNPU_TRY(ort->dimensions(tensor, out->size, rank));
    for (size_t i = 0; i < rank; i++)
        if (out->size[i] < 0)
            return NULL;
    *fits = true;
    return NULL;
}

/* A node's inputs, then its outputs, in one list from malloc. */
static ort_status *list_values(
    const vnpu_ort *ort, const ort_node *node, const ort_value_info ***out, size_t *n_inputs, size_t *n_outputs)
{
    VNPU_TRY(ort->n_node_inputs(node, n_inputs));
    VNPU_TRY(ort->n_node_outputs(node, n_outputs));
    const ort_value_info **list = calloc(*n_inputs + *n_outputs + 1, sizeof *list);
    if (!list)
        return vnpu_fail(ort, "no memory for a node's inputs and outputs");
    ort_status *status = *n_inputs > 0 ? ort->node_inputs(node, list, *n_inputs) : NULL;
    if (!status && *n_outputs > 0)
        status = ort->node_outputs(node, list + *n_inputs, *n_outputs);
    if (status)
        free(list);
    else
        *out = list;
    return status;
}

static ort_status *values_fit(const vnpu_ort *ort, const vnpu_op *op, const ort_value_info *const *info,
    size_t n_inputs, size_t n_outputs, bool *yes)
{
    for (size_t i = 0; i < n_inputs + n_outputs; i++) {
        vnpu_tensor tensor;
        bool fits = i >= op->min_inputs && i < n_inputs; /* may be left out */
        if (info[i])
            VNPU_TRY(read_tensor(ort, info[i], &tensor, &fits));
        if (!fits)
            return NULL;
        if (i < 2 && i < n_inputs && info[i] && tensor.rank < op->min_rank)
            return NULL;
        if (i == 0 && op->kind == VNPU_FLOATS && tensor.type != VNPU_F32 && tensor.type != VNPU_F16)
            return NULL;
    }
    *yes = true;
    return NULL;
}

ort_status *vnpu_can_run(const vnpu_ort *ort, const ort_node *node, bool *yes)
{
    const char *type = NULL, *domain = NULL;
    const ort_value_info **info = NULL;
    size_t n_inputs = 0, n_outputs = 0;
    char item[80];
    *yes = false;
    VNPU_TRY(ort->node_type(node, &type));
    VNPU_TRY(ort->node_domain(node, &domain));
    const vnpu_op *op = vnpu_find_op(type);
    if (!op || (domain && *domain && strcmp(domain, "ai.onnx") != 0))
        return NULL;
    snprintf(item, sizeof item, "decline=%s", type);
    if (vnpu_asked(item))
        return NULL;
    VNPU_TRY(list_values(ort, node, &info, &n_inputs, &n_outputs));
    ort_status *status = NULL;
    if (n_inputs >= op->min_inputs && n_inputs <= op->max_inputs)
        status = values_fit(ort, op, info, n_inputs, n_outputs, yes);
    free(info);
    return status;
}

/* Attributes of other kinds than numbers stay out: no operator of ours has any that matters. */
static ort_status *read_attribute(const vnpu_ort *ort, const ort_attribute *from, vnpu_attribute *to, bool *kept)
{
    const char *name = NULL;
    int kind = 0;
    size_t bytes = 0;
    VNPU_TRY(ort->attribute_name(from, &name));
    VNPU_TRY(ort->attribute_type(from, &kind));
    *to = (vnpu_attribute){0};
    *kept = kind == KIND_OF_INT || kind == KIND_OF_INTS || kind == KIND_OF_FLOAT;
    if (!*kept)
        return NULL;
    snprintf(to->name, sizeof to->name, "%s", name);
    if (kind == KIND_OF_FLOAT)
        return ort->read_attribute(from, kind, &to->number, sizeof to->number, &bytes);
    VNPU_TRY(ort->read_attribute(from, kind, to->integer, kind == KIND_OF_INT ? 8 : sizeof to->integer, &bytes));
    to->n = (int)(bytes / sizeof to->integer[0]);
    return NULL;
}

static ort_status *read_attributes(const vnpu_ort *ort, const ort_node *from, plan_node *to)
{
    size_t n = 0;
    VNPU_TRY(ort->n_node_attributes(from, &n));
    if (n == 0)
        return NULL;
    const ort_attribute **list = calloc(n, sizeof *list);
    to->attribute = calloc(n, sizeof *to->attribute);
    ort_status *status = list && to->attribute ? ort->node_attributes(from, list, n)
                                               : vnpu_fail(ort, "no memory for a node's attributes");
    for (size_t i = 0; i < n && !status; i++) {
        bool kept = false;
        status = read_attribute(ort, list[i], &to->attribute[to->n_attributes], &kept);
        to->n_attributes += kept;
    }
    free(list);
    return status;
}

/* The value of this name, made when there is none yet. */
static ort_status *find_value(vnpu_plan *plan, const ort_value_info *info, int *out)
{
    const char *name = NULL;
    bool fits = false;
    *out = ABSENT;
    if (!info)
        return NULL;
    VNPU_TRY(plan->ort->value_name(info, &name));
    for (int i = 0; i < plan->n_values; i++)
        if (strcmp(plan->value[i].name, name) == 0) {
            *out = i;
            return NULL;
        }
    plan_value *value = realloc(plan->value, ((size_t)plan->n_values + 1) * sizeof *value);
    if (!value)
        return vnpu_fail(plan->ort, "no memory for value %s", name);
    plan->value = value;
    value += plan->n_values;
    *value = (plan_value){.name = strdup(name), .last_use = ABSENT};
    if (!value->name)
        return vnpu_fail(plan->ort, "no memory for value %s", name);
    *out = plan->n_values++;
    VNPU_TRY(read_tensor(plan->ort, info, &value->tensor, &fits));
    return fits ? NULL : vnpu_fail(plan->ort, "value %s has a type or shape that was not seen before", name);
}

static ort_status *find_values(vnpu_plan *plan, const ort_node *node, int **out, int *n_inputs, int *n_outputs)
{
    const ort_value_info **info = NULL;
    size_t n_in = 0, n_out = 0;
    VNPU_TRY(list_values(plan->ort, node, &info, &n_in, &n_out));
    ort_status *status = NULL;
    *out = calloc(n_in + n_out + 1, sizeof **out);
    if (!*out)
        status = vnpu_fail(plan->ort, "no memory for a node's values");
    for (size_t i = 0; i < n_in + n_out && !status; i++)
        status = find_value(plan, info[i], &(*out)[i]);
    free(info);
    *n_inputs = (int)n_in;
    *n_outputs = (int)n_out;
    return status;
}

static ort_status *read_node(vnpu_plan *plan, const ort_node *from)
{
    plan_node *to = &plan->node[plan->n_nodes];
    const char *type = NULL;
    int place = plan->n_nodes++; /* counted first, so that freeing the plan sees what a failure left */
    VNPU_TRY(plan->ort->node_type(from, &type));
    to->op = vnpu_find_op(type);
    if (!to->op)
        return vnpu_fail(plan->ort, "operator %s was not promised", type);
    VNPU_TRY(find_values(plan, from, &to->value, &to->n_inputs, &to->n_outputs));
    for (int i = 0; i < to->n_inputs; i++)
        if (to->value[i] != ABSENT)
            plan->value[to->value[i]].last_use = place;
    return read_attributes(plan->ort, from, to);
}

static ort_status *read_graph(vnpu_plan *plan, const ort_graph *graph, const ort_node *fused)
{
    size_t n = 0;
    VNPU_TRY(find_values(plan, fused, &plan->bound, &plan->n_inputs, &plan->n_outputs));
    for (int i = 0; i < plan->n_inputs + plan->n_outputs; i++)
        if (plan->bound[i] != ABSENT)
            plan->value[plan->bound[i]].bound = true;
    VNPU_TRY(plan->ort->n_nodes(graph, &n));
    plan->node = calloc(n + 1, sizeof *plan->node);
    const ort_node **node = calloc(n + 1, sizeof *node);
    ort_status *status =
        plan->node && node ? plan->ort->nodes(graph, node, n) : vnpu_fail(plan->ort, "no memory for %zu nodes", n);
    for (size_t i = 0; i < n && !status; i++)
        status = read_node(plan, node[i]);
    free(node);
    return status;
}

ort_status *vnpu_plan_new(const vnpu_ort *ort, const ort_graph *graph, const ort_node *fused, vnpu_plan **out)
{
    vnpu_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return vnpu_fail(ort, "no memory for a graph");
    plan->ort = ort;
    ort_status *status = read_graph(plan, graph, fused);
    if (status)
        vnpu_plan_free(plan);
    else
        *out = plan;
    return status;
}

void vnpu_plan_free(vnpu_plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; i < plan->n_values; i++)
        free(plan->value[i].name);
    for (int i = 0; i < plan->n_nodes; i++) {
        free(plan->node[i].attribute);
        free(plan->node[i].value);
    }
    free(plan->value);
    free(plan->node);
    free(plan->bound);
    free(plan);
}
