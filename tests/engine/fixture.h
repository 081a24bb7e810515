/* Small random models and requests for the engine's tests. */
#ifndef TESTS_ENGINE_FIXTURE_H
#define TESTS_ENGINE_FIXTURE_H

#include "engine/golden.h"

#include "base/random.h"
#include "engine/engine.h"

#include <unistd.h>

enum { FIXTURE_ITEMS = 300 };

typedef struct fixture {
    hstu_model *model;
    hstu_session *session;
} fixture;

/* A model with random weights and this configuration, and a session on it. */
static inline void open_fixture(fixture *f, const char *config, int threads)
{
    hstu_error err;
    hstu_model_options options;
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_engine_%ld.json", (long)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(config, file) >= 0);
    assert_int_equal(fclose(file), 0);
    hstu_model_options_init(&options);
    options.config = path;
    options.threads = threads;
    options.seed = 9;
    const hstu_status status = hstu_model_open(&f->model, NULL, &options, &err);
    assert_int_equal(remove(path), 0);
    assert_ok(status, &err);
    assert_ok(hstu_session_open(&f->session, f->model, &err), &err);
}

static inline void close_fixture(fixture *f)
{
    hstu_session_close(f->session);
    hstu_model_close(f->model);
}

/* n users of pseudo-random lengths up to `longest` and ids of a model with FIXTURE_ITEMS items; times go up by odd steps. */
typedef struct requests {
    hstu_batch batch;
    int64_t *offset, *item, *time, *query_time;
} requests;

static inline void make_requests(requests *r, size_t n, int64_t longest)
{
    uint32_t bits[4];
    r->offset = hs_calloc(n + 1, sizeof(int64_t));
    r->item = hs_calloc(n * (size_t)longest, sizeof(int64_t));
    r->time = hs_calloc(n * (size_t)longest, sizeof(int64_t));
    r->query_time = hs_calloc(n, sizeof(int64_t));
    for (size_t u = 0; u < n; u++) {
        hs_random_block(bits, 1, u, 0);
        const int64_t length = 1 + (int64_t)bits[0] % longest;
        int64_t time = 1600000000;
        for (int64_t i = 0; i < length; i++) {
            hs_random_block(bits, 2, u, (uint64_t)i);
            r->item[r->offset[u] + i] = 1 + (int64_t)(bits[0] % FIXTURE_ITEMS);
            time += (int64_t)(bits[1] % 100000);
            r->time[r->offset[u] + i] = time;
        }
        r->offset[u + 1] = r->offset[u] + length;
        r->query_time[u] = time + 77;
    }
    r->batch = (hstu_batch){
        .n_users = n, .offset = r->offset, .item_id = r->item, .timestamp = r->time, .query_time = r->query_time};
}

static inline void free_requests(requests *r)
{
    hs_free(r->offset);
    hs_free(r->item);
    hs_free(r->time);
    hs_free(r->query_time);
}

static inline hstu_batch one_user(const requests *r, size_t u, int64_t offset[2])
{
    offset[0] = 0;
    offset[1] = r->offset[u + 1] - r->offset[u];
    return (hstu_batch){.n_users = 1,
        .offset = offset,
        .item_id = r->item + r->offset[u],
        .timestamp = r->time + r->offset[u],
        .query_time = r->query_time + u};
}

#endif
