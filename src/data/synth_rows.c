/* The rows of a block of one user's events: random numbers from (seed, period, user, block) alone, so that blocks can be made in
 * any order. Integers throughout. */
#include "data/synth.h"
#include "data/synth_random.h"

const char hs_synth_log_header[] =
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n";

static const int64_t begin_ms = 1649347200000; /* 8 April 2022, midnight in Beijing */
static const int64_t hour_ms = 3600000;
static const int period_day[HS_SYNTH_PERIODS + 1] = {0, 14, 31};

enum { ACTIVITY_SHIFT = 12, MEAN_GAP_MS = 20000, LATE_MS = 60000, LONG_MS = 18000 };
/* Shares of 65536. */
enum {
    HOUR_AHEAD = 11471,         /* date and hourmin are an hour ahead of time_ms */
    SAME_TIME = 604,            /* a row with the time of the one before */
    LATE = 128,                 /* a row whose time is before that of the one before */
    COMMENTS_SEEN = 6267,       /* of the clicked */
    COMMENTS_SEEN_SKIPPED = 163 /* of the others */
};

/* What one block's rows have in common, and where they have got to. */
typedef struct row_maker {
    const hs_synth_plan *plan;
    hs_synth_random random;
    size_t n_parts;
    char user[HS_SYNTH_PUT_BYTES + 8]; /* "123," */
    size_t user_bytes;
    uint64_t covered, cover_rest; /* items that must appear: the next one's rank, and how near it is */
    bool covers;
    int64_t period_begin, period_end; /* ms since begin_ms */
    int64_t first_unit, units;        /* activity: where the block begins in the period, and what it spans */
    int64_t n, time;                  /* events; ms since begin_ms */
    uint32_t gap_ms, session_share;
} row_maker;

/* Activity units since the period's begin as ms since begin_ms: people are awake by day. */
static int64_t wall_time(const row_maker *maker, int64_t units)
{
    const int64_t day = maker->plan->day_units << ACTIVITY_SHIFT;
    int64_t rest = units % day;
    int hour = 0;
    while (hour < 23 && rest >= (int64_t)hs_synth_hour[hour] << ACTIVITY_SHIFT)
        rest -= (int64_t)hs_synth_hour[hour++] << ACTIVITY_SHIFT;
    const int64_t in_hour = rest * hour_ms / ((int64_t)hs_synth_hour[hour] << ACTIVITY_SHIFT);
    return maker->period_begin + units / day * 24 * hour_ms + hour * hour_ms + in_hour;
}

static void begin_block(row_maker *maker, const hs_synth_plan *plan, int period, size_t n_parts, hs_synth_block block)
{
    const int64_t n = hs_synth_period_events(plan, period, block.user);
    const int64_t n_blocks = (n + HS_SYNTH_BLOCK_EVENTS - 1) / HS_SYNTH_BLOCK_EVENTS;
    const int64_t first = (int64_t)block.number * HS_SYNTH_BLOCK_EVENTS;
    const int days = period_day[period + 1] - period_day[period];
    const int64_t units = days * plan->day_units << ACTIVITY_SHIFT;
    const uint64_t event = (uint64_t)(plan->offset[block.user] + (period ? plan->first[block.user] : 0) + first);
    *maker = (row_maker){.plan = plan, .n_parts = n_parts};
    maker->random = hs_synth_random_of(
        plan->seed, (uint64_t)(HS_SYNTH_STREAM_ROWS + period), (uint64_t)block.user << 24 ^ block.number);
    maker->n = n - first < HS_SYNTH_BLOCK_EVENTS ? n - first : HS_SYNTH_BLOCK_EVENTS;
    maker->period_begin = maker->time = period_day[period] * 24 * hour_ms;
    maker->period_end = period_day[period + 1] * 24 * hour_ms;
    maker->first_unit = units / n_blocks * block.number;
    maker->units = units / n_blocks;
    maker->covers = plan->items <= plan->events;
    maker->covered = event * (uint64_t)plan->items / (uint64_t)plan->events;
    maker->cover_rest = event * (uint64_t)plan->items % (uint64_t)plan->events;
    const int64_t even_gap = days * 24 * hour_ms / n / 2;
    maker->gap_ms = (uint32_t)(even_gap < MEAN_GAP_MS ? even_gap : MEAN_GAP_MS);
    maker->session_share = 65536 / plan->shape->session_events;
    char *end = hs_synth_put(maker->user, (uint64_t)block.user);
    *end++ = ',';
    maker->user_bytes = (size_t)(end - maker->user);
}

/* Whether the next event is the one for an item that must appear. */
static bool covers_item(row_maker *maker, uint64_t *rank)
{
    if (!maker->covers)
        return false;
    maker->cover_rest += (uint64_t)maker->plan->items;
    if (maker->cover_rest < (uint64_t)maker->plan->events)
        return false;
    maker->cover_rest -= (uint64_t)maker->plan->events;
    *rank = maker->covered++;
    return true;
}

static uint64_t draw_rank(const hs_synth_plan *plan, uint32_t bits)
{
    const uint64_t *step = &plan->rank[bits >> 24];
    return (step[0] + ((step[1] - step[0]) * (bits & 0xFFFFFF) >> 24)) >> 8;
}

static uint8_t draw_share(const hs_synth_share *share, size_t n, uint32_t bits, size_t *place)
{
    for (size_t i = 0; i < n; i++) {
        if (bits < share[i].share) {
            *place = i;
            return share[i].value;
        }
        bits -= share[i].share;
    }
    *place = 0;
    return share[0].value;
}

