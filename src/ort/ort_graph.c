/* Our graphs as models of the runtime's, node by node. */
#include "base/alloc.h"
#include "base/error.h"
#include "ort/ort_int.h"

#include <string.h>

/* The runtime takes no tensor in place that is smaller. */
enum { IN_PLACE_BYTES = 128 };

int hs_ort_element(hs_dtype type)
{
    switch (type) {
    case HS_F32:
        return RT_F32;
    case HS_F16:
        return RT_F16;
    case HS_I32:
        return RT_I32;
    case HS_I64:
        return RT_I64;
    case HS_U8:
        return RT_U8;
    case HS_BOOL:
        return RT_BOOL;
    default:
        return 0;
    }
}

size_t hs_ort_bytes(hs_dtype type, const hs_dims *dims)
{
    return hs_dims_elements(dims) * hs_dtype_bytes(type);
}

/* A failed call of the editor is our error or a want of memory: nothing that the user did. */
static hstu_status check(const hs_rt *rt, rt_status *status, const char *what, hstu_error *err)
{
    return hs_ort_check(rt, status, HSTU_EDEVICE, what, err);
}

hstu_status hs_ort_tensor(
    const hs_ort_runtime *runtime, hs_dtype type, const hs_dims *dims, void *data, rt_value **out, hstu_error *err)
{
    const hs_rt *rt = &runtime->lib.rt;
    return check(rt,
        rt->create_value(
            runtime->memory, data, hs_ort_bytes(type, dims), dims->size, (size_t)dims->rank, hs_ort_element(type), out),
        "ONNX Runtime cannot use a tensor", err);
}

static hstu_status make_info(const hs_rt *rt, const hs_graph_value *v, rt_value_info **out, hstu_error *err)
{
    static const char what[] = "ONNX Runtime cannot describe a value";
    rt_shape *shape = NULL;
    rt_type *type = NULL;
    hstu_status status = check(rt, rt->create_shape(&shape), what, err);
    if (status == HSTU_OK)
        status = check(rt, rt->set_shape_type(shape, hs_ort_element(v->type)), what, err);
    if (status == HSTU_OK)
        status = check(rt, rt->set_shape_size(shape, v->dims.size, (size_t)v->dims.rank), what, err);
    if (status == HSTU_OK)
        status = check(rt, rt->edit.create_type(shape, &type), what, err);
    if (status == HSTU_OK)
        status = check(rt, rt->edit.create_value_info(v->name, type, out), what, err);
    if (type)
        rt->release_type(type);
    if (shape)
        rt->release_shape(shape);
    return status;
}

typedef rt_status *set_ports(rt_graph *graph, rt_value_info **info, size_t n);

static hstu_status add_ports(
    const hs_rt *rt, const hs_graph *g, const hs_value *value, int n, set_ports *set, rt_graph *to, hstu_error *err)
{
    rt_value_info **info = hs_calloc((size_t)n, sizeof *info);
    if (!info)
        return hs_fail_nomem(err, (size_t)n * sizeof *info, "a graph's inputs and outputs");
    hstu_status status = HSTU_OK;
    for (int i = 0; i < n && status == HSTU_OK; i++)
        status = make_info(rt, &g->value[value[i]], &info[i], err);
    if (status == HSTU_OK)
        status = check(rt, set(to, info, (size_t)n), "ONNX Runtime refuses a graph's inputs or outputs", err);
    for (int i = 0; i < n && status != HSTU_OK; i++) {
        if (info[i])
            rt->release_value_info(info[i]);
    }
    hs_free(info);
    return status;
}

static hstu_status add_constants(const hs_ort_runtime *runtime, const hs_graph *g, rt_graph *to, hstu_error *err)
{
    const hs_rt *rt = &runtime->lib.rt;
    for (int i = 0; i < g->n_values; i++) {
        const hs_graph_value *v = &g->value[i];
        if (v->kind != HS_VALUE_CONSTANT)
            continue;
        /* The runtime copies what is not in place while it creates the session. */
        const bool in_place = !v->owned && hs_ort_bytes(v->type, &v->dims) >= IN_PLACE_BYTES;
        rt_value *value = NULL;
        void *data;
        memcpy(&data, &v->data, sizeof data); /* the runtime's interface has no const; it does not write to constants */
        HS_TRY(hs_ort_tensor(runtime, v->type, &v->dims, data, &value, err));
        const hstu_status status =
            check(rt, rt->edit.add_initialiser(to, v->name, value, in_place), "ONNX Runtime refuses a constant", err);
        if (status != HSTU_OK) {
            rt->release_value(value);
            return status;
        }
    }
    return HSTU_OK;
}

