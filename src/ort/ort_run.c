/* Running compiled graphs on memory that is bound once. */
#include "base/alloc.h"
#include "base/error.h"
#include "ort/ort_int.h"

struct hs_ort_binding {
    hs_ort_session *session;
    rt_binding *binding;
    rt_value **value; /* [inputs, outputs] */
};

/* Binding an input copies it, where the device has memory of its own. */
static hstu_status bind_value(hs_ort_binding *b, int i, hstu_error *err)
{
    const hs_ort_session *session = b->session;
    const hs_ort_port *port = &session->port[i];
    const hs_rt *rt = &session->ort->runtime->lib.rt;
    rt_status *status = i < session->n_inputs ? rt->bind_input(b->binding, port->name, b->value[i])
                                              : rt->bind_output(b->binding, port->name, b->value[i]);
    return hs_ort_check(rt, status, HSTU_EDEVICE, "ONNX Runtime cannot bind memory", err);
}

static hstu_status bind_port(hs_ort_binding *b, int i, void *data, hstu_error *err)
{
    const hs_ort_session *session = b->session;
    const hs_ort_port *port = &session->port[i];
    HS_TRY(hs_ort_tensor(session->ort->runtime, port->type, &port->dims, data, &b->value[i], err));
    return bind_value(b, i, err);
}

hstu_status hs_ort_changed(hs_ort_binding *binding, int i, hstu_error *err)
{
    return bind_value(binding, i, err);
}

static hstu_status bind_all(hs_ort_binding *b, void *const *input, void *const *output, hstu_error *err)
{
    const hs_ort_session *session = b->session;
    const hs_rt *rt = &session->ort->runtime->lib.rt;
    HS_TRY(hs_ort_check(
        rt, rt->create_binding(session->session, &b->binding), HSTU_EDEVICE, "ONNX Runtime cannot bind memory", err));
    for (int i = 0; i < session->n_inputs + session->n_outputs; i++)
        HS_TRY(bind_port(b, i, i < session->n_inputs ? input[i] : output[i - session->n_inputs], err));
    return HSTU_OK;
}

hstu_status hs_ort_bind(
    hs_ort_session *session, void *const *input, void *const *output, hs_ort_binding **out, hstu_error *err)
{
    const size_t n = (size_t)session->n_inputs + (size_t)session->n_outputs;
    hs_ort_binding *b = hs_calloc(1, sizeof *b);
    rt_value **value = hs_calloc(n, sizeof *value);
    if (!b || !value) {
        hs_free(b);
        hs_free(value);
        return hs_fail_nomem(err, n * sizeof *value, "a binding of inputs and outputs");
    }
    *b = (hs_ort_binding){.session = session, .value = value};
    const hstu_status status = bind_all(b, input, output, err);
    if (status != HSTU_OK) {
        hs_ort_binding_close(b);
        return status;
    }
    *out = b;
    return HSTU_OK;
}

void hs_ort_binding_close(hs_ort_binding *binding)
{
    if (!binding)
        return;
    const hs_ort_session *session = binding->session;
    const hs_rt *rt = &session->ort->runtime->lib.rt;
    if (binding->binding)
        rt->release_binding(binding->binding);
    for (int i = 0; i < session->n_inputs + session->n_outputs; i++) {
        if (binding->value[i])
            rt->release_value(binding->value[i]);
    }
    hs_free(binding->value);
    hs_free(binding);
}

hstu_status hs_ort_run(hs_ort_binding *binding, hstu_error *err)
{
    const hs_ort *ort = binding->session->ort;
    const hs_rt *rt = &ort->runtime->lib.rt;
    rt_status *status = rt->run_binding(binding->session->session, NULL, binding->binding);
    return status ? hs_ort_check(rt, status, HSTU_EDEVICE, ort->place.provider, err) : HSTU_OK;
}
