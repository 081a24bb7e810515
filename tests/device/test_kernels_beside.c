/* Weights of attention and a product that is made beside them: the same bits as one after the other, whatever their sizes and hints, and
 * nothing else is read or written. */
#define _DEFAULT_SOURCE
#include "guarded_test.h"

#include "base/half.h"
#include "tensor/mat.h"

typedef struct sizes {
    int64_t rows, n, dqk, n_first; /* of the weights */
    int64_t made, k, dv;           /* of the product: rows, tokens, columns */
} sizes;

typedef struct beside_case {
    sizes s;
    float *bias;
    hs_pair_weights w;
    hs_gemm product;
    guarded memory[10];
    int n_memory;
} beside_case;

static void *memory_new(beside_case *c, int64_t n, size_t each)
{
    return guarded_new(&c->memory[c->n_memory++], (size_t)n * each);
}

static uint16_t *halves_new(beside_case *c, int64_t n, uint64_t seed)
{
    uint16_t *p = memory_new(c, n, sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = hs_f32_to_bf16(random_f32(&seed, FILL_SIGNED));
    return p;
}

/* Rows of a left side: zeros behind their k columns. */
static uint16_t *left_new(beside_case *c, int64_t rows, int64_t k, uint64_t seed)
{
    const int64_t whole = hs_ceil_div_i64(rows, HS_PAIR_ROWS) * HS_PAIR_ROWS, ld = hs_mat_half_ld(k);
    uint16_t *p = halves_new(c, whole * ld, seed);
    for (int64_t r = 0; r < whole; r++)
        memset(p + r * ld + k, 0, (size_t)(ld - k) * sizeof *p);
    return p;
}

/* A right side in panels: [panel][pair of k][column], as keys and values lie. */
static const void *right_new(beside_case *c, int64_t n, int64_t k, uint64_t seed)
{
    return halves_new(c, hs_ceil_div_i64(n, HS_PANEL) * HS_PANEL * hs_ceil_div_i64(k, 2) * 2, seed);
}

static void case_new(beside_case *c, const sizes *s, bool with_bias, bool accumulate)
{
    uint64_t seed = 9;
    *c = (beside_case){.s = *s, .bias = hs_alloc((size_t)(s->rows * s->n), sizeof *c->bias)};
    assert_non_null(c->bias);
    for (int64_t i = 0; i < s->rows * s->n; i++)
        c->bias[i] = random_f32(&seed, FILL_SIGNED);
    c->w = (hs_pair_weights){.scores = {.left = left_new(c, s->rows, s->dqk, 1),
                                 .lda = hs_mat_half_ld(s->dqk),
                                 .b = right_new(c, s->n, s->dqk, 3),
                                 .ldb = HS_PANEL,
                                 .panel = hs_ceil_div_i64(s->dqk, 2) * HS_PANEL,
                                 .rows = s->rows,
                                 .k = s->dqk,
                                 .n = s->n},
        .bias = with_bias ? c->bias : NULL,
        .ldo = hs_mat_half_ld(s->n),
        .ldb = s->n,
        .n_first = s->n_first,
        .alpha = 0.25f};
    c->product = (hs_gemm){.left = left_new(c, s->made, s->k, 2),
        .lda = hs_mat_half_ld(s->k),
        .b = right_new(c, s->dv, s->k, 4),
        .ldb = HS_PANEL,
        .panel = hs_ceil_div_i64(s->k, 2) * HS_PANEL,
        .ldc = s->dv,
        .rows = s->made,
        .k = s->k,
        .n = s->dv,
        .accumulate = accumulate};
}

static void case_free(beside_case *c)
{
    hs_free(c->bias);
    for (int i = 0; i < c->n_memory; i++)
        guarded_free(&c->memory[i]);
}

static float *sums_new(beside_case *c)
{
    float *sums = memory_new(c, c->s.made * c->s.dv, sizeof *sums);
    for (int64_t i = 0; i < c->s.made * c->s.dv; i++)
        sums[i] = (float)(i % 17) - 8.0f;
    return sums;
}

static void check(int isa, const sizes *s, bool with_bias, bool accumulate, bool again)
{
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    beside_case c;
    case_new(&c, s, with_bias, accumulate);
    uint16_t *apart = memory_new(&c, s->rows * c.w.ldo, sizeof *apart);
    uint16_t *together = memory_new(&c, s->rows * c.w.ldo, sizeof *together);
    float *sums_apart = sums_new(&c), *sums_together = sums_new(&c);
    if (pairs->enter)
        pairs->enter();
    c.w.out = apart;
    pairs->weights(&c.w);
    c.product.c = sums_apart;
    pairs->gemm(&c.product);
    c.product.c = sums_together;
    c.product.again = c.w.scores.again = again;
    hs_gemm keys = c.w.scores, values = c.product;
    keys.n -= keys.n / 3;
    keys.b = right_new(&c, keys.n, keys.k, 5);
    values.k -= values.k / 3;
    values.panel = hs_ceil_div_i64(values.k, 2) * HS_PANEL;
    values.b = right_new(&c, values.n, values.k, 6);
    c.w.scores.next = again ? NULL : &keys;
    c.product.next = again ? NULL : &values;
    c.w.out = together;
    c.w.beside = &c.product;
    pairs->weights(&c.w);
    if (pairs->leave)
        pairs->leave();
    if (memcmp(apart, together, (size_t)(s->rows * c.w.ldo) * sizeof *apart) != 0 ||
        memcmp(sums_apart, sums_together, (size_t)(s->made * s->dv) * sizeof *sums_apart) != 0)
        fail_msg("%s: %d x %d x %d beside %d x %d x %d: other bits than one after the other",
            hs_cpu_kernels_at(isa)->isa, (int)s->rows, (int)s->dqk, (int)s->n, (int)s->made, (int)s->k, (int)s->dv);
    case_free(&c);
}

/* Whole blocks and parts of them, many scores beside few sums and the other way round. */
static void test_beside(void **state)
{
    static const sizes all[] = {{32, 512, 128, 512, 32, 512, 128}, {32, 512, 128, 490, 32, 512, 128},
        {32, 512, 256, 512, 32, 512, 256}, {32, 512, 64, 512, 32, 512, 64}, {32, 512, 32, 512, 32, 512, 32},
        {32, 64, 128, 64, 32, 512, 128}, {32, 512, 128, 512, 32, 64, 128}, {17, 512, 128, 512, 32, 512, 128},
        {32, 512, 128, 512, 17, 512, 128}, {6, 512, 128, 507, 32, 512, 128}, {32, 512, 128, 512, 6, 512, 128},
        {32, 500, 128, 470, 32, 501, 128}, {32, 512, 40, 512, 32, 512, 40}, {32, 512, 128, 3, 32, 512, 128},
        {31, 17, 33, 5, 29, 13, 31}, {1, 1, 1, 1, 1, 1, 1}, {16, 512, 128, 512, 16, 512, 128},
        {32, 33, 1024, 33, 32, 512, 16}};
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < sizeof all / sizeof *all; i++) {
            for (int kind = 0; kind < 8; kind++)
                check(isa, &all[i], kind & 1, kind & 2, kind & 4);
        }
    }
}

/* One of two is whole in some of its sizes, where the quick ways are. */
static void test_random(void **state)
{
    enum { CASES = TEST_SANITIZED ? 40 : 200 };
    (void)state;
    FOR_EACH_ISA(isa)
    {
        uint64_t seed = 77;
        for (int i = 0; hs_cpu_kernels_at(isa)->pairs && i < CASES; i++) {
            sizes s = {.rows = 1 + random_below(&seed, HS_PAIR_TILE),
                .n = 1 + random_below(&seed, 512),
                .dqk = 1 + random_below(&seed, 260),
                .made = 1 + random_below(&seed, HS_PAIR_TILE),
                .k = 1 + random_below(&seed, 512),
                .dv = 1 + random_below(&seed, 300)};
            if (i % 2)
                s.k = HS_PAIR_STEP * (1 + random_below(&seed, 16));
            if (i % 3)
                s.dv = HS_PANEL * (1 + random_below(&seed, 16));
            if (i % 5 < 3)
                s.dqk = HS_PAIR_STEP * (1 + random_below(&seed, 8));
            s.n_first = random_below(&seed, s.n + 40) - 5;
            check(isa, &s, i % 4 == 1, i & 4, i & 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
