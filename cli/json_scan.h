/* A scanner of the few JSON values that request lines hold: strings, numbers, lists of whole numbers. */
#ifndef HS_CLI_JSON_SCAN_H
#define HS_CLI_JSON_SCAN_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_ids {
    int64_t *data;
    size_t n, cap;
} hs_ids;

/* Appends x; false, with ids unchanged, without memory. */
bool hs_ids_push(hs_ids *ids, int64_t x);
void hs_ids_free(hs_ids *ids);

/* A place in one line of a file. */
typedef struct hs_scan {
    const char *start, *at, *end;
    const char *path;
    uint64_t line;
    hstu_error *err;
} hs_scan;

/* HSTU_EFORMAT: "<file>: line 3, column 14: expected <what>, found <the next character>". */
hstu_status hs_scan_expected(hs_scan *s, const char *what);
void hs_scan_blanks(hs_scan *s);
/* Past blanks and, when it comes next, the character. */
bool hs_scan_next_is(hs_scan *s, char c);
/* Past a string of UTF-8; at its opening quote. */
hstu_status hs_scan_string(hs_scan *s);
/* Past a JSON number; at its sign or first digit, which hs_scan_at_number tells. */
hstu_status hs_scan_number(hs_scan *s);
bool hs_scan_at_number(const hs_scan *s);
/* A whole number of 64 bits, blanks in front. */
hstu_status hs_scan_int(hs_scan *s, int64_t *out);
/* [1, 2, ...], appended to `ids`. */
hstu_status hs_scan_ints(hs_scan *s, hs_ids *ids);

#endif
