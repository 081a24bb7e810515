/* Requests to a ranking model: JSON lines in, JSON lines out, in order, batch by batch. */
#include "base/alloc.h"
#include "base/error.h"
#include "cli/json_writer.h"
#include "cli/line_reader.h"
#include "cli/request_line.h"
#include "cli/result_stream.h"
#include "cli/run_cache.h"
#include "cli/run_npu.h"

#include <errno.h>
#include <string.h>

enum { MAX_LINE_BYTES = 64 << 20, DIGITS = 9 };

typedef struct requests {
    hs_run *run;
    const char **feature; /* [info.n_context]: names in the model's order */
    hs_line_reader reader;
    hs_request request;
    /* what waits for an answer */
    size_t n;
    hs_ids offset, item, action_offset, action, candidate_offset, candidate, context, user_id;
    bool has_user_id; /* all of them have one, or, with a cache, none: a batch knows no mixture */
    hs_ids user_end;  /* where each user's text ends in `users` */
    hs_dynbuf users;  /* JSON text of the users, one behind the other */
    hs_ids line;      /* of each in the file */
    size_t bytes;     /* of their lines */
    hs_dynbuf out;
} requests;

enum { N_LISTS = 10 };

static void lists_of(requests *r, hs_ids *list[N_LISTS])
{
    hs_ids *const all[N_LISTS] = {&r->offset, &r->item, &r->action_offset, &r->action, &r->candidate_offset,
        &r->candidate, &r->context, &r->user_id, &r->user_end, &r->line};
    memcpy(list, all, sizeof all);
}

static void clear(requests *r)
{
    hs_ids *list[N_LISTS];
    lists_of(r, list);
    for (size_t i = 0; i < N_LISTS; i++)
        list[i]->n = 0;
    r->users.len = r->bytes = r->n = 0;
}

static void requests_close(requests *r)
{
    hs_ids *list[N_LISTS];
    lists_of(r, list);
    for (size_t i = 0; i < N_LISTS; i++)
        hs_ids_free(list[i]);
    hs_free(r->feature);
    hs_dynbuf_free(&r->users);
    hs_request_free(&r->request);
    hs_line_reader_close(&r->reader);
    hs_dynbuf_free(&r->out);
}

/* ---- in --------------------------------------------------------------------------------------------------------- */

static bool push_all(hs_ids *out, const hs_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (!hs_ids_push(out, ids->data[i]))
            return false;
    }
    return true;
}

/* "user_id" may stand for itself in "user"; every other feature is named in "context". */
static hstu_status feature_id(const requests *r, const char *name, int64_t *id, hstu_error *err)
{
    const hs_request_feature *f = hs_request_find_feature(&r->request, name);
    const bool is_user = strcmp(name, "user_id") == 0;
    if (f)
        *id = f->id;
    else if (!is_user || !hs_request_user_number(&r->request, id))
        return hs_fail(err, HSTU_EFORMAT, r->reader.line,
            is_user ? "%s: line %llu: expected '%s' in 'context', or a whole number as 'user', found neither"
                    : "%s: line %llu: expected '%s' in 'context', found none",
            r->reader.path, (unsigned long long)r->reader.line, name);
    return HSTU_OK;
}

static hstu_status push_context(requests *r, hstu_error *err)
{
    const size_t n_context = r->run->info.n_context;
    for (size_t i = 0; i < n_context; i++) {
        int64_t id = 0;
        HS_TRY(feature_id(r, r->feature[i], &id, err));
        if (!hs_ids_push(&r->context, id))
            return hs_fail_nomem(err, (r->context.n + 1) * sizeof id, "a batch of requests");
    }
    return HSTU_OK;
}

/* A name that the model does not know is a typing error, which must not go unnoticed. */
static hstu_status check_names(const requests *r, hstu_error *err)
{
    for (size_t i = 0; i < r->request.n_features; i++) {
        const hs_request_feature *f = &r->request.feature[i];
        size_t j = 0;
        while (j < r->run->info.n_context &&
               (strlen(r->feature[j]) != f->name_len || memcmp(r->feature[j], f->name, f->name_len) != 0))
            j++;
        if (j == r->run->info.n_context)
            return hs_fail(err, HSTU_EFORMAT, r->reader.line,
                "%s: line %llu: 'context' names '%.*s', which is none of the model's %zu contextual features",
                r->reader.path, (unsigned long long)r->reader.line, f->name_len < 60 ? (int)f->name_len : 60, f->name,
                r->run->info.n_context);
    }
    return HSTU_OK;
}

