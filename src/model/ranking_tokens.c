/* Requests to a ranking model as tokens. */
#include "model/ranking_tokens.h"

#include "base/error.h"

#include <string.h>

static int64_t n_events(const hs_ranking_input *in, int64_t user)
{
    return in->batch->offset[user + 1] - in->item_first[user];
}

/* How many ids feature f of a user has. */
static int64_t n_ids(const hs_model *m, const hs_ranking_input *in, int64_t user, int f)
{
    return in->batch->context_length ? in->batch->context_length[user * m->config.n_context + f] : 1;
}

int64_t hs_ranking_context(const hs_model *model, const hs_ranking_input *input, int64_t user)
{
    int64_t n = 0;
    for (int f = 0; f < model->config.n_context; f++)
        n += n_ids(model, input, user, f);
    return n;
}

int64_t hs_ranking_history(const hs_model *model, const hs_ranking_input *input, int64_t user)
{
    return hs_ranking_context(model, input, user) + 2 * n_events(input, user);
}

hstu_status hs_ranking_request_make(
    const hs_pass *pass, const hs_ranking_input *in, hs_ranking_request *r, hstu_error *err)
{
    *r = (hs_ranking_request){.in = in,
        .n_users = in->end - in->first,
        .n_candidates = in->batch->cand_offset[in->end] - in->batch->cand_offset[in->first]};
    HS_TRY(hs_pass_ids(pass, &r->history, r->n_users, err));
    HS_TRY(hs_pass_ids(pass, &r->context, r->n_users, err));
    HS_TRY(hs_pass_ids(pass, &r->reused, r->n_users, err));
    HS_TRY(hs_pass_ids(pass, &r->nothing, r->n_users + 1, err));
    memset(r->nothing, 0, (size_t)(r->n_users + 1) * sizeof *r->nothing);
    for (int64_t b = 0; b < r->n_users; b++) {
        r->history[b] = hs_ranking_history(pass->model, in, in->first + b);
        r->context[b] = hs_ranking_context(pass->model, in, in->first + b);
        r->reused[b] = in->kept ? in->kept->reused[b] : 0;
    }
    return HSTU_OK;
}

int64_t hs_ranking_new_tokens(const hs_ranking_request *r)
{
    int64_t n = 0;
    for (int64_t b = 0; b < r->n_users; b++)
        n += r->history[b] - r->reused[b];
    return n;
}

hstu_status hs_ranking_tokens_make(
    const hs_pass *pass, const hs_ranking_request *r, int64_t most, hs_ranking_tokens *t, hstu_error *err)
{
    *t = (hs_ranking_tokens){.n_history = 0};
    HS_TRY(hs_pass_ids(pass, &t->history_offset, r->n_users + 1, err));
    HS_TRY(hs_pass_ids(pass, &t->candidate_offset, r->n_users + 1, err));
    HS_TRY(hs_pass_ids(pass, &t->position, most, err));
    t->row = hs_arena_alloc(pass->scratch, (size_t)most, sizeof *t->row);
    return t->row ? HSTU_OK : hs_fail_nomem(err, (size_t)most * sizeof *t->row, "the forward pass");
}

/* Table rows of a user's tokens from token `skip` on. */
static void look_up_history(
    const hs_model *m, const hs_ranking_input *in, int64_t user, int64_t skip, const void **token)
{
    const hstu_batch *batch = in->batch;
    int64_t t = 0;
    for (int f = 0; f < m->config.n_context; f++) {
        for (int64_t i = n_ids(m, in, user, f); i > 0; i--, t++) {
            if (t >= skip)
                *token++ = hs_table_row(m->context_table[f], batch->context[in->context_first[user] + t]);
        }
    }
    const int64_t context = t, skipped = skip > context ? (skip - context) / 2 : 0;
    for (int64_t i = skipped; i < n_events(in, user); i++) {
        if (context + 2 * i >= skip)
            *token++ = hs_table_row(m->item_table, batch->item_id[in->item_first[user] + i]);
        *token++ = hs_table_row(m->action_table, batch->action[in->action_first[user] + i]);
    }
}

void hs_ranking_add_history(const hs_pass *pass, const hs_ranking_request *r, hs_ranking_tokens *t)
{
    const int64_t last = pass->model->config.num_position_buckets - 1;
    int64_t at = 0;
    t->history_offset[0] = 0;
    for (int64_t b = 0; b < r->n_users; b++) {
        if (r->reused[b] < r->history[b])
            look_up_history(pass->model, r->in, r->in->first + b, r->reused[b], t->row + at);
        for (int64_t i = r->reused[b]; i < r->history[b]; i++)
            t->position[at++] = i < last ? i : last;
        t->history_offset[b + 1] = at;
    }
    t->n_history = at;
    t->past = r->reused;
}

/* All candidates share the position behind the history; long histories share the table's last row. */
void hs_ranking_add_candidates(
    const hs_pass *pass, const hs_ranking_request *r, int64_t first, int64_t n, hs_ranking_tokens *t)
{
    const int64_t last = pass->model->config.num_position_buckets - 1;
    const hstu_batch *batch = r->in->batch;
    const int64_t *offset = batch->cand_offset + r->in->first;
    int64_t at = t->n_history;
    t->first = first;
    t->n_candidates = n;
    t->candidate_offset[0] = 0;
    for (int64_t b = 0; b < r->n_users; b++) {
        const int64_t from = offset[b] - offset[0], to = offset[b + 1] - offset[0];
        for (int64_t i = from > first ? from : first; i < to && i < first + n; i++, at++) {
            t->row[at] = hs_table_row(pass->model->item_table, batch->cand_id[offset[0] + i]);
            t->position[at] = r->history[b] < last ? r->history[b] : last;
        }
        t->candidate_offset[b + 1] = at - t->n_history;
    }
}

void hs_ranking_leave_history(const hs_ranking_request *r, hs_ranking_tokens *t)
{
    t->n_history = 0;
    t->past = r->history;
    memset(t->history_offset, 0, (size_t)(r->n_users + 1) * sizeof *t->history_offset);
}
