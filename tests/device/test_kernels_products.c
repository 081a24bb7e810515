/* The products of bfloat16 pairs on both sides: bit for bit against models of the instructions, and within the bound of one chain.
 * Operands end at a page that nobody may touch, since no sanitizer sees what a tile load reads. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "bf16_test.h"
#include "guarded_test.h"

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
    c->g.panel = c->layout == PANELS || c->layout == KEY_PAGES ? HS_PANEL * pairs
                 : c->layout == VALUE_PAGES                    ? HS_PANEL * paged / 2
                                                               : HS_PANEL;
    c->g.ldb = c->layout == STRIPS ? 64 : c->layout == ROWS ? c->n + 1 : HS_PANEL;
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

/* m's rows as a left side: zeros behind their columns, NaN in the rows behind, and nothing behind what may be read. */
static uint16_t *left_new(guarded *memory, int isa, const hs_mat *m)
{
    const int64_t rows = (m->rows + HS_PAIR_ROWS - 1) / HS_PAIR_ROWS * HS_PAIR_ROWS, ld = hs_mat_half_ld(m->cols);
    const int64_t whole = (m->cols + HS_PAIR_STEP - 1) / HS_PAIR_STEP * HS_PAIR_STEP;
    uint16_t *left = guarded_new(memory, (size_t)((rows - 1) * ld + whole) * sizeof *left);
    for (int64_t r = 0; r < m->rows; r++) {
        hs_cpu_kernels_at(isa)->pairs->narrow(left + r * ld, m->data + r * m->ld, 1.0f, m->cols);
        memset(left + r * ld + m->cols, 0, (size_t)(whole - m->cols) * sizeof *left);
    }
    return left;
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
    *c = (product_case){.rows = size[0], .k = size[1], .n = size[2], .layout = where};
    c->a = bf16_mat_new(c->rows, c->k, c->k + 3, kind == 1 ? FILL_POSITIVE : FILL_SIGNED, 11);
    c->b = bf16_mat_new(c->k, c->n, c->n + 2, kind == 1 ? FILL_POSITIVE : FILL_SIGNED, 12);
    if (kind == 2) {
        make_extreme(&c->a, 5);
        make_extreme(&c->b, 6);
    }
    const int64_t ldc = c->n + 5;
    c->g = (hs_gemm){.lda = hs_mat_half_ld(c->k), .ldc = ldc, .rows = c->rows, .k = c->k, .n = c->n};
    c->g.left = left_new(&c->memory[0], isa, &c->a);
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

static const hs_pair_kernels *enter(int isa)
{
    const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
    if (pairs->enter)
        pairs->enter();
    return pairs;
}

static void leave(int isa)
{
    if (hs_cpu_kernels_at(isa)->pairs->leave)
        hs_cpu_kernels_at(isa)->pairs->leave();
}

static void run(int isa, const hs_gemm *g)
{
    enter(isa)->gemm(g);
    leave(isa);
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

/* The same with a hint: of all pages but the last one, whose list ends where they do. */
static void product_with_hint(int isa, product_case *c)
{
    hs_gemm next = c->g;
    guarded memory;
    const size_t n = (size_t)(c->n_pages - 1);
    char **page = guarded_new(&memory, (n + 1) * sizeof *page);
    next.page = memcpy(page + 1, c->page, n * sizeof *page);
    if (c->layout == KEY_PAGES)
        next.n = hs_min_i64(next.n, (int64_t)n * next.page_n);
    else
        next.k = hs_min_i64(next.k, (int64_t)n * next.page_k);
    c->g.next = &next;
    run(isa, &c->g);
    c->g.next = NULL;
    check(isa, c, "product with a hint");
    guarded_free(&memory);
}

/* The sum at once, and cut in two: the same chain. */
static void product(int isa, const int64_t *size, layout where, int kind)
{
    product_case c;
    case_new(&c, isa, size, where, kind);
    run(isa, &c.g);
    check(isa, &c, "product");
    if (c.n_pages > 0)
        product_with_hint(isa, &c);
    const int64_t first = c.k / 64 * 32;
    if (first > 0 && where != VALUE_PAGES && where != KEY_PAGES) {
        hs_gemm half = c.g;
        half.k = first;
        run(isa, &half);
        half.left += first;
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

static void test_narrow_widen(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
        for (int64_t n = 1; pairs && n < 100; n++) {
            guarded from, to, back;
            float *x = guarded_new(&from, (size_t)n * sizeof *x), *wide = guarded_new(&back, (size_t)n * sizeof *wide);
            uint16_t *dst = guarded_new(&to, (size_t)n * sizeof *dst);
            uint64_t seed = (uint64_t)n;
            for (int64_t i = 0; i < n; i++) {
                const uint32_t bits = random_u32(&seed);
                memcpy(&x[i], &bits, sizeof bits);
                if (isnan(x[i]) || flushed(x[i]) != x[i] || fabsf(x[i]) > 1e38f)
                    x[i] = i % 2 ? -0.0f : 1.0f;
            }
            pairs->narrow(dst, x, 0.75f, n);
            pairs->widen(wide, dst, n);
            for (int64_t i = 0; i < n; i++) {
                const float scaled = flushed(0.75f * x[i] + 0.0f);
                assert_int_equal(dst[i], hs_f32_to_bf16(scaled));
                assert_true(wide[i] == to_bf16(scaled));
            }
            guarded_free(&from);
            guarded_free(&to);
            guarded_free(&back);
        }
    }
}

static void test_add_zip(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_pair_kernels *pairs = hs_cpu_kernels_at(isa)->pairs;
        for (int64_t n = 1; pairs && n < 70; n++) {
            guarded memory[5];
            float *to = guarded_new(&memory[0], (size_t)n * sizeof *to),
                  *x = guarded_new(&memory[1], (size_t)n * sizeof *x);
            uint16_t *even = guarded_new(&memory[2], (size_t)n * 2), *odd = guarded_new(&memory[3], (size_t)n * 2);
            const int64_t whole = hs_ceil_div_i64(n, HS_PANEL) * HS_PANEL, panel = HS_PANEL + n % 3 * 5;
            const int64_t n_words = (whole / HS_PANEL - 1) * panel + HS_PANEL;
            uint32_t *words = guarded_new(&memory[4], (size_t)n_words * 4);
            for (int64_t i = 0; i < n; i++) {
                to[i] = 0.1f * (float)i;
                x[i] = 1.0f / (float)(i + 3);
                even[i] = (uint16_t)(i * 257);
                odd[i] = (uint16_t)(65535 - i);
            }
            pairs->add(to, x, n);
            memset(words, 0xff, (size_t)n_words * 4);
            for (int64_t i = 0; i < n; i++)
                assert_true(to[i] == 0.1f * (float)i + 1.0f / (float)(i + 3));
            for (int both = 0; both < 2; both++) {
                pairs->zip(words, panel, even, both ? odd : NULL, n);
                for (int64_t i = 0; i < n_words; i++) {
                    const int64_t at = i / panel * HS_PANEL + i % panel;
                    const uint32_t high = both && at < n ? odd[at] : 0, want = at < n ? even[at] | high << 16 : 0;
                    assert_int_equal(words[i], i % panel < HS_PANEL ? want : UINT32_MAX);
                }
            }
            for (int i = 0; i < 5; i++)
                guarded_free(&memory[i]);
        }
    }
}

/* The bound before rounding, and what rounding within it may give. */
static void check_silu(const char *isa, uint16_t half, double want, int64_t r, int64_t j)
{
    const float got = hs_bf16_to_f32(half);
    const double error = ldexp(fabs(want), -16) + ldexp(1.0, -100);
    const float low = to_bf16((float)(want - error)), high = to_bf16((float)(want + error));
    if (!(got >= flushed(low) && got <= flushed(high)))
        fail_msg("%s silu [%d, %d]: %a is not %a", isa, (int)r, (int)j, (double)got, want);
}

/* ---- weights of attention --------------------------------------------------------------------------------------- */

typedef struct weights_case {
    product_case p; /* a: queries, b: keys as columns */
    hs_mat bias;
    bool with_bias;
    int64_t n_first, ldo;
    uint16_t *out;
    guarded memory;
} weights_case;

static hs_pair_weights weights_args(const weights_case *c)
{
    return (hs_pair_weights){.scores = c->p.g,
        .out = c->out,
        .bias = c->with_bias ? c->bias.data : NULL,
        .ldo = c->ldo,
        .ldb = c->bias.ld,
        .n_first = c->n_first,
        .alpha = 1.75f};
}

/* One row by itself gives what it gave among others. */
static void check_alone(int isa, const weights_case *c, int64_t r)
{
    guarded memory;
    const int64_t whole = (c->p.n + HS_PAIR_STEP - 1) / HS_PAIR_STEP * HS_PAIR_STEP;
    uint16_t *alone = guarded_new(&memory, (size_t)whole * sizeof *alone);
    hs_mat row = c->p.a;
    row.data += r * row.ld;
    row.rows = 1;
    guarded left;
    hs_pair_weights w = weights_args(c);
    w.scores.left = left_new(&left, isa, &row);
    w.scores.rows = 1;
    w.out = alone;
    w.n_first += r;
    w.bias = c->with_bias ? c->bias.data + r * c->bias.ld : NULL;
    enter(isa)->weights(&w);
    leave(isa);
    assert_memory_equal(alone, c->out + r * c->ldo, (size_t)whole * sizeof *alone);
    guarded_free(&left);
    guarded_free(&memory);
}

static void check_weights(int isa, const weights_case *c)
{
    const int64_t whole = (c->p.n + HS_PAIR_STEP - 1) / HS_PAIR_STEP * HS_PAIR_STEP;
    for (int64_t r = 0; r < c->p.rows; r++) {
        for (int64_t j = 0; j < whole; j++) {
            const uint16_t half = c->out[r * c->ldo + j];
            if (j >= c->p.n || j >= c->n_first + r) {
                assert_int_equal(half & 0x7fff, 0);
                continue;
            }
            const float sum = paired_chain(isa, c->p.a.data + r * c->p.a.ld, c->p.b.data + j, c->p.b.ld, c->p.k);
            const float add = c->with_bias ? c->bias.data[r * c->bias.ld + j] : 0.0f;
            check_silu(hs_cpu_kernels_at(isa)->isa, half, silu_exact((double)fmaf(1.75f, sum, add)), r, j);
        }
        for (int64_t j = whole; j < c->ldo && r + 1 < c->p.rows; j++)
            assert_int_equal(c->out[r * c->ldo + j], 0xffff); /* what is between rows stays */
        check_alone(isa, c, r);
    }
}

static void weights_run(int isa, int64_t rows, int64_t k, int64_t n, layout where, int64_t n_first, bool with_bias)
{
    const int64_t size[] = {rows, k, (n + HS_PANEL - 1) / HS_PANEL * HS_PANEL}; /* panels are whole */
    const int64_t whole = (n + HS_PAIR_STEP - 1) / HS_PAIR_STEP * HS_PAIR_STEP;
    weights_case c = {.n_first = n_first, .ldo = whole + 3, .with_bias = with_bias};
    case_new(&c.p, isa, size, where, 0);
    c.p.n = c.p.g.n = n;
    c.bias = mat_new(rows, n, n + 2, FILL_SIGNED, 3);
    c.out = guarded_new(&c.memory, (size_t)((rows - 1) * c.ldo + whole) * sizeof *c.out);
    const hs_pair_weights w = weights_args(&c);
    enter(isa)->weights(&w);
    leave(isa);
    check_weights(isa, &c);
    guarded_free(&c.memory);
    hs_free(c.bias.data);
    case_free(&c.p);
}

static void test_weights(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 5, 16, 17, 31, 32}, keys[] = {1, 15, 16, 31, 32, 33, 64, 67, 150};
    static const int64_t dims[] = {1, 8, 32, 50, 64, 128};
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < 6 * 9; i++) {
            const int64_t r = rows[i % 6], n = keys[i / 6], k = dims[(i * 5 + i / 7) % 6];
            for (int where = 0; where < 2; where++) {
                const layout l = where ? KEY_PAGES : PANELS;
                weights_run(isa, r, k, n, l, n, false); /* all see all */
                weights_run(isa, r, k, n, l, n, true);
                weights_run(isa, r, k, n, l, n / 2, i % 2);
                weights_run(isa, r, k, n, l, -(r / 2), i % 3 == 0);
            }
        }
    }
}

