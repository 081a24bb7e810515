/* From raw logs to sequence files, and from sequence files to histories. */
#ifndef HSTU_DATASET_H
#define HSTU_DATASET_H

#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a call reports on its way. Every member may be NULL. Called from the calling thread only. */
typedef struct hstu_progress {
    void *ctx;
    /* `done` of `total` units ("bytes" or "rows") of `stage`; total 0 when it is not known. */
    void (*step)(void *ctx, const char *stage, uint64_t done, uint64_t total);
    /* One sentence, without a final newline. */
    void (*warn)(void *ctx, const char *sentence);
    /* When it becomes nonzero the call cleans up and returns HSTU_ECANCELLED. */
    const volatile int *cancel;
} hstu_progress;

/* ---- Preprocessing ---------------------------------------------------------------------------------------------- */

typedef struct hstu_preprocess_options {
    size_t size;              /* set by hstu_preprocess_options_init */
    const char *dataset_name; /* "KuaiRand-1K", ...-Pure, ...-27K, "ml-1m", "ml-20m" or "custom"; default KuaiRand-1K */
    const char *data_root;    /* holds <dataset_name>/ (KuaiRand also <dataset_name>/data/); default tmp_data */
    int64_t time_interval_s;  /* a new session starts when the gap to the previous event is >= this; default 300 */
    int64_t max_sequences;    /* sessions in the CSV; default 1024 */
    int64_t max_sequence_length; /* the last max_sequence_length + 1 events of a session are kept; default 256 */
    int allow_missing_logs;      /* nonzero: an absent log of the set is a warning instead of an error */
    hstu_progress progress;
    /* Bytes that preprocessing may take, at least 2^20, default 2 GiB; what does not fit waits in a temporary file of the output
     * folder. Counted is all that it allocates, but for some 100 KB a thread; pages that the kernel keeps of files are not. */
    uint64_t memory_limit;
    int threads; /* 0 (default): as many as this process may use. No output depends on it, nor on memory_limit */
    int no_text; /* nonzero: sequences.safetensors alone; older text files are removed */
    int no_hash; /* nonzero: inputs are not hashed, and xxh3_64 is null in the metadata */
    /* "custom" only: CSV files with a header line, plain or gzip. Results go into <data_root>/custom/. */
    const char *const *input; /* [n_inputs] paths; at equal times of a user the earlier file's rows come first */
    size_t n_inputs;
    const char *user_column, *item_column, *time_column; /* defaults "user_id", "item_id", "timestamp" */
    /* "is_click=1,is_like=2": the action is the sum of the weights (together at most 255) of the columns that are not 0, false
     * or empty. Without weights the first eight have 1, 2, 4, ... "rating=value": one column, whole numbers from 0 to 255,
     * that is the action. NULL (default) or "": every action is 0. */
    const char *action_columns;
    const char *time_unit; /* "s" (default), "ms", "us", "ns", or "iso": 2022-04-25T14:46:24Z */
    const char *delimiter; /* between fields: one character, or "tab"; default "," */
    int text_ids;          /* nonzero: ids are texts also where all are whole numbers, so they are numbered from 1 */
} hstu_preprocess_options;

typedef struct hstu_preprocess_report {
    uint64_t n_rows;           /* data rows of all logs */
    uint64_t n_users, n_items; /* distinct ids */
    uint64_t n_duplicates;     /* rows equal to an earlier row in every column */
    uint64_t n_unsorted;       /* rows whose time is before the same user's previous row in file order */
    uint64_t n_users_one_log;  /* users that not every log holds; 0 when there is one log */
    uint64_t n_sessions;       /* rows of processed_inference_sequences.csv */
    uint64_t vocab_size;       /* metadata.json's: largest video id + 1 over the sessions looked at */
    uint64_t n_features;       /* contextual features per user, 0 without a user_features file */
    uint64_t n_ranking_users;  /* rows of processed_seqs.csv: users that every log and the features file hold */
    double total_s;            /* seconds of the call; */
    double read_s;             /* those until the last row was read and parsed; */
    double disk_s;             /* those in which it waited at the end for all files to be on the disk */
    char sequences_path[1024]; /* the files written */
    char sessions_path[1024];
    char metadata_path[1024];
    char ranking_path[1024];    /* "" without a user_features file: then processed_seqs.csv is not written */
    char sasrec_path[1024];     /* MovieLens: sasrec_format.csv; else "" */
    char candidates_path[1024]; /* MovieLens: candidates.txt, "" without movies; else "" */
    char user_ids_path[1024];   /* custom: user_ids.csv where users are texts; else "" */
    char item_ids_path[1024];   /* custom: item_ids.csv where items are texts; else "" */
} hstu_preprocess_report;

