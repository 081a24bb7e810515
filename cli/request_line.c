/* Parser of one request line: a scanner for the flat grammar, no tree, so that ids keep their 64 bits and a hostile line
 * costs no more memory than its numbers. */
#include "cli/request_line.h"

#include "base/alloc.h"
#include "base/error.h"
#include "cli/json_writer.h"
#include "cli/options.h"

#include <stdio.h>
#include <string.h>

typedef struct scan {
    const char *start, *at, *end;
    const char *path;
    uint64_t line;
    hstu_error *err;
} scan;

bool hs_ids_push(hs_ids *ids, int64_t x)
{
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap ? 2 * ids->cap : 64;
        int64_t *data = hs_realloc(ids->data, cap, sizeof *data);
        if (!data)
            return false;
        ids->data = data;
        ids->cap = cap;
    }
    ids->data[ids->n++] = x;
    return true;
}

void hs_ids_free(hs_ids *ids)
{
    hs_free(ids->data);
    *ids = (hs_ids){0};
}

void hs_request_free(hs_request *request)
{
    hs_ids_free(&request->items);
    hs_ids_free(&request->times);
    hs_ids_free(&request->candidates);
    hs_ids_free(&request->actions);
}

/* "<file>: line 3, column 14: expected <what>, found <the next character>". */
static hstu_status fail_expected(scan *s, const char *what)
{
    char text[32];
    const unsigned long long column = (unsigned long long)(s->at - s->start) + 1;
    if (s->at == s->end)
        (void)snprintf(text, sizeof text, "the end of the line");
    else if ((unsigned char)*s->at < 0x20 || (unsigned char)*s->at >= 0x7f)
        (void)snprintf(text, sizeof text, "byte 0x%02x", (unsigned char)*s->at);
    else
        (void)snprintf(text, sizeof text, "'%c'", *s->at);
    return hs_fail(s->err, HSTU_EFORMAT, s->line, "%s: line %llu, column %llu: expected %s, found %s", s->path,
        (unsigned long long)s->line, column, what, text);
}

static hstu_status fail_line(scan *s, const char *sentence)
{
    return hs_fail(s->err, HSTU_EFORMAT, s->line, "%s: line %llu: %s", s->path, (unsigned long long)s->line, sentence);
}

static void skip_blanks(scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
}

static bool next_is(scan *s, char c)
{
    skip_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_digit(const scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static hstu_status parse_escape(scan *s)
{
    if (s->at < s->end && *s->at == 'u') {
        s->at++;
        for (int i = 0; i < 4; i++, s->at++) {
            if (s->at == s->end || !strchr("0123456789abcdefABCDEF", *s->at) || *s->at == '\0')
                return fail_expected(s, "a hexadecimal digit");
        }
        return HSTU_OK;
    }
    if (s->at == s->end || *s->at == '\0' || !strchr("\"\\/bfnrt", *s->at))
        return fail_expected(s, "an escape");
    s->at++;
    return HSTU_OK;
}

/* Past a string; at its opening quote. */
static hstu_status parse_string(scan *s)
{
    s->at++;
    while (s->at < s->end && *s->at != '"') {
        if (*s->at == '\\') {
            s->at++;
            HS_TRY(parse_escape(s));
            continue;
        }
        const size_t length = hs_utf8_length(s->at, (size_t)(s->end - s->at));
        if (length == 0 || (unsigned char)*s->at < 0x20)
            return fail_expected(s, "UTF-8 text");
        s->at += length;
    }
    if (s->at == s->end)
        return fail_expected(s, "'\"'");
    s->at++;
    return HSTU_OK;
}

static void skip_digits(scan *s)
{
    while (is_digit(s))
        s->at++;
}

/* Past a JSON number; at its sign or first digit. */
static hstu_status parse_number(scan *s)
{
    if (*s->at == '-')
        s->at++;
    if (!is_digit(s))
        return fail_expected(s, "a digit");
    if (*s->at == '0')
        s->at++;
    else
        skip_digits(s);
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!is_digit(s))
            return fail_expected(s, "a digit");
        skip_digits(s);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        if (!is_digit(s))
            return fail_expected(s, "a digit");
        skip_digits(s);
    }
    return HSTU_OK;
}

static hstu_status parse_user(scan *s, hs_request *request)
{
    static const char *const words[] = {"true", "false", "null"};
    skip_blanks(s);
    request->user = s->at;
    if (s->at < s->end && *s->at == '"') {
        HS_TRY(parse_string(s));
    } else if (is_digit(s) || (s->at < s->end && *s->at == '-')) {
        HS_TRY(parse_number(s));
    } else {
        const char *from = s->at;
        for (size_t i = 0; i < 3 && s->at == from; i++) {
            const size_t n = strlen(words[i]);
            if ((size_t)(s->end - s->at) >= n && memcmp(s->at, words[i], n) == 0)
                s->at += n;
        }
        if (s->at == from)
            return fail_expected(s, "a string or a number for 'user'");
    }
    request->user_len = (size_t)(s->at - request->user);
    return HSTU_OK;
}

