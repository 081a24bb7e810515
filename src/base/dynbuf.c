/* A growing byte buffer with a mandatory limit. */
#include "base/dynbuf.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void hs_dynbuf_init(hs_dynbuf *buf, size_t max)
{
    *buf = (hs_dynbuf){.max = max};
}

void hs_dynbuf_free(hs_dynbuf *buf)
{
    hs_free(buf->data);
    *buf = (hs_dynbuf){.max = buf->max};
}

static bool reserve(hs_dynbuf *buf, size_t n)
{
    if (n > buf->max - buf->len)
        return false;
    const size_t need = buf->len + n + 1;
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap ? buf->cap * 2 : 256;
    if (cap < need)
        cap = need;
    char *data = hs_realloc(buf->data, cap, 1);
    if (!data) {
        buf->out_of_memory = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

bool hs_dynbuf_append(hs_dynbuf *buf, const void *data, size_t n)
{
    if (!reserve(buf, n))
        return false;
    if (n)
        memcpy(buf->data + buf->len, data, n);
    buf->len += n;
    buf->data[buf->len] = '\0';
    return true;
}

bool hs_dynbuf_append_text(hs_dynbuf *buf, const char *text)
{
    return hs_dynbuf_append(buf, text, strlen(text));
}

bool hs_dynbuf_printf(hs_dynbuf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !reserve(buf, (size_t)n))
        return false;
    va_start(args, fmt);
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)n;
    return true;
}