HSTU_API void hstu_preprocess_options_init(hstu_preprocess_options *options);

/* KuaiRand: reads the set's standard logs and writes, under <data_root>/<dataset_name>/: sequences.safetensors (every event),
 * processed_inference_sequences.csv and metadata.json (sessions), and, where the set's user features are there,
 * processed_seqs.csv (NVIDIA's layout: one row a user); without them an older one is removed. Formats: docs/formats.md.
 * MovieLens: the same files, with processed_seqs.csv as NVIDIA's preprocessing writes it for MovieLens, and sasrec_format.csv
 * (Meta's layout) and candidates.txt (every movie's id). An event's action is the rating's class, from 0.
 * Custom: sequences.safetensors, processed_inference_sequences.csv and metadata.json, and item_ids.csv and user_ids.csv where
 * such ids are texts: a column whose ids are all whole numbers from 0 keeps them, any other is numbered from 1 in the order of
 * first appearance.
 * Each file appears under its name only when it is complete. HSTU_EINVAL for options, HSTU_ENOENT for absent logs (naming the expected path),
 * HSTU_EFORMAT with file, line and column for bad rows, HSTU_EIO, HSTU_ENOMEM, HSTU_ECANCELLED. */
HSTU_API hstu_status hstu_preprocess(
    const hstu_preprocess_options *options, hstu_preprocess_report *report, hstu_error *err);

/* ---- Synthetic logs --------------------------------------------------------------------------------------------- */

typedef struct hstu_synth_options {
    size_t size;           /* set by hstu_synth_options_init */
    const char *like;      /* the set whose shape and file names it takes, as dataset_name above; default KuaiRand-1K */
    const char *data_root; /* the files go into <data_root>/<set>/data/, which is made; default tmp_data */
    /* 0: of users as many as the real set has (but not more than events); of events likewise; of items as many for each
     * event as there. At most 10^8 users, 10^9 items, 2^32 - 2 events; at least one event a user. */
    int64_t users, items, events;
    uint64_t seed; /* default 1 */
    int threads;   /* 0: as many as there are processors; the files do not depend on it */
    int overwrite; /* nonzero: files of these names are replaced */
    hstu_progress progress;
} hstu_synth_options;

enum { HSTU_SYNTH_MAX_FILES = 5 };

typedef struct hstu_synth_report {
    int64_t users, items, events; /* as decided; events is the number of rows of all logs */
    uint64_t bytes;               /* of all files */
    int n_files;
    char path[HSTU_SYNTH_MAX_FILES][1024]; /* the logs, then the user features */
    uint64_t rows[HSTU_SYNTH_MAX_FILES];   /* of each file, without its header */
} hstu_synth_report;

HSTU_API void hstu_synth_options_init(hstu_synth_options *options);

/* Writes standard logs and user features in the format of a KuaiRand set and of its shape: heavy-tailed users and items, sessions,
 * actions, times, durations and duplicate rows at the real ones' rates. Every item appears when there are at least as many events
 * as items. Users ascend, a user's times mostly. The bytes depend on like, users, items, events and seed alone. Each file
 * appears under its name when it is complete. HSTU_EINVAL for options, HSTU_EIO for files that exist, a disk without the
 * room (before anything is written, as far as that can be told) and failed writes, HSTU_ENOMEM, HSTU_ECANCELLED. */
HSTU_API hstu_status hstu_synth(const hstu_synth_options *options, hstu_synth_report *report, hstu_error *err);

/* ---- Sequence files --------------------------------------------------------------------------------------------- */

