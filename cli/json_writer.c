/* Writing JSON (RFC 8259). */
#include "cli/json_writer.h"

#include <math.h>
#include <string.h>

void hs_json_writer_init(hs_json_writer *writer, hs_dynbuf *buf, int indent)
{
    *writer = (hs_json_writer){.buf = buf, .indent = indent, .first = true};
}

static void put(hs_json_writer *writer, const char *text, size_t n)
{
    if (!writer->failed && !hs_dynbuf_append(writer->buf, text, n))
        writer->failed = true;
}

static void new_line(hs_json_writer *writer)
{
    static const char blanks[] = "                ";
    put(writer, "\n", 1);
    for (int left = writer->depth * writer->indent; left > 0; left -= (int)sizeof blanks - 1)
        put(writer, blanks, left < (int)sizeof blanks - 1 ? (size_t)left : sizeof blanks - 1);
}

/* What stands between the text so far and the next key or array element. */
static void separate(hs_json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
        return;
    }
    if (!writer->first)
        put(writer, writer->indent ? "," : ", ", writer->indent ? 1 : 2);
    if (writer->depth && writer->indent)
        new_line(writer);
    writer->first = false;
}

void hs_json_begin(hs_json_writer *writer, char open)
{
    separate(writer);
    put(writer, &open, 1);
    writer->depth++;
    writer->first = true;
}

void hs_json_end(hs_json_writer *writer, char close)
{
    writer->depth--;
    if (!writer->first && writer->indent)
        new_line(writer);
    put(writer, &close, 1);
    writer->first = false;
}

size_t hs_utf8_length(const char *s, size_t n)
{
    const unsigned char c = (unsigned char)s[0];
    if (c < 0x80)
        return 1;
    const size_t length = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates, and what lies behind U+10FFFF. */
    const unsigned char d = (unsigned char)s[1];
    if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d >= 0xa0) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d >= 0x90))
        return 0;
    return length;
}

static void put_escaped(hs_json_writer *writer, char c)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char u = (unsigned char)c;
    if (c == '"' || c == '\\') {
        const char text[2] = {'\\', c};
        put(writer, text, sizeof text);
    } else {
        const char text[6] = {'\\', 'u', '0', '0', hex[u >> 4], hex[u & 15]};
        put(writer, text, sizeof text);
    }
}

static void put_string(hs_json_writer *writer, const char *text)
{
    put(writer, "\"", 1);
    for (size_t n = strlen(text); n > 0;) {
        const size_t length = hs_utf8_length(text, n);
        if (length == 0)
            put(writer, "\xef\xbf\xbd", 3);
        else if (length == 1 && (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20 || *text == 0x7f))
            put_escaped(writer, *text);
        else
            put(writer, text, length);
        text += length ? length : 1;
        n -= length ? length : 1;
    }
    put(writer, "\"", 1);
}

void hs_json_key(hs_json_writer *writer, const char *key)
{
    separate(writer);
    put_string(writer, key);
    put(writer, ": ", 2);
    writer->after_key = true;
}

void hs_json_put_text(hs_json_writer *writer, const char *text)
{
    separate(writer);
    if (text)
        put_string(writer, text);
    else
        put(writer, "null", 4);
}

void hs_json_put_int(hs_json_writer *writer, int64_t x)
{
    separate(writer);
    if (!writer->failed && !hs_dynbuf_printf(writer->buf, "%lld", (long long)x))
        writer->failed = true;
}

void hs_json_put_double(hs_json_writer *writer, double x, int digits)
{
    separate(writer);
    if (!isfinite(x))
        put(writer, "null", 4);
    else if (!writer->failed && !hs_dynbuf_printf(writer->buf, "%.*g", digits, x))
        writer->failed = true;
}

void hs_json_put_bool(hs_json_writer *writer, bool x)
{
    separate(writer);
    put(writer, x ? "true" : "false", x ? 4 : 5);
}

void hs_json_put_raw(hs_json_writer *writer, const char *json, size_t n)
{
    separate(writer);
    put(writer, json, n);
}

void hs_json_pair_text(hs_json_writer *writer, const char *key, const char *text)
{
    hs_json_key(writer, key);
    hs_json_put_text(writer, text);
}

void hs_json_pair_int(hs_json_writer *writer, const char *key, int64_t x)
{
    hs_json_key(writer, key);
    hs_json_put_int(writer, x);
}

void hs_json_pair_double(hs_json_writer *writer, const char *key, double x, int digits)
{
    hs_json_key(writer, key);
    hs_json_put_double(writer, x, digits);
}

void hs_json_pair_bool(hs_json_writer *writer, const char *key, bool x)
{
    hs_json_key(writer, key);
    hs_json_put_bool(writer, x);
}
