/* Graphs compiled for the chosen device, whole or not at all. */
#include "base/alloc.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "graph/onnxfile.h"
#include "ort/ort_int.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* ---- how sessions are made ---- */

static hstu_status configure(const hs_ort *ort, rt_options *options, bool whole, hstu_error *err)
{
    static const char what[] = "ONNX Runtime refuses an option of its sessions";
    const hs_rt *rt = &ort->runtime->lib.rt;
    const bool own = ort->place.route == HS_ORT_CPU;
    /* Prepacked weights are copies of weights. Threads that spin between runs take processors from the rest of a pass. */
    const char *const config[][2] = {
        {"session.disable_prepacking", "1"},
        {"session.intra_op.allow_spinning", "0"},
        {"session.record_ep_graph_assignment_info", "1"},
        {"session.disable_cpu_ep_fallback", whole && !own ? "1" : "0"},
    };
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++)
        HS_TRY(hs_ort_check(rt, rt->set_config(options, config[i][0], config[i][1]), HSTU_EDEVICE, what, err));
    HS_TRY(hs_ort_check(rt, rt->set_threads(options, ort->threads), HSTU_EDEVICE, what, err));
    HS_TRY(hs_ort_check(
        rt, rt->set_optimisation(options, own ? RT_OPTIMISE_ALL : RT_OPTIMISE_BASIC), HSTU_EDEVICE, what, err));
    return hs_ort_append(ort, options, err);
}

static hstu_status create_from_file(
    const hs_ort *ort, const hs_graph *g, const rt_options *options, rt_session **out, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    hs_dynbuf file;
    hs_dynbuf_init(&file, INT32_MAX);
    hstu_status status = hs_onnx_encode(&file, g, NULL, 0, err);
    if (status == HSTU_OK)
        status = hs_ort_check(rt, rt->create_session_from_bytes(ort->runtime->env, file.data, file.len, options, out),
            HSTU_EDEVICE, "ONNX Runtime cannot compile a graph", err);
    hs_dynbuf_free(&file);
    return status;
}

/* With `whole` nothing may be left to the runtime's own CPU provider. */
static hstu_status create(const hs_ort *ort, const hs_graph *g, bool whole, rt_session **out, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    rt_options *options = NULL;
    rt_model *model = NULL;
    HS_TRY(hs_ort_check(rt, rt->create_options(&options), HSTU_EDEVICE, "cannot prepare a session", err));
    hstu_status status = configure(ort, options, whole, err);
    if (status == HSTU_OK && ort->as_onnx) {
        status = create_from_file(ort, g, options, out, err);
    } else if (status == HSTU_OK) {
        status = hs_ort_build(ort->runtime, g, &model, err);
        if (status == HSTU_OK)
            status = hs_ort_check(rt, rt->edit.create_session(ort->runtime->env, model, options, out), HSTU_EDEVICE,
                "ONNX Runtime cannot compile a graph", err);
    }
    if (model)
        rt->release_model(model);
    rt->release_options(options);
    return status;
}

/* ---- who computes it ---- */

enum { OPS_MOST = 64, NAMED_MOST = 8 };

/* Distinct operators. The text is a session's or a graph's. */
typedef struct op_set {
    const char *op[OPS_MOST];
    int n;
} op_set;

static bool has_op(const op_set *set, const char *op)
{
    for (int i = 0; i < set->n; i++) {
        if (strcmp(set->op[i], op) == 0)
            return true;
    }
    return false;
}

static void add_op(op_set *set, const char *op)
{
    if (set->n < OPS_MOST && !has_op(set, op))
        set->op[set->n++] = op;
}

/* Nodes by who was given them. */
typedef struct shares {
    int64_t n_ours, n_others;
    op_set ours, others;
} shares;

static rt_status *count_part(const hs_ort *ort, const rt_part *part, shares *s)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    const char *provider = NULL, *op = NULL;
    const rt_part_node *const *node = NULL;
    size_t n = 0;
    rt_status *status = rt->part_provider(part, &provider);
    if (!status)
        status = rt->part_nodes(part, &node, &n);
    const bool is_ours = !status && strcmp(provider, ort->place.provider) == 0;
    for (size_t i = 0; i < n && !status; i++) {
        status = rt->part_node_op(node[i], &op);
        if (!status) {
            add_op(is_ours ? &s->ours : &s->others, op);
            *(is_ours ? &s->n_ours : &s->n_others) += 1;
        }
    }
    return status;
}

static hstu_status count(const hs_ort *ort, const rt_session *session, shares *out, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    const rt_part *const *part = NULL;
    size_t n = 0;
    *out = (shares){.n_ours = 0};
    rt_status *status = rt->session_parts(session, &part, &n);
    for (size_t i = 0; i < n && !status; i++)
        status = count_part(ort, part[i], out);
    return hs_ort_check(rt, status, HSTU_EUNSUP, "ONNX Runtime does not tell who computes a graph", err);
}

