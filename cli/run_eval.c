/* The evaluation of models that recommend items: each sample's target among the best of all candidates. */
#include "cli/run_batches.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/outfile.h"

#include <string.h>

typedef struct loop {
    hs_run *run;
    const hstu_histories *histories;
    /* one batch's inputs and outputs */
    int64_t *offset, *item, *time;
    int64_t *top;  /* [batch_size, k] */
    float *score;  /* [batch_size, k] */
    int64_t *rank; /* [samples] the result's */
    hs_outfile *output;
    size_t dumped_n; /* batch size whose shapes were printed last */
} loop;

void hs_run_result_free(hs_run_result *result)
{
    hs_free(result->latency_s);
    hs_free(result->rank);
    hs_free(result->popular_rank);
    hs_free(result->logits);
    hs_free(result->task);
    *result = (hs_run_result){0};
}

/* The events of sample i that the model sees: the newest `window`. */
static int64_t window_start(const loop *l, int64_t i)
{
    const int64_t from = l->histories->offset[i], to = l->histories->offset[i + 1];
    return to - from > l->run->window ? to - l->run->window : from;
}

/* The most events that any batch holds. */
static size_t largest_batch(const loop *l)
{
    int64_t most = 0;
    for (int64_t first = 0; first < l->histories->n; first += l->run->batch_size) {
        int64_t events = 0;
        for (int64_t i = first; i < hs_min_int(first + l->run->batch_size, l->histories->n); i++)
            events += l->run->pad_attention ? l->run->window : l->histories->offset[i + 1] - window_start(l, i);
        most = events > most ? events : most;
    }
    return (size_t)most;
}

