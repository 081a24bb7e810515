/* Requests that are made up for a model, all of whose ids it knows: for compiling ahead, self-tests and files of graphs. */
#ifndef HS_ENGINE_SYNTHETIC_H
#define HS_ENGINE_SYNTHETIC_H

#include "engine/engine.h"

typedef struct hs_synthetic {
    hstu_batch batch; /* with user ids 1 .. n_users */
    hs_arena arena;
    int64_t n_values; /* of what hs_synthetic_ask answers */
} hs_synthetic;

/* What event i of user u is depends on seed, u and i alone: a longer history begins with every shorter one. Seed 0: the smallest
 * ids, and one time for all, so that no row of a shorter history needs to be computed again for a longer one. events [n_users];
 * candidates [n_users] of a ranking model. Contextual features have one id each. hs_synthetic_free must follow, on failure too. */
hstu_status hs_synthetic_make(hs_synthetic *out, const hs_model *model, size_t n_users, const int64_t *events,
    const int64_t *candidates, uint64_t seed, hstu_error *err);
void hs_synthetic_free(hs_synthetic *synthetic);
/* Logits, or user embeddings: value [n_values], or NULL when they are not wanted. */
hstu_status hs_synthetic_ask(hstu_session *session, const hs_synthetic *synthetic, float *value, hstu_error *err);

/* The most events of a history that are used; the tokens that so many events have. */
int64_t hs_synthetic_most_events(const hs_config *config);
int64_t hs_synthetic_tokens(const hs_config *config, int64_t events);
/* The most events that have at most so many tokens; negative when the contextual features alone have more. */
int64_t hs_synthetic_events(const hs_config *config, int64_t tokens);

/* A cache with room for so many users of so many tokens each. */
hstu_status hs_synthetic_cache(
    hstu_cache **out, const hstu_model *model, int64_t n_users, int64_t tokens, hstu_error *err);

#endif
