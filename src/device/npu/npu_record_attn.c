/* Keys, values and attention become steps. */
#include "device/npu/npu_record.h"

#include "base/error.h"

#include <inttypes.h>
#include <string.h>

/* ---- keys and values ------------------------------------------------------------------------------------------------------ */

static void *copy_list(npu_pass *p, const void *list, int64_t n, size_t size)
{
    void *copy = hs_arena_alloc(&p->lists, (size_t)n, size);
    if (copy && list)
        memcpy(copy, list, (size_t)n * size);
    return copy;
}

/* The view with its lists copied: they are filled anew for each layer. */
static hstu_status copy_view(npu_pass *p, const hs_kv_view *kv, hs_kv_view *out, hstu_error *err)
{
    const int64_t users = p->rows.users.n_users;
    int64_t pages = 0;
    for (int64_t b = 0; b < users; b++) {
        const int64_t tokens = p->rows.past[b] + p->rows.users.offset[b + 1] - p->rows.users.offset[b];
        const int64_t end = tokens > 0 ? kv->first_page[b] + hs_kv_pages(&kv->shape, tokens) : 0;
        pages = end > pages ? end : pages;
    }
    out->shape = kv->shape;
    out->first_page = copy_list(p, kv->first_page, users, sizeof *kv->first_page);
    out->page = copy_list(p, kv->page, pages, sizeof *kv->page);
    out->stamp = kv->stamp;
    out->lasting = kv->lasting;
    return out->first_page && out->page ? HSTU_OK
                                        : hs_fail_nomem(err, (size_t)pages * sizeof *kv->page, "recording a pass");
}

/* Whether a page that the pass writes is read by a later one. */
static bool writes_lasting(const npu_pass *p, const hs_kv_view *kv)
{
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int64_t first = p->rows.past[b], n = p->rows.users.offset[b + 1] - p->rows.users.offset[b];
        const int64_t *page = &kv->first_page[b];
        for (int64_t i = first / kv->shape.page_tokens; n > 0 && i <= (first + n - 1) / kv->shape.page_tokens; i++) {
            if (!kv->lasting || kv->lasting[*page + i])
                return true;
        }
    }
    return false;
}

/* Rows that the pass computes go behind those that were there. */
static bool continues(const npu_pass *p, const hs_kv_write_args *a)
{
    bool same = a->users.n_users == p->rows.users.n_users;
    for (int64_t b = 0; same && b < a->users.n_users; b++)
        same = (a->position ? a->position[b] : 0) == p->rows.past[b] &&
               a->users.offset[b + 1] == p->rows.users.offset[b + 1] &&
               (!a->n_rows || a->n_rows[b] == a->users.offset[b + 1] - a->users.offset[b]);
    return same;
}

hstu_status hs_npu_record_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->k.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_KV_WRITE, &step, err));
    HS_TRY(NPU_GROW(p, kv_write, n_kv_writes, most_kv_writes, err));
    if (!continues(p, a))
        return hs_fail(err, HSTU_EDEVICE, 0, "a recording device stores the history rows of its pass and no others");
    npu_kv_write w = {.lasting = writes_lasting(p, &a->kv)};
    HS_TRY(copy_view(p, &a->kv, &w.kv, err));
    HS_TRY(hs_npu_look_up(p, &a->k, &step.in[IN_K], err));
    HS_TRY(hs_npu_look_up(p, &a->v, &step.in[IN_V], err));
    step.number[NUM_HEADS] = a->kv.shape.n_heads;
    step.number[NUM_DQK] = a->kv.shape.dqk;
    step.number[NUM_DV] = a->kv.shape.dv;
    step.number[NUM_KV] = p->n_kv_writes;
    step.number[NUM_BIAS] = w.lasting;
    p->kv_write[p->n_kv_writes++] = w;
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------------------------------- */

/* The keys and values that the pass's own history tokens have in these pages. */
static hstu_status find_own(const npu_pass *p, const hs_kv_view *kv, npu_step *step, hstu_error *err)
{
    step->number[NUM_KV] = -1;
    if (hs_npu_history_rows(p) == 0)
        return HSTU_OK;
    for (int64_t i = p->n_steps; i-- > 0;) {
        const npu_step *s = &p->step[i];
        if (s->op != NPU_KV_WRITE)
            continue;
        const hs_kv_view *written = &p->kv_write[s->number[NUM_KV]].kv;
        for (int64_t b = 0; b < p->rows.users.n_users; b++) {
            const int64_t past = p->rows.past[b], n = p->rows.users.offset[b + 1] - p->rows.users.offset[b];
            const int64_t page = past / kv->shape.page_tokens;
            if (n > 0 && kv->page[kv->first_page[b] + page] != written->page[written->first_page[b] + page])
                return hs_fail(err, HSTU_EDEVICE, 0, "a recording device's attention must read what was stored last");
        }
        step->in[IN_K] = s->in[IN_K];
        step->in[IN_V] = s->in[IN_V];
        step->number[NUM_KV] = s->number[NUM_KV];
        return HSTU_OK;
    }
    return hs_fail(err, HSTU_EDEVICE, 0, "a recording device's attention found no keys and values of its pass");
}

