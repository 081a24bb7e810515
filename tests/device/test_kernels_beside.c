/* Weights of attention and a product that is made beside them: the same bits as one after the other, whatever their sizes, and nothing
 * else is written. */
#include "kernel_test.h"

#include "base/half.h"
#include "tensor/mat.h"

typedef struct sizes {
    int64_t rows, n, dqk, n_first; /* of the weights */
    int64_t made, k, dv;           /* of the product: rows, tokens, columns */
} sizes;

typedef struct beside_case {
    sizes s;
    uint16_t *q, *left;
    uint32_t *keys, *values;
    float *bias, *sums;
    hs_pair_weights w;
    hs_gemm product;
} beside_case;

static uint16_t *halves_new(int64_t n, uint64_t seed)
{
    uint16_t *p = hs_alloc_aligned((size_t)n, sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = hs_f32_to_bf16(random_f32(&seed, FILL_SIGNED));
    return p;
}

/* Rows of a left side: zeros behind their k columns. */
static uint16_t *left_new(int64_t rows, int64_t k, int64_t ld, uint64_t seed)
{
    const int64_t whole = (rows + HS_PAIR_TILE - 1) / HS_PAIR_TILE * HS_PAIR_TILE;
    uint16_t *p = halves_new(whole * ld, seed);
    for (int64_t r = 0; r < whole; r++)
        memset(p + r * ld + k, 0, (size_t)(ld - k) * sizeof *p);
    return p;
}

static void case_new(beside_case *c, const sizes *s, bool with_bias, bool accumulate)
{
    const int64_t panels = (s->n + HS_PANEL - 1) / HS_PANEL, pairs = (s->dqk + 1) / 2, ld = hs_mat_half_ld(s->dqk);
    uint64_t seed = 9;
    *c = (beside_case){
        .s = *s, .q = left_new(s->rows, s->dqk, ld, 1), .left = left_new(s->made, s->k, hs_mat_half_ld(s->k), 2)};
    c->keys = (uint32_t *)(void *)halves_new(panels * pairs * HS_PANEL * 2, 3);
    c->values = (uint32_t *)(void *)halves_new((s->k + 1) / 2 * s->dv * 2, 4);
    c->bias = hs_alloc((size_t)(s->rows * s->n), sizeof *c->bias);
    c->sums = hs_alloc_aligned((size_t)(s->made * s->dv), sizeof *c->sums);
    assert_true(c->bias && c->sums);
    for (int64_t i = 0; i < s->rows * s->n; i++)
        c->bias[i] = random_f32(&seed, FILL_SIGNED);
    c->w = (hs_pair_weights){.scores = {.left = c->q,
                                 .lda = ld,
                                 .b = c->keys,
                                 .ldb = HS_PANEL,
                                 .panel = pairs * HS_PANEL,
                                 .rows = s->rows,
                                 .k = s->dqk,
                                 .n = s->n},
        .bias = with_bias ? c->bias : NULL,
        .ldo = hs_mat_half_ld(s->n),
        .ldb = s->n,
        .n_first = s->n_first,
        .alpha = 0.25f};
    c->product = (hs_gemm){.left = c->left,
        .lda = hs_mat_half_ld(s->k),
        .b = c->values,
        .ldb = s->dv,
        .panel = HS_PANEL,
        .ldc = s->dv,
        .rows = s->made,
        .k = s->k,
        .n = s->dv,
        .accumulate = accumulate};
}

static void case_free(beside_case *c)
{
    hs_free(c->q);
    hs_free(c->left);
    hs_free(c->keys);
    hs_free(c->values);
    hs_free(c->bias);
    hs_free(c->sums);
}

static uint16_t *weights_new(const beside_case *c)
{
    const size_t bytes = (size_t)(c->s.rows * c->w.ldo) * sizeof(uint16_t);
    uint16_t *out = hs_alloc_aligned(bytes, 1);
    assert_non_null(out);
    return memset(out, 0xff, bytes);
}

static float *sums_new(const beside_case *c)
{
    float *sums = hs_alloc_aligned((size_t)(c->s.made * c->s.dv), sizeof *sums);
    assert_non_null(sums);
    for (int64_t i = 0; i < c->s.made * c->s.dv; i++)
        sums[i] = (float)(i % 17) - 8.0f;
    return sums;
}

static void check(int isa, const sizes *s, bool with_bias, bool accumulate, bool again)
{
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    beside_case c;
    case_new(&c, s, with_bias, accumulate);
    uint16_t *apart = weights_new(&c), *together = weights_new(&c);
    float *sums_apart = sums_new(&c), *sums_together = sums_new(&c);
    if (pairs->enter)
        pairs->enter();
    c.w.out = apart;
    pairs->weights(&c.w);
    c.product.c = sums_apart;
    pairs->gemm(&c.product);
    c.product.c = sums_together;
    c.product.again = c.w.scores.again = again;
    c.w.out = together;
    c.w.beside = &c.product;
    pairs->weights(&c.w);
    if (pairs->leave)
        pairs->leave();
    if (memcmp(apart, together, (size_t)(s->rows * c.w.ldo) * sizeof *apart) != 0 ||
        memcmp(sums_apart, sums_together, (size_t)(s->made * s->dv) * sizeof *sums_apart) != 0)
        fail_msg("%s: %d x %d x %d beside %d x %d x %d: other bits than one after the other",
            hs_cpu_kernels_at(isa)->isa, (int)s->rows, (int)s->dqk, (int)s->n, (int)s->made, (int)s->k, (int)s->dv);
    hs_free(apart);
    hs_free(together);
    hs_free(sums_apart);
    hs_free(sums_together);
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
        {31, 17, 33, 5, 29, 13, 31}, {1, 1, 1, 1, 1, 1, 1}, {32, 33, 1024, 33, 32, 512, 16}};
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < sizeof all / sizeof *all; i++) {
            for (int kind = 0; kind < 8; kind++)
                check(isa, &all[i], kind & 1, kind & 2, kind & 4);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
