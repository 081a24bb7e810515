/* What the tests of src/ort share: opening with a choice, and a skip that says why. */
#ifndef TESTS_ORT_ORT_SUPPORT_H
#define TESTS_ORT_ORT_SUPPORT_H

#include "base/alloc.h"
#include "ort/ort.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
/* The vendors' libraries are not instrumented, so what orders their threads is not seen. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "race:libtbb\nrace:libopenvino\nrace:libonnxruntime_providers\nrace:libQnn\nrace:libHtpPrepare\nrace:ld-"
           "linux\n";
}
#endif

/* OpenVINO's scheduler loads libraries in a way that sanitizers do not survive, unless this tells it of them. */
__attribute__((constructor)) static void tell_openvino(void)
{
    if (TEST_SANITIZED)
        setenv("TBB_ENABLE_SANITIZERS", "1", 1);
}

static inline hs_ort_choice choice_of(const char *device)
{
    return (hs_ort_choice){.device = device, .threads = 1};
}

static inline void expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected '%s' in: %s", part, text);
}

/* The call must fail with the status and a sentence that has the part. */
static inline void expect_open(const hs_ort_choice *choice, hstu_status status, const char *part)
{
    hs_ort *ort = NULL;
    hstu_error err = {.msg = ""};
    assert_int_equal(hs_ort_open(&ort, choice, &err), status);
    assert_null(ort);
    assert_int_equal(err.code, status);
    expect_text(err.msg, part);
    assert_true(strlen(err.msg) < sizeof err.msg - 1);
}

/* A library that a variable names; skips the test where it names none. */
static inline const char *library_from(const char *variable, const char *what)
{
    const char *path = getenv(variable);
    if (!path || !*path) {
        print_message("SKIPPED: %s names no library, so nothing runs on %s\n", variable, what);
        skip();
    }
    return path;
}

/* A graph under test with memory for its inputs and outputs. */
enum { RIG_PORTS = 8 };
typedef struct rig {
    hs_ort *ort;
    hs_graph *g;
    hs_ort_session *session;
    void *in[RIG_PORTS], *out[RIG_PORTS];
} rig;

/* Opens the choice; without a library the test is skipped. */
static inline hs_ort *open_or_skip(const hs_ort_choice *choice)
{
    hs_ort *ort = NULL;
    hstu_error err = {.msg = ""};
    const hstu_status status = hs_ort_open(&ort, choice, &err);
    if (status == HSTU_ENOENT) {
        print_message("SKIPPED: %s\n", err.msg);
        skip();
    }
    if (status != HSTU_OK)
        fail_msg("%s", err.msg);
    return ort;
}

static inline rig rig_on(hs_ort *ort)
{
    rig r = {.ort = ort, .g = hs_graph_new()};
    assert_non_null(r.g);
    return r;
}

static inline hs_value rig_input(rig *r, hs_dtype type, hs_dims dims)
{
    char name[16];
    const int i = r->g->n_inputs;
    snprintf(name, sizeof name, "in%d", i);
    const hs_value v = hs_graph_input(r->g, name, type, dims);
    r->in[i] = hs_alloc_aligned(hs_dims_elements(&dims), hs_dtype_bytes(type));
    assert_non_null(r->in[i]);
    return v;
}

/* Numbers of both signs that are exact in half precision. */
static inline hs_value rig_floats(rig *r, hs_dims dims)
{
    const int i = r->g->n_inputs;
    const hs_value v = rig_input(r, HS_F32, dims);
    for (size_t k = 0; k < hs_dims_elements(&dims); k++)
        ((float *)r->in[i])[k] = (float)((int)((k * 37 + (size_t)i * 11) % 65) - 32) / 16;
    return v;
}

static inline void rig_output(rig *r, hs_value v)
{
    char name[16];
    const int i = r->g->n_outputs;
    const hs_graph_value *value = hs_graph_at(r->g, v);
    const size_t n = hs_dims_elements(&value->dims), bytes = hs_dtype_bytes(value->type);
    snprintf(name, sizeof name, "out%d", i);
    hs_graph_output(r->g, name, v);
    r->out[i] = hs_alloc_aligned(n, bytes);
    assert_non_null(r->out[i]);
    memset(r->out[i], 0x5a, n * bytes);
}

static inline void rig_compile(rig *r)
{
    hstu_error err = {.msg = ""};
    if (hs_ort_compile(r->ort, r->g, &r->session, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static inline void rig_run(rig *r)
{
    hs_ort_binding *binding = NULL;
    hstu_error err = {.msg = ""};
    if (!r->session)
        rig_compile(r);
    if (hs_ort_bind(r->session, r->in, r->out, &binding, &err) != HSTU_OK || hs_ort_run(binding, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hs_ort_binding_close(binding);
}

static inline void rig_free(rig *r)
{
    for (int i = 0; i < RIG_PORTS; i++) {
        hs_free(r->in[i]);
        hs_free(r->out[i]);
    }
    hs_ort_session_close(r->session);
    hs_graph_free(r->g);
}

static inline void expect_near(double found, double expected, double allowed, const char *what, size_t at)
{
    if (!(fabs(found - expected) <= allowed * (1 + fabs(expected))))
        fail_msg("%s [%zu]: expected %.9g, found %.9g", what, at, expected, found);
}

#endif
