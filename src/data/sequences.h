/* sequences.safetensors: our binary sequence file, every event of whole users, never cut and never filtered.
 *   user_id i64 [U]      ascending
 *   offset i64 [U + 1]   from 0 to E: user u's events are offset[u] .. offset[u + 1] - 1, by (time_ms, place in the logs)
 *   feature.<column> i64 [U], for each of hs_feature_name when there is a user_features file: numbers from 1, 0 unknown
 *   item i64 [E]         video_id, >= 0
 *   time_ms i64 [E];  play_time_ms, duration_ms i32 [E]
 *   action u8 [E]        is_click 1, is_like 2, is_follow 4, is_comment 8, is_forward 16, is_hate 32, long_view 64,
 *                        is_profile_enter 128: a bit is set when the column is not 0
 *   flags u8 [E]         bit 0: equal in every column to an earlier row; bits 1..6: which log, in the order of `inputs`
 * __metadata__: format "hstu_sequences", format_version "1", dataset_name, and as JSON: n_logs (which no log's
 * number reaches), options, inputs (name, bytes, XXH3 of each file), counts, warnings, feature_values (the texts behind the
 * numbers, non-ASCII bytes as '?'). */
#ifndef HS_DATA_SEQUENCES_H
#define HS_DATA_SEQUENCES_H

#include "base/json.h"
#include "base/mapfile.h"
#include "data/eventsink.h"
#include "data/features.h"
#include "file/safetensors.h"

enum { HS_SEQUENCES_MAX_COLUMNS = 8 + HS_FEATURES_N };

typedef struct hs_sequences_writer hs_sequences_writer;

/* Under a temporary name. metadata: an object whose members become __metadata__, text as it is, anything else as JSON; of the
 * same length as the final ones if possible: else the finish moves all bytes. features NULL: none. users and features are
 * written here. */
hstu_status hs_sequences_create(hs_sequences_writer **out, const char *path, const hs_event_users *users,
    const hs_features *features, const cJSON *metadata, hstu_error *err);
/* A block of events; each once, from several threads at once. */
hstu_status hs_sequences_put(hs_sequences_writer *writer, const hs_event_block *block, hstu_error *err);
/* After every block: the final metadata, with the members that create was given; and all onto the disk. */
hstu_status hs_sequences_finish(hs_sequences_writer *writer, const cJSON *metadata, hstu_error *err);
/* Gives the file its name; frees the writer, on failure too. */
hstu_status hs_sequences_commit(hs_sequences_writer *writer, hstu_error *err);
void hs_sequences_discard(hs_sequences_writer *writer); /* NULL is fine */

typedef struct hs_sequences {
    hs_event_view view;
    int64_t max_item;                      /* -1 without events */
    const char *dataset_name;              /* NULL when the file does not say */
    int64_t n_logs;                        /* 0 when the file does not say */
    const int64_t *feature[HS_FEATURES_N]; /* [n_users] each, by hs_feature_name; NULL where the file lacks it */
    hs_statedict dict;                     /* owns the map */
    void *copy[HS_SEQUENCES_MAX_COLUMNS];  /* columns that the file holds at an odd address */
    size_t n_copies;
} hs_sequences;

/* Reads a mapped safetensors file and checks all of it: lengths, offsets, order, ranges. On success *out owns the map
 * (zeroed in the caller). */
hstu_status hs_sequences_read(
    hs_sequences *out, hs_mapfile *map, const char *path, const hstu_progress *progress, hstu_error *err);
void hs_sequences_close(hs_sequences *sequences); /* a zeroed one is fine */

#endif
