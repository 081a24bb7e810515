/* The products of bfloat16 pairs on both sides: bit for bit against models of the instructions, and within the bound of one chain.
 * Operands end at a page that nobody may touch, since no sanitizer sees what a tile load reads. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "bf16_test.h"

#include <sys/mman.h>
#include <unistd.h>

/* Memory whose end is followed by a page without access. */
typedef struct guarded {
    char *base;
    size_t bytes;
} guarded;

static void *guarded_new(guarded *g, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    g->bytes = room + page;
    g->base = mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g->base != MAP_FAILED);
    assert_int_equal(mprotect(g->base + room, page, PROT_NONE), 0);
    memset(g->base, 0xff, room); /* NaN */
    return g->base + room - bytes;
}

static void guarded_free(const guarded *g)
{
    assert_int_equal(munmap(g->base, g->bytes), 0);
}

typedef enum layout { PANELS, ROWS, STRIPS, KEY_PAGES, VALUE_PAGES, N_LAYOUTS } layout;

typedef struct product_case {
    int64_t rows, k, n;
    hs_mat a, b; /* values of bfloat16 */
    layout layout;
    guarded memory[3];
    char *page[64];
    guarded page_memory[64];
    int n_pages;
    hs_gemm g;
} product_case;

static uint32_t word_of(const product_case *c, int64_t t, int64_t o)
{
    const uint32_t odd =
        t + 1 < c->k ? hs_f32_to_bf16(c->b.data[(t + 1) * c->b.ld + o]) : 0x7fc1; /* NaN: not multiplied */
    return hs_f32_to_bf16(c->b.data[t * c->b.ld + o]) | odd << 16;
}

/* b's words t0 .., o0 .. of one page, or of all; what is no column or pair is NaN, or not there. */
static uint32_t *right_new(const product_case *c, guarded *memory, int64_t t0, int64_t k, int64_t o0, int64_t n)
{
    const int64_t pairs = (k + 1) / 2;
    int64_t last = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t *words = pass ? guarded_new(memory, (size_t)last * sizeof *words) : NULL;
        for (int64_t t = 0; t < pairs; t++) {
            for (int64_t o = 0; o < n; o++) {
                const int64_t at = o / HS_PANEL * c->g.panel + t * c->g.ldb + o % HS_PANEL;
                last = at + 1 > last ? at + 1 : last;
                if (words)
                    words[at] = word_of(c, t0 + 2 * t, o0 + o);
            }
        }
        if (words)
            return words;
    }
    return NULL;
}

static void set_right(product_case *c)
{
    const int64_t pairs = (c->k + 1) / 2, paged = 64;
    c->g.panel = c->layout == PANELS || c->layout == KEY_PAGES ? HS_PANEL * pairs : HS_PANEL;
    c->g.ldb = c->layout == STRIPS ? 64 : c->layout == ROWS || c->layout == VALUE_PAGES ? c->n + 1 : HS_PANEL;
    c->g.page_k = c->layout == VALUE_PAGES ? paged : c->k;
    c->g.page_n = c->layout == KEY_PAGES ? 32 : INT64_MAX;
    if (c->layout != KEY_PAGES && c->layout != VALUE_PAGES) {
        c->g.b = right_new(c, &c->memory[2], 0, c->k, 0, c->n);
        return;
    }
    c->g.page = c->page;
    if (c->layout == KEY_PAGES) {
        for (int64_t o = 0; o < c->n; o += 32, c->n_pages++)
            c->page[c->n_pages] =
                (char *)right_new(c, &c->page_memory[c->n_pages], 0, c->k, o, c->n - o < 32 ? c->n - o : 32);
    } else {
        for (int64_t t = 0; t < c->k; t += paged, c->n_pages++)
            c->page[c->n_pages] =
                (char *)right_new(c, &c->page_memory[c->n_pages], t, c->k - t < paged ? c->k - t : paged, 0, c->n);
    }
}

