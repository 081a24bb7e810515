/* A hash over all that decides which bits a model answers with: keys and values of one are worthless to another. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"
#include "device/npu/npu_device.h"

#include <string.h>
#include <xxhash.h>

static void add(XXH3_state_t *state, const void *data, size_t n)
{
    (void)XXH3_128bits_update(state, data, n);
}

/* With its end: neighbours cannot trade letters. */
static void add_text(XXH3_state_t *state, const char *text)
{
    add(state, text, strlen(text) + 1);
}

static void add_int(XXH3_state_t *state, int64_t x)
{
    add(state, &x, sizeof x);
}

static hstu_status add_tensor(XXH3_state_t *state, const hs_entry *e, hstu_error *err)
{
    const hs_tensor *t = &e->tensor;
    const size_t n = (size_t)hs_tensor_elements(t);
    add_text(state, hs_family_peel(e->name));
    add_int(state, (int64_t)t->dtype);
    add_int(state, t->rank);
    add(state, t->shape, (size_t)t->rank * sizeof *t->shape);
    if (hs_tensor_contiguous(t)) {
        if (n > 0)
            add(state, t->data, n * hs_dtype_bytes(t->dtype));
        return HSTU_OK;
    }
    float *values = hs_alloc(n, sizeof *values);
    if (!values)
        return hs_fail_nomem(err, n * sizeof *values, e->name);
    hs_tensor_to_f32(t, values);
    add(state, values, n * sizeof *values);
    hs_free(values);
    return HSTU_OK;
}

static void add_table(XXH3_state_t *state, const hs_table *t)
{
    const size_t row = (size_t)t->dim * hs_dtype_bytes(t->type);
    add_int(state, t->dynamic);
    add_int(state, (int64_t)t->type);
    for (size_t i = 0; i < t->n_parts; i++) {
        const hs_table_part *p = &t->part[i];
        add_int(state, (int64_t)p->n_rows);
        if (p->n_rows > 0 && p->keys)
            add(state, p->keys, (size_t)p->n_rows * sizeof(int64_t));
        if (p->n_rows > 0)
            add(state, p->values, (size_t)p->n_rows * row);
    }
}

/* Dense weights by their tensors, tables by their rows, or the seed that both were made from. */
static hstu_status add_weights(XXH3_state_t *state, const hstu_model *m, hstu_error *err)
{
    const hs_config *c = &m->model.config;
    int table = 0;
    if (m->random_weights) {
        add_int(state, (int64_t)m->random.seed);
        add_int(state, m->random.n_items);
        add_int(state, m->random.n_users);
        return HSTU_OK;
    }
    for (size_t i = 0; i < m->dict.n_entries; i++) {
        const hs_entry *e = &m->dict.entry[i];
        if (strcmp(e->group, m->recognised.group) != 0)
            continue;
        if (c->family == HS_CONFIG_RANKING && hs_table_tensor_of(c, hs_family_peel(e->name), &table) != HS_TABLE_NONE)
            continue;
        HS_TRY(add_tensor(state, e, err));
    }
    for (int i = 0; m->model.table && i < c->n_tables; i++)
        add_table(state, &m->model.table[i]);
    return HSTU_OK;
}

/* A provider's options may change its arithmetic. */
static void add_options(XXH3_state_t *state, const hs_device *dev)
{
    hs_ort_info info;
    if (!hs_npu_is(dev))
        return;
    hs_npu_get_info(dev, &info);
    add_int(state, info.as_onnx);
    for (size_t i = 0; i < info.n_options; i++) {
        add_text(state, info.key[i]);
        add_text(state, info.option[i]);
    }
}

hstu_status hs_engine_fingerprint(const hstu_model *model, unsigned char out[HS_FINGERPRINT_BYTES], hstu_error *err)
{
    const hs_model *m = &model->model;
    XXH3_state_t *state = XXH3_createState();
    char *config = hs_config_to_json(&m->config);
    hstu_status status = HSTU_OK;
    if (!state || !config) {
        status = hs_fail_nomem(err, 1024, "the model's fingerprint");
        goto fail;
    }
    (void)XXH3_128bits_reset(state);
    add_text(state, hstu_version());
    add_text(state, model->dev->name);
    add_text(state, model->dev->isa);
    add_options(state, model->dev);
    add_text(state, config);
    add_int(state, m->bf16);
    add_int(state, (int64_t)m->kv_type);
    add_int(state, model->random_weights);
    if (m->config.family == HS_CONFIG_DECODER) /* its positions are computed, by the system's sine and cosine */
        add(state, m->weight.position,
            (size_t)(m->config.max_position_embeddings * m->config.item_embedding_dim) * sizeof *m->weight.position);
    HS_TRY_GOTO(add_weights(state, model, err));
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    _Static_assert(sizeof canonical.digest == HS_FINGERPRINT_BYTES, "a fingerprint is 128 bits");
    memcpy(out, canonical.digest, HS_FINGERPRINT_BYTES);
fail:
    (void)XXH3_freeState(state);
    hs_free(config);
    return status;
}
