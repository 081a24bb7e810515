/* Reading times. */
#include "data/timetext.h"

#include "data/number.h"

#include <string.h>

enum { MS_PER_S = 1000, MS_PER_MINUTE = 60000, MS_PER_DAY = 86400000, DAYS_TO_1970 = 719468 };

bool hs_time_unit_of(const char *name, hs_time_unit *out)
{
    static const char *const names[] = {"s", "ms", "us", "ns", "iso"};
    for (int i = 0; i <= HS_TIME_ISO; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = (hs_time_unit)i;
            return true;
        }
    }
    return false;
}

/* ---- Numbers ---------------------------------------------------------------------------------------------------- */

static int64_t divide_down(int64_t value, int64_t by)
{
    return value / by - (value % by < 0);
}

/* The digits behind a point as thousandths; *rest: something was cut off. False where there are none but digits. */
static bool fraction_ms(const char *text, size_t len, int64_t *ms, bool *rest)
{
    static const int64_t place[] = {100, 10, 1};
    *ms = 0;
    *rest = false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (i < 3)
            *ms += (text[i] - '0') * place[i];
        else
            *rest = *rest || text[i] != '0';
    }
    return len > 0;
}

static bool parse_number(const char *text, size_t len, hs_time_unit unit, int64_t *out)
{
    const char *point = len ? memchr(text, '.', len) : NULL;
    const size_t whole_len = point ? (size_t)(point - text) : len;
    int64_t whole = 0, ms = 0;
    bool rest = false;
    if (!hs_number_int(text, whole_len, &whole) || (point && !fraction_ms(point + 1, len - whole_len - 1, &ms, &rest)))
        return false;
    const bool negative = text[0] == '-';
    if (unit != HS_TIME_S) {
        if (negative && (ms || rest)) { /* -1.5 lies between -2 and -1 */
            if (whole == INT64_MIN)
                return false;
            whole--;
        }
        *out = unit == HS_TIME_MS ? whole : divide_down(whole, unit == HS_TIME_US ? 1000 : 1000000);
        return true;
    }
    const int64_t part = negative ? -ms - rest : ms;
    return !__builtin_mul_overflow(whole, MS_PER_S, &whole) && !__builtin_add_overflow(whole, part, out);
}

/* ---- Dates ------------------------------------------------------------------------------------------------------ */

typedef struct cursor {
    const char *p, *end;
} cursor;

static bool take(cursor *c, char wanted)
{
    const bool there = c->p < c->end && *c->p == wanted;
    c->p += there;
    return there;
}

/* Exactly n digits, as a number from min to max. */
static bool take_digits(cursor *c, int n, int min, int max, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, c->p++) {
        if (c->p >= c->end || *c->p < '0' || *c->p > '9')
            return false;
        *out = *out * 10 + (*c->p - '0');
    }
    return *out >= min && *out <= max;
}

static bool take_date(cursor *c, int64_t *days)
{
    static const int length[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year = 0, month = 0, day = 0;
    if (!take_digits(c, 4, 1, 9999, &year) || !take(c, '-') || !take_digits(c, 2, 1, 12, &month) || !take(c, '-') ||
        !take_digits(c, 2, 1, length[month - 1], &day))
        return false;
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (month == 2 && day == 29 && !leap)
        return false;
    /* Days since March 1 of year 0, with years that begin in March. */
    const int64_t y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    *days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - DAYS_TO_1970;
    return true;
}

/* Behind 'T': hours and minutes, and seconds and their fraction where they are there. */
static bool take_clock(cursor *c, int64_t *ms)
{
    int64_t hour = 0, minute = 0, second = 0, part = 0;
    bool rest = false;
    if (!take_digits(c, 2, 0, 23, &hour) || !take(c, ':') || !take_digits(c, 2, 0, 59, &minute))
        return false;
    if (take(c, ':')) {
        if (!take_digits(c, 2, 0, 59, &second))
            return false;
        if (take(c, '.')) {
            const char *first = c->p;
            while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
                c->p++;
            if (!fraction_ms(first, (size_t)(c->p - first), &part, &rest))
                return false;
        }
    }
    *ms = (hour * 60 + minute) * MS_PER_MINUTE + second * MS_PER_S + part;
    return true;
}

/* How far a zone's clocks are ahead of UTC. */
static bool take_zone(cursor *c, int64_t *ms)
{
    int64_t hour = 0, minute = 0;
    *ms = 0;
    if (c->p == c->end || take(c, 'Z'))
        return true;
    const bool west = *c->p == '-';
    if (!west && *c->p != '+')
        return false;
    c->p++;
    if (!take_digits(c, 2, 0, 23, &hour))
        return false;
    if ((take(c, ':') || c->p < c->end) && !take_digits(c, 2, 0, 59, &minute))
        return false;
    *ms = (hour * 60 + minute) * (west ? -MS_PER_MINUTE : MS_PER_MINUTE);
    return true;
}

static bool parse_iso(const char *text, size_t len, int64_t *out)
{
    cursor c = {text, text + len};
    int64_t days = 0, ms = 0, ahead = 0;
    if (!take_date(&c, &days))
        return false;
    if (c.p < c.end && (!(take(&c, 'T') || take(&c, ' ')) || !take_clock(&c, &ms) || !take_zone(&c, &ahead)))
        return false;
    *out = days * MS_PER_DAY + ms - ahead;
    return c.p == c.end;
}

bool hs_time_parse(const char *text, size_t len, hs_time_unit unit, int64_t *out)
{
    return unit == HS_TIME_ISO ? parse_iso(text, len, out) : parse_number(text, len, unit, out);
}