static hstu_status append_request(requests *r, hstu_error *err)
{
    const hs_request *q = &r->request;
    bool ok = true;
    HS_TRY(check_names(r, err));
    if (r->n == 0) {
        r->has_user_id = q->has_user_id;
        ok = hs_ids_push(&r->offset, 0) && hs_ids_push(&r->action_offset, 0) && hs_ids_push(&r->candidate_offset, 0);
    }
    r->has_user_id = r->has_user_id && q->has_user_id;
    ok = ok && push_all(&r->item, &q->items) && push_all(&r->action, &q->actions) &&
         push_all(&r->candidate, &q->candidates) && hs_ids_push(&r->offset, (int64_t)r->item.n) &&
         hs_ids_push(&r->action_offset, (int64_t)r->action.n) &&
         hs_ids_push(&r->candidate_offset, (int64_t)r->candidate.n) &&
         hs_dynbuf_append(&r->users, q->user ? q->user : "null", q->user ? q->user_len : 4) &&
         hs_ids_push(&r->user_end, (int64_t)r->users.len) && hs_ids_push(&r->line, (int64_t)r->reader.line) &&
         hs_ids_push(&r->user_id, q->user_id);
    if (!ok)
        return hs_fail_nomem(err, r->item.n * sizeof(int64_t), "a batch of requests");
    r->bytes += r->reader.text.len;
    r->n++;
    return HSTU_OK;
}

/* ---- out -------------------------------------------------------------------------------------------------------- */

static void put_rows(hs_json_writer *w, const char *key, const float *x, int64_t n, int64_t n_classes)
{
    hs_json_key(w, key);
    hs_json_begin(w, '[');
    for (int64_t i = 0; i < n; i++) {
        hs_json_begin(w, '[');
        for (int64_t c = 0; c < n_classes; c++)
            hs_json_put_double(w, (double)x[i * n_classes + c], DIGITS);
        hs_json_end(w, ']');
    }
    hs_json_end(w, ']');
}

/* logits, probability: of all that waits. */
static void put_answer(requests *r, hs_json_writer *w, size_t i, const float *logits, const float *probability)
{
    const int64_t from = r->candidate_offset.data[i], n = r->candidate_offset.data[i + 1] - from;
    const int64_t n_classes = r->run->info.n_classes;
    const size_t user = i ? (size_t)r->user_end.data[i - 1] : 0;
    hs_json_begin(w, '{');
    hs_json_key(w, "user");
    hs_json_put_raw(w, r->users.data + user, (size_t)r->user_end.data[i] - user);
    hs_json_key(w, "candidates");
    hs_json_begin(w, '[');
    for (int64_t j = from; j < from + n; j++)
        hs_json_put_int(w, r->candidate.data[j]);
    hs_json_end(w, ']');
    put_rows(w, "logits", logits + from * n_classes, n, n_classes);
    put_rows(w, "probabilities", probability + from * n_classes, n, n_classes);
    hs_json_end(w, '}');
}

static hstu_status write_answers(
    requests *r, size_t first, size_t n, const float *logits, const float *probability, hstu_error *err)
{
    r->out.len = 0;
    for (size_t i = first; i < first + n; i++) {
        hs_json_writer w;
        hs_json_writer_init(&w, &r->out, 0);
        put_answer(r, &w, i, logits, probability);
        if (w.failed || !hs_dynbuf_append_text(&r->out, "\n"))
            return hs_fail_nomem(err, r->out.len, "the answers");
    }
    /* Flushed at once: who feeds requests through a pipe waits for these. */
    if (fwrite(r->out.data, 1, r->out.len, hs_result_stream()) != r->out.len || fflush(hs_result_stream()) != 0)
        return hs_fail_errno(err, errno, "cannot write standard output");
    return HSTU_OK;
}

typedef struct named_requests {
    const requests *requests;
    size_t first;
} named_requests;

static void name_request(void *ctx, size_t user, char *text, size_t size)
{
    const named_requests *named = ctx;
    (void)snprintf(text, size, "%.160s: line %lld", named->requests->reader.path,
        (long long)named->requests->line.data[named->first + user]);
}

/* Whether the logits of a batch that begins with request `first` are those without the cache, where it is the batch's
 * turn. */
