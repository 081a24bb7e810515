/* ONNX Runtime, loaded when it is wanted: its devices, and graphs compiled for one of them. Nothing is linked: the functions
 * stand in tables whose slots never move (docs/npu.md). Accepted are versions 1.24 and later; 1.28.0 is the one that
 * scripts/get_onnxruntime fetches and the tests run with. */
#ifndef HS_ORT_ORT_H
#define HS_ORT_ORT_H

#include "graph/graph.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_ort hs_ort;                 /* the library, its environment, one chosen device */
typedef struct hs_ort_session hs_ort_session; /* a compiled graph; several threads may run it at a time */
typedef struct hs_ort_binding hs_ort_binding; /* a session's inputs and outputs in memory of one caller */

typedef struct hs_ort_choice {
    /* "npu": the first real NPU; "npu:ascend", "npu:intel", "npu:qualcomm", "npu:amd": a vendor's; "npu:<provider>": by the name
     * that a provider goes by in ONNX Runtime ("npu:QNNExecutionProvider"); "ort-cpu": ONNX Runtime's own CPU provider, for
     * tests. */
    const char *device;
    /* The library's path. NULL: the environment variable HSTU_ORT_LIBRARY, then the folder that scripts/get_onnxruntime fills
     * (HSTU_ORT_HOME, else ~/.local/share/hstu/onnxruntime), then the system's libonnxruntime.so.1. */
    const char *library;
    /* A plug-in provider's library. NULL: HSTU_ORT_PROVIDER_LIBRARY, then the providers in that folder. */
    const char *provider_library;
    const char *const *option; /* [n_options] "key=value" for the provider; an unknown key is HSTU_EINVAL */
    size_t n_options;
    int threads;  /* of CPU-side work; 1 or more */
    bool as_onnx; /* hand graphs over as ONNX files in memory instead of node by node */
} hs_ort_choice;

/* What was chosen. Text lives as long as the hs_ort. */
typedef struct hs_ort_info {
    const char *ort_version;      /* "1.28.0" */
    const char *library;          /* the path that was loaded */
    const char *provider;         /* "OpenVINOExecutionProvider" */
    const char *provider_version; /* or "" where the provider tells none */
    const char *provider_library; /* or NULL: built in, or beside the library */
    const char *vendor;           /* "Intel", "Qualcomm", ... as the device or its provider tells */
    const char *device;           /* what the provider calls it, "" when it does not */
    const char *kind;             /* "NPU", "CPU" */
    bool is_virtual;              /* for compiling ahead of time; only ever chosen in tests */
    bool as_onnx;
    const char *const *key, *const *option; /* [n_options] what the provider is told, our defaults included */
    size_t n_options;
} hs_ort_info;

/* Telemetry is switched off before the library is loaded. HSTU_ENOENT: no library (what was looked for, how to get it);
 * HSTU_EUNSUP: a version outside what is accepted; HSTU_EDEVICE: no such device, or its provider cannot work (with the vendor's
 * library to install, where that is what is missing); HSTU_EINVAL: a device name or option that is unknown. */
hstu_status hs_ort_open(hs_ort **out, const hs_ort_choice *choice, hstu_error *err);
void hs_ort_close(hs_ort *ort); /* NULL is fine; close its sessions first */
void hs_ort_get_info(const hs_ort *ort, hs_ort_info *info);

/* Every device that can be seen, usable or not. */
typedef struct hs_ort_seen {
    char name[64]; /* for --device: "npu:intel" */
    char kind[8];  /* "CPU", "GPU", "NPU" */
    char vendor[64], provider[64], version[32], device[96];
    char library[256]; /* the provider's, or "" */
    bool usable, is_virtual;
    char why[488]; /* why it is not usable, "" when it is */
} hs_ort_seen;

/* *out [*n] from hs_calloc. choice->device is not looked at. A library that is absent or cannot be loaded is one row that says
 * so, for each vendor. HSTU_ENOMEM. */
hstu_status hs_ort_list(hs_ort_seen **out, size_t *n, const hs_ort_choice *choice, hstu_error *err);

/* Compiles a graph for the chosen device, whole: HSTU_EUNSUP names the first operators that the device declines, and nothing is
 * kept. Constants that the graph does not own are used in place for as long as the session lives. Any thread. HSTU_ENOMEM,
 * HSTU_EDEVICE. */
hstu_status hs_ort_compile(hs_ort *ort, const hs_graph *g, hs_ort_session **out, hstu_error *err);
void hs_ort_session_close(hs_ort_session *session); /* NULL is fine; its bindings first */
/* Nodes of the compiled graph, all of them the chosen provider's. */
int64_t hs_ort_session_nodes(const hs_ort_session *session);

/* Binds memory of the caller, [n_inputs] and [n_outputs] in the graph's order, each as large as its value and 64-byte aligned,
 * for as long as the binding lives. */
hstu_status hs_ort_bind(
    hs_ort_session *session, void *const *input, void *const *output, hs_ort_binding **out, hstu_error *err);
void hs_ort_binding_close(hs_ort_binding *binding); /* NULL is fine */
/* The memory of input i has changed since it was bound, or since this was last called: a device with memory of its own copies it
 * now, and uses what it has otherwise. HSTU_EDEVICE. */
hstu_status hs_ort_changed(hs_ort_binding *binding, int i, hstu_error *err);
/* Runs the session on the bound memory; outputs are there when it returns. HSTU_EDEVICE with the runtime's own message. */
hstu_status hs_ort_run(hs_ort_binding *binding, hstu_error *err);

#endif