/* Tiny and huge values, and zeros of both signs. */
static void make_extreme(hs_mat *m, uint64_t seed)
{
    for (int64_t r = 0; r < m->rows; r++) {
        for (int64_t i = 0; i < m->cols; i++) {
            const uint32_t bits = random_u32(&seed), exponent = (bits >> 8) % 5 == 0 ? 0 : 40 + (bits >> 8) % 60;
            m->data[r * m->ld + i] = hs_bf16_to_f32((uint16_t)((bits & 0x807f) | exponent << 7));
        }
    }
}

static void case_new(product_case *c, int isa, const int64_t *size, layout where, int kind)
{
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    *c = (product_case){.rows = size[0], .k = size[1], .n = size[2], .layout = where};
    c->a = bf16_mat_new(c->rows, c->k, c->k + 3, kind == 1 ? FILL_POSITIVE : FILL_SIGNED, 11);
    c->b = bf16_mat_new(c->k, c->n, c->n + 2, kind == 1 ? FILL_POSITIVE : FILL_SIGNED, 12);
    if (kind == 2) {
        make_extreme(&c->a, 5);
        make_extreme(&c->b, 6);
    }
    const int64_t padded = (c->rows + HS_PAIR_ROWS - 1) / HS_PAIR_ROWS * HS_PAIR_ROWS, stride = hs_pair_stride(c->k);
    const int64_t left_words = (padded - 1) * stride + (c->k + 31) / 32 * 16, ldc = c->n + 5;
    uint32_t *left = guarded_new(&c->memory[0], (size_t)left_words * sizeof *left);
    c->g = (hs_gemm){.left = left, .lda = stride, .ldc = ldc, .rows = c->rows, .k = c->k, .n = c->n};
    for (int64_t r = 0; r < c->rows; r++)
        pairs->pack_left(left + r * stride, c->a.data + r * c->a.ld, c->k);
    c->g.c = guarded_new(&c->memory[1], (size_t)((c->rows - 1) * ldc + c->n) * sizeof(float));
    set_right(c);
}

static void case_free(product_case *c)
{
    for (int i = 0; i < c->n_pages; i++)
        guarded_free(&c->page_memory[i]);
    guarded_free(&c->memory[0]);
    guarded_free(&c->memory[1]);
    if (c->g.b)
        guarded_free(&c->memory[2]);
    hs_free(c->a.data);
    hs_free(c->b.data);
}

static void run(int isa, const hs_gemm *g)
{
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    if (pairs->enter)
        pairs->enter();
    pairs->gemm(g);
    if (pairs->leave)
        pairs->leave();
}

static void check(int isa, const product_case *c, const char *what)
{
    const char *name = hs_cpu_kernels_at(isa)->isa;
    for (int64_t i = 0; i < c->rows; i++) {
        const float *a = c->a.data + i * c->a.ld;
        for (int64_t o = 0; o < c->n; o++) {
            const float got = c->g.c[i * c->g.ldc + o] + 0.0f,
                        want = paired_chain(isa, a, c->b.data + o, c->b.ld, c->k);
            if (memcmp(&got, &want, sizeof want) != 0)
                fail_msg("%s %s: %d x %d x %d, layout %d: [%d, %d] is %a, not %a", name, what, (int)c->rows, (int)c->k,
                    (int)c->n, (int)c->layout, (int)i, (int)o, (double)got, (double)want);
            double sum = 0, terms = 0;
            for (int64_t t = 0; t < c->k; t++) {
                sum += (double)a[t] * (double)c->b.data[t * c->b.ld + o];
                terms += fabs((double)a[t] * (double)c->b.data[t * c->b.ld + o]);
            }
            check_near((double)got, sum, (double)(c->k + 2) * (ROUNDING * terms + (double)FLT_MIN), name, what, i, o);
        }
        for (int64_t o = c->n; o < c->g.ldc && i + 1 < c->rows; o++)
            assert_true(isnan(c->g.c[i * c->g.ldc + o])); /* what is between rows stays */
    }
}

/* The sum at once, and cut in two: the same chain. */
static void product(int isa, const int64_t *size, layout where, int kind)
{
    product_case c;
    case_new(&c, isa, size, where, kind);
    run(isa, &c.g);
    check(isa, &c, "product");
    const int64_t first = c.k / 64 * 32;
    if (first > 0 && where != VALUE_PAGES && where != KEY_PAGES) {
        hs_gemm half = c.g;
        half.k = first;
        run(isa, &half);
        half.left += first / 2;
        half.b = (const uint32_t *)c.g.b + first / 2 * c.g.ldb;
        half.k = c.k - first;
        half.accumulate = true;
        run(isa, &half);
        check(isa, &c, "product cut in two");
    }
    case_free(&c);
}

