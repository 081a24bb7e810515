/* The evaluation of models that recommend items: each sample's target among the best of all candidates. */
#include "cli/run_batches.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/outfile.h"
#include "cli/run_cache.h"

#include <string.h>

typedef struct answers {
    int64_t *top;  /* [batch_size, k] */
    float *score;  /* [batch_size, k] */
    int64_t *rank; /* [targets] of a batch */
} answers;

typedef struct loop {
    hs_run *run;
    const hs_samples *samples;
    hs_batch_room room;
    answers given, plain; /* the session's, and those without the cache, for verification */
    int64_t *rank;        /* [n_targets] the result's */
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

static hstu_status answers_open(answers *a, const loop *l, hstu_error *err)
{
    const size_t batch_size = (size_t)hs_min_int(l->run->batch_size, l->samples->n);
    size_t places = 0;
    if (!hs_mul_size(batch_size, (size_t)l->run->k, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch's answers");
    a->top = hs_alloc(places, sizeof *a->top);
    a->score = hs_alloc(places, sizeof *a->score);
    a->rank = hs_alloc((size_t)l->room.n_targets, sizeof *a->rank);
    return a->top && a->score && a->rank
               ? HSTU_OK
               : hs_fail_nomem(err, places * 12 + (size_t)l->room.n_targets * 8, "a batch's answers");
}

static void answers_close(answers *a)
{
    hs_free(a->top);
    hs_free(a->score);
    hs_free(a->rank);
}

static hstu_status loop_open(loop *l, hs_run *run, hstu_error *err)
{
    *l = (loop){.run = run, .samples = &run->samples};
    HS_TRY(hs_batch_room_open(&l->room, run, err));
    HS_TRY(answers_open(&l->given, l, err));
    if (run->cache.plain)
        HS_TRY(answers_open(&l->plain, l, err));
    if (run->output_path) {
        HS_TRY(hs_outfile_open(&l->output, run->output_path, err));
        HS_TRY(hs_outfile_printf(l->output, err, "user_id,target,rank,top_k\n"));
    }
    return HSTU_OK;
}

static void loop_close(loop *l)
{
    hs_outfile_discard(l->output);
    hs_batch_room_close(&l->room);
    answers_close(&l->given);
    answers_close(&l->plain);
}

static bool is_outside(const hs_run *run, int64_t id)
{
    return id < run->info.min_item_id || id > run->info.max_item_id;
}

/* The first id of a sample that the item table lacks, or any that it has. */
static int64_t suspicious_id(const loop *l, const hstu_batch *batch, size_t user, int64_t sample)
{
    const hs_samples *s = l->samples;
    int64_t id = l->run->info.min_item_id;
    for (int64_t j = hs_samples_target(s, sample); j < hs_samples_target(s, sample + 1) && !is_outside(l->run, id); j++)
        id = s->target[j];
    for (int64_t j = batch->offset[user]; j < batch->offset[user + 1] && !is_outside(l->run, id); j++)
        id = batch->item_id[j];
    return id;
}

/* The library counts users within a batch; a person knows the data set's. Names the first id of the batch that is
 * outside the item table, or else the batch. */
static hstu_status explain(const loop *l, const hstu_batch *batch, int64_t first, hstu_status status, hstu_error *err)
{
    const int64_t offset = l->run->item_offset;
    const hstu_error inner = *err;
    for (size_t i = 0; i < batch->n_users; i++) {
        const int64_t id = suspicious_id(l, batch, i, first + (int64_t)i);
        if (is_outside(l->run, id))
            return hs_fail(err, status, 0,
                "%s: user %lld: item %lld (item_id %lld after an offset of %lld) is outside the model's item table, "
                "%lld to %lld",
                l->run->dataset_info.name, (long long)l->samples->user_id[first + (int64_t)i], (long long)(id - offset),
                (long long)id, (long long)offset, (long long)l->run->info.min_item_id,
                (long long)l->run->info.max_item_id);
    }
    return hs_fail(err, status, 0, "%s: samples %lld to %lld: %s", l->run->dataset_info.name, (long long)first,
        (long long)(first + (int64_t)batch->n_users - 1), inner.msg);
}

static hstu_status recommend(
    const loop *l, hstu_session *session, const answers *out, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = l->run->filter_seen;
    options.candidate_id = l->run->candidate;
    options.n_candidates = l->run->n_candidates;
    options.target_id = l->samples->target + hs_samples_target(l->samples, first);
    options.target_offset = hs_batch_room_targets(&l->room);
    const hstu_status status =
        hstu_recommend(session, batch, (size_t)l->run->k, &options, out->top, out->score, out->rank, err);
    return status == HSTU_EINVAL ? explain(l, batch, first, status, err) : status;
}

static hstu_status answer(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    const loop *l = ctx;
    return recommend(l, l->run->session, &l->given, batch, first, err);
}

static hstu_status verify(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    const loop *l = ctx;
    const int64_t k = l->run->k;
    const hs_answer_part part[] = {
        {.name = "score", .per = k, .real = {l->given.score, l->plain.score}},
        {.name = "item", .per = k, .whole = {l->given.top, l->plain.top}},
        {.name = "rank", .offset = hs_batch_room_targets(&l->room), .per = 1, .whole = {l->given.rank, l->plain.rank}},
    };
    HS_TRY(recommend(l, l->run->cache.plain, &l->plain, batch, first, err));
    return hs_run_cache_verify_samples(l->run, part, sizeof part / sizeof *part, batch->n_users, first, err);
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

/* user_id,target,rank,top-k ids with blanks between; original ids. The rank is the true one, 0 for a target that is
 * filtered or no candidate. */
static hstu_status write_row(
    loop *l, int64_t user_id, int64_t target, int64_t rank, const int64_t *top, hstu_error *err)
{
    const int64_t offset = l->run->item_offset;
    HS_TRY(hs_outfile_printf(
        l->output, err, "%lld,%lld,%lld,", (long long)user_id, (long long)(target - offset), (long long)rank));
    for (int64_t j = 0; j < l->run->k && top[j] >= 0; j++)
        HS_TRY(hs_outfile_printf(l->output, err, j ? " %lld" : "%lld", (long long)(top[j] - offset)));
    return hs_outfile_printf(l->output, err, "\n");
}

static hstu_status write_rows(loop *l, int64_t first, int64_t n, hstu_error *err)
{
    const hs_samples *s = l->samples;
    for (int64_t i = 0; i < n && l->output; i++) {
        for (int64_t j = hs_samples_target(s, first + i); j < hs_samples_target(s, first + i + 1); j++)
            HS_TRY(write_row(l, s->user_id[first + i], s->target[j], l->rank[j], l->given.top + i * l->run->k, err));
    }
    return HSTU_OK;
}

static hstu_status show(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    loop *l = ctx;
    const int64_t from = hs_samples_target(l->samples, first);
    const int64_t to = hs_samples_target(l->samples, first + (int64_t)batch->n_users);
    memcpy(l->rank + from, l->given.rank, (size_t)(to - from) * sizeof *l->rank);
    dump_shapes(l, batch->n_users);
    return write_rows(l, first, (int64_t)batch->n_users, err);
}

hstu_status hs_run_evaluate(hs_run *run, hs_run_result *result, hstu_error *err)
{
    loop l = {0};
    const hs_batch_work work = {
        .ctx = &l, .stage = "answering", .room = &l.room, .answer = answer, .show = show, .verify = verify};
    hstu_status status = hs_run_batches_plan(result, run, err);
    if (status != HSTU_OK)
        goto fail;
    const size_t n_targets = (size_t)result->n_targets;
    result->rank = hs_alloc(n_targets, sizeof *result->rank);
    result->popular_rank = hs_alloc(n_targets, sizeof *result->popular_rank);
    if (!result->rank || !result->popular_rank) {
        status = hs_fail_nomem(err, n_targets * 2 * sizeof *result->rank, "the ranks");
        goto fail;
    }
    HS_TRY_GOTO(loop_open(&l, run, err));
    l.rank = result->rank;
    HS_TRY_GOTO(hs_run_batches(run, result, &work, err));
    HS_TRY_GOTO(hs_run_rank_by_popularity(run, (size_t)result->n_requests, result->popular_rank, err));
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
