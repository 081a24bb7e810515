/* The list of devices, by name. */
#include "device/device.h"

#include "base/error.h"
#include "device/cpu/cpu.h"
#include "device/npu/npu_device.h"

#include <string.h>

hstu_status hs_device_open(hs_device **out, const hs_device_options *options, hstu_error *err)
{
    const char *name = options->name;
    if (strcmp(name, "cpu") == 0)
        return hs_cpu_open(out, options->threads, err);
    if (strcmp(name, "npu") == 0 || strncmp(name, "npu:", 4) == 0 || strcmp(name, "ort-cpu") == 0 ||
        strcmp(name, "onnx") == 0)
        return hs_npu_open(out, options, err);
    return hs_fail(err, HSTU_EDEVICE, 0,
        "device \"%.60s\" is unknown; the known devices are: cpu, npu, npu:ascend, npu:intel, npu:qualcomm, npu:amd, "
        "npu:PROVIDER, ort-cpu",
        name);
}

hstu_status hs_device_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err)
{
    return hs_npu_is(dev) ? hs_npu_join(out, dev, threads, err) : hs_cpu_join(out, dev, threads, err);
}

void hs_device_close(hs_device *dev)
{
    if (dev)
        dev->table->close(dev);
}

int64_t hs_device_bucket(int64_t n)
{
    int64_t step = 16;
    if (n <= 1)
        return n;
    while (n > 8 * step)
        step *= 2;
    return (n + step - 1) / step * step;
}
