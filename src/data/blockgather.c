/* A block of users from all pieces: gathering, sorting by time, marking duplicates. */
#include "data/eventsink_int.h"

#include "base/error.h"

#include <string.h>

/* The first of list->id from `from` on that is not below id: near ones are found soon. */
static size_t find_user(const hs_userlist *list, size_t from, size_t end, int64_t id)
{
    size_t step = 1;
    while (from < end && list->id[from] < id) {
        const size_t left = end - from;
        const size_t jump = step < left ? step : left;
        if (list->id[from + jump - 1] < id) {
            from += jump;
            step *= 2;
        } else {
            end = from + jump;
            step = 1;
        }
    }
    return from;
}

/* Where a piece's rows are read from while its users are handed out. */
typedef struct source {
    const unsigned char *column[HS_EVENT_COLUMNS]; /* of row `first` */
    int64_t first;
} source;

/* The rows of users [from, end) of a piece on disk, into `spare`. */
static hstu_status read_rows(
    source *s, const hs_blockwalk *walk, const hs_piece *piece, size_t from, size_t end, void *spare, hstu_error *err)
{
    const uint64_t first = (uint64_t)piece->users.first[from];
    const size_t n = (size_t)(piece->users.first[end] - piece->users.first[from]);
    unsigned char *to = spare;
    for (size_t c = 0; c < HS_EVENT_COLUMNS; c++) {
        const size_t size = hs_event_column_bytes[c];
        const uint64_t at = piece->file_at + hs_event_column_start[c] * piece->n + first * size;
        HS_TRY(hs_spillfile_read(walk->sink->spill, at, to, n * size, err));
        s->column[c] = to;
        to += n * size;
    }
    s->first = (int64_t)first;
    return HSTU_OK;
}

static void point_at_rows(source *s, const hs_piece *piece)
{
    for (size_t c = 0; c < HS_EVENT_COLUMNS; c++)
        s->column[c] = piece->memory + hs_event_column_start[c] * piece->n;
    s->first = 0;
}

static void copy_rows(const hs_gathered *block, size_t at, const source *s, int64_t first, int64_t end)
{
    unsigned char *to = block->columns;
    const size_t n = (size_t)(end - first), from = (size_t)(first - s->first);
    for (size_t c = 0; c < HS_EVENT_COLUMNS; c++) {
        const size_t size = hs_event_column_bytes[c];
        memcpy(to + hs_event_column_start[c] * block->n + at * size, s->column[c] + from * size, n * size);
    }
}

/* offset[i + 1] counts up from where user i's rows begin to where they end. */
static hstu_status gather_piece(const hs_blockwalk *walk, const hs_piece *piece, hs_gathered *block, hstu_error *err)
{
    const hs_userlist *wanted = block->users, *have = &piece->users;
    const size_t last = block->first_user + block->n_users;
    size_t user = block->first_user;
    if (have->n == 0 || have->id[have->n - 1] < wanted->id[user] || have->id[0] > wanted->id[last - 1])
        return HSTU_OK;
    const size_t from = find_user(have, 0, have->n, wanted->id[user]);
    size_t end = find_user(have, from, have->n, wanted->id[last - 1]);
    end += end < have->n && have->id[end] == wanted->id[last - 1];
    source s;
    if (from == end)
        return HSTU_OK;
    if (piece->memory)
        point_at_rows(&s, piece);
    else
        HS_TRY(read_rows(&s, walk, piece, from, end, block->spare, err));
    for (size_t i = from; i < end; i++) {
        user = find_user(wanted, user, last, have->id[i]); /* every user of a piece is among the wanted ones */
        int64_t *at = &block->offset[user - block->first_user + 1];
        copy_rows(block, (size_t)*at, &s, have->first[i], have->first[i + 1]);
        *at += have->first[i + 1] - have->first[i];
    }
    return HSTU_OK;
}

hstu_status hs_gather(const hs_blockwalk *walk, hs_gathered *block, hstu_error *err)
{
    const int64_t *first = block->users->first + block->first_user;
    block->offset[0] = 0;
    for (size_t i = 0; i < block->n_users; i++)
        block->offset[i + 1] = first[i] - first[0];
    for (size_t i = 0; i < walk->n_pieces; i++)
        HS_TRY(gather_piece(walk, &walk->piece[i], block, err));
    return HSTU_OK;
}

