/* Operations become steps: what decides over a graph's nodes goes into the step, what changes from pass to pass beside it. A
 * matrix is known by where the pass believes it to lie. */
#include "device/npu/npu_int.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static npu_pass *pass_of(hs_device *dev)
{
    return &((hs_npu *)dev)->pass;
}

/* Room for one more in a list of the pass. */
static hstu_status grow(void **list, int64_t n, int64_t *most, size_t size, hstu_error *err)
{
    if (n < *most)
        return HSTU_OK;
    const int64_t more = *most ? 2 * *most : 32;
    void *grown = hs_realloc(*list, (size_t)more, size);
    if (!grown)
        return hs_fail_nomem(err, (size_t)more * size, "recording a pass");
    *list = grown;
    *most = more;
    return HSTU_OK;
}

#define GROW(p, list, n, most, err) grow((void **)&(p)->list, (p)->n, &(p)->most, sizeof *(p)->list, err)

void hs_npu_pass_free(npu_pass *p)
{
    hs_free(p->step);
    hs_free(p->embed);
    hs_free(p->kv_write);
    hs_free(p->attn);
    hs_free(p->bias);
    hs_free(p->show);
    hs_free(p->written);
    hs_arena_free(&p->lists);
}

/* ---- the pass ------------------------------------------------------------------------------------------------------ */

/* The largest of n counts. */
static int64_t most_of(const int64_t *count, int64_t n)
{
    int64_t most = 0;
    for (int64_t i = 0; count && i < n; i++)
        most = count[i] > most ? count[i] : most;
    return most;
}

static int64_t longest(const int64_t *offset, int64_t n)
{
    int64_t most = 0;
    for (int64_t i = 0; offset && i < n; i++)
        most = offset[i + 1] - offset[i] > most ? offset[i + 1] - offset[i] : most;
    return most;
}

/* Users are few: the ladder for them doubles. */
static int64_t pad_users(int64_t n)
{
    int64_t users = 1;
    while (users < n)
        users *= 2;
    return users;
}

/* Places of tokens and of rows are 32-bit numbers in a graph. */
static hstu_status check_layout(const npu_layout *l, hstu_error *err)
{
    if (l->past + l->history < NPU_FAR_AWAY && l->users <= INT32_MAX / (l->history + l->candidates + 1))
        return HSTU_OK;
    return hs_fail(err, HSTU_EDEVICE, 0,
        "a pass of %" PRId64 " users, %" PRId64 " tokens, %" PRId64 " before them and %" PRId64
        " candidates each is too large for a graph",
        l->users, l->history, l->past, l->candidates);
}

hstu_status hs_npu_begin(hs_device *dev, const hs_pass_rows *rows, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    const int64_t n = rows->users.n_users;
    p->open = false;
    p->n_steps = p->n_embeds = p->n_kv_writes = p->n_attns = p->n_biases = p->n_shows = p->n_written = p->n_values = 0;
    p->result = (hs_mat){.data = NULL};
    hs_arena_reset(&p->lists);
    int64_t *none = hs_arena_alloc(&p->lists, (size_t)n + 1, sizeof *none);
    if (!none)
        return hs_fail_nomem(err, ((size_t)n + 1) * sizeof *none, "recording a pass");
    memset(none, 0, ((size_t)n + 1) * sizeof *none);
    p->rows = *rows;
    p->none = none;
    if (!rows->past)
        p->rows.past = none;
    if (!rows->candidates)
        p->rows.candidates = none;
    p->layout = (npu_layout){.users = pad_users(n),
        .history = hs_device_bucket(longest(rows->users.offset, n)),
        .candidates = hs_device_bucket(longest(rows->candidates, n)),
        .past = hs_device_bucket(most_of(rows->past, n))};
    HS_TRY(check_layout(&p->layout, err));
    p->open = true;
    return HSTU_OK;
}

static int64_t n_history(const npu_pass *p)
{
    return p->rows.users.offset[p->rows.users.n_users];
}

static int64_t n_candidates(const npu_pass *p)
{
    return p->rows.candidates[p->rows.users.n_users];
}

