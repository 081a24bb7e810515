/* Both attentions of every instruction set against double, and their independence of batch and threads. */
#include "kv_test.h"

enum { N = 150, MAX_USERS = 8 };

typedef struct attn_case {
    int64_t n_users, rows;
    int64_t offset[MAX_USERS + 1];
    int64_t n_heads, dqk, dv;
    int64_t padded_n; /* softmax over all columns */
    bool softmax, with_bias;
    hs_mat all; /* [rows, q | k | v], so that all three are slices with one row distance */
    hs_mat q, k, v;
    hs_mat position, time;
    uint8_t *bucket;
    int64_t bucket_offset[MAX_USERS], bucket_cols[MAX_USERS];
} attn_case;

static void case_new(attn_case *c, const int64_t *lengths, int64_t n_users, fill kind)
{
    c->n_users = n_users;
    int64_t n_buckets = 0;
    for (int64_t b = 0; b < n_users; b++) {
        c->offset[b + 1] = c->offset[b] + lengths[b];
        c->bucket_offset[b] = n_buckets;
        c->bucket_cols[b] = c->padded_n ? c->padded_n : lengths[b] + b % 2;
        n_buckets += lengths[b] * c->bucket_cols[b];
    }
    c->rows = c->offset[n_users];
    const int64_t qk = c->n_heads * c->dqk, v = c->n_heads * c->dv;
    c->all = mat_new(c->rows, 2 * qk + v, 2 * qk + v + 1, kind, 77);
    c->q = hs_mat_cols(c->all, 0, qk);
    c->k = hs_mat_cols(c->all, qk, qk);
    c->v = hs_mat_cols(c->all, 2 * qk, v);
    c->position = mat_new(1, 2 * N - 1, 2 * N - 1, kind, 78);
    c->time = mat_new(1, 129, 129, kind, 79);
    c->bucket = hs_alloc((size_t)n_buckets, 1);
    assert_non_null(c->bucket);
    uint64_t seed = 5;
    for (int64_t i = 0; i < n_buckets; i++)
        c->bucket[i] = (uint8_t)random_below(&seed, 129);
}

static void case_free(attn_case *c)
{
    hs_free(c->all.data);
    hs_free(c->position.data);
    hs_free(c->time.data);
    hs_free(c->bucket);
}

/* Users first .. first + n_users - 1 of the case, computed by themselves. */
static hs_mat run(hs_device *dev, const attn_case *c, int64_t first, int64_t n_users)
{
    const int64_t base = c->offset[first], rows = c->offset[first + n_users] - base;
    int64_t offset[MAX_USERS + 1];
    for (int64_t b = 0; b <= n_users; b++)
        offset[b] = c->offset[first + b] - base;
    int64_t history[MAX_USERS];
    for (int64_t b = 0; b < n_users; b++)
        history[b] = offset[b + 1] - offset[b];
    hs_mat part[3] = {c->q, c->k, c->v};
    for (int i = 0; i < 3; i++) {
        part[i].data += base * part[i].ld;
        part[i].rows = rows;
    }
    const hs_kv_shape shape = {.type = HS_F32, .page_tokens = 32, .n_heads = c->n_heads, .dqk = c->dqk, .dv = c->dv};
    kv_pages pages = kv_of(shape, &part[1], &part[2], offset, history, n_users);
    hs_mat out = mat_out(rows, c->n_heads * c->dv, c->n_heads * c->dv + 2);
    const hs_rel_bias bias = {.position_w = c->position.data,
        .n = N,
        .time_w = c->time.data,
        .bucket = c->bucket,
        .bucket_offset = c->bucket_offset + first,
        .bucket_cols = c->bucket_cols + first};
    const hs_jagged users = {.n_users = n_users, .offset = offset};
    const hs_silu_attn_args silu = {.out = out,
        .q = part[0],
        .kv = pages.view,
        .users = users,
        .history = history,
        .alpha = 1.0f,
        .inv_n = 1.0f / N,
        .bias = c->with_bias ? &bias : NULL};
    const hs_softmax_attn_args softmax = {.out = out,
        .q = part[0],
        .kv = pages.view,
        .users = users,
        .history = history,
        .scale = 0.3f,
        .padded_n = c->padded_n,
        .bias = c->with_bias ? &bias : NULL};
    assert_int_equal(
        c->softmax ? dev->table->softmax_attn(dev, &softmax, NULL) : dev->table->silu_attn(dev, &silu, NULL), HSTU_OK);
    mat_check_gaps(&out);
    kv_free(&pages);
    return out;
}

