/* Attention of contextual rows, causal rows and candidates, in float32 and bfloat16, over pages of either type: bit for
 * bit against the contract's own chains (scores, SiLU and softmax by the instruction set's kernels, one element or row at
 * a time), and what rows must not depend on. */
#include "kv_test.h"

enum { MAX_USERS = 8, MAX_ROWS = 1200, BIAS_N = 1200, SEGMENT = 512 };

/* Of a user's `length` rows the last `candidates` are candidates, the others history. */
typedef struct users {
    int64_t n, length[MAX_USERS], context[MAX_USERS], candidates[MAX_USERS];
} users;

typedef struct attn_case {
    users users;
    int64_t offset[MAX_USERS + 1];
    int64_t n_heads, dqk, dv;
    float alpha, inv_n;
    bool with_bias, bf16, softmax;
    bool stored;  /* matrices hold bfloat16 values, where the device stores such */
    int64_t step; /* of the rows that are held against the chains; 0: all of them */
    int64_t page_tokens;
    hs_dtype page_type;
    hs_mat q, k, v, position, time;
    uint8_t *bucket;
    int64_t bucket_offset[MAX_USERS], bucket_cols[MAX_USERS];
} attn_case;

static void case_new(attn_case *c, fill kind)
{
    int64_t n_buckets = 0;
    for (int64_t b = 0; b < c->users.n; b++) {
        c->offset[b + 1] = c->offset[b] + c->users.length[b];
        c->bucket_offset[b] = n_buckets;
        c->bucket_cols[b] = c->users.length[b];
        n_buckets += c->users.length[b] * c->users.length[b];
    }
    const int64_t rows = c->offset[c->users.n], qk = c->n_heads * c->dqk, v = c->n_heads * c->dv;
    c->q = bf16_mat_new(rows, qk, qk + 1, kind, 70);
    c->k = c->stored ? bf16_mat_new(rows, qk, qk + 3, kind, 71) : mat_new(rows, qk, qk + 3, kind, 71);
    c->v = c->stored ? bf16_mat_new(rows, v, v + 2, kind, 72) : mat_new(rows, v, v + 2, kind, 72);
    c->position = mat_new(1, 2 * BIAS_N - 1, 2 * BIAS_N - 1, kind, 73);
    c->time = mat_new(1, 129, 129, kind, 74);
    c->bucket = hs_alloc((size_t)n_buckets, 1);
    assert_non_null(c->bucket);
    uint64_t seed = 5;
    for (int64_t i = 0; i < n_buckets; i++)
        c->bucket[i] = (uint8_t)random_below(&seed, 129);
}

static void case_free(attn_case *c)
{
    hs_free(c->q.data);
    hs_free(c->k.data);
    hs_free(c->v.data);
    hs_free(c->position.data);
    hs_free(c->time.data);
    hs_free(c->bucket);
}

/* The rows of m that are history, or candidates, of all users one behind the other; offset [n + 1]. */
static hs_mat part_of(const attn_case *c, const hs_mat *m, bool candidates, int64_t *offset)
{
    hs_mat part = mat_out(m->rows, m->cols, m->ld);
    part.rows = offset[0] = 0;
    for (int64_t b = 0; b < c->users.n; b++) {
        const int64_t history = c->users.length[b] - c->users.candidates[b];
        for (int64_t i = candidates ? history : 0; i < (candidates ? c->users.length[b] : history); i++)
            memcpy(part.data + part.rows++ * part.ld, m->data + (c->offset[b] + i) * m->ld,
                (size_t)m->cols * sizeof(float));
        offset[b + 1] = part.rows;
    }
    return part;
}

/* Which rows a call has. */
typedef enum call_rows { OF_HISTORIES, OF_CANDIDATES, OF_BOTH } call_rows;

/* Both parts in one matrix, histories first. */
static hs_mat joined(const hs_mat *first, const hs_mat *second)
{
    hs_mat both = mat_out(first->rows + second->rows, first->cols, first->ld);
    for (int64_t r = 0; r < both.rows; r++) {
        const hs_mat *from = r < first->rows ? first : second;
        const int64_t row = r < first->rows ? r : r - first->rows;
        memcpy(both.data + r * both.ld, from->data + row * from->ld, (size_t)both.cols * sizeof(float));
    }
    return both;
}

