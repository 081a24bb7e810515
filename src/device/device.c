/* The list of devices, by name. */
#include "device/device.h"

#include "base/error.h"
#include "device/cpu/cpu.h"

#include <string.h>

hstu_status hs_device_open(hs_device **out, const char *name, int threads, hstu_error *err)
{
    if (strcmp(name, "cpu") == 0)
        return hs_cpu_open(out, threads, err);
    return hs_fail(err, HSTU_EDEVICE, 0, "device \"%s\" is unknown; the known devices are: cpu", name);
}

void hs_device_close(hs_device *dev)
{
    if (dev)
        dev->table->close(dev);
}
