/* libFuzzer target: files of a KV cache. Every file is loaded as it is, and with its checksums put right, without which no lie would
 * come through. What was loaded can be found and read whole, and comes back when it is saved and loaded again. */
#include "fuzz_file.h"

#include "cache/cache_int.h"

#include <string.h>
#include <xxhash.h>

enum { PAGE_TOKENS = 32, PAGE_BYTES = 64, N_HEAD = 1, HEADER_BYTES = 64, RECORD_BYTES = 40, BUDGET_BYTES = 1 << 14 };

static const hs_cache_shape shape = {
    .page_tokens = PAGE_TOKENS, .page_bytes = PAGE_BYTES, .words_per_token = 1, .n_head_words = N_HEAD};
static const unsigned char fingerprint[16] = "fuzz";

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* The machine that fuzzes is little-endian. */
static uint64_t get(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static void put(uint8_t *p, uint64_t value)
{
    memcpy(p, &value, sizeof value);
}

static void repair(uint8_t *data, size_t size)
{
    if (size < HEADER_BYTES)
        return;
    put(data + 56, XXH3_64bits(data, 56));
    for (size_t at = HEADER_BYTES; size - at >= RECORD_BYTES;) {
        uint8_t *record = data + at;
        const uint64_t n = get(record + 8);
        put(record + 32, XXH3_64bits(record, 32));
        if (n > size - at - RECORD_BYTES)
            return;
        if (n >= 8)
            put(record + RECORD_BYTES + n - 8, XXH3_64bits_withSeed(record + RECORD_BYTES, n - 8, get(record + 32)));
        at += RECORD_BYTES + n;
    }
}

static void read_entry(hs_cache *c, uint32_t e)
{
    static int64_t word[BUDGET_BYTES / PAGE_BYTES * PAGE_TOKENS];
    char *page[BUDGET_BYTES / PAGE_BYTES];
    const hs_cache_entry *entry = &c->entry[e];
    check(entry->is_listed && !entry->has_writer && entry->n_holds == 0);
    check(
        entry->n_tokens > 0 && hs_cache_pages_of(c, entry->n_tokens) == entry->n_pages && entry->n_pages <= c->n_pages);
    int64_t n = 0;
    for (uint32_t i = 0, p = entry->first_page; i < entry->n_pages; i++, p = c->next_page[p])
        for (int64_t j = 0; j < PAGE_TOKENS && n < entry->n_tokens; j++)
            word[n++] = hs_cache_words(c, p)[j];
    const hs_cache_history history = {
        .user_id = entry->user_id, .head = hs_cache_head(c, e), .word = word, .n_tokens = entry->n_tokens};
    hs_cache_lease lease;
    hs_cache_acquire(c, &history, history.n_tokens, &lease, page, NULL);
    check(lease.entry == e && lease.reused == history.n_tokens && !lease.writes);
    volatile char sum = 0;
    for (int64_t i = 0; i < hs_cache_pages_of(c, history.n_tokens); i++)
        for (int k = 0; k < PAGE_BYTES; k++)
            sum = (char)(sum ^ page[i][k]);
    hs_cache_release(c, &lease);
}

static hs_cache *load(const char *path, hs_cache_loaded *loaded)
{
    hs_cache *cache = NULL;
    hstu_error err = {0};
    check(hs_cache_open(&cache, &shape, BUDGET_BYTES, NULL) == HSTU_OK);
    const hstu_status status = hs_cache_load(cache, path, fingerprint, loaded, &err);
    check(status == err.code && (status == HSTU_OK || status == HSTU_EFORMAT || status == HSTU_EINVAL));
    check(status == HSTU_OK ? !err.msg[0] : err.msg[0] && loaded->n_users == 0);
    return cache;
}

static void load_and_check(const uint8_t *data, size_t size)
{
    hs_cache_loaded loaded = {0}, again = {0};
    hs_cache_stats stats;
    hs_cache *cache = load(fuzz_file(data, size), &loaded);
    hs_cache_get_stats(cache, &stats);
    check(stats.n_users == loaded.n_users && stats.n_cached_tokens == loaded.n_tokens && stats.n_held == 0);
    check(loaded.n_damaged <= size);
    for (uint32_t i = 0, e = cache->entry[0].older; i < stats.n_users; i++) {
        const uint32_t older = cache->entry[e].older; /* reading makes it the newest */
        read_entry(cache, e);
        e = older;
    }
    if (loaded.n_users > 0) {
        char path[64];
        (void)snprintf(path, sizeof path, "/tmp/hstu_fuzz_cachefile_%ld", (long)getpid());
        check(hs_cache_save(cache, path, fingerprint, NULL) == HSTU_OK);
        hs_cache_close(load(path, &again));
        check(again.n_users == loaded.n_users && again.n_tokens == loaded.n_tokens);
        check(again.n_damaged == 0 && again.n_no_room == 0 && unlink(path) == 0);
    }
    hs_cache_close(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *repaired = malloc(size + 1);
    if (!repaired)
        return 0;
    memcpy(repaired, data, size);
    repair(repaired, size);
    load_and_check(data, size);
    load_and_check(repaired, size);
    free(repaired);
    return 0;
}
