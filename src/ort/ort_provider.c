/* The providers that are known: how each is reached, which options it understands, what it needs. */
#include "base/alloc.h"
#include "base/error.h"
#include "ort/ort_int.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Providers accept keys that they do not know in silence, so these lists refuse them. Source: the providers' documentation and
 * libraries, in the versions of scripts/get_onnxruntime. */
static const char *const openvino_keys[] = {"device_type", "device_id", "device_luid", "precision", "num_of_threads",
    "num_streams", "cache_dir", "load_config", "context", "model_priority", "enable_opencl_throttling",
    "enable_qdq_optimizer", "enable_causallm", "disable_dynamic_shapes", "reshape_input", "layout", NULL};
static const char *const qnn_keys[] = {"backend_path", "backend_type", "device_id", "soc_model", "htp_arch", "vtcm_mb",
    "htp_performance_mode", "htp_graph_finalization_optimization_mode", "enable_htp_fp16_precision",
    "enable_htp_fp16_clamp_overflow", "htp_bf16_enable", "enable_htp_shared_memory_allocator",
    "enable_htp_spill_fill_buffer", "enable_vtcm_backup_buffer_sharing", "enable_htp_graph_splitting",
    "htp_graph_splitting_num_prepare_threads", "num_graph_prepare_threads", "htp_share_resource_optimization",
    "enable_block_quant_weight_optimization", "disable_file_mapped_weights", "offload_graph_io_quantization",
    "qnn_context_priority", "rpc_control_latency", "profiling_level", "profiling_file_path", "qnn_saver_path",
    "qnn_ir_backend_path", "skip_qnn_version_check", "skip_backend_op_validation", "extended_udma", "op_packages",
    "op_affinity", "dump_json_qnn_graph", "json_qnn_graph_dir", NULL};
static const char *const cann_keys[] = {"device_id", "npu_mem_limit", "arena_extend_strategy", "enable_cann_graph",
    "enable_cann_subgraph", "dump_graphs", "dump_om_model", "precision_mode", "op_select_impl_mode",
    "optypelist_for_implmode", NULL};
static const char *const vitisai_keys[] = {"config_file", "cache_dir", "cache_key", "xclbin", "target",
    "encryption_key", "opt_level", "log_level", "xlnx_enable_py3_round", "xlnx_enable_old_qdq", NULL};

static const hs_ort_provider known[] = {
    {.name = "OpenVINOExecutionProvider",
        .vendor = "intel",
        .vendor_name = "Intel",
        .vendor_id = {0x8086},
        .library_part = "openvino_plugin",
        .built_in = HS_ORT_OPENVINO,
        .key = openvino_keys,
        .fetch = "'scripts/get_onnxruntime intel' fetches its provider",
        .install = "the kernel's driver intel_vpu (/dev/accel/accel0) and Intel's linux-npu-driver package"},
    {.name = "QNNExecutionProvider",
        .vendor = "qualcomm",
        .vendor_name = "Qualcomm",
        .vendor_id = {0x4D4F4351, 0x5143},
        .library_part = "qnn",
        .built_in = HS_ORT_CPU,
        .key = qnn_keys,
        .fetch = "'scripts/get_onnxruntime qualcomm' fetches its provider",
        .install = "Qualcomm's driver for the Hexagon NPU (/dev/fastrpc-cdsp)"},
    {.name = "CANNExecutionProvider",
        .vendor = "ascend",
        .vendor_name = "Huawei",
        .vendor_id = {0x19e5},
        .library_part = NULL,
        .built_in = HS_ORT_CANN,
        .own_build = "ascend/libonnxruntime.so",
        .key = cann_keys,
        .fetch = "'scripts/get_onnxruntime ascend' fetches an ONNX Runtime that has its provider",
        .install = "Huawei's CANN toolkit 8.2 in /usr/local/Ascend/ascend-toolkit/latest, its set_env.sh sourced"},
    {.name = "VitisAIExecutionProvider",
        .vendor = "amd",
        .vendor_name = "AMD",
        .vendor_id = {0x1022, 0x1002},
        .library_part = "vitisai",
        .built_in = HS_ORT_CPU,
        .key = vitisai_keys,
        .fetch = "AMD's Ryzen AI software brings its provider, whose library --ort_provider_library names",
        .install = "the kernel's driver amdxdna (/dev/accel/accel0) and AMD's Ryzen AI software"},
};

const hs_ort_provider *hs_ort_provider_at(size_t i)
{
    return i < sizeof known / sizeof known[0] ? &known[i] : NULL;
}