static void run_part(hs_device *dev, int isa, const attn_case *c, const kv_pages *pages, const int64_t *history,
    call_rows of, const hs_mat *out)
{
    static const int64_t none[MAX_USERS + 1];
    int64_t offset[MAX_USERS + 1], others[MAX_USERS + 1];
    const bool rows = of != OF_CANDIDATES, candidates = of != OF_HISTORIES;
    hs_mat history_q = part_of(c, &c->q, false, offset), candidate_q = part_of(c, &c->q, true, others);
    hs_mat k = part_of(c, &c->k, true, others), v = part_of(c, &c->v, true, others);
    hs_mat both_q = joined(&history_q, &candidate_q);
    const hs_mat plain_q = of == OF_BOTH ? both_q : rows ? history_q : candidate_q;
    hs_mat got = mat_out(plain_q.rows, out->cols, out->ld);
    const hs_mat q = stored_new(isa, &plain_q, c->stored), own_k = stored_new(isa, &k, c->stored);
    const hs_mat own_v = stored_new(isa, &v, c->stored), to = stored_new(isa, &got, c->stored);
    const hs_rel_bias bias = {.position_w = c->position.data,
        .n = BIAS_N,
        .time_w = c->time.data,
        .bucket = c->bucket,
        .bucket_offset = c->bucket_offset,
        .bucket_cols = c->bucket_cols};
    const hs_jagged jagged = {.n_users = c->users.n, .offset = rows ? offset : none};
    const hs_silu_attn_args silu = {.out = to,
        .q = q,
        .own_k = own_k,
        .own_v = own_v,
        .kv = pages->view,
        .users = jagged,
        .candidates = candidates ? others : NULL,
        .history = history,
        .n_context = c->users.context,
        .alpha = c->alpha,
        .inv_n = c->inv_n,
        .bias = c->with_bias && !candidates ? &bias : NULL,
        .bf16 = c->bf16};
    const hs_softmax_attn_args softmax = {.out = to,
        .q = q,
        .kv = pages->view,
        .users = jagged,
        .history = history,
        .scale = c->alpha,
        .bias = c->with_bias ? &bias : NULL,
        .bf16 = c->bf16};
    assert_int_equal(
        c->softmax ? dev->table->softmax_attn(dev, &softmax, NULL) : dev->table->silu_attn(dev, &silu, NULL), HSTU_OK);
    stored_read(&to, &got);
    mat_check_gaps(&got);
    const size_t bytes = (size_t)out->cols * sizeof(float);
    const float *from = got.data;
    for (int64_t b = 0; rows && b < c->users.n; b++) {
        for (int64_t i = 0; i < history[b]; i++, from += got.ld)
            memcpy(out->data + (c->offset[b] + i) * out->ld, from, bytes);
    }
    for (int64_t b = 0; candidates && b < c->users.n; b++) {
        for (int64_t i = history[b]; i < c->users.length[b]; i++, from += got.ld)
            memcpy(out->data + (c->offset[b] + i) * out->ld, from, bytes);
    }
    const hs_mat all[] = {q, own_k, own_v, to};
    for (int i = 0; i < 4; i++)
        stored_free(&all[i]);
    hs_free(history_q.data);
    hs_free(candidate_q.data);
    hs_free(both_q.data);
    hs_free(k.data);
    hs_free(v.data);
    hs_free(got.data);
}

static hs_mat run(hs_device *dev, int isa, const attn_case *c)
{
    hs_mat out = mat_out(c->q.rows, c->n_heads * c->dv, c->n_heads * c->dv + 2);
    int64_t history[MAX_USERS];
    for (int64_t b = 0; b < c->users.n; b++)
        history[b] = c->users.length[b] - c->users.candidates[b];
    const hs_kv_shape shape = {
        .type = c->page_type, .page_tokens = c->page_tokens, .n_heads = c->n_heads, .dqk = c->dqk, .dv = c->dv};
    kv_pages pages = kv_of(shape, &c->k, &c->v, c->offset, history, c->users.n);
    run_part(dev, isa, c, &pages, history, OF_HISTORIES, &out);
    if (!c->softmax)
        run_part(dev, isa, c, &pages, history, OF_CANDIDATES, &out);
    if (!c->softmax && !c->with_bias) {
        hs_mat both = mat_out(out.rows, out.cols, out.ld);
        run_part(dev, isa, c, &pages, history, OF_BOTH, &both);
        for (int64_t r = 0; r < out.rows; r++)
            check_same_bits(
                both.data + r * out.ld, out.data + r * out.ld, out.cols, "histories and candidates at once");
        hs_free(both.data);
    }
    kv_free(&pages);
    return out;
}

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

