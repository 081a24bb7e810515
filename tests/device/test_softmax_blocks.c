/* Softmax attention over histories of several blocks: bits depend on neither pages nor threads nor how many rows are asked, in
 * every instruction set and type; in fp32 they are near those of exact arithmetic. */
#include "device/kv_test.h"

enum { HEADS = 2, DQK = 24, DV = 40, TOKENS = TEST_SANITIZED ? 301 : 611, FEW = 37, SECOND = 70 };

typedef struct history {
    hs_mat q, k, v;
    hs_dtype type;
    bool bf16;
} history;

static history history_new(hs_dtype type, bool bf16)
{
    history h = {.q = mat_new(TOKENS + SECOND, HEADS * DQK, HEADS * DQK, FILL_SIGNED, 3),
        .k = mat_new(TOKENS + SECOND, HEADS * DQK, HEADS * DQK, FILL_SIGNED, 4),
        .v = mat_new(TOKENS + SECOND, HEADS * DV, HEADS * DV, FILL_POSITIVE, 5),
        .type = type,
        .bf16 = bf16};
    for (int64_t i = 0; bf16 && i < h.q.rows * h.q.cols; i++)
        h.q.data[i] = hs_bf16_to_f32(hs_f32_to_bf16(h.q.data[i]));
    return h;
}

static void history_free(history *h)
{
    hs_free(h->q.data);
    hs_free(h->k.data);
    hs_free(h->v.data);
}

/* The newest rows[u] rows of both users, whose pages hold page_tokens. */
static void attend(hs_device *dev, const history *h, int64_t page_tokens, const int64_t rows[2], hs_mat out)
{
    static const int64_t length[2] = {TOKENS, SECOND}, all[3] = {0, TOKENS, TOKENS + SECOND};
    const hs_kv_shape shape = {.type = h->type, .page_tokens = page_tokens, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    const int64_t offset[3] = {0, rows[0], rows[0] + rows[1]};
    hs_mat q = mat_out(offset[2], HEADS * DQK, HEADS * DQK);
    kv_pages pages = kv_of(shape, &h->k, &h->v, all, length, 2);
    hstu_error err = {0};
    for (int u = 0; u < 2; u++) {
        memcpy(q.data + offset[u] * q.ld, h->q.data + (all[u + 1] - rows[u]) * h->q.ld,
            (size_t)(rows[u] * q.cols) * sizeof(float));
        for (int64_t p = 0; p < hs_kv_pages(&shape, length[u]); p++) /* as kv_write leaves pages */
            hs_kv_clear(&shape, pages.page[pages.first_page[u] + p],
                length[u] - p * page_tokens < page_tokens ? length[u] - p * page_tokens : page_tokens);
    }
    const hs_softmax_attn_args a = {.out = out,
        .q = q,
        .kv = pages.view,
        .users = {.n_users = 2, .offset = offset},
        .history = length,
        .scale = 0.7f,
        .bf16 = h->bf16};
    if (dev->table->softmax_attn(dev, &a, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hs_free(q.data);
    kv_free(&pages);
}

static void check_exact(const history *h, const hs_mat *out, const char *isa)
{
    static double p[TOKENS];
    for (int64_t row = 0; row < TOKENS; row += 61) {
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j <= row; j++) {
            p[j] = 0;
            for (int64_t t = 0; t < DQK; t++)
                p[j] += (double)h->q.data[row * h->q.ld + t] * (double)h->k.data[j * h->k.ld + t];
            p[j] *= (double)0.7f;
            max = p[j] > max ? p[j] : max;
        }
        for (int64_t j = 0; j <= row; j++)
            sum += p[j] = exp(p[j] - max);
        for (int64_t o = 0; o < DV; o++) {
            double want = 0;
            for (int64_t j = 0; j <= row; j++)
                want += p[j] / sum * (double)h->v.data[j * h->v.ld + o];
            /* Weights err by some (8 + |z - max z| + n / 2) epsilons, the chain over tokens by n / 2; values are positive. */
            check_near((double)out->data[row * out->ld + o], want, (60.0 + 2.0 * TOKENS) * 2 * ROUNDING * want, isa,
                "softmax attention", row, o);
        }
    }
}

static void check_type(hs_dtype type, bool bf16)
{
    static const int64_t page_tokens[] = {640, 32, 96, 352}, both[2] = {TOKENS, SECOND}, few[2] = {FEW, 0};
    history h = history_new(type, bf16);
    hs_mat first = mat_out(TOKENS + SECOND, HEADS * DV, HEADS * DV), out = mat_out(first.rows, first.cols, first.ld);
    hs_mat newest = {.data = out.data, .rows = FEW, .cols = out.cols, .ld = out.ld};
    const hs_mat same = {
        .data = first.data + (TOKENS - FEW) * first.ld, .rows = FEW, .cols = first.cols, .ld = first.ld};
    FOR_EACH_ISA(isa)
    {
        for (int threads = 1; threads <= 4; threads += 3) {
            hs_device *dev = device_new(isa, threads);
            for (size_t p = 0; p < sizeof page_tokens / sizeof *page_tokens; p++) {
                const bool is_first = threads == 1 && p == 0;
                attend(dev, &h, page_tokens[p], both, is_first ? first : out);
                if (!is_first)
                    mat_check_same_bits(&out, &first, dev->isa);
                attend(dev, &h, page_tokens[p], few, newest);
                mat_check_same_bits(&newest, &same, dev->isa);
            }
            if (type == HS_F32)
                check_exact(&h, &first, dev->isa);
            hs_device_close(dev);
        }
    }
    hs_free(first.data);
    hs_free(out.data);
    history_free(&h);
}

static void test_fp32(void **state)
{
    (void)state;
    check_type(HS_F32, false);
}

static void test_bf16_pages(void **state)
{
    (void)state;
    check_type(HS_BF16, false);
}

static void test_bf16(void **state)
{
    (void)state;
    check_type(HS_BF16, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32), cmocka_unit_test(test_bf16_pages), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
