/* Around the device's part of an operation: the time that it takes, where the device has a profile. */
#ifndef HS_OP_OP_PROFILE_H
#define HS_OP_OP_PROFILE_H

#include "base/clock.h"
#include "op/op.h"

/* Whether the device computes during this call. One that records computes most operations at `end`, and nothing can tell them
 * apart there; one that does not has nothing to do at `end`. */
bool hs_op_is_timed(const hs_device *dev, hs_stage stage);
void hs_op_note(hs_device *dev, hs_stage stage, double start_s, double flop);

/* Multiplications and additions. */
double hs_op_linear_flop(const hs_linear_args *a, int64_t n);
double hs_op_silu_flop(const hs_silu_attn_args *a);
double hs_op_softmax_flop(const hs_softmax_attn_args *a);
double hs_op_topk_flop(const hs_topk_args *a);

/* Returns what dev->table->slot(dev, ..., err) does; `flop` is not looked at without a profile. */
#define HS_OP_CALL_COUNTED(dev, slot, flop, ...)                                                                       \
    do {                                                                                                               \
        if (!hs_op_is_timed(dev, HS_STAGE_##slot))                                                                     \
            return (dev)->table->slot(dev, __VA_ARGS__, err);                                                          \
        const double start_s_ = hs_clock_s();                                                                          \
        const hstu_status status_ = (dev)->table->slot(dev, __VA_ARGS__, err);                                         \
        hs_op_note(dev, HS_STAGE_##slot, start_s_, flop);                                                              \
        return status_;                                                                                                \
    } while (0)
#define HS_OP_CALL(dev, slot, ...) HS_OP_CALL_COUNTED(dev, slot, 0, __VA_ARGS__)

#endif
