/* A user's own requests: JSON lines in, JSON lines out, in order, batch by batch. */
#include "cli/run.h"

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

enum { MAX_LINE_BYTES = 64 << 20, SCORE_DIGITS = 9 };

/* Requests that wait for an answer. All of them have times, or none; the same for candidates and, with a cache, for
 * user ids: a batch knows no mixture. */
typedef struct pending {
    size_t n;
    hs_ids offset, item, time, query, candidate_offset, candidate, user_id;
    hs_ids user_end; /* where each user's text ends in `users` */
    hs_ids line;     /* of each in the file */
    hs_dynbuf users; /* JSON text of the users, one behind the other */
    size_t bytes;    /* of their lines */
    bool has_times, has_candidates, has_user_id;
} pending;

typedef struct requests {
    hs_run *run;
    hs_line_reader reader;
    hs_request request;
    pending pending;
    int64_t *top, *plain_top; /* [batch_size, k]; plain: without the cache, for verification, or NULL */
    float *score, *plain_score;
    hs_dynbuf out;
    bool warned; /* of requests without times */
} requests;

enum { N_LISTS = 9 };

static void lists_of(pending *p, hs_ids *list[N_LISTS])
{
    hs_ids *const all[N_LISTS] = {&p->offset, &p->item, &p->time, &p->query, &p->candidate_offset, &p->candidate,
        &p->user_id, &p->user_end, &p->line};
    memcpy(list, all, sizeof all);
}

static void clear(pending *p)
{
    hs_ids *list[N_LISTS];
    lists_of(p, list);
    for (size_t i = 0; i < N_LISTS; i++)
        list[i]->n = 0;
    p->users.len = p->bytes = p->n = 0;
}

static void requests_close(requests *r)
{
    hs_ids *list[N_LISTS];
    lists_of(&r->pending, list);
    for (size_t i = 0; i < N_LISTS; i++)
        hs_ids_free(list[i]);
    hs_dynbuf_free(&r->pending.users);
    hs_request_free(&r->request);
    hs_line_reader_close(&r->reader);
    hs_free(r->top);
    hs_free(r->score);
    hs_free(r->plain_top);
    hs_free(r->plain_score);
    hs_dynbuf_free(&r->out);
}

/* ---- in --------------------------------------------------------------------------------------------------------- */

/* Turns the original ids of one list into model ids at the end of `out`. */
static hstu_status push_items(requests *r, const hs_ids *ids, const char *what, hs_ids *out, hstu_error *err)
{
    const int64_t offset = r->run->item_offset;
    const int64_t min = r->run->info.min_item_id - offset, max = r->run->info.max_item_id - offset;
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->data[i] < min || ids->data[i] > max)
            return hs_fail(err, HSTU_EINVAL, r->reader.line,
                "%s: line %llu: item %lld of '%s' is not in the model's item table (ids %lld to %lld)", r->reader.path,
                (unsigned long long)r->reader.line, (long long)ids->data[i], what, (long long)min, (long long)max);
        if (!hs_ids_push(out, ids->data[i] + offset))
            return hs_fail_nomem(err, (out->n + 1) * sizeof *out->data, "a batch of requests");
    }
    return HSTU_OK;
}

static hstu_status append_request(requests *r, hstu_error *err)
{
    pending *p = &r->pending;
    const hs_request *q = &r->request;
    bool ok = true;
    if (p->n == 0) {
        ok = hs_ids_push(&p->offset, 0) && hs_ids_push(&p->candidate_offset, 0);
        p->has_times = q->has_times;
        p->has_candidates = q->has_candidates;
        p->has_user_id = q->has_user_id;
    }
    p->has_user_id = p->has_user_id && q->has_user_id;
    for (int64_t i = r->run->pad_attention ? (int64_t)q->items.n : r->run->window; i < r->run->window && ok; i++)
        ok = hs_ids_push(&p->item, 0) && (!q->has_times || hs_ids_push(&p->time, 0));
    HS_TRY(push_items(r, &q->items, "items", &p->item, err));
    HS_TRY(push_items(r, &q->candidates, "candidates", &p->candidate, err));
    for (size_t i = 0; i < q->times.n && ok; i++)
        ok = hs_ids_push(&p->time, q->times.data[i]);
    ok = ok && hs_ids_push(&p->query, q->request_time) && hs_ids_push(&p->offset, (int64_t)p->item.n) &&
         hs_ids_push(&p->candidate_offset, (int64_t)p->candidate.n) &&
         hs_dynbuf_append(&p->users, q->user ? q->user : "null", q->user ? q->user_len : 4) &&
         hs_ids_push(&p->user_end, (int64_t)p->users.len) && hs_ids_push(&p->user_id, q->user_id) &&
         hs_ids_push(&p->line, (int64_t)r->reader.line);
    if (!ok)
        return hs_fail_nomem(err, p->item.n * sizeof(int64_t), "a batch of requests");
    p->bytes += r->reader.text.len;
    p->n++;
    return HSTU_OK;
}