/* Around every register tile (6, 12, 16, 32 rows; 16, 32 and 64 columns), odd and even sums on both sides of 32. */
static const int64_t SIZES[][3] = {{1, 1, 1}, {1, 64, 33}, {2, 3, 15}, {3, 7, 16}, {4, 16, 17}, {5, 8, 31}, {6, 50, 32},
    {7, 13, 48}, {8, 64, 64}, {9, 5, 47}, {12, 17, 20}, {13, 100, 7}, {16, 32, 16}, {17, 31, 65}, {23, 257, 35},
    {31, 33, 63}, {32, 64, 32}, {33, 95, 64}, {47, 127, 97}, {61, 96, 128}, {97, 131, 101}};

static void test_products(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; hs_cpu_kernels_at(isa)->pairs && s < sizeof SIZES / sizeof SIZES[0]; s++) {
            for (layout where = 0; where < N_LAYOUTS; where++) {
                for (int kind = 0; kind < 3; kind++) {
                    if (where != STRIPS || SIZES[s][2] <= 64)
                        product(isa, SIZES[s], where, kind);
                }
            }
        }
    }
}

static void test_pack_left(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
        for (int64_t n = 1; pairs && n < 100; n++) {
            guarded from, to;
            const int64_t words = (n + 31) / 32 * 16;
            float *x = guarded_new(&from, (size_t)n * sizeof *x);
            uint32_t *dst = guarded_new(&to, (size_t)words * sizeof *dst);
            uint64_t seed = (uint64_t)n;
            for (int64_t i = 0; i < n; i++) {
                const uint32_t bits = random_u32(&seed) << 16;
                memcpy(&x[i], &bits, sizeof bits);
                if (isnan(x[i]) || flushed(x[i]) != x[i])
                    x[i] = 1.0f;
            }
            pairs->pack_left(dst, x, n);
            for (int64_t i = 0; i < 2 * words; i++) {
                const uint32_t half = i % 2 ? dst[i / 2] >> 16 : dst[i / 2] & 0xffff;
                assert_int_equal(half, i < n ? hs_f32_to_bf16(x[i]) : 0);
            }
            guarded_free(&from);
            guarded_free(&to);
        }
    }
}

/* The bound before rounding, and the two values that rounding within it may give. */
static void check_weight(const char *isa, uint32_t half, double want, double alone, int64_t r, int64_t j)
{
    const float got = hs_bf16_to_f32((uint16_t)half);
    const double error = ldexp(fabs(want), -16) + ldexp(1.0, -100);
    const float low = to_bf16((float)(want - error)), high = to_bf16((float)(want + error));
    if (!(got >= flushed(low) && got <= flushed(high)))
        fail_msg("%s silu_left [%d, %d]: %a is not %a", isa, (int)r, (int)j, (double)got, want);
    assert_true(got == (float)alone);
}

