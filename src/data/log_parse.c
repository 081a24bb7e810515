/* Reading rows of a log: the strict way, field by field through the CSV reader, and the fast way, which finds all separators of
 * some rows first and reads eight digits at a time. */
#include "data/log_parse.h"

#include "base/error.h"
#include "data/number.h"

#include <string.h>
#define XXH_INLINE_ALL /* rows are short: a call each would be felt */
#include <xxhash.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { SCAN_BYTES = 64, SEPARATORS = 4096 };
/* Several call sites would otherwise make calls of what is a handful of instructions. */
#define HOT static inline __attribute__((always_inline))

/* ---- Separators ------------------------------------------------------------------------------------------------- */

/* A bit for each of 64 bytes. */
typedef struct scan {
    uint64_t separator, feed, odd; /* commas and line feeds; line feeds; quotes and carriage returns */
} scan;

#ifdef __SSE2__
static uint64_t equal_bits(const __m128i *part, char c)
{
    const __m128i wanted = _mm_set1_epi8(c);
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(part[i], wanted)) << 16 * i;
    return bits;
}

static scan scan_bytes(const char *text)
{
    __m128i part[4];
    for (int i = 0; i < 4; i++)
        part[i] = _mm_loadu_si128((const __m128i *)(const void *)(text + 16 * i));
    const uint64_t feed = equal_bits(part, '\n');
    return (scan){equal_bits(part, ',') | feed, feed, equal_bits(part, '"') | equal_bits(part, '\r')};
}
#else
static scan scan_bytes(const char *text)
{
    scan s = {0};
    for (int i = 0; i < SCAN_BYTES; i++) {
        const uint64_t bit = (uint64_t)1 << i;
        s.feed |= text[i] == '\n' ? bit : 0;
        s.separator |= text[i] == '\n' || text[i] == ',' ? bit : 0;
        s.odd |= text[i] == '"' || text[i] == '\r' ? bit : 0;
    }
    return s;
}
#endif

typedef struct separators {
    const char *text;
    size_t bytes, scanned;
    uint64_t n_feeds;
    bool odd;
    size_t n;
    uint32_t at[SEPARATORS]; /* [n] */
} separators;

/* Keeps separators from `from` on and finds more, as many as there is room for. */
static void find_separators(separators *s, size_t from)
{
    s->n -= from;
    memmove(s->at, s->at + from, s->n * sizeof *s->at);
    while (s->scanned < s->bytes && s->n + SCAN_BYTES <= SEPARATORS) {
        scan found = scan_bytes(s->text + s->scanned);
        const size_t left = s->bytes - s->scanned;
        if (left < SCAN_BYTES) {
            const uint64_t mask = ((uint64_t)1 << left) - 1;
            found = (scan){found.separator & mask, found.feed & mask, found.odd & mask};
        }
        for (uint64_t bits = found.feed; bits; bits &= bits - 1)
            s->n_feeds++;
        s->odd = s->odd || found.odd;
        uint32_t *at = s->at + s->n;
        for (uint64_t bits = found.separator; bits; bits &= bits - 1)
            *at++ = (uint32_t)s->scanned + (uint32_t)__builtin_ctzll(bits);
        s->n = (size_t)(at - s->at);
        s->scanned += SCAN_BYTES;
    }
}

/* ---- Numbers ---------------------------------------------------------------------------------------------------- */

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* The last `len` (at most 8) of the 8 bytes before `end`, as digits; sets bits of *bad where one is none. */
HOT uint64_t eight_digits(const char *end, unsigned len, uint64_t *bad)
{
    uint64_t x;
    memcpy(&x, end - 8, sizeof x);
    /* What stands in front of the number becomes zeros. */
    const uint64_t keep = len ? ~UINT64_C(0) << 8 * (8 - len) : 0;
    x = (x ^ EACH_BYTE('0')) & keep;
    *bad |= ((x + EACH_BYTE(0x76)) | x) & EACH_BYTE(0x80);
    x = x * 10 + (x >> 8);
    return (((x & 0x000000ff000000ff) * 0x000f424000000064) +
               (((x >> 16) & 0x000000ff000000ff) * 0x0000271000000001)) >>
           32;
}

/* Of at most 16 digits; sets *bad for anything else. */
HOT uint64_t number(const char *text, uint32_t before, uint32_t end, uint64_t *bad)
{
    const unsigned len = end - before - 1;
    *bad |= len - 1 > 15;
    if (len <= 8)
        return eight_digits(text + end, len, bad);
    const uint64_t low = eight_digits(text + end, 8, bad);
    return low + 100000000 * eight_digits(text + end - 8, len <= 16 ? len - 8 : 8, bad);
}

/* 0 or 1: whether the column is not 0. */
HOT unsigned bit(const char *text, uint32_t before, uint32_t end, uint64_t *bad)
{
    const unsigned digit = (unsigned char)text[before + 1] - (unsigned)'0';
    *bad |= (end - before) ^ 2;
    *bad |= digit > 9;
    return digit != 0;
}

/* ---- The fast way ----------------------------------------------------------------------------------------------- */

/* A field that is not a plain short number. */
static bool slow_number(const char *text, const uint32_t *at, size_t column, int64_t min, int64_t max, int64_t *out)
{
    const char *begin = text + (at[column] + 1);
    return hs_number_int(begin, (size_t)(at[column + 1] - at[column] - 1), out) && *out >= min && *out <= max;
}