/* ---- out -------------------------------------------------------------------------------------------------------- */

static void put_answer(requests *r, hs_json_writer *w, size_t i)
{
    const size_t k = (size_t)r->run->k;
    const int64_t *top = r->top + i * k;
    const size_t from = i ? (size_t)r->pending.user_end.data[i - 1] : 0;
    size_t n = 0;
    while (n < k && top[n] >= 0)
        n++;
    hs_json_begin(w, '{');
    hs_json_key(w, "user");
    hs_json_put_raw(w, r->pending.users.data + from, (size_t)r->pending.user_end.data[i] - from);
    hs_json_key(w, "items");
    hs_json_begin(w, '[');
    for (size_t j = 0; j < n; j++)
        hs_json_put_int(w, top[j] - r->run->item_offset);
    hs_json_end(w, ']');
    hs_json_key(w, "scores");
    hs_json_begin(w, '[');
    for (size_t j = 0; j < n; j++)
        hs_json_put_double(w, (double)r->score[i * k + j], SCORE_DIGITS);
    hs_json_end(w, ']');
    hs_json_end(w, '}');
}

static hstu_status write_answers(requests *r, hstu_error *err)
{
    r->out.len = 0;
    for (size_t i = 0; i < r->pending.n; i++) {
        hs_json_writer w;
        hs_json_writer_init(&w, &r->out, 0);
        put_answer(r, &w, i);
        if (w.failed || !hs_dynbuf_append_text(&r->out, "\n"))
            return hs_fail_nomem(err, r->out.len, "the answers");
    }
    /* Flushed at once: who feeds requests through a pipe waits for these. */
    if (fwrite(r->out.data, 1, r->out.len, hs_result_stream()) != r->out.len || fflush(hs_result_stream()) != 0)
        return hs_fail_errno(err, errno, "cannot write standard output");
    return HSTU_OK;
}

/* The library's sentence names the place in the batch; a person knows lines. */
static hstu_status name_lines(const requests *r, hstu_status status, hstu_error *err)
{
    const hstu_error inner = *err;
    const hs_ids *line = &r->pending.line;
    return hs_fail(err, status, (uint64_t)line->data[0], "%s: lines %lld to %lld: %s", r->reader.path,
        (long long)line->data[0], (long long)line->data[line->n - 1], inner.msg);
}

static void dump_shapes(const requests *r)
{
    const size_t n = r->pending.n;
    const long long k = (long long)r->run->k;
    if (r->run->dump_logits)
        (void)fprintf(stderr,
            "hstu: output shapes: user embeddings [%zu, %lld], top-k ids [%zu, %lld], top-k scores [%zu, %lld]\n", n,
            (long long)r->run->info.dim, n, k, n, k);
}

static hstu_status recommend(
    requests *r, hstu_session *session, const hstu_batch *batch, int64_t *top, float *score, hstu_error *err)
{
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = r->run->filter_seen;
    options.candidate_id = r->run->candidate;
    options.n_candidates = r->run->n_candidates;
    const hstu_status status = hstu_recommend(session, batch, (size_t)r->run->k, &options, top, score, NULL, err);
    return status == HSTU_OK ? HSTU_OK : name_lines(r, status, err);
}

static void name_request(void *ctx, size_t user, char *text, size_t size)
{
    const requests *r = ctx;
    (void)snprintf(text, size, "%.160s: line %lld", r->reader.path, (long long)r->pending.line.data[user]);
}

static hstu_status verify(requests *r, const hstu_batch *batch, hstu_error *err)
{
    const hs_answer_part part[] = {
        {.name = "score", .per = r->run->k, .real = {r->score, r->plain_score}},
        {.name = "item", .per = r->run->k, .whole = {r->top, r->plain_top}},
    };
    hs_run_npu_note(r->run, batch->n_users);
    HS_TRY(hs_run_cache_note(r->run, batch->n_users, 0, err));
    if (!hs_run_cache_is_due(r->run))
        return HSTU_OK;
    HS_TRY(recommend(r, r->run->cache.plain, batch, r->plain_top, r->plain_score, err));
    return hs_run_cache_verify(r->run, part, sizeof part / sizeof *part, batch->n_users, name_request, r, err);
}