/* Moves the time on to event number k: a new session begins where activity has got to, others follow soon. */
static void pass_time(row_maker *maker, int64_t k, uint64_t bits)
{
    const uint32_t kind = bits & 0xFFFF, amount = bits >> 16 & 0xFFFF;
    if (k > 0 && (bits >> 32 & 0xFFFF) < SAME_TIME)
        return;
    if (k == 0 || kind < maker->session_share) {
        const int64_t units = maker->units * (k * 65536 + amount) / (maker->n * 65536);
        const int64_t at = wall_time(maker, maker->first_unit + units);
        maker->time = at > maker->time ? at : maker->time;
    } else {
        maker->time += (int64_t)((uint64_t)maker->gap_ms * 2 * amount >> 16);
    }
    if (maker->time >= maker->period_end)
        maker->time = maker->period_end - 1;
}

static char *put_small(char *at, uint64_t x)
{
    if (x < 10) {
        *at = (char)('0' + x);
        return at + 1;
    }
    return hs_synth_put(at, x);
}

/* is_click to tab. */
static char *put_reaction(row_maker *maker, char *at, uint64_t item, uint64_t bits)
{
    const hs_synth_shape *shape = maker->plan->shape;
    size_t place = 0, ignored = 0;
    const uint8_t tab = draw_share(shape->tab, HS_SYNTH_TABS, bits & 0xFFFF, &place);
    const bool click = (bits >> 16 & 0xFFFF) < shape->click[tab];
    const uint8_t mask = draw_share(hs_synth_masks[click], HS_SYNTH_MASKS, bits >> 32 & 0xFFFF, &ignored);
    const uint32_t amount = (uint32_t)(bits >> 48);
    const int32_t duration =
        hs_synth_quantile(shape->duration, (uint32_t)(hs_synth_mix(item ^ maker->plan->seed << 32) & 0xFFFF));
    int32_t play = hs_synth_quantile(click ? hs_synth_watched_ms : hs_synth_skipped_ms, amount);
    if (mask & 64)
        play = hs_synth_quantile(hs_synth_long_ms, amount) + (duration > 0 && duration < LONG_MS ? duration : LONG_MS);
    memcpy(at, maker->plan->flags[mask], 16);
    at = hs_synth_put(at + 14, (uint64_t)play);
    *at++ = ',';
    at = hs_synth_put(at, (uint64_t)duration);
    const uint64_t more = hs_synth_mix(bits);
    const bool comments = (more & 0xFFFF) < (click ? COMMENTS_SEEN : COMMENTS_SEEN_SKIPPED);
    const bool profile = (mask & 128) && (more >> 16 & 0xFF) == 0;
    *at++ = ',';
    at = put_small(at, profile ? 1000 + (more >> 24 & 0xFFF) : 0);
    *at++ = ',';
    at = put_small(at, comments ? (uint64_t)hs_synth_quantile(hs_synth_comment_ms, more >> 40 & 0xFFFF) : 0);
    memcpy(at, mask & 128 ? ",1,0," : ",0,0,", 5);
    at = put_small(at + 5, tab);
    *at++ = '\n';
    return at;
}

static char *put_row(row_maker *maker, char *at, uint64_t rank, uint64_t bits)
{
    const hs_synth_plan *plan = maker->plan;
    const uint64_t item = (rank * plan->item_step + plan->item_shift) % (uint64_t)plan->items;
    int64_t time = maker->time;
    if ((bits & 0xFFFF) < LATE)
        time -= (int64_t)(bits >> 16 & 0xFFFF) % LATE_MS;
    time = time < maker->period_begin ? maker->period_begin : time;
    const int64_t hour = time / hour_ms + ((bits >> 32 & 0xFFFF) < HOUR_AHEAD);
    memcpy(at, maker->user, sizeof maker->user);
    at = hs_synth_put(at + maker->user_bytes, item);
    *at++ = ',';
    memcpy(at, plan->hour[hour], sizeof plan->hour[hour]);
    at = hs_synth_put(at + plan->hour_bytes[hour], (uint64_t)(begin_ms + time));
    *at++ = ',';
    return put_reaction(maker, at, item, hs_synth_next(&maker->random));
}

void hs_synth_rows(hs_synth_text *text, const hs_synth_plan *plan, int period, size_t n_parts, hs_synth_block block)
{
    row_maker maker;
    begin_block(&maker, plan, period, n_parts, block);
    for (size_t part = 0; part < n_parts; part++)
        text->last_row[part] = NULL;
    for (int64_t k = 0; k < maker.n; k++) {
        const uint64_t bits = hs_synth_next(&maker.random);
        uint64_t rank = draw_rank(plan, (uint32_t)bits);
        const size_t part = n_parts == 1 ? 0 : bits >> 32 & 1;
        const bool must = covers_item(&maker, &rank);
        char *at = text->data[part] + text->n[part];
        const char *last = text->last_row[part];
        const uint64_t more = hs_synth_next(&maker.random);
        char *end;
        if (!must && last && bits >> 48 < plan->duplicate) {
            memcpy(at, last, (size_t)(at - last));
            end = at + (at - last);
        } else {
            pass_time(&maker, k, more);
            end = put_row(&maker, at, rank, hs_synth_mix(more));
        }
        text->last_row[part] = at;
        text->n[part] += (size_t)(end - at);
        text->rows[part]++;
    }
}
