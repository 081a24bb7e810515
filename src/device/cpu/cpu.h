/* The CPU as a device. */
#ifndef HS_DEVICE_CPU_CPU_H
#define HS_DEVICE_CPU_CPU_H

#include "device/device.h"

/* As hs_device_open with the name "cpu", and hs_device_join. */
hstu_status hs_cpu_open(hs_device **out, int threads, hstu_error *err);
hstu_status hs_cpu_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err);

#endif
