/* The tests' own NPU: a plan runs, node by node; what lies between two nodes is freed behind the last that reads it. */
#include "provider_plan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The tensor as fp32, in new memory. false: no memory. */
static bool widen(const vnpu_tensor *from, vnpu_tensor *to)
{
    int64_t n = vnpu_elements(from);
    *to = *from;
    to->type = VNPU_F32;
    to->data = malloc((size_t)n * sizeof(float) + 1);
    for (int64_t i = 0; to->data && i < n; i++)
        ((float *)to->data)[i] = vnpu_half_to_float(((const uint16_t *)from->data)[i]);
    return to->data != NULL;
}

static void scale(const vnpu_tensor *t, float factor)
{
    int64_t n = vnpu_elements(t);
    for (int64_t i = 0; t->type == VNPU_F32 && i < n; i++)
        ((float *)t->data)[i] *= factor;
}

/* Calls the operator; tensors of fp16 meet it as fp32. wide [n_inputs + n_outputs] is room for those. */
static const char *call_op(
    const plan_node *node, const vnpu_tensor **seen, vnpu_tensor *wide, const vnpu_tensor *tensor)
{
    const char *wrong = NULL;
    double share = 0;
    int n = node->n_inputs + node->n_outputs;
    for (int i = 0; i < n && !wrong; i++) {
        seen[i] = node->value[i] == ABSENT ? NULL : &tensor[node->value[i]];
        if (!seen[i] || seen[i]->type != VNPU_F16 || node->op->kind == VNPU_BYTES)
            continue;
        if (!widen(seen[i], &wide[i]))
            wrong = "no memory to widen a tensor";
        seen[i] = &wide[i];
    }
    if (!wrong)
        wrong = node->op->run(&(vnpu_call){.attribute = node->attribute,
            .n_attributes = node->n_attributes,
            .n_inputs = node->n_inputs,
            .n_outputs = node->n_outputs,
            .input = seen,
            .output = seen + node->n_inputs});
    if (!wrong && vnpu_number("wrong", &share) &&
        (strcmp(node->op->name, "MatMul") == 0 || strcmp(node->op->name, "Gemm") == 0))
        scale(seen[node->n_inputs], 1.0f + (float)share);
    for (int i = node->n_inputs; i < n && !wrong; i++) {
        int64_t elements = wide[i].data ? vnpu_elements(&wide[i]) : 0;
        for (int64_t j = 0; j < elements; j++)
            ((uint16_t *)tensor[node->value[i]].data)[j] = vnpu_float_to_half(((const float *)wide[i].data)[j]);
    }
    return wrong;
}

static const char *run_node(const plan_node *node, const vnpu_tensor *tensor)
{
    size_t n = (size_t)node->n_inputs + (size_t)node->n_outputs;
    const vnpu_tensor **seen = calloc(n + 1, sizeof *seen);
    vnpu_tensor *wide = calloc(n + 1, sizeof *wide);
    const char *wrong = seen && wide ? call_op(node, seen, wide, tensor) : "no memory to call an operator";
    for (size_t i = 0; wide && i < n; i++)
        free(wide[i].data);
    free(seen);
    free(wide);
    return wrong;
}

/* Inputs must have the shape that was compiled. */
static ort_status *bind_input(const vnpu_plan *plan, ort_context *context, int i, vnpu_tensor *tensor)
{
    const vnpu_ort *ort = plan->ort;
    const ort_value *value = NULL;
    ort_tensor_info *shape = NULL;
    int64_t size[VNPU_RANK] = {0};
    size_t rank = 0;
    VNPU_TRY(ort->context_input(context, (size_t)i, &value));
    if (!value)
        return vnpu_fail(ort, "input %s is missing", plan->value[plan->bound[i]].name);
    VNPU_TRY(ort->value_shape(value, &shape));
    ort_status *status = ort->n_dimensions(shape, &rank);
    if (!status && rank > 0 && rank == (size_t)tensor->rank)
        status = ort->dimensions(shape, size, rank);
    ort->release_shape(shape);
    VNPU_TRY(status);
    if (rank != (size_t)tensor->rank || memcmp(size, tensor->size, rank * sizeof size[0]) != 0)
        return vnpu_fail(ort, "input %s has another shape than was compiled", plan->value[plan->bound[i]].name);
    return ort->tensor_data((ort_value *)(uintptr_t)value, &tensor->data);
}