/* at[c], at[c + 1]: the separators in front of column c and behind it. */
static bool slow_row(hs_eventrows *rows, size_t i, const hs_log_layout *l, const char *text, const uint32_t *at)
{
    int64_t play = 0, duration = 0, value = 0;
    if (!slow_number(text, at, l->user, 0, INT64_MAX, &rows->user[i]) ||
        !slow_number(text, at, l->item, 0, INT64_MAX - 1, &rows->item[i]) ||
        !slow_number(text, at, l->time_ms, INT64_MIN, INT64_MAX, &rows->time_ms[i]) ||
        !slow_number(text, at, l->play_time_ms, INT32_MIN, INT32_MAX, &play) ||
        !slow_number(text, at, l->duration_ms, INT32_MIN, INT32_MAX, &duration))
        return false;
    rows->play_time_ms[i] = (int32_t)play;
    rows->duration_ms[i] = (int32_t)duration;
    unsigned action = 0;
    for (unsigned k = 0; k < HS_LOG_ACTIONS; k++) {
        if (!slow_number(text, at, l->action[k], INT64_MIN, INT64_MAX, &value))
            return false;
        action |= (unsigned)(value != 0) << k;
    }
    rows->action[i] = (uint8_t)action;
    return true;
}

HOT bool fast_row(hs_eventrows *rows, size_t i, const hs_log_layout *l, const char *text, const uint32_t *at)
{
    uint64_t bad = 0;
    unsigned action = 0;
    const uint64_t play = number(text, at[l->play_time_ms], at[l->play_time_ms + 1], &bad);
    const uint64_t duration = number(text, at[l->duration_ms], at[l->duration_ms + 1], &bad);
    rows->user[i] = (int64_t)number(text, at[l->user], at[l->user + 1], &bad);
    rows->item[i] = (int64_t)number(text, at[l->item], at[l->item + 1], &bad);
    rows->time_ms[i] = (int64_t)number(text, at[l->time_ms], at[l->time_ms + 1], &bad);
    rows->play_time_ms[i] = (int32_t)play;
    rows->duration_ms[i] = (int32_t)duration;
    bad |= (play | duration) > INT32_MAX;
    for (unsigned k = 0; k < HS_LOG_ACTIONS; k++)
        action |= bit(text, at[l->action[k]], at[l->action[k] + 1], &bad) << k;
    rows->action[i] = (uint8_t)action;
    return !bad || slow_row(rows, i, l, text, at);
}

bool hs_log_parse_fast(hs_eventrows *rows, const hs_log_layout *layout, const char *text, size_t bytes)
{
    const size_t n_columns = layout->n_columns;
    separators s = {.text = text, .bytes = bytes};
    s.at[0] = UINT32_MAX; /* in front of the first row, so that the text's first byte follows it */
    s.n = 1;
    rows->n = 0;
    for (size_t used = 0;;) {
        find_separators(&s, used);
        /* The last separator of a row stays, in front of the next one. */
        for (used = 0; s.n - used > n_columns; used += n_columns) {
            const uint32_t *at = s.at + used;
            const uint32_t begin = at[0] + 1, end = at[n_columns];
            if (rows->n == rows->capacity || text[end] != '\n' || !fast_row(rows, rows->n, layout, text, at))
                return false;
            rows->hash[rows->n++] = XXH3_64bits_withSeed(text + begin, end - begin, layout->seed);
        }
        if (s.scanned >= bytes && s.n - used <= n_columns)
            return s.n - used == 1 && s.at[used] + 1 == bytes && s.n_feeds == rows->n && !s.odd;
    }
}

/* ---- The strict way --------------------------------------------------------------------------------------------- */

static hstu_status strict_row(
    hs_eventrows *rows, size_t i, const hs_log_layout *l, const hs_csv *csv, hs_dynbuf *room, hstu_error *err)
{
    int64_t value = 0;
    HS_TRY(hs_csv_int(csv, l->user, 0, INT64_MAX, &rows->user[i], err));
    HS_TRY(hs_csv_int(csv, l->item, 0, INT64_MAX - 1, &rows->item[i], err));
    HS_TRY(hs_csv_int(csv, l->time_ms, INT64_MIN, INT64_MAX, &rows->time_ms[i], err));
    HS_TRY(hs_csv_int(csv, l->play_time_ms, INT32_MIN, INT32_MAX, &value, err));
    rows->play_time_ms[i] = (int32_t)value;
    HS_TRY(hs_csv_int(csv, l->duration_ms, INT32_MIN, INT32_MAX, &value, err));
    rows->duration_ms[i] = (int32_t)value;
    unsigned action = 0;
    for (unsigned k = 0; k < HS_LOG_ACTIONS; k++) {
        HS_TRY(hs_csv_int(csv, l->action[k], INT64_MIN, INT64_MAX, &value, err));
        action |= (unsigned)(value != 0) << k;
    }
    rows->action[i] = (uint8_t)action;
    return hs_log_hash(&rows->hash[i], l, csv, room, err);
}

hstu_status hs_log_parse_strict(hs_eventrows *rows, const hs_log_layout *layout, const hs_csv *header, const char *text,
    size_t bytes, uint64_t line, hs_dynbuf *room, hstu_error *err)
{
    hs_csv csv = {0};
    hstu_status status = HSTU_OK;
    bool more = true;
    rows->n = 0;
    HS_TRY(hs_csv_open_rows(&csv, header, text, bytes, line, err));
    while (true) {
        HS_TRY_GOTO(hs_csv_next(&csv, &more, err));
        if (!more)
            break;
        HS_TRY_GOTO(
            strict_row(rows, rows->n, layout, &csv, room, err)); /* no row that is right is shorter than 26 bytes */
        rows->n++;
    }
fail:
    hs_csv_close(&csv);
    return status;
}
