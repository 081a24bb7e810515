/* Where the time of a device's operations goes: a count for each operation, kept by op/ around the device's own work. */
#ifndef HS_DEVICE_PROFILE_H
#define HS_DEVICE_PROFILE_H

#include <stdint.h>

/* The operations by their slot in the device's table. `end` is what a recording device computes as one graph. */
#define HS_STAGE_MAP(X)                                                                                                \
    X(embed)                                                                                                           \
    X(layer_norm)                                                                                                      \
    X(linear)                                                                                                          \
    X(kv_write)                                                                                                        \
    X(time_bucket)                                                                                                     \
    X(silu_attn)                                                                                                       \
    X(softmax_attn)                                                                                                    \
    X(norm_gate)                                                                                                       \
    X(gather)                                                                                                          \
    X(l2_norm)                                                                                                         \
    X(topk)                                                                                                            \
    X(end)

typedef enum hs_stage {
#define X(slot) HS_STAGE_##slot,
    HS_STAGE_MAP(X)
#undef X
        HS_N_STAGES
} hs_stage;

typedef struct hs_stage_time {
    int64_t calls;
    double seconds;
    double flop; /* multiplications and additions of linear layers, attention and top-k */
} hs_stage_time;

/* One thread at a time writes. */
typedef struct hs_profile {
    hs_stage_time stage[HS_N_STAGES];
} hs_profile;

#endif
