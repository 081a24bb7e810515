/* Parser of one request line: a flat grammar over the scanner's values, without recursion. */
#include "cli/request_line.h"

#include "base/error.h"
#include "cli/options.h"

#include <string.h>

void hs_request_free(hs_request *request)
{
    hs_ids_free(&request->items);
    hs_ids_free(&request->times);
    hs_ids_free(&request->candidates);
    hs_ids_free(&request->actions);
}

static hstu_status fail_line(hs_scan *s, const char *sentence)
{
    return hs_fail(s->err, HSTU_EFORMAT, s->line, "%s: line %llu: %s", s->path, (unsigned long long)s->line, sentence);
}

static hstu_status parse_user(hs_scan *s, hs_request *request)
{
    static const char *const words[] = {"true", "false", "null"};
    hs_scan_blanks(s);
    request->user = s->at;
    if (s->at < s->end && *s->at == '"') {
        HS_TRY(hs_scan_string(s));
    } else if (hs_scan_at_number(s)) {
        HS_TRY(hs_scan_number(s));
    } else {
        const char *from = s->at;
        for (size_t i = 0; i < 3 && s->at == from; i++) {
            const size_t n = strlen(words[i]);
            if ((size_t)(s->end - s->at) >= n && memcmp(s->at, words[i], n) == 0)
                s->at += n;
        }
        if (s->at == from)
            return hs_scan_expected(s, "a string or a number for 'user'");
    }
    request->user_len = (size_t)(s->at - request->user);
    return HSTU_OK;
}

/* ---- contextual features ---------------------------------------------------------------------------------------- */

/* Past a key in quotes; *from is its text of *n bytes. */
static hstu_status parse_key_text(hs_scan *s, const char **from, size_t *n)
{
    hs_scan_blanks(s);
    if (s->at == s->end || *s->at != '"')
        return hs_scan_expected(s, "a key in quotes");
    *from = s->at + 1;
    HS_TRY(hs_scan_string(s));
    *n = (size_t)(s->at - *from) - 1;
    return HSTU_OK;
}

static hstu_status parse_feature(hs_scan *s, hs_request *request)
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
            return hs_scan_expected(s, "each feature of 'context' once");
        }
    }
    if (!hs_scan_next_is(s, ':'))
        return hs_scan_expected(s, "':'");
    HS_TRY(hs_scan_int(s, &f->id));
    request->n_features++;
    return HSTU_OK;
}

static hstu_status parse_context(hs_scan *s, hs_request *request)
{
    if (!hs_scan_next_is(s, '{'))
        return hs_scan_expected(s, "'{'");
    if (hs_scan_next_is(s, '}'))
        return HSTU_OK;
    do
        HS_TRY(parse_feature(s, request));
    while (hs_scan_next_is(s, ','));
    return hs_scan_next_is(s, '}') ? HSTU_OK : hs_scan_expected(s, "',' or '}'");
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
    KEY_USER_ID,
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

static hstu_status parse_key(hs_scan *s, bool ranking, key *out)
{
    static const char *const keys[N_KEYS] = {
        "user", "user_id", "items", "candidates", "times", "request_time", "actions", "context"};
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
        "%s: line %llu: unknown key '%.*s': expected user, user_id, items, %s or candidates", s->path,
        (unsigned long long)s->line, n < 60 ? (int)n : 60, from, ranking ? "actions, context" : "times, request_time");
}

static hstu_status parse_member(hs_scan *s, hs_request *request, bool ranking, unsigned *seen)
{
    key which = KEY_USER;
    const char *from = s->at;
    HS_TRY(parse_key(s, ranking, &which));
    if (*seen & (1u << which)) {
        s->at = from;
        hs_scan_blanks(s);
        return hs_scan_expected(s, "each key once");
    }
    *seen |= 1u << which;
    if (!hs_scan_next_is(s, ':'))
        return hs_scan_expected(s, "':'");
    switch (which) {
    case KEY_USER:
        return parse_user(s, request);
    case KEY_USER_ID:
        request->has_user_id = true;
        return hs_scan_int(s, &request->user_id);
    case KEY_ITEMS:
        return hs_scan_ints(s, &request->items);
    case KEY_TIMES:
        request->has_times = true;
        return hs_scan_ints(s, &request->times);
    case KEY_REQUEST_TIME:
        request->has_request_time = true;
        return hs_scan_int(s, &request->request_time);
    case KEY_CANDIDATES:
        request->has_candidates = true;
        return hs_scan_ints(s, &request->candidates);
    case KEY_ACTIONS:
        return hs_scan_ints(s, &request->actions);
    case KEY_CONTEXT:
        return parse_context(s, request);
    case N_KEYS:
        break;
    }
    return HSTU_OK;
}

static hstu_status check(hs_scan *s, const hs_request *request)
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

static hstu_status check_ranking(hs_scan *s, const hs_request *request)
{
    const size_t n_items = request->items.n, n_candidates = request->candidates.n;
    if (n_candidates == 0)
        return fail_line(s, "'candidates' must hold at least one item");
    if (request->actions.n != n_items && request->actions.n != n_items + n_candidates)
        return hs_fail(s->err, HSTU_EFORMAT, s->line,
            "%s: line %llu: 'actions' must have one action for each of %zu items, or of these and %zu candidates, "
            "found %zu",
            s->path, (unsigned long long)s->line, n_items, n_candidates, request->actions.n);
    return HSTU_OK;
}

static hstu_status parse_line(hs_scan *s, hs_request *request, bool ranking)
{
    unsigned seen = 0;
    request->user = NULL;
    request->user_len = 0;
    request->items.n = request->times.n = request->candidates.n = request->actions.n = 0;
    request->n_features = 0;
    request->has_times = request->has_request_time = request->has_candidates = request->has_user_id = false;
    if (!hs_scan_next_is(s, '{'))
        return hs_scan_expected(s, "'{'");
    if (!hs_scan_next_is(s, '}')) {
        do
            HS_TRY(parse_member(s, request, ranking, &seen));
        while (hs_scan_next_is(s, ','));
        if (!hs_scan_next_is(s, '}'))
            return hs_scan_expected(s, "',' or '}'");
    }
    hs_scan_blanks(s);
    if (s->at != s->end)
        return hs_scan_expected(s, "the end of the line");
    if (!request->has_user_id)
        request->has_user_id = hs_request_user_number(request, &request->user_id);
    return ranking ? check_ranking(s, request) : check(s, request);
}

hstu_status hs_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err)
{
    hs_scan s = {.start = line, .at = line, .end = line + n, .path = path, .line = line_number, .err = err};
    return parse_line(&s, request, false);
}

hstu_status hs_rank_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err)
{
    hs_scan s = {.start = line, .at = line, .end = line + n, .path = path, .line = line_number, .err = err};
    return parse_line(&s, request, true);
}
