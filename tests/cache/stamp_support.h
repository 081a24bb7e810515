/* What a device would remember of pages: the rows that it has seen under each pair of a page's address and its stamp. */
#ifndef TESTS_STAMP_SUPPORT_H
#define TESTS_STAMP_SUPPORT_H

#include "cache_support.h"

#include <stdio.h>

enum { SEEN_BUCKETS = 1 << 16 };

typedef struct seen {
    struct seen *next; /* of the same bucket */
    const char *page;
    uint64_t stamp;
    bool is_over;   /* a lease that filled tokens of the page has ended: must not come again */
    int64_t n_rows; /* seen: the first ones of the page */
    uint64_t row[PAGE_TOKENS];
} seen;

/* Zeroed: nothing was seen. Lives longer than caches: addresses come again, pairs must not. */
typedef struct memory {
    seen *bucket[SEEN_BUCKETS];
    uint64_t n_known, n_new; /* committed tokens that were given: known before, seen for the first time */
    const char *complaint;   /* the first */
} memory;

static inline seen *recall(memory *m, const char *page, uint64_t stamp)
{
    seen **const at = &m->bucket[mix(stamp) % SEEN_BUCKETS];
    for (seen *s = *at; s; s = s->next)
        if (s->page == page && s->stamp == stamp)
            return s;
    seen *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    *s = (seen){.next = *at, .page = page, .stamp = stamp};
    *at = s;
    return s;
}

static inline void complain_unless(memory *m, bool is_right, const char *complaint)
{
    if (!is_right && !m->complaint)
        m->complaint = complaint;
}

/* What kvcache.h promises of a page and its stamp, of whose tokens n_below are below `reused`. */
static inline void look_at_page(memory *m, const char *page, uint64_t stamp, int64_t n_below, bool is_filled)
{
    uint64_t row[PAGE_TOKENS];
    seen *const s = recall(m, page, stamp);
    const int64_t n_known = s->n_rows < n_below ? s->n_rows : n_below;
    complain_unless(m, stamp != 0, "a page has no stamp");
    complain_unless(m, !s->is_over, "a page and a stamp came again after a lease that wrote");
    complain_unless(m, !is_filled || s->n_rows <= n_below, "tokens are filled that were seen under this stamp");
    memcpy(row, page, (size_t)n_below * sizeof *row);
    complain_unless(m, memcmp(row, s->row, (size_t)n_known * sizeof *row) == 0, "a row changed under a stamp");
    m->n_known += (uint64_t)n_known;
    m->n_new += (uint64_t)(n_below - n_known);
    if (s->n_rows < n_below) {
        memcpy(s->row, row, sizeof *row * (size_t)n_below);
        s->n_rows = n_below;
    }
}

/* At the start of a lease, before anything is filled. */
static inline void look(
    memory *m, const hs_cache_lease *lease, int64_t n_tokens, char *const *page, const uint64_t *stamp)
{
    for (int64_t i = 0, first = 0; first < n_tokens; i++, first += PAGE_TOKENS) {
        const int64_t left = lease->reused > first ? lease->reused - first : 0;
        if (page[i])
            look_at_page(
                m, page[i], stamp[i], left < PAGE_TOKENS ? left : PAGE_TOKENS, left < PAGE_TOKENS && lease->writes);
        else
            complain_unless(m, stamp[i] == 0, "a page that is not there has a stamp");
    }
}

/* At its end, before it is committed or released. */
static inline void look_away(
    memory *m, const hs_cache_lease *lease, int64_t n_tokens, char *const *page, const uint64_t *stamp)
{
    for (int64_t i = lease->reused / PAGE_TOKENS; lease->writes && i < pages_of(n_tokens); i++)
        recall(m, page[i], stamp[i])->is_over = true;
}

static inline void forget(memory *m)
{
    for (int i = 0; i < SEEN_BUCKETS; i++)
        for (seen *s = m->bucket[i], *next; s; s = next) {
            next = s->next;
            free(s);
        }
    *m = (memory){.complaint = NULL};
}

#endif