/* All of silu's range in small steps, and what lies outside: scores of 0, and a bias. */
static void test_silu_range(void **state)
{
    (void)state;
    enum { N = 32 };
    FOR_EACH_ISA(isa)
    {
        const uint16_t q[HS_PAIR_ROWS * HS_PAIR_STEP] = {0};
        const uint32_t keys[2 * HS_PANEL] = {0};
        float bias[N];
        uint16_t out[N];
        const hs_pair_weights w = {.scores = {.left = q,
                                       .lda = HS_PAIR_STEP,
                                       .b = keys,
                                       .ldb = HS_PANEL,
                                       .panel = HS_PANEL,
                                       .rows = 1,
                                       .k = 2,
                                       .n = N},
            .out = out,
            .bias = bias,
            .ldo = N,
            .ldb = N,
            .n_first = N,
            .alpha = 1.0f};
        const char *name = hs_cpu_kernels_at(isa)->isa;
        for (float first = -140.0f; hs_cpu_kernels_at(isa)->pairs && first < 140.0f; first += 0.0371f * N) {
            for (int i = 0; i < N; i++)
                bias[i] = first + 0.0371f * (float)i;
            enter(isa)->weights(&w);
            leave(isa);
            for (int i = 0; i < N; i++)
                check_silu(name, out[i], silu_exact((double)bias[i]), 0, i);
        }
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        bias[0] = INFINITY;
        bias[1] = -1e30f;
        bias[2] = NAN;
        bias[3] = 3e38f;
        enter(isa)->weights(&w);
        leave(isa);
        assert_true(hs_bf16_to_f32(out[0]) == INFINITY);
        assert_true(fabsf(hs_bf16_to_f32(out[1])) <= ldexpf(1.0f, -100));
        assert_true(isnan(hs_bf16_to_f32(out[2])));
        assert_true(hs_bf16_to_f32(out[3]) == to_bf16(3e38f));
    }
}