typedef enum hstu_dataset_kind {
    HSTU_DATASET_EVENTS,   /* our sequences.safetensors: whole users, every event, raw ids, milliseconds */
    HSTU_DATASET_SESSIONS, /* the original's processed_inference_sequences.csv: sessions, raw ids, no times */
    HSTU_DATASET_SASREC,   /* Meta's sasrec_format.csv: whole users, model ids, seconds */
    HSTU_DATASET_RANKING   /* NVIDIA's processed_seqs.csv: whole users, raw ids, milliseconds, contextual features */
} hstu_dataset_kind;

typedef struct hstu_dataset hstu_dataset; /* immutable after open; may be shared by threads */

typedef struct hstu_dataset_info {
    hstu_dataset_kind kind;
    const char *name; /* "KuaiRand-Pure" where the file says it, else the file's name; lives as long as the dataset */
    int64_t n_users;  /* distinct users */
    int64_t n_events; /* events of all users or sessions */
    int64_t max_item; /* the largest item id in the file, -1 without events */
    int64_t max_user; /* the largest user id, -1 without users */
    int has_time;     /* events carry times */
} hstu_dataset_info;

/* Opens a sequence file, recognised by its content. HSTU_EFORMAT names file, line and column, or tensor. */
HSTU_API hstu_status hstu_dataset_open(
    hstu_dataset **out, const char *path, const hstu_progress *progress /* or NULL */, hstu_error *err);
HSTU_API void hstu_dataset_close(hstu_dataset *dataset); /* NULL is fine */
HSTU_API void hstu_dataset_get_info(const hstu_dataset *dataset, hstu_dataset_info *info);

/* Nonzero when `path` begins as a sequence file does: it is worth opening as one. Zero for anything else, also for what
 * cannot be read. */
HSTU_API int hstu_dataset_recognise(const char *path);

/* ---- Summaries -------------------------------------------------------------------------------------------------- */

enum { HSTU_SUMMARY_PERCENTILES = 8, HSTU_SUMMARY_TOP = 10, HSTU_SUMMARY_ACTIONS = 256 };

typedef struct hstu_summary {
    int64_t n_users;                          /* distinct */
    int64_t n_sequences;                      /* users, or the sessions of a sessions file */
    int64_t n_events, n_items;                /* distinct items */
    int64_t n_duplicates;                     /* events equal to an earlier one; -1: the file does not tell */
    int percent[HSTU_SUMMARY_PERCENTILES];    /* 0, 10, 25, 50, 75, 90, 99 and 100 */
    int64_t length[HSTU_SUMMARY_PERCENTILES]; /* events of a sequence: the least that so many percent do not exceed */
    int has_time;
    int64_t first_ms, last_ms; /* milliseconds since 1970, UTC */
    int action_is_mask; /* KuaiRand's bits (docs/formats.md 1.1), as far as can be told; else ratings or weights */
    int64_t n_with_action[HSTU_SUMMARY_ACTIONS]; /* events by action; a sasrec file's others are in none */
    int64_t n_top;                               /* at most HSTU_SUMMARY_TOP */
    int64_t top_item[HSTU_SUMMARY_TOP]; /* ids as in the file, most events first; of equal ones the smaller id */
    int64_t top_events[HSTU_SUMMARY_TOP];
} hstu_summary;

/* What a sequence file holds, for people to look at. Of items 192 MiB at most are counted at a time, more in several passes.
 * HSTU_ENOMEM, HSTU_ECANCELLED. */
HSTU_API hstu_status hstu_summary_make(
    hstu_summary *out, const hstu_dataset *dataset, const hstu_progress *progress /* or NULL */, hstu_error *err);

/* ---- Histories -------------------------------------------------------------------------------------------------- */

typedef enum hstu_protocol {
    HSTU_PROTOCOL_LEAVE_ONE_OUT, /* one sample a user: the last event is the target, all before it the history */
    HSTU_PROTOCOL_SESSIONS,      /* one sample a session: its last event is the target */
    HSTU_PROTOCOL_RANKING /* one sample a user, with candidates: hstu_ranking_samples_open, not hstu_histories_open */
} hstu_protocol;