static ort_status *bind_all(const vnpu_plan *plan, ort_context *context, vnpu_tensor *tensor)
{
    for (int i = 0; i < plan->n_values; i++)
        tensor[i] = plan->value[i].tensor;
    for (int i = 0; i < plan->n_inputs; i++)
        if (plan->bound[i] != ABSENT)
            VNPU_TRY(bind_input(plan, context, i, &tensor[plan->bound[i]]));
    for (int i = 0; i < plan->n_outputs; i++) {
        vnpu_tensor *t = &tensor[plan->bound[plan->n_inputs + i]];
        ort_value *value = NULL;
        VNPU_TRY(plan->ort->context_output(context, (size_t)i, t->size, (size_t)t->rank, &value));
        VNPU_TRY(plan->ort->tensor_data(value, &t->data));
    }
    return NULL;
}

static ort_status *run_nodes(const vnpu_plan *plan, vnpu_tensor *tensor)
{
    for (int i = 0; i < plan->n_nodes; i++) {
        const plan_node *node = &plan->node[i];
        for (int j = node->n_inputs; j < node->n_inputs + node->n_outputs; j++) {
            vnpu_tensor *t = node->value[j] == ABSENT ? NULL : &tensor[node->value[j]];
            if (t && !t->data && !(t->data = malloc(vnpu_bytes(t) + 1)))
                return vnpu_fail(plan->ort, "no memory for a result of %s", node->op->name);
        }
        const char *wrong = run_node(node, tensor);
        if (wrong)
            return vnpu_fail(plan->ort, "%s: %s", node->op->name, wrong);
        for (int j = 0; j < node->n_inputs; j++) {
            const plan_value *v = node->value[j] == ABSENT ? NULL : &plan->value[node->value[j]];
            if (v && !v->bound && v->last_use == i) {
                free(tensor[node->value[j]].data);
                tensor[node->value[j]].data = NULL;
            }
        }
    }
    return NULL;
}

static void spoil_outputs(const vnpu_plan *plan, const vnpu_tensor *tensor)
{
    for (int i = 0; i < plan->n_outputs; i++) {
        const vnpu_tensor *t = &tensor[plan->bound[plan->n_inputs + i]];
        if (t->type == VNPU_F32 || t->type == VNPU_F16)
            memset(t->data, 0xff, vnpu_bytes(t)); /* a quiet NaN in both */
    }
}

/* Runs are counted from when the setting is there. */
static bool device_is_lost(void)
{
    static atomic_long n_runs;
    double lost = 0;
    if (vnpu_number("fail_run", &lost))
        return (double)(atomic_fetch_add(&n_runs, 1) + 1) == lost;
    atomic_store(&n_runs, 0);
    return false;
}

ort_status *vnpu_plan_run(const vnpu_plan *plan, ort_context *context)
{
    if (device_is_lost())
        return vnpu_fail(plan->ort, "the device was lost");
    vnpu_tensor *tensor = calloc((size_t)plan->n_values + 1, sizeof *tensor);
    if (!tensor)
        return vnpu_fail(plan->ort, "no memory to run a graph");
    ort_status *status = bind_all(plan, context, tensor);
    if (!status)
        status = run_nodes(plan, tensor);
    if (!status && vnpu_asked("nan"))
        spoil_outputs(plan, tensor);
    for (int i = 0; i < plan->n_values; i++)
        if (!plan->value[i].bound)
            free(tensor[i].data);
    free(tensor);
    return status;
}
