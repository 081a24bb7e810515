/* Writing NVIDIA's processed_seqs.csv: one row a user, events as lists, then the user's contextual features. */
#ifndef HS_DATA_RANKING_CSV_H
#define HS_DATA_RANKING_CSV_H

#include "base/outfile.h"
#include "data/eventsink.h"
#include "data/features.h"

/* The users it has rows for: those that each of n_logs logs and the features file hold. */
uint64_t hs_ranking_csv_users(const hs_event_users *users, const hs_features *features, size_t n_logs);

/* The file as pandas' to_csv writes it, users ascending, made of blocks in two steps as hs_block_consumer has them. */
typedef struct hs_ranking_csv hs_ranking_csv;

/* Begins the file. users and features are borrowed until close; n_workers: numbers of workers that blocks come with;
 * buffer_bytes: text that each worker may keep. */
hstu_status hs_ranking_csv_open(hs_ranking_csv **out, const char *path, const hs_event_users *users,
    const hs_features *features, size_t n_logs, size_t n_workers, size_t buffer_bytes, hstu_error *err);
/* Makes text of the block, as far as there is room for it. From several threads at once. */
void hs_ranking_csv_prepare(hs_ranking_csv *csv, const hs_event_block *block);
/* Writes the text, and the block's rest. In the order of the blocks. */
hstu_status hs_ranking_csv_write(hs_ranking_csv *csv, const hs_event_block *block, hstu_error *err);
/* The file, to be committed or discarded by the caller; NULL after a second call. */
hs_outfile *hs_ranking_csv_take(hs_ranking_csv *csv);
void hs_ranking_csv_close(hs_ranking_csv *csv); /* NULL is fine; discards a file that was not taken */

#endif
