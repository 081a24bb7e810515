/* Entries: look-up by user, order of use, pages, holds. No function here takes the mutex. */
#include "base/stamp.h"
#include "cache/cache_int.h"

#include <xxhash.h>

/* Spread by a hash that nobody outside can foresee, so that no choice of ids makes long buckets. */
static uint32_t *bucket_of(const hs_cache *c, int64_t user_id)
{
    const uint64_t high = XXH3_64bits_withSeed(&user_id, sizeof user_id, c->seed) >> 32;
    return &c->bucket[high * c->n_pages >> 32];
}

uint32_t hs_cache_find(const hs_cache *c, int64_t user_id)
{
    uint32_t e = *bucket_of(c, user_id);
    while (e && c->entry[e].user_id != user_id)
        e = c->entry[e].next;
    return e;
}

/* ---- Order of use ------------------------------------------------------------------------------------------------ */

static void leave_ring(hs_cache *c, uint32_t e)
{
    const uint32_t older = c->entry[e].older, newer = c->entry[e].newer;
    c->entry[older].newer = newer;
    c->entry[newer].older = older;
}

/* Between entry 0 and the newest, or between entry 0 and the oldest. */
static void join_ring(hs_cache *c, uint32_t e, bool as_newest)
{
    const uint32_t older = as_newest ? c->entry[0].older : 0, newer = as_newest ? 0 : c->entry[0].newer;
    c->entry[e].older = older;
    c->entry[e].newer = newer;
    c->entry[older].newer = e;
    c->entry[newer].older = e;
}

void hs_cache_touch(hs_cache *c, uint32_t entry)
{
    leave_ring(c, entry);
    join_ring(c, entry, true);
}

/* ---- Pages ------------------------------------------------------------------------------------------------------- */

static uint32_t take_page(hs_cache *c)
{
    if (c->n_returned_pages == 0)
        return c->n_touched_pages++;
    const uint32_t page = c->first_free_page;
    c->n_returned_pages--;
    if (c->n_returned_pages > 0)
        c->first_free_page = c->next_page[page];
    return page;
}

/* Gives back a chain of n >= 1 pages. */
static void return_pages(hs_cache *c, uint32_t first, uint32_t last, uint32_t n)
{
    if (c->n_returned_pages > 0)
        c->next_page[last] = c->first_free_page;
    c->first_free_page = first;
    c->n_returned_pages += n;
}

void hs_cache_append_pages(hs_cache *c, uint32_t entry, int64_t n_pages)
{
    hs_cache_entry *e = &c->entry[entry];
    for (int64_t i = 0; i < n_pages; i++) {
        const uint32_t page = take_page(c);
        c->stamp[page] = hs_stamp_next();
        if (e->n_pages == 0)
            e->first_page = page;
        else
            c->next_page[e->last_page] = page;
        e->last_page = page;
        e->n_pages++;
    }
    c->n_held_pages += (uint32_t)n_pages;
}

/* Leaves next_page of the last page that stays as it is: another holder may be reading the chain up to there. */
void hs_cache_cut_pages(hs_cache *c, uint32_t entry, int64_t n_pages)
{
    hs_cache_entry *e = &c->entry[entry];
    if (e->n_pages <= n_pages)
        return;
    uint32_t last = e->first_page;
    for (int64_t i = 1; i < n_pages; i++)
        last = c->next_page[last];
    const uint32_t n_cut = e->n_pages - (uint32_t)n_pages;
    return_pages(c, c->next_page[last], e->last_page, n_cut);
    e->last_page = last;
    e->n_pages -= n_cut;
    c->n_held_pages -= n_cut;
}

void hs_cache_renew_stamps(hs_cache *c, uint32_t entry, int64_t first)
{
    const hs_cache_entry *e = &c->entry[entry];
    uint32_t page = e->first_page;
    for (uint32_t i = 0; i < e->n_pages; i++) {
        if ((i + 1) * c->shape.page_tokens > first)
            c->stamp[page] = hs_stamp_next();
        if (i + 1 < e->n_pages)
            page = c->next_page[page];
    }
}

/* ---- Entries ----------------------------------------------------------------------------------------------------- */

void hs_cache_set_tokens(hs_cache *c, uint32_t entry, int64_t n_tokens)
{
    c->n_tokens = c->n_tokens - (uint64_t)c->entry[entry].n_tokens + (uint64_t)n_tokens;
    c->entry[entry].n_tokens = n_tokens;
}

uint32_t hs_cache_new_entry(hs_cache *c, int64_t user_id, int64_t n_pages)
{
    uint32_t e = c->first_free_entry;
    if (e)
        c->first_free_entry = c->entry[e].next;
    else
        e = ++c->n_touched_entries;
    c->entry[e] = (hs_cache_entry){.user_id = user_id};
    hs_cache_hold(c, e);
    hs_cache_append_pages(c, e, n_pages);
    return e;
}

/* Neither held nor listed. */
static void free_entry(hs_cache *c, uint32_t entry)
{
    hs_cache_entry *e = &c->entry[entry];
    hs_cache_set_tokens(c, entry, 0);
    return_pages(c, e->first_page, e->last_page, e->n_pages);
    *e = (hs_cache_entry){.next = c->first_free_entry};
    c->first_free_entry = entry;
}

void hs_cache_hold(hs_cache *c, uint32_t entry)
{
    hs_cache_entry *e = &c->entry[entry];
    if (e->n_holds++ == 0) {
        c->n_held++;
        c->n_held_pages += e->n_pages;
    }
}

void hs_cache_unhold(hs_cache *c, uint32_t entry)
{
    hs_cache_entry *e = &c->entry[entry];
    if (--e->n_holds > 0)
        return;
    c->n_held--;
    c->n_held_pages -= e->n_pages;
    if (!e->is_listed)
        free_entry(c, entry);
}

void hs_cache_list(hs_cache *c, uint32_t entry, bool as_newest)
{
    hs_cache_entry *e = &c->entry[entry];
    uint32_t *bucket = bucket_of(c, e->user_id);
    e->next = *bucket;
    *bucket = entry;
    join_ring(c, entry, as_newest);
    e->is_listed = true;
    c->n_users++;
}

void hs_cache_unlist(hs_cache *c, uint32_t entry)
{
    hs_cache_entry *e = &c->entry[entry];
    uint32_t *from = bucket_of(c, e->user_id);
    while (*from != entry)
        from = &c->entry[*from].next;
    *from = e->next;
    leave_ring(c, entry);
    e->is_listed = false;
    c->n_users--;
    if (e->n_holds == 0)
        free_entry(c, entry);
}

bool hs_cache_make_room(hs_cache *c, int64_t n_pages)
{
    if (n_pages > (int64_t)c->n_pages - c->n_held_pages) /* free pages and those of entries that nobody holds */
        return false;
    uint32_t next = c->entry[0].newer;
    while (hs_cache_n_free(c) < n_pages) {
        const uint32_t e = next;
        next = c->entry[e].newer;
        if (c->entry[e].n_holds > 0)
            continue;
        c->count.n_evicted_users++;
        c->count.n_evicted_tokens += (uint64_t)c->entry[e].n_tokens;
        hs_cache_unlist(c, e);
    }
    return true;
}
