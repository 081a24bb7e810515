/* Top-k and ranks against a full sort of scores from the contract's own chains, exactly, over float32 and bfloat16 tables that end
 * at a page that nobody may touch. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "bf16_test.h"

#include <float.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

typedef enum values {
    VALUES_SIGNED,
    VALUES_POSITIVE,
    VALUES_SMALL,   /* few distinct ones: many equal scores */
    VALUES_DENORMAL /* some, and products that are */
} values;

typedef struct topk_case {
    int64_t n, d, table_rows, k;
    int64_t first, n_candidates;
    bool listed; /* every third row from `first` on */
    values values;
    bool bf16;
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
    hs_mat query, table, norm, bias; /* of a bfloat16 table: the values it holds */
    void *memory;                    /* the table, at the end of `bytes` of pages */
    char *base;
    size_t bytes;
    int64_t *candidate, *seen_offset, *seen, *target;
} topk_data;

static float value(const topk_case *c, uint64_t *seed)
{
    switch (c->values) {
    case VALUES_POSITIVE:
        return random_f32(seed, FILL_POSITIVE);
    case VALUES_SMALL:
        return (float)random_below(seed, 3) - 1.0f;
    case VALUES_DENORMAL:
        return ldexpf(random_f32(seed, FILL_SIGNED), random_below(seed, 2) ? -130 : -20);
    default:
        return random_f32(seed, FILL_SIGNED);
    }
}

static void fill_values(const topk_case *c, hs_mat *m, uint64_t seed)
{
    for (int64_t r = 0; r < m->rows; r++) {
        for (int64_t i = 0; i < m->cols; i++)
            m->data[r * m->ld + i] = value(c, &seed);
    }
}

/* The table as the operation reads it, its last byte in front of a page without access. */
static void place_table(const topk_case *c, topk_data *t)
{
    const size_t n = (size_t)(c->table_rows * c->d), need = n * (c->bf16 ? sizeof(uint16_t) : sizeof(float));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (need + page - 1) / page * page;
    t->bytes = room + page;
    t->base = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(t->base != MAP_FAILED);
    assert_int_equal(mprotect(t->base + room, page, PROT_NONE), 0);
    t->memory = t->base + room - need;
    for (size_t i = 0; i < n; i++) {
        if (c->bf16) {
            const uint16_t half = hs_f32_to_bf16(t->table.data[i]);
            memcpy((char *)t->memory + i * sizeof half, &half, sizeof half);
            t->table.data[i] = hs_bf16_to_f32(half);
        } else {
            memcpy((char *)t->memory + i * sizeof(float), &t->table.data[i], sizeof(float));
        }
    }
}

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
    fill_values(c, &t.query, 5);
    fill_values(c, &t.table, 6);
    if (c->table_rows > 20)
        t.table.data[20 * c->d] = NAN;
    place_table(c, &t);
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
    assert_int_equal(munmap(t->base, t->bytes), 0);
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
static int64_t sorted_scores(const topk_case *c, const topk_data *t, int isa, int64_t q, scored *out)
{
    int64_t count = 0;
    float *query = hs_alloc((size_t)c->d, sizeof *query);
    assert_non_null(query);
    for (int64_t j = 0; j < c->d; j++)
        query[j] = c->bf16 ? to_bf16(t->query.data[q * t->query.ld + j]) : t->query.data[q * t->query.ld + j];
    for (int64_t i = 0; i < c->n_candidates; i++) {
        const int64_t id = c->listed ? t->candidate[i] : c->first + i;
        const float *row = t->table.data + id * c->d;
        float score = c->bf16 ? paired_chain(isa, query, row, 1, c->d) : chain(query, row, 1, c->d);
        if (c->with_norm)
            score *= t->norm.data[id];
        if (c->with_bias)
            score += t->bias.data[id];
        if (!isnan(score) && !was_seen(c, t, q, id))
            out[count++] = (scored){.id = id, .score = score};
    }
    hs_free(query);
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

static void check_typed(topk_case c)
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
                .table = t.memory,
                .table_type = c.bf16 ? HS_BF16 : HS_F32,
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
                check_query(&c, want, sorted_scores(&c, &t, isa, q, want), t.target[q], item + q * c.k, score + q * c.k,
                    rank[q]);
            hs_device_close(dev);
        }
    }
    hs_free(want);
    hs_free(item);
    hs_free(rank);
    hs_free(score);
    data_free(&t);
}

static void check_case(topk_case c)
{
    c.bf16 = false;
    check_typed(c);
    c.bf16 = true;
    check_typed(c);
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
        .n = 11, .d = 3, .table_rows = 900, .k = 50, .n_candidates = 900, .values = VALUES_SMALL, .with_seen = true});
    check_case((topk_case){
        .n = 4, .d = 2, .table_rows = 900, .k = 200, .n_candidates = 300, .listed = true, .values = VALUES_SMALL});
}

