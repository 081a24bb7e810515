/* Intermediate results of a forward pass, kept for comparison with golden ones. */
#ifndef TESTS_ENGINE_STAGES_H
#define TESTS_ENGINE_STAGES_H

#include "engine/golden.h"

#include "tensor/mat.h"

enum { MAX_STAGES = 64 };

typedef struct stage {
    char name[64];
    float *data;
    int64_t rows, cols;
} stage;

typedef struct stages {
    stage item[MAX_STAGES];
    int n;
} stages;

/* The trace's callback. */
static inline void keep_stage(void *ctx, const char *name, hs_mat m)
{
    stages *s = ctx;
    assert_true(s->n < MAX_STAGES);
    stage *to = &s->item[s->n++];
    (void)snprintf(to->name, sizeof to->name, "%s", name);
    to->rows = m.rows;
    to->cols = m.cols;
    to->data = hs_alloc((size_t)(m.rows * m.cols), sizeof(float));
    assert_non_null(to->data);
    for (int64_t r = 0; r < m.rows; r++)
        memcpy(to->data + r * m.cols, m.data + r * m.ld, (size_t)m.cols * sizeof(float));
}

static inline void free_stages(stages *s)
{
    for (int i = 0; i < s->n; i++)
        hs_free(s->item[i].data);
    s->n = 0;
}

static inline const stage *find_stage(const stages *s, const char *name)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->item[i].name, name) == 0)
            return &s->item[i];
    }
    fail_msg("the forward pass has no stage '%s'", name);
    return NULL;
}

#endif
