/* "Did you mean": optimal string alignment distance over short names. */
#include "cli/suggest.h"

#include <string.h>

enum { MAX_NAME = 48 };

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t row[3][MAX_NAME + 1]; /* rows i - 2, i - 1, i of the table, in turn */
    for (size_t j = 0; j <= n_b; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *now = row[i % 3];
        const size_t *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            const char x = fold(a[i - 1]), y = fold(b[j - 1]);
            now[j] = min_size(last[j - 1] + (x != y), 1 + min_size(last[j], now[j - 1]));
            if (i > 1 && j > 1 && x == fold(b[j - 2]) && fold(a[i - 2]) == y)
                now[j] = min_size(now[j], before[j - 2] + 1);
        }
    }
    return row[n_a % 3][n_b];
}

const char *hs_suggest(const char *word, const char *const *name, size_t n_names)
{
    const size_t n = strlen(word);
    if (n == 0 || n > MAX_NAME)
        return NULL;
    const size_t near = n / 3 > 2 ? n / 3 : 2;
    size_t best = near + 1;
    const char *found = NULL;
    for (size_t i = 0; i < n_names; i++) {
        const size_t length = strlen(name[i]);
        /* A distance as long as the word would suggest anything for a one-letter word. */
        if (length > MAX_NAME)
            continue;
        const size_t d = distance(word, n, name[i], length);
        if (d < best && d < n) {
            best = d;
            found = name[i];
        }
    }
    return found;
}
