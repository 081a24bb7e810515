/* The rows of a bench. */
#include "cli/bench_shapes.h"

#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <string.h>

const hs_bench_range hs_bench_ranges[HS_BENCH_N_NUMBERS] = {
    [HS_BENCH_HISTORY] = {"history", 1, HS_BENCH_MAX_TOKENS},
    [HS_BENCH_CANDIDATES] = {"candidates", 1, HS_BENCH_MAX_TOKENS},
    [HS_BENCH_LAYERS] = {"layers", 1, 1024},
    [HS_BENCH_DIM] = {"dim", 1, 1 << 16},
    [HS_BENCH_HEADS] = {"heads", 1, 1 << 16},
    [HS_BENCH_HEAD_DIM] = {"head_dim", 1, 1 << 16},
    [HS_BENCH_CONTEXT] = {"context", 0, 60},
    [HS_BENCH_ITEMS] = {"items", 2, (int64_t)1 << 36},
    [HS_BENCH_BATCH] = {"batch", 1, 1 << 16},
    [HS_BENCH_THREADS] = {"threads", 0, 4096},
};

const char *const hs_bench_shape_names[] = {
    "kr1k_full", "kr1k_cached", "kr1k_2k", "nv_4096_0", "nv_4096_3968", "pure", "decoder_2x128", NULL};

/* In the order of the names, and without one what the lists begin with: a ranking model and a decoder. */
static const hs_bench_row shapes[] = {
    {"kr1k_full", false, {8198, 100, 3, 512, 4, 128, 6, 20000, 1, 0}, 0, NULL, NULL},
    {"kr1k_cached", false, {8198, 100, 3, 512, 4, 128, 6, 20000, 1, 0}, 4095.0 / 4096, NULL, NULL},
    {"kr1k_2k", false, {2054, 100, 3, 512, 4, 128, 6, 20000, 1, 0}, 0, NULL, NULL},
    {"nv_4096_0", false, {4096, 256, 8, 1024, 4, 256, 0, 20000, 1, 0}, 0, NULL, NULL},
    {"nv_4096_3968", false, {4096, 256, 8, 1024, 4, 256, 0, 20000, 1, 0}, 3968.0 / 4096, NULL, NULL},
    {"pure", false, {206, 20, 1, 128, 4, 128, 6, 20000, 1, 0}, 0, NULL, NULL},
    {"decoder_2x128", true, {128, 0, 6, 512, 1, 512, 0, 50000, 2, 0}, 0, NULL, NULL},
};
static const hs_bench_row plain[2] = {
    {"custom", false, {2048, 100, 3, 512, 4, 128, 0, 20000, 1, 0}, 0, NULL, NULL},
    {"custom", true, {128, 0, 6, 512, 1, 512, 0, 50000, 1, 0}, 0, NULL, NULL},
};

int64_t hs_bench_events(const hs_bench_row *row)
{
    return row->decoder ? row->n[HS_BENCH_HISTORY] : (row->n[HS_BENCH_HISTORY] - row->n[HS_BENCH_CONTEXT]) / 2;
}

int64_t hs_bench_cached_events(const hs_bench_row *row)
{
    const int64_t events = hs_bench_events(row), most = row->decoder ? events - 1 : events;
    const int64_t cached = (int64_t)floor(row->cached * (double)events + 0.5);
    return cached < most ? cached : most;
}

int64_t hs_bench_cached_tokens(const hs_bench_row *row)
{
    const int64_t cached = hs_bench_cached_events(row);
    return row->decoder || cached == 0 ? cached : row->n[HS_BENCH_CONTEXT] + 2 * cached;
}

/* ---- checks ----------------------------------------------------------------------------------------------------- */

hstu_status hs_bench_check_row(const hs_bench_row *row, hstu_error *err)
{
    const int64_t *n = row->n;
    const long long history = (long long)n[HS_BENCH_HISTORY], context = (long long)n[HS_BENCH_CONTEXT];
    if (!row->decoder && (history <= context || (history - context) % 2 != 0))
        return hs_fail(err, HSTU_EINVAL, 0,
            "a history of %lld tokens cannot be %lld contextual features and whole events of two tokens: change "
            "--history "
            "or --context",
            history, context);
    const int64_t tokens = n[HS_BENCH_HISTORY] + 2 * n[HS_BENCH_CANDIDATES];
    if (tokens > HS_BENCH_MAX_TOKENS)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%lld tokens of history and 2 x %lld of candidates are above the %d that a model takes", history,
            (long long)n[HS_BENCH_CANDIDATES], (int)HS_BENCH_MAX_TOKENS);
    if (tokens * n[HS_BENCH_BATCH] > (int64_t)1 << 26)
        return hs_fail(err, HSTU_EINVAL, 0, "a batch of %lld x %lld tokens is above the 67108864 that a bench takes",
            (long long)n[HS_BENCH_BATCH], (long long)tokens);
    if (!row->decoder && n[HS_BENCH_HEADS] * n[HS_BENCH_HEAD_DIM] > hs_bench_ranges[HS_BENCH_DIM].max)
        return hs_fail(err, HSTU_EINVAL, 0, "%lld heads of %lld are above the width of 65536 that a model takes",
            (long long)n[HS_BENCH_HEADS], (long long)n[HS_BENCH_HEAD_DIM]);
    if (row->decoder && n[HS_BENCH_DIM] > hs_bench_ranges[HS_BENCH_DIM].max / 4)
        return hs_fail(
            err, HSTU_EINVAL, 0, "a decoder's --dim is at most 16384, found %lld", (long long)n[HS_BENCH_DIM]);
    return HSTU_OK;
}

