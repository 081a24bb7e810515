/* Growing lists of integers, and such lists as text. */
#include "data/intlist.h"

#include "base/alloc.h"
#include "data/number.h"

enum { FIRST_VALUES = 256 };

bool hs_intlist_reserve(hs_intlist *list, size_t n)
{
    if (n <= list->capacity)
        return true;
    int64_t *value = hs_realloc(list->value, n, sizeof *value);
    if (!value)
        return false;
    list->value = value;
    list->capacity = n;
    return true;
}

bool hs_intlist_push(hs_intlist *list, int64_t value)
{
    if (list->n == list->capacity && !hs_intlist_reserve(list, list->capacity ? list->capacity * 2 : FIRST_VALUES))
        return false;
    list->value[list->n++] = value;
    return true;
}

void hs_intlist_free(hs_intlist *list)
{
    hs_free(list->value);
    *list = (hs_intlist){0};
}

static size_t skip_spaces(const char *text, size_t len, size_t i)
{
    while (i < len && text[i] == ' ')
        i++;
    return i;
}

/* Past ".digits", which is cut off; i when there is none. */
static size_t skip_fraction(const char *text, size_t len, size_t i)
{
    if (i + 1 >= len || text[i] != '.' || text[i + 1] < '0' || text[i + 1] > '9')
        return i;
    for (i++; i < len && text[i] >= '0' && text[i] <= '9'; i++)
        ;
    return i;
}

static bool stop(const char **problem, size_t *at, const char *text, size_t i)
{
    *problem = text;
    *at = i;
    return false;
}

bool hs_intlist_parse(
    hs_intlist *list, const char *text, size_t len, hs_intlist_form form, const char **problem, size_t *at)
{
    size_t i = skip_spaces(text, len, 0);
    const bool bracket = i < len && text[i] == '[';
    if (form == HS_INTLIST_JSON && !bracket)
        return stop(problem, at, "expected '['", i);
    i += bracket;
    i = skip_spaces(text, len, i);
    bool closed = bracket && i < len && text[i] == ']'; /* an empty list */
    while (!closed) {
        int64_t value = 0;
        i = skip_spaces(text, len, i);
        const size_t n = i < len ? hs_number_scan(text + i, len - i, &value) : 0;
        if (n == 0)
            return stop(problem, at, "expected an integer", i);
        if (!hs_intlist_push(list, value))
            return stop(problem, at, NULL, i);
        i += n;
        i = form == HS_INTLIST_FRACTIONS ? skip_fraction(text, len, i) : i;
        i = skip_spaces(text, len, i);
        if (i == len)
            break;
        closed = bracket && text[i] == ']';
        if (!closed && text[i] != ',')
            return stop(problem, at, bracket ? "expected ',' or ']'" : "expected ','", i);
        i += !closed;
    }
    if (bracket && !closed)
        return stop(problem, at, "expected ',' or ']'", i);
    if (closed && skip_spaces(text, len, i + 1) != len)
        return stop(problem, at, "text follows the list", i + 1);
    return true;
}
