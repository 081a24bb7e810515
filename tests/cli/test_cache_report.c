/* What a run tells of its cache: keys, figures worked out by hand, the table. */
#include "base/json.h"
#include "cli/run_cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Room for four batches of each kind: two hits, one miss, one mixed. */
static double latency[] = {0.001, 0.003, 0, 0, 0.005, 0, 0, 0, 0.007, 0, 0, 0};

static hs_run make_run(void)
{
    hs_run run = {.cache = {.on = true,
                      .verify_every = 2,
                      .load_path = "old.kv",
                      .save_path = "new.kv",
                      .loaded = {.n_users = 11, .n_tokens = 12, .n_damaged = 13, .n_no_room = 14},
                      .n_verified_batches = 2,
                      .n_verified_requests = 5,
                      .latency_s = latency,
                      .n_timed = 4,
                      .n_of_kind = {2, 1, 1}}};
    run.cache.stats = (hstu_cache_stats){.n_requests = 8,
        .n_hits = 6,
        .n_tokens = 1000,
        .n_reused_tokens = 900,
        .n_stored = 7,
        .n_not_stored = 1,
        .n_no_room = 1,
        .n_changed = 2,
        .n_evicted_users = 3,
        .n_evicted_tokens = 33,
        .bookkeeping_s = 0.0008,
        .n_users = 4,
        .n_pages = 10,
        .n_free_pages = 3,
        .n_cached_tokens = 400,
        .n_unused_rows = 48,
        .page_tokens = 64,
        .page_bytes = 6400,
        .used_bytes = 44800,
        .bookkeeping_bytes = 500,
        .budget_bytes = 65536,
        .kv_dtype = "bf16"};
    return run;
}

static cJSON *report(const hs_run *run)
{
    hs_dynbuf out;
    hs_json_writer w;
    hstu_error err = {0};
    cJSON *root = NULL;
    hs_dynbuf_init(&out, 1 << 16);
    hs_json_writer_init(&w, &out, 2);
    hs_json_begin(&w, '{');
    hs_report_put_cache(&w, run);
    hs_json_end(&w, '}');
    assert_false(w.failed);
    if (hs_json_parse(&root, out.data, out.len, "the report", &err) != HSTU_OK)
        fail_msg("%s in: %s", err.msg, out.data);
    hs_dynbuf_free(&out);
    return root;
}

static void check_keys(const cJSON *object, const char *const *key, size_t n)
{
    const cJSON *child = object->child;
    for (size_t i = 0; i < n; i++, child = child->next) {
        assert_non_null(child);
        assert_string_equal(child->string, key[i]);
    }
    assert_null(child);
}

static const cJSON *get(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_non_null(item);
    return item;
}

static void expect(const cJSON *object, const char *key, double value)
{
    const cJSON *item = get(object, key);
    if (!cJSON_IsNumber(item) || fabs(item->valuedouble - value) > 1e-9 * fabs(value))
        fail_msg("%s: expected %g, found %g", key, value, item->valuedouble);
}

static void test_json(void **state)
{
    (void)state;
    static const char *const keys[] = {"kv_dtype", "no_reuse", "requests", "hits", "hit_rate_requests", "tokens",
        "reused_tokens", "hit_rate_tokens", "changed", "stored", "not_stored", "evicted", "users", "cached_tokens",
        "pages", "free_pages", "page_tokens", "page_bytes", "used_bytes", "bookkeeping_bytes", "budget_bytes",
        "unused_rows", "unused_bytes", "unused_percent", "bookkeeping_ms_total", "bookkeeping_percent_of_latency",
        "latency_ms", "verified", "loaded", "saved"};
    static const char *const kinds[] = {"hits", "misses", "mixed"};
    hs_run run = make_run();
    cJSON *root = report(&run);
    const cJSON *cache = get(root, "kv_cache"), *times = get(cache, "latency_ms");
    check_keys(cache, keys, sizeof keys / sizeof *keys);
    assert_true(cJSON_IsNull(get(cache, "no_reuse")));
    expect(cache, "hit_rate_requests", 0.75);
    expect(cache, "hit_rate_tokens", 0.9);
    expect(get(cache, "not_stored"), "no_room", 1);
    expect(get(cache, "not_stored"), "busy", 0);
    expect(get(cache, "evicted"), "tokens", 33);
    expect(cache, "unused_bytes", 4800);
    expect(cache, "unused_percent", 100 * 4800.0 / 44800);
    expect(cache, "bookkeeping_ms_total", 0.8);
    expect(cache, "bookkeeping_percent_of_latency", 5); /* of 16 ms */
    check_keys(times, kinds, 3);
    expect(get(times, "hits"), "count", 2);
    expect(get(times, "hits"), "mean", 2);
    expect(get(times, "hits"), "p50", 2);
    expect(get(times, "hits"), "p90", 2.8);
    expect(get(times, "misses"), "p99", 5);
    expect(get(times, "mixed"), "mean", 7);
    expect(get(cache, "verified"), "requests", 5);
    expect(get(cache, "verified"), "differences", 0);
    expect(get(cache, "loaded"), "damaged", 13);
    assert_string_equal(cJSON_GetStringValue(get(cache, "saved")), "new.kv");
    cJSON_Delete(root);
}

/* What was not asked for is not told, and nothing divides by nothing. */
static void test_empty(void **state)
{
    (void)state;
    hs_run run = {.cache = {.on = true, .stats = {.kv_dtype = "fp32", .no_reuse = "the mask is on"}}};
    cJSON *root = report(&run);
    const cJSON *cache = get(root, "kv_cache");
    expect(cache, "hit_rate_requests", 0);
    expect(cache, "bookkeeping_percent_of_latency", 0);
    assert_true(cJSON_IsNull(get(get(get(cache, "latency_ms"), "misses"), "p50")));
    assert_string_equal(cJSON_GetStringValue(get(cache, "no_reuse")), "the mask is on");
    assert_null(cJSON_GetObjectItemCaseSensitive(cache, "verified"));
    assert_null(cJSON_GetObjectItemCaseSensitive(cache, "loaded"));
    assert_null(cJSON_GetObjectItemCaseSensitive(cache, "saved"));
    cJSON_Delete(root);
    run.cache.on = false;
    root = report(&run);
    assert_null(root->child);
    cJSON_Delete(root);
}

static void test_table(void **state)
{
    (void)state;
    const hs_run run = make_run();
    char *out = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&out, &n);
    assert_non_null(stream);
    hs_report_print_cache(stream, &run);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(out, "6 of 8 requests hit, 90.0 % of tokens reused, 3 users evicted\n"));
    assert_non_null(strstr(out, "4 users in 7 of 10 pages, 0.0 MiB of bf16, 10.7 % of it unused"));
    assert_non_null(strstr(out, "hits        2 batches: mean 2.000 ms, p50 2.000, p90 2.800, p99 2.980\n"));
    assert_non_null(strstr(out, "verified    5 requests of 2 batches: no bit differs\n"));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
