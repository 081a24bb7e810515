/* Top-k and ranks against a full sort of scores from the contract's own chain, exactly. */
#include "kernel_test.h"

#include <inttypes.h>

typedef struct topk_case {
    int64_t n, d, table_rows, k;
    int64_t first, n_candidates;
    bool listed; /* every third row from `first` on */
    bool small;  /* few distinct values: many equal scores */
    bool with_norm, with_bias, with_seen;
} topk_case;

typedef struct scored {
    int64_t id;
    float score;
} scored;

static int compare_scored(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

typedef struct topk_data {
    hs_mat query, table, norm, bias;
    int64_t *candidate, *seen_offset, *seen, *target;
} topk_data;

static topk_data data_new(const topk_case *c)
{
    topk_data t = {.query = mat_new(c->n, c->d, c->d + 1, FILL_SIGNED, 1),
        .table = mat_new(c->table_rows, c->d, c->d, FILL_SIGNED, 2),
        .norm = mat_new(1, c->table_rows, c->table_rows, FILL_POSITIVE, 3),
        .bias = mat_new(1, c->table_rows, c->table_rows, FILL_SIGNED, 4),
        .candidate = hs_alloc((size_t)c->n_candidates, sizeof(int64_t)),
        .seen_offset = hs_calloc((size_t)c->n + 1, sizeof(int64_t)),
        .seen = hs_alloc((size_t)(c->n * c->table_rows), sizeof(int64_t)),
        .target = hs_alloc((size_t)c->n, sizeof(int64_t))};
    assert_true(t.candidate && t.seen_offset && t.seen && t.target);
    uint64_t seed = 9;
    if (c->small) {
        for (int64_t i = 0; i < c->n; i++) {
            for (int64_t j = 0; j < c->d; j++)
                t.query.data[i * t.query.ld + j] = (float)random_below(&seed, 3) - 1.0f;
        }
        for (int64_t i = 0; i < c->table_rows * c->d; i++)
            t.table.data[i] = (float)random_below(&seed, 3) - 1.0f;
    }
    if (c->table_rows > 20)
        t.table.data[20 * c->d] = NAN;
    for (int64_t i = 0; i < c->n_candidates; i++)
        t.candidate[i] = c->first + 3 * i;
    for (int64_t q = 0; q < c->n; q++) {
        int64_t at = t.seen_offset[q];
        for (int64_t id = 0; id < c->table_rows; id++) {
            if (q == 1 || random_below(&seed, 4) == 0) /* query 1 has seen everything */
                t.seen[at++] = id;
            if (random_below(&seed, 40) == 0 && at > t.seen_offset[q])
                t.seen[at] = t.seen[at - 1], at++; /* seen twice */
            if (at == (q + 1) * c->table_rows)
                break;
        }
        t.seen_offset[q + 1] = at;
        t.target[q] = random_below(&seed, c->table_rows);
    }
    t.target[0] = c->table_rows + 5; /* no candidate */
    if (c->n > 3)
        t.target[3] = -1;
    return t;
}

static void data_free(topk_data *t)
{
    hs_free(t->query.data);
    hs_free(t->table.data);
    hs_free(t->norm.data);
    hs_free(t->bias.data);
    hs_free(t->candidate);
    hs_free(t->seen_offset);
    hs_free(t->seen);
    hs_free(t->target);
}

static bool was_seen(const topk_case *c, const topk_data *t, int64_t q, int64_t id)
{
    for (int64_t i = t->seen_offset[q]; c->with_seen && i < t->seen_offset[q + 1]; i++) {
        if (t->seen[i] == id)
            return true;
    }
    return false;
}

/* All candidates of a query that may be chosen, best first; returns how many. */
static int64_t sorted_scores(const topk_case *c, const topk_data *t, int64_t q, scored *out)
{
    int64_t count = 0;
    for (int64_t i = 0; i < c->n_candidates; i++) {
        const int64_t id = c->listed ? t->candidate[i] : c->first + i;
        float score = 0;
        for (int64_t j = 0; j < c->d; j++)
            score = fmaf(t->query.data[q * t->query.ld + j], t->table.data[id * c->d + j], score);
        if (c->with_norm)
            score *= t->norm.data[id];
        if (c->with_bias)
            score += t->bias.data[id];
        if (!isnan(score) && !was_seen(c, t, q, id))
            out[count++] = (scored){.id = id, .score = score};
    }
    qsort(out, (size_t)count, sizeof *out, compare_scored);
    return count;
}

static void check_query(const topk_case *c, const scored *want, int64_t n_want, int64_t target, const int64_t *item,
    const float *score, int64_t rank)
{
    for (int64_t i = 0; i < c->k; i++) {
        if (i < n_want) {
            assert_int_equal(item[i], want[i].id);
            assert_true(score[i] == want[i].score);
        } else {
            assert_int_equal(item[i], -1);
            assert_true(score[i] == -INFINITY);
        }
    }
    int64_t want_rank = 0;
    for (int64_t i = 0; i < n_want; i++) {
        if (want[i].id == target)
            want_rank = i + 1;
    }
    assert_int_equal(rank, want_rank);
}

static void check_case(topk_case c)
{
    topk_data t = data_new(&c);
    scored *want = hs_alloc((size_t)c.n_candidates, sizeof *want);
    int64_t *item = hs_alloc((size_t)(c.n * c.k), sizeof *item), *rank = hs_alloc((size_t)c.n, sizeof *rank);
    float *score = hs_alloc((size_t)(c.n * c.k), sizeof *score);
    assert_true(want && item && rank && score);
    FOR_EACH_ISA(isa)
    {
        for (int threads = 1; threads <= 3; threads += 2) {
            hs_device *dev = device_new(isa, threads);
            const hs_topk_args a = {.query = t.query,
                .table = t.table.data,
                .table_rows = c.table_rows,
                .inv_norm = c.with_norm ? t.norm.data : NULL,
                .bias = c.with_bias ? t.bias.data : NULL,
                .candidate = c.listed ? t.candidate : NULL,
                .first = c.first,
                .n_candidates = c.n_candidates,
                .seen_offset = c.with_seen ? t.seen_offset : NULL,
                .seen = c.with_seen ? t.seen : NULL,
                .target = t.target,
                .k = c.k,
                .item = item,
                .score = score,
                .rank = rank};
            assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
            for (int64_t q = 0; q < c.n; q++)
                check_query(
                    &c, want, sorted_scores(&c, &t, q, want), t.target[q], item + q * c.k, score + q * c.k, rank[q]);
            hs_device_close(dev);
        }
    }
    hs_free(want);
    hs_free(item);
    hs_free(rank);
    hs_free(score);
    data_free(&t);
}

static void test_topk(void **state)
{
    (void)state;
    check_case((topk_case){
        .n = 9, .d = 10, .table_rows = 700, .k = 12, .n_candidates = 700, .with_norm = true, .with_seen = true});
    check_case((topk_case){.n = 5, .d = 17, .table_rows = 601, .k = 3, .first = 1, .n_candidates = 600});
    check_case((topk_case){.n = 2,
        .d = 8,
        .table_rows = 300,
        .k = 5,
        .first = 2,
        .n_candidates = 99,
        .listed = true,
        .with_norm = true,
        .with_seen = true});
    /* so wide that a tile is 16 candidates */
    check_case((topk_case){.n = 3, .d = 4100, .table_rows = 50, .k = 4, .n_candidates = 50, .with_seen = true});
}

static void test_bias(void **state)
{
    (void)state;
    check_case((topk_case){.n = 9, .d = 10, .table_rows = 700, .k = 12, .n_candidates = 700, .with_bias = true});
    check_case((topk_case){.n = 5,
        .d = 17,
        .table_rows = 700,
        .k = 6,
        .first = 1,
        .n_candidates = 200,
        .listed = true,
        .with_norm = true,
        .with_bias = true,
        .with_seen = true});
}

static void test_ties(void **state)
{
    (void)state;
    check_case((topk_case){
        .n = 11, .d = 3, .table_rows = 900, .k = 50, .n_candidates = 900, .small = true, .with_seen = true});
    check_case(
        (topk_case){.n = 4, .d = 2, .table_rows = 900, .k = 200, .n_candidates = 300, .listed = true, .small = true});
}

static void test_sizes(void **state)
{
    (void)state;
    check_case((topk_case){.n = 3, .d = 4, .table_rows = 30, .k = 100, .n_candidates = 30, .with_seen = true});
    check_case((topk_case){.n = 3, .d = 4, .table_rows = 30, .k = 0, .n_candidates = 30});
    check_case((topk_case){.n = 1, .d = 1, .table_rows = 1, .k = 1, .n_candidates = 1});
    check_case((topk_case){.n = 2, .d = 4, .table_rows = 5, .k = 2, .n_candidates = 0});
}

static void test_not_finite(void **state)
{
    (void)state;
    float table[4] = {1.0f, -INFINITY, NAN, INFINITY}, query[2] = {1.0f, NAN}, score[6];
    int64_t item[6], rank[2];
    const int64_t target[2] = {1, 0};
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        const hs_topk_args a = {.query = hs_mat_of(query, 2, 1),
            .table = table,
            .table_rows = 4,
            .n_candidates = 4,
            .target = target,
            .k = 3,
            .item = item,
            .score = score,
            .rank = rank};
        assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
        const int64_t want[6] = {3, 0, 1, -1, -1, -1};
        assert_memory_equal(item, want, sizeof want);
        assert_true(score[0] == INFINITY && score[1] == 1.0f && score[2] == -INFINITY && score[3] == -INFINITY);
        assert_int_equal(rank[0], 3);
        assert_int_equal(rank[1], 0);
        hs_device_close(dev);
    }
}

/* A query's answer, to the bit, does not depend on its companions. */
static void test_batch(void **state)
{
    (void)state;
    enum { QUERIES = 21, K = 7, D = 30, ROWS = 500 };
    hs_mat query = mat_new(QUERIES, D, D, FILL_SIGNED, 1), table = mat_new(ROWS, D, D, FILL_SIGNED, 2);
    int64_t item[QUERIES * K], alone_item[K];
    float score[QUERIES * K], alone_score[K];
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        hs_topk_args a = {.query = query,
            .table = table.data,
            .table_rows = ROWS,
            .n_candidates = ROWS,
            .k = K,
            .item = item,
            .score = score};
        assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
        for (int64_t q = 0; q < QUERIES; q++) {
            a.query = hs_mat_of(query.data + q * D, 1, D);
            a.item = alone_item;
            a.score = alone_score;
            assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
            assert_memory_equal(alone_item, item + q * K, sizeof alone_item);
            check_same_bits(alone_score, score + q * K, K, "scores of a query alone");
        }
        hs_device_close(dev);
    }
    hs_free(query.data);
    hs_free(table.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_topk), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_ties), cmocka_unit_test(test_sizes), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_batch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
