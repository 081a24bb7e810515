/* What an NPU is and has done, and the list of devices. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <stdio.h>

hstu_status hs_engine_require_npu(const hstu_session *session, hstu_error *err)
{
    if (hs_npu_is(session->whole.dev))
        return HSTU_OK;
    return hs_fail(
        err, HSTU_EINVAL, 0, "the session runs on the device \"%.60s\", which is no NPU", session->model->device);
}

static const char *text_of(const char *text)
{
    return text ? text : "";
}

hstu_status hstu_session_get_npu_stats(const hstu_session *session, hstu_npu_stats *stats, hstu_error *err)
{
    hs_npu_stats s;
    hs_ort_info info;
    HS_TRY(hs_engine_require_npu(session, err));
    hs_npu_get_stats(session->whole.dev, &s);
    hs_npu_get_info(session->whole.dev, &info);
    *stats = (hstu_npu_stats){
        .provider = text_of(info.provider),
        .provider_version = text_of(info.provider_version),
        .ort_version = text_of(info.ort_version),
        .vendor = text_of(info.vendor),
        .device = text_of(info.device),
        .kind = text_of(info.kind),
        .library = text_of(info.library),
        .provider_library = text_of(info.provider_library),
        .compute_dtype = hs_dtype_name(hs_npu_compute(session->whole.dev)),
        .n_graphs = s.n_graphs,
        .n_compiled = s.n_compiled,
        .n_evicted = s.n_evicted,
        .compile_s = s.compile_s,
        .n_nodes = s.n_nodes,
        .n_runs = s.n_runs,
        .run_s = s.run_s,
        .n_copies = s.n_copies,
        .bytes_in = s.bytes_in,
        .bytes_out = s.bytes_out,
        .bytes_kept = s.bytes_kept,
        .n_top_k_device = s.n_top_k_device,
        .n_top_k_cpu = s.n_top_k_cpu,
    };
    return HSTU_OK;
}

void hstu_session_reset_npu_stats(hstu_session *session)
{
    if (hs_npu_is(session->whole.dev))
        hs_npu_reset_stats(session->whole.dev);
}

/* ---- Devices ---------------------------------------------------------------------------------------------------- */

struct hstu_devices {
    hs_ort_seen cpu;
    hs_ort_seen *seen; /* [n_seen] */
    size_t n_seen;
};

/* The CPU is there even when HSTU_ISA asks for kernels that it cannot run: then that is why it is not usable. */
static hstu_status describe_cpu(hs_ort_seen *cpu, hstu_error *err)
{
    hs_device *dev = NULL;
    hstu_error why;
    *cpu = (hs_ort_seen){.name = "cpu", .kind = "CPU"};
    (void)snprintf(cpu->version, sizeof cpu->version, "%s", hstu_version());
    const hstu_status status = hs_device_open(&dev, &(hs_device_options){.name = "cpu"}, &why);
    if (status == HSTU_ENOMEM) {
        if (err)
            *err = why;
        return status;
    }
    cpu->usable = status == HSTU_OK;
    if (cpu->usable)
        (void)snprintf(cpu->device, sizeof cpu->device, "%s kernels, %d thread%s", dev->isa, dev->n_threads,
            dev->n_threads == 1 ? "" : "s");
    else
        (void)snprintf(cpu->why, sizeof cpu->why, "%s", why.msg);
    hs_device_close(dev);
    return HSTU_OK;
}

hstu_status hstu_devices_open(hstu_devices **out, const hstu_npu_options *options, hstu_error *err)
{
    hstu_npu_options o;
    hstu_status status = HSTU_OK;
    HS_TRY(hs_engine_read_npu_options(&o, options, err));
    hstu_devices *d = hs_calloc(1, sizeof *d);
    if (!d)
        return hs_fail_nomem(err, sizeof *d, "the list of devices");
    const hs_ort_choice choice = {.library = o.ort_library,
        .provider_library = o.provider_library,
        .option = o.option,
        .n_options = o.n_options,
        .threads = 1,
        .as_onnx = o.as_onnx};
    HS_TRY_GOTO(describe_cpu(&d->cpu, err));
    HS_TRY_GOTO(hs_ort_list(&d->seen, &d->n_seen, &choice, err));
    *out = d;
    return HSTU_OK;
fail:
    hstu_devices_close(d);
    return status;
}

void hstu_devices_close(hstu_devices *devices)
{
    if (!devices)
        return;
    hs_free(devices->seen);
    hs_free(devices);
}

size_t hstu_devices_count(const hstu_devices *devices)
{
    return 1 + devices->n_seen;
}

hstu_status hstu_devices_get(const hstu_devices *devices, size_t i, hstu_device_info *info, hstu_error *err)
{
    if (i > devices->n_seen)
        return hs_fail(err, HSTU_EINVAL, 0, "device %zu does not exist: there are %zu", i, 1 + devices->n_seen);
    const hs_ort_seen *seen = i == 0 ? &devices->cpu : &devices->seen[i - 1];
    *info = (hstu_device_info){.name = seen->name,
        .kind = seen->kind,
        .vendor = seen->vendor,
        .provider = seen->provider,
        .version = seen->version,
        .device = seen->device,
        .library = seen->library,
        .usable = seen->usable,
        .is_virtual = seen->is_virtual,
        .why = seen->why};
    return HSTU_OK;
}
