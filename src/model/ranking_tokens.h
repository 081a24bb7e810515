/* A ranking model's requests as tokens: which rows a pass computes, what each looks up, and at which position. */
#ifndef HS_MODEL_RANKING_TOKENS_H
#define HS_MODEL_RANKING_TOKENS_H

#include "model/forward.h"

/* Users and their histories' keys and values: what every pass over a request shares. */
typedef struct hs_ranking_request {
    const hs_ranking_input *in;
    int64_t n_users, n_candidates;
    int64_t *history; /* [n_users]: contextual tokens, items and actions */
    int64_t *context; /* [n_users]: how many of them are contextual */
    int64_t *nothing; /* [n_users + 1]: zeros */
    int64_t *reused;  /* [n_users]: how many of them have keys and values already */
} hs_ranking_request;

/* The tokens of one pass: new history tokens of every user, then candidates first .. first + n_candidates - 1 of
 * all. */
typedef struct hs_ranking_tokens {
    int64_t n_history, first, n_candidates;
    const int64_t *past;                        /* [n_users]: history tokens of earlier passes */
    int64_t *history_offset, *candidate_offset; /* [n_users + 1] */
    const void **row;                           /* [n]: the token's table row, NULL where the table lacks it */
    int64_t *position;                          /* [n] */
} hs_ranking_tokens;

/* Memory comes from the pass's workspace. */
hstu_status hs_ranking_request_make(
    const hs_pass *pass, const hs_ranking_input *in, hs_ranking_request *r, hstu_error *err);
/* History tokens of all users that have no keys and values yet. */
int64_t hs_ranking_new_tokens(const hs_ranking_request *r);
/* Room for `most` tokens. */
hstu_status hs_ranking_tokens_make(
    const hs_pass *pass, const hs_ranking_request *r, int64_t most, hs_ranking_tokens *t, hstu_error *err);
/* The new tokens of every user's history; or none. */
void hs_ranking_add_history(const hs_pass *pass, const hs_ranking_request *r, hs_ranking_tokens *t);
void hs_ranking_leave_history(const hs_ranking_request *r, hs_ranking_tokens *t);
/* Candidates first .. first + n - 1 of all users, behind the history's tokens. */
void hs_ranking_add_candidates(
    const hs_pass *pass, const hs_ranking_request *r, int64_t first, int64_t n, hs_ranking_tokens *t);

#endif
