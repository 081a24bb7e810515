/* What a run tells of its cache. */
#include "cli/run_cache.h"
#include "cli/run_report.h"

#include <math.h>

static const char *const kind_name[HS_N_BATCH_KINDS] = {"hits", "misses", "mixed"};

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double total_latency_s(const hs_run_cache *c)
{
    double sum = 0;
    for (int kind = 0; kind < HS_N_BATCH_KINDS; kind++) {
        for (int64_t i = 0; i < c->n_of_kind[kind]; i++)
            sum += c->latency_s[kind * c->n_timed + i];
    }
    return sum;
}

static double mean_ms(const hs_run_cache *c, int kind)
{
    double sum = 0;
    for (int64_t i = 0; i < c->n_of_kind[kind]; i++)
        sum += c->latency_s[kind * c->n_timed + i];
    return c->n_of_kind[kind] ? 1e3 * sum / (double)c->n_of_kind[kind] : (double)NAN;
}

static double quantile_ms(const hs_run_cache *c, int kind, double p)
{
    const size_t n = (size_t)c->n_of_kind[kind];
    return n ? 1e3 * hs_quantile(c->latency_s + kind * c->n_timed, n, p) : (double)NAN;
}

/* Keys and values that no token fills, in pages in use. */
static double unused_bytes(const hstu_cache_stats *s)
{
    return ratio((double)s->n_unused_rows * (double)s->page_bytes, (double)s->page_tokens);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_number(hs_json_writer *w, const char *key, double x)
{
    hs_json_pair_double(w, key, x, HS_REPORT_DIGITS);
}

static void put_count(hs_json_writer *w, const char *key, uint64_t x)
{
    hs_json_pair_int(w, key, (int64_t)x);
}

static void put_counters(hs_json_writer *w, const hstu_cache_stats *s)
{
    put_count(w, "requests", s->n_requests);
    put_count(w, "hits", s->n_hits);
    put_number(w, "hit_rate_requests", ratio((double)s->n_hits, (double)s->n_requests));
    put_count(w, "tokens", s->n_tokens);
    put_count(w, "reused_tokens", s->n_reused_tokens);
    put_number(w, "hit_rate_tokens", ratio((double)s->n_reused_tokens, (double)s->n_tokens));
    put_count(w, "changed", s->n_changed);
    put_count(w, "stored", s->n_stored);
    hs_json_key(w, "not_stored");
    hs_json_begin(w, '{');
    put_count(w, "too_large", s->n_too_large);
    put_count(w, "no_room", s->n_no_room);
    put_count(w, "busy", s->n_busy);
    hs_json_end(w, '}');
    hs_json_key(w, "evicted");
    hs_json_begin(w, '{');
    put_count(w, "users", s->n_evicted_users);
    put_count(w, "tokens", s->n_evicted_tokens);
    hs_json_end(w, '}');
}

static void put_content(hs_json_writer *w, const hstu_cache_stats *s)
{
    put_count(w, "users", s->n_users);
    put_count(w, "cached_tokens", s->n_cached_tokens);
    put_count(w, "pages", s->n_pages);
    put_count(w, "free_pages", s->n_free_pages);
    put_count(w, "page_tokens", s->page_tokens);
    put_count(w, "page_bytes", s->page_bytes);
    put_count(w, "used_bytes", s->used_bytes);
    put_count(w, "bookkeeping_bytes", s->bookkeeping_bytes);
    put_count(w, "budget_bytes", s->budget_bytes);
    put_count(w, "unused_rows", s->n_unused_rows);
    put_number(w, "unused_bytes", unused_bytes(s));
    put_number(w, "unused_percent", 100 * ratio(unused_bytes(s), (double)s->used_bytes));
}

static void put_latencies(hs_json_writer *w, const hs_run_cache *c)
{
    hs_json_key(w, "latency_ms");
    hs_json_begin(w, '{');
    for (int kind = 0; kind < HS_N_BATCH_KINDS; kind++) {
        hs_json_key(w, kind_name[kind]);
        hs_json_begin(w, '{');
        hs_json_pair_int(w, "count", c->n_of_kind[kind]);
        put_number(w, "mean", mean_ms(c, kind));
        put_number(w, "p50", quantile_ms(c, kind, 0.5));
        put_number(w, "p90", quantile_ms(c, kind, 0.9));
        put_number(w, "p99", quantile_ms(c, kind, 0.99));
        hs_json_end(w, '}');
    }
    hs_json_end(w, '}');
}

static void put_verified(hs_json_writer *w, const hs_run_cache *c)
{
    if (c->verify_every == 0)
        return;
    hs_json_key(w, "verified");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "every", c->verify_every);
    hs_json_pair_int(w, "batches", c->n_verified_batches);
    hs_json_pair_int(w, "requests", c->n_verified_requests);
    hs_json_pair_int(w, "differences", 0); /* one would have failed the run */
    hs_json_end(w, '}');
}