/* Rows of a pass's matrix, before padding. */
static int64_t count_rows(const npu_pass *p, int64_t rows)
{
    const int64_t n[NPU_N_ROWS] = {
        n_history(p) + n_candidates(p), n_history(p), n_candidates(p), p->rows.users.n_users};
    return n[rows];
}

/* ---- matrices -------------------------------------------------------------------------------------------------------- */

static hstu_status fail_read(const hs_mat *m, const char *why, hstu_error *err)
{
    return hs_fail(err, HSTU_EDEVICE, 0,
        "a recording device cannot read a matrix of %" PRId64 " rows and %" PRId64 " columns: %s", m->rows, m->cols,
        why);
}

/* Whether two matrices' ranges of memory meet. */
static bool meet(const hs_mat *a, const hs_mat *b)
{
    if (a->rows == 0 || b->rows == 0)
        return false;
    const uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    const uintptr_t a1 = a0 + ((uintptr_t)((a->rows - 1) * a->ld + a->cols)) * sizeof(float);
    const uintptr_t b1 = b0 + ((uintptr_t)((b->rows - 1) * b->ld + b->cols)) * sizeof(float);
    return a0 < b1 && b0 < a1;
}

/* The part of `w` that m is. */
static hstu_status find_part(const npu_pass *p, const npu_written *w, const hs_mat *m, npu_ref *out, hstu_error *err)
{
    const int64_t away = m->data - w->m.data, row = away / w->m.ld, col = away % w->m.ld;
    if (away < 0 || (m->rows > 1 && m->ld != w->m.ld) || row + m->rows > w->m.rows || col + m->cols > w->m.cols)
        return fail_read(m, "only a part of it has been written", err);
    *out = (npu_ref){.value = w->value, .rows = w->rows, .col = col, .cols = m->cols};
    if (row == 0 && m->rows == w->m.rows)
        return HSTU_OK;
    if (w->rows == NPU_TOKENS && row == 0 && m->rows == n_history(p))
        out->rows = NPU_HISTORY;
    else if (w->rows == NPU_TOKENS && row == n_history(p) && m->rows == n_candidates(p))
        out->rows = NPU_CANDIDATES;
    else
        return fail_read(m, "it is neither a pass's history nor its candidates", err);
    return HSTU_OK;
}

static hstu_status look_up(const npu_pass *p, const hs_mat *m, npu_ref *out, hstu_error *err)
{
    for (int64_t i = p->n_written; i-- > 0;) {
        if (meet(&p->written[i].m, m))
            return find_part(p, &p->written[i], m, out, err);
    }
    return fail_read(m, "nothing of the pass has been written there", err);
}

/* The step's value lies at m from now on. */
static hstu_status write_to(npu_pass *p, const hs_mat *m, int64_t rows, npu_step *step, hstu_error *err)
{
    HS_TRY(GROW(p, written, n_written, most_written, err));
    step->out = p->n_values++;
    step->rows = rows;
    step->cols = m->cols;
    p->written[p->n_written++] = (npu_written){.m = *m, .value = step->out, .rows = rows};
    if (m->rows == count_rows(p, rows))
        return HSTU_OK;
    return hs_fail(err, HSTU_EDEVICE, 0, "a recording device expected a matrix of %" PRId64 " rows, found %" PRId64,
        count_rows(p, rows), m->rows);
}

static hstu_status fail_closed(hstu_error *err)
{
    return hs_fail(err, HSTU_EDEVICE, 0, "a recording device got an operation outside a pass");
}

static hstu_status new_step(npu_pass *p, npu_op op, npu_step *step, hstu_error *err)
{
    if (!p->open)
        return fail_closed(err);
    memset(step, 0, sizeof *step);
    step->op = (int64_t)op;
    step->out = -1;
    for (int i = 0; i < NPU_STEP_INPUTS; i++)
        step->in[i].value = -1;
    return GROW(p, step, n_steps, most_steps, err);
}

static void add_step(npu_pass *p, const npu_step *step)
{
    p->step[p->n_steps++] = *step;
}

