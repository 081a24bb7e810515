/* Where the time went. */
#include "cli/stage_times.h"

#include <math.h>
#include <stdlib.h>

enum { DIGITS = 6 };

static int longest_first(const void *a, const void *b)
{
    const double x = ((const hstu_stage_time *)a)->seconds, y = ((const hstu_stage_time *)b)->seconds;
    return (x < y) - (x > y);
}

hstu_status hs_stage_times_take(
    hs_stage_times *out, const hstu_session *session, double total_s, int64_t n_requests, hstu_error *err)
{
    hs_stage_times t = {.n_requests = n_requests, .total_s = total_s};
    hstu_stage_time one, rest = {.stage = "else", .seconds = total_s};
    hstu_status status = hstu_session_get_stage(session, 0, &one, err);
    if (status != HSTU_OK)
        return status;
    for (size_t i = 0; hstu_session_get_stage(session, i, &one, NULL) == HSTU_OK; i++) {
        rest.seconds -= one.seconds;
        if (one.calls > 0 && t.n + 1 < HS_STAGE_TIMES_MOST)
            t.stage[t.n++] = one;
    }
    rest.seconds = rest.seconds > 0 ? rest.seconds : 0;
    qsort(t.stage, t.n, sizeof *t.stage, longest_first);
    t.stage[t.n++] = rest;
    *out = t;
    return HSTU_OK;
}

static double per_request(const hs_stage_times *t, double x)
{
    return t->n_requests > 0 ? x / (double)t->n_requests : 0;
}

static double share(const hs_stage_times *t, double seconds)
{
    return t->total_s > 0 ? seconds / t->total_s : 0;
}

/* NaN where operations are not counted: JSON has null then. */
static double gflops(const hstu_stage_time *s)
{
    return s->flop > 0 && s->seconds > 0 ? 1e-9 * s->flop / s->seconds : (double)NAN;
}

void hs_stage_times_put(hs_json_writer *w, const hs_stage_times *t)
{
    if (t->n == 0)
        return;
    hs_json_key(w, "profile");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "requests", t->n_requests);
    hs_json_pair_double(w, "ms", 1e3 * per_request(t, t->total_s), DIGITS);
    hs_json_key(w, "stages");
    hs_json_begin(w, '[');
    for (size_t i = 0; i < t->n; i++) {
        const hstu_stage_time *s = &t->stage[i];
        hs_json_begin(w, '{');
        hs_json_pair_text(w, "stage", s->stage);
        hs_json_pair_double(w, "calls", per_request(t, (double)s->calls), DIGITS);
        hs_json_pair_double(w, "ms", 1e3 * per_request(t, s->seconds), DIGITS);
        hs_json_pair_double(w, "share", share(t, s->seconds), DIGITS);
        hs_json_pair_double(w, "gflops", gflops(s), DIGITS);
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
    hs_json_end(w, '}');
}

void hs_stage_times_print(
    FILE *out, const hs_stage_times *t, const char *before, const char *between, const char *after)
{
    for (size_t i = 0; i < t->n; i++) {
        const hstu_stage_time *s = &t->stage[i];
        char speed[32] = "-";
        if (isfinite(gflops(s)))
            (void)snprintf(speed, sizeof speed, "%.1f", gflops(s));
        (void)fprintf(out, "%s%-12s%s%9.2f%s%10.4f%s%5.1f %%%s%9s%s", before, s->stage, between,
            per_request(t, (double)s->calls), between, 1e3 * per_request(t, s->seconds), between,
            100 * share(t, s->seconds), between, speed, after);
    }
}
