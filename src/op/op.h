/* Typed operations: check every shape, then hand the arguments to the device. HSTU_EINVAL names the operation and the first
 * contradiction; it means an error of ours, since model/ has checked what users give. The argument structs and their
 * mathematics stand in device/device.h. */
#ifndef HS_OP_OP_H
#define HS_OP_OP_H

#include "device/device.h"

hstu_status hs_op_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err);
void hs_op_pack_free(hs_device *dev, hs_packed *w); /* w may be NULL */
void hs_op_parallel(hs_device *dev, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx);

/* Around the operations of a forward pass. */
hstu_status hs_op_begin(hs_device *dev, const hs_pass_rows *rows, hstu_error *err);
hstu_status hs_op_show(hs_device *dev, const hs_show_args *a, hstu_error *err);
hstu_status hs_op_end(hs_device *dev, hs_mat result, hstu_error *err);

hstu_status hs_op_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err);
hstu_status hs_op_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err);
hstu_status hs_op_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err);
hstu_status hs_op_linear(hs_device *dev, const hs_linear_args *a, hstu_error *err);
/* Layers a[0 .. n - 1] that threads share out together; none reads what another writes. */
hstu_status hs_op_linears(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err);
hstu_status hs_op_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err);
hstu_status hs_op_time_bucket(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err);
hstu_status hs_op_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err);
hstu_status hs_op_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err);
hstu_status hs_op_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err);
hstu_status hs_op_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err);
hstu_status hs_op_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err);

#endif
