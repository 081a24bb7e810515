/* What the files of this folder share: the one loaded runtime, its providers, devices as they are seen, options. */
#ifndef HS_ORT_ORT_INT_H
#define HS_ORT_ORT_INT_H

#include "base/arena.h"
#include "base/path.h"
#include "ort/ort.h"
#include "ort/ort_api.h"

enum { HS_ORT_PLUGINS = 16, HS_ORT_OPTIONS = 64 };

/* ---- the library (ort_load.c) ---- */

enum {
    HS_ORT_OLDEST = 24,
    HS_ORT_NEWEST = 28
}; /* minor versions of 1.x: the oldest accepted, the newest whose table is asked for */

typedef struct hs_ort_library {
    void *handle;
    hs_path path; /* without links */
    char version[32];
    int minor;
    hs_rt rt;
} hs_ort_library;

/* Where the library would be loaded from; "libonnxruntime.so.1" leaves it to the system's search. device tells which of several
 * builds in the folder of scripts/get_onnxruntime is meant. HSTU_ENOENT, HSTU_EINVAL. */
hstu_status hs_ort_find(hs_path *out, const hs_ort_choice *choice, const char *device, hstu_error *err);
/* HSTU_ENOENT, HSTU_EUNSUP, HSTU_EDEVICE (a file that is no such library). What is loaded stays loaded: C++ libraries do not
 * survive being unloaded. */
hstu_status hs_ort_load(hs_ort_library *out, const char *path, hstu_error *err);
/* The path without links; false when there is no such file, or it is longer than a path may be. */
bool hs_ort_real_path(hs_path *out, const char *path);
/* The folder that scripts/get_onnxruntime fills, whether it is there or not; false when it has no name. */
bool hs_ort_home(hs_path *out);

/* ---- the environment (ort_env.c): one in a process, shared by every hs_ort ---- */

typedef struct hs_ort_plugin {
    char name[64];     /* what it is registered under */
    char provider[64]; /* what its devices name; "" when it has none */
    hs_path path;
} hs_ort_plugin;

typedef struct hs_ort_runtime {
    hs_ort_library lib;
    hs_path asked; /* the path as it was asked for */
    rt_env *env;
    rt_memory *memory; /* what tensors in our own memory are said to lie in */
    hs_ort_plugin plugin[HS_ORT_PLUGINS];
    int n_plugins;
    int users;
} hs_ort_runtime;

/* Guards the runtime, its plug-ins and the list of its devices: held while anything of this section but messages is called. */
void hs_ort_lock(void);
void hs_ort_unlock(void);
/* Loads the library at `path` on the first call. HSTU_EDEVICE when another one is in use, and the errors of hs_ort_load. */
hstu_status hs_ort_enter(hs_ort_runtime **out, const char *path, hstu_error *err);
void hs_ort_leave(hs_ort_runtime *runtime);
/* Registers a plug-in's library, unless it is. HSTU_ENOENT, HSTU_EDEVICE. */
hstu_status hs_ort_register(hs_ort_runtime *runtime, const char *path, hstu_error *err);
/* The plug-in that brings this provider, or NULL. */
const hs_ort_plugin *hs_ort_plugin_of(const hs_ort_runtime *runtime, const char *provider);
/* The runtime's list, good until the next plug-in is registered. */
hstu_status hs_ort_devices(const hs_ort_runtime *runtime, const rt_ep_device *const **out, size_t *n, hstu_error *err);
/* Whether the library itself was built with the provider. */
bool hs_ort_is_built_in(const hs_ort_runtime *runtime, const char *provider);

/* NULL is HSTU_OK; else releases the status and returns `code` with "<what>: <the runtime's message>". */
hstu_status hs_ort_check(const hs_rt *rt, rt_status *status, hstu_status code, const char *what, hstu_error *err);
/* The part of a runtime's message that tells people something, in one line. */
void hs_ort_message(char *out, size_t out_bytes, const char *message);
/* The newest error that the runtime logged on this thread, "" when none. */
const char *hs_ort_logged(void);
void hs_ort_forget_logged(void);

/* ---- providers (ort_provider.c) ---- */

/* How a provider is given to a session. HS_ORT_CPU: not at all, ONNX Runtime's own is always there. */
typedef enum hs_ort_route { HS_ORT_CPU, HS_ORT_PLUGIN, HS_ORT_OPENVINO, HS_ORT_CANN } hs_ort_route;

typedef struct hs_ort_provider {
    const char *name;         /* "OpenVINOExecutionProvider" */
    const char *vendor;       /* the word in "npu:intel" */
    const char *vendor_name;  /* "Intel" */
    uint32_t vendor_id[3];    /* of its hardware; ends with 0 */
    const char *library_part; /* of the file name of its plug-in; NULL: it has none */
    hs_ort_route built_in;    /* where ONNX Runtime was built with it; HS_ORT_CPU: no build is */
    const char *own_build;    /* such a build in the folder of scripts/get_onnxruntime that is taken for it, or NULL */
    const char *const *key;   /* the options that it knows, NULL at the end */
    const char *fetch;        /* how to get the provider */
    const char *install;      /* what else a machine with its NPU needs */
} hs_ort_provider;