/* Nodes that nobody was given when the record was made, as those of a type that the CPU lacks, are in no part: what the provider
 * has no node of is declined, too. */
static hstu_status fail_declined(const hs_ort *ort, const hs_graph *g, shares *s, hstu_error *err)
{
    for (int i = 0; s->n_others == 0 && i < g->n_nodes; i++) {
        if (!has_op(&s->ours, g->node[i].op))
            add_op(&s->others, g->node[i].op);
    }
    char ops[256] = "a part of it";
    size_t n = 0;
    for (int i = 0; i < s->others.n && i < NAMED_MOST; i++)
        n += (size_t)snprintf(ops + n, sizeof ops - n, "%s%.24s", i ? ", " : "", s->others.op[i]);
    return hs_fail(err, HSTU_EUNSUP, 0, "%s does not compute the whole graph, it declines: %s%s", ort->place.provider,
        ops, s->others.n > NAMED_MOST ? ", ..." : "");
}

/* After a refusal: the graph once more with the runtime's own provider allowed, only to see what that one gets. */
static hstu_status explain(const hs_ort *ort, const hs_graph *g, hstu_status status, hstu_error *err)
{
    rt_session *session = NULL;
    shares s;
    if (status != HSTU_EDEVICE || ort->place.route == HS_ORT_CPU || create(ort, g, false, &session, NULL) != HSTU_OK)
        return status;
    if (count(ort, session, &s, NULL) == HSTU_OK)
        status = fail_declined(ort, g, &s, err);
    ort->runtime->lib.rt.release_session(session);
    return status;
}

/* Whether all of the graph went to the chosen provider. Where only the runtime's own is there, all of it did. */
static hstu_status count_nodes(
    const hs_ort *ort, const hs_graph *g, const rt_session *session, int64_t *n_nodes, hstu_error *err)
{
    shares s;
    HS_TRY(count(ort, session, &s, err));
    if (s.n_others > 0 || (s.n_ours == 0 && ort->place.route != HS_ORT_CPU))
        return fail_declined(ort, g, &s, err);
    *n_nodes = s.n_ours > 0 ? s.n_ours : g->n_nodes;
    return HSTU_OK;
}

/* ---- sessions ---- */

static void fill_ports(hs_ort_session *session, const hs_graph *g)
{
    for (int i = 0; i < g->n_inputs + g->n_outputs; i++) {
        const hs_graph_value *v = &g->value[i < g->n_inputs ? g->input[i] : g->output[i - g->n_inputs]];
        hs_ort_port *port = &session->port[i];
        memcpy(port->name, v->name, sizeof port->name);
        port->type = v->type;
        port->dims = v->dims;
    }
}

static hstu_status check_types(const hs_graph *g, hstu_error *err)
{
    HS_TRY(hs_graph_check(g, err));
    for (int i = 0; i < g->n_values; i++) {
        if (!hs_ort_element(g->value[i].type))
            return hs_fail(err, HSTU_EUNSUP, 0, "a graph's value '%s' is %s, which ONNX Runtime is not given",
                g->value[i].name, hs_dtype_name(g->value[i].type));
    }
    return HSTU_OK;
}

hstu_status hs_ort_compile(hs_ort *ort, const hs_graph *g, hs_ort_session **out, hstu_error *err)
{
    HS_TRY(check_types(g, err));
    const size_t n_ports = (size_t)g->n_inputs + (size_t)g->n_outputs;
    hs_ort_session *session = hs_calloc(1, sizeof *session);
    hs_ort_port *port = hs_calloc(n_ports, sizeof *port);
    if (!session || !port) {
        hs_free(session);
        hs_free(port);
        return hs_fail_nomem(err, n_ports * sizeof *port, "a compiled graph");
    }
    *session = (hs_ort_session){.ort = ort, .n_inputs = g->n_inputs, .n_outputs = g->n_outputs, .port = port};
    fill_ports(session, g);
    hstu_status status = create(ort, g, true, &session->session, err);
    if (status == HSTU_OK)
        status = count_nodes(ort, g, session->session, &session->n_nodes, err);
    else
        status = explain(ort, g, status, err);
    if (status != HSTU_OK) {
        hs_ort_session_close(session);
        return status;
    }
    *out = session;
    return HSTU_OK;
}

void hs_ort_session_close(hs_ort_session *session)
{
    if (!session)
        return;
    if (session->session)
        session->ort->runtime->lib.rt.release_session(session->session);
    hs_free(session->port);
    hs_free(session);
}

int64_t hs_ort_session_nodes(const hs_ort_session *session)
{
    return session->n_nodes;
}
