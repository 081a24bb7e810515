/* A golden case of the ranking family: its checkpoint with a chosen configuration, and its batches. */
#ifndef TESTS_ENGINE_GOLDEN_RANKING_H
#define TESTS_ENGINE_GOLDEN_RANKING_H

#include "engine/stages.h"

#include "dataset/scratch.h"
#include "engine/engine.h"

/* The batch of a case, in both layouts: histories' actions alone, and those of candidates too. */
typedef struct ranking_batch {
    hstu_batch inference, training;
    int64_t *offset, *item, *action, *cand_offset, *cand, *action_offset, *training_action, *context, *context_length;
    int64_t n_candidates;
} ranking_batch;

/* What the forward pass wants to know of a batch of whole histories. */
typedef struct ranking_places {
    int64_t item_first[16], action_first[16], context_first[16];
} ranking_places;

/* The feature-major contextual ids of the file become user-major ones. */
static inline void ranking_batch_context(ranking_batch *b, const hs_statedict *in, const hs_config *c, int64_t users)
{
    int64_t *id[HS_MAX_FEATURES], *length[HS_MAX_FEATURES], next[HS_MAX_FEATURES] = {0}, n = 0, total = 0, at = 0;
    for (int f = 0; f < c->n_context; f++) {
        char name[128];
        (void)snprintf(name, sizeof name, "ctx.%s", c->context[f].name);
        id[f] = golden_i64(in, name, &n);
        total += n;
        (void)snprintf(name, sizeof name, "ctx_len.%s", c->context[f].name);
        length[f] = golden_i64(in, name, &n);
        assert_int_equal(n, users);
    }
    b->context = hs_calloc((size_t)total + 1, sizeof(int64_t));
    b->context_length = hs_calloc((size_t)(users * c->n_context) + 1, sizeof(int64_t));
    for (int64_t u = 0; u < users; u++) {
        for (int f = 0; f < c->n_context; f++) {
            b->context_length[u * c->n_context + f] = length[f][u];
            for (int64_t i = 0; i < length[f][u]; i++)
                b->context[at++] = id[f][next[f]++];
        }
    }
    for (int f = 0; f < c->n_context; f++) {
        hs_free(id[f]);
        hs_free(length[f]);
    }
}

static inline void ranking_batch_make(ranking_batch *b, const hs_statedict *in, const hs_config *c)
{
    int64_t users = 0, n = 0;
    int64_t *history = golden_i64(in, "history_len", &users);
    int64_t *candidates = golden_i64(in, "num_candidates", &users);
    int64_t *items = golden_i64(in, "items", &n);
    *b = (ranking_batch){0};
    b->training_action = golden_i64(in, "actions", &n);
    int64_t **const lists[] = {&b->offset, &b->item, &b->action, &b->cand_offset, &b->cand, &b->action_offset};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        *lists[i] = hs_calloc((size_t)(users + n + 1), sizeof(int64_t));
    for (int64_t u = 0, at = 0; u < users; u++) {
        int64_t to = b->offset[u];
        for (int64_t i = 0; i < history[u]; i++, at++, to++) {
            b->item[to] = items[at];
            b->action[to] = b->training_action[at];
        }
        b->offset[u + 1] = to;
        for (int64_t i = 0; i < candidates[u]; i++, at++)
            b->cand[b->n_candidates++] = items[at];
        b->cand_offset[u + 1] = b->n_candidates;
        b->action_offset[u + 1] = at;
    }
    ranking_batch_context(b, in, c, users);
    b->inference = (hstu_batch){.n_users = (size_t)users,
        .offset = b->offset,
        .item_id = b->item,
        .action = b->action,
        .cand_offset = b->cand_offset,
        .cand_id = b->cand,
        .context = b->context,
        .context_length = b->context_length};
    b->training = b->inference;
    b->training.action_offset = b->action_offset;
    b->training.action = b->training_action;
    hs_free(history);
    hs_free(candidates);
    hs_free(items);
}

static inline void ranking_batch_free(ranking_batch *b)
{
    int64_t *const lists[] = {b->offset, b->item, b->action, b->cand_offset, b->cand, b->action_offset,
        b->training_action, b->context, b->context_length};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        hs_free(lists[i]);
}

static inline void ranking_places_make(ranking_places *p, const ranking_batch *b, const hs_config *c)
{
    int64_t context = 0;
    for (size_t u = 0; u < b->inference.n_users; u++) {
        p->item_first[u] = p->action_first[u] = b->offset[u];
        p->context_first[u] = context;
        for (int f = 0; f < c->n_context; f++)
            context += b->context_length[u * (size_t)c->n_context + (size_t)f];
    }
}

