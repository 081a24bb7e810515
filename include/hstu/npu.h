/* NPUs, reached through ONNX Runtime: what is there, how a model is put on one, what it did. docs/npu.md tells the steps for
 * each vendor. A model opened with options.device = "npu..." answers through the same calls as one on the CPU. */
#ifndef HSTU_NPU_H
#define HSTU_NPU_H

#include "hstu/hstu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Goes into hstu_model_options.npu. Text is borrowed for the call. */
typedef struct hstu_npu_options {
    size_t size; /* set by hstu_npu_options_init */
    /* ONNX Runtime's library. NULL: the environment variable HSTU_ORT_LIBRARY, then the folder that scripts/get_onnxruntime fills
     * (HSTU_ORT_HOME, else ~/.local/share/hstu/onnxruntime), then the system's. */
    const char *ort_library;
    const char
        *provider_library;     /* of a plug-in provider. NULL: HSTU_ORT_PROVIDER_LIBRARY, then those in that folder */
    const char *const *option; /* [n_options] "key=value", handed to the provider; an unknown key is HSTU_EINVAL */
    size_t n_options;
    int64_t max_graphs; /* compiled graphs that are kept, the least recently used one goes; 0: 64 */
    int as_onnx;        /* hand graphs over as ONNX files in memory instead of node by node */
} hstu_npu_options;
HSTU_API void hstu_npu_options_init(hstu_npu_options *options);

/* What one device is, and why it cannot be used. Text lives as long as the list. */
typedef struct hstu_device_info {
    const char *name;                                           /* for hstu_model_options.device: "cpu", "npu:intel" */
    const char *kind;                                           /* "CPU", "GPU", "NPU" */
    const char *vendor, *provider, *version, *device, *library; /* "" where unknown */
    int usable, is_virtual;
    const char *why; /* why it is not usable, "" when it is */
} hstu_device_info;
typedef struct hstu_devices hstu_devices;
/* The CPU comes first. options NULL: the defaults. A missing ONNX Runtime is no failure: its devices are listed as not usable.
 * HSTU_EINVAL for options out of range, HSTU_ENOMEM. */
HSTU_API hstu_status hstu_devices_open(hstu_devices **out, const hstu_npu_options *options, hstu_error *err);
HSTU_API void hstu_devices_close(hstu_devices *devices); /* NULL is fine */
HSTU_API size_t hstu_devices_count(const hstu_devices *devices);
/* HSTU_EINVAL past the end. */
HSTU_API hstu_status hstu_devices_get(const hstu_devices *devices, size_t i, hstu_device_info *info, hstu_error *err);

/* Text lives as long as the model. Counts are of one session; compile_s and the graphs of all sessions of the model. */
typedef struct hstu_npu_stats {
    const char *provider, *provider_version, *ort_version, *vendor, *device, *kind;
    const char *library, *provider_library; /* provider_library "" when built in */
    const char *compute_dtype;              /* "fp32" or "fp16": what the graphs compute in */
    int64_t n_graphs, n_compiled, n_evicted;
    double compile_s;
    int64_t n_nodes;  /* of the graphs that are kept, every one on the provider */
    int64_t n_runs;   /* graphs executed */
    double run_s;     /* inside ONNX Runtime */
    int64_t n_copies; /* pieces of memory copied to or from bound buffers */
    int64_t bytes_in, bytes_out;
    int64_t bytes_kept; /* keys and values that were still bound from a request before, and not copied */
    int64_t n_top_k_device, n_top_k_cpu; /* searches for the best items, by where they ran */
} hstu_npu_stats;
/* HSTU_EINVAL for a session of another device. */
HSTU_API hstu_status hstu_session_get_npu_stats(const hstu_session *session, hstu_npu_stats *stats, hstu_error *err);
/* Sets the session's counts to zero; the graphs stay. */
HSTU_API void hstu_session_reset_npu_stats(hstu_session *session);
/* Compiles ahead, for one user and histories of up to max_events events (in a ranking model with up to max_candidates candidates),
 * the graphs of all lengths and, with use_kv_cache, those of a few new events, or none, behind every cached length. The most
 * candidates come first and the longest histories, those without the cache in front; it ends when as many graphs are there as are
 * kept. Answers nothing, and the session's cache is left alone. HSTU_EINVAL for a session of another device, and the errors of
 * hstu_rank and hstu_encode. */
HSTU_API hstu_status hstu_session_warm_up(
    hstu_session *session, int64_t max_events, int64_t max_candidates, int use_kv_cache, hstu_error *err);

/* How far a device's answers are from the CPU's on a small batch of made-up users with ids that the model knows. */
typedef struct hstu_self_test {
    /* Of a logit, a coordinate of an embedding or a score of the best items, relative to the CPU's largest of that kind. */
    double largest_error;
    double allowed; /* 1e-4; 3e-2 where keys and values are bf16, and for a device that computes in fp16 */
    int n_users;
} hstu_self_test;
/* Opens the checkpoint once more on the CPU, in fp32 (with weights rounded to bf16 where the model's are), asks both the same and
 * compares: uncached, and with a KV cache of its own where the model can use one. `checkpoint` and `options` are those that the
 * model was opened with. HSTU_EDEVICE, with the figures in the sentence, when the device is wrong; *result is filled then, too.
 * HSTU_EINVAL for a model on the CPU, and the errors of hstu_model_open and of the calls that are compared. */
HSTU_API hstu_status hstu_self_test_run(const hstu_model *model, const char *checkpoint,
    const hstu_model_options *options, hstu_self_test *result, hstu_error *err);
/* Whether a self-test of this model on this device, provider and versions, with these options, has passed before on this machine,
 * and that it now has: a small file in $XDG_CACHE_HOME/hstu (else ~/.cache/hstu), named by a hash of all these; to make it, every weight is read.
 * A folder that cannot be written is no failure. */
HSTU_API int hstu_self_test_is_known(const hstu_model *model);
HSTU_API void hstu_self_test_remember(const hstu_model *model);

/* One graph of a model as an ONNX file: histories of `history` events, or in a ranking model tokens (an event has two, a contextual
 * feature one), that are computed, behind `cached` ones whose keys and values are inputs, and for a ranking model `candidates` of
 * them, for n_users at a time; every number is rounded up to its bucket. Inputs and outputs are explained in the file's metadata and
 * in docs/npu.md. */
typedef struct hstu_onnx_options {
    size_t size;        /* set by hstu_onnx_options_init */
    int64_t n_users;    /* 1 .. 16; default 1 */
    int64_t history;    /* 0: as many as the model takes behind `cached` */
    int64_t cached;     /* default 0; HSTU_EUNSUP for a model that cannot use a KV cache */
    int64_t candidates; /* default 128 */
} hstu_onnx_options;
HSTU_API void hstu_onnx_options_init(hstu_onnx_options *options);
/* checkpoint and model as for hstu_model_open, without a device: dtype "fp32" or "fp16". onnx NULL: the defaults. The file appears
 * when it is complete; it holds at most 2 GiB, HSTU_EUNSUP says how large it would be. HSTU_EINVAL for a shape that the model does
 * not take, or a path that the model is read from; HSTU_EIO and the errors of hstu_model_open. */
HSTU_API hstu_status hstu_export_onnx(const char *checkpoint, const hstu_model_options *model,
    const hstu_onnx_options *onnx, const char *path, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