static hstu_status make_attributes(
    const hs_rt *rt, const hs_graph_node *node, rt_attribute **attribute, hstu_error *err)
{
    for (int i = 0; i < node->n_attributes; i++) {
        const hs_graph_attribute *a = &node->attribute[i];
        HS_TRY(check(rt,
            rt->create_attribute(
                a->name, a->value, a->n, a->is_list ? RT_ATTRIBUTE_INTS : RT_ATTRIBUTE_INT, &attribute[i]),
            "ONNX Runtime refuses an attribute", err));
    }
    return HSTU_OK;
}

static hstu_status make_node(
    const hs_rt *rt, const hs_graph *g, const hs_graph_node *node, const char **input, rt_node **out, hstu_error *err)
{
    const char *output[2];
    rt_attribute *attribute[HS_GRAPH_ATTRIBUTES] = {NULL};
    for (int i = 0; i < node->n_inputs; i++)
        input[i] = g->value[node->input[i]].name;
    for (int i = 0; i < node->n_outputs; i++)
        output[i] = g->value[node->output[i]].name;
    hstu_status status = make_attributes(rt, node, attribute, err);
    if (status == HSTU_OK)
        status = check(rt,
            rt->edit.create_node(node->op, "", output[0], input, (size_t)node->n_inputs, output,
                (size_t)node->n_outputs, attribute, (size_t)node->n_attributes, out),
            "ONNX Runtime refuses a node", err);
    for (int i = 0; i < node->n_attributes && status != HSTU_OK; i++) {
        if (attribute[i])
            rt->release_attribute(attribute[i]);
    }
    return status;
}

static hstu_status add_nodes(const hs_rt *rt, const hs_graph *g, rt_graph *to, hstu_error *err)
{
    int most = 1;
    for (int i = 0; i < g->n_nodes; i++)
        most = g->node[i].n_inputs > most ? g->node[i].n_inputs : most;
    const char **input = hs_alloc((size_t)most, sizeof *input);
    if (!input)
        return hs_fail_nomem(err, (size_t)most * sizeof *input, "a node's inputs");
    hstu_status status = HSTU_OK;
    for (int i = 0; i < g->n_nodes && status == HSTU_OK; i++) {
        rt_node *node = NULL;
        status = make_node(rt, g, &g->node[i], input, &node, err);
        if (status != HSTU_OK)
            break;
        status = check(rt, rt->edit.add_node(to, node), "ONNX Runtime refuses a node", err);
        if (status != HSTU_OK)
            rt->release_node(node);
    }
    hs_free(input);
    return status;
}

static hstu_status fill(const hs_ort_runtime *runtime, const hs_graph *g, rt_graph *to, hstu_error *err)
{
    const hs_rt *rt = &runtime->lib.rt;
    HS_TRY(add_ports(rt, g, g->input, g->n_inputs, rt->edit.set_inputs, to, err));
    HS_TRY(add_ports(rt, g, g->output, g->n_outputs, rt->edit.set_outputs, to, err));
    HS_TRY(add_constants(runtime, g, to, err));
    return add_nodes(rt, g, to, err);
}

hstu_status hs_ort_build(const hs_ort_runtime *runtime, const hs_graph *g, rt_model **out, hstu_error *err)
{
    const hs_rt *rt = &runtime->lib.rt;
    /* Providers' own operators are in the second domain: without it some versions refuse the model. */
    const char *const domain[] = {"", "com.microsoft"};
    const int version[] = {HS_GRAPH_OPSET, 1};
    rt_graph *graph = NULL;
    rt_model *model = NULL;
    HS_TRY(check(rt, rt->edit.create_graph(&graph), "ONNX Runtime cannot create a graph", err));
    hstu_status status = fill(runtime, g, graph, err);
    if (status == HSTU_OK)
        status =
            check(rt, rt->edit.create_model(domain, version, 2, &model), "ONNX Runtime cannot create a model", err);
    if (status == HSTU_OK)
        status = check(rt, rt->edit.add_graph(model, graph), "ONNX Runtime refuses a graph", err);
    if (status != HSTU_OK) {
        if (model)
            rt->release_model(model);
        rt->release_graph(graph);
        return status;
    }
    *out = model;
    return HSTU_OK;
}
