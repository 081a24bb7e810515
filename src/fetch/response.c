/* The head of a server's answer. RFC 9110 (fields), RFC 9112 (status line). */
#include "fetch/response.h"

#include "base/error.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

typedef struct cursor {
    const char *text;
    size_t n;
} cursor;

static void skip_blanks(cursor *c)
{
    while (c->n && (*c->text == ' ' || *c->text == '\t')) {
        c->text++;
        c->n--;
    }
}

static bool take(cursor *c, const char *word)
{
    const size_t n = strlen(word);
    if (c->n < n || strncasecmp(c->text, word, n) != 0)
        return false;
    c->text += n;
    c->n -= n;
    return true;
}

/* Decimal digits, at most 18 of them: no overflow. */
static bool take_number(cursor *c, int64_t *out)
{
    int64_t value = 0;
    size_t n = 0;
    while (n < c->n && n < 18 && c->text[n] >= '0' && c->text[n] <= '9')
        value = 10 * value + (c->text[n++] - '0');
    if (n == 0 || (n < c->n && c->text[n] >= '0' && c->text[n] <= '9'))
        return false;
    c->text += n;
    c->n -= n;
    *out = value;
    return true;
}

static int64_t whole_number(cursor c)
{
    int64_t value = -1;
    return take_number(&c, &value) && c.n == 0 ? value : -1;
}

/* Cut text would be a different one: what does not fit is left out. */
static void copy(char *out, size_t size, cursor value)
{
    out[0] = '\0';
    if (value.n >= size)
        return;
    for (size_t i = 0; i < value.n; i++) {
        if ((unsigned char)value.text[i] < 0x20 || (unsigned char)value.text[i] >= 0x7f)
            return;
    }
    memcpy(out, value.text, value.n);
    out[value.n] = '\0';
}

/* "bytes 0-9/10", "bytes 0-9/" with a star for an unknown total, "bytes " with a star and "/10" in a 416. */
static void read_range(hs_response *r, cursor c)
{
    int64_t first = -1, last = -1, total = -1;
    if (!take(&c, "bytes"))
        return;
    skip_blanks(&c);
    if (!take(&c, "*") && (!take_number(&c, &first) || !take(&c, "-") || !take_number(&c, &last)))
        return;
    if (!take(&c, "/") || (!take(&c, "*") && !take_number(&c, &total)) || c.n)
        return;
    if (first > last || (total >= 0 && last >= total))
        return;
    r->range_first = first;
    r->range_last = last;
    r->range_total = total;
}

/* Seconds, or a date, which only tells how long to wait together with the server's own clock. */
static int64_t read_delay(const hs_response *r, cursor c)
{
    char text[HS_DATE_MAX];
    const int64_t seconds = whole_number(c);
    if (seconds >= 0)
        return seconds;
    copy(text, sizeof text, c);
    const time_t then = text[0] ? curl_getdate(text, NULL) : -1;
    const time_t now = r->date[0] ? curl_getdate(r->date, NULL) : time(NULL);
    if (then < 0 || now < 0)
        return -1;
    return then > now ? (int64_t)(then - now) : 0;
}

static void begin(hs_response *r, cursor c)
{
    *r = (hs_response){.length = -1, .range_first = -1, .range_last = -1, .range_total = -1, .retry_after_s = -1};
    /* HTTP/2 and later frame their bodies. */
    r->self_delimiting = c.n && *c.text >= '2' && *c.text <= '9';
    while (c.n && *c.text != ' ') {
        c.text++;
        c.n--;
    }
    skip_blanks(&c);
    int64_t status = 0;
    if (take_number(&c, &status) && status >= 100 && status <= 999)
        r->status = (long)status;
}

void hs_response_line(hs_response *r, const char *line, size_t n)
{
    cursor c = {line, n};
    while (c.n && (c.text[c.n - 1] == '\r' || c.text[c.n - 1] == '\n'))
        c.n--;
    if (take(&c, "HTTP/")) {
        begin(r, c);
        return;
    }
    const char *colon = c.n ? memchr(c.text, ':', c.n) : NULL;
    if (!colon)
        return;
    cursor name = {c.text, (size_t)(colon - c.text) + 1};
    cursor value = {colon + 1, c.n - name.n};
    skip_blanks(&value);
    while (value.n && (value.text[value.n - 1] == ' ' || value.text[value.n - 1] == '\t'))
        value.n--;
    if (take(&name, "content-length:"))
        r->length = whole_number(value);
    else if (take(&name, "content-range:"))
        read_range(r, value);
    else if (take(&name, "transfer-encoding:") && take(&value, "chunked") && value.n == 0)
        r->chunked = r->self_delimiting = true;
    else if (take(&name, "etag:"))
        copy(r->etag, sizeof r->etag, value);
    else if (take(&name, "last-modified:"))
        copy(r->modified, sizeof r->modified, value);
    else if (take(&name, "date:"))
        copy(r->date, sizeof r->date, value);
    else if (take(&name, "retry-after:"))
        r->retry_after_s = read_delay(r, value);
}

const char *hs_response_validator(const hs_response *r)
{
    const size_t n = strlen(r->etag);
    if (n > 2 && r->etag[0] == '"' && r->etag[n - 1] == '"')
        return r->etag;
    if (!r->modified[0] || !r->date[0])
        return "";
    const time_t modified = curl_getdate(r->modified, NULL), now = curl_getdate(r->date, NULL);
    return modified >= 0 && now >= 0 && now - modified >= 60 ? r->modified : "";
}

static const char *reason(long status)
{
    switch (status) {
    case 401:
        return " (it wants a user name and password)";
    case 403:
        return " (access refused)";
    case 407:
        return " (the proxy wants a user name and password)";
    case 408:
        return " (it waited too long for the request)";
    case 429:
        return " (too many requests)";
    case 500:
        return " (internal error)";
    case 502:
    case 504:
        return " (the server behind it does not answer)";
    case 503:
        return " (unavailable now)";
    default:
        return "";
    }
}

hstu_status hs_response_refusal(const hs_response *r, const char *shown_url, bool *again, hstu_error *err)
{
    const long s = r->status;
    *again = s == 408 || s == 425 || s == 429 || (s >= 500 && s <= 599 && s != 501 && s != 505);
    if (s == 404 || s == 410)
        return hs_fail(err, HSTU_ENOENT, 0, "the server has no file %s: it answers %ld", shown_url, s);
    return hs_fail(err, HSTU_EIO, 0, "cannot download %s: the server answers %ld%s", shown_url, s, reason(s));
}
