/* Opening and closing the NPU device, its weights, what it counts, and its graphs as files. */
#include "device/npu/npu_device.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "base/system.h"
#include "device/cpu/cpu.h"
#include "device/npu/npu_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- weights ---------------------------------------------------------------------------------------------------------- */

/* Graphs compute in the device's type, whatever the model's. */
static hstu_status npu_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype model_type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err)
{
    (void)model_type;
    const hs_dtype type = ((hs_npu *)dev)->root->compute;
    const size_t bytes = (size_t)in * (size_t)n * hs_dtype_bytes(type);
    hs_packed *p = hs_alloc(1, sizeof *p);
    void *data = hs_alloc_aligned(bytes, 1);
    if (!p || !data) {
        hs_free(p);
        hs_free(data);
        return hs_fail_nomem(err, bytes, "a weight");
    }
    float *single = data;
    uint16_t *half = data;
    for (int64_t i = 0; i < in; i++) {
        for (int64_t o = 0; o < n; o++) {
            const float value = w[i * stride_in + o * stride_out];
            if (type == HS_F16)
                half[i * n + o] = hs_f32_to_f16(value);
            else
                single[i * n + o] = value;
        }
    }
    *p = (hs_packed){.in = in, .n = n, .type = type, .data = data};
    *out = p;
    return HSTU_OK;
}

static void npu_pack_free(hs_packed *w)
{
    hs_free(w->data);
    hs_free(w);
}

static void npu_pack_size(const hs_packed *w, int64_t *in, int64_t *n)
{
    *in = w->in;
    *n = w->n;
}

/* ---- what stays on the host ------------------------------------------------------------------------------------------------ */

static void npu_parallel(hs_device *dev, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx)
{
    hs_device *cpu = ((hs_npu *)dev)->cpu;
    cpu->table->parallel(cpu, n, fn, ctx);
}

