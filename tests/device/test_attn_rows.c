/* Attention of contextual rows, causal rows and candidates, in float32 and bfloat16, over pages of either type: bit for
 * bit against the contract's own chains (scores, SiLU and softmax by the instruction set's kernels, one element or row at
 * a time). */
#include "attn_test.h"

/* A key or value as the pages hold it. */
static float stored(const attn_case *c, float x)
{
    return c->page_type == HS_BF16 ? to_bf16(x) : x;
}

static bool sees(const attn_case *c, int64_t b, int64_t i, int64_t j)
{
    const int64_t history = c->users.length[b] - c->users.candidates[b];
    if (i >= history)
        return j < history || j == i;
    return j <= i || (i < c->users.context[b] && j < history);
}

/* Whether the instruction set multiplies bfloat16 values by itself. */
static bool paired(const attn_case *c, int isa)
{
    return c->bf16 && c->page_type == HS_BF16 && hs_cpu_kernels_at(isa)->pairs && (c->stored || c->softmax);
}

/* Its sums, or one chain; a candidate's own term is no part of them. */
static float product(const attn_case *c, int isa, const float *a, const float *b, int64_t n)
{
    return paired(c, isa) ? paired_chain(isa, a, b, 1, n) : chain(a, b, 1, n);
}

/* The sum of a row's weighted values: under SiLU each segment begins at 0. */
static float segments(const attn_case *c, int isa, const float *a, const float *b, int64_t n)
{
    float sum = 0.0f;
    if (c->softmax)
        return product(c, isa, a, b, n);
    for (int64_t first = 0; first < n; first += SEGMENT) {
        const float part = product(c, isa, a + first, b + first, n - first < SEGMENT ? n - first : SEGMENT);
        sum = first == 0 ? part : sum + part;
    }
    return sum;
}

/* q . k of a candidate: lanes j and j + 16 of each 32 by themselves, then halves are added until one is left. */
static float lanes(const float *a, const float *b, int64_t n)
{
    float lane[32] = {0};
    for (int64_t t = 0; t < n; t++)
        lane[t % 32] = fmaf(a[t], b[t], lane[t % 32]);
    for (int half = 16; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    }
    return lane[0];
}

/* z[j] = silu(z[j]) as the instruction set weighs it, n <= MAX_ROWS: scores of 0 and a bias of z. */
static void weigh(int isa, float *z, int64_t n)
{
    static const uint32_t keys[MAX_ROWS + HS_PAIR_STEP];
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    const uint16_t q[HS_PAIR_ROWS * HS_PAIR_STEP] = {0};
    uint16_t out[MAX_ROWS + HS_PAIR_STEP];
    const hs_pair_weights w = {
        .scores =
            {.left = q, .lda = HS_PAIR_STEP, .b = keys, .ldb = HS_PANEL, .panel = HS_PANEL, .rows = 1, .k = 2, .n = n},
        .out = out,
        .bias = z,
        .ldo = MAX_ROWS + HS_PAIR_STEP,
        .ldb = n,
        .n_first = n,
        .alpha = 1.0f};
    if (pairs->enter)
        pairs->enter();
    pairs->weights(&w);
    if (pairs->leave)
        pairs->leave();
    for (int64_t j = 0; j < n; j++)
        z[j] = hs_bf16_to_f32(out[j]);
}