/* Bounds stand just below what is wanted: of equal scores, whatever they are, the first items are the best. */
static void test_equal_scores(void **state)
{
    enum { N = 20, ROWS = 600, K = 10 };
    static const float scores[] = {
        0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY};
    static float query[N], table[ROWS], norm[ROWS], bias[ROWS], score[N * K];
    static int64_t item[N * K];
    (void)state;
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        for (size_t s = 0; s < sizeof scores / sizeof scores[0]; s++) {
            const bool zero = scores[s] == 0.0f;
            for (int64_t j = 0; j < ROWS; j++) {
                norm[j] = zero && j % 2 == 0 ? -1.0f : 1.0f; /* then some scores are -0, which equals 0 */
                bias[j] = scores[s];
            }
            const hs_topk_args a = {.query = hs_mat_of(query, N, 1),
                .table = table,
                .table_type = HS_F32,
                .table_rows = ROWS,
                .inv_norm = norm,
                .bias = zero ? NULL : bias,
                .n_candidates = ROWS,
                .k = K,
                .item = item,
                .score = score};
            assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
            for (int64_t i = 0; i < N * K; i++) {
                assert_int_equal(item[i], i % K);
                assert_true(score[i] == scores[s] && (!zero || !signbit(score[i])));
            }
        }
        hs_device_close(dev);
    }
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
            .table_type = HS_F32,
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

/* Every count of queries that kernels treat in a way of its own, every remainder of a vector or a tile of elements. */
static void test_shapes(void **state)
{
    (void)state;
    static const int64_t queries[] = {1, 2, 3, 4, 7, 8, 13, 16, 17, 31, 33, 65},
                         dims[] = {1, 2, 3, 16, 31, 32, 37, 64, 97};
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        for (size_t j = i % 3; j < sizeof dims / sizeof *dims; j += 3)
            check_case((topk_case){.n = queries[i],
                .d = dims[j],
                .table_rows = 149,
                .k = 5,
                .first = 1,
                .n_candidates = 148,
                .values = VALUES_POSITIVE,
                .with_norm = i % 2,
                .with_seen = i % 4 == 0});
    }
}

static void test_denormals(void **state)
{
    (void)state;
    check_case((topk_case){.n = 2, .d = 66, .table_rows = 90, .k = 20, .n_candidates = 90, .values = VALUES_DENORMAL});
    check_case((topk_case){.n = 18, .d = 66, .table_rows = 90, .k = 20, .n_candidates = 90, .values = VALUES_DENORMAL});
}

/* So large that threads take parts of the candidates, several each. */
static void test_large(void **state)
{
    (void)state;
    check_case((topk_case){.n = 1, .d = 50, .table_rows = 50021, .k = 4, .n_candidates = 50021, .with_bias = true});
    check_case(
        (topk_case){.n = 9, .d = 300, .table_rows = 7507, .k = 1000, .first = 1, .n_candidates = 2501, .listed = true});
}

/* A query's answer, to the bit, does not depend on its companions. */
static void check_batch(bool bf16)
{
    enum { QUERIES = 41, K = 7, D = 30, ROWS = 500 };
    const topk_case c = {.n = QUERIES, .d = D, .table_rows = ROWS, .bf16 = bf16};
    topk_data t = data_new(&c);
    int64_t item[QUERIES * K], alone_item[QUERIES * K];
    float score[QUERIES * K], alone_score[QUERIES * K];
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        hs_topk_args a = {.query = t.query,
            .table = t.memory,
            .table_type = bf16 ? HS_BF16 : HS_F32,
            .table_rows = ROWS,
            .n_candidates = ROWS,
            .k = K,
            .item = item,
            .score = score};
        assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
        for (int64_t n = 1; n <= 20; n += 1 + n / 4) {
            for (int64_t q = 0; q + n <= QUERIES; q += n) {
                a.query = (hs_mat){.data = t.query.data + q * t.query.ld, .rows = n, .cols = D, .ld = t.query.ld};
                a.item = alone_item;
                a.score = alone_score;
                assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
                assert_memory_equal(alone_item, item + q * K, (size_t)(n * K) * sizeof *item);
                check_same_bits(alone_score, score + q * K, n * K, "scores of a query with fewer");
            }
        }
        hs_device_close(dev);
    }
    data_free(&t);
}

static void test_batch(void **state)
{
    (void)state;
    check_batch(false);
    check_batch(true);
}

/* No sum is far from the exact one. */
static void test_accuracy(void **state)
{
    (void)state;
    enum { D = 512, ROWS = 40 };
    for (int variant = 0; variant < 4; variant++) {
        const bool bf16 = variant % 2;
        const topk_case c = {
            .n = 1 + 16 * (variant / 2), .d = D, .table_rows = ROWS, .bf16 = bf16, .values = VALUES_POSITIVE};
        topk_data t = data_new(&c);
        int64_t item[17 * ROWS];
        float score[17 * ROWS];
        FOR_EACH_ISA(isa)
        {
            hs_device *dev = device_new(isa, 1);
            const hs_topk_args a = {.query = t.query,
                .table = t.memory,
                .table_type = bf16 ? HS_BF16 : HS_F32,
                .table_rows = ROWS,
                .n_candidates = ROWS,
                .k = ROWS,
                .item = item,
                .score = score};
            assert_int_equal(dev->table->topk(dev, &a, NULL), HSTU_OK);
            for (int64_t i = 0; i < c.n * ROWS; i++) {
                double want = 0;
                for (int64_t j = 0; item[i] >= 0 && j < D; j++) {
                    const float q = t.query.data[i / ROWS * t.query.ld + j];
                    want += (double)(bf16 ? to_bf16(q) : q) * (double)t.table.data[item[i] * D + j];
                }
                if (item[i] >= 0)
                    check_near((double)score[i], want, D * ROUNDING * want, dev->isa, "a score", i / ROWS, item[i]);
            }
            hs_device_close(dev);
        }
        data_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_topk), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_ties), cmocka_unit_test(test_equal_scores), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_shapes), cmocka_unit_test(test_denormals),
        cmocka_unit_test(test_large), cmocka_unit_test(test_batch), cmocka_unit_test(test_accuracy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