static hstu_status loop_open(loop *l, hs_run *run, hstu_error *err)
{
    *l = (loop){.run = run, .histories = run->histories};
    const size_t n_events = largest_batch(l);
    const size_t batch_size = (size_t)hs_min_int(run->batch_size, run->histories->n);
    size_t places = 0;
    if (!hs_mul_size(batch_size, (size_t)run->k, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch's answers");
    l->offset = hs_alloc(batch_size + 1, sizeof *l->offset);
    l->item = hs_alloc(n_events, sizeof *l->item);
    l->time = hs_alloc(n_events, sizeof *l->time);
    l->top = hs_alloc(places, sizeof *l->top);
    l->score = hs_alloc(places, sizeof *l->score);
    if (!l->offset || !l->item || !l->time || !l->top || !l->score)
        return hs_fail_nomem(err, n_events * 2 * sizeof *l->item + places * 12, "a batch");
    if (run->output_path) {
        HS_TRY(hs_outfile_open(&l->output, run->output_path, err));
        HS_TRY(hs_outfile_printf(l->output, err, "user_id,target,rank,top_k\n"));
    }
    return HSTU_OK;
}

static void loop_close(loop *l)
{
    hs_outfile_discard(l->output);
    hs_free(l->offset);
    hs_free(l->item);
    hs_free(l->time);
    hs_free(l->top);
    hs_free(l->score);
}

static hstu_batch assemble(void *ctx, int64_t first, int64_t n)
{
    const loop *l = ctx;
    const hstu_histories *h = l->histories;
    int64_t events = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = window_start(l, first + i), count = h->offset[first + i + 1] - from;
        l->offset[i] = events;
        for (int64_t pad = l->run->pad_attention ? l->run->window - count : 0; pad > 0; pad--, events++)
            l->item[events] = l->time[events] = 0;
        memcpy(l->item + events, h->item_id + from, (size_t)count * sizeof *l->item);
        if (h->timestamp)
            memcpy(l->time + events, h->timestamp + from, (size_t)count * sizeof *l->time);
        events += count;
    }
    l->offset[n] = events;
    return (hstu_batch){
        .n_users = (size_t)n,
        .offset = l->offset,
        .item_id = l->item,
        .timestamp = h->timestamp ? l->time : NULL,
        .query_time = h->timestamp ? h->target_time + first : NULL,
    };
}

/* The library counts users within a batch; a person knows the data set's. Names the first id of the batch that is outside the
 * item table, or else the batch. */
static hstu_status name_user(const loop *l, const hstu_batch *batch, int64_t first, hstu_status status, hstu_error *err)
{
    const int64_t min = l->run->info.min_item_id, max = l->run->info.max_item_id, offset = l->run->item_offset;
    const hstu_error inner = *err;
    for (size_t i = 0; i < batch->n_users; i++) {
        int64_t id = l->histories->target_id[first + (int64_t)i];
        for (int64_t j = batch->offset[i]; j < batch->offset[i + 1] && id >= min && id <= max; j++)
            id = batch->item_id[j];
        if (id < min || id > max)
            return hs_fail(err, status, 0,
                "%s: user %lld: item %lld (item_id %lld after an offset of %lld) is outside the model's item table, "
                "%lld to %lld",
                l->run->dataset_info.name, (long long)l->histories->user_id[first + (int64_t)i],
                (long long)(id - offset), (long long)id, (long long)offset, (long long)min, (long long)max);
    }
    return hs_fail(err, status, 0, "%s: samples %lld to %lld: %s", l->run->dataset_info.name, (long long)first,
        (long long)(first + (int64_t)batch->n_users - 1), inner.msg);
}

static hstu_status answer(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    const loop *l = ctx;
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = l->run->filter_seen;
    options.candidate_id = l->run->candidate;
    options.n_candidates = l->run->n_candidates;
    options.target_id = l->histories->target_id + first;
    const hstu_status status =
        hstu_recommend(l->run->session, batch, (size_t)l->run->k, &options, l->top, l->score, l->rank + first, err);
    return status == HSTU_EINVAL ? name_user(l, batch, first, status, err) : status;
}

static void dump_shapes(loop *l, size_t n)
{
    if (!l->run->dump_logits || l->dumped_n == n)
        return;
    l->dumped_n = n;
    hs_console_clear(&l->run->console);
    (void)fprintf(stderr,
        "hstu: output shapes: user embeddings [%zu, %lld], top-k ids [%zu, %lld], top-k scores [%zu, %lld]\n", n,
        (long long)l->run->info.dim, n, (long long)l->run->k, n, (long long)l->run->k);
}

/* user_id,target,rank,top-k ids with blanks between; original ids. The rank is the true one, 0 for a target that is filtered
 * or no candidate. */
static hstu_status write_rows(loop *l, int64_t first, int64_t n, hstu_error *err)
{
    const int64_t offset = l->run->item_offset, k = l->run->k;
    for (int64_t i = 0; i < n && l->output; i++) {
        const int64_t *top = l->top + i * k;
        HS_TRY(hs_outfile_printf(l->output, err, "%lld,%lld,%lld,", (long long)l->histories->user_id[first + i],
            (long long)(l->histories->target_id[first + i] - offset), (long long)l->rank[first + i]));
        for (int64_t j = 0; j < k && top[j] >= 0; j++)
            HS_TRY(hs_outfile_printf(l->output, err, j ? " %lld" : "%lld", (long long)(top[j] - offset)));
        HS_TRY(hs_outfile_printf(l->output, err, "\n"));
    }
    return HSTU_OK;
}

static hstu_status show(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    loop *l = ctx;
    dump_shapes(l, batch->n_users);
    return write_rows(l, first, (int64_t)batch->n_users, err);
}

hstu_status hs_run_evaluate(hs_run *run, hs_run_result *result, hstu_error *err)
{
    loop l = {0};
    const hs_batch_work work = {.ctx = &l, .stage = "answering", .assemble = assemble, .answer = answer, .show = show};
    hstu_status status = hs_run_batches_plan(result, run, run->histories->n, err);
    if (status != HSTU_OK)
        goto fail;
    const size_t n = (size_t)result->n_requests;
    result->rank = hs_alloc(n, sizeof *result->rank);
    result->popular_rank = hs_alloc(n, sizeof *result->popular_rank);
    if (!result->rank || !result->popular_rank) {
        status = hs_fail_nomem(err, n * 2 * sizeof *result->rank, "the ranks");
        goto fail;
    }
    HS_TRY_GOTO(loop_open(&l, run, err));
    l.rank = result->rank;
    HS_TRY_GOTO(hs_run_batches(run, result, &work, err));
    HS_TRY_GOTO(hs_run_rank_by_popularity(run, n, result->popular_rank, err));
    status = hs_outfile_commit(l.output, err);
    l.output = NULL;
    if (status != HSTU_OK)
        goto fail;
    loop_close(&l);
    return HSTU_OK;

fail:
    loop_close(&l);
    hs_run_result_free(result);
    return status;
}
