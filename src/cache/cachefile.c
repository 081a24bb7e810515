/* Files of a cache: a checked record for each entry, the most recently used first, so that a smaller cache takes those.
 * Format: docs/formats.md, section 5. */
#include "cache/cache_int.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/mapfile.h"
#include "base/outfile.h"

#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the state by value: no allocation of its own */
#include <xxhash.h>

enum {
    VERSION = 1,
    HEADER_BYTES = 64,
    RECORD_BYTES = 40, /* in front of a record's content */
    SUM_BYTES = 8,
    NUMBERS_AT_ONCE = 512,
    RELEASE_BYTES = 1 << 26 /* of a file that was read, between two hints that it is not needed any more */
};

static const unsigned char magic[8] = "hstu_kv", entry_tag[8] = "entry", end_tag[8] = "end";

static void put(unsigned char *p, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        p[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *p, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

/* ---- Saving ------------------------------------------------------------------------------------------------------ */

typedef struct saving {
    hs_cache *cache;
    hs_outfile *file;
    char *last_page;    /* room for a page's rows */
    uint64_t n_entries; /* written */
    XXH3_state_t sum;   /* of the record's content so far */
} saving;

/* What is held while its record is written. */
typedef struct held {
    int64_t user_id, n_tokens;
    uint32_t entry, page;
} held;

static hstu_status write_header(saving *s, const unsigned char fingerprint[16], hstu_error *err)
{
    const hs_cache_shape *shape = &s->cache->shape;
    unsigned char header[HEADER_BYTES];
    memcpy(header, magic, sizeof magic);
    put(header + 8, VERSION, 4);
    put(header + 12, HEADER_BYTES, 4);
    memcpy(header + 16, fingerprint, 16);
    put(header + 32, (uint64_t)shape->page_tokens, 8);
    put(header + 40, shape->page_bytes, 8);
    put(header + 48, (uint64_t)shape->words_per_token, 4);
    put(header + 52, (uint64_t)shape->n_head_words, 4);
    put(header + 56, XXH3_64bits(header, HEADER_BYTES - SUM_BYTES), SUM_BYTES);
    return hs_outfile_write(s->file, header, sizeof header, err);
}

/* The content's checksum begins with that of what stands in front of it: content belongs to its own record only. */
static hstu_status begin_record(
    saving *s, const unsigned char tag[8], uint64_t n_bytes, uint64_t number, int64_t n_tokens, hstu_error *err)
{
    unsigned char record[RECORD_BYTES];
    memcpy(record, tag, 8);
    put(record + 8, n_bytes, 8);
    put(record + 16, number, 8);
    put(record + 24, (uint64_t)n_tokens, 8);
    const uint64_t sum = XXH3_64bits(record, RECORD_BYTES - SUM_BYTES);
    put(record + 32, sum, SUM_BYTES);
    (void)XXH3_64bits_reset_withSeed(&s->sum, sum);
    return hs_outfile_write(s->file, record, sizeof record, err);
}

static hstu_status write_content(saving *s, const void *data, size_t n_bytes, hstu_error *err)
{
    (void)XXH3_64bits_update(&s->sum, data, n_bytes);
    return hs_outfile_write(s->file, data, n_bytes, err);
}

static hstu_status write_numbers(saving *s, const int64_t *number, size_t n, hstu_error *err)
{
    unsigned char bytes[8 * NUMBERS_AT_ONCE];
    for (size_t done = 0; done < n;) {
        const size_t now = n - done < NUMBERS_AT_ONCE ? n - done : NUMBERS_AT_ONCE;
        for (size_t i = 0; i < now; i++)
            put(bytes + 8 * i, (uint64_t)number[done + i], 8);
        HS_TRY(write_content(s, bytes, 8 * now, err));
        done += now;
    }
    return HSTU_OK;
}

/* Bytes of an entry's content; false when they overflow. */
static bool content_bytes(const hs_cache *c, uint64_t n_tokens, size_t *out)
{
    size_t words = 0, pages = 0;
    if (n_tokens > INT64_MAX || !hs_mul_size((size_t)n_tokens, c->token_bytes, &words) ||
        !hs_mul_size((size_t)hs_cache_pages_of(c, (int64_t)n_tokens), c->shape.page_bytes, &pages) ||
        !hs_add_size(words, pages, &words))
        return false;
    return hs_add_size(words, 8 * (size_t)c->shape.n_head_words + SUM_BYTES, out);
}

/* The rows of `here` tokens, in front of the places that no token fills. */
static hstu_status write_page(saving *s, const char *page, int64_t here, hstu_error *err)
{
    const hs_cache_shape *shape = &s->cache->shape;
    if (here < shape->page_tokens && shape->clear) {
        memcpy(s->last_page, page, shape->page_bytes);
        shape->clear(shape->ctx, s->last_page, here);
        page = s->last_page;
    }
    return write_content(s, page, shape->page_bytes, err);
}

static hstu_status write_entry(saving *s, const held *h, hstu_error *err)
{
    const hs_cache *c = s->cache;
    const size_t words_per_token = (size_t)c->shape.words_per_token;
    size_t n_bytes = 0;
    (void)content_bytes(c, (uint64_t)h->n_tokens, &n_bytes); /* cannot overflow: all of it lies in memory */
    HS_TRY(begin_record(s, entry_tag, n_bytes, (uint64_t)h->user_id, h->n_tokens, err));
    HS_TRY(write_numbers(s, hs_cache_head(c, h->entry), (size_t)c->shape.n_head_words, err));
    uint32_t page = h->page;
    for (int64_t left = h->n_tokens; left > 0; left -= c->shape.page_tokens, page = c->next_page[page]) {
        const int64_t here = left < c->shape.page_tokens ? left : c->shape.page_tokens;
        HS_TRY(write_numbers(s, hs_cache_words(c, page), (size_t)here * words_per_token, err));
    }
    page = h->page;
    for (int64_t left = h->n_tokens; left > 0; left -= c->shape.page_tokens, page = c->next_page[page]) {
        const int64_t here = left < c->shape.page_tokens ? left : c->shape.page_tokens;
        HS_TRY(write_page(s, hs_cache_page(c, page), here, err));
    }
    unsigned char sum[SUM_BYTES];
    put(sum, XXH3_64bits_digest(&s->sum), SUM_BYTES);
    s->n_entries++;
    return hs_outfile_write(s->file, sum, sizeof sum, err);
}

/* The users that are there, the most recently used first; the caller frees *out. */
static hstu_status list_users(const hs_cache *c, int64_t **out, uint32_t *n, hstu_error *err)
{
    hs_cache_lock(c);
    const uint32_t room = c->n_users;
    hs_cache_unlock(c);
    int64_t *user = hs_alloc(room, sizeof *user);
    if (!user)
        return hs_fail_nomem(err, room * sizeof *user, "the users of the cache");
    *n = 0;
    hs_cache_lock(c);
    for (uint32_t e = c->entry[0].older; e && *n < room; e = c->entry[e].older)
        user[(*n)++] = c->entry[e].user_id;
    hs_cache_unlock(c);
    *out = user;
    return HSTU_OK;
}

/* Nothing (entry 0) when the user has gone or is being written. */
static held hold_user(hs_cache *c, int64_t user_id)
{
    held h = {.user_id = user_id};
    hs_cache_lock(c);
    const uint32_t e = hs_cache_find(c, user_id);
    if (e && !c->entry[e].has_writer && c->entry[e].n_tokens > 0) {
        hs_cache_hold(c, e);
        h.entry = e;
        h.n_tokens = c->entry[e].n_tokens;
        h.page = c->entry[e].first_page;
    }
    hs_cache_unlock(c);
    return h;
}

static hstu_status write_users(saving *s, const int64_t *user, uint32_t n, hstu_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const held h = hold_user(s->cache, user[i]);
        if (!h.entry)
            continue;
        const hstu_status status = write_entry(s, &h, err);
        hs_cache_lock(s->cache);
        hs_cache_unhold(s->cache, h.entry);
        hs_cache_unlock(s->cache);
        HS_TRY(status);
    }
    return HSTU_OK;
}

hstu_status hs_cache_save(hs_cache *cache, const char *path, const unsigned char fingerprint[16], hstu_error *err)
{
    saving s = {.cache = cache};
    int64_t *user = NULL;
    uint32_t n = 0;
    hs_outfile_sweep(path);
    HS_TRY(list_users(cache, &user, &n, err));
    hstu_status status = HSTU_OK;
    s.last_page = hs_alloc_aligned(cache->shape.page_bytes, 1);
    if (!s.last_page) {
        status = hs_fail_nomem(err, cache->shape.page_bytes, "a page of the cache");
        goto fail;
    }
    HS_TRY_GOTO(hs_outfile_open(&s.file, path, err));
    HS_TRY_GOTO(write_header(&s, fingerprint, err));
    HS_TRY_GOTO(write_users(&s, user, n, err));
    HS_TRY_GOTO(begin_record(&s, end_tag, 0, s.n_entries, 0, err));
    hs_free(s.last_page);
    hs_free(user);
    return hs_outfile_commit(s.file, err);
fail:
    hs_outfile_discard(s.file);
    hs_free(s.last_page);
    hs_free(user);
    return status;
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static hstu_status check_header(
    const hs_cache *c, const hs_mapfile *map, const char *path, const unsigned char fingerprint[16], hstu_error *err)
{
    const hs_cache_shape *shape = &c->shape;
    const unsigned char *header = map->data;
    if (map->size < HEADER_BYTES || memcmp(header, magic, sizeof magic) != 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' is not the file of a KV cache", path);
    if (get(header + 8, 4) != VERSION)
        return hs_fail(err, HSTU_EFORMAT, 8,
            "'%s' is a KV cache of format version %u, and this program reads version %d; it can be deleted", path,
            (unsigned)get(header + 8, 4), VERSION);
    if (get(header + 12, 4) != HEADER_BYTES ||
        get(header + 56, SUM_BYTES) != XXH3_64bits(header, HEADER_BYTES - SUM_BYTES))
        return hs_fail(err, HSTU_EFORMAT, 12, "the header of '%s' is damaged; the file can be deleted", path);
    if (get(header + 32, 8) != (uint64_t)shape->page_tokens)
        return hs_fail(err, HSTU_EFORMAT, 32, "'%s' has pages of %llu tokens, and those of the cache have %lld", path,
            (unsigned long long)get(header + 32, 8), (long long)shape->page_tokens);
    if (memcmp(header + 16, fingerprint, 16) != 0)
        return hs_fail(err, HSTU_EINVAL, 16,
            "'%s' was written for another model, dtype or processor, or by another version of hstu: its keys and "
            "values cannot be used here, and it can be deleted",
            path);
    if (get(header + 40, 8) != shape->page_bytes || get(header + 48, 4) != (uint64_t)shape->words_per_token ||
        get(header + 52, 4) != (uint64_t)shape->n_head_words)
        return hs_fail(err, HSTU_EFORMAT, 40,
            "'%s' has %llu bytes a page, %u words a token and %u in front, and the cache has %zu, %d and %d", path,
            (unsigned long long)get(header + 40, 8), (unsigned)get(header + 48, 4), (unsigned)get(header + 52, 4),
            shape->page_bytes, shape->words_per_token, shape->n_head_words);
    return HSTU_OK;
}

/* A record's front, whose own checksum is right. */
typedef struct record {
    const unsigned char *content;
    uint64_t n_bytes, number, n_tokens, sum;
    bool is_end;
} record;

static bool read_record(record *out, const unsigned char *p, uint64_t left)
{
    if (left < RECORD_BYTES || get(p + 32, SUM_BYTES) != XXH3_64bits(p, RECORD_BYTES - SUM_BYTES))
        return false;
    out->content = p + RECORD_BYTES;
    out->n_bytes = get(p + 8, 8);
    out->number = get(p + 16, 8);
    out->n_tokens = get(p + 24, 8);
    out->sum = get(p + 32, SUM_BYTES);
    out->is_end = memcmp(p, end_tag, sizeof end_tag) == 0;
    return out->is_end ? out->n_bytes == 0 : memcmp(p, entry_tag, sizeof entry_tag) == 0;
}

/* The length is that of the tokens, of which there is at least one: then tokens and pages are in range. */
static bool has_right_length(const hs_cache *c, const record *r)
{
    size_t n_bytes = 0;
    return r->n_tokens > 0 && content_bytes(c, r->n_tokens, &n_bytes) && r->n_bytes == n_bytes;
}

static bool has_right_sum(const record *r)
{
    const size_t n_bytes = (size_t)r->n_bytes - SUM_BYTES;
    return get(r->content + n_bytes, SUM_BYTES) == XXH3_64bits_withSeed(r->content, n_bytes, r->sum);
}

static void fill_numbers(int64_t *out, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (int64_t)get(from + 8 * i, 8);
}

/* Head, words and pages of a new entry, which nobody else sees yet. */
static void fill_entry(hs_cache *c, uint32_t entry, const record *r)
{
    const size_t n_head = (size_t)c->shape.n_head_words;
    const unsigned char *words = r->content + 8 * n_head, *rows = words + (size_t)r->n_tokens * c->token_bytes;
    fill_numbers(hs_cache_head(c, entry), r->content, n_head);
    uint32_t page = c->entry[entry].first_page;
    for (int64_t left = (int64_t)r->n_tokens; left > 0; left -= c->shape.page_tokens, page = c->next_page[page]) {
        const size_t here = (size_t)(left < c->shape.page_tokens ? left : c->shape.page_tokens);
        fill_numbers(hs_cache_words(c, page), words, here * (size_t)c->shape.words_per_token);
        memcpy(hs_cache_page(c, page), rows, c->shape.page_bytes);
        words += here * c->token_bytes;
        rows += c->shape.page_bytes;
    }
}

/* Adds a record's entry as the least recently used user: behind those of the file that went before, and behind all that
 * were there. Not where its user is there, or pages are wanting. */
static void add_entry(hs_cache *c, const record *r, hs_cache_loaded *loaded)
{
    const int64_t user_id = (int64_t)r->number, n_pages = hs_cache_pages_of(c, (int64_t)r->n_tokens);
    hs_cache_lock(c);
    const bool is_there = hs_cache_find(c, user_id) != 0, has_room = n_pages <= (int64_t)hs_cache_n_free(c);
    const uint32_t entry = !is_there && has_room ? hs_cache_new_entry(c, user_id, n_pages) : 0;
    hs_cache_unlock(c);
    loaded->n_no_room += !is_there && !has_room;
    if (!entry)
        return;
    const bool is_good = has_right_sum(r);
    loaded->n_damaged += !is_good;
    if (is_good)
        fill_entry(c, entry, r);
    hs_cache_lock(c);
    if (is_good && !hs_cache_find(c, user_id)) {
        hs_cache_set_tokens(c, entry, (int64_t)r->n_tokens);
        hs_cache_list(c, entry, false);
        loaded->n_users++;
        loaded->n_tokens += r->n_tokens;
    }
    hs_cache_unhold(c, entry);
    hs_cache_unlock(c);
}

/* How many entries the file has lost behind n_seen: what its last record says, where that is there. */
static uint64_t count_lost(const hs_mapfile *map, uint64_t n_seen)
{
    record end;
    if (map->size < HEADER_BYTES + RECORD_BYTES ||
        !read_record(&end, map->data + map->size - RECORD_BYTES, RECORD_BYTES) || !end.is_end || end.number <= n_seen)
        return 1;
    const uint64_t most = map->size / RECORD_BYTES;
    return end.number - n_seen < most ? end.number - n_seen : most;
}

static void load_records(hs_cache *c, const hs_mapfile *map, hs_cache_loaded *loaded)
{
    uint64_t at = HEADER_BYTES, released = 0, n_seen = 0;
    for (record r;; n_seen++) {
        if (!read_record(&r, map->data + at, map->size - at) || r.n_bytes > map->size - at - RECORD_BYTES) {
            loaded->n_damaged += count_lost(map, n_seen);
            return;
        }
        if (r.is_end) {
            loaded->n_damaged += r.number > n_seen ? count_lost(map, n_seen) : 0;
            return;
        }
        if (has_right_length(c, &r))
            add_entry(c, &r, loaded);
        else
            loaded->n_damaged++;
        at += RECORD_BYTES + r.n_bytes;
        if (at - released > RELEASE_BYTES) {
            hs_mapfile_release(map, map->data + released, at - released);
            released = at;
        }
    }
}

hstu_status hs_cache_load(
    hs_cache *cache, const char *path, const unsigned char fingerprint[16], hs_cache_loaded *loaded, hstu_error *err)
{
    hs_mapfile map = {0};
    hs_cache_loaded found = {0};
    HS_TRY(hs_mapfile_open(&map, path, err));
    hs_mapfile_expect_scan(&map);
    const hstu_status status = check_header(cache, &map, path, fingerprint, err);
    if (status == HSTU_OK) {
        load_records(cache, &map, &found);
        *loaded = found;
    }
    hs_mapfile_close(&map);
    return status;
}
