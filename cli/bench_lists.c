/* Lists and ranges of `hstu bench`. */
#include "cli/bench_lists.h"

#include "base/error.h"
#include "cli/options.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECE = 64 };

/* The piece up to the next comma; false when it is empty or too long. *text goes behind the comma, NULL at the end. */
static bool next_piece(const char **text, char piece[MAX_PIECE])
{
    const size_t n = strcspn(*text, ",");
    const bool fits = n > 0 && n < MAX_PIECE;
    if (fits)
        memcpy(piece, *text, n);
    piece[fits ? n : 0] = '\0';
    *text = (*text)[n] == ',' ? *text + n + 1 : NULL;
    return fits;
}

static hstu_status fail_too_many(const char *option, hstu_error *err)
{
    return hs_fail(
        err, HSTU_EINVAL, 0, "option --%s takes at most %d values, found more", option, (int)HS_BENCH_MAX_LIST);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

/* A range, or one number, which is a range of itself. */
typedef struct range {
    int64_t first, last, step;
    bool multiplies;
} range;

static bool parse_range(char *piece, int64_t min, int64_t max, range *out)
{
    char *dots = strstr(piece, "..");
    *out = (range){.step = 1};
    if (!dots) {
        const bool ok = hs_parse_int(piece, min, max, &out->first);
        out->last = out->first;
        return ok;
    }
    char *last = dots + 2, *step = strpbrk(last, "+x");
    *dots = '\0';
    if (step) {
        out->multiplies = *step == 'x';
        *step = '\0';
        if (!hs_parse_int(step + 1, out->multiplies ? 2 : 1, max, &out->step))
            return false;
    }
    return hs_parse_int(piece, min, max, &out->first) && hs_parse_int(last, min, max, &out->last) &&
           out->first <= out->last && (!out->multiplies || out->first > 0);
}

static hstu_status add_int(hs_bench_ints *out, const char *option, int64_t x, hstu_error *err)
{
    for (size_t i = 0; i < out->n; i++) {
        if (out->x[i] == x)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s names %lld twice", option, (long long)x);
    }
    if (out->n == HS_BENCH_MAX_LIST)
        return fail_too_many(option, err);
    out->x[out->n++] = x;
    return HSTU_OK;
}

static hstu_status add_range(hs_bench_ints *out, const char *option, const range *r, hstu_error *err)
{
    for (int64_t x = r->first;;) {
        HS_TRY(add_int(out, option, x, err));
        if (r->multiplies ? x > r->last / r->step : x > r->last - r->step)
            return HSTU_OK;
        x = r->multiplies ? x * r->step : x + r->step;
    }
}

hstu_status hs_bench_parse_ints(
    hs_bench_ints *out, const char *option, const char *text, int64_t min, int64_t max, hstu_error *err)
{
    char piece[MAX_PIECE];
    range r;
    out->n = 0;
    for (const char *at = text; at;) {
        if (!next_piece(&at, piece) || !parse_range(piece, min, max, &r))
            return hs_fail(err, HSTU_EINVAL, 0,
                "option --%s wants whole numbers from %lld to %lld, or ranges such as 1..4, 1..9+2 or 512..4096x2, "
                "with commas between them, found '%.80s'",
                option, (long long)min, (long long)max, text);
        HS_TRY(add_range(out, option, &r, err));
    }
    return HSTU_OK;
}

/* ---- fractions -------------------------------------------------------------------------------------------------- */

static bool parse_fraction(const char *piece, double *out)
{
    char *end = NULL;
    if (piece[strspn(piece, "0123456789.")] != '\0')
        return false;
    *out = strtod(piece, &end);
    return end != piece && *end == '\0' && *out <= 1;
}

hstu_status hs_bench_parse_fractions(hs_bench_reals *out, const char *option, const char *text, hstu_error *err)
{
    char piece[MAX_PIECE];
    out->n = 0;
    for (const char *at = text; at;) {
        double x = 0;
        if (!next_piece(&at, piece) || !parse_fraction(piece, &x))
            return hs_fail(err, HSTU_EINVAL, 0,
                "option --%s wants fractions from 0 to 1 with commas between them, found '%.80s'", option, text);
        for (size_t i = 0; i < out->n; i++) {
            if (out->x[i] <= x && out->x[i] >= x)
                return hs_fail(err, HSTU_EINVAL, 0, "option --%s names %s twice", option, piece);
        }
        if (out->n == HS_BENCH_MAX_LIST)
            return fail_too_many(option, err);
        out->x[out->n++] = x;
    }
    return HSTU_OK;
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static hstu_status fail_word(const char *option, const char *const *known, const char *text, hstu_error *err)
{
    char list[160] = "";
    for (size_t i = 0, at = 0; known[i] && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", known[i]);
    return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants some of %s with commas between them, found '%.80s'", option,
        list, text);
}

hstu_status hs_bench_parse_words(
    hs_bench_words *out, const char *option, const char *text, const char *const *known, hstu_error *err)
{
    char piece[MAX_PIECE];
    out->n = 0;
    for (const char *at = text; at;) {
        size_t i = 0;
        if (!next_piece(&at, piece))
            return fail_word(option, known, text, err);
        while (known[i] && strcmp(known[i], piece) != 0)
            i++;
        if (!known[i])
            return fail_word(option, known, text, err);
        for (size_t j = 0; j < out->n; j++) {
            if (strcmp(out->x[j], piece) == 0)
                return hs_fail(err, HSTU_EINVAL, 0, "option --%s names %s twice", option, piece);
        }
        (void)snprintf(out->x[out->n++], HS_BENCH_MAX_WORD, "%s", known[i]);
    }
    return HSTU_OK;
}
