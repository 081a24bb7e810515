/* Status texts and error sentences. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *hstu_status_name(hstu_status status)
{
    switch (status) {
#define NAME(symbol, value, text)                                                                                      \
    case symbol:                                                                                                       \
        return #symbol;
        HSTU_STATUS_MAP(NAME)
#undef NAME
    }
    return "unknown status";
}

const char *hstu_status_text(hstu_status status)
{
    switch (status) {
#define TEXT(symbol, value, text)                                                                                      \
    case symbol:                                                                                                       \
        return text;
        HSTU_STATUS_MAP(TEXT)
#undef TEXT
    }
    return "unknown status";
}

__attribute__((format(printf, 4, 0))) static void fill(
    hstu_error *err, hstu_status code, uint64_t pos, const char *fmt, va_list args)
{
    if (!err)
        return;
    err->code = code;
    err->pos = pos;
    if (vsnprintf(err->msg, sizeof err->msg, fmt, args) < 0)
        err->msg[0] = '\0';
    for (char *c = err->msg; *c; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c == 0x7f)
            *c = '?';
    }
}

hstu_status hs_fail(hstu_error *err, hstu_status code, uint64_t pos, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(err, code, pos, fmt, args);
    va_end(args);
    return code;
}

hstu_status hs_fail_errno(hstu_error *err, int errnum, const char *fmt, ...)
{
    const hstu_status code = errnum == ENOENT ? HSTU_ENOENT : errnum == ENOMEM ? HSTU_ENOMEM : HSTU_EIO;
    va_list args;
    va_start(args, fmt);
    fill(err, code, 0, fmt, args);
    va_end(args);
    if (err) {
        const size_t used = strlen(err->msg);
        char text[128];
        /* XSI strerror_r: the library promises no printing and no shared state. */
        if (strerror_r(errnum, text, sizeof text) != 0)
            (void)snprintf(text, sizeof text, "error %d", errnum);
        (void)snprintf(err->msg + used, sizeof err->msg - used, ": %s", text);
    }
    return code;
}

hstu_status hs_fail_nomem(hstu_error *err, size_t bytes, const char *what)
{
    return hs_fail(err, HSTU_ENOMEM, 0, "out of memory: cannot allocate %zu bytes for %s", bytes, what);
}