static hstu_status parse_int(scan *s, int64_t *out)
{
    skip_blanks(s);
    const char *from = s->at;
    const bool negative = s->at < s->end && *s->at == '-';
    s->at += negative;
    if (!is_digit(s))
        return fail_expected(s, "a whole number");
    int64_t x = 0; /* minus the value, since INT64_MIN has no positive twin */
    const bool leading_zero = *s->at == '0';
    for (int n = 0; is_digit(s); n++, s->at++) {
        const int digit = *s->at - '0';
        if ((leading_zero && n) || x < (INT64_MIN + digit) / 10) {
            s->at = from;
            return fail_expected(s, "a whole number of 64 bits without leading zeros");
        }
        x = 10 * x - digit;
    }
    if (!negative && x == INT64_MIN) {
        s->at = from;
        return fail_expected(s, "a whole number of 64 bits without leading zeros");
    }
    *out = negative ? x : -x;
    return HSTU_OK;
}

static hstu_status parse_ints(scan *s, hs_ids *ids)
{
    if (!next_is(s, '['))
        return fail_expected(s, "'['");
    if (next_is(s, ']'))
        return HSTU_OK;
    do {
        int64_t x = 0;
        HS_TRY(parse_int(s, &x));
        if (!hs_ids_push(ids, x))
            return hs_fail_nomem(s->err, (ids->n + 1) * sizeof x, s->path);
    } while (next_is(s, ','));
    return next_is(s, ']') ? HSTU_OK : fail_expected(s, "',' or ']'");
}

/* ---- contextual features ---------------------------------------------------------------------------------------- */

/* Past a key in quotes; *from is its text of *n bytes. */
static hstu_status parse_key_text(scan *s, const char **from, size_t *n)
{
    skip_blanks(s);
    if (s->at == s->end || *s->at != '"')
        return fail_expected(s, "a key in quotes");
    *from = s->at + 1;
    HS_TRY(parse_string(s));
    *n = (size_t)(s->at - *from) - 1;
    return HSTU_OK;
}

static hstu_status parse_feature(scan *s, hs_request *request)
{
    hs_request_feature *f = &request->feature[request->n_features];
    if (request->n_features == HS_MAX_REQUEST_FEATURES)
        return hs_fail(s->err, HSTU_EFORMAT, s->line, "%s: line %llu: 'context' may have %d features, found more",
            s->path, (unsigned long long)s->line, (int)HS_MAX_REQUEST_FEATURES);
    HS_TRY(parse_key_text(s, &f->name, &f->name_len));
    for (size_t i = 0; i < request->n_features; i++) {
        const hs_request_feature *other = &request->feature[i];
        if (other->name_len == f->name_len && memcmp(other->name, f->name, f->name_len) == 0) {
            s->at = f->name - 1;
            return fail_expected(s, "each feature of 'context' once");
        }
    }
    if (!next_is(s, ':'))
        return fail_expected(s, "':'");
    HS_TRY(parse_int(s, &f->id));
    request->n_features++;
    return HSTU_OK;
}

static hstu_status parse_context(scan *s, hs_request *request)
{
    if (!next_is(s, '{'))
        return fail_expected(s, "'{'");
    if (next_is(s, '}'))
        return HSTU_OK;
    do
        HS_TRY(parse_feature(s, request));
    while (next_is(s, ','));
    return next_is(s, '}') ? HSTU_OK : fail_expected(s, "',' or '}'");
}

const hs_request_feature *hs_request_find_feature(const hs_request *request, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < request->n_features; i++) {
        if (request->feature[i].name_len == n && memcmp(request->feature[i].name, name, n) == 0)
            return &request->feature[i];
    }
    return NULL;
}

bool hs_request_user_number(const hs_request *request, int64_t *out)
{
    char text[24];
    if (!request->user || request->user_len >= sizeof text)
        return false;
    memcpy(text, request->user, request->user_len);
    text[request->user_len] = '\0';
    return hs_parse_int(text, INT64_MIN, INT64_MAX, out);
}

/* ---- the line --------------------------------------------------------------------------------------------------- */

typedef enum key {
    KEY_USER,
    KEY_ITEMS,
    KEY_CANDIDATES,
    KEY_TIMES,
    KEY_REQUEST_TIME,
    KEY_ACTIONS,
    KEY_CONTEXT,
    N_KEYS
} key;