/* A model's rules for making its inputs from events. */
typedef struct hstu_history_options {
    size_t size;            /* set by hstu_history_options_init */
    hstu_protocol protocol; /* default leave-one-out */
    int64_t item_id_offset; /* added to every id of an events or sessions file: model id = raw id + offset; default 1 */
    int64_t shift_id_by;    /* added to every id of a sasrec file (the reference's own name); default 0 */
    int64_t time_unit_ms;   /* events files: model time = time_ms / time_unit_ms, rounded down; default 1000 */
    int drop_duplicates;    /* events files: leave out rows equal to an earlier one; default 1 */
    int64_t min_events;     /* leave-one-out: users with fewer events are left out; default 3, at least 2 */
    int64_t max_history;    /* events kept before the target, the newest; 0: all (default) */
    int64_t time_interval_s; /* sessions from an events file, as in preprocessing; defaults 300, 1024, 256. */
    int64_t max_sequences;   /* Duplicates are kept there, as preprocessing does. */
    int64_t max_sequence_length;
} hstu_history_options;

/* Samples in the dataset's user order. The arrays belong to the object and live until hstu_histories_close. */
typedef struct hstu_histories {
    int64_t n;                  /* samples */
    int64_t n_skipped;          /* users or sessions left out by the rules */
    const int64_t *user_id;     /* [n] */
    const int64_t *offset;      /* [n + 1] into item_id, timestamp, action */
    const int64_t *item_id;     /* model ids, oldest first */
    const int64_t *timestamp;   /* model time, or NULL when the file has none */
    const int64_t *action;      /* action bit masks, or ratings of a sasrec file; NULL when the file has none */
    const int64_t *target_id;   /* [n], model ids */
    const int64_t *target_time; /* [n], or NULL */
    int64_t item_offset;        /* what was added to the file's ids: original id = model id - item_offset */
} hstu_histories;

HSTU_API void hstu_history_options_init(hstu_history_options *options);
/* HSTU_EINVAL when the protocol does not fit the kind of file (a sessions file has no leave-one-out, a sasrec file no
 * sessions), or a rule is out of range. No sample at all is HSTU_EINVAL, saying why. */
HSTU_API hstu_status hstu_histories_open(
    hstu_histories **out, const hstu_dataset *dataset, const hstu_history_options *options, hstu_error *err);
HSTU_API void hstu_histories_close(hstu_histories *histories); /* NULL is fine */

/* ---- Ranking samples -------------------------------------------------------------------------------------------- */

typedef enum hstu_truncation {
    HSTU_TRUNCATION_OLDEST, /* the first max_history + max_candidates events of a user, as the reference */
    HSTU_TRUNCATION_NEWEST  /* the last ones */
} hstu_truncation;

typedef enum hstu_split { HSTU_SPLIT_TEST, HSTU_SPLIT_TRAIN, HSTU_SPLIT_ALL } hstu_split;

/* How users become ranking requests. Source: the reference's HSTUSequenceDataset. */
typedef struct hstu_ranking_options {
    size_t size;            /* set by hstu_ranking_options_init */
    int64_t max_history;    /* events; default 4096 */
    int64_t max_candidates; /* users with more events than this are kept; each brings so many candidates; default 100 */
    hstu_truncation truncation; /* default oldest */
    hstu_split split;           /* of the kept users in row order; default test */
    double train_fraction;      /* the first (int)(train_fraction * kept users) are the training part; default 0.7 */
} hstu_ranking_options;

/* One sample a user, in the dataset's row order (events files: ascending user ids). The newest max_candidates
 * of the events that truncation leaves are the candidates, those before them the history. Duplicate rows stay, as in the
 * reference. Of an events file only users that every log and the features file hold are used. Owned by the object. */
