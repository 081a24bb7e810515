/* Running a graph on a device through ONNX Runtime, and comparing with its own CPU provider. */
#ifndef TESTS_ORT_RUN_GRAPH_H
#define TESTS_ORT_RUN_GRAPH_H

#include "base/half.h"
#include "graph/graph.h"
#include "ort/ort.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PORTS_MOST = 64 };

static inline hs_ort_choice choice_of(const char *device, bool as_onnx)
{
    return (hs_ort_choice){.device = device, .provider_library = TEST_PROVIDER, .threads = 1, .as_onnx = as_onnx};
}

typedef struct ports {
    void *input[PORTS_MOST], *output[PORTS_MOST];
    int n_inputs, n_outputs;
} ports;

static inline size_t value_bytes(const hs_graph_value *v)
{
    return hs_dims_elements(&v->dims) * hs_dtype_bytes(v->type);
}

static inline void *port_memory(const hs_graph_value *v)
{
    void *p = aligned_alloc(64, (value_bytes(v) + 63) / 64 * 64);
    assert_non_null(p);
    memset(p, 0x55, (value_bytes(v) + 63) / 64 * 64);
    return p;
}

static inline void ports_new(ports *p, const hs_graph *g)
{
    hstu_error err;
    if (hs_graph_check(g, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_true(g->n_inputs <= PORTS_MOST && g->n_outputs <= PORTS_MOST);
    *p = (ports){.n_inputs = g->n_inputs, .n_outputs = g->n_outputs};
    for (int i = 0; i < g->n_inputs; i++)
        p->input[i] = port_memory(hs_graph_at(g, g->input[i]));
    for (int i = 0; i < g->n_outputs; i++)
        p->output[i] = port_memory(hs_graph_at(g, g->output[i]));
}

static inline void ports_free(ports *p)
{
    for (int i = 0; i < p->n_inputs; i++)
        free(p->input[i]);
    for (int i = 0; i < p->n_outputs; i++)
        free(p->output[i]);
}

/* A fixed sequence of numbers from -1 to 1. */
static inline float noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static inline int pick(uint32_t *seed, int n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (int)((*seed >> 8) % (uint32_t)n);
}

/* Integers lie in 0 .. 5. */
static inline void fill_inputs(const ports *p, const hs_graph *g, uint32_t seed)
{
    for (int i = 0; i < p->n_inputs; i++) {
        const hs_graph_value *v = hs_graph_at(g, g->input[i]);
        for (size_t j = 0, n = hs_dims_elements(&v->dims); j < n; j++) {
            if (v->type == HS_F32)
                ((float *)p->input[i])[j] = noise(&seed);
            else if (v->type == HS_F16)
                ((uint16_t *)p->input[i])[j] = hs_f32_to_f16(noise(&seed));
            else if (v->type == HS_I32)
                ((int32_t *)p->input[i])[j] = pick(&seed, 6);
            else
                ((int64_t *)p->input[i])[j] = pick(&seed, 6);
        }
    }
}

/* Everything from opening to closing; what fails first is returned. */
static inline hstu_status run_on(const hs_ort_choice *choice, const hs_graph *g, const ports *p, hstu_error *err)
{
    hs_ort *ort = NULL;
    hs_ort_session *session = NULL;
    hs_ort_binding *binding = NULL;
    hstu_status status = hs_ort_open(&ort, choice, err);
    if (status == HSTU_OK)
        status = hs_ort_compile(ort, g, &session, err);
    if (status == HSTU_OK)
        status = hs_ort_bind(session, p->input, p->output, &binding, err);
    if (status == HSTU_OK)
        status = hs_ort_run(binding, err);
    hs_ort_binding_close(binding);
    hs_ort_session_close(session);
    hs_ort_close(ort);
    return status;
}

static inline void run_fine(const char *device, bool as_onnx, const hs_graph *g, const ports *p)
{
    hs_ort_choice choice = choice_of(device, as_onnx);
    hstu_error err;
    if (run_on(&choice, g, p, &err) != HSTU_OK)
        fail_msg("%s: %s", device, err.msg);
}

static inline double number_at(const void *data, hs_dtype type, size_t i)
{
    return type == HS_F32 ? (double)((const float *)data)[i] : (double)hs_f16_to_f32(((const uint16_t *)data)[i]);
}

/* Floating-point outputs differ by at most `bound` of 1 + |value|, others not at all. */
static inline void compare_outputs(const hs_graph *g, const ports *got, const ports *want, double bound)
{
    for (int i = 0; i < g->n_outputs; i++) {
        const hs_graph_value *v = hs_graph_at(g, g->output[i]);
        if (v->type != HS_F32 && v->type != HS_F16) {
            if (memcmp(got->output[i], want->output[i], value_bytes(v)) != 0)
                fail_msg("%s differs", v->name);
            continue;
        }
        for (size_t j = 0, n = hs_dims_elements(&v->dims); j < n; j++) {
            double x = number_at(got->output[i], v->type, j), y = number_at(want->output[i], v->type, j);
            if (!(fabs(x - y) <= bound * (1 + fabs(y))))
                fail_msg("%s[%zu] is %.9g, expected %.9g", v->name, j, x, y);
        }
    }
}

static inline void compare_with_cpu(const hs_graph *g, uint32_t seed, double bound)
{
    ports cpu, npu;
    ports_new(&cpu, g);
    fill_inputs(&cpu, g, seed);
    run_fine("ort-cpu", false, g, &cpu);
    for (int as_onnx = 0; as_onnx < 2; as_onnx++) {
        ports_new(&npu, g);
        fill_inputs(&npu, g, seed);
        run_fine("npu", as_onnx, g, &npu);
        compare_outputs(g, &npu, &cpu, bound);
        ports_free(&npu);
    }
    ports_free(&cpu);
}

#endif