const hs_ort_provider *hs_ort_provider_at(size_t i); /* NULL past the end */
/* The provider that "npu:<vendor>" or "npu:<provider>" means; NULL for any other device. */
const hs_ort_provider *hs_ort_provider_wanted(const char *device);
const hs_ort_provider *hs_ort_provider_named(const char *name); /* NULL when unknown */
/* The provider whose plug-in a file is by its name, or NULL. */
const hs_ort_provider *hs_ort_provider_of_file(const char *file_name);

typedef struct hs_ort_options {
    const char *key[HS_ORT_OPTIONS], *value[HS_ORT_OPTIONS];
    size_t n;
} hs_ort_options;
/* Splits "key=value"; text goes into the arena. HSTU_EINVAL, HSTU_ENOMEM. */
hstu_status hs_ort_options_parse(hs_ort_options *out, hs_arena *arena, const hs_ort_choice *choice, hstu_error *err);
/* Refuses keys that the provider does not know; NULL knows all. */
hstu_status hs_ort_options_check(const hs_ort_options *options, const hs_ort_provider *provider, hstu_error *err);
const char *hs_ort_options_get(const hs_ort_options *options, const char *key); /* NULL when absent */

/* ---- devices (ort_devices.c) ---- */

typedef struct hs_ort_place {
    const char *provider;         /* a provider's name in the runtime */
    const hs_ort_provider *known; /* or NULL */
    const rt_ep_device *ep;       /* of HS_ORT_PLUGIN */
    hs_ort_route route;
    const char *kind; /* "CPU", "GPU", "NPU" */
    uint32_t vendor_id;
    bool is_virtual;
    char vendor[64], device[96], version[32];
} hs_ort_place;

/* What one of the runtime's devices is. */
void hs_ort_describe(hs_ort_place *out, const hs_ort_runtime *runtime, const rt_ep_device *ep);
/* OpenVINO's devices that spread a graph over several others. */
bool hs_ort_is_collective(const hs_ort_runtime *runtime, const rt_ep_device *ep);
/* A provider that the library itself was built with, and the kind of device that the options ask of it. */
void hs_ort_describe_built_in(hs_ort_place *out, const hs_ort_provider *provider, const char *kind);
hstu_status hs_ort_fail_unknown(const char *device, hstu_error *err);
/* Whether a device that is only for compiling ahead of time may be chosen: in tests. */
bool hs_ort_allows_virtual(void);
/* Registers the plug-ins that a device may need: the one that is named, or those in the folder of scripts/get_onnxruntime whose
 * provider is `wanted` (NULL: all of them, but those that cannot be registered). */
hstu_status hs_ort_register_for(
    hs_ort_runtime *runtime, const hs_ort_choice *choice, const hs_ort_provider *wanted, hstu_error *err);
/* The place that `device` names. HSTU_EDEVICE, HSTU_EINVAL. */
hstu_status hs_ort_select(hs_ort_place *out, const hs_ort_runtime *runtime, const char *device,
    const hs_ort_options *options, hstu_error *err);

/* Whether a place can be used with the choice's options, as hs_ort_open finds it out (ort_open.c). */
hstu_status hs_ort_try(
    hs_ort_runtime *runtime, const hs_ort_place *place, const hs_ort_choice *choice, hstu_error *err);

/* ---- what is open ---- */

struct hs_ort {
    hs_ort_runtime *runtime;
    hs_arena arena;
    hs_ort_place place;
    hs_ort_options options;
    int threads;
    bool as_onnx;
    const char *plugin_path; /* or NULL */
};

typedef struct hs_ort_port {
    char name[HS_GRAPH_NAME_BYTES];
    hs_dtype type;
    hs_dims dims;
} hs_ort_port;

struct hs_ort_session {
    hs_ort *ort;
    rt_session *session;
    int64_t n_nodes;
    int n_inputs, n_outputs;
    hs_ort_port *port; /* [n_inputs + n_outputs] */
};

/* The runtime's number of an element type; 0 when it has none in graphs. */
int hs_ort_element(hs_dtype type);
size_t hs_ort_bytes(hs_dtype type, const hs_dims *dims);
/* A tensor in memory of ours. */
hstu_status hs_ort_tensor(
    const hs_ort_runtime *runtime, hs_dtype type, const hs_dims *dims, void *data, rt_value **out, hstu_error *err);
/* Builds the graph as a model of the runtime's (ort_graph.c). Constants are used where they lie, or until a session is made. */
hstu_status hs_ort_build(const hs_ort_runtime *runtime, const hs_graph *g, rt_model **out, hstu_error *err);
/* Options that we set where the user does not (ort_provider.c). */
hstu_status hs_ort_defaults(hs_ort *ort, hstu_error *err);
/* Gives the chosen provider to a session to be. HSTU_EDEVICE, with what to install. */
hstu_status hs_ort_append(const hs_ort *ort, rt_options *options, hstu_error *err);

/* ort_file.c: HSTU_EDEVICE for a library that was cut short; all else is left to the loader. */
hstu_status hs_ort_check_file(const char *path, hstu_error *err);

#endif
