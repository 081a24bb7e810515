/* Inside the event sink. How the memory limit L is spent:
 *   5 L / 8 rows in memory, with the users of each piece, and the tables of users, those of pieces on disk too: at most 3 L / 8 of
 *           these. When the next rows might not fit, those in memory become a piece on disk.
 *   L / 4   blocks of a visit: columns and room to sort them
 *   L / 8   text that is read, rows that are parsed, items seen, text that is written: sized so by the number of threads
 * Of user features the text is not counted. Pages that the kernel keeps of files are not counted, nor are code, stacks and what the C library keeps for itself. */
#ifndef HS_DATA_EVENTSINK_INT_H
#define HS_DATA_EVENTSINK_INT_H

#include "data/eventsink.h"
#include "data/idtable.h"
#include "data/itemset.h"
#include "data/pieces.h"
#include "data/spillfile.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct hs_sink_user {
    int64_t n, n_held; /* rows, and those of them in memory */
    uint64_t logs;     /* bit per log */
} hs_sink_user;

typedef struct hs_slab {
    unsigned char *memory;
    size_t bytes, used;
} hs_slab;

struct hs_eventsink {
    hs_eventsink_options options;
    size_t n_threads;
    uint64_t rows_limit, visit_limit, table_limit; /* bytes */
    size_t block_rows;                             /* of a visit's usual block */
    pthread_mutex_t lock;                          /* what commits change */
    hs_slab *slab;
    size_t n_slabs, cap_slabs;
    uint64_t slab_bytes; /* of all slabs */
    hs_piece *piece;     /* those on disk first */
    size_t n_pieces, cap_pieces, n_on_disk;
    uint64_t disk_user_bytes; /* of user lists of pieces on disk */
    hs_spillfile *spill;
    hs_idtable table;
    hs_sink_user *user; /* [table.n] */
    size_t cap_users;
    uint64_t n_rows, n_likely_duplicates, n_likely_unsorted, n_items;
    int64_t max_item;
    hs_itemset *items;    /* [n_threads] */
    hs_eventrows pending; /* of hs_eventsink_add */
    uint8_t pending_log;
    uint64_t next_place;
    /* From finish on. */
    hs_userlist users;
    uint64_t *logs; /* [users.n] */
};

/* For readers that parse on several threads. Rounds of: commits from all threads, then, with no commit running, a flush. */

/* Bytes of text that a thread should read at once. */
size_t hs_eventsink_text_bytes(const hs_eventsink *sink);
/* Whether the round should end, when each thread may still commit what it parses from so many bytes of text. */
bool hs_eventsink_full(hs_eventsink *sink, size_t text_bytes);
/* Takes rows of one log. place: ascending in the order of the logs. Several threads at once, each its own worker number. */
hstu_status hs_eventsink_commit(
    hs_eventsink *sink, size_t worker, hs_eventrows *rows, uint8_t log, uint64_t place, hstu_error *err);
/* What is in memory becomes one piece on disk. */
hstu_status hs_eventsink_flush(hs_eventsink *sink, hstu_error *err);
/* Frees the memory of all pieces that are not on disk. */
void hs_eventsink_free_slabs(hs_eventsink *sink);

/* A block's rows: the users `first_user` .. of `users`, gathered from pieces in their order. */
typedef struct hs_gathered {
    const hs_userlist *users;
    size_t first_user, n_users;
    uint64_t index;  /* number of the block */
    size_t n;        /* rows */
    void *columns;   /* n * HS_EVENT_BYTES */
    void *spare;     /* as large */
    int64_t *offset; /* [n_users + 1] from 0 */
    size_t worker;
} hs_gathered;

typedef struct hs_blockwalk hs_blockwalk;
typedef hstu_status (*hs_block_fn)(hs_blockwalk *walk, hs_gathered *block, hstu_error *err);

/* Cuts users into blocks, gathers each from pieces and gives it to fn, on all threads. */
struct hs_blockwalk {
    hs_eventsink *sink;
    const hs_userlist *users;
    const hs_piece *piece;
    size_t n_pieces;
    hs_block_fn fn;
    void *ctx;
    const char *stage; /* for the progress */
    /* private */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t next_user;
    uint64_t next_index, turn;
    uint64_t large_limit, large_bytes; /* for blocks above the usual size; what is left of it */
    bool stopped;
    uint64_t failed_index;
    hstu_status status;
    hstu_error error;
};

hstu_status hs_blockwalk_run(hs_blockwalk *walk, hstu_error *err);
/* Waits until every block before this one has passed the turn on. False: the walk has failed. */
bool hs_blockwalk_wait(hs_blockwalk *walk, uint64_t index);
void hs_blockwalk_pass(hs_blockwalk *walk);

/* Gathers block->n rows into block->columns; uses spare. */
hstu_status hs_gather(const hs_blockwalk *walk, hs_gathered *block, hstu_error *err);
/* Sorts each user's rows by time and marks duplicates. */
void hs_block_sort(hs_gathered *block, uint64_t *n_duplicates, uint64_t *n_unsorted);

#endif