/* ---- Sorting ---------------------------------------------------------------------------------------------------- */

typedef struct sorter {
    hs_event_columns c;      /* of the block */
    hs_sort_key *key, *more; /* room for two of the block's rows each */
} sorter;

static void permute(void *column, size_t size, const hs_sort_key *order, size_t n, void *room)
{
    memcpy(room, column, n * size);
    for (size_t i = 0; i < n; i++)
        memcpy((char *)column + i * size, (const char *)room + (size_t)order[i].value * size, size);
}

static void sort_times(const sorter *s, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) /* flipping the sign bit makes the unsigned order the signed one */
        s->key[i] = (hs_sort_key){(uint64_t)s->c.time_ms[first + i] ^ (uint64_t)1 << 63, i};
    hs_sort_keys(s->key, s->more, n);
    permute(s->c.item + first, sizeof *s->c.item, s->key, n, s->more);
    permute(s->c.time_ms + first, sizeof *s->c.time_ms, s->key, n, s->more);
    permute(s->c.hash + first, sizeof *s->c.hash, s->key, n, s->more);
    permute(s->c.play_time_ms + first, sizeof *s->c.play_time_ms, s->key, n, s->more);
    permute(s->c.duration_ms + first, sizeof *s->c.duration_ms, s->key, n, s->more);
    permute(s->c.action + first, 1, s->key, n, s->more);
    permute(s->c.flags + first, 1, s->key, n, s->more);
}

/* The hash stands for the columns that are not kept. */
static bool same_row(const hs_event_columns *c, size_t i, size_t k)
{
    return c->hash[i] == c->hash[k] && c->item[i] == c->item[k] && c->play_time_ms[i] == c->play_time_ms[k] &&
           c->duration_ms[i] == c->duration_ms[k] && c->action[i] == c->action[k];
}

/* Equal for equal rows. */
static uint64_t row_key(const hs_event_columns *c, size_t i)
{
    const uint64_t times = (uint64_t)(uint32_t)c->play_time_ms[i] << 32 | (uint32_t)c->duration_ms[i];
    return c->hash[i] + (uint64_t)c->item[i] * 0x9e3779b97f4a7c15 + times * 0xd6e8feb86659fd93 +
           c->action[i] * UINT64_C(0xbf58476d1ce4e5b9);
}

/* Marks, among rows [first, first + n) of one user and time, those that equal an earlier one. */
static uint64_t mark_duplicates(const sorter *s, size_t first, size_t n)
{
    uint64_t n_marked = 0;
    for (size_t i = 0; i < n; i++)
        s->key[i] = (hs_sort_key){row_key(&s->c, first + i), first + i};
    if (n > 2)
        hs_sort_keys(s->key, s->more, n);
    for (size_t i = 1, original = 0; i < n; i++) {
        if (same_row(&s->c, (size_t)s->key[i].value, (size_t)s->key[original].value)) {
            s->c.flags[s->key[i].value] |= HS_EVENT_DUPLICATE;
            n_marked++;
        } else {
            original = i;
        }
    }
    return n_marked;
}

void hs_block_sort(hs_gathered *block, uint64_t *n_duplicates, uint64_t *n_unsorted)
{
    sorter s = {.c = hs_event_columns_over(block->columns, block->n), .key = block->spare};
    s.more = s.key + block->n;
    for (size_t u = 0; u < block->n_users; u++) {
        const size_t first = (size_t)block->offset[u], end = (size_t)block->offset[u + 1];
        uint64_t descents = 0;
        for (size_t i = first + 1; i < end; i++)
            descents += s.c.time_ms[i] < s.c.time_ms[i - 1];
        *n_unsorted += descents;
        if (descents)
            sort_times(&s, first, end - first);
        for (size_t i = first, k; i < end; i = k) {
            for (k = i + 1; k < end && s.c.time_ms[k] == s.c.time_ms[i]; k++)
                ;
            if (k - i > 1)
                *n_duplicates += mark_duplicates(&s, i, k - i);
        }
    }
}
