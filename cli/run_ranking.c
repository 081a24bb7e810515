/* The evaluation of a ranking model: logits of every candidate, then the metrics of every task. */
#include "cli/run_batches.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/outfile.h"
#include "cli/run_cache.h"

#include <math.h>
#include <string.h>

enum { MAX_TASKS = 63 }; /* a label's bits that are no sign */

typedef struct loop {
    hs_run *run;
    const hs_samples *samples;
    hs_batch_room room;
    float *logits; /* [n_targets, info.n_classes] the result's */
    float *plain;  /* those of one batch without the cache, for verification; or NULL */
    hs_outfile *output;
    size_t dumped_n; /* batch size whose shapes were printed last */
} loop;

static hstu_status write_header(loop *l, hstu_error *err)
{
    HS_TRY(hs_outfile_open(&l->output, l->run->output_path, err));
    HS_TRY(hs_outfile_printf(l->output, err, "user_id,candidate,label"));
    for (int64_t c = 0; c < l->run->info.n_classes; c++)
        HS_TRY(hs_outfile_printf(l->output, err, ",logit%lld", (long long)c));
    return hs_outfile_printf(l->output, err, "\n");
}

static hstu_status loop_open(loop *l, hs_run *run, hstu_error *err)
{
    *l = (loop){.run = run, .samples = &run->samples};
    HS_TRY(hs_batch_room_open(&l->room, run, err));
    size_t places = 0;
    if (!hs_mul_size((size_t)l->room.n_targets, (size_t)run->info.n_classes, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch's logits");
    if (run->cache.plain)
        l->plain = hs_alloc(places, sizeof *l->plain);
    if (run->cache.plain && !l->plain)
        return hs_fail_nomem(err, places * sizeof *l->plain, "a batch's logits");
    return run->output_path ? write_header(l, err) : HSTU_OK;
}

static void loop_close(loop *l)
{
    hs_outfile_discard(l->output);
    hs_batch_room_close(&l->room);
    hs_free(l->plain);
}

const char *hs_run_without_user(const char *sentence)
{
    static const char user[] = "user 0: ";
    return strncmp(sentence, user, sizeof user - 1) == 0 ? sentence + sizeof user - 1 : sentence;
}

static hstu_status rank(const loop *l, hstu_session *session, const hstu_batch *batch, float *logits, hstu_error *err)
{
    const size_t n = (size_t)(batch->cand_offset[batch->n_users] * l->run->info.n_classes);
    return hstu_rank(session, batch, logits, n, err);
}

/* Where the result has the logits of sample i. */
static float *logits_of(const loop *l, int64_t i)
{
    return l->logits + hs_samples_target(l->samples, i) * l->run->info.n_classes;
}

/* The library counts users within a batch; a person knows the data set's: one by one they tell who fails. */
static hstu_status answer(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    loop *l = ctx;
    const int64_t n = (int64_t)batch->n_users;
    hstu_status status = rank(l, l->run->session, batch, logits_of(l, first), err);
    if (status != HSTU_EINVAL && status != HSTU_EFORMAT)
        return status;
    for (int64_t i = first; i < first + n; i++) {
        const hstu_batch alone = hs_batch_room_fill(&l->room, i, 1);
        status = rank(l, l->run->session, &alone, logits_of(l, i), err);
        if (status != HSTU_OK) {
            const hstu_error inner = *err;
            return hs_fail(err, status, 0, "%s: user %lld: %s", l->run->dataset_info.name,
                (long long)l->samples->user_id[i], hs_run_without_user(inner.msg));
        }
    }
    return status;
}

static hstu_status verify(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    const loop *l = ctx;
    const hs_answer_part part = {.name = "logit",
        .offset = batch->cand_offset,
        .per = l->run->info.n_classes,
        .real = {logits_of(l, first), l->plain}};
    HS_TRY(rank(l, l->run->cache.plain, batch, l->plain, err));
    return hs_run_cache_verify_samples(l->run, &part, 1, batch->n_users, first, err);
}

static void dump_shapes(loop *l, const hstu_batch *batch)
{
    if (!l->run->dump_logits || l->dumped_n == batch->n_users)
        return;
    l->dumped_n = batch->n_users;
    hs_console_clear(&l->run->console);
    (void)fprintf(stderr, "hstu: output shapes: logits [%lld, %lld] of %zu users\n",
        (long long)batch->cand_offset[batch->n_users], (long long)l->run->info.n_classes, batch->n_users);
}

static hstu_status write_rows(loop *l, int64_t first, int64_t n, hstu_error *err)
{
    const hs_samples *s = l->samples;
    const int64_t n_classes = l->run->info.n_classes;
    for (int64_t i = first; i < first + n && l->output; i++) {
        for (int64_t j = hs_samples_target(s, i); j < hs_samples_target(s, i + 1); j++) {
            HS_TRY(hs_outfile_printf(l->output, err, "%lld,%lld,%lld", (long long)s->user_id[i],
                (long long)s->target[j], (long long)s->label[j]));
            for (int64_t c = 0; c < n_classes; c++)
                HS_TRY(hs_outfile_printf(l->output, err, ",%.9g", (double)l->logits[j * n_classes + c]));
            HS_TRY(hs_outfile_printf(l->output, err, "\n"));
        }
    }
    return HSTU_OK;
}

static hstu_status show(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err)
{
    loop *l = ctx;
    dump_shapes(l, batch);
    return write_rows(l, first, (int64_t)batch->n_users, err);
}

/* ---- metrics ---------------------------------------------------------------------------------------------------- */

static bool has_tasks(const hstu_model_info *info)
{
    return info->n_tasks == info->n_classes;
}

void hs_run_probabilities(const hstu_model_info *info, const float *logits, float *probability)
{
    float max = logits[0], sum = 0;
    for (int64_t c = 0; c < info->n_classes; c++) {
        max = logits[c] > max ? logits[c] : max;
        probability[c] = 1 / (1 + expf(-logits[c]));
    }
    if (has_tasks(info))
        return;
    for (int64_t c = 0; c < info->n_classes; c++) {
        probability[c] = expf(logits[c] - max);
        sum += probability[c];
    }
    for (int64_t c = 0; c < info->n_classes; c++)
        probability[c] /= sum;
}

/* AUC looks at probabilities, whose roundings tie as the reference's do; log loss at logits. */
static hstu_status measure_task(
    const hs_run *run, hs_run_result *result, int64_t t, float *probability, uint8_t *positive, hstu_error *err)
{
    const size_t n = (size_t)result->n_targets, n_classes = (size_t)run->info.n_classes;
    hs_task *task = &result->task[t];
    for (size_t i = 0; i < n; i++)
        positive[i] = (uint8_t)(run->samples.label[i] >> t & 1);
    const hstu_scores scores = {probability + t, n_classes, positive, n};
    const hstu_scores logits = {result->logits + t, n_classes, positive, n};
    HS_TRY(hstu_auc_of(&task->auc, &scores, err));
    HS_TRY(hstu_gauc_of(&task->gauc, &scores, run->samples.target_offset, (size_t)result->n_requests, err));
    return hstu_log_loss_of(&task->loss, &logits, err);
}

static hstu_status measure_tasks(const hs_run *run, hs_run_result *result, hstu_error *err)
{
    const size_t n = (size_t)result->n_targets, n_classes = (size_t)run->info.n_classes;
    hstu_status status = HSTU_OK;
    float *probability = hs_alloc(n * n_classes, sizeof *probability); /* as large as the logits */
    uint8_t *positive = hs_alloc(n, sizeof *positive);
    result->task = hs_calloc((size_t)run->info.n_tasks, sizeof *result->task);
    if (!probability || !positive || !result->task) {
        status = hs_fail_nomem(err, n * n_classes * sizeof *probability, "the probabilities");
        goto fail;
    }
    for (size_t i = 0; i < n; i++)
        hs_run_probabilities(&run->info, result->logits + i * n_classes, probability + i * n_classes);
    for (int64_t t = 0; t < run->info.n_tasks; t++)
        HS_TRY_GOTO(measure_task(run, result, t, probability, positive, err));

fail:
    hs_free(probability);
    hs_free(positive);
    return status;
}

static hstu_status measure_classes(const hs_run *run, hs_run_result *result, hstu_error *err)
{
    const hstu_status status = hstu_multiclass_of(&result->multiclass, result->logits, run->samples.label,
        (size_t)result->n_targets, (size_t)run->info.n_classes, err);
    const hstu_error inner = *err;
    return status == HSTU_EINVAL ? hs_fail(err, status, 0, "%s: %s", run->dataset_info.name, inner.msg) : status;
}

static hstu_status result_open(const hs_run *run, hs_run_result *result, hstu_error *err)
{
    size_t places = 0;
    HS_TRY(hs_run_batches_plan(result, run, err));
    if (has_tasks(&run->info) && run->info.n_tasks > MAX_TASKS)
        return hs_fail(err, HSTU_EUNSUP, 0, "a label has bits for %d tasks, and the model has %lld", (int)MAX_TASKS,
            (long long)run->info.n_tasks);
    if (!hs_mul_size((size_t)result->n_targets, (size_t)run->info.n_classes, &places))
        return hs_fail_nomem(err, SIZE_MAX, "the logits");
    result->logits = hs_alloc(places, sizeof *result->logits);
    if (!result->logits)
        return hs_fail_nomem(err, places * sizeof *result->logits, "the logits");
    return HSTU_OK;
}

hstu_status hs_run_rank(hs_run *run, hs_run_result *result, hstu_error *err)
{
    loop l = {0};
    const hs_batch_work work = {
        .ctx = &l, .stage = "ranking", .room = &l.room, .answer = answer, .show = show, .verify = verify};
    hstu_status status = result_open(run, result, err);
    if (status != HSTU_OK)
        goto fail;
    HS_TRY_GOTO(loop_open(&l, run, err));
    l.logits = result->logits;
    HS_TRY_GOTO(hs_run_batches(run, result, &work, err));
    HS_TRY_GOTO(has_tasks(&run->info) ? measure_tasks(run, result, err) : measure_classes(run, result, err));
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
