/* Two answers to one batch, bit for bit. */
#ifndef HS_CLI_RUN_VERIFY_H
#define HS_CLI_RUN_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One array of an answer, twice. User u's values are offset[u] * per .. offset[u + 1] * per - 1, or, without offset, u
 * * per ... */
typedef struct hs_answer_part {
    const char *name;      /* "score" */
    const int64_t *offset; /* [n_users + 1] from 0, or NULL */
    int64_t per;
    const float *real[2]; /* with the cache, without; or, where they are NULL, */
    const int64_t *whole[2];
} hs_answer_part;

typedef struct hs_difference {
    const hs_answer_part *part;
    size_t user;
    int64_t place; /* of the user's values */
} hs_difference;

/* The first value of the first user whose bits are not the same; false: there is none. */
bool hs_answers_differ(const hs_answer_part *part, size_t n_parts, size_t n_users, hs_difference *out);
/* "score 3 is 0.25 (0x3e800000) with the cache and 0.5 (0x3f000000) without". */
void hs_difference_describe(const hs_difference *difference, char *text, size_t size);

#endif
