/* Attention as the NPU's device records it, on ONNX Runtime's own provider, against the CPU's, over random histories, pages and
 * candidates; and the pages that both leave behind. */
#include "npu_test.h"

enum { HEADS = 3, DQK = 7, DV = 5, LONGEST = 300, BUCKETS = 128, WIDTH = HEADS * (2 * DQK + DV) };

typedef enum attention {
    SILU_ALL,        /* history and candidates, with contextual rows */
    SILU_CANDIDATES, /* queries of the candidates alone */
    SILU_BIAS,
    SILU_NEWEST, /* with a bias, of each user's newest row */
    SOFTMAX,
    SOFTMAX_NEWEST,
    SOFTMAX_BIAS,
    PADDED,
    PADDED_BIAS,
    PADDED_NEWEST,
    N_ATTENTIONS
} attention;

static bool is_newest(attention kind)
{
    return kind == SILU_NEWEST || kind == SOFTMAX_NEWEST || kind == PADDED_NEWEST;
}

static bool is_padded(attention kind)
{
    return kind >= PADDED;
}

/* The pages of both devices hold the same past. */
static kv_pages new_pages(const world *w, hs_kv_shape shape, uint64_t seed)
{
    kv_pages p = kv_new(shape, w->tokens, w->n_users);
    for (int64_t b = 0; b < w->n_users; b++) {
        for (int64_t j = 0; j < w->past[b]; j++) {
            float k[HEADS * DQK], v[HEADS * DV];
            for (int i = 0; i < HEADS * DQK; i++)
                k[i] = random_f32(&seed, FILL_SIGNED);
            for (int i = 0; i < HEADS * DV; i++)
                v[i] = random_f32(&seed, FILL_SIGNED);
            kv_put(&p, b, j, k, v);
        }
    }
    return p;
}

/* Random buckets, exactly as many as there are. */
static hs_rel_bias new_bias(play *p, attention kind)
{
    const world *w = p->w;
    int64_t *offset = play_alloc(p, w->n_users, sizeof *offset), *cols = play_alloc(p, w->n_users, sizeof *cols), n = 0;
    for (int64_t b = 0; b < w->n_users; b++) {
        offset[b] = n;
        cols[b] = is_padded(kind) ? LONGEST : w->tokens[b];
        n += cols[b] * (is_newest(kind) ? 1 : w->offset[b + 1] - w->offset[b]);
    }
    uint8_t *bucket = play_alloc(p, n, 1);
    for (int64_t i = 0; i < n; i++)
        bucket[i] = (uint8_t)random_below(&p->random, BUCKETS + 1);
    return (hs_rel_bias){.position_w = play_vector(p, 2 * LONGEST - 1, 1.0f),
        .n = LONGEST,
        .time_w = play_vector(p, BUCKETS + 1, 1.0f),
        .n_buckets = BUCKETS,
        .bucket = bucket,
        .bucket_offset = offset,
        .bucket_cols = cols};
}

/* What comes out, or its norm times the queries: eps is about as large as the variance. */
static hs_mat finish(play *p, hs_mat q, hs_mat attended)
{
    const bool concat = random_below(&p->random, 2);
    const hs_norm_gate_args gate = {.out = play_mat(p, q.rows, HEADS * DV * (concat ? 3 : 1), 0),
        .u = hs_mat_cols(q, 2, HEADS * DV),
        .o = attended,
        .eps = 1e-4f,
        .concat = concat};
    if (random_below(&p->random, 2)) {
        play_end(p, attended);
        return attended;
    }
    assert_ok(p->dev->table->norm_gate(p->dev, &gate, &p->err), &p->err);
    play_end(p, gate.out);
    return gate.out;
}

static hs_mat attend(play *p, const kv_pages *pages, attention kind)
{
    const world *w = p->w;
    const bool biased = kind == SILU_BIAS || kind == SILU_NEWEST || kind == SOFTMAX_BIAS || kind == PADDED_BIAS ||
                        kind == PADDED_NEWEST;
    const hs_mat all = play_bring(p, WIDTH, 1.0f, pages->view.shape.type == HS_BF16);
    const hs_mat k = hs_mat_cols(all, HEADS * DQK, HEADS * DQK), v = hs_mat_cols(all, 2 * HEADS * DQK, HEADS * DV);
    const hs_jagged users = {.n_users = w->n_users, .offset = w->offset};
    const hs_kv_write_args write = {.kv = pages->view,
        .k = hs_mat_rows(k, 0, w->n_history),
        .v = hs_mat_rows(v, 0, w->n_history),
        .users = users,
        .position = w->past};
    if (w->n_history > 0)
        assert_ok(p->dev->table->kv_write(p->dev, &write, &p->err), &p->err);
    hs_mat q = hs_mat_cols(all, 0, HEADS * DQK);
    q = is_newest(kind)           ? play_newest(p, q)
        : kind == SILU_CANDIDATES ? hs_mat_rows(q, w->n_history, w->n_candidates)
                                  : q;
    const hs_rel_bias bias = biased ? new_bias(p, kind) : (hs_rel_bias){.n = 0};
    const hs_mat out = play_mat(p, q.rows, HEADS * DV, 3);
    const hs_jagged rows = {.n_users = w->n_users,
        .offset = is_newest(kind)           ? w->one
                  : kind == SILU_CANDIDATES ? w->nothing
                                            : w->offset};
    const hs_silu_attn_args silu = {.out = out,
        .q = q,
        .own_k = hs_mat_rows(k, w->n_history, w->n_candidates),
        .own_v = hs_mat_rows(v, w->n_history, w->n_candidates),
        .kv = pages->view,
        .users = rows,
        .candidates = w->n_candidates > 0 ? w->candidates : NULL,
        .history = w->tokens,
        .n_context = kind == SILU_ALL ? w->n_context : NULL,
        .alpha = 0.4f,
        .inv_n = 1.0f / LONGEST,
        .bias = biased ? &bias : NULL};
    const hs_softmax_attn_args softmax = {.out = out,
        .q = q,
        .kv = pages->view,
        .users = rows,
        .history = w->tokens,
        .scale = 0.4f,
        .padded_n = is_padded(kind) ? LONGEST : 0,
        .bias = silu.bias};
    if (kind < SOFTMAX)
        assert_ok(p->dev->table->silu_attn(p->dev, &silu, &p->err), &p->err);
    else
        assert_ok(p->dev->table->softmax_attn(p->dev, &softmax, &p->err), &p->err);
    return finish(p, q, out);
}