static void put_loaded(hs_json_writer *w, const hs_run_cache *c)
{
    if (!c->load_path)
        return;
    hs_json_key(w, "loaded");
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "file", c->load_path);
    put_count(w, "users", c->loaded.n_users);
    put_count(w, "tokens", c->loaded.n_tokens);
    put_count(w, "damaged", c->loaded.n_damaged);
    put_count(w, "no_room", c->loaded.n_no_room);
    hs_json_end(w, '}');
}

void hs_report_put_cache(hs_json_writer *w, const hs_run *run)
{
    const hs_run_cache *c = &run->cache;
    const hstu_cache_stats *s = &c->stats;
    if (!c->on)
        return;
    hs_json_key(w, "kv_cache");
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "kv_dtype", s->kv_dtype);
    hs_json_pair_text(w, "no_reuse", s->no_reuse);
    put_counters(w, s);
    put_content(w, s);
    put_number(w, "bookkeeping_ms_total", 1e3 * s->bookkeeping_s);
    put_number(w, "bookkeeping_percent_of_latency", 100 * ratio(s->bookkeeping_s, total_latency_s(c)));
    put_latencies(w, c);
    put_verified(w, c);
    put_loaded(w, c);
    if (c->save_path)
        hs_json_pair_text(w, "saved", c->save_path);
    hs_json_end(w, '}');
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

static void print_latencies(FILE *out, const hs_run_cache *c)
{
    for (int kind = 0; kind < HS_N_BATCH_KINDS; kind++) {
        if (c->n_of_kind[kind])
            (void)fprintf(out, "  %-12s%lld batches: mean %.3f ms, p50 %.3f, p90 %.3f, p99 %.3f\n", kind_name[kind],
                (long long)c->n_of_kind[kind], mean_ms(c, kind), quantile_ms(c, kind, 0.5), quantile_ms(c, kind, 0.9),
                quantile_ms(c, kind, 0.99));
    }
}

void hs_report_print_cache(FILE *out, const hs_run *run)
{
    const hs_run_cache *c = &run->cache;
    const hstu_cache_stats *s = &c->stats;
    const double mib = 1024.0 * 1024.0;
    if (!c->on)
        return;
    (void)fprintf(out, "  KV cache    %llu of %llu requests hit, %.1f %% of tokens reused, %llu users evicted\n",
        (unsigned long long)s->n_hits, (unsigned long long)s->n_requests,
        100 * ratio((double)s->n_reused_tokens, (double)s->n_tokens), (unsigned long long)s->n_evicted_users);
    (void)fprintf(out,
        "              %llu users in %llu of %llu pages, %.1f MiB of %s, %.1f %% of it unused; bookkeeping %.1f MiB\n",
        (unsigned long long)s->n_users, (unsigned long long)(s->n_pages - s->n_free_pages),
        (unsigned long long)s->n_pages, (double)s->used_bytes / mib, s->kv_dtype,
        100 * ratio(unused_bytes(s), (double)s->used_bytes), (double)s->bookkeeping_bytes / mib);
    print_latencies(out, c);
    if (c->verify_every)
        (void)fprintf(out, "  verified    %lld requests of %lld batches: no bit differs\n",
            (long long)c->n_verified_requests, (long long)c->n_verified_batches);
    (void)fputc('\n', out);
}