/* Layers of a model share their buckets. */
static hstu_status note_bias(
    npu_pass *p, const hs_rel_bias *bias, npu_rows rows, int64_t padded_n, int64_t *place, hstu_error *err)
{
    for (*place = 0; *place < p->n_biases; ++*place) {
        const npu_bias *b = &p->bias[*place];
        if (b->bucket == bias->bucket && b->offset == bias->bucket_offset && b->rows == rows)
            return HSTU_OK;
    }
    HS_TRY(NPU_GROW(p, bias, n_biases, most_biases, err));
    p->bias[p->n_biases++] = (npu_bias){.bucket = bias->bucket,
        .offset = bias->bucket_offset,
        .cols = bias->bucket_cols,
        .rows = rows,
        .n = bias->n,
        .padded_n = padded_n};
    return HSTU_OK;
}

/* Inputs of one pass serve all its layers. */
static hstu_status check_layers(const npu_pass *p, const hs_kv_shape *s, const int64_t *n_context,
    const hs_rel_bias *bias, int64_t padded_n, hstu_error *err)
{
    const hs_kv_shape *first = p->n_attns > 0 ? &p->attn[0].kv.shape : s;
    if (first->n_heads == s->n_heads && first->dqk == s->dqk && first->dv == s->dv &&
        (p->n_attns == 0 || p->attn[0].n_context == n_context) &&
        (!bias || p->n_biases == 0 || (p->bias[0].n == bias->n && p->bias[0].padded_n == padded_n)))
        return HSTU_OK;
    return hs_fail(err, HSTU_EDEVICE, 0, "a recording device wants layers of one shape in a pass");
}

/* What both attentions have in common; q is read already. */
static hstu_status fill_attn(npu_pass *p, npu_step *step, const hs_kv_view *kv, const hs_rel_bias *bias,
    int64_t padded_n, const int64_t *n_context, hstu_error *err)
{
    HS_TRY(NPU_GROW(p, attn, n_attns, most_attns, err));
    npu_attn attn = {.n_context = n_context};
    HS_TRY(check_layers(p, &kv->shape, n_context, bias, padded_n, err));
    HS_TRY(copy_view(p, kv, &attn.kv, err));
    HS_TRY(find_own(p, kv, step, err));
    step->number[NUM_HEADS] = kv->shape.n_heads;
    step->number[NUM_DQK] = kv->shape.dqk;
    step->number[NUM_DV] = kv->shape.dv;
    step->number[NUM_BIAS] = -1;
    step->number[NUM_CONTEXT] = padded_n;
    if (bias) {
        HS_TRY(note_bias(p, bias, (npu_rows)step->in[IN_Q].rows, padded_n, &step->number[NUM_BIAS], err));
        step->number[NUM_BIAS_N] = bias->n;
        step->number[NUM_BUCKETS] = bias->n_buckets;
        step->pointer[PTR_POSITION_W] = bias->position_w;
        step->pointer[PTR_TIME_W] = bias->time_w;
    }
    p->attn[p->n_attns++] = attn;
    return HSTU_OK;
}

/* Other rows of the same columns. */
static bool is_beside(const npu_ref *a, const npu_ref *b)
{
    return a->value == b->value && a->col == b->col && a->cols == b->cols;
}

hstu_status hs_npu_record_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->q.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_SILU_ATTN, &step, err));
    HS_TRY(hs_npu_look_up(p, &a->q, &step.in[IN_Q], err));
    HS_TRY(fill_attn(p, &step, &a->kv, a->bias, 0, a->n_context, err));
    if (a->own_k.rows > 0) { /* of the same values as the history's, where both are in the pass */
        npu_ref k, v;
        HS_TRY(hs_npu_look_up(p, &a->own_k, &k, err));
        HS_TRY(hs_npu_look_up(p, &a->own_v, &v, err));
        if (step.in[IN_K].value >= 0 && !(is_beside(&step.in[IN_K], &k) && is_beside(&step.in[IN_V], &v)))
            return hs_fail(err, HSTU_EDEVICE, 0, "a recording device wants candidates' keys behind the history's");
        step.in[IN_K] = k;
        step.in[IN_V] = v;
    }
    step.real[0] = (double)a->alpha;
    step.real[1] = (double)a->inv_n;
    HS_TRY(hs_npu_write_to(p, &a->out, step.in[IN_Q].rows, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->q.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_SOFTMAX_ATTN, &step, err));
    if (hs_npu_candidate_rows(p) > 0 || (a->padded_n > 0 && p->layout.past > 0))
        return hs_fail(err, HSTU_EDEVICE, 0,
            "a recording device's softmax attention takes no candidates, and nothing "
            "from before where it counts padding");
    HS_TRY(hs_npu_look_up(p, &a->q, &step.in[IN_Q], err));
    HS_TRY(fill_attn(p, &step, &a->kv, a->bias, a->padded_n, NULL, err));
    step.real[0] = (double)a->scale;
    HS_TRY(hs_npu_write_to(p, &a->out, step.in[IN_Q].rows, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}
