/* Pages written from matrices that hold bfloat16 values: what matrices of float32 ones would have put there. */
#include "kv_test.h"

enum { USERS = 3 };

typedef struct stored_case {
    hs_kv_shape shape;
    int64_t tokens[USERS], offset[USERS + 1];
    hs_mat k, v; /* float32 values of bfloat16 */
} stored_case;

static void check_pages(const kv_pages *got, const kv_pages *want, const char *isa, const char *what)
{
    for (int64_t i = 0; i < got->n_pages; i++) {
        if (got->page[i] && memcmp(got->page[i], want->page[i], hs_kv_layer_bytes(&got->view.shape)) != 0)
            fail_msg("%s kv_write, %s: page %d differs", isa, what, (int)i);
    }
}

/* Both matrices as neighbouring columns of one, as layers have them. */
static void make_slices(int isa, const stored_case *c, int64_t before, hs_mat *all, hs_mat *k, hs_mat *v)
{
    hs_mat wide =
        mat_new(c->k.rows, before + c->k.cols + c->v.cols + 3, before + c->k.cols + c->v.cols + 3, FILL_SIGNED, 9);
    for (int64_t r = 0; r < wide.rows; r++) {
        float *row = wide.data + r * wide.ld + before;
        memcpy(row, c->k.data + r * c->k.ld, (size_t)c->k.cols * sizeof *row);
        memcpy(row + c->k.cols, c->v.data + r * c->v.ld, (size_t)c->v.cols * sizeof *row);
    }
    *all = stored_new(isa, &wide, true);
    *k = hs_mat_cols(*all, before, c->k.cols);
    *v = hs_mat_cols(*all, before + c->k.cols, c->v.cols);
    hs_free(wide.data);
}

/* Each user's first `first` tokens, then the others behind them. */
static void write_twice(hs_device *dev, const stored_case *c, const kv_pages *pages, hs_mat k, hs_mat v, int64_t first)
{
    int64_t n_rows[USERS], position[USERS] = {0};
    for (int64_t b = 0; b < USERS; b++)
        n_rows[b] = c->tokens[b] < first ? c->tokens[b] : first;
    hs_kv_write_args a = {.kv = pages->view,
        .k = k,
        .v = v,
        .users = {.n_users = USERS, .offset = c->offset},
        .n_rows = n_rows,
        .position = position};
    assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
    for (int64_t b = 0; b < USERS; b++) { /* rows begin at a user's first one: one user a call */
        const int64_t offset[2] = {0, c->tokens[b] - n_rows[b]}, at = n_rows[b];
        hs_kv_view view = pages->view;
        view.first_page += b;
        a = (hs_kv_write_args){.kv = view, .users = {.n_users = 1, .offset = offset}, .position = &at};
        a.k = hs_mat_rows(k, c->offset[b] + at, offset[1]);
        a.v = hs_mat_rows(v, c->offset[b] + at, offset[1]);
        assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
    }
}

static void write_ways(hs_device *dev, const stored_case *c, const kv_pages *want, hs_mat k, hs_mat v, const char *what)
{
    static const int64_t first[] = {0, 1, 2, 15, 16, 17, 31, 33, 45, 65, 1000};
    for (size_t f = 0; f < sizeof first / sizeof first[0]; f++) {
        kv_pages pages = kv_new(c->shape, c->tokens, USERS);
        write_twice(dev, c, &pages, k, v, first[f]);
        check_pages(&pages, want, dev->isa, what);
        kv_free(&pages);
    }
}

static void stored_writes(int isa, hs_kv_shape shape, const int64_t *tokens)
{
    stored_case c = {.shape = shape};
    for (int64_t b = 0; b < USERS; b++) {
        c.tokens[b] = tokens[b];
        c.offset[b + 1] = c.offset[b] + tokens[b];
    }
    const int64_t qk = shape.n_heads * shape.dqk, dv = shape.n_heads * shape.dv;
    c.k = bf16_mat_new(c.offset[USERS], qk, qk + 1, FILL_SIGNED, 31);
    c.v = bf16_mat_new(c.offset[USERS], dv, dv + 2, FILL_SIGNED, 32);
    kv_pages want = kv_of(shape, &c.k, &c.v, c.offset, tokens, USERS);
    hs_mat k = stored_new(isa, &c.k, true), v = stored_new(isa, &c.v, true);
    for (int threads = 1; threads <= 3; threads += 2) {
        hs_device *dev = device_new(isa, threads);
        write_ways(dev, &c, &want, k, v, "of stored matrices");
        write_ways(dev, &c, &want, k, c.v, "of stored keys");
        write_ways(dev, &c, &want, c.k, v, "of stored values");
        for (int64_t before = 0; before < 4; before++) {
            hs_mat all, part_k, part_v;
            make_slices(isa, &c, before, &all, &part_k, &part_v);
            write_ways(dev, &c, &want, part_k, part_v, "of columns of a stored matrix");
            stored_free(&all);
        }
        hs_device_close(dev);
    }
    kv_free(&want);
    stored_free(&k);
    stored_free(&v);
    hs_free(c.k.data);
    hs_free(c.v.data);
}

static void test_stored_writes(void **state)
{
    (void)state;
    static const struct {
        int64_t page_tokens, n_heads, dqk, dv, tokens[USERS];
    } cases[] = {{32, 2, 5, 3, {71, 0, 33}}, {96, 3, 16, 33, {71, 0, 33}}, {32, 1, 1, 1, {40, 1, 17}},
        {64, 2, 32, 8, {101, 2, 64}}, {64, 2, 75, 25, {300, 5, 0}}, {64, 2, 76, 26, {300, 5, 0}}};
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < sizeof cases / sizeof cases[0]; i++) {
            for (int bf16 = 0; bf16 < 2; bf16++)
                stored_writes(isa,
                    (hs_kv_shape){.type = bf16 ? HS_BF16 : HS_F32,
                        .page_tokens = cases[i].page_tokens,
                        .n_heads = cases[i].n_heads,
                        .dqk = cases[i].dqk,
                        .dv = cases[i].dv},
                    cases[i].tokens);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stored_writes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