/* The sum of a row's weighted values: of products of pairs each segment begins at 0. */
static float segments(const attn_case *c, int isa, const float *a, const float *b, int64_t n)
{
    float sum = 0.0f;
    if (!paired(c, isa) || c->softmax)
        return product(c, isa, a, b, n);
    for (int64_t first = 0; first < n; first += SEGMENT) {
        const float part = paired_chain(isa, a + first, b + first, 1, n - first < SEGMENT ? n - first : SEGMENT);
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

/* A candidate's result is the same alone as among others, and so is the history's without candidates. */
static void test_candidates_apart(void **state)
{
    (void)state;
    enum { HISTORY = 37, CANDIDATES = 11 };
    for (int bf16 = 0; bf16 < 2; bf16++) {
        attn_case c = {.users = {.n = 1, .length = {HISTORY + CANDIDATES}, .context = {4}, .candidates = {CANDIDATES}},
            .n_heads = 2,
            .dqk = 8,
            .dv = 8,
            .alpha = 0.35f,
            .inv_n = 0.01f,
            .bf16 = bf16,
            .page_tokens = 32,
            .page_type = bf16 ? HS_BF16 : HS_F32};
        case_new(&c, FILL_SIGNED);
        FOR_EACH_ISA(isa)
        {
            hs_device *dev = device_new(isa, 2);
            hs_mat all = run(dev, isa, &c);
            for (int64_t keep = -1; keep < CANDIDATES; keep++) {
                attn_case few = c;
                few.offset[1] = few.users.length[0] = few.q.rows = few.k.rows = few.v.rows = HISTORY + (keep >= 0);
                few.users.candidates[0] = keep >= 0;
                hs_mat *m[] = {&few.q, &few.k, &few.v};
                for (int i = 0; i < 3; i++) {
                    float *copy = hs_alloc((size_t)((HISTORY + 1) * m[i]->ld), sizeof *copy);
                    assert_non_null(copy);
                    memcpy(copy, m[i]->data, (size_t)(HISTORY * m[i]->ld) * sizeof *copy);
                    memcpy(copy + HISTORY * m[i]->ld, m[i]->data + (HISTORY + (keep > 0 ? keep : 0)) * m[i]->ld,
                        (size_t)m[i]->cols * sizeof *copy);
                    m[i]->data = copy;
                }
                hs_mat out = run(dev, isa, &few);
                for (int64_t i = 0; i < HISTORY; i++)
                    check_same_bits(out.data + i * out.ld, all.data + i * all.ld, out.cols, "history");
                if (keep >= 0)
                    check_same_bits(out.data + HISTORY * out.ld, all.data + (HISTORY + keep) * all.ld, out.cols,
                        "a candidate alone");
                hs_free(out.data);
                for (int i = 0; i < 3; i++)
                    hs_free(m[i]->data);
            }
            hs_free(all.data);
            hs_device_close(dev);
        }
        case_free(&c);
    }
}

/* A candidate that is not finite spoils itself alone. */
static void test_candidates_poison(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        attn_case c = {.users = {.n = 1, .length = {30}, .context = {3}, .candidates = {10}},
            .n_heads = 2,
            .dqk = 8,
            .dv = 8,
            .alpha = 0.35f,
            .inv_n = 0.01f,
            .page_tokens = 32,
            .page_type = HS_F32};
        case_new(&c, FILL_SIGNED);
        hs_device *dev = device_new(isa, 1);
        hs_mat before = run(dev, isa, &c);
        for (int64_t o = 0; o < 16; o++)
            c.q.data[24 * c.q.ld + o] = c.k.data[24 * c.k.ld + o] = c.v.data[24 * c.v.ld + o] = NAN;
        hs_mat after = run(dev, isa, &c);
        for (int64_t i = 0; i < 30; i++) {
            if (i != 24)
                check_same_bits(before.data + i * before.ld, after.data + i * after.ld, before.cols, "another row");
        }
        assert_true(isnan(after.data[24 * after.ld]));
        hs_free(before.data);
        hs_free(after.data);
        hs_device_close(dev);
        case_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silu_rows), cmocka_unit_test(test_silu_rows_blocks),
        cmocka_unit_test(test_silu_segments), cmocka_unit_test(test_softmax), cmocka_unit_test(test_candidates_apart),
        cmocka_unit_test(test_candidates_poison)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