static void check_pages(const pair *devices, const kv_pages *got, const kv_pages *want)
{
    if (hs_npu_compute(devices->npu) != HS_F32)
        return;
    for (int64_t i = 0; i < want->n_pages; i++) {
        if (want->page[i] && memcmp(got->page[i], want->page[i], hs_kv_layer_bytes(&want->view.shape)) != 0)
            fail_msg("page %d differs", (int)i);
    }
}

static double check_attention(
    const pair *devices, const world *w, hs_kv_shape shape, attention kind, uint64_t seed, const char *what)
{
    kv_pages pages = new_pages(w, shape, seed), expected = new_pages(w, shape, seed);
    play ours, theirs;
    play_begin(&ours, devices->npu, w, seed);
    ours.stock = devices->of_npu;
    const hs_mat got = attend(&ours, &pages, kind);
    play_begin(&theirs, devices->cpu, w, seed);
    theirs.stock = devices->of_cpu;
    const hs_mat want = attend(&theirs, &expected, kind);
    const double distance = mat_distance(&got, &want);
    if (!(distance <= tolerance_of(devices->npu)))
        fail_msg("attention %d %s, seed %" PRIu64 ", pages of %d: %d users, %d rows, %d candidates: off by %.3g",
            (int)kind, what, seed, (int)shape.page_tokens, (int)w->n_users, (int)w->n_history, (int)w->n_candidates,
            distance);
    check_pages(devices, &pages, &expected);
    play_free(&ours);
    play_free(&theirs);
    kv_free(&pages);
    kv_free(&expected);
    return distance;
}

/* Short histories, and ones that need several pages of the largest size. */
static void check_attentions(hs_dtype compute)
{
    static const int64_t page_tokens[] = {32, 64, 256};
    const pair devices = open_pair(compute);
    uint64_t random = 99;
    double most = 0;
    for (int i = 0; i < (TEST_SANITIZED ? 4 : 16) * N_ATTENTIONS; i++) {
        const attention kind = (attention)(i % N_ATTENTIONS);
        const bool is_long = i % 7 == 0;
        const hs_kv_shape shape = {.type = i / N_ATTENTIONS % 2 ? HS_BF16 : HS_F32,
            .page_tokens = page_tokens[i / 3 % 3],
            .n_heads = HEADS,
            .dqk = DQK,
            .dv = DV};
        world w;
        do
            w = world_new(&random,
                is_padded(kind) ? 0
                : is_long       ? 270
                                : 50,
                is_padded(kind) && is_long ? LONGEST : 30, kind <= SILU_CANDIDATES ? 20 : 0, is_newest(kind));
        while (kind == SILU_CANDIDATES && w.n_candidates == 0);
        most = fmax(most, check_attention(&devices, &w, shape, kind, 50 + (uint64_t)i, is_long ? "long" : "short"));
    }
    print_message("attention in %s: off by at most %.3g\n", hs_dtype_name(compute), most);
    close_pair(&devices);
}

/* Candidates of users whose histories lie in pages alone, and of users who have none. */
static void check_candidates_alone(hs_dtype compute)
{
    const pair devices = open_pair(compute);
    const hs_kv_shape shape = {.type = HS_F32, .page_tokens = 32, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    const world with = world_of(3, (const int64_t[]){70, 0, 33}, NULL, (const int64_t[]){3, 1, 0});
    const world without = world_of(2, NULL, NULL, (const int64_t[]){0, 9});
    (void)check_attention(&devices, &with, shape, SILU_ALL, 1, "candidates alone");
    (void)check_attention(&devices, &with, shape, SILU_CANDIDATES, 2, "candidates alone");
    (void)check_attention(&devices, &without, shape, SILU_CANDIDATES, 3, "candidates without a history");
    close_pair(&devices);
}

static void test_attention_f32(void **state)
{
    (void)state;
    check_attentions(HS_F32);
    check_candidates_alone(HS_F32);
}

static void test_attention_f16(void **state)
{
    (void)state;
    check_attentions(HS_F16);
    check_candidates_alone(HS_F16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_f32),
        cmocka_unit_test(test_attention_f16),
    };
    return npu_main(tests);
}
