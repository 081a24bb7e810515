/* Many users in one cache: how many there is room for, what is lost beside their rows, and that they are found
 * again. */
#define _DEFAULT_SOURCE /* getrusage */

#include "kv_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    USERS_AT_ONCE = 256,
    SAMPLE = 1000 /* users that are asked again */
};

static const char small_model[] =
    "{\"family\": \"ranking\", \"hidden_size\": 128, \"num_layers\": 1, \"num_attention_heads\": 1, \"kv_channels\": "
    "128, \"num_position_buckets\": 8192, \"contextual\": [], \"contextual_mask\": false, \"item_feature\": \"item\","
    " \"action_feature\": \"action\", \"max_history_seqlen\": 4096, \"max_num_candidates\": 1,"
    " \"prediction_head_arch\": [8], \"tables\": [{\"name\": \"item\", \"dynamic\": true},"
    " {\"name\": \"action\", \"dynamic\": false, \"rows\": 256}]}\n";
enum { SMALL_TOKEN_BYTES = 2 * 128 * 2, SMALL_CLASSES = 8 };

/* The configuration as a file that is gone when the model is open. */
static hstu_model *open_small_model(int threads)
{
    char path[] = "/tmp/kv_cache_XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0 || write(fd, small_model, sizeof small_model - 1) != (ssize_t)(sizeof small_model - 1) || close(fd) != 0)
        stop("cannot write '%s'", path);
    hstu_model *model = open_model(path, "bf16", threads);
    (void)unlink(path);
    return model;
}

/* Room for a batch of users, who are made from their ids. */
typedef struct crowd {
    int64_t offset[USERS_AT_ONCE + 1], cand_offset[USERS_AT_ONCE + 1], candidate[USERS_AT_ONCE], user_id[USERS_AT_ONCE];
    int64_t item[USERS_AT_ONCE * EVENTS_MOST], action[USERS_AT_ONCE * EVENTS_MOST];
    float logits[USERS_AT_ONCE * SMALL_CLASSES], expected[USERS_AT_ONCE * SMALL_CLASSES];
} crowd;

/* Users first, first + step, ... below n, as many as one batch takes; `events` NULL: 16 each. */
static hstu_batch gather(crowd *c, int64_t first, int64_t step, int64_t n, const int64_t *events)
{
    size_t n_users = 0;
    for (int64_t user = first; user < n && n_users < USERS_AT_ONCE; user += step) {
        const int64_t from = c->offset[n_users], wanted = events ? events[user] : 16;
        const int64_t length = wanted < EVENTS_MOST ? wanted : EVENTS_MOST;
        for (int64_t i = 0; i < length; i++) {
            c->item[from + i] = 1 + pick(user, 2 * i, ITEMS - 1);
            c->action[from + i] = pick(user, 2 * i + 1, ACTIONS);
        }
        c->candidate[n_users] = 1 + pick(user, -1, ITEMS - 1);
        c->user_id[n_users++] = user;
        c->offset[n_users] = from + length;
        c->cand_offset[n_users] = (int64_t)n_users;
    }
    return (hstu_batch){.n_users = n_users,
        .offset = c->offset,
        .item_id = c->item,
        .cand_offset = c->cand_offset,
        .cand_id = c->candidate,
        .action = c->action,
        .user_id = c->user_id};
}

static void fill(hstu_session *session, crowd *c, int64_t n, const int64_t *events)
{
    hstu_error err;
    for (int64_t user = 0; user < n;) {
        const hstu_batch batch = gather(c, user, 1, n, events);
        require(hstu_rank(session, &batch, c->logits, batch.n_users * SMALL_CLASSES, &err), &err);
        user += (int64_t)batch.n_users;
    }
}

/* Asks a sample of the users again, with the cache and without; returns how many of them were held wholly. */
static int64_t ask_again(
    hstu_session *session, hstu_cache *cache, crowd *c, int64_t n, const int64_t *events, int64_t *asked)
{
    const int64_t step = n > SAMPLE ? n / SAMPLE : 1;
    int64_t n_whole = 0;
    hstu_error err;
    *asked = 0;
    for (int64_t user = 0; user < n;) {
        const hstu_batch batch = gather(c, user, step, n, events);
        const size_t n_logits = batch.n_users * SMALL_CLASSES;
        require(hstu_session_use_cache(session, NULL, &err), &err);
        require(hstu_rank(session, &batch, c->expected, n_logits, &err), &err);
        require(hstu_session_use_cache(session, cache, &err), &err);
        require(hstu_rank(session, &batch, c->logits, n_logits, &err), &err);
        if (memcmp(c->logits, c->expected, n_logits * sizeof(float)) != 0)
            stop("users from %lld on: the answer differs from the one without the cache", (long long)user);
        for (size_t i = 0; i < batch.n_users; i++) {
            int64_t n_tokens = 0, n_reused = 0;
            require(hstu_session_get_reuse(session, i, &n_tokens, &n_reused, &err), &err);
            n_whole += n_reused == n_tokens;
        }
        *asked += (int64_t)batch.n_users;
        user += step * (int64_t)batch.n_users;
    }
    return n_whole;
}

