/* Synthetic logs of KuaiRand's shape: what they look like, who has how many events, and the rows as text. */
#ifndef HS_DATA_SYNTH_H
#define HS_DATA_SYNTH_H

#include "data/kuairand.h"
#include "hstu/dataset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HS_SYNTH_PERIODS = 2,         /* 8 to 21 April, 22 April to 8 May 2022 */
    HS_SYNTH_MAX_PARTS = 2,       /* files of a period */
    HS_SYNTH_KNOTS = 17,          /* of a table of quantiles */
    HS_SYNTH_ITEM_STEPS = 256,    /* steps of an item's popularity */
    HS_SYNTH_BLOCK_EVENTS = 4096, /* most events of a block */
    HS_SYNTH_ROW_BYTES = 112,     /* more than the longest row has */
    HS_SYNTH_HOURS = 31 * 24 + 2,
    HS_SYNTH_TABS = 15
};

/* A share of the rows, of 65536, and what it gets. */
typedef struct hs_synth_share {
    uint8_t value;
    uint16_t share;
} hs_synth_share;

/* What is typical of a data set. Sources of the figures: synth_shape.c. */
typedef struct hs_synth_shape {
    int64_t users, items, events; /* of the published set */
    uint32_t first_share;         /* of the events: in the first period, of 65536 */
    uint32_t session_events;      /* mean length of a session */
    double popularity[4];         /* rank of an item as a share of all = sum of popularity[i] * u^power[i], u uniform */
    int power[4];
    const int32_t *duration;   /* [HS_SYNTH_KNOTS] ms */
    const hs_synth_share *tab; /* [HS_SYNTH_TABS] */
    const uint16_t *click;     /* [HS_SYNTH_TABS] share of clicks in a tab, of 65536 */
} hs_synth_shape;

const hs_synth_shape *hs_synth_shape_of(const hs_kuairand_set *set);

/* Quantiles that hold for every set, in ms. */
extern const int32_t hs_synth_skipped_ms[HS_SYNTH_KNOTS], hs_synth_watched_ms[HS_SYNTH_KNOTS],
    hs_synth_long_ms[HS_SYNTH_KNOTS], hs_synth_comment_ms[HS_SYNTH_KNOTS];
/* Masks of actions (docs/formats.md 1.1) without and with a click, most frequent first; the rest gets the first one. */
enum { HS_SYNTH_MASKS = 20 };
extern const hs_synth_share hs_synth_masks[2][HS_SYNTH_MASKS];
/* Events in each hour of the day, of 10000 or so. */
extern const uint16_t hs_synth_hour[24];

typedef struct hs_synth_block {
    int64_t user;
    uint32_t number; /* among the user's blocks of the period */
} hs_synth_block;

/* What is decided before the first row is made; the same for all threads. */
typedef struct hs_synth_plan {
    const hs_synth_shape *shape;
    int64_t users, items, events;
    uint64_t seed;
    int64_t *offset;    /* [users + 1]: event number of the user's first event; the first period's come first */
    int64_t *first;     /* [users] events of the first period */
    uint64_t item_step; /* an item's id is (rank * item_step + item_shift) % items */
    uint64_t item_shift;
    uint32_t duplicate;                     /* share of rows that repeat the one before, of 65536 */
    uint64_t rank[HS_SYNTH_ITEM_STEPS + 1]; /* item ranks, by popularity, in 1/256 */
    char hour[HS_SYNTH_HOURS][16];          /* "20220408,1500," */
    uint8_t hour_bytes[HS_SYNTH_HOURS];
    char flags[256][16]; /* "1,0,0,0,0,0,1," */
    int64_t day_units;   /* activity of a day */
} hs_synth_plan;

/* HSTU_ENOMEM. users, items, events >= 1 and within hstu_synth's limits. */
hstu_status hs_synth_plan_init(hs_synth_plan *plan, const hs_synth_shape *shape, int64_t users, int64_t items,
    int64_t events, uint64_t seed, hstu_error *err);
void hs_synth_plan_free(hs_synth_plan *plan); /* a zeroed one is fine */
int64_t hs_synth_period_events(const hs_synth_plan *plan, int period, int64_t user);

/* Text of the rows of one chunk, by file of the period. */
typedef struct hs_synth_text {
    char *data[HS_SYNTH_MAX_PARTS];
    size_t n[HS_SYNTH_MAX_PARTS];
    uint64_t rows[HS_SYNTH_MAX_PARTS];
    const char *last_row[HS_SYNTH_MAX_PARTS]; /* of this block; NULL before the first one */
} hs_synth_text;

extern const char hs_synth_log_header[];
/* Appends the rows of a block: at most HS_SYNTH_BLOCK_EVENTS times HS_SYNTH_ROW_BYTES. */
void hs_synth_rows(hs_synth_text *text, const hs_synth_plan *plan, int period, size_t n_parts, hs_synth_block block);

extern const char hs_synth_users_header[];
enum { HS_SYNTH_USER_BYTES = 320 };
/* One row of user_features, its line end with it; gives its length, at most HS_SYNTH_USER_BYTES. */
size_t hs_synth_user_row(char *out, uint64_t seed, int64_t user);

#endif
