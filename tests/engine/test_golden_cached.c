/* Histories whose first tokens are kept, against the reference's cached runs and against our own uncached ones. */
#include "engine/golden_ranking.h"

enum { PAGE_TOKENS = 32, MAX_USERS = 16 };

/* A case's batch with pages for every token of its histories. */
typedef struct cached_case {
    ranking_case ranking;
    ranking_places places;
    hs_ranking_input input;
    char *memory, **page;
    float *uncached; /* [candidates, classes] */
    size_t n_logits;
} cached_case;

static void run_cached(cached_case *c, const int64_t *reused, float *logits, stages *out)
{
    hstu_error err;
    hs_arena arena;
    const hs_model *m = &c->ranking.model->model;
    const int64_t classes = m->config.head[m->config.n_head - 1];
    const hs_kept kept = {.page_tokens = PAGE_TOKENS, .reused = reused, .page = c->page};
    const hs_trace trace = {.ctx = out, .stage = keep_stage};
    hs_ranking_input input = c->input;
    input.kept = &kept;
    hs_arena_init(&arena, (size_t)1 << 30);
    assert_ok(hs_ranking_forward(m, c->ranking.session->whole.dev, &arena, &input,
                  hs_mat_of(logits, c->ranking.batch.n_candidates, classes), out ? &trace : NULL, &err),
        &err);
    if (out)
        ranking_reorder(out, &c->ranking, &input, reused);
    hs_arena_free(&arena);
}

static void open_cached(cached_case *c, const char *folder, const char *dtype)
{
    static const int64_t nothing[MAX_USERS];
    size_t bytes = 0;
    int64_t pages = 0;
    memset(c, 0, sizeof *c);
    ranking_open(&c->ranking, folder, &(ranking_options){.dtype = dtype});
    const hs_model *m = &c->ranking.model->model;
    const hstu_batch *batch = &c->ranking.batch.inference;
    ranking_places_make(&c->places, &c->ranking.batch, &m->config);
    c->input = (hs_ranking_input){.batch = batch,
        .end = (int64_t)batch->n_users,
        .item_first = c->places.item_first,
        .action_first = c->places.action_first,
        .context_first = c->places.context_first};
    for (size_t u = 0; u < batch->n_users; u++)
        pages += (hs_ranking_history(m, &c->input, (int64_t)u) + PAGE_TOKENS - 1) / PAGE_TOKENS;
    assert_true(hs_pages_bytes(m, PAGE_TOKENS, &bytes));
    c->memory = hs_alloc_aligned((size_t)pages, bytes);
    c->page = hs_alloc((size_t)pages, sizeof *c->page);
    assert_true(c->memory && c->page);
    for (int64_t i = 0; i < pages; i++)
        c->page[i] = c->memory + (size_t)i * bytes;
    c->uncached = ranking_logits(&c->ranking, batch, &c->n_logits);
    float *first = hs_calloc(c->n_logits, sizeof *first);
    run_cached(c, nothing, first, NULL); /* fills the pages */
    assert_same("logits", first, c->uncached, c->n_logits);
    hs_free(first);
}

static void close_cached(cached_case *c)
{
    hs_free(c->uncached);
    hs_free(c->page);
    hs_free(c->memory);
    ranking_close(&c->ranking);
}

/* Every split of the reference: the rows that it computes have its x0, the logits are its, and those without a cache,
 * bit for bit. */
static void check_splits(const char *folder, int n_splits)
{
    cached_case c;
    hs_statedict expected;
    open_cached(&c, folder, NULL);
    golden_open(&expected, folder, "expected_cached.safetensors");
    float *logits = hs_calloc(c.n_logits, sizeof *logits);
    for (int split = 0; split < n_splits; split++) {
        static const char *const compared[] = {"x0", "logits"};
        stages s = {.n = 0};
        char name[64];
        int64_t n = 0;
        (void)snprintf(name, sizeof name, "s%d.cached_lengths", split);
        int64_t *reused = golden_i64(&expected, name, &n);
        assert_int_equal(n, c.ranking.batch.inference.n_users);
        run_cached(&c, reused, logits, &s);
        for (int i = 0; i < 2; i++) {
            const stage *found = find_stage(&s, compared[i]);
            (void)snprintf(name, sizeof name, "s%d.%s", split, compared[i]);
            float *values = golden_f32(&expected, name, &n);
            assert_int_equal(n, found->rows * found->cols);
            assert_close(name, found->data, values, n, golden_tolerance() * largest_magnitude(values, n));
            hs_free(values);
        }
        assert_same("cached logits", logits, c.uncached, c.n_logits);
        memset(logits, 0, c.n_logits * sizeof *logits);
        run_cached(&c, reused, logits, NULL);
        assert_same("cached logits", logits, c.uncached, c.n_logits);
        hs_free(reused);
        free_stages(&s);
    }
    hs_free(logits);
    hs_statedict_close(&expected);
    close_cached(&c);
}

static void test_c6(void **state)
{
    (void)state;
    check_splits("ranking/c6_fused_fp32", 9);
}

/* Positions past the table: kept and new tokens share its last row. */
static void test_c0(void **state)
{
    (void)state;
    check_splits("ranking/c0_hd32_d24_pclamp_2rank", 5);
}

/* Every split, also those of bfloat16 pairs. */
static void check_every_split(const char *folder, const char *dtype)
{
    cached_case c;
    int64_t reused[MAX_USERS], longest = 0;
    open_cached(&c, folder, dtype);
    const hs_model *m = &c.ranking.model->model;
    const int64_t users = c.input.end;
    float *logits = hs_calloc(c.n_logits, sizeof *logits);
    for (int64_t u = 0; u < users; u++)
        longest = longest > hs_ranking_history(m, &c.input, u) ? longest : hs_ranking_history(m, &c.input, u);
    for (int64_t split = 0; split <= longest; split++) {
        for (int64_t u = 0; u < users; u++) {
            const int64_t n = hs_ranking_history(m, &c.input, u);
            reused[u] = u % 2 ? (split < n ? n - split : 0) : (split < n ? split : n);
        }
        memset(logits, 0, c.n_logits * sizeof *logits);
        run_cached(&c, reused, logits, NULL);
        assert_same("cached logits", logits, c.uncached, c.n_logits);
    }
    hs_free(logits);
    close_cached(&c);
}

static void test_every_split(void **state)
{
    (void)state;
    check_every_split("ranking/c6_fused_fp32", NULL);
    if (golden_on_cpu()) /* others keep bfloat16 pages of fp32 rows */
        check_every_split("ranking/c6_fused_bf16", "bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c6),
        cmocka_unit_test(test_c0),
        cmocka_unit_test(test_every_split),
    };
    return golden_main(tests);
}