static hstu_status verify(
    const requests *r, size_t first, const hstu_batch *batch, const float *logits, hstu_error *err)
{
    const int64_t n_classes = r->run->info.n_classes, n_candidates = batch->cand_offset[batch->n_users];
    const size_t n = (size_t)(n_candidates * n_classes);
    hs_run_npu_note(r->run, batch->n_users);
    HS_TRY(hs_run_cache_note(r->run, batch->n_users, 0, err));
    if (!hs_run_cache_is_due(r->run))
        return HSTU_OK;
    float *plain = hs_alloc(n, sizeof *plain);
    if (!plain)
        return hs_fail_nomem(err, n * sizeof *plain, "a batch's logits");
    hstu_status status = hstu_rank(r->run->cache.plain, batch, plain, n, err);
    const hs_answer_part part = {
        .name = "logit", .offset = batch->cand_offset, .per = n_classes, .real = {logits, plain}};
    named_requests named = {r, first};
    if (status == HSTU_OK)
        status = hs_run_cache_verify(r->run, &part, 1, batch->n_users, name_request, &named, err);
    hs_free(plain);
    return status;
}

/* The n requests from `first` on, as a batch. */
static hstu_status rank(
    requests *r, size_t first, size_t n, const hstu_batch *batch, float *logits, float *probability, hstu_error *err)
{
    const int64_t n_classes = r->run->info.n_classes;
    const int64_t from = r->candidate_offset.data[first], to = r->candidate_offset.data[first + n];
    HS_TRY(hstu_rank(r->run->session, batch, logits + from * n_classes, (size_t)((to - from) * n_classes), err));
    HS_TRY(verify(r, first, batch, logits + from * n_classes, err));
    for (int64_t i = from; i < to; i++)
        hs_run_probabilities(&r->run->info, logits + i * n_classes, probability + i * n_classes);
    if (r->run->dump_logits)
        (void)fprintf(stderr, "hstu: output shapes: logits [%lld, %lld] of %zu users\n", (long long)(to - from),
            (long long)n_classes, n);
    return write_answers(r, first, n, logits, probability, err);
}

static hstu_status rank_all(requests *r, float *logits, float *probability, hstu_error *err)
{
    const hstu_batch batch = {
        .n_users = r->n,
        .offset = r->offset.data,
        .item_id = r->item.data,
        .action_offset = r->action_offset.data,
        .action = r->action.data,
        .cand_offset = r->candidate_offset.data,
        .cand_id = r->candidate.data,
        .context = r->context.data,
        .user_id = r->has_user_id ? r->user_id.data : NULL,
    };
    return rank(r, 0, r->n, &batch, logits, probability, err);
}

static hstu_status rank_alone(requests *r, size_t i, float *logits, float *probability, hstu_error *err)
{
    const int64_t item = r->offset.data[i], action = r->action_offset.data[i], candidate = r->candidate_offset.data[i];
    const int64_t offset[2] = {0, r->offset.data[i + 1] - item};
    const int64_t action_offset[2] = {0, r->action_offset.data[i + 1] - action};
    const int64_t candidate_offset[2] = {0, r->candidate_offset.data[i + 1] - candidate};
    const size_t n_context = r->run->info.n_context;
    const hstu_batch batch = {
        .n_users = 1,
        .offset = offset,
        .item_id = offset[1] ? r->item.data + item : NULL,
        .action_offset = action_offset,
        .action = action_offset[1] ? r->action.data + action : NULL,
        .cand_offset = candidate_offset,
        .cand_id = r->candidate.data + candidate,
        .context = n_context ? r->context.data + i * n_context : NULL,
        .user_id = r->has_user_id ? r->user_id.data + i : NULL,
    };
    return rank(r, i, 1, &batch, logits, probability, err);
}

/* An id that the model lacks fails a whole batch: one by one the requests before it are answered, and its line is
 * named. */
static hstu_status rank_one_by_one(requests *r, float *logits, float *probability, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    for (size_t i = 0; i < r->n && status == HSTU_OK; i++) {
        status = rank_alone(r, i, logits, probability, err);
        if (status == HSTU_EINVAL || status == HSTU_EFORMAT) {
            const hstu_error inner = *err;
            status = hs_fail(err, status, (uint64_t)r->line.data[i], "%s: line %lld: %s", r->reader.path,
                (long long)r->line.data[i], hs_run_without_user(inner.msg));
        }
    }
    return status;
}

