/* "Did you mean": the nearest of some names. */
#ifndef HS_CLI_SUGGEST_H
#define HS_CLI_SUGGEST_H

#include <stddef.h>

/* The first of `name` with the smallest edit distance to `word` (insert, delete, replace, swap of neighbours; '-' equals
 * '_'), or NULL when none is near: farther than a third of the word's length, at least 2. */
const char *hs_suggest(const char *word, const char *const *name, size_t n_names);

#endif
