/* Keys and values that stay bound between passes: what is copied, what is not, and that nothing of an earlier pass reaches a later
 * one, whatever has become of the histories in between. */
#include "npu_test.h"

#include "base/stamp.h"

enum { USERS = 3, LAYERS = 2, HEADS = 2, DQK = 5, DV = 37, K_COLS = HEADS * DQK, V_COLS = HEADS * DV, MOST = 96 };
enum { WIDTH = 2 * K_COLS + V_COLS, TOKEN_BYTES = LAYERS * (K_COLS + V_COLS) * 4 };

/* The users' histories, in pages that the NPU's device sees, and as they are. */
typedef struct house {
    hs_device *npu, *cpu;
    hs_packed *weight[2]; /* of npu and cpu */
    kv_pages layer[LAYERS];
    uint64_t *stamp; /* of all layers' pages */
    int64_t length[USERS];
    float k[LAYERS][USERS][MOST][K_COLS], v[LAYERS][USERS][MOST][V_COLS];
    uint64_t random;
} house;

static const int64_t room[USERS] = {MOST, MOST, MOST};

static int64_t page_tokens_of(const house *h)
{
    return h->layer[0].view.shape.page_tokens;
}

/* Tokens first .. end - 1 are in the user's pages, or are no numbers. */
static void fill_tokens(house *h, int64_t user, int64_t first, int64_t end, bool real)
{
    float k[K_COLS], v[V_COLS];
    for (int i = 0; i < K_COLS; i++)
        k[i] = NAN;
    for (int i = 0; i < V_COLS; i++)
        v[i] = NAN;
    for (int l = 0; l < LAYERS; l++) {
        for (int64_t j = first; j < end; j++)
            kv_put(&h->layer[l], user, j, real ? h->k[l][user][j] : k, real ? h->v[l][user][j] : v);
    }
}

static void renew_stamps(house *h, int64_t user, int64_t token)
{
    for (int64_t i = token / page_tokens_of(h); i < hs_kv_pages(&h->layer[0].view.shape, MOST); i++)
        h->stamp[h->layer[0].first_page[user] + i] = hs_stamp_next();
}

