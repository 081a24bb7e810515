/* The best items of a table, searched by a graph, against the CPU's search. Numbers are small integers, so that scores are exact and many
 * are equal: every place must be the same. */
#include "npu_test.h"

enum { ITEMS = 700, DIM = 6, QUERIES = 90, PLACES = 40, SEEN = 30 };

typedef struct search {
    float table[ITEMS * DIM], norm[ITEMS], bias[ITEMS], query[QUERIES * DIM];
    int64_t seen_offset[QUERIES + 1], seen[QUERIES * SEEN], candidate[3], target[QUERIES];
    hs_topk_args args;
} search;

typedef struct found {
    int64_t item[QUERIES * PLACES], rank[QUERIES];
    float score[QUERIES * PLACES];
} found;

static void fill_ints(float *v, int64_t n, int64_t from, int64_t to, uint64_t *random)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(from + random_below(random, to - from + 1));
}

/* Ascending ids for each query, as many as there may be or fewer. */
static void choose_seen(search *s, int64_t n_queries, uint64_t *random)
{
    for (int64_t q = 0, n = 0; q < n_queries; q++) {
        int64_t id = 0;
        for (int64_t left = random_below(random, SEEN + 1); left > 0 && id < ITEMS; left--) {
            s->seen[n++] = id;
            id += 1 + random_below(random, 20);
        }
        s->seen_offset[q + 1] = n;
    }
}

static void make_search(search *s, uint64_t seed)
{
    uint64_t random = seed;
    const int64_t first = random_below(&random, 3), n_queries = 1 + random_below(&random, seed % 4 ? 5 : QUERIES);
    fill_ints(s->table, ITEMS * DIM, -2, 2, &random);
    fill_ints(s->norm, ITEMS, 1, 2, &random);
    fill_ints(s->bias, ITEMS, -3, 3, &random);
    fill_ints(s->query, QUERIES * DIM, -2, 2, &random);
    choose_seen(s, n_queries, &random);
    s->args = (hs_topk_args){.query = hs_mat_of(s->query, n_queries, DIM),
        .table = s->table,
        .table_type = HS_F32,
        .table_rows = ITEMS,
        .inv_norm = seed & 1 ? s->norm : NULL,
        .bias = seed & 2 ? s->bias : NULL,
        .first = first,
        .n_candidates = seed % 5 ? ITEMS - first : 1 + random_below(&random, 20), /* fewer than places, too */
        .k = 1 + random_below(&random, PLACES),
        .seen_offset = seed % 3 ? s->seen_offset : NULL,
        .seen = seed % 3 ? s->seen : NULL};
}

static void run(hs_device *dev, const search *s, found *out)
{
    hstu_error err;
    hs_topk_args a = s->args;
    memset(out, 0, sizeof *out);
    a.item = out->item;
    a.score = out->score;
    a.rank = out->rank;
    assert_ok(dev->table->topk(dev, &a, &err), &err);
}

static void expect_answer(hs_device *npu, hs_device *cpu, const search *s)
{
    static found got, want;
    run(npu, s, &got);
    run(cpu, s, &want);
    for (int64_t i = 0; i < s->args.query.rows * s->args.k; i++) {
        if (got.item[i] != want.item[i] || got.score[i] != want.score[i])
            fail_msg("query %d, place %d: item %d with %g, expected %d with %g", (int)(i / s->args.k),
                (int)(i % s->args.k), (int)got.item[i], (double)got.score[i], (int)want.item[i], (double)want.score[i]);
    }
    assert_memory_equal(got.rank, want.rank, sizeof got.rank);
}

static void expect_same(hs_device *npu, hs_device *cpu, const search *s, bool on_device)
{
    const hs_npu_stats before = npu_stats(npu);
    expect_answer(npu, cpu, s);
    const hs_npu_stats after = npu_stats(npu);
    assert_int_equal(after.n_top_k_device - before.n_top_k_device, on_device);
    assert_int_equal(after.n_top_k_cpu - before.n_top_k_cpu, !on_device);
}

static void open_both(hs_device **npu, hs_device **cpu, search **s)
{
    hstu_error err;
    *npu = npu_open("ort-cpu", HS_F32, 0);
    assert_ok(hs_device_open(cpu, &(hs_device_options){.name = "cpu", .threads = 1}, &err), &err);
    *s = hs_calloc(1, sizeof **s);
    assert_non_null(*s);
}

/* More kinds of searches than are kept; each table is a device's for good. */
static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < (TEST_SANITIZED ? 12 : 60); seed++) {
        hs_device *npu, *cpu;
        search *s;
        open_both(&npu, &cpu, &s);
        make_search(s, seed);
        for (int64_t k = s->args.k, i = 0; i < (seed % 10 ? 2 : 20); i++) {
            s->args.query.rows = i % 2 ? 1 : s->args.query.rows;
            s->args.k = 1 + (k + 7 * i) % PLACES;
            s->args.first = i % 3;
            s->args.n_candidates = s->args.n_candidates > ITEMS - 2 ? ITEMS - 2 : s->args.n_candidates;
            expect_same(npu, cpu, s, true);
        }
        hs_device_close(npu);
        hs_device_close(cpu);
        hs_free(s);
    }
}

/* Items whose scores are no numbers are never chosen, and hide no others. */
static void test_not_numbers(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < (TEST_SANITIZED ? 10 : 100); seed++) {
        hs_device *npu, *cpu;
        search *s;
        uint64_t random = seed;
        open_both(&npu, &cpu, &s);
        make_search(s, seed);
        for (int64_t left = 1 + random_below(&random, seed % 2 ? 3 : 200); left > 0; left--)
            s->table[random_below(&random, ITEMS * DIM)] = left % 2 ? NAN : -NAN;
        expect_answer(npu, cpu, s);
        hs_device_close(npu);
        hs_device_close(cpu);
        hs_free(s);
    }
}

/* What graphs leave to the CPU. */
static void test_declined(void **state)
{
    (void)state;
    hs_device *npu, *cpu;
    search *s;
    open_both(&npu, &cpu, &s);
    make_search(s, 1);
    const hs_topk_args plain = s->args;
    s->args.k = 0;
    expect_same(npu, cpu, s, false);
    s->args = plain;
    s->args.n_candidates = 3;
    s->args.first = 0;
    s->args.candidate = s->candidate;
    for (int i = 0; i < 3; i++)
        s->candidate[i] = 5 * i;
    expect_same(npu, cpu, s, false);
    s->args = plain;
    s->args.target = s->target;
    expect_same(npu, cpu, s, false);
    s->args = plain;
    expect_same(npu, cpu, s, true);
    s->query[0] = NAN; /* a top-k operator does not order it */
    expect_same(npu, cpu, s, false);
    s->query[0] = INFINITY; /* times 0 */
    expect_same(npu, cpu, s, false);
    s->query[0] = 1;
    expect_same(npu, cpu, s, true);
    hs_npu_compile_only(npu, true);
    expect_same(npu, cpu, s, false);
    hs_device_close(npu);
    hs_device_close(cpu);
    hs_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_declined),
    };
    return npu_main(tests);
}