/* ---- operations on rows ------------------------------------------------------------------------------------------------ */

hstu_status hs_npu_record_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err)
{
    hs_npu *npu = (hs_npu *)dev;
    npu_pass *p = &npu->pass;
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_EMBED, &step, err));
    HS_TRY(GROW(p, embed, n_embeds, most_embeds, err));
    for (int64_t i = 0; i < p->n_embeds; i++) {
        if (meet(&p->embed[i].x, &a->out))
            return hs_fail(err, HSTU_EDEVICE, 0, "a recording device keeps embedded rows where they are until the end");
    }
    HS_TRY(npu->one->table->embed(npu->one, a, err));
    step.number[0] = p->n_embeds;
    p->embed[p->n_embeds++] = (npu_embed){.x = a->out};
    HS_TRY(write_to(p, &a->out, npu_all_rows(&p->layout), &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_LAYER_NORM, &step, err));
    HS_TRY(look_up(p, &a->x, &step.in[IN_X], err));
    if (a->add.data)
        HS_TRY(look_up(p, &a->add, &step.in[IN_ADD], err));
    step.pointer[PTR_WEIGHT] = a->weight;
    step.pointer[PTR_BIAS] = a->bias;
    step.real[0] = (double)a->eps;
    HS_TRY(write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_NORM_GATE, &step, err));
    HS_TRY(look_up(p, &a->o, &step.in[IN_X], err));
    HS_TRY(look_up(p, &a->u, &step.in[IN_U], err));
    step.pointer[PTR_WEIGHT] = a->weight;
    step.pointer[PTR_BIAS] = a->bias;
    step.real[0] = (double)a->eps;
    step.number[0] = a->concat;
    HS_TRY(write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

/* Reads of all layers come before the first write: one may write where it reads its residual. */
hstu_status hs_npu_record_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    for (int64_t i = 0; i < n; i++) {
        npu_step step;
        if (a[i].out.rows == 0)
            continue;
        HS_TRY(new_step(p, NPU_LINEAR, &step, err));
        HS_TRY(look_up(p, &a[i].x, &step.in[IN_X], err));
        if (a[i].residual.data)
            HS_TRY(look_up(p, &a[i].residual, &step.in[IN_RESIDUAL], err));
        step.pointer[PTR_WEIGHT] = a[i].w;
        step.pointer[PTR_BIAS] = a[i].bias;
        step.number[0] = (int64_t)a[i].act;
        HS_TRY(write_to(p, &a[i].out, step.in[IN_X].rows, &step, err));
        add_step(p, &step);
    }
    return HSTU_OK;
}

/* The one gather of a pass: each user's newest history row. */
hstu_status hs_npu_record_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_NEWEST, &step, err));
    bool newest = a->out.rows == p->rows.users.n_users && a->x.rows == n_history(p);
    for (int64_t b = 0; newest && b < a->out.rows; b++)
        newest = a->row[b] >= p->rows.users.offset[b] && a->row[b] == p->rows.users.offset[b + 1] - 1;
    if (!newest)
        return hs_fail(err, HSTU_EDEVICE, 0, "a recording device gathers each user's newest row and no others");
    HS_TRY(look_up(p, &a->x, &step.in[IN_X], err));
    HS_TRY(write_to(p, &a->out, NPU_USERS, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_L2_NORM, &step, err));
    HS_TRY(look_up(p, &a->x, &step.in[IN_X], err));
    step.real[0] = (double)a->eps;
    HS_TRY(write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

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
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->k.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_KV_WRITE, &step, err));
    HS_TRY(GROW(p, kv_write, n_kv_writes, most_kv_writes, err));
    if (!continues(p, a))
        return hs_fail(err, HSTU_EDEVICE, 0, "a recording device stores the history rows of its pass and no others");
    npu_kv_write w = {.lasting = writes_lasting(p, &a->kv)};
    HS_TRY(copy_view(p, &a->kv, &w.kv, err));
    HS_TRY(look_up(p, &a->k, &step.in[IN_K], err));
    HS_TRY(look_up(p, &a->v, &step.in[IN_V], err));
    step.number[NUM_HEADS] = a->kv.shape.n_heads;
    step.number[NUM_DQK] = a->kv.shape.dqk;
    step.number[NUM_DV] = a->kv.shape.dv;
    step.number[NUM_KV] = p->n_kv_writes;
    step.number[NUM_BIAS] = w.lasting;
    p->kv_write[p->n_kv_writes++] = w;
    add_step(p, &step);
    return HSTU_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------------------------------- */