/* The weights of row i, in ascending order of the rows it sees; returns how many. */
static int64_t weights(const attn_case *c, int isa, int64_t b, int64_t i, int64_t h, float *weight, int64_t *row)
{
    const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
    const int64_t base = c->offset[b], history = c->users.length[b] - c->users.candidates[b];
    const bool with_bias = c->with_bias && i < c->users.length[b] - c->users.candidates[b];
    const float *q = c->q.data + (base + i) * c->q.ld + h * c->dqk;
    float bias[MAX_ROWS], *key = hs_alloc((size_t)c->dqk, sizeof *key);
    int64_t n = 0;
    assert_non_null(key);
    for (int64_t j = 0; j < c->users.length[b]; j++) {
        if (!sees(c, b, i, j))
            continue;
        row[n] = base + j;
        for (int64_t t = 0; t < c->dqk; t++)
            key[t] = stored(c, c->k.data[row[n] * c->k.ld + h * c->dqk + t]);
        weight[n] = j < history      ? product(c, isa, q, key, c->dqk)
                    : paired(c, isa) ? lanes(q, key, c->dqk)
                                     : chain(q, key, 1, c->dqk);
        bias[n++] = c->position.data[BIAS_N - 1 + j - i] +
                    c->time.data[c->bucket[c->bucket_offset[b] + i * c->bucket_cols[b] + j]];
    }
    for (int64_t j = 0; j < n && !c->softmax && paired(c, isa); j++)
        weight[j] = fmaf(c->alpha, weight[j], with_bias ? bias[j] : 0.0f);
    const hs_silu_tile t = {.x = weight,
        .bias = with_bias ? bias : NULL,
        .ld = n,
        .alpha = c->alpha,
        .scale = c->bf16 ? 1.0f : c->inv_n,
        .rows = 1,
        .n = n,
        .n_first = n};
    if (!c->softmax && paired(c, isa))
        weigh(isa, weight, n);
    else if (!c->softmax)
        k->silu(&t);
    if (c->softmax)
        k->softmax(weight, with_bias ? bias : NULL, c->alpha, n);
    for (int64_t j = 0; j < n && c->bf16; j++)
        weight[j] = to_bf16(weight[j]);
    hs_free(key);
    return n;
}

/* Rows on both sides of a segment's end are always compared, and a user's first and last. */
static bool is_compared(const attn_case *c, int64_t b, int64_t i)
{
    const int64_t place = i % SEGMENT;
    return c->step == 0 || i % c->step == 0 || place < 2 || place > SEGMENT - 3 || i > c->users.length[b] - 3;
}

static void check_user(const attn_case *c, const hs_mat *out, int isa, int64_t b)
{
    float weight[MAX_ROWS], value[MAX_ROWS];
    int64_t row[MAX_ROWS];
    for (int64_t i = 0; i < c->users.length[b]; i++) {
        for (int64_t h = 0; h < c->n_heads && is_compared(c, b, i); h++) {
            const int64_t n = weights(c, isa, b, i, h, weight, row),
                          history = n - (i >= c->users.length[b] - c->users.candidates[b]);
            for (int64_t o = h * c->dv; o < (h + 1) * c->dv; o++) {
                for (int64_t j = 0; j < n; j++)
                    value[j] = stored(c, c->v.data[row[j] * c->v.ld + o]);
                float want = segments(c, isa, weight, value, history);
                if (history < n) /* a candidate's own term */
                    want = fmaf(weight[history], value[history], want);
                if (c->bf16)
                    want = to_bf16(c->softmax ? want : c->inv_n * want);
                const float got = out->data[(c->offset[b] + i) * out->ld + o];
                if (got != want)
                    fail_msg("%s: user %d, row %d, column %d: got %a, expected %a", hs_cpu_kernels_at(isa)->isa, (int)b,
                        (int)i, (int)o, (double)got, (double)want);
            }
        }
    }
}