const hs_ort_provider *hs_ort_provider_named(const char *name)
{
    const hs_ort_provider *p;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL && strcmp(p->name, name) != 0; i++)
        ;
    return p;
}

const hs_ort_provider *hs_ort_provider_wanted(const char *device)
{
    if (strncmp(device, "npu:", 4) != 0)
        return NULL;
    const hs_ort_provider *p;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        if (strcmp(p->vendor, device + 4) == 0 || strcmp(p->name, device + 4) == 0)
            return p;
    }
    return NULL;
}

const hs_ort_provider *hs_ort_provider_of_file(const char *file_name)
{
    const hs_ort_provider *p;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        if (p->library_part && strncmp(file_name, "libonnxruntime_", 15) == 0 && strstr(file_name, p->library_part))
            return p;
    }
    return NULL;
}

/* ---- options ---- */

/* "a, b, c", or "a, b, ..." where there is no room for all */
static void list_keys(char *out, size_t out_bytes, const char *const *key)
{
    static const char more[] = ", ...";
    size_t n = 0;
    for (out[0] = '\0'; *key && n + strlen(*key) + 2 + sizeof more <= out_bytes; key++)
        n += (size_t)snprintf(out + n, out_bytes - n, "%s%s", n ? ", " : "", *key);
    if (*key)
        snprintf(out + n, out_bytes - n, "%s", more);
}

static hstu_status check_key(const hs_ort_provider *provider, const char *key, hstu_error *err)
{
    for (const char *const *k = provider->key; *k; k++) {
        if (strcmp(*k, key) == 0)
            return HSTU_OK;
    }
    char keys[400];
    list_keys(keys, sizeof keys, provider->key);
    return hs_fail(
        err, HSTU_EINVAL, 0, "the option '%.40s' is unknown to %s, which has: %s", key, provider->name, keys);
}

const char *hs_ort_options_get(const hs_ort_options *options, const char *key)
{
    for (size_t i = 0; i < options->n; i++) {
        if (strcmp(options->key[i], key) == 0)
            return options->value[i];
    }
    return NULL;
}

static hstu_status parse_one(hs_ort_options *out, hs_arena *arena, const char *text, hstu_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return hs_fail(err, HSTU_EINVAL, 0, "a provider's option is KEY=VALUE, found '%.200s'", text);
    if (out->n == HS_ORT_OPTIONS)
        return hs_fail(err, HSTU_EINVAL, 0, "more than %d options of a provider", HS_ORT_OPTIONS);
    const char *key = hs_arena_strndup(arena, text, (size_t)(equals - text));
    const char *value = hs_arena_strndup(arena, equals + 1, strlen(equals + 1));
    if (!key || !value)
        return hs_fail_nomem(err, strlen(text), "a provider's option");
    if (hs_ort_options_get(out, key))
        return hs_fail(err, HSTU_EINVAL, 0, "the provider's option '%.200s' is given twice", key);
    out->key[out->n] = key;
    out->value[out->n++] = value;
    return HSTU_OK;
}

hstu_status hs_ort_options_parse(hs_ort_options *out, hs_arena *arena, const hs_ort_choice *choice, hstu_error *err)
{
    out->n = 0;
    for (size_t i = 0; i < choice->n_options; i++)
        HS_TRY(parse_one(out, arena, choice->option[i], err));
    return HSTU_OK;
}

hstu_status hs_ort_options_check(const hs_ort_options *options, const hs_ort_provider *provider, hstu_error *err)
{
    for (size_t i = 0; provider && i < options->n; i++)
        HS_TRY(check_key(provider, options->key[i], err));
    return HSTU_OK;
}

static void add_default(hs_ort_options *options, const char *key, const char *value)
{
    if (options->n < HS_ORT_OPTIONS && !hs_ort_options_get(options, key)) {
        options->key[options->n] = key;
        options->value[options->n++] = value;
    }
}

/* Without a key, where a provider chooses by itself. */
static void remove_option(hs_ort_options *options, const char *key)
{
    for (size_t i = 0; i < options->n; i++) {
        if (strcmp(options->key[i], key) != 0)
            continue;
        options->n--;
        options->key[i] = options->key[options->n];
        options->value[i] = options->value[options->n];
        return;
    }
}