static void bench_crowd(int threads, int64_t n, const int64_t *events, int64_t n_pages, int64_t page_tokens)
{
    /* Bookkeeping may have 5 % of the keys and values; what is once there is little. */
    const uint64_t rows_bytes = (uint64_t)(n_pages * page_tokens) * SMALL_TOKEN_BYTES;
    hstu_model *model = open_small_model(threads);
    hstu_cache *cache = open_cache(model, rows_bytes + rows_bytes / 20 + (1 << 16), page_tokens);
    hstu_session *session = NULL;
    hstu_cache_stats stats;
    hstu_error err;
    struct rusage usage;
    int64_t asked = 0;
    crowd *c = allocate(1, sizeof *c);
    require(hstu_session_open(&session, model, &err), &err);
    require(hstu_session_use_cache(session, cache, &err), &err);
    const double start_s = now_s();
    fill(session, c, n, events);
    const double taken_s = now_s() - start_s;
    hstu_cache_get_stats(cache, &stats);
    const int64_t n_whole = ask_again(session, cache, c, n, events, &asked);
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        stop("cannot read the memory of this program");
    const double used = (double)(stats.n_pages - stats.n_free_pages);
    const double rows = used * (double)stats.page_tokens, share = used / (double)stats.n_pages;
    printf("| %llu | %llu | %llu | %.3f | %.1f | %.2f %% | %llu | %.1f %% | %lld of %lld | %.2f | %.0f | %.2f %% |\n",
        (unsigned long long)stats.page_tokens, (unsigned long long)stats.n_users,
        (unsigned long long)stats.n_cached_tokens, 1e-9 * (double)stats.used_bytes,
        1e-6 * share * (double)stats.bookkeeping_bytes,
        100.0 * share * (double)stats.bookkeeping_bytes / (double)stats.used_bytes,
        (unsigned long long)stats.n_unused_rows, 100.0 * (double)stats.n_unused_rows / rows, (long long)n_whole,
        (long long)asked, 1e-6 * 1.024 * (double)usage.ru_maxrss, (double)n / taken_s,
        100.0 * stats.bookkeeping_s / taken_s);
    (void)fflush(stdout);
    hstu_session_close(session);
    hstu_cache_close(cache);
    hstu_model_close(model);
    free(c);
}

static void print_head(void)
{
    printf("1 layer, heads x width 128, bf16, 2 tokens an event; bookkeeping of the pages in use\n\n"
           "| page, tokens | users held | tokens | keys and values, GB | bookkeeping, MB | | unused rows | "
           "| found again | peak memory, GB | users/s | bookkeeping, time |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
}

/* ---- real lengths ----------------------------------------------------------------------------------------------- */

static int64_t *append(int64_t *events, int64_t *n, int64_t value)
{
    if ((*n & (*n - 1)) == 0 && !(events = realloc(events, (size_t)(*n ? 2 * *n : 1) * sizeof *events)))
        stop("out of memory");
    events[(*n)++] = value;
    return events;
}

static int64_t *read_lines(const char *path, int64_t *n)
{
    FILE *file = fopen(path, "r");
    int64_t *events = NULL;
    char line[64];
    if (!file)
        stop("cannot open '%s'", path);
    while (fgets(line, sizeof line, file)) {
        char *end = NULL;
        const long long value = strtoll(line, &end, 10);
        if (end == line || value < 1)
            stop("line %lld of '%s': a number of events was expected", (long long)*n + 1, path);
        events = append(events, n, value);
    }
    (void)fclose(file);
    return events;
}

static int64_t *read_histories(const char *path, int64_t *n)
{
    hstu_dataset *dataset = NULL;
    hstu_histories *histories = NULL;
    hstu_history_options options;
    hstu_error err;
    int64_t *events = NULL;
    hstu_history_options_init(&options);
    require(hstu_dataset_open(&dataset, path, NULL, &err), &err);
    require(hstu_histories_open(&histories, dataset, &options, &err), &err);
    for (int64_t i = 0; i < histories->n; i++)
        events = append(events, n, histories->offset[i + 1] - histories->offset[i]);
    hstu_histories_close(histories);
    hstu_dataset_close(dataset);
    return events;
}

void bench_users(const settings *s)
{
    print_head();
    bench_crowd(s->threads, s->users, NULL, s->users, 32);
}

void bench_lengths(const settings *s)
{
    const size_t length = strlen(s->lengths);
    const int is_text = length > 4 && strcmp(s->lengths + length - 4, ".txt") == 0;
    int64_t n = 0;
    int64_t *events = is_text ? read_lines(s->lengths, &n) : read_histories(s->lengths, &n);
    if (n == 0)
        stop("'%s' holds no history", s->lengths);
    print_head();
    for (int64_t page_tokens = 32; page_tokens <= 128; page_tokens *= 2) {
        int64_t n_pages = 0;
        for (int64_t i = 0; i < n; i++)
            n_pages += (2 * (events[i] < EVENTS_MOST ? events[i] : EVENTS_MOST) + page_tokens - 1) / page_tokens;
        bench_crowd(s->threads, n, events, n_pages, page_tokens);
    }
    free(events);
}