/* ---- linear layers ---------------------------------------------------------------------------------------------- */

/* What act may give for x, before rounding. */
static void activated(hs_activation act, double x, double *low, double *high)
{
    const double y = act == HS_ACT_SILU   ? silu_exact(x)
                     : act == HS_ACT_GELU ? 0.5 * x * erfc(-x * sqrt(0.5))
                     : act == HS_ACT_RELU ? fmax(x, 0.0)
                                          : x;
    const double error = act == HS_ACT_SILU   ? ldexp(fabs(y), -16) + ldexp(1.0, -100)
                         : act == HS_ACT_GELU ? ldexp(fabs(y), -15) + ldexp(1.0, -59)
                                              : 0.0;
    *low = y - error;
    *high = y + error;
}

static void linear_want(const product_case *c, int isa, const hs_pair_linear *l, const hs_mat *add, int64_t r,
    int64_t o, float *low, float *high)
{
    const float sum = paired_chain(isa, c->a.data + r * c->a.ld, c->b.data + o, c->b.ld, c->k);
    const float z = sum + (l->bias ? l->bias[o] : 0.0f), more = l->residual ? add->data[r * add->ld + o] : 0.0f;
    *low = *high = z;
    if (l->act != HS_ACT_NONE) {
        double least = 0, most = 0;
        activated(l->act, (double)to_bf16(z), &least, &most);
        *low = flushed(to_bf16((float)least));
        *high = flushed(to_bf16((float)most));
    }
    *low = to_bf16(*low + more);
    *high = to_bf16(*high + more);
}