static hstu_status npu_time_bucket(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err)
{
    hs_device *cpu = ((hs_npu *)dev)->cpu;
    return cpu->table->time_bucket(cpu, a, err);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------- */

static void free_root(npu_root *root)
{
    hs_npu_free_plans(root);
    hs_ort_close(root->ort);
    (void)pthread_mutex_destroy(&root->lock);
    hs_free(root->name);
    hs_free(root->isa);
    hs_free(root);
}

static void leave_root(npu_root *root)
{
    (void)pthread_mutex_lock(&root->lock);
    const bool last = --root->n_lanes == 0;
    (void)pthread_mutex_unlock(&root->lock);
    if (last)
        free_root(root);
}

static void npu_close(hs_device *dev)
{
    hs_npu *npu = (hs_npu *)dev;
    hs_npu_free_instances(npu);
    hs_npu_search_free(npu->search);
    hs_npu_pass_free(&npu->pass);
    hs_device_close(npu->cpu);
    hs_device_close(npu->one);
    leave_root(npu->root);
    hs_free(npu);
}

static const hs_device_table TABLE = {
    .close = npu_close,
    .pack = npu_pack,
    .pack_free = npu_pack_free,
    .pack_size = npu_pack_size,
    .parallel = npu_parallel,
    .begin = hs_npu_begin,
    .show = hs_npu_record_show,
    .end = hs_npu_end,
    .embed = hs_npu_record_embed,
    .layer_norm = hs_npu_record_layer_norm,
    .norm_gate = hs_npu_record_norm_gate,
    .linear = hs_npu_record_linear,
    .kv_write = hs_npu_record_kv_write,
    .time_bucket = npu_time_bucket,
    .silu_attn = hs_npu_record_silu_attn,
    .softmax_attn = hs_npu_record_softmax_attn,
    .gather = hs_npu_record_gather,
    .l2_norm = hs_npu_record_l2_norm,
    .topk = hs_npu_topk,
};

/* "OpenVINOExecutionProvider 1.8.1 on onnxruntime 1.28.0 in fp16, avx512": the host computes embeddings and time buckets. */
static char *describe(const npu_root *root, const char *host)
{
    char text[256];
    hs_ort_info info = {.ort_version = "none"};
    if (root->ort)
        hs_ort_get_info(root->ort, &info);
    (void)snprintf(text, sizeof text, "%s %s on onnxruntime %s in %s, %s", info.provider ? info.provider : "onnx",
        info.provider_version ? info.provider_version : "", info.ort_version, hs_dtype_name(root->compute), host);
    return hs_strndup(text, strlen(text));
}

/* A lane of `root`, which it holds from now on, on failure too. */
static hstu_status open_lane(hs_device **out, npu_root *root, int threads, hstu_error *err)
{
    hs_npu *npu = hs_calloc(1, sizeof *npu);
    hstu_status status = HSTU_OK;
    if (!npu) {
        leave_root(root);
        return hs_fail_nomem(err, sizeof *npu, "the device");
    }
    npu->root = root;
    hs_arena_init(&npu->pass.lists, SIZE_MAX / 4);
    HS_TRY_GOTO(hs_cpu_open(&npu->cpu, threads, err));
    HS_TRY_GOTO(hs_cpu_open(&npu->one, 1, err));
    if (!root->isa)
        root->isa = describe(root, npu->cpu->isa);
    if (!root->isa) {
        status = hs_fail_nomem(err, 256, "the device");
        goto fail;
    }
    npu->base = (hs_device){.table = &TABLE,
        .name = root->name,
        .isa = root->isa,
        .n_threads = npu->cpu->n_threads,
        .pads = true,
        .records = true};
    *out = &npu->base;
    return HSTU_OK;
fail:
    npu_close(&npu->base);
    return status;
}

static hstu_status open_runtime(npu_root *root, const hs_device_options *o, hstu_error *err)
{
    if (strcmp(o->name, "onnx") == 0)
        return HSTU_OK;
    const hs_ort_choice choice = {.device = o->name,
        .library = o->ort_library,
        .provider_library = o->provider_library,
        .option = o->option,
        .n_options = o->n_options,
        .threads = o->threads ? o->threads : hs_system_cpus(),
        .as_onnx = o->as_onnx};
    return hs_ort_open(&root->ort, &choice, err);
}

hstu_status hs_npu_open(hs_device **out, const hs_device_options *o, hstu_error *err)
{
    if (o->max_graphs < 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "device %s: the number of graphs that are kept must be 0 (%d) or more, but "
            "is %" PRId64,
            o->name, (int)HS_NPU_MAX_GRAPHS, o->max_graphs);
    npu_root *root = hs_calloc(1, sizeof *root);
    if (!root)
        return hs_fail_nomem(err, sizeof *root, "the device");
    if (pthread_mutex_init(&root->lock, NULL) != 0) {
        hs_free(root);
        return hs_fail_nomem(err, sizeof *root, "the device");
    }
    root->n_lanes = 1;
    root->compute = o->compute;
    root->max_graphs = o->max_graphs ? o->max_graphs : HS_NPU_MAX_GRAPHS;
    root->name = hs_strndup(o->name, strlen(o->name));
    hstu_status status = root->name ? open_runtime(root, o, err) : hs_fail_nomem(err, strlen(o->name), "the device");
    if (status != HSTU_OK) {
        leave_root(root);
        return status;
    }
    return open_lane(out, root, o->threads, err);
}

hstu_status hs_npu_join(hs_device **out, const hs_device *dev, int threads, hstu_error *err)
{
    const hs_npu *npu = (const hs_npu *)dev;
    (void)pthread_mutex_lock(&npu->root->lock);
    npu->root->n_lanes++;
    (void)pthread_mutex_unlock(&npu->root->lock);
    return open_lane(out, npu->root, threads, err);
}

bool hs_npu_is(const hs_device *dev)
{
    return dev->table == &TABLE;
}

/* ---- what it has done ------------------------------------------------------------------------------------------------------------ */

void hs_npu_get_stats(const hs_device *dev, hs_npu_stats *stats)
{
    const hs_npu *npu = (const hs_npu *)dev;
    npu_root *root = npu->root;
    *stats = npu->stats;
    (void)pthread_mutex_lock(&root->lock);
    stats->n_graphs = root->n_plans;
    stats->n_compiled = root->n_compiled;
    stats->n_evicted = root->n_evicted;
    stats->compile_s = root->compile_s;
    stats->n_nodes = 0;
    for (const npu_plan *plan = root->plan; plan; plan = plan->next)
        stats->n_nodes += plan->n_nodes;
    (void)pthread_mutex_unlock(&root->lock);
}

void hs_npu_reset_stats(hs_device *dev)
{
    ((hs_npu *)dev)->stats = (hs_npu_stats){.n_runs = 0};
}

void hs_npu_get_info(const hs_device *dev, hs_ort_info *info)
{
    const hs_npu *npu = (const hs_npu *)dev;
    *info = (hs_ort_info){.ort_version = NULL};
    if (npu->root->ort)
        hs_ort_get_info(npu->root->ort, info);
}

hs_dtype hs_npu_compute(const hs_device *dev)
{
    return ((const hs_npu *)dev)->root->compute;
}

void hs_npu_compile_only(hs_device *dev, bool on)
{
    ((hs_npu *)dev)->compile_only = on;
}

/* ---- files --------------------------------------------------------------------------------------------------------------------------- */

void hs_npu_export(hs_device *dev, hs_outfile *file)
{
    ((hs_npu *)dev)->export_to = file;
}

hstu_status hs_npu_write_graph(const hs_npu *npu, const npu_plan *plan, hstu_error *err)
{
    static const char about[] =
        "embedding: rows of the item table (times sqrt(D)) plus positions, of each user's computed history, then its "
        "candidates, zeros where there are fewer; limit_*: the newest token that a row sees, -1 for padding; "
        "past_place, own_place: places of the tokens before and in the pass, 16777216 for padding; past_key_L [users, "
        "heads, dqk, tokens], past_value_L [users, heads, tokens, dv]: keys and values of layer L; key_L, value_L: "
        "those of the pass's own rows; newest: the row of each user's newest event; result: user embeddings, or logits";
    char layout[128];
    (void)snprintf(layout, sizeof layout,
        "users %" PRId64 ", history %" PRId64 ", candidates %" PRId64 ", past %" PRId64, plan->layout.users,
        plan->layout.history, plan->layout.candidates, plan->layout.past);
    const hs_onnx_metadata metadata[] = {{"hstu_about", about}, {"hstu_layout", layout}};
    return hs_onnx_write(npu->export_to, plan->graph, metadata, sizeof metadata / sizeof *metadata, err);
}