/* Nothing waits afterwards, whether it was answered or not. */
static hstu_status answer_pending(requests *r, hstu_error *err)
{
    size_t places = 0;
    if (r->n == 0)
        return HSTU_OK;
    if (!hs_mul_size(r->candidate.n, (size_t)r->run->info.n_classes, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch's logits");
    float *logits = hs_alloc(places, sizeof *logits), *probability = hs_alloc(places, sizeof *probability);
    hstu_status status = logits && probability ? rank_all(r, logits, probability, err)
                                               : hs_fail_nomem(err, 2 * places * sizeof *logits, "a batch's logits");
    if (status == HSTU_EINVAL || status == HSTU_EFORMAT)
        status = rank_one_by_one(r, logits, probability, err);
    hs_free(logits);
    hs_free(probability);
    clear(r);
    return status;
}

/* ---- loop ------------------------------------------------------------------------------------------------------- */

/* A window that slides in steps; the library takes the newest events itself. */
static void cut(hs_request *q, const hs_run *run)
{
    const int64_t n = (int64_t)q->items.n;
    const int64_t start = run->slide_step > 1 ? hs_window_start(n, run->window, run->slide_step) : 0;
    q->items.n -= (size_t)start;
    q->actions.n -= (size_t)start;
    if (start) {
        memmove(q->items.data, q->items.data + start, q->items.n * sizeof *q->items.data);
        memmove(q->actions.data, q->actions.data + start, q->actions.n * sizeof *q->actions.data);
    }
}

static bool fits(const requests *r)
{
    return r->bytes + r->reader.text.len <= MAX_LINE_BYTES &&
           (!r->run->cache.cache || r->has_user_id == r->request.has_user_id);
}

/* Reads one line and takes it up; *more is false at the end of the file. */
static hstu_status take_line(requests *r, bool *more, hstu_error *err)
{
    if (hs_console_cancelled(&r->run->console))
        return hs_fail(err, HSTU_ECANCELLED, 0, "interrupted");
    HS_TRY(hs_line_reader_next(&r->reader, more, err));
    const hs_dynbuf *text = &r->reader.text;
    if (!*more || strspn(text->data ? text->data : "", " \t") == text->len)
        return HSTU_OK;
    HS_TRY(hs_rank_request_parse(&r->request, text->data, text->len, r->reader.path, r->reader.line, err));
    cut(&r->request, r->run);
    if (r->n && !fits(r))
        HS_TRY(answer_pending(r, err));
    /* A context that fails halfway must leave nothing for the requests before it, which are still answered. */
    const size_t n_context = r->context.n;
    hstu_status status = push_context(r, err);
    if (status == HSTU_OK)
        status = append_request(r, err);
    if (status != HSTU_OK)
        r->context.n = n_context;
    HS_TRY(status);
    return r->n == (size_t)r->run->batch_size ? answer_pending(r, err) : HSTU_OK;
}

static hstu_status requests_open(requests *r, hs_run *run, hstu_error *err)
{
    *r = (requests){.run = run};
    hs_dynbuf_init(&r->users, 2 * (size_t)MAX_LINE_BYTES);
    hs_dynbuf_init(&r->out, SIZE_MAX / 2);
    r->feature = hs_alloc(run->info.n_context, sizeof *r->feature);
    if (!r->feature)
        return hs_fail_nomem(err, run->info.n_context * sizeof *r->feature, "the contextual features");
    for (size_t i = 0; i < run->info.n_context; i++) {
        hstu_feature_info info;
        HS_TRY(hstu_model_context(run->model, i, &info, err));
        r->feature[i] = info.name;
    }
    return hs_line_reader_open(&r->reader, run->requests_path, MAX_LINE_BYTES, err);
}

hstu_status hs_run_rank_requests(hs_run *run, hstu_error *err)
{
    requests r;
    bool more = true;
    hstu_status status = requests_open(&r, run, err);
    while (status == HSTU_OK && more)
        status = take_line(&r, &more, err);
    /* What stands before a bad line is answered, and may be bad too: the first one's error is told. */
    if (status == HSTU_OK) {
        status = answer_pending(&r, err);
    } else if (status == HSTU_EFORMAT || status == HSTU_EINVAL) {
        const hstu_error later = *err;
        const hstu_status earlier = answer_pending(&r, err);
        if (earlier == HSTU_OK)
            *err = later;
        else
            status = earlier;
    }
    requests_close(&r);
    return status;
}
