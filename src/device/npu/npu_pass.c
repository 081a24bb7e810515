/* A pass that is being recorded: its padded sizes, its matrices, which are known by where the pass believes them to lie, and its
 * lists. */
#include "device/npu/npu_record.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Room for one more in a list of the pass. */
hstu_status hs_npu_grow(void **list, int64_t n, int64_t *most, size_t size, hstu_error *err)
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
    npu_pass *p = hs_npu_pass_of(dev);
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

int64_t hs_npu_history_rows(const npu_pass *p)
{
    return p->rows.users.offset[p->rows.users.n_users];
}

int64_t hs_npu_candidate_rows(const npu_pass *p)
{
    return p->rows.candidates[p->rows.users.n_users];
}

/* Rows of a pass's matrix, before padding. */
static int64_t count_rows(const npu_pass *p, int64_t rows)
{
    const int64_t n[NPU_N_ROWS] = {hs_npu_history_rows(p) + hs_npu_candidate_rows(p), hs_npu_history_rows(p),
        hs_npu_candidate_rows(p), p->rows.users.n_users};
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
bool hs_npu_meet(const hs_mat *a, const hs_mat *b)
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
    if (w->rows == NPU_TOKENS && row == 0 && m->rows == hs_npu_history_rows(p))
        out->rows = NPU_HISTORY;
    else if (w->rows == NPU_TOKENS && row == hs_npu_history_rows(p) && m->rows == hs_npu_candidate_rows(p))
        out->rows = NPU_CANDIDATES;
    else
        return fail_read(m, "it is neither a pass's history nor its candidates", err);
    return HSTU_OK;
}

hstu_status hs_npu_look_up(const npu_pass *p, const hs_mat *m, npu_ref *out, hstu_error *err)
{
    for (int64_t i = p->n_written; i-- > 0;) {
        if (hs_npu_meet(&p->written[i].m, m))
            return find_part(p, &p->written[i], m, out, err);
    }
    return fail_read(m, "nothing of the pass has been written there", err);
}

/* The step's value lies at m from now on. */
hstu_status hs_npu_write_to(npu_pass *p, const hs_mat *m, int64_t rows, npu_step *step, hstu_error *err)
{
    HS_TRY(NPU_GROW(p, written, n_written, most_written, err));
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

hstu_status hs_npu_new_step(npu_pass *p, npu_op op, npu_step *step, hstu_error *err)
{
    if (!p->open)
        return fail_closed(err);
    memset(step, 0, sizeof *step);
    step->op = (int64_t)op;
    step->out = -1;
    for (int i = 0; i < NPU_STEP_INPUTS; i++)
        step->in[i].value = -1;
    return NPU_GROW(p, step, n_steps, most_steps, err);
}

void hs_npu_add_step(npu_pass *p, const npu_step *step)
{
    p->step[p->n_steps++] = *step;
}

/* ---- results --------------------------------------------------------------------------------------------------------------------- */

hstu_status hs_npu_record_show(hs_device *dev, const hs_show_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->m.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_SHOW, &step, err));
    HS_TRY(NPU_GROW(p, show, n_shows, most_shows, err));
    HS_TRY(hs_npu_look_up(p, &a->m, &step.in[IN_X], err));
    step.number[0] = p->n_shows;
    npu_show *s = &p->show[p->n_shows++];
    *s = (npu_show){.args = *a};
    (void)snprintf(s->name, sizeof s->name, "%s", a->name);
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_end(hs_device *dev, hs_mat result, hstu_error *err)
{
    hs_npu *npu = (hs_npu *)dev;
    npu_pass *p = &npu->pass;
    npu_instance *instance = NULL;
    npu_step step;
    if (result.data && result.rows > 0) {
        HS_TRY(hs_npu_new_step(p, NPU_RESULT, &step, err));
        HS_TRY(hs_npu_look_up(p, &result, &step.in[IN_X], err));
        hs_npu_add_step(p, &step);
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