/* S[i, j] before scale and activation, and the bound of its error. */
static double score_exact(const attn_case *c, int64_t b, int64_t i, int64_t j, int64_t h, double *bound)
{
    const int64_t base = c->offset[b], length = c->offset[b + 1] - base;
    double s = 0, terms = 0;
    for (int64_t t = 0; j < length && t < c->dqk; t++) {
        const double term = (double)c->q.data[(base + i) * c->q.ld + h * c->dqk + t] *
                            (double)c->k.data[(base + j) * c->k.ld + h * c->dqk + t];
        s += term;
        terms += fabs(term);
    }
    if (c->with_bias) {
        const double position = (double)c->position.data[N - 1 + j - i];
        const double time = (double)c->time.data[c->bucket[c->bucket_offset[b] + i * c->bucket_cols[b] + j]];
        s += position + time;
        terms += fabs(position) + fabs(time);
    }
    *bound = (double)(c->dqk + 2) * ROUNDING * terms;
    return s;
}

static void check_row(const attn_case *c, const hs_mat *out, const char *isa, int64_t b, int64_t i, int64_t h)
{
    const int64_t columns = c->padded_n ? c->padded_n : i + 1;
    double weight[N], error[N], max = -INFINITY, sum = 0, worst = 0;
    for (int64_t j = 0; j < columns; j++) {
        weight[j] = score_exact(c, b, i, j, h, &error[j]);
        max = fmax(max, weight[j]);
        worst = fmax(worst, error[j]);
    }
    const double scale = (double)0.3f, inv_n = (double)(1.0f / N);
    for (int64_t j = 0; j < columns; j++)
        sum += exp(scale * (weight[j] - max));
    for (int64_t j = 0; j < columns; j++) {
        if (c->softmax) {
            const double z = scale * (weight[j] - max);
            weight[j] = exp(z) / sum;
            const double relative =
                2 * scale * worst + (double)(columns + 20) * ROUNDING + 4 * ROUNDING * (fabs(z) + scale * fabs(max));
            error[j] = relative * weight[j] + 2e-38;
        } else {
            const double y = silu_exact(weight[j]);
            error[j] = inv_n * (1.1 * error[j] + 12 * ROUNDING * fabs(y));
            weight[j] = inv_n * y;
        }
    }
    for (int64_t o = 0; o < c->dv; o++) {
        double want = 0, bound = 0;
        for (int64_t j = 0; j <= i; j++) {
            const double v = (double)c->v.data[(c->offset[b] + j) * c->v.ld + h * c->dv + o];
            want += weight[j] * v;
            bound += (error[j] + (double)(i + 1) * ROUNDING * fabs(weight[j])) * fabs(v);
        }
        const int64_t row = c->offset[b] + i, col = h * c->dv + o;
        check_near((double)out->data[row * out->ld + col], want, bound, isa, c->softmax ? "softmax_attn" : "silu_attn",
            row, col);
    }
}

static void check_case(attn_case c, const int64_t *lengths, int64_t n_users, fill kind)
{
    case_new(&c, lengths, n_users, kind);
    FOR_EACH_ISA(isa)
    {
        hs_device *one = device_new(isa, 1), *three = device_new(isa, 3);
        hs_mat out = run(one, &c, 0, n_users), again = run(three, &c, 0, n_users);
        mat_check_same_bits(&out, &again, "attention with 1 and 3 threads");
        for (int64_t b = 0; b < n_users; b++) {
            hs_mat alone = run(three, &c, b, 1);
            for (int64_t i = 0; i < lengths[b]; i++) {
                check_same_bits(alone.data + i * alone.ld, out.data + (c.offset[b] + i) * out.ld, out.cols,
                    "attention of a user alone");
                for (int64_t h = 0; h < c.n_heads; h++)
                    check_row(&c, &out, one->isa, b, i, h);
            }
            hs_free(alone.data);
        }
        hs_free(out.data);
        hs_free(again.data);
        hs_device_close(one);
        hs_device_close(three);
    }
    case_free(&c);
}