static void check_case(attn_case c, fill kind)
{
    c.step *= TEST_SANITIZED ? 3 : 1;                /* the chains to compare with are slow there */
    for (int variant = 0; variant < 10; variant++) { /* 6 .. 9: as 1, 3 and 5, stored; and over float32 pages */
        const int plain = variant < 6 ? variant : variant < 9 ? 2 * (variant - 6) + 1 : 1;
        c.stored = variant >= 6;
        c.bf16 = plain & 1;
        c.with_bias = plain & 2;
        c.page_type =
            plain == 0 || plain == 2 || variant == 9 ? HS_F32 : HS_BF16; /* 4: float32 rounded for the pages */
        c.page_tokens = 32 + 32 * (variant % 3);
        case_new(&c, kind);
        FOR_EACH_ISA(isa)
        {
            if (c.stored && !hs_cpu_kernels_at(isa)->pairs)
                continue;
            if (c.step > 0 && isa == 0 && variant % 3 != 0) /* the reference kernels are slow */
                continue;
            hs_device *one = device_new(isa, 1), *three = device_new(isa, 3);
            hs_mat out = run(one, isa, &c), again = run(three, isa, &c);
            mat_check_same_bits(&out, &again, "attention with 1 and 3 threads");
            for (int64_t b = 0; b < c.users.n; b++)
                check_user(&c, &out, isa, b);
            hs_free(out.data);
            hs_free(again.data);
            hs_device_close(one);
            hs_device_close(three);
        }
        case_free(&c);
    }
}

/* Users with and without history, contextual rows, candidates; the contextual rows of the last two are in two tiles,
 * and all of the history. */
static const users MANY = {.n = 8,
    .length = {9, 5, 12, 17, 0, 40, 30, 23},
    .context = {2, 0, 3, 0, 0, 6, 11, 19},
    .candidates = {3, 0, 4, 17, 0, 1, 9, 4}};

static void test_silu_rows(void **state)
{
    (void)state;
    const attn_case c = {.users = MANY, .n_heads = 2, .dqk = 8, .dv = 8, .alpha = 0.35f, .inv_n = 1.0f / 13};
    check_case(c, FILL_SIGNED);
    check_case(c, FILL_POSITIVE);
    check_case(
        (attn_case){.users = MANY, .n_heads = 3, .dqk = 5, .dv = 19, .alpha = 0.447f, .inv_n = 0.02f}, FILL_SIGNED);
}

/* More rows than a task and keys than a block has; and so wide that a block is 16 keys. */
static void test_silu_rows_blocks(void **state)
{
    (void)state;
    const users large = {.n = 2, .length = {650, 130}, .context = {3, 125}, .candidates = {25, 2}};
    /* Whole tasks of contextual rows and of candidates; candidates alone, in two tasks. */
    const users kinds = {.n = 2, .length = {420, 130}, .context = {130, 0}, .candidates = {260, 130}};
    const users wide = {.n = 1, .length = {45}, .context = {18}, .candidates = {9}};
    check_case(
        (attn_case){.users = large, .n_heads = 1, .dqk = 4, .dv = 3, .alpha = 0.5f, .inv_n = 1.0f / 650, .step = 7},
        FILL_SIGNED);
    check_case(
        (attn_case){.users = kinds, .n_heads = 2, .dqk = 3, .dv = 2, .alpha = 0.577f, .inv_n = 1.0f / 8398, .step = 7},
        FILL_SIGNED);
    check_case(
        (attn_case){.users = wide, .n_heads = 2, .dqk = 2048, .dv = 2, .alpha = 0.022f, .inv_n = 0.1f, .step = 4},
        FILL_SIGNED);
}

/* Several segments of tokens, few rows beside them, and both ways of sharing them out. */
static void test_silu_segments(void **state)
{
    (void)state;
    const users few = {.n = 2, .length = {1070, 530}, .context = {0}, .candidates = {37, 3}};
    attn_case c = {.users = few, .n_heads = 2, .dqk = 32, .dv = 35, .alpha = 0.18f, .inv_n = 1.0f / 1200, .step = 37};
    check_case(c, FILL_SIGNED);
}

static void test_softmax(void **state)
{
    (void)state;
    const users causal = {.n = 3, .length = {9, 33, 130}};
    check_case(
        (attn_case){.users = causal, .softmax = true, .n_heads = 2, .dqk = 8, .dv = 17, .alpha = 0.35f}, FILL_SIGNED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silu_rows), cmocka_unit_test(test_silu_rows_blocks),
        cmocka_unit_test(test_silu_segments), cmocka_unit_test(test_softmax)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
