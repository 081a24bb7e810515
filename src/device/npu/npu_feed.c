/* One run of a compiled pass: inputs from the pass's own lists, then outputs to matrices, pages and stages. */
#include "device/npu/npu_int.h"

#include "base/clock.h"
#include "base/error.h"

#include <string.h>

static int64_t own_rows(const npu_pass *p, int64_t user)
{
    return p->rows.users.offset[user + 1] - p->rows.users.offset[user];
}

static int64_t own_candidates(const npu_pass *p, int64_t user)
{
    return p->rows.candidates[user + 1] - p->rows.candidates[user];
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

/* A run of rows: from where they lie in a matrix of the pass to where they lie in a graph. */
typedef struct run_of_rows {
    int64_t pass, graph, n;
} run_of_rows;

/* The one or two runs of a user's rows. */
static int runs_of(const npu_pass *p, npu_rows rows, int64_t user, run_of_rows run[2])
{
    const npu_layout *l = &p->layout;
    const int64_t graph = user * npu_user_rows(l, rows);
    const int64_t n_history = p->rows.users.offset[p->rows.users.n_users];
    const run_of_rows history = {.pass = p->rows.users.offset[user], .graph = graph, .n = own_rows(p, user)};
    run_of_rows candidates = {.pass = p->rows.candidates[user], .graph = graph, .n = own_candidates(p, user)};
    switch (rows) {
    case NPU_HISTORY:
        run[0] = history;
        return 1;
    case NPU_CANDIDATES:
        run[0] = candidates;
        return 1;
    case NPU_TOKENS:
        candidates.pass += n_history;
        candidates.graph += l->history;
        run[0] = history;
        run[1] = candidates;
        return 2;
    default:
        run[0] = (run_of_rows){.pass = user, .graph = graph, .n = 1};
        return 1;
    }
}

/* The pass's rows into a buffer [users * rows, cols], zeros where there are none. */
static void put_rows(const npu_pass *p, npu_rows rows, const hs_mat *m, float *buffer)
{
    const int64_t per_user = npu_user_rows(&p->layout, rows);
    const size_t row = (size_t)m->cols * sizeof *buffer;
    int64_t end = 0;
    run_of_rows run[2];
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int n = runs_of(p, rows, b, run);
        for (int i = 0; i < n; i++) {
            memset(buffer + end * m->cols, 0, (size_t)(run[i].graph - end) * row);
            for (int64_t r = 0; r < run[i].n; r++)
                memcpy(buffer + (run[i].graph + r) * m->cols, m->data + (run[i].pass + r) * m->ld, row);
            end = run[i].graph + run[i].n;
        }
    }
    memset(buffer + end * m->cols, 0, (size_t)(p->layout.users * per_user - end) * row);
}

static void take_rows(const npu_pass *p, npu_rows rows, const float *buffer, const hs_mat *m)
{
    run_of_rows run[2];
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int n = runs_of(p, rows, b, run);
        for (int i = 0; i < n; i++) {
            for (int64_t r = 0; r < run[i].n; r++)
                memcpy(m->data + (run[i].pass + r) * m->ld, buffer + (run[i].graph + r) * m->cols,
                    (size_t)m->cols * sizeof *buffer);
        }
    }
}

/* ---- inputs --------------------------------------------------------------------------------------------------------------- */

static void fill_newest(const npu_pass *p, int32_t *out)
{
    for (int64_t b = 0; b < p->layout.users; b++) {
        const int64_t n = b < p->rows.users.n_users ? own_rows(p, b) : 0;
        out[b] = (int32_t)(b * p->layout.history + (n > 0 ? n - 1 : 0));
    }
}

/* The newest token that each row sees: its own, or all where it is a candidate, or contextual, or its user's newest. */
static void fill_limit(const npu_pass *p, npu_rows rows, int32_t *out)
{
    const int64_t per_user = npu_user_rows(&p->layout, rows);
    const int64_t *n_context = p->n_attns > 0 ? p->attn[0].n_context : NULL;
    run_of_rows run[2];
    for (int64_t i = 0; i < p->layout.users * per_user; i++)
        out[i] = -1;
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int64_t last = p->rows.past[b] + own_rows(p, b) - 1;
        const int n = runs_of(p, rows, b, run);
        for (int i = 0; i < n; i++) {
            const bool history = rows == NPU_HISTORY || (rows == NPU_TOKENS && i == 0);
            for (int64_t r = 0; r < run[i].n; r++) {
                const int64_t token = p->rows.past[b] + r;
                const bool all = !history || (n_context && token < n_context[b]);
                out[run[i].graph + r] = (int32_t)(all ? last : token);
            }
        }
    }
}