/* At once, and every cut of rows and (at multiples of 32) columns: the same bits. */
static void linear_case(int isa, const int64_t *size, hs_activation act, bool with_bias, bool with_residual)
{
    product_case c;
    guarded memory[2];
    case_new(&c, isa, size, PANELS, 0);
    const int64_t ld = c.n + 4;
    const size_t elements = (size_t)((c.rows - 1) * ld + c.n);
    hs_mat bias = mat_new(1, c.n, c.n, FILL_SIGNED, 7), add = bf16_mat_new(c.rows, c.n, c.n, FILL_SIGNED, 8);
    uint16_t *out = guarded_new(&memory[0], elements * 2), *cut = guarded_new(&memory[1], elements * 2);
    for (int64_t r = 0; with_residual && r < c.rows; r++) { /* which out may be */
        for (int64_t o = 0; o < c.n; o++)
            out[r * ld + o] = cut[r * ld + o] = hs_f32_to_bf16(add.data[r * c.n + o]);
    }
    const hs_pair_linear l = {.out = out,
        .x = c.g.left,
        .residual = with_residual ? out : NULL,
        .w = c.g.b,
        .bias = with_bias ? bias.data : NULL,
        .ldo = ld,
        .ldx = c.g.lda,
        .ldr = ld,
        .panel = c.g.panel,
        .rows = c.rows,
        .k = c.k,
        .n = c.n,
        .act = act};
    const hs_pair_kernels *pairs = enter(isa);
    pairs->linear(&l);
    for (int64_t row = 0, rows = HS_PAIR_ROWS; row < c.rows; row += rows, rows *= 2) {
        const int64_t most = rows == HS_PAIR_ROWS ? 64 : 32;
        for (int64_t col = 0; col < c.n; col += most) {
            hs_pair_linear part = l;
            part.rows = c.rows - row < rows ? c.rows - row : rows;
            part.n = c.n - col < most ? c.n - col : most;
            part.x += row * l.ldx;
            part.out = cut + row * ld + col;
            part.residual = with_residual ? part.out : NULL;
            part.w += col / HS_PANEL * l.panel;
            part.bias = with_bias ? l.bias + col : NULL;
            part.again = col > most;
            part.n_behind = c.n - col - part.n;
            pairs->linear(&part);
        }
    }
    leave(isa);
    assert_memory_equal(out, cut, elements * 2);
    for (int64_t r = 0; r < c.rows; r++) {
        for (int64_t o = 0; o < c.n; o++) {
            const float got = hs_bf16_to_f32(out[r * ld + o]);
            float low, high;
            linear_want(&c, isa, &l, &add, r, o, &low, &high);
            if (!(got >= flushed(low) && got <= flushed(high)))
                fail_msg("%s linear %d x %d x %d, activation %d: [%d, %d] is %a, not %a", hs_cpu_kernels_at(isa)->isa,
                    (int)c.rows, (int)c.k, (int)c.n, (int)act, (int)r, (int)o, (double)got, (double)low);
        }
        for (int64_t o = c.n; o < ld && r + 1 < c.rows; o++)
            assert_int_equal(out[r * ld + o], 0xffff);
    }
    guarded_free(&memory[0]);
    guarded_free(&memory[1]);
    hs_free(bias.data);
    hs_free(add.data);
    case_free(&c);
}

