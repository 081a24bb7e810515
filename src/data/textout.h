/* Numbers and text into an output file, fast enough for files of billions of numbers: collected in pieces, without printf. */
#ifndef HS_DATA_TEXTOUT_H
#define HS_DATA_TEXTOUT_H

#include "base/outfile.h"

#include <stddef.h>
#include <stdint.h>

enum { HS_TEXTOUT_BYTES = 1 << 14 };

/* After an error every further call returns it. */
typedef struct hs_textout {
    hs_outfile *file; /* borrowed */
    hstu_error *err;
    hstu_status status;
    size_t n; /* bytes of `text` that wait */
    char text[HS_TEXTOUT_BYTES];
} hs_textout;

void hs_textout_put(hs_textout *out, const char *text, size_t n);
void hs_textout_text(hs_textout *out, const char *text);
void hs_textout_int(hs_textout *out, int64_t value);
/* Writes what waits; the first error of any call. */
hstu_status hs_textout_flush(hs_textout *out);

#endif
