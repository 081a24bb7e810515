/* Growing lists of integers, and such lists as text in a CSV field. */
#ifndef HS_DATA_INTLIST_H
#define HS_DATA_INTLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_intlist {
    int64_t *value; /* [n] */
    size_t n, capacity;
} hs_intlist; /* a zeroed one is empty */

/* False without memory. */
bool hs_intlist_push(hs_intlist *list, int64_t value);
bool hs_intlist_reserve(hs_intlist *list, size_t n);
void hs_intlist_free(hs_intlist *list);

typedef enum hs_intlist_form {
    HS_INTLIST_JSON,      /* "[1, 2, 3]" */
    HS_INTLIST_BARE,      /* "1,2,3", in brackets or not */
    HS_INTLIST_FRACTIONS, /* the same, where "4.5" is read as 4: towards zero */
} hs_intlist_form;

/* Appends the text's integers. False, with part of them appended, when it is no such list: *problem says why and *at where
 * (a byte of the text); *problem is NULL when memory is exhausted. */
bool hs_intlist_parse(
    hs_intlist *list, const char *text, size_t len, hs_intlist_form form, const char **problem, size_t *at);

#endif
