/* Collecting text before it goes into a file. */
#include "data/textout.h"

#include <string.h>

enum { NUMBER_BYTES = 24 };

hstu_status hs_textout_flush(hs_textout *out)
{
    if (out->status == HSTU_OK && out->n)
        out->status = hs_outfile_write(out->file, out->text, out->n, out->err);
    out->n = 0;
    return out->status;
}

void hs_textout_put(hs_textout *out, const char *text, size_t n)
{
    if (n > HS_TEXTOUT_BYTES - out->n)
        (void)hs_textout_flush(out);
    if (n > HS_TEXTOUT_BYTES) {
        if (out->status == HSTU_OK)
            out->status = hs_outfile_write(out->file, text, n, out->err);
        return;
    }
    if (n)
        memcpy(out->text + out->n, text, n);
    out->n += n;
}

void hs_textout_text(hs_textout *out, const char *text)
{
    hs_textout_put(out, text, strlen(text));
}

void hs_textout_int(hs_textout *out, int64_t value)
{
    char text[NUMBER_BYTES];
    size_t first = sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        text[--first] = (char)('0' + left % 10);
    while ((left /= 10) != 0);
    if (value < 0)
        text[--first] = '-';
    hs_textout_put(out, text + first, sizeof text - first);
}