typedef struct hstu_ranking_samples {
    int64_t n;
    int64_t n_short;            /* users left out: not more than max_candidates events */
    int64_t n_incomplete;       /* users left out: absent from a log or from the features file */
    const int64_t *user_id;     /* [n] */
    const int64_t *offset;      /* [n + 1] into item_id and action: each sample's history, oldest first; may be empty */
    const int64_t *item_id;     /* raw ids */
    const int64_t *action;      /* action bit masks */
    const int64_t *cand_offset; /* [n + 1] into cand_id and label */
    const int64_t *cand_id;
    const int64_t *label;            /* action bit masks of the candidates */
    int64_t n_features;              /* contextual features beside the user id */
    const char *const *feature_name; /* [n_features] "user_active_degree", ... */
    const int64_t *feature;          /* [n_features, n] codes, from 1 */
} hstu_ranking_samples;

HSTU_API void hstu_ranking_options_init(hstu_ranking_options *options);
/* HSTU_EINVAL for a kind of file that holds no whole users with actions, for options out of range, and, saying why, when
 * no sample is left. HSTU_ENOMEM. */
HSTU_API hstu_status hstu_ranking_samples_open(
    hstu_ranking_samples **out, const hstu_dataset *dataset, const hstu_ranking_options *options, hstu_error *err);
HSTU_API void hstu_ranking_samples_close(hstu_ranking_samples *samples); /* NULL is fine */

/* ---- Replay ----------------------------------------------------------------------------------------------------- */

/* How users' logs become requests in the order of time: each user's events are cut into intervals, and each interval is a
 * request that asks for its events with all earlier ones of the user as history. A new interval begins at the first event
 * that is interval_s or more after the first one of the current interval. Source: the inference preprocessing of NVIDIA's
 * recsys-examples, whose histories begin anew each day; here they run on. */
typedef struct hstu_replay_options {
    size_t size;         /* set by hstu_replay_options_init */
    int64_t interval_s;  /* default 60, at least 1; compared in the file's own unit of time, milliseconds or seconds */
    int64_t min_history; /* requests with fewer events in front are left out; default 1; 0: none is */
    int64_t min_events;  /* users with fewer events are left out; default 2, at least 1 */
    int64_t item_id_offset; /* these four as in hstu_history_options; defaults 1, 0, 1000, 1 */
    int64_t shift_id_by;
    int64_t time_unit_ms; /* of a ranking file too */
    int drop_duplicates;
    /* Nonzero: for ranking models, from an events or ranking file. Only users that every log and the features file hold,
     * with their contextual features; item_id_offset and drop_duplicates do not count: ids are raw and duplicates stay, as
     * in ranking samples. */
    int contextual;
} hstu_replay_options;

/* Users in the dataset's order (each row of a sasrec file counts as one), also those whose requests are all left out.
 * Owned by the object. */
typedef struct hstu_replay {
    int64_t n_users;
    int64_t n_users_skipped;         /* left out by min_events or, with `contextual`, for what a file lacks */
    const int64_t *user_id;          /* [n_users] */
    const int64_t *offset;           /* [n_users + 1] into the events' arrays */
    const int64_t *item_id;          /* model ids, oldest first */
    const int64_t *timestamp;        /* model time */
    const int64_t *action;           /* action bit masks, or ratings of a sasrec file */
    int64_t n_features;              /* with `contextual`: features beside the user id; else 0 */
    const char *const *feature_name; /* [n_features] */
    const int64_t *feature;          /* [n_features, n_users] codes, from 1 */
    int64_t item_offset;             /* what was added to the file's ids: original id = model id - item_offset */
    /* Requests by the file's time of their first target; at equal times in the order of the users. */
    int64_t n;
    int64_t n_skipped;          /* intervals left out by min_history */
    const int64_t *user;        /* [n] place of the user in user_id */
    const int64_t *begin, *end; /* [n] the targets are events begin .. end - 1, the history offset[user] .. begin - 1 */
} hstu_replay;

HSTU_API void hstu_replay_options_init(hstu_replay_options *options);
/* HSTU_EINVAL for a kind of file without times, for a ranking file without `contextual` and a sasrec file with it, for
 * options out of range, for times of a user that descend (a sasrec file may), and, saying why, when no request is left.
 * HSTU_ENOMEM. */
HSTU_API hstu_status hstu_replay_open(
    hstu_replay **out, const hstu_dataset *dataset, const hstu_replay_options *options, hstu_error *err);
HSTU_API void hstu_replay_close(hstu_replay *replay); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