/* A tile that begins to see anywhere; every weight is that of a tile of one element. */
static void silu_left_case(int isa, int64_t n, int64_t n_first, bool with_bias)
{
    enum { ROWS_SEEN = 5 };
    const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
    const int64_t words = (n + 31) / 32 * 16, lda = words + 16;
    hs_mat x = mat_new(ROWS_SEEN, n, n + 2, FILL_SIGNED, (uint64_t)n),
           bias = mat_new(ROWS_SEEN, n, n + 2, FILL_SIGNED, 3);
    guarded memory;
    uint32_t *left = guarded_new(&memory, (size_t)((ROWS_SEEN - 1) * lda + words) * sizeof *left);
    hs_silu_tile t = {.x = x.data,
        .bias = with_bias ? bias.data : NULL,
        .ld = x.ld,
        .alpha = 9.0f,
        .scale = 0.25f,
        .rows = ROWS_SEEN,
        .n = n,
        .n_first = n_first,
        .bf16 = true};
    k->pairs->silu_left(left, lda, &t);
    for (int64_t r = 0; r < ROWS_SEEN; r++) {
        for (int64_t j = 0; j < 2 * words; j++) {
            const uint32_t half = j % 2 ? left[r * lda + j / 2] >> 16 : left[r * lda + j / 2] & 0xffff;
            if (j >= n || j >= n_first + r) {
                assert_int_equal(half, 0);
                continue;
            }
            const float add = with_bias ? bias.data[r * bias.ld + j] : 0.0f, z = fmaf(9.0f, x.data[r * x.ld + j], add);
            uint32_t one[HS_PAIR_STEP / 2];
            hs_silu_tile single = t;
            single.x += r * t.ld + j;
            single.bias = with_bias ? bias.data + r * bias.ld + j : NULL;
            single.rows = single.n = single.n_first = 1;
            k->pairs->silu_left(one, HS_PAIR_STEP / 2, &single);
            check_weight(k->isa, half, 0.25 * silu_exact((double)z), (double)hs_bf16_to_f32((uint16_t)one[0]), r, j);
        }
        for (int64_t w = words; w < lda && r + 1 < ROWS_SEEN; w++)
            assert_int_equal(left[r * lda + w], 0xffffffff); /* what is between rows stays */
    }
    guarded_free(&memory);
    hs_free(x.data);
    hs_free(bias.data);
}

static void test_silu_left(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 50, 64, 67};
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; hs_cpu_kernels_at(isa)->pairs && s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int64_t n_first = -2; n_first <= sizes[s]; n_first += 1 + (n_first > 3) * 7) {
                silu_left_case(isa, sizes[s], n_first, false);
                silu_left_case(isa, sizes[s], n_first, true);
            }
            silu_left_case(isa, sizes[s], sizes[s], true);
        }
    }
}

/* All of silu's range in small steps, and what lies outside. */
static void test_silu_range(void **state)
{
    (void)state;
    enum { N = 32 };
    FOR_EACH_ISA(isa)
    {
        const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
        for (float first = -140.0f; pairs && first < 140.0f; first += 0.0371f * N) {
            float x[N];
            uint32_t left[N / 2];
            for (int i = 0; i < N; i++)
                x[i] = first + 0.0371f * (float)i;
            const hs_silu_tile t = {.x = x, .ld = N, .alpha = 1.0f, .scale = 1.0f, .rows = 1, .n = N, .n_first = N};
            pairs->silu_left(left, N / 2, &t);
            for (int i = 0; i < N; i++) {
                const uint32_t half = i % 2 ? left[i / 2] >> 16 : left[i / 2] & 0xffff;
                check_weight(hs_cpu_kernels_at(isa)->isa, half, silu_exact((double)x[i]),
                    (double)hs_bf16_to_f32((uint16_t)half), 0, i);
            }
        }
        float edge[4] = {INFINITY, -1e30f, NAN, 3e38f};
        uint32_t left[N / 2];
        const hs_silu_tile t = {.x = edge, .ld = 4, .alpha = 1.0f, .scale = 1.0f, .rows = 1, .n = 4, .n_first = 4};
        if (!pairs)
            continue;
        pairs->silu_left(left, N / 2, &t);
        assert_true(hs_bf16_to_f32((uint16_t)left[0]) == INFINITY);
        assert_true(fabsf(hs_bf16_to_f32((uint16_t)(left[0] >> 16))) <= ldexpf(1.0f, -100));
        assert_true(isnan(hs_bf16_to_f32((uint16_t)left[1])));
        assert_true(hs_bf16_to_f32((uint16_t)(left[1] >> 16)) == to_bf16(3e38f));
    }
}

/* Beside what tests compute, the instruction sets are there: without either this program proves nothing. */
static void test_which(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        if (hs_cpu_kernels_at(isa)->pairs)
            print_message("%s is tested\n", hs_cpu_kernels_at(isa)->isa);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_which), cmocka_unit_test(test_products),
        cmocka_unit_test(test_pack_left), cmocka_unit_test(test_silu_left), cmocka_unit_test(test_silu_range)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