static hstu_status qnn_defaults(hs_ort *ort, hstu_error *err)
{
    const char *backend = hs_ort_options_get(&ort->options, "backend_path");
    /* Without it the provider would decline every node, and not tell why. */
    if (backend && strchr(backend, '/') && access(backend, F_OK) != 0)
        return hs_fail(err, HSTU_ENOENT, 0, "the library that backend_path names does not exist: '%.300s'", backend);
    if (backend || hs_ort_options_get(&ort->options, "backend_type") || !ort->plugin_path)
        return HSTU_OK;
    const size_t n_folder = (size_t)(hs_path_base(ort->plugin_path) - ort->plugin_path);
    hs_path folder = {.text = ""}, library;
    memcpy(folder.text, ort->plugin_path, n_folder);
    HS_TRY(hs_path_join(&library, folder.text, "libQnnHtp.so", err));
    const char *path = hs_arena_strndup(&ort->arena, library.text, strlen(library.text));
    if (!path)
        return hs_fail_nomem(err, strlen(library.text), "the path of Qualcomm's library");
    add_default(&ort->options, "backend_path", path);
    return HSTU_OK;
}

/* On processors with bfloat16 OpenVINO computes float32 graphs in that, whatever `precision` says: only this restores it. */
static void openvino_defaults(hs_ort *ort)
{
    const char *precision = hs_ort_options_get(&ort->options, "precision");
    const bool is_lower = precision && strcmp(precision, "FP32") != 0 && strcmp(precision, "ACCURACY") != 0;
    if (ort->place.route == HS_ORT_OPENVINO)
        add_default(&ort->options, "device_type", "NPU");
    else
        remove_option(&ort->options, "device_type"); /* it chose the device, and is none of the plug-in's options */
    if (!is_lower && strcmp(ort->place.kind, "CPU") == 0)
        add_default(&ort->options, "load_config", "{\"CPU\":{\"INFERENCE_PRECISION_HINT\":\"f32\"}}");
}

hstu_status hs_ort_defaults(hs_ort *ort, hstu_error *err)
{
    const hs_ort_provider *provider = ort->place.known;
    if (!provider)
        return HSTU_OK;
    if (strcmp(provider->vendor, "intel") == 0)
        openvino_defaults(ort);
    if (strcmp(provider->vendor, "qualcomm") == 0)
        return qnn_defaults(ort, err);
    if (strcmp(provider->vendor, "ascend") == 0)
        add_default(&ort->options, "device_id", "0");
    return HSTU_OK;
}

/* ---- appending ---- */

static hstu_status append_cann(const hs_ort *ort, rt_options *options, const char *what, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    rt_cann *cann = NULL;
    HS_TRY(hs_ort_check(rt, rt->create_cann(&cann), HSTU_EDEVICE, what, err));
    hstu_status status = hs_ort_check(
        rt, rt->update_cann(cann, ort->options.key, ort->options.value, ort->options.n), HSTU_EDEVICE, what, err);
    if (status == HSTU_OK)
        status = hs_ort_check(rt, rt->append_cann(options, cann), HSTU_EDEVICE, what, err);
    rt->release_cann(cann);
    return status;
}

static hstu_status append(const hs_ort *ort, rt_options *options, const char *what, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    const hs_ort_options *with = &ort->options;
    switch (ort->place.route) {
    case HS_ORT_PLUGIN:
        return hs_ort_check(rt,
            rt->append_devices(options, ort->runtime->env, &ort->place.ep, 1, with->key, with->value, with->n),
            HSTU_EDEVICE, what, err);
    case HS_ORT_OPENVINO:
        return hs_ort_check(
            rt, rt->append_by_name(options, "OpenVINO", with->key, with->value, with->n), HSTU_EDEVICE, what, err);
    case HS_ORT_CANN:
        return append_cann(ort, options, what, err);
    case HS_ORT_CPU:
        break;
    }
    return HSTU_OK;
}

hstu_status hs_ort_append(const hs_ort *ort, rt_options *options, hstu_error *err)
{
    char what[96];
    hstu_error why;
    snprintf(what, sizeof what, "%.64s cannot be used", ort->place.provider);
    hs_ort_forget_logged();
    const hstu_status status = append(ort, options, what, &why);
    if (status == HSTU_OK)
        return HSTU_OK;
    if (*hs_ort_logged()) /* tells more than the status, which is that a library did not load, whatever the reason */
        snprintf(why.msg, sizeof why.msg, "%s: %s", what, hs_ort_logged());
    if (ort->place.route == HS_ORT_PLUGIN || !ort->place.known || strcmp(ort->place.kind, "NPU") != 0)
        return hs_fail(err, status, 0, "%s", why.msg);
    return hs_fail(err, status, 0, "%.320s; its machine needs %s", why.msg, ort->place.known->install);
}
