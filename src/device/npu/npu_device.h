/* An NPU as a device, through ONNX Runtime: a pass is recorded, padded to a bucket of shapes, compiled once and run with bound
 * buffers. Rows of embedding tables are gathered on the host; keys and values stay in the caller's pages, from which what a pass
 * needs is copied into bound buffers, and only where it has changed since the device's last pass. */
#ifndef HS_DEVICE_NPU_NPU_DEVICE_H
#define HS_DEVICE_NPU_NPU_DEVICE_H

#include "device/device.h"
#include "graph/onnxfile.h"
#include "ort/ort.h"

enum { HS_NPU_MAX_GRAPHS = 64 };

/* As hs_device_open, for the names "npu", "npu:...", "ort-cpu"; and for "onnx": a device without a runtime, whose passes only
 * become files (hs_npu_export). */
hstu_status hs_npu_open(hs_device **out, const hs_device_options *options, hstu_error *err);
hstu_status hs_npu_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err);
bool hs_npu_is(const hs_device *dev);

/* Counts of one device since it was opened or reset; graphs and compile_s of all that share them. */
typedef struct hs_npu_stats {
    int64_t n_graphs, n_compiled, n_evicted, n_nodes;
    double compile_s;
    int64_t n_runs;
    double run_s;
    int64_t n_copies, bytes_in, bytes_out, bytes_kept;
    int64_t n_top_k_device, n_top_k_cpu;
} hs_npu_stats;
void hs_npu_get_stats(const hs_device *dev, hs_npu_stats *stats);
void hs_npu_reset_stats(hs_device *dev); /* graphs and their times stay */
/* What runs the graphs; all NULL for "onnx". */
void hs_npu_get_info(const hs_device *dev, hs_ort_info *info);
hs_dtype hs_npu_compute(const hs_device *dev);

/* With `on` passes are compiled, and results are zeros. */
void hs_npu_compile_only(hs_device *dev, bool on);
/* Every pass from now on, recorded by a device "onnx", writes its graph to `file` (which the caller commits); results are zeros. */
void hs_npu_export(hs_device *dev, hs_outfile *file);

#endif