static hstu_status answer_pending(requests *r, hstu_error *err)
{
    pending *p = &r->pending;
    if (p->n == 0)
        return HSTU_OK;
    const hstu_batch batch = {
        .n_users = p->n,
        .offset = p->offset.data,
        .item_id = p->item.data,
        .timestamp = p->has_times ? p->time.data : NULL,
        .query_time = p->has_times ? p->query.data : NULL,
        .cand_offset = p->has_candidates ? p->candidate_offset.data : NULL,
        .cand_id = p->has_candidates ? p->candidate.data : NULL,
        .user_id = p->has_user_id ? p->user_id.data : NULL,
    };
    HS_TRY(recommend(r, r->run->session, &batch, r->top, r->score, err));
    HS_TRY(verify(r, &batch, err));
    dump_shapes(r);
    HS_TRY(write_answers(r, err));
    clear(p);
    return HSTU_OK;
}

/* ---- loop ------------------------------------------------------------------------------------------------------- */

/* Cuts the request to the window that the model gets. */
static void cut(hs_request *request, const hs_run *run)
{
    const int64_t n = (int64_t)request->items.n, start = hs_window_start(n, run->window, run->slide_step);
    const size_t keep = (size_t)(n - start);
    memmove(request->items.data, request->items.data + start, keep * sizeof(int64_t));
    request->items.n = keep;
    if (request->has_times) {
        memmove(request->times.data, request->times.data + start, keep * sizeof(int64_t));
        request->times.n = keep;
    }
}

static bool fits(const requests *r)
{
    const pending *p = &r->pending;
    return p->bytes + r->reader.text.len <= MAX_LINE_BYTES && p->has_times == r->request.has_times &&
           p->has_candidates == r->request.has_candidates &&
           (!r->run->cache.cache || p->has_user_id == r->request.has_user_id);
}

static void warn_without_times(requests *r)
{
    if (r->warned || r->request.has_times || !r->run->info.uses_time)
        return;
    r->warned = true;
    hs_console_warn(&r->run->console,
        "%s: line %llu has no times: the model's relative bias is left out for such requests", r->reader.path,
        (unsigned long long)r->reader.line);
}

/* Reads one line and takes it up; *more is false at the end of the file. */
static hstu_status take_line(requests *r, bool *more, hstu_error *err)
{
    if (hs_console_cancelled(&r->run->console))
        return hs_fail(err, HSTU_ECANCELLED, 0, "interrupted");
    HS_TRY(hs_line_reader_next(&r->reader, more, err));
    if (!*more || strspn(r->reader.text.data ? r->reader.text.data : "", " \t") == r->reader.text.len)
        return HSTU_OK;
    HS_TRY(hs_request_parse(&r->request, r->reader.text.data, r->reader.text.len, r->reader.path, r->reader.line, err));
    cut(&r->request, r->run);
    warn_without_times(r);
    if (r->pending.n && !fits(r))
        HS_TRY(answer_pending(r, err));
    HS_TRY(append_request(r, err));
    return r->pending.n == (size_t)r->run->batch_size ? answer_pending(r, err) : HSTU_OK;
}

static hstu_status requests_open(requests *r, hs_run *run, hstu_error *err)
{
    size_t places = 0;
    *r = (requests){.run = run};
    hs_dynbuf_init(&r->pending.users, 2 * (size_t)MAX_LINE_BYTES);
    hs_dynbuf_init(&r->out, SIZE_MAX / 2);
    if (!hs_mul_size((size_t)run->batch_size, (size_t)run->k, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch's answers");
    r->top = hs_alloc(places, sizeof *r->top);
    r->score = hs_alloc(places, sizeof *r->score);
    if (run->cache.plain) {
        r->plain_top = hs_alloc(places, sizeof *r->plain_top);
        r->plain_score = hs_alloc(places, sizeof *r->plain_score);
    }
    if (!r->top || !r->score || (run->cache.plain && (!r->plain_top || !r->plain_score)))
        return hs_fail_nomem(err, places * 12, "a batch's answers");
    return hs_line_reader_open(&r->reader, run->requests_path, MAX_LINE_BYTES, err);
}

hstu_status hs_run_answer_requests(hs_run *run, hstu_error *err)
{
    requests r;
    bool more = true;
    hstu_status status = requests_open(&r, run, err);
    while (status == HSTU_OK && more)
        status = take_line(&r, &more, err);
    /* What stands before a bad line is answered; the bad line's error stays the one that is told. */
    if (status == HSTU_OK)
        status = answer_pending(&r, err);
    else if (status == HSTU_EFORMAT || status == HSTU_EINVAL)
        (void)answer_pending(&r, &(hstu_error){0});
    requests_close(&r);
    return status;
}
