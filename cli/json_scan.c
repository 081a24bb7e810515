/* A scanner of the few JSON values that request lines hold: no tree, so that ids keep their 64 bits and a hostile line costs no
 * more memory than its numbers. */
#include "cli/json_scan.h"

#include "base/alloc.h"
#include "base/error.h"
#include "cli/json_writer.h"

#include <stdio.h>
#include <string.h>

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

hstu_status hs_scan_expected(hs_scan *s, const char *what)
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

void hs_scan_blanks(hs_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
}

bool hs_scan_next_is(hs_scan *s, char c)
{
    hs_scan_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_digit(const hs_scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static hstu_status parse_escape(hs_scan *s)
{
    if (s->at < s->end && *s->at == 'u') {
        s->at++;
        for (int i = 0; i < 4; i++, s->at++) {
            if (s->at == s->end || !strchr("0123456789abcdefABCDEF", *s->at) || *s->at == '\0')
                return hs_scan_expected(s, "a hexadecimal digit");
        }
        return HSTU_OK;
    }
    if (s->at == s->end || *s->at == '\0' || !strchr("\"\\/bfnrt", *s->at))
        return hs_scan_expected(s, "an escape");
    s->at++;
    return HSTU_OK;
}

hstu_status hs_scan_string(hs_scan *s)
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
            return hs_scan_expected(s, "UTF-8 text");
        s->at += length;
    }
    if (s->at == s->end)
        return hs_scan_expected(s, "'\"'");
    s->at++;
    return HSTU_OK;
}

static void skip_digits(hs_scan *s)
{
    while (is_digit(s))
        s->at++;
}

bool hs_scan_at_number(const hs_scan *s)
{
    return is_digit(s) || (s->at < s->end && *s->at == '-');
}

hstu_status hs_scan_number(hs_scan *s)
{
    if (*s->at == '-')
        s->at++;
    if (!is_digit(s))
        return hs_scan_expected(s, "a digit");
    if (*s->at == '0')
        s->at++;
    else
        skip_digits(s);
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!is_digit(s))
            return hs_scan_expected(s, "a digit");
        skip_digits(s);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        if (!is_digit(s))
            return hs_scan_expected(s, "a digit");
        skip_digits(s);
    }
    return HSTU_OK;
}

hstu_status hs_scan_int(hs_scan *s, int64_t *out)
{
    hs_scan_blanks(s);
    const char *from = s->at;
    const bool negative = s->at < s->end && *s->at == '-';
    s->at += negative;
    if (!is_digit(s))
        return hs_scan_expected(s, "a whole number");
    int64_t x = 0; /* minus the value, since INT64_MIN has no positive twin */
    const bool leading_zero = *s->at == '0';
    for (int n = 0; is_digit(s); n++, s->at++) {
        const int digit = *s->at - '0';
        if ((leading_zero && n) || x < (INT64_MIN + digit) / 10) {
            s->at = from;
            return hs_scan_expected(s, "a whole number of 64 bits without leading zeros");
        }
        x = 10 * x - digit;
    }
    if (!negative && x == INT64_MIN) {
        s->at = from;
        return hs_scan_expected(s, "a whole number of 64 bits without leading zeros");
    }
    *out = negative ? x : -x;
    return HSTU_OK;
}

hstu_status hs_scan_ints(hs_scan *s, hs_ids *ids)
{
    if (!hs_scan_next_is(s, '['))
        return hs_scan_expected(s, "'['");
    if (hs_scan_next_is(s, ']'))
        return HSTU_OK;
    do {
        int64_t x = 0;
        HS_TRY(hs_scan_int(s, &x));
        if (!hs_ids_push(ids, x))
            return hs_fail_nomem(s->err, (ids->n + 1) * sizeof x, s->path);
    } while (hs_scan_next_is(s, ','));
    return hs_scan_next_is(s, ']') ? HSTU_OK : hs_scan_expected(s, "',' or ']'");
}
