/* Opening and closing the CPU device: instruction set, threads, scratch memory, the table of operations. */
#include "device/cpu/cpu.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/system.h"
#include "device/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 1024 };

static void cpu_close(hs_device *dev)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    hs_cpu_pool_close(cpu->pool);
    hs_free(cpu->scratch);
    hs_free(cpu->wide);
    hs_free(cpu);
}

typedef struct user_task {
    void (*fn)(void *ctx, int64_t i);
    void *ctx;
} user_task;

static void run_user_task(void *context, int worker, int64_t task)
{
    const user_task *t = context;
    (void)worker;
    t->fn(t->ctx, task);
}

static void cpu_parallel(hs_device *dev, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx)
{
    user_task t = {.fn = fn, .ctx = ctx};
    hs_cpu_pool_run(((hs_cpu *)dev)->pool, n, run_user_task, &t);
}

static hstu_status cpu_begin(hs_device *dev, const hs_pass_rows *rows, hstu_error *err)
{
    (void)dev, (void)rows, (void)err;
    return HSTU_OK;
}

static hstu_status cpu_show(hs_device *dev, const hs_show_args *a, hstu_error *err)
{
    hs_mat wide;
    HS_TRY(hs_cpu_widen((hs_cpu *)dev, &wide, &a->m, 1, err));
    a->stage(a->ctx, a->name, wide);
    return HSTU_OK;
}

static hstu_status cpu_end(hs_device *dev, hs_mat result, hstu_error *err)
{
    (void)dev, (void)result, (void)err;
    return HSTU_OK;
}

static const hs_device_table TABLE = {
    .close = cpu_close,
    .pack = hs_cpu_pack,
    .pack_free = hs_cpu_pack_free,
    .pack_size = hs_cpu_pack_size,
    .parallel = cpu_parallel,
    .begin = cpu_begin,
    .show = cpu_show,
    .end = cpu_end,
    .embed = hs_cpu_embed,
    .layer_norm = hs_cpu_layer_norm,
    .norm_gate = hs_cpu_norm_gate,
    .linear = hs_cpu_linear,
    .kv_write = hs_cpu_kv_write,
    .time_bucket = hs_cpu_time_bucket,
    .silu_attn = hs_cpu_silu_attn,
    .softmax_attn = hs_cpu_softmax_attn,
    .gather = hs_cpu_gather,
    .l2_norm = hs_cpu_l2_norm,
    .topk = hs_cpu_topk,
};

/* Of which a worker's part of the scratch memory is a multiple. */
enum { OWN_STEP = 4096 };

hstu_status hs_cpu_scratch(hs_cpu *cpu, hs_cpu_space *out, size_t shared, size_t each, hstu_error *err)
{
    size_t own = 0, bytes = 0;
    if (each <= cpu->own_bytes)
        each = cpu->own_bytes;
    else if (each > SIZE_MAX - OWN_STEP)
        return hs_fail_nomem(err, SIZE_MAX, "scratch memory of the device");
    each = (each + OWN_STEP - 1) / OWN_STEP * OWN_STEP;
    if (!hs_mul_size(each, (size_t)cpu->base.n_threads, &own) || !hs_add_size(own, shared, &bytes))
        return hs_fail_nomem(err, SIZE_MAX, "scratch memory of the device");
    if (bytes > cpu->scratch_bytes) {
        char *grown = hs_alloc_aligned(bytes, 1);
        if (!grown)
            return hs_fail_nomem(err, bytes, "scratch memory of the device");
        hs_free(cpu->scratch);
        cpu->scratch = grown;
        cpu->scratch_bytes = bytes;
    }
    cpu->own_bytes = each;
    *out = (hs_cpu_space){.own = cpu->scratch, .each = each, .shared = cpu->scratch ? cpu->scratch + own : NULL};
    return HSTU_OK;
}

/* The best instruction set for this processor, or the one that HSTU_ISA names. */
static hstu_status choose_kernels(const hs_cpu_kernels **out, hstu_error *err)
{
    const char *wanted = getenv("HSTU_ISA");
    if (wanted && wanted[0] == '\0')
        wanted = NULL;
    const hs_cpu_kernels *best = NULL;
    for (int i = 0; hs_cpu_kernels_at(i); i++) {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(i);
        if (wanted && strcmp(wanted, k->isa) != 0)
            continue;
        if (wanted ? hs_cpu_can_run(i) : hs_cpu_gains(i))
            best = k;
        else if (wanted)
            return hs_fail(err, HSTU_EINVAL, 0, "HSTU_ISA is %s, which this processor cannot run", wanted);
    }
    if (!best)
        return hs_fail(err, HSTU_EINVAL, 0,
            "HSTU_ISA must be one of ref, avx2, avx512, avx512bf16, amx or neon, as far as this build has them, but is "
            "\"%s\"",
            wanted);
    *out = best;
    return HSTU_OK;
}

hstu_status hs_cpu_open(hs_device **out, int threads, hstu_error *err)
{
    if (threads < 0 || threads > MAX_THREADS)
        return hs_fail(err, HSTU_EINVAL, 0, "device cpu: the number of threads must be 0 to %d, but is %d",
            (int)MAX_THREADS, threads);
    const hs_cpu_kernels *kernels = NULL;
    HS_TRY(choose_kernels(&kernels, err));
    const int system = hs_system_cpus();
    const int n_threads = threads ? threads : (system < MAX_THREADS ? system : MAX_THREADS);
    hs_cpu *cpu = hs_calloc(1, sizeof *cpu);
    if (!cpu)
        return hs_fail_nomem(err, sizeof *cpu, "the device");
    const hstu_status status = hs_cpu_pool_open(&cpu->pool, n_threads, err);
    if (status != HSTU_OK) {
        hs_free(cpu);
        return status;
    }
    cpu->kernels = kernels;
    cpu->base = (hs_device){.table = &TABLE,
        .name = "cpu",
        .isa = kernels->isa,
        .n_threads = n_threads,
        .stores_bf16 = kernels->pairs != NULL};
    *out = &cpu->base;
    return HSTU_OK;
}

/* Packed weights fit one set of kernels. */
hstu_status hs_cpu_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err)
{
    hs_device *joined = NULL;
    HS_TRY(hs_cpu_open(&joined, threads, err));
    if (strcmp(joined->isa, dev->isa) != 0) {
        hs_fail(err, HSTU_EDEVICE, 0,
            "the model was opened for %s kernels, but a session opened now would use %s kernels", dev->isa,
            joined->isa);
        cpu_close(joined);
        return HSTU_EDEVICE;
    }
    *out = joined;
    return HSTU_OK;
}