/* An open case. */
typedef struct ranking_case {
    scratch files;
    hstu_model *model;
    hstu_session *session;
    ranking_batch batch;
} ranking_case;

/* Writes the case's config.json, less its key "N" when n is not 0, with `more` in front of its keys; returns its path. */
static inline const char *ranking_config(scratch *files, const char *folder, const char *more, int n)
{
    size_t size = 0;
    char *text = read_whole(golden_path(folder, "config.json"), &size), *out = NULL;
    char *key = strstr(text, "\"N\":");
    assert_true(text[0] == '{' && key);
    const size_t room = size + strlen(more) + 64;
    out = malloc(room);
    assert_non_null(out);
    char *rest = strchr(key, ',');
    assert_non_null(rest);
    *key = '\0';
    (void)snprintf(out, room, "{%s%s\"N\": %d%s", more, text + 1, n ? n : (int)strtol(key + 4, NULL, 10), rest);
    scratch_text(files, "config.json", out);
    free(out);
    free(text);
    return scratch_path(files, "config.json");
}

typedef struct ranking_options {
    const char *checkpoint; /* "checkpoint" */
    const char *more;       /* keys that the configuration gets, each followed by ", " */
    int n;                  /* N, or 0: the case's */
    const char *dtype;
} ranking_options;

static inline void ranking_open(ranking_case *c, const char *folder, const ranking_options *o)
{
    hstu_error err;
    hstu_model_options options;
    hs_statedict inputs;
    char path[1024];
    memset(c, 0, sizeof *c);
    scratch_open(&c->files);
    golden_options_init(&options);
    options.dtype = o->dtype ? o->dtype : "fp32";
    options.config = ranking_config(&c->files, folder, o->more ? o->more : "\"contextual_mask\": false, ", o->n);
    (void)snprintf(path, sizeof path, "%s", golden_path(folder, o->checkpoint ? o->checkpoint : "checkpoint"));
    assert_ok(hstu_model_open(&c->model, path, &options, &err), &err);
    assert_ok(hstu_session_open(&c->session, c->model, &err), &err);
    golden_open(&inputs, folder, "inputs.safetensors");
    ranking_batch_make(&c->batch, &inputs, &c->model->model.config);
    hs_statedict_close(&inputs);
}

static inline void ranking_close(ranking_case *c)
{
    ranking_batch_free(&c->batch);
    hstu_session_close(c->session);
    hstu_model_close(c->model);
    remove_folder(c->files.folder);
}

/* A pass computes the histories of all users, then the candidates of all; the reference has each user's candidates
 * behind its history. Turns the stages with a row for each token, of which users lack the first reused[b], into the
 * reference's order. */
static inline void ranking_reorder(stages *s, const ranking_case *c, const hs_ranking_input *in, const int64_t *reused)
{
    const hs_model *m = &c->model->model;
    const hstu_batch *b = in->batch;
    int64_t history[16], n_history = 0;
    for (size_t u = 0; u < b->n_users; u++) {
        history[u] = hs_ranking_history(m, in, (int64_t)u) - (reused ? reused[u] : 0);
        n_history += history[u];
    }
    for (int i = 0; i < s->n; i++) {
        stage *t = &s->item[i];
        if (t->rows != n_history + c->batch.n_candidates || strcmp(t->name, "logits") == 0 ||
            strcmp(t->name, "final_embedding") == 0)
            continue;
        const size_t row = (size_t)t->cols * sizeof(float);
        float *sorted = hs_alloc((size_t)t->rows, row), *to = sorted;
        const float *from = t->data, *candidates = t->data + n_history * t->cols;
        assert_non_null(sorted);
        for (size_t u = 0; u < b->n_users; u++) {
            const int64_t n = b->cand_offset[u + 1] - b->cand_offset[u];
            memcpy(to, from, (size_t)history[u] * row);
            to += history[u] * t->cols;
            from += history[u] * t->cols;
            memcpy(to, candidates, (size_t)n * row);
            to += n * t->cols;
            candidates += n * t->cols;
        }
        hs_free(t->data);
        t->data = sorted;
    }
}

/* [candidates, classes], freed with hs_free. */
static inline float *ranking_logits(ranking_case *c, const hstu_batch *batch, size_t *n)
{
    hstu_error err;
    hstu_model_info info;
    hstu_model_get_info(c->model, &info);
    *n = (size_t)(c->batch.n_candidates * info.n_classes);
    float *logits = hs_calloc(*n, sizeof *logits);
    assert_ok(hstu_rank(c->session, batch, logits, *n, &err), &err);
    return logits;
}

#endif
