/* What hstu_model_options ask for: names of types, and the device with its own options. */
#include "engine/engine.h"

#include "base/error.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <string.h>

enum { GRAPHS_MOST = 1 << 16 };

void hstu_model_options_init(hstu_model_options *options)
{
    *options = (hstu_model_options){.size = sizeof *options, .device = "cpu", .dtype = "fp32"};
}

void hstu_npu_options_init(hstu_npu_options *options)
{
    *options = (hstu_npu_options){.size = sizeof *options};
}

hstu_status hs_engine_read_options(void *own, size_t own_size, const void *given, const char *init, hstu_error *err)
{
    size_t size = 0;
    memcpy(&size, given, sizeof size); /* the first member of every options struct */
    if (size < sizeof size || size > own_size)
        return hs_fail(
            err, HSTU_EINVAL, 0, "options of %zu bytes, expected at most %zu: call %s first", size, own_size, init);
    memcpy(own, given, size);
    return HSTU_OK;
}

hstu_status hs_engine_read_npu_options(hstu_npu_options *out, const hstu_npu_options *given, hstu_error *err)
{
    hstu_npu_options_init(out);
    if (given)
        HS_TRY(hs_engine_read_options(out, sizeof *out, given, "hstu_npu_options_init", err));
    if (out->max_graphs < 0 || out->max_graphs > GRAPHS_MOST)
        return hs_fail(err, HSTU_EINVAL, 0, "max_graphs is %lld, expected 1 .. %d, or 0 for %d",
            (long long)out->max_graphs, (int)GRAPHS_MOST, (int)HS_NPU_MAX_GRAPHS);
    for (size_t i = 0; i < out->n_options; i++) {
        if (!out->option || !out->option[i])
            return hs_fail(
                err, HSTU_EINVAL, 0, "n_options is %zu, but option %zu of the NPU is NULL", out->n_options, i);
    }
    return HSTU_OK;
}

static bool names(const char *dtype, const char *short_name, const char *long_name)
{
    return dtype && (strcmp(dtype, short_name) == 0 || strcmp(dtype, long_name) == 0);
}

bool hs_engine_is_bf16(const char *dtype)
{
    return names(dtype, "bf16", "bfloat16");
}

static bool is_fp16(const char *dtype)
{
    return names(dtype, "fp16", "float16");
}

static const char *device_name(const hstu_model_options *o)
{
    return o->device ? o->device : "cpu";
}

/* Keys and values of a bfloat16 model are bfloat16 whatever they are stored in. */
static hstu_status check_kv_dtype(const hstu_model_options *o, hstu_error *err)
{
    if (!o->kv_dtype || hs_engine_is_bf16(o->kv_dtype))
        return HSTU_OK;
    if (!names(o->kv_dtype, "fp32", "float32"))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "kv_dtype '%.40s' is not part of this version, which keeps keys and values in fp32 or bf16", o->kv_dtype);
    if (hs_engine_is_bf16(o->dtype))
        return hs_fail(err, HSTU_EINVAL, 0, "kv_dtype is fp32, but a model of dtype bf16 has bf16 keys and values");
    return HSTU_OK;
}

static hstu_status check_dtype(const hstu_model_options *o, hstu_error *err)
{
    if (!o->dtype || names(o->dtype, "fp32", "float32") || hs_engine_is_bf16(o->dtype))
        return HSTU_OK;
    if (!is_fp16(o->dtype))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "dtype '%.40s' is not part of this version, which computes in fp32 or bf16, and on NPUs in fp16 too",
            o->dtype);
    if (strcmp(device_name(o), "cpu") == 0)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "dtype '%.40s': the device \"cpu\" computes in fp32 or bf16, only NPUs compute in fp16", o->dtype);
    return HSTU_OK;
}

hstu_status hs_engine_check_options(const hstu_model_options *o, hstu_error *err)
{
    HS_TRY(check_kv_dtype(o, err));
    HS_TRY(check_dtype(o, err));
    if (o->threads < 0)
        return hs_fail(err, HSTU_EINVAL, 0, "threads is %d, expected 0 (automatic) or more", o->threads);
    if (o->max_item_id < 0)
        return hs_fail(
            err, HSTU_EINVAL, 0, "max_item_id is %lld, expected 0 (unknown) or more", (long long)o->max_item_id);
    if (o->max_user_id < 0)
        return hs_fail(
            err, HSTU_EINVAL, 0, "max_user_id is %lld, expected 0 (unknown) or more", (long long)o->max_user_id);
    return HSTU_OK;
}

hstu_status hs_engine_open_device(hs_device **out, const hstu_model_options *o, bool for_file, hstu_error *err)
{
    const char *name = device_name(o);
    hstu_npu_options npu;
    if (strcmp(name, "onnx") == 0 && !for_file)
        return hs_fail(err, HSTU_EDEVICE, 0,
            "the device \"onnx\" computes nothing, it writes files: call hstu_export_onnx (hstu convert --to onnx)");
    HS_TRY(hs_engine_read_npu_options(&npu, strcmp(name, "cpu") == 0 ? NULL : o->npu, err));
    const hs_device_options options = {.name = name,
        .threads = o->threads,
        .compute = is_fp16(o->dtype) ? HS_F16 : HS_F32,
        .ort_library = npu.ort_library,
        .provider_library = npu.provider_library,
        .option = npu.option,
        .n_options = npu.n_options,
        .as_onnx = npu.as_onnx,
        .max_graphs = npu.max_graphs};
    return hs_device_open(out, &options, err);
}

hstu_status hstu_model_options_check(const hstu_model_options *options, hstu_error *err)
{
    hstu_model_options o;
    hs_device *dev = NULL;
    hstu_model_options_init(&o);
    HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    HS_TRY(hs_engine_check_options(&o, err));
    HS_TRY(hs_engine_open_device(&dev, &o, false, err));
    hs_device_close(dev);
    return HSTU_OK;
}
