/* What the parts of the KV cache's bench share. */
#ifndef KV_BENCH_H
#define KV_BENCH_H

#include "hstu/cache.h"
#include "hstu/hstu.h"

#include <stddef.h>
#include <stdint.h>

enum { ITEMS = 20000, ACTIONS = 256, EVENTS_MOST = 4096, ROUNDS_MOST = 64 };

typedef struct settings {
    const char *dtype, *lengths;
    int threads;
    int64_t events, repetitions, users;
} settings;

/* Each ends the program with a sentence when it cannot be done. */
__attribute__((format(printf, 1, 2), noreturn)) void stop(const char *fmt, ...);
void require(hstu_status status, const hstu_error *err);
void *allocate(size_t n, size_t size);
hstu_model *open_model(const char *config, const char *dtype, int threads); /* random weights, ITEMS items */
hstu_cache *open_cache(const hstu_model *model, uint64_t n_bytes, int64_t page_tokens);

double now_s(void);
/* One of 0 .. n - 1, always the same for a user's i-th event. */
int64_t pick(int64_t user, int64_t i, int64_t n);

void bench_requests(const settings *s); /* kv_request.c */
void bench_users(const settings *s);    /* kv_users.c */
void bench_lengths(const settings *s);

#endif