static const int64_t LENGTHS[] = {1, 9, 0, 17, 33, 8, 2};
static const int64_t LONG[] = {131, 5};

static void test_silu_attn(void **state)
{
    (void)state;
    check_case((attn_case){.n_heads = 2, .dqk = 8, .dv = 8, .with_bias = true}, LENGTHS, 7, FILL_SIGNED);
    check_case((attn_case){.n_heads = 3, .dqk = 5, .dv = 19, .with_bias = false}, LENGTHS, 7, FILL_SIGNED);
    check_case((attn_case){.n_heads = 1, .dqk = 33, .dv = 1, .with_bias = true}, LENGTHS, 7, FILL_POSITIVE);
    check_case((attn_case){.n_heads = 2, .dqk = 16, .dv = 20, .with_bias = true}, LONG, 2, FILL_POSITIVE);
}

/* Head sizes so wide that a block has few keys: the sums pass through memory between blocks. */
static void test_silu_attn_key_blocks(void **state)
{
    (void)state;
    const int64_t lengths[] = {40};
    check_case((attn_case){.n_heads = 2, .dqk = 2048, .dv = 3, .with_bias = true}, lengths, 1, FILL_SIGNED);
}

static void test_softmax_attn(void **state)
{
    (void)state;
    check_case((attn_case){.softmax = true, .n_heads = 2, .dqk = 8, .dv = 8}, LENGTHS, 7, FILL_SIGNED);
    check_case(
        (attn_case){.softmax = true, .n_heads = 1, .dqk = 21, .dv = 17, .with_bias = true}, LENGTHS, 7, FILL_POSITIVE);
    check_case((attn_case){.softmax = true, .n_heads = 2, .dqk = 16, .dv = 4}, LONG, 2, FILL_SIGNED);
}

static void test_softmax_attn_padded(void **state)
{
    (void)state;
    check_case((attn_case){.softmax = true, .n_heads = 1, .dqk = 12, .dv = 9, .padded_n = 41}, LENGTHS, 7, FILL_SIGNED);
    check_case((attn_case){.softmax = true, .n_heads = 1, .dqk = 12, .dv = 9, .padded_n = 41, .with_bias = true},
        LENGTHS, 7, FILL_SIGNED);
    check_case((attn_case){.softmax = true, .n_heads = 2, .dqk = 3, .dv = 16, .padded_n = N, .with_bias = true}, LONG,
        2, FILL_POSITIVE);
}

/* What a row sees ends at itself: later rows may hold anything finite. */
static void test_causal(void **state)
{
    (void)state;
    const int64_t lengths[] = {30};
    for (int softmax = 0; softmax < 2; softmax++) {
        FOR_EACH_ISA(isa)
        {
            attn_case c = {.softmax = softmax, .n_heads = 2, .dqk = 8, .dv = 8, .with_bias = true};
            case_new(&c, lengths, 1, FILL_SIGNED);
            hs_device *dev = device_new(isa, 2);
            hs_mat before = run(dev, &c, 0, 1);
            for (int64_t i = 12; i < 30; i++) {
                for (int64_t col = 0; col < c.all.cols; col++)
                    c.all.data[i * c.all.ld + col] = 1000.0f;
            }
            hs_mat after = run(dev, &c, 0, 1);
            for (int64_t i = 0; i < 12; i++)
                check_same_bits(before.data + i * before.ld, after.data + i * after.ld, before.cols, "an earlier row");
            assert_true(before.data[12 * before.ld] != after.data[12 * after.ld]);
            hs_free(before.data);
            hs_free(after.data);
            hs_device_close(dev);
            case_free(&c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silu_attn), cmocka_unit_test(test_silu_attn_key_blocks),
        cmocka_unit_test(test_softmax_attn), cmocka_unit_test(test_softmax_attn_padded), cmocka_unit_test(test_causal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
