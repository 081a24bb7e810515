/* The references' text files of MovieLens, byte for byte as pandas writes them. */
#ifndef HS_DATA_MOVIELENS_CSV_H
#define HS_DATA_MOVIELENS_CSV_H

#include "base/outfile.h"
#include "data/eventsink.h"
#include "data/intlist.h"
#include "data/mlusers.h"

#include <stdbool.h>
#include <stdint.h>

/* What the files are made of; borrowed until the file is finished. */
typedef struct hs_movielens_events {
    const hs_event_users *all;
    const hs_mlusers *users; /* NULL: the set has none */
    bool halves;             /* a class is a number of halves less one, else the rating less one */
    bool fractions;          /* ratings are written with a point */
} hs_movielens_events;

/* A file under construction: one row a user, made of the blocks of a visit. */
typedef struct hs_movielens_csv hs_movielens_csv;

/* Meta's sasrec_format.csv: index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps, and of a set with users
 * sex,age_group,occupation,zip_code by order of values. Users ascend, where the reference shuffles them; equal times stay in
 * the order of the file, where the reference's depends on the machine. */
hstu_status hs_sasrec_csv_open(
    hs_movielens_csv **out, const char *path, const hs_movielens_events *from, hstu_error *err);
/* NVIDIA's processed_seqs.csv: user_id,movie_id,rating,unix_timestamp, and of a set with users sex,age_group,occupation,
 * zip_code by first appearance. Users that users.dat lacks are left out, as by the reference's inner merge. */
hstu_status hs_movielens_csv_open(
    hs_movielens_csv **out, const char *path, const hs_movielens_events *from, hstu_error *err);
/* Every block once, in turn. */
hstu_status hs_movielens_csv_put(hs_movielens_csv *csv, const hs_event_block *block, hstu_error *err);
/* On success *out is complete but for the commit. Frees csv, on failure too. *n_rows: users that it holds; or NULL. */
hstu_status hs_movielens_csv_finish(hs_outfile **out, hs_movielens_csv *csv, uint64_t *n_rows, hstu_error *err);
void hs_movielens_csv_discard(hs_movielens_csv *csv); /* NULL is fine */
/* One id a line: what `hstu run --candidates` reads. */
hstu_status hs_candidates_write(hs_outfile **out, const char *path, const hs_intlist *ids, hstu_error *err);

#endif