/* Keys of every request, and those of either kind alone. */
static bool belongs(key which, bool ranking)
{
    return which < KEY_TIMES || (which >= KEY_ACTIONS) == ranking;
}

static hstu_status parse_key(scan *s, bool ranking, key *out)
{
    static const char *const keys[N_KEYS] = {
        "user", "items", "candidates", "times", "request_time", "actions", "context"};
    const char *from = NULL;
    size_t n = 0;
    HS_TRY(parse_key_text(s, &from, &n));
    for (int i = 0; i < N_KEYS; i++) {
        if (belongs((key)i, ranking) && strlen(keys[i]) == n && memcmp(keys[i], from, n) == 0) {
            *out = (key)i;
            return HSTU_OK;
        }
    }
    return hs_fail(s->err, HSTU_EFORMAT, s->line,
        "%s: line %llu: unknown key '%.*s': expected user, items, %s or candidates", s->path,
        (unsigned long long)s->line, n < 60 ? (int)n : 60, from, ranking ? "actions, context" : "times, request_time");
}

static hstu_status parse_member(scan *s, hs_request *request, bool ranking, unsigned *seen)
{
    key which = KEY_USER;
    const char *from = s->at;
    HS_TRY(parse_key(s, ranking, &which));
    if (*seen & (1u << which)) {
        s->at = from;
        skip_blanks(s);
        return fail_expected(s, "each key once");
    }
    *seen |= 1u << which;
    if (!next_is(s, ':'))
        return fail_expected(s, "':'");
    switch (which) {
    case KEY_USER:
        return parse_user(s, request);
    case KEY_ITEMS:
        return parse_ints(s, &request->items);
    case KEY_TIMES:
        request->has_times = true;
        return parse_ints(s, &request->times);
    case KEY_REQUEST_TIME:
        request->has_request_time = true;
        return parse_int(s, &request->request_time);
    case KEY_CANDIDATES:
        request->has_candidates = true;
        return parse_ints(s, &request->candidates);
    case KEY_ACTIONS:
        return parse_ints(s, &request->actions);
    case KEY_CONTEXT:
        return parse_context(s, request);
    case N_KEYS:
        break;
    }
    return HSTU_OK;
}

static hstu_status check(scan *s, const hs_request *request)
{
    if (request->items.n == 0)
        return fail_line(s, "'items' must hold at least one item");
    if (request->has_times && request->times.n != request->items.n)
        return hs_fail(s->err, HSTU_EFORMAT, s->line,
            "%s: line %llu: 'times' must have one time for each of %zu items, found %zu", s->path,
            (unsigned long long)s->line, request->items.n, request->times.n);
    if (request->has_times != request->has_request_time)
        return fail_line(s, request->has_times ? "'times' needs 'request_time' beside it, found none"
                                               : "'request_time' needs 'times' beside it, found none");
    if (request->has_candidates && request->candidates.n == 0)
        return fail_line(s, "'candidates' must hold at least one item: leave the key out to ask for every item");
    return HSTU_OK;
}

static hstu_status check_ranking(scan *s, const hs_request *request)
{
    const size_t n_items = request->items.n, n_candidates = request->candidates.n;
    if (n_candidates == 0)
        return fail_line(s, "'candidates' must hold at least one item");
    if (request->actions.n != n_items && request->actions.n != n_items + n_candidates)
        return hs_fail(s->err, HSTU_EFORMAT, s->line,
            "%s: line %llu: 'actions' must have one action for each of %zu items, or of these and %zu candidates, "
            "found "
            "%zu",
            s->path, (unsigned long long)s->line, n_items, n_candidates, request->actions.n);
    return HSTU_OK;
}

static hstu_status parse_line(scan *s, hs_request *request, bool ranking)
{
    unsigned seen = 0;
    request->user = NULL;
    request->user_len = 0;
    request->items.n = request->times.n = request->candidates.n = request->actions.n = 0;
    request->n_features = 0;
    request->has_times = request->has_request_time = request->has_candidates = false;
    if (!next_is(s, '{'))
        return fail_expected(s, "'{'");
    if (!next_is(s, '}')) {
        do
            HS_TRY(parse_member(s, request, ranking, &seen));
        while (next_is(s, ','));
        if (!next_is(s, '}'))
            return fail_expected(s, "',' or '}'");
    }
    skip_blanks(s);
    if (s->at != s->end)
        return fail_expected(s, "the end of the line");
    return ranking ? check_ranking(s, request) : check(s, request);
}

hstu_status hs_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err)
{
    scan s = {.start = line, .at = line, .end = line + n, .path = path, .line = line_number, .err = err};
    return parse_line(&s, request, false);
}

hstu_status hs_rank_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err)
{
    scan s = {.start = line, .at = line, .end = line + n, .path = path, .line = line_number, .err = err};
    return parse_line(&s, request, true);
}