/* The keys and values that the pass's own history tokens have in these pages. */
static hstu_status find_own(const npu_pass *p, const hs_kv_view *kv, npu_step *step, hstu_error *err)
{
    step->number[NUM_KV] = -1;
    if (n_history(p) == 0)
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
    HS_TRY(GROW(p, bias, n_biases, most_biases, err));
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
    HS_TRY(GROW(p, attn, n_attns, most_attns, err));
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
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->q.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_SILU_ATTN, &step, err));
    HS_TRY(look_up(p, &a->q, &step.in[IN_Q], err));
    HS_TRY(fill_attn(p, &step, &a->kv, a->bias, 0, a->n_context, err));
    if (a->own_k.rows > 0) { /* of the same values as the history's, where both are in the pass */
        npu_ref k, v;
        HS_TRY(look_up(p, &a->own_k, &k, err));
        HS_TRY(look_up(p, &a->own_v, &v, err));
        if (step.in[IN_K].value >= 0 && !(is_beside(&step.in[IN_K], &k) && is_beside(&step.in[IN_V], &v)))
            return hs_fail(err, HSTU_EDEVICE, 0, "a recording device wants candidates' keys behind the history's");
        step.in[IN_K] = k;
        step.in[IN_V] = v;
    }
    step.real[0] = (double)a->alpha;
    step.real[1] = (double)a->inv_n;
    HS_TRY(write_to(p, &a->out, step.in[IN_Q].rows, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->q.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_SOFTMAX_ATTN, &step, err));
    if (n_candidates(p) > 0 || (a->padded_n > 0 && p->layout.past > 0))
        return hs_fail(err, HSTU_EDEVICE, 0,
            "a recording device's softmax attention takes no candidates, and nothing "
            "from before where it counts padding");
    HS_TRY(look_up(p, &a->q, &step.in[IN_Q], err));
    HS_TRY(fill_attn(p, &step, &a->kv, a->bias, a->padded_n, NULL, err));
    step.real[0] = (double)a->scale;
    HS_TRY(write_to(p, &a->out, step.in[IN_Q].rows, &step, err));
    add_step(p, &step);
    return HSTU_OK;
}

/* ---- results --------------------------------------------------------------------------------------------------------------------- */

hstu_status hs_npu_record_show(hs_device *dev, const hs_show_args *a, hstu_error *err)
{
    npu_pass *p = pass_of(dev);
    npu_step step;
    if (a->m.rows == 0)
        return HSTU_OK;
    HS_TRY(new_step(p, NPU_SHOW, &step, err));
    HS_TRY(GROW(p, show, n_shows, most_shows, err));
    HS_TRY(look_up(p, &a->m, &step.in[IN_X], err));
    step.number[0] = p->n_shows;
    npu_show *s = &p->show[p->n_shows++];
    *s = (npu_show){.args = *a};
    (void)snprintf(s->name, sizeof s->name, "%s", a->name);
    add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_end(hs_device *dev, hs_mat result, hstu_error *err)
{
    hs_npu *npu = (hs_npu *)dev;
    npu_pass *p = &npu->pass;
    npu_instance *instance = NULL;
    npu_step step;
    if (result.data && result.rows > 0) {
        HS_TRY(new_step(p, NPU_RESULT, &step, err));
        HS_TRY(look_up(p, &result, &step.in[IN_X], err));
        add_step(p, &step);
        p->result = result;
    }
    if (!p->open)
        return fail_closed(err);
    p->open = false;
    if (p->n_steps == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_find_instance(npu, &instance, err));
    return hs_npu_run(npu, instance, err);
}