static void test_linear(void **state)
{
    (void)state;
    const hs_activation acts[] = {HS_ACT_NONE, HS_ACT_SILU, HS_ACT_RELU, HS_ACT_GELU};
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; hs_cpu_kernels_at(isa)->pairs && s < sizeof SIZES / sizeof SIZES[0]; s++) {
            const int64_t size[] = {SIZES[s][0], SIZES[s][1], (SIZES[s][2] + HS_PANEL - 1) / HS_PANEL * HS_PANEL};
            for (int kind = 0; kind < 16; kind++)
                linear_case(isa, size, acts[kind % 4], kind & 4, kind & 8);
        }
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

/* Every bfloat16 argument that there is: sums of 0, and a bias. */
static void activation_range(int isa, hs_activation act)
{
    enum { N = 32 };
    const uint16_t x[HS_PAIR_ROWS * HS_PAIR_STEP] = {0};
    const uint32_t w[2 * HS_PANEL * HS_PAIR_STEP / 2] = {0};
    float bias[N];
    uint16_t out[N];
    const hs_pair_linear l = {.out = out,
        .x = x,
        .w = w,
        .bias = bias,
        .ldo = N,
        .ldx = HS_PAIR_STEP,
        .panel = HS_PANEL * HS_PAIR_STEP / 2,
        .rows = 1,
        .k = HS_PAIR_STEP,
        .n = N,
        .act = act};
    for (int first = 0; first <= UINT16_MAX; first += N) {
        for (int i = 0; i < N; i++)
            bias[i] = hs_bf16_to_f32((uint16_t)(first + i));
        enter(isa)->linear(&l);
        leave(isa);
        for (int i = 0; i < N; i++) {
            const float got = hs_bf16_to_f32(out[i]);
            double low = 0, high = 0;
            activated(act, (double)bias[i], &low, &high);
            if (isnan(bias[i]))
                assert_true(isnan(got));
            else if (bias[i] == -INFINITY)
                assert_true(isnan(got) || fabsf(got) < ldexpf(1.0f, -58));
            else if (got < flushed(to_bf16((float)low)) || got > flushed(to_bf16((float)high)))
                fail_msg("%s activation %d of %a is %a, not %a .. %a", hs_cpu_kernels_at(isa)->isa, (int)act,
                    (double)bias[i], (double)got, low, high);
        }
    }
}

static void test_activation_range(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        activation_range(isa, HS_ACT_SILU);
        activation_range(isa, HS_ACT_GELU);
        activation_range(isa, HS_ACT_RELU);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_which), cmocka_unit_test(test_products),
        cmocka_unit_test(test_narrow_widen), cmocka_unit_test(test_add_zip), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_silu_range), cmocka_unit_test(test_linear), cmocka_unit_test(test_activation_range)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
