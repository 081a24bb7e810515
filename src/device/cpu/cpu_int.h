/* What the CPU device's own files share: its struct, scratch memory, and one driver per slot of the device table. */
#ifndef HS_DEVICE_CPU_CPU_INT_H
#define HS_DEVICE_CPU_CPU_INT_H

#include "device/cpu/cpu_ops.h"
#include "device/cpu/cpu_pool.h"

#include <stddef.h>

typedef struct hs_cpu {
    hs_device base;
    const hs_cpu_kernels *kernels;
    hs_cpu_pool *pool;
    /* Each worker's own part, then what they share; kept between calls: a steady state allocates nothing. */
    char *scratch;
    size_t scratch_bytes, own_bytes;
    float *wide; /* hs_cpu_widen's, kept too */
    size_t wide_floats;
} hs_cpu;

/* Rounds a count of bytes up to whole cache lines. */
static inline size_t hs_cpu_round64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Scratch memory of a call, 64-byte aligned, valid, uninitialised, until the next one. Memory of all workers and that of each are kept
 * apart: a worker has the same in call after call, where it lies in that processor's cache. */
typedef struct hs_cpu_space {
    char *shared, *own; /* the latter worker 0's */
    size_t each;        /* bytes from one worker's to the next one's */
} hs_cpu_space;

/* `shared` bytes, and `each` bytes for every worker. */
hstu_status hs_cpu_scratch(hs_cpu *cpu, hs_cpu_space *out, size_t shared, size_t each, hstu_error *err);

static inline void *hs_cpu_own(const hs_cpu_space *s, int worker)
{
    return s->own + (size_t)worker * s->each;
}

/* wide[i] = mat[i], or, where that holds bfloat16 values, its values as float32 ones in memory that is valid until the next call.
 * Matrices without data stay so. */
hstu_status hs_cpu_widen(hs_cpu *cpu, hs_mat *wide, const hs_mat *mat, int n, hstu_error *err);
/* Rounds what was computed in wide into m, unless they are the same. */
void hs_cpu_narrow(hs_cpu *cpu, const hs_mat *m, const hs_mat *wide);

static inline void hs_pairs_enter(const hs_pair_kernels *pairs)
{
    if (pairs && pairs->enter)
        pairs->enter();
}

static inline void hs_pairs_leave(const hs_pair_kernels *pairs)
{
    if (pairs && pairs->leave)
        pairs->leave();
}

/* Packed weight: panel p holds columns 16 p .. 16 p + 15, zeros past column n. HS_F32: as [in, 16]. HS_BF16: as pairs
 * [ceil(in / 2), 16], rows 2i and 2i + 1 in a word, the even one low, 0 past row `in`: whole tiles of AMX lie in one piece, and four
 * panels side by side are four streams. */
struct hs_packed {
    hs_dtype type;
    int64_t in, n;
    void *data;
};

/* Rows of words in a panel. */
static inline int64_t hs_packed_rows(hs_dtype type, int64_t in)
{
    return type == HS_BF16 ? hs_ceil_div_i64(in, 2) : in;
}

hstu_status hs_cpu_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err);
void hs_cpu_pack_free(hs_packed *w);
void hs_cpu_pack_size(const hs_packed *w, int64_t *in, int64_t *n);
hstu_status hs_cpu_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err);
hstu_status hs_cpu_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err);
hstu_status hs_cpu_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err);
hstu_status hs_cpu_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err);
hstu_status hs_cpu_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err);
/* Rows from some row on that go to neighbouring places of one page, or, with page NULL, are not stored. */
typedef struct hs_kv_run {
    char *page;
    int64_t place, rows; /* of the first row's token; how many */
} hs_kv_run;

hs_kv_run hs_cpu_kv_run(const hs_kv_write_args *a, int64_t row);
/* Stores the rows of m, which are those of `run` or the first of them, as columns col .. of k (`keys`) or v. Threads may store other
 * rows and columns at the same time where col, m's columns, dqk and dv are multiples of HS_KV_PANEL. */
void hs_cpu_kv_store(const hs_cpu_kernels *kernels, const hs_kv_write_args *a, const hs_kv_run *run, bool keys,
    const hs_mat *m, int64_t col);
/* The lines that what stands in out, which is k or v, from row and col on will be written to. col is a multiple of HS_PAIR_STEP. */
hs_claim_plan hs_cpu_kv_claim(const hs_kv_write_args *a, const hs_mat *out, int64_t row, int64_t col);
hstu_status hs_cpu_time_bucket(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err);
hstu_status hs_cpu_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err);
/* Of matrices that hold bfloat16 values, over pages that do. */
hstu_status hs_cpu_pair_attn(hs_cpu *cpu, const hs_silu_attn_args *a, hstu_error *err);
hstu_status hs_cpu_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err);
hstu_status hs_cpu_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err);
hstu_status hs_cpu_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err);
hstu_status hs_cpu_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err);

#endif