/* The token of each row; 0 for padding, which is masked. */
static void fill_place(const npu_pass *p, npu_rows rows, int32_t *out)
{
    const int64_t per_user = npu_user_rows(&p->layout, rows);
    memset(out, 0, (size_t)(p->layout.users * per_user) * sizeof *out);
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int64_t n = own_rows(p, b), first = rows == NPU_USERS ? n - 1 : 0;
        for (int64_t r = first; r < n; r++)
            out[b * per_user + r - first] = (int32_t)(p->rows.past[b] + r);
    }
}

static void fill_past_places(const npu_pass *p, int32_t *out)
{
    for (int64_t b = 0; b < p->layout.users; b++) {
        const int64_t n = b < p->rows.users.n_users ? p->rows.past[b] : 0;
        for (int64_t j = 0; j < p->layout.past; j++)
            out[b * p->layout.past + j] = j < n ? (int32_t)j : NPU_FAR_AWAY;
    }
}

static void fill_own_places(const npu_pass *p, int32_t *out)
{
    for (int64_t b = 0; b < p->layout.users; b++) {
        const int64_t n = b < p->rows.users.n_users ? own_rows(p, b) : 0;
        for (int64_t r = 0; r < p->layout.history; r++)
            out[b * p->layout.history + r] = r < n ? (int32_t)(p->rows.past[b] + r) : NPU_FAR_AWAY;
    }
}

/* Columns in the graph: those from before the pass, padded, then the pass's own; or padded_n of them. */
static void fill_buckets(const npu_pass *p, const npu_bias *bias, uint8_t *out)
{
    const npu_layout *l = &p->layout;
    const int64_t rows = npu_user_rows(l, bias->rows), cols = bias->padded_n ? bias->padded_n : l->past + l->history;
    memset(out, 0, (size_t)(l->users * rows * cols));
    for (int64_t b = 0; b < p->rows.users.n_users; b++) {
        const int64_t past = p->rows.past[b], n = own_rows(p, b);
        const int64_t here = bias->rows == NPU_USERS ? 1 : n;
        for (int64_t r = 0; r < here; r++) {
            const uint8_t *from = bias->bucket + bias->offset[b] + r * bias->cols[b];
            uint8_t *to = out + (b * rows + r) * cols;
            if (bias->padded_n) {
                memcpy(to, from, (size_t)cols);
                continue;
            }
            memcpy(to, from, (size_t)past);
            memcpy(to + l->past, from + past, (size_t)n);
        }
    }
}

static void fill_input(const npu_pass *p, const npu_feed *f, void *out)
{
    switch (f->kind) {
    case NPU_FEED_X:
        put_rows(p, npu_all_rows(&p->layout), &p->embed[f->index].x, out);
        break;
    case NPU_FEED_NEWEST:
        fill_newest(p, out);
        break;
    case NPU_FEED_LIMIT:
        fill_limit(p, (npu_rows)f->index, out);
        break;
    case NPU_FEED_PLACE:
        fill_place(p, (npu_rows)f->index, out);
        break;
    case NPU_FEED_PAST:
        fill_past_places(p, out);
        break;
    case NPU_FEED_OWN:
        fill_own_places(p, out);
        break;
    case NPU_FEED_BUCKET:
        fill_buckets(p, &p->bias[f->index], out);
        break;
    default:
        break; /* keys and values: npu_past.c */
    }
}

static bool is_past(const npu_feed *f)
{
    return f->kind == NPU_FEED_PAST_K || f->kind == NPU_FEED_PAST_V;
}