/* Everything moves to other pages. */
static void use_pages(house *h, hs_dtype type, int64_t page_tokens)
{
    const hs_kv_shape shape = {.type = type, .page_tokens = page_tokens, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    for (int l = 0; l < LAYERS; l++) {
        if (h->stamp)
            kv_free(&h->layer[l]);
        h->layer[l] = kv_new(shape, room, USERS);
    }
    hs_free(h->stamp);
    h->stamp = hs_calloc((size_t)h->layer[0].n_pages, sizeof *h->stamp);
    assert_non_null(h->stamp);
    for (int64_t u = 0; u < USERS; u++) {
        fill_tokens(h, u, 0, h->length[u], true);
        renew_stamps(h, u, 0);
    }
}

static house *open_house(hs_dtype type, int64_t page_tokens)
{
    house *h = hs_calloc(1, sizeof *h);
    hstu_error err;
    assert_non_null(h);
    h->npu = npu_open("ort-cpu", HS_F32, 0);
    assert_ok(hs_device_open(&h->cpu, &(hs_device_options){.name = "cpu", .threads = 1}, &err), &err);
    h->random = 11;
    float w[V_COLS * V_COLS];
    for (int i = 0; i < V_COLS * V_COLS; i++)
        w[i] = random_f32(&h->random, FILL_SIGNED);
    assert_ok(h->npu->table->pack(h->npu, &h->weight[0], w, HS_F32, V_COLS, V_COLS, V_COLS, 1, &err), &err);
    assert_ok(h->cpu->table->pack(h->cpu, &h->weight[1], w, HS_F32, V_COLS, V_COLS, V_COLS, 1, &err), &err);
    use_pages(h, type, page_tokens);
    return h;
}

static void close_house(house *h)
{
    for (int l = 0; l < LAYERS; l++)
        kv_free(&h->layer[l]);
    hs_free(h->stamp);
    h->npu->table->pack_free(h->weight[0]);
    h->cpu->table->pack_free(h->weight[1]);
    hs_device_close(h->npu);
    hs_device_close(h->cpu);
    hs_free(h);
}

/* ---- a pass ---------------------------------------------------------------------------------------------------------------- */

/* Who is in a pass, with how much. */
typedef struct visit {
    int64_t n_users, user[USERS], past[USERS], own[USERS];
    int64_t poisoned; /* whose rows are no numbers, or -1 */
} visit;

static hs_mat bring(play *p, const visit *v)
{
    const hs_mat m = play_mat(p, p->w->n, WIDTH, 0);
    float *values = play_values(p, m.rows * WIDTH, 1.0f);
    const void **row = play_alloc(p, m.rows, sizeof *row);
    for (int64_t i = 0; i < m.rows * WIDTH; i++)
        values[i] = to_bf16(values[i]);
    for (int64_t r = 0; r < m.rows; r++) {
        row[r] = values + r * WIDTH;
        if (v->poisoned < 0 || r < p->w->offset[v->poisoned] || r >= p->w->offset[v->poisoned + 1])
            continue;
        for (int i = 0; i < WIDTH; i++)
            values[r * WIDTH + i] = NAN;
    }
    const hs_embed_args a = {.out = m, .row = row, .row_type = HS_F32, .scale = 1.0f};
    assert_ok(p->dev->table->embed(p->dev, &a, &p->err), &p->err);
    return m;
}

/* Two layers, each with rows of its own, and their sum. */
static hs_mat run(play *p, const hs_packed *w, const visit *v, const hs_kv_view kv[LAYERS], hs_mat brought[LAYERS])
{
    const hs_jagged users = {.n_users = p->w->n_users, .offset = p->w->offset};
    hs_mat out[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        const hs_mat x = brought[l] = bring(p, v);
        const hs_kv_write_args write = {.kv = kv[l],
            .k = hs_mat_cols(x, K_COLS, K_COLS),
            .v = hs_mat_cols(x, 2 * K_COLS, V_COLS),
            .users = users,
            .position = p->w->past};
        out[l] = play_mat(p, p->w->n, V_COLS, 0);
        const hs_silu_attn_args attn = {.out = out[l],
            .q = hs_mat_cols(x, 0, K_COLS),
            .kv = kv[l],
            .users = users,
            .history = p->w->tokens,
            .alpha = 0.5f,
            .inv_n = 1.0f / MOST};
        assert_ok(p->dev->table->kv_write(p->dev, &write, &p->err), &p->err);
        assert_ok(p->dev->table->silu_attn(p->dev, &attn, &p->err), &p->err);
    }
    const hs_linear_args sum = {.out = play_mat(p, p->w->n, V_COLS, 0), .x = out[0], .w = w, .residual = out[1]};
    assert_ok(p->dev->table->linear(p->dev, &sum, 1, &p->err), &p->err);
    play_end(p, sum.out);
    return sum.out;
}

/* Pages that hold the visit's past and nothing else. */
static kv_pages fresh_pages(const house *h, const visit *v, const world *w, int l)
{
    kv_pages p = kv_new(h->layer[l].view.shape, w->tokens, w->n_users);
    for (int64_t b = 0; b < w->n_users; b++) {
        for (int64_t j = 0; j < w->past[b]; j++)
            kv_put(&p, b, j, h->k[l][v->user[b]][j], h->v[l][v->user[b]][j]);
    }
    return p;
}

/* What the CPU says, for all users whose rows are numbers. */
static void check_result(const house *h, const visit *v, const world *w, uint64_t seed, const hs_mat *got)
{
    kv_pages pages[LAYERS];
    hs_kv_view kv[LAYERS];
    hs_mat brought[LAYERS];
    play p;
    for (int l = 0; l < LAYERS; l++) {
        pages[l] = fresh_pages(h, v, w, l);
        kv[l] = pages[l].view;
    }
    play_begin(&p, h->cpu, w, seed);
    const hs_mat want = run(&p, h->weight[1], v, kv, brought);
    for (int64_t b = 0; b < w->n_users; b++) {
        const int64_t first = w->offset[b], n = w->offset[b + 1] - first;
        const hs_mat ours = hs_mat_rows(*got, first, n), theirs = hs_mat_rows(want, first, n);
        const double distance = n > 0 && b != v->poisoned ? mat_distance(&ours, &theirs) : 0;
        if (!(distance <= 1e-5))
            fail_msg("user %d of %d, %d tokens behind %d in pages of %d: off by %.3g", (int)b, (int)w->n_users, (int)n,
                (int)w->past[b], (int)page_tokens_of(h), distance);
    }
    play_free(&p);
    for (int l = 0; l < LAYERS; l++)
        kv_free(&pages[l]);
}

/* The pass's rows are the users' history from now on; poisoned ones are in their pages and count for nothing. */
static void keep_rows(house *h, const visit *v, const world *w, const hs_mat brought[LAYERS])
{
    for (int64_t b = 0; b < w->n_users; b++) {
        const int64_t user = v->user[b];
        h->length[user] = w->past[b] + (b == v->poisoned ? 0 : v->own[b]);
        for (int64_t r = 0; b != v->poisoned && r < v->own[b]; r++) {
            for (int l = 0; l < LAYERS; l++) {
                const float *row = brought[l].data + (w->offset[b] + r) * WIDTH;
                memcpy(h->k[l][user][w->past[b] + r], row + K_COLS, sizeof h->k[l][user][0]);
                memcpy(h->v[l][user][w->past[b] + r], row + 2 * K_COLS, sizeof h->v[l][user][0]);
            }
        }
    }
}

/* Bytes of keys and values that were kept. */
static int64_t pass(house *h, const visit *v, bool with_stamps)
{
    const world w = world_of(v->n_users, v->past, v->own, NULL);
    const uint64_t seed = random_u32(&h->random);
    const int64_t before = npu_stats(h->npu).bytes_kept;
    int64_t first_page[USERS];
    hs_kv_view kv[LAYERS];
    hs_mat brought[LAYERS];
    play p;
    for (int64_t b = 0; b < v->n_users; b++)
        first_page[b] = h->layer[0].first_page[v->user[b]];
    for (int l = 0; l < LAYERS; l++) {
        kv[l] = h->layer[l].view;
        kv[l].first_page = first_page;
        kv[l].stamp = with_stamps ? h->stamp : NULL;
    }
    play_begin(&p, h->npu, &w, seed);
    const hs_mat got = run(&p, h->weight[0], v, kv, brought);
    check_result(h, v, &w, seed, &got);
    keep_rows(h, v, &w, brought);
    play_free(&p);
    return npu_stats(h->npu).bytes_kept - before;
}

/* ---- what is kept ------------------------------------------------------------------------------------------------------------- */

/* User 0 with so many tokens before one row; user 1, who has more, keeps the bucket as it is. */
static void expect_kept(house *h, int64_t past, bool with_stamps, int64_t kept)
{
    const visit v = {.n_users = 2, .user = {0, 1}, .past = {past, MOST - 1}, .own = {1, 1}, .poisoned = -1};
    const int64_t bytes = pass(h, &v, with_stamps);
    if (bytes != (kept + (with_stamps && kept >= 0 ? MOST - 1 : 0)) * TOKEN_BYTES)
        fail_msg(
            "%d tokens: %d bytes are kept, expected %d tokens of %d", (int)past, (int)bytes, (int)kept, TOKEN_BYTES);
    h->length[1] = MOST - 1;
}

/* Users 0 and 1 have so many tokens that the bucket is the largest; user 2 has a few. */
static house *open_full_house(hs_dtype type)
{
    house *h = open_house(type, 32);
    for (int l = 0; l < LAYERS; l++) {
        for (int u = 0; u < USERS; u++) {
            for (int j = 0; j < MOST; j++) {
                for (int i = 0; i < K_COLS; i++)
                    h->k[l][u][j][i] = to_bf16(random_f32(&h->random, FILL_SIGNED));
                for (int i = 0; i < V_COLS; i++)
                    h->v[l][u][j][i] = to_bf16(random_f32(&h->random, FILL_SIGNED));
            }
        }
    }
    for (int64_t u = 0; u < USERS; u++)
        h->length[u] = MOST - 1;
    use_pages(h, type, 32);
    return h;
}

/* Two users, of whom the second alone has a new row; the first has so many tokens. */
static visit look_at(int64_t first, int64_t second, int64_t tokens)
{
    return (visit){.n_users = 2, .user = {first, second}, .past = {tokens, MOST - 1}, .own = {0, 1}, .poisoned = -1};
}

static void expect_look(house *h, int64_t first, int64_t second, int64_t tokens, int64_t kept)
{
    const visit v = look_at(first, second, tokens);
    const int64_t bytes = pass(h, &v, true);
    if (bytes != kept * TOKEN_BYTES)
        fail_msg(
            "%d tokens: %d bytes are kept, expected %d tokens of %d", (int)tokens, (int)bytes, (int)kept, TOKEN_BYTES);
}

static void check_kept(hs_dtype type)
{
    house *h = open_full_house(type);
    expect_look(h, 0, 1, 70, 0);
    expect_kept(h, 70, true, 70);
    renew_stamps(h, 0, 40); /* of pages 1 and 2 */
    expect_kept(h, 70, true, 32);
    expect_kept(h, 71, true, 64); /* the last page has grown */
    expect_kept(h, 71, true, 71);
    expect_kept(h, 40, true, 40);
    renew_stamps(h, 0, 40);
    expect_kept(h, 41, true, 32);
    expect_kept(h, 41, true, 41);
    expect_kept(h, 41, false, 0);
    expect_kept(h, 41, false, 0);
    expect_look(h, 1, 0, 41, 0); /* each has the other's place */
    assert_int_equal(npu_stats(h->npu).n_graphs, 1);
    close_house(h);
}

/* A shorter request in between leaves nothing behind its tokens. */
static void test_shorter(void **state)
{
    (void)state;
    house *h = open_full_house(HS_F32);
    expect_look(h, 0, 1, 71, 0);
    expect_look(h, 0, 1, 71, 71 + MOST - 1);
    expect_look(h, 0, 1, 40, 40 + MOST - 1);
    expect_look(h, 0, 1, 71, 32 + MOST - 1);
    expect_look(h, 0, 1, 0, MOST - 1);
    expect_look(h, 0, 1, 71, MOST - 1);
    close_house(h);
}

/* Pages that one request has stamped alike are different pages. */
static void test_equal_stamps(void **state)
{
    (void)state;
    house *h = open_full_house(HS_F32);
    for (int64_t i = 0; i < h->layer[0].n_pages; i++)
        h->stamp[i] = h->stamp[0];
    expect_look(h, 0, 1, 70, 0);
    expect_look(h, 2, 1, 70, MOST - 1);
    expect_look(h, 1, 2, 70, 0);
    close_house(h);
}

/* Pages of two sizes, by turns: what is known of the one says nothing of the other. */
static void test_page_sizes(void **state)
{
    (void)state;
    house *h = open_full_house(HS_F32);
    kv_pages small[LAYERS];
    uint64_t *const stamp = h->stamp;
    memcpy(small, h->layer, sizeof small);
    expect_look(h, 0, 1, 70, 0);
    h->stamp = NULL; /* they are not freed */
    use_pages(h, HS_F32, 64);
    expect_look(h, 2, 1, 70, 0);
    expect_look(h, 2, 1, 70, 70 + MOST - 1);
    for (int l = 0; l < LAYERS; l++) {
        kv_pages large = h->layer[l];
        h->layer[l] = small[l];
        kv_free(&large);
    }
    hs_free(h->stamp);
    h->stamp = stamp;
    expect_look(h, 0, 1, 70, 0);
    close_house(h);
}

/* A history that is no numbers reaches no later pass in the same memory. */
static void test_not_numbers(void **state)
{
    (void)state;
    house *h = open_full_house(HS_F32);
    for (int64_t j = 30; j < 80; j++)
        h->k[0][0][j][1] = h->v[1][0][j][1] = NAN;
    fill_tokens(h, 0, 0, MOST - 1, true);
    visit sick = look_at(0, 1, 80);
    sick.own[0] = 3;
    sick.poisoned = 0;
    (void)pass(h, &sick, true);
    for (int64_t tokens = 30; tokens >= 0; tokens -= 15) {
        visit healthy = look_at(0, 1, tokens);
        healthy.own[0] = 3;
        renew_stamps(h, 0, tokens);
        (void)pass(h, &healthy, true);
    }
    close_house(h);
}

static void test_kept_f32(void **state)
{
    (void)state;
    check_kept(HS_F32);
}

static void test_kept_bf16(void **state)
{
    (void)state;
    check_kept(HS_BF16);
}

/* ---- random visits --------------------------------------------------------------------------------------------------------------- */

/* What has happened to a user's pages since. */
static void change(house *h, int64_t user)
{
    const int64_t n = h->length[user], kind = random_below(&h->random, 8), at = n > 0 ? random_below(&h->random, n) : 0;
    if (n + 20 > MOST) {
        h->length[user] = 0;
        renew_stamps(h, user, 0);
        fill_tokens(h, user, 0, MOST, false);
    } else if (kind == 0 && n > 0) { /* a token is another: all behind it goes */
        h->length[user] = at;
        renew_stamps(h, user, at);
        fill_tokens(h, user, at, n, false);
    } else if (kind == 1 && n > 0) { /* a token is another in place */
        h->k[0][user][at][0] = to_bf16(random_f32(&h->random, FILL_SIGNED));
        fill_tokens(h, user, at, n, true);
        renew_stamps(h, user, at);
    }
}

static visit choose_visit(house *h)
{
    visit v = {.n_users = random_below(&h->random, 3) ? USERS : 1 + random_below(&h->random, USERS), .poisoned = -1};
    const int64_t first = random_below(&h->random, 4) ? 0 : random_below(&h->random, USERS);
    for (int64_t b = 0; b < v.n_users; b++) {
        const int64_t user = v.user[b] = (first + b) % USERS;
        change(h, user);
        v.past[b] = h->length[user];
        v.own[b] = b == 0 || random_below(&h->random, 3) ? 1 + random_below(&h->random, 8) : 0;
        if (random_below(&h->random, 6) == 0 && v.past[b] > 0) { /* less than there is: what is written replaces it */
            v.past[b] = random_below(&h->random, v.past[b]);
            renew_stamps(h, user, v.past[b]);
        }
    }
    if (random_below(&h->random, 6) == 0)
        v.poisoned = random_below(&h->random, v.n_users);
    return v;
}

static void test_random_visits(void **state)
{
    (void)state;
    static const int64_t page_tokens[] = {32, 64, 96};
    for (int round = 0; round < 2; round++) {
        const hs_dtype type = round ? HS_BF16 : HS_F32;
        house *h = open_house(type, 32);
        int64_t kept = 0;
        for (int i = 0; i < (TEST_SANITIZED ? 60 : 300); i++) {
            if (random_below(&h->random, 30) == 0)
                use_pages(h, type, page_tokens[random_below(&h->random, 3)]);
            const visit v = choose_visit(h);
            kept += pass(h, &v, random_below(&h->random, 10) != 0);
        }
        assert_true(kept > 0);
        print_message("%d bytes kept of %d\n", (int)kept, (int)(kept + npu_stats(h->npu).bytes_in));
        close_house(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_f32),
        cmocka_unit_test(test_kept_bf16),
        cmocka_unit_test(test_shorter),
        cmocka_unit_test(test_equal_stamps),
        cmocka_unit_test(test_page_sizes),
        cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_random_visits),
    };
    return npu_main(tests);
}
