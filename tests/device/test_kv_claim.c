/* The lines that a layer's kernel asks for in advance are those that kv_write writes, and where it writes whole panels, all of
 * them. */
#include "kv_test.h"

#include "device/cpu/cpu_int.h"

enum { USERS = 3, LINE = 64, TASK_COLS = 3 * HS_PAIR_STEP };

typedef struct claim_case {
    hs_kv_shape shape;
    int64_t rows[USERS], position[USERS], offset[USERS + 1];
} claim_case;

static bool is_written(const char *line)
{
    for (int i = 0; i < LINE; i++) {
        if (line[i] != (char)0xff)
            return true;
    }
    return false;
}

static int64_t count_written(const kv_pages *p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n_pages; i++) {
        for (size_t at = 0; p->page[i] && at < hs_kv_layer_bytes(&p->view.shape); at += LINE)
            n += is_written(p->page[i] + at);
    }
    return n;
}

static bool is_in_pages(const kv_pages *p, const char *line)
{
    for (int64_t i = 0; i < p->n_pages; i++) {
        if (p->page[i] && line >= p->page[i] && line < p->page[i] + hs_kv_layer_bytes(&p->view.shape))
            return true;
    }
    return false;
}

/* Whether a line so far behind that of token 0 and the first of `cols` columns holds some of these of the token at `place`. */
static bool holds(const hs_kv_shape *s, bool key, int64_t behind, int64_t place, int64_t cols)
{
    const int64_t panel =
        (int64_t)(key ? hs_kv_key_bytes(s) / (size_t)s->page_tokens * HS_KV_PANEL : hs_kv_value_panel_bytes(s));
    const int64_t tokens = key ? HS_KV_PANEL : s->page_tokens, columns = key ? s->dqk : HS_KV_PANEL;
    const int64_t in_line = s->type == HS_BF16 ? 2 : 1, line = behind % panel / LINE;
    if (key)
        return behind / panel == place / tokens && line < cols / in_line && cols <= columns;
    return line == place / in_line && behind / panel < cols / columns;
}

/* Claims of every row and column of `out`, begun anew after some rows and columns as layers' tasks do. Each line is made unwritten
 * again, so that none counts twice. */
static int64_t claim_all(const hs_kv_write_args *a, const kv_pages *pages, const hs_mat *out)
{
    int64_t n = 0;
    for (int64_t row = 0, rows = 0; row < out->rows; row += rows) {
        for (int64_t first = 0; first < out->cols; first += TASK_COLS) {
            const hs_claim_plan claim = hs_cpu_kv_claim(a, out, row, first);
            rows = hs_min_i64(hs_min_i64(claim.rows, 1 + row % 40), out->rows - row);
            assert_true(rows > 0);
            for (int64_t col = 0; col < TASK_COLS && first + col < out->cols; col += claim.cols) {
                char *columns = hs_claim_columns(&claim, col);
                for (int64_t r = 0; r < rows; r++, n++) {
                    char *line = hs_claim_line(&claim, columns, r);
                    assert_int_equal((uintptr_t)line % LINE, 0);
                    assert_true(is_in_pages(pages, line));
                    assert_true(is_written(line));
                    assert_true(holds(&a->kv.shape, out == &a->k, line - columns, claim.place + r, claim.cols));
                    memset(line, 0xff, LINE);
                }
            }
        }
    }
    return n;
}

static void check_claims(claim_case *c, bool whole)
{
    const hs_kv_shape *s = &c->shape;
    int64_t tokens[USERS];
    for (int64_t b = 0; b < USERS; b++) {
        tokens[b] = c->position[b] + c->rows[b];
        c->offset[b + 1] = c->offset[b] + c->rows[b];
    }
    hs_device *dev = device_new(0, 1);
    kv_pages pages = kv_new(*s, tokens, USERS);
    hs_mat k = mat_new(c->offset[USERS], s->n_heads * s->dqk, s->n_heads * s->dqk, FILL_SIGNED, 1);
    hs_mat v = mat_new(c->offset[USERS], s->n_heads * s->dv, s->n_heads * s->dv, FILL_SIGNED, 2);
    const hs_kv_write_args a = {
        .kv = pages.view, .k = k, .v = v, .users = {.n_users = USERS, .offset = c->offset}, .position = c->position};
    assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
    const int64_t n_written = count_written(&pages);
    const int64_t n_claimed = claim_all(&a, &pages, &a.k) + claim_all(&a, &pages, &a.v);
    assert_true(whole ? n_claimed == n_written : n_claimed <= n_written);
    hs_free(k.data);
    hs_free(v.data);
    kv_free(&pages);
    hs_device_close(dev);
}

static void test_claims(void **state)
{
    (void)state;
    static const int64_t widths[] = {32, 64, 96, 128}, pages[] = {32, 64, 256};
    for (int i = 0; i < 48; i++) {
        claim_case c = {.shape = {.type = i % 7 < 4 ? HS_BF16 : HS_F32,
                            .page_tokens = pages[i % 3],
                            .n_heads = 1 + i % 4,
                            .dqk = widths[i / 3 % 4],
                            .dv = widths[i / 5 % 4]}};
        const bool whole = i % 2;
        for (int b = 0; b < USERS; b++) {
            c.rows[b] = whole ? (i + b) % 5 * 16 : (i * 7 + b * 31) % 90;
            c.position[b] = whole ? (i + 2 * b) % 3 * 16 : (i * 5 + b * 13) % 70;
        }
        check_claims(&c, whole);
    }
}

/* What is not stored, or not so, is not asked for. */
static void test_nothing_to_claim(void **state)
{
    (void)state;
    float memory[4];
    static char room[32 * 2 * (32 + 32) * 2];
    char *page[1] = {room};
    static const int64_t first_page[1] = {0}, offset[2] = {0, 4}, n_rows[1] = {2};
    hs_kv_write_args a = {.kv = {.shape = {.type = HS_BF16, .page_tokens = 32, .n_heads = 2, .dqk = 32, .dv = 20},
                              .page = page,
                              .first_page = first_page},
        .k = hs_mat_of(memory, 4, 64),
        .v = hs_mat_of(memory + 1, 4, 40),
        .users = {.n_users = 1, .offset = offset},
        .n_rows = n_rows};
    assert_int_equal(hs_cpu_kv_claim(&a, &a.k, 1, 32).rows, 1);
    assert_int_equal(hs_cpu_kv_claim(&a, &a.k, 2, 0).rows, 0);
    assert_int_equal(hs_cpu_kv_claim(&a, &a.v, 0, 0).rows, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_claims), cmocka_unit_test(test_nothing_to_claim)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
