/* Strict decimal numbers in text: no white space, no sign but '-', no locale. */
#ifndef HS_DATA_NUMBER_H
#define HS_DATA_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many of a hostile text's bytes an error sentence repeats. */
enum { HS_NUMBER_SHOWN = 40 };

/* The longest prefix that is an int64: "-"? digits. Returns its length, 0 when there is none or it does not fit. */
size_t hs_number_scan(const char *text, size_t len, int64_t *out);
/* All of the text must be one int64. */
bool hs_number_int(const char *text, size_t len, int64_t *out);
/* The part of `len` bytes that an error shows, for "%.*s". */
int hs_number_shown(size_t len);

#endif