static hstu_status check_family(const hs_bench_plan *plan, const hs_bench_row *base, hstu_error *err)
{
    static const hs_bench_number not_decoder[] = {
        HS_BENCH_CANDIDATES, HS_BENCH_HEADS, HS_BENCH_HEAD_DIM, HS_BENCH_CONTEXT};
    for (size_t i = 0; i < sizeof not_decoder / sizeof *not_decoder && base->decoder; i++) {
        if (plan->number[not_decoder[i]].n)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing for a decoder (shape %s): leave it out",
                hs_bench_ranges[not_decoder[i]].option, base->shape);
    }
    return HSTU_OK;
}

/* ---- the product ------------------------------------------------------------------------------------------------ */

/* Lists count like the digits of a number: the last turns fastest. */
enum { DIGIT_CACHED = HS_BENCH_N_NUMBERS, DIGIT_DTYPE, DIGIT_ISA, N_DIGITS };

static size_t length_of(const hs_bench_plan *plan, int digit)
{
    const size_t n = digit == DIGIT_CACHED  ? plan->cached.n
                     : digit == DIGIT_DTYPE ? plan->dtype.n
                     : digit == DIGIT_ISA   ? plan->isa.n
                                            : plan->number[digit].n;
    return n ? n : 1;
}

static bool changes_shape(const hs_bench_plan *plan)
{
    bool changed = plan->cached.n > 0;
    for (int i = 0; i < HS_BENCH_THREADS; i++)
        changed = changed || (i != HS_BENCH_ITEMS && plan->number[i].n > 0);
    return changed;
}

/* The row of a place in the product. */
static hs_bench_row make_row(const hs_bench_plan *plan, const hs_bench_row *base, size_t place)
{
    hs_bench_row row = *base;
    size_t at[N_DIGITS];
    for (int digit = N_DIGITS - 1; digit >= 0; digit--) {
        at[digit] = place % length_of(plan, digit);
        place /= length_of(plan, digit);
    }
    for (int i = 0; i < HS_BENCH_N_NUMBERS; i++) {
        if (plan->number[i].n)
            row.n[i] = plan->number[i].x[at[i]];
    }
    if (plan->cached.n)
        row.cached = plan->cached.x[at[DIGIT_CACHED]];
    row.dtype = plan->dtype.n ? plan->dtype.x[at[DIGIT_DTYPE]] : "fp32";
    row.isa = plan->isa.n ? plan->isa.x[at[DIGIT_ISA]] : NULL;
    if (changes_shape(plan))
        row.shape = "custom";
    return row;
}

/* Without a name the lists change a plain shape, and without lists kr1k_2k or the original's decoder is measured. */
static const hs_bench_row *base_of(const hs_bench_plan *plan, size_t i)
{
    const char *name = plan->decoder ? "decoder_2x128" : "kr1k_2k";
    if (plan->shape.n)
        name = plan->shape.x[i];
    else if (changes_shape(plan) || plan->checkpoint)
        return &plain[plan->decoder];
    for (size_t s = 0; hs_bench_shape_names[s]; s++) {
        if (strcmp(hs_bench_shape_names[s], name) == 0)
            return &shapes[s];
    }
    return &plain[plan->decoder];
}

hstu_status hs_bench_rows(hs_bench_row **out, size_t *n, const hs_bench_plan *plan, hstu_error *err)
{
    const size_t n_shapes = plan->shape.n ? plan->shape.n : 1;
    size_t each = 1;
    for (int digit = 0; digit < N_DIGITS && each <= HS_BENCH_MAX_ROWS; digit++)
        each *= length_of(plan, digit);
    if (each * n_shapes > HS_BENCH_MAX_ROWS)
        return hs_fail(err, HSTU_EINVAL, 0, "the lists make more than %d rows: shorten them", (int)HS_BENCH_MAX_ROWS);
    hs_bench_row *row = hs_alloc(each * n_shapes, sizeof *row);
    hstu_status status = row ? HSTU_OK : hs_fail_nomem(err, each * n_shapes * sizeof *row, "the bench's rows");
    for (size_t s = 0; s < n_shapes && status == HSTU_OK; s++) {
        status = check_family(plan, base_of(plan, s), err);
        for (size_t i = 0; i < each && status == HSTU_OK; i++) {
            row[s * each + i] = make_row(plan, base_of(plan, s), i);
            if (!plan->checkpoint)
                status = hs_bench_check_row(&row[s * each + i], err);
        }
    }
    if (status != HSTU_OK) {
        hs_free(row);
        return status;
    }
    *out = row;
    *n = each * n_shapes;
    return HSTU_OK;
}
