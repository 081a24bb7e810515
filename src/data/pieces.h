/* Rows on their way to sorted users: collected as columns, then kept in pieces, each grouped by user. */
#ifndef HS_DATA_PIECES_H
#define HS_DATA_PIECES_H

#include "data/events.h"
#include "data/sortkeys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece's columns lie one behind the other: item, time_ms, hash, play_time_ms, duration_ms, action, flags. */
enum { HS_EVENT_COLUMNS = 7, HS_EVENT_BYTES = 34 };
extern const uint8_t hs_event_column_bytes[HS_EVENT_COLUMNS]; /* of a row in each column */
extern const uint8_t hs_event_column_start[HS_EVENT_COLUMNS]; /* bytes of a row in the columns before */

typedef struct hs_event_columns {
    int64_t *item, *time_ms;
    uint64_t *hash;
    int32_t *play_time_ms, *duration_ms;
    uint8_t *action, *flags;
} hs_event_columns;

/* The columns of n rows over n * HS_EVENT_BYTES bytes at an address that 8 divides. */
hs_event_columns hs_event_columns_over(void *memory, size_t n);

/* Rows in the order of their log, all of one log. */
typedef struct hs_eventrows {
    size_t n, capacity;
    int64_t *user, *item, *time_ms;
    uint64_t *hash;
    int32_t *play_time_ms, *duration_ms;
    uint8_t *action;
    hs_sort_key *run, *spare; /* [capacity] runs of rows of one user: key user, value first row << 32 | rows */
    void *memory;
} hs_eventrows;

/* False without memory. capacity < 2^32. */
bool hs_eventrows_init(hs_eventrows *rows, size_t capacity);
void hs_eventrows_free(hs_eventrows *rows); /* a zeroed one is fine */

/* Distinct users, ascending; user i has rows first[i] .. first[i + 1] - 1. */
typedef struct hs_userlist {
    size_t n;
    int64_t *id, *first; /* [n], [n + 1] */
} hs_userlist;

/* Rows grouped by user; each user's in the order of the logs. */
typedef struct hs_piece {
    uint64_t place; /* pieces in this order are in the order of the logs */
    uint64_t n;     /* rows */
    hs_userlist users;
    unsigned char *memory; /* the columns; NULL: they lie in the spill file */
    uint64_t file_at;      /* there */
} hs_piece;

/* Fills rows->run with runs by ascending user, equal users in their order. Returns the number of runs; *n_users: of distinct
 * users. */
size_t hs_eventrows_group(hs_eventrows *rows, size_t *n_users);
/* Fills a piece, whose memory and users have room, from grouped rows. */
void hs_piece_fill(hs_piece *piece, const hs_eventrows *rows, size_t n_runs, uint8_t flags);

#endif