/* Of the keys and values of earlier tokens only those that have changed since this binding saw them are bound again. */
static hstu_status fill_inputs(hs_npu *npu, npu_instance *in, hstu_error *err)
{
    if (in->past)
        hs_npu_past_fill(npu, in->past);
    for (int64_t i = 0; i < in->plan->n_inputs; i++) {
        const npu_feed *f = &in->plan->input[i];
        if (is_past(f)) {
            if (in->told[f->index] != in->past->version[f->index])
                HS_TRY(hs_ort_changed(in->binding, (int)i, err));
            continue;
        }
        fill_input(&npu->pass, f, in->input[i]);
        HS_TRY(hs_ort_changed(in->binding, (int)i, err));
        npu->stats.n_copies++;
        npu->stats.bytes_in += (int64_t)f->bytes;
    }
    for (int64_t i = 0; in->past && i < in->past->n_attns; i++)
        in->told[i] = in->past->version[i];
    return HSTU_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------------------------------------- */

static void *find_output(const npu_instance *in, npu_feed_kind kind, int64_t index)
{
    for (int64_t i = 0; i < in->plan->n_outputs; i++) {
        if (in->plan->output[i].kind == kind && in->plan->output[i].index == index)
            return in->output[i];
    }
    return NULL;
}

/* Rows of every user begin at multiples of the padded length. */
static hstu_status store_rows(hs_npu *npu, const npu_instance *in, int64_t at, hstu_error *err)
{
    npu_pass *p = &npu->pass;
    const npu_kv_write *w = &p->kv_write[at];
    const hs_kv_shape *s = &w->kv.shape;
    const int64_t users = p->rows.users.n_users, rows = users * p->layout.history;
    int64_t *offset = hs_arena_alloc(&p->lists, (size_t)users + 1, sizeof *offset);
    int64_t *n_rows = hs_arena_alloc(&p->lists, (size_t)users + 1, sizeof *n_rows);
    if (!offset || !n_rows)
        return hs_fail_nomem(err, 2 * (size_t)users * sizeof *offset, "storing keys and values");
    offset[0] = 0;
    for (int64_t b = 0; b < users; b++) {
        offset[b + 1] = offset[b] + p->layout.history;
        n_rows[b] = own_rows(p, b);
    }
    npu->stats.n_copies += 2;
    npu->stats.bytes_out += rows * s->n_heads * (s->dqk + s->dv) * (int64_t)sizeof(float);
    return npu->one->table->kv_write(npu->one,
        &(hs_kv_write_args){.kv = w->kv,
            .k = hs_mat_of(find_output(in, NPU_FEED_KV_K, at), rows, s->n_heads * s->dqk),
            .v = hs_mat_of(find_output(in, NPU_FEED_KV_V, at), rows, s->n_heads * s->dv),
            .users = {.n_users = users, .offset = offset},
            .n_rows = n_rows,
            .position = p->rows.past},
        err);
}

/* A stage's matrix may be another's memory by now: it is shown from memory of its own. */
static hstu_status show_stage(hs_npu *npu, const npu_feed *f, const float *buffer, hstu_error *err)
{
    npu_pass *p = &npu->pass;
    const npu_show *s = &p->show[f->index];
    const size_t n = (size_t)(s->args.m.rows * s->args.m.cols);
    float *data = hs_arena_alloc(&p->lists, n, sizeof *data);
    if (!data)
        return hs_fail_nomem(err, n * sizeof *data, "a stage");
    const hs_mat m = hs_mat_of(data, s->args.m.rows, s->args.m.cols);
    take_rows(p, f->rows, buffer, &m);
    s->args.stage(s->args.ctx, s->name, m);
    return HSTU_OK;
}

static hstu_status take_outputs(hs_npu *npu, const npu_instance *in, hstu_error *err)
{
    for (int64_t i = 0; i < in->plan->n_outputs; i++) {
        const npu_feed *f = &in->plan->output[i];
        if (f->kind == NPU_FEED_KV_K)
            HS_TRY(store_rows(npu, in, f->index, err));
        if (f->kind == NPU_FEED_SHOW)
            HS_TRY(show_stage(npu, f, in->output[i], err));
        if (f->kind != NPU_FEED_RESULT)
            continue;
        take_rows(&npu->pass, f->rows, in->output[i], &npu->pass.result);
        npu->stats.n_copies++;
        npu->stats.bytes_out += (int64_t)f->bytes;
    }
    return HSTU_OK;
}

static void clear_outputs(const npu_instance *in)
{
    for (int64_t i = 0; i < in->plan->n_outputs; i++)
        memset(in->output[i], 0, in->plan->output[i].bytes);
}

hstu_status hs_npu_run(hs_npu *npu, npu_instance *in, hstu_error *err)
{
    if (npu->export_to)
        HS_TRY(hs_npu_write_graph(npu, in->plan, err));
    if (!in->binding || npu->compile_only) {
        clear_outputs(in);
        return take_outputs(npu, in, err);
    }
    HS_TRY(fill_inputs(npu, in, err));
    const double start = hs_clock_s();
    HS_TRY(hs_ort_run(in->binding, err));
    npu->stats.run_s += hs_clock_s() - start;
    npu->stats.n_runs++;
    return take_outputs(npu, in, err);
}
