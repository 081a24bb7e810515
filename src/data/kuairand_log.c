/* Reading KuaiRand's standard logs. One thread at a time takes the next block of text, cut behind its last whole row; it is
 * read, unpacked and hashed then, in the order of the files. Blocks are parsed side by side. A block that is not plain, or
 * not right, goes through the strict reader; of several errors the first one in the logs is told, when all threads have
 * come to an end and the lines before it are counted. */
#include "data/kuairand_log.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/csv.h"
#include "data/eventsink_int.h"
#include "data/feedback.h"
#include "data/log_parse.h"
#include "data/workers.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A log that was begun. */
typedef struct log_state {
    hs_csv csv; /* its header; the source is closed at the log's end */
    hs_log_layout layout;
    uint64_t first_line;  /* of the rows */
    uint64_t first_block; /* number of its first block */
} log_state;

typedef struct block {
    uint64_t index; /* among all blocks */
    size_t log, bytes;
    bool quoted; /* or too long a row: not for the fast way */
} block;

typedef struct parser {
    char *memory; /* padding, room bytes of text, padding */
    size_t room;
    hs_eventrows rows;
    hs_dynbuf hashed;
    block block;        /* the last one, kept when it failed */
    hstu_status status; /* of that */
    bool bad_rows;      /* the strict reader's error, which is told with its line later */
    hstu_error error;
} parser;

typedef struct reader {
    hs_eventsink *sink;
    const hs_path *path;
    size_t n_logs;
    bool hashed;
    const hstu_progress *progress;
    hs_log_file *file;
    uint64_t total_bytes;
    parser *parser; /* [n_parsers] */
    size_t n_parsers;
    /* Under the lock. */
    pthread_mutex_t lock;
    log_state *log; /* [n_logs] */
    size_t n_begun; /* logs; the last of them is being read */
    bool reading;   /* its source is open */
    char *carry;    /* what follows the last whole row of the block before */
    size_t n_carry, cap_carry;
    uint64_t *n_lines; /* [n_blocks] line feeds of each block that was parsed */
    uint64_t n_blocks, cap_blocks;
    uint64_t done_bytes; /* of logs that are finished */
    bool stopped, full;  /* no more blocks; none in this round */
} reader;

/* ---- Taking blocks: under the lock ------------------------------------------------------------------------------ */

static hstu_status begin_log(reader *r, hstu_error *err)
{
    log_state *log = &r->log[r->n_begun];
    HS_TRY(hs_csv_open(&log->csv, r->path[r->n_begun].text, HS_KUAIRAND_ROW_BYTES, err));
    r->n_begun++;
    HS_TRY(hs_log_layout_find(&log->layout, &log->csv, &r->log[0].csv, err));
    if (!r->hashed)
        hs_bytesource_no_hash(log->csv.source);
    hs_csv_leave_rows(&log->csv, &log->first_line);
    log->first_block = r->n_blocks;
    r->reading = true;
    return HSTU_OK;
}

static void end_log(reader *r)
{
    hs_bytesource *source = r->log[r->n_begun - 1].csv.source;
    hs_log_file *file = &r->file[r->n_begun - 1];
    file->bytes = hs_bytesource_file_bytes(source);
    file->hash = r->hashed ? hs_bytesource_hash(source) : 0;
    r->done_bytes += file->bytes;
    hs_bytesource_close(source);
    r->log[r->n_begun - 1].csv.source = NULL;
    r->reading = false;
}

/* Where the text's last whole row ends; 0: there is none. A line feed ends a row when the quotes before it are pairs. */
static size_t last_row_end(const char *text, size_t n, bool *quoted)
{
    const char *quote = memchr(text, '"', n);
    *quoted = quote != NULL;
    size_t end = 0;
    bool inside = false;
    for (size_t i = quote ? (size_t)(quote - text) : n; i < n; i++) {
        inside ^= text[i] == '"';
        end = !inside && text[i] == '\n' ? i + 1 : end;
    }
    for (size_t i = quote ? (size_t)(quote - text) : n; end == 0 && i > 0; i--)
        end = text[i - 1] == '\n' ? i : 0;
    return end;
}

static bool grow_text(parser *p, size_t room)
{
    char *memory = hs_realloc(p->memory, room + 2 * (size_t)HS_LOG_TEXT_PADDING, 1);
    if (!memory)
        return false;
    p->memory = memory;
    p->room = room;
    return true;
}

static bool keep_carry(reader *r, const char *text, size_t n)
{
    if (n > r->cap_carry) {
        char *carry = hs_realloc(r->carry, n, 1);
        if (!carry)
            return false;
        r->carry = carry;
        r->cap_carry = n;
    }
    if (n)
        memcpy(r->carry, text, n);
    r->n_carry = n;
    return true;
}

/* Reads the next block of the log at hand; of 0 bytes at its end. */
static hstu_status fill_block(reader *r, parser *p, hstu_error *err)
{
    hs_bytesource *source = r->log[r->n_begun - 1].csv.source;
    size_t n = 0, end = 0;
    bool all = false;
    do {
        const size_t keep = n ? n : r->n_carry;
        if (keep >= p->room && !grow_text(p, 2 * keep))
            return hs_fail_nomem(err, 2 * keep, "a block of rows");
        char *text = p->memory + HS_LOG_TEXT_PADDING;
        if (n == 0 && r->n_carry)
            memcpy(text, r->carry, r->n_carry);
        size_t more = 0;
        HS_TRY(hs_bytesource_read(source, text + keep, p->room - keep, &more, err));
        n = keep + more;
        end = last_row_end(text, n, &p->block.quoted);
        all = more < p->room - keep && hs_bytesource_at_end(source);
    } while (!all && end == 0 && n <= HS_KUAIRAND_ROW_BYTES);
    if (all)
        end = n;
    if (end == 0 && n) { /* longer than any row may be: the strict reader says so */
        end = n;
        p->block.quoted = true;
    }
    p->block.bytes = end;
    if (!keep_carry(r, p->memory + HS_LOG_TEXT_PADDING + end, n - end))
        return hs_fail_nomem(err, n - end, "a block of rows");
    return HSTU_OK;
}

static hstu_status number_block(reader *r, parser *p, hstu_error *err)
{
    if (r->n_blocks == r->cap_blocks) {
        const size_t capacity = r->cap_blocks ? 2 * (size_t)r->cap_blocks : 256;
        uint64_t *n_lines = hs_realloc(r->n_lines, capacity, sizeof *n_lines);
        if (!n_lines)
            return hs_fail_nomem(err, capacity * sizeof *n_lines, "a block of rows");
        r->n_lines = n_lines;
        r->cap_blocks = capacity;
    }
    p->block.log = r->n_begun - 1;
    p->block.index = r->n_blocks++;
    return HSTU_OK;
}

/* *more: the parser has a block. */
static hstu_status next_block(reader *r, parser *p, bool *more, hstu_error *err)
{
    *more = false;
    while (!*more && !r->stopped && !r->full) {
        if (!r->reading && r->n_begun == r->n_logs)
            return HSTU_OK;
        r->full = hs_eventsink_full(r->sink, p->room);
        if (r->full)
            return HSTU_OK;
        if (!r->reading)
            HS_TRY(begin_log(r, err));
        HS_TRY(fill_block(r, p, err));
        if (p->block.bytes) {
            HS_TRY(number_block(r, p, err));
            *more = true;
        } else {
            end_log(r);
        }
    }
    return HSTU_OK;
}

/* ---- Parsing ---------------------------------------------------------------------------------------------------- */

static bool make_rows(parser *p)
{
    const size_t n = p->block.bytes / HS_LOG_MIN_ROW_BYTES + 2;
    if (n <= p->rows.capacity)
        return true;
    hs_eventrows_free(&p->rows);
    const size_t usual = p->room / HS_LOG_MIN_ROW_BYTES + 2;
    return hs_eventrows_init(&p->rows, n > usual ? n : usual);
}

static uint64_t count_feeds(const char *text, size_t n)
{
    uint64_t feeds = 0;
    for (size_t i = 0; i < n; i++)
        feeds += text[i] == '\n';
    return feeds;
}

static hstu_status parse(reader *r, parser *p, const log_state *log, hstu_error *err)
{
    char *text = p->memory + HS_LOG_TEXT_PADDING;
    size_t bytes = p->block.bytes;
    if (!make_rows(p))
        return hs_fail_nomem(err, bytes, "a block of rows");
    bool done = false;
    if (!p->block.quoted && log->layout.in_order && bytes <= HS_KUAIRAND_ROW_BYTES) {
        const bool unended = text[bytes - 1] != '\n'; /* at the end of a file; the padding has room */
        if (unended)
            text[bytes++] = '\n';
        done = hs_log_parse_fast(&p->rows, &log->layout, text, bytes);
        bytes -= unended;
    }
    if (!done) {
        const hstu_status status =
            hs_log_parse_strict(&p->rows, &log->layout, &log->csv, text, bytes, 1, &p->hashed, err);
        p->bad_rows = status == HSTU_EFORMAT;
        HS_TRY(status);
    }
    const uint64_t n_lines = done ? p->rows.n : count_feeds(text, bytes);
    (void)pthread_mutex_lock(&r->lock);
    r->n_lines[p->block.index] = n_lines;
    (void)pthread_mutex_unlock(&r->lock);
    return hs_eventsink_commit(r->sink, (size_t)(p - r->parser), &p->rows, (uint8_t)p->block.log, p->block.index, err);
}

/* The calling thread's, between two blocks. */
static hstu_status report(const reader *r, uint64_t done_bytes, hstu_error *err)
{
    hs_progress_step(r->progress, "reading", done_bytes < r->total_bytes ? done_bytes : r->total_bytes, r->total_bytes);
    return hs_progress_check(r->progress, err);
}

static void stop(reader *r, parser *p, hstu_status status)
{
    (void)pthread_mutex_lock(&r->lock);
    r->stopped = true;
    p->status = status;
    (void)pthread_mutex_unlock(&r->lock);
}

static void work(void *ctx, size_t worker)
{
    reader *r = ctx;
    parser *p = &r->parser[worker];
    hstu_status status = HSTU_OK;
    bool more = true;
    while (true) {
        (void)pthread_mutex_lock(&r->lock);
        status = next_block(r, p, &more, &p->error);
        if (status != HSTU_OK)
            p->block.index = r->n_blocks; /* behind all that was handed out */
        const bool reading = r->reading;
        const uint64_t done =
            r->done_bytes + (reading ? hs_bytesource_done_bytes(r->log[r->n_begun - 1].csv.source) : 0);
        const log_state *log = more ? &r->log[p->block.log] : NULL;
        (void)pthread_mutex_unlock(&r->lock);
        if (status == HSTU_OK && worker == 0)
            status = report(r, done, &p->error);
        if (status == HSTU_OK && more)
            status = parse(r, p, log, &p->error);
        if (status != HSTU_OK)
            stop(r, p, status);
        if (status != HSTU_OK || !more)
            return;
    }
}

/* ---- All logs --------------------------------------------------------------------------------------------------- */

/* The first of the errors in the logs, with its line now that the lines before are counted. */
static hstu_status tell_first(reader *r, hstu_error *err)
{
    parser *first = NULL;
    for (size_t i = 0; i < r->n_parsers; i++) {
        parser *p = &r->parser[i];
        if (p->status == HSTU_ECANCELLED) {
            first = p;
            break;
        }
        if (p->status != HSTU_OK && (!first || p->block.index < first->block.index))
            first = p;
    }
    if (!first)
        return HSTU_OK;
    const log_state *log = &r->log[first->block.log];
    uint64_t line = log->first_line;
    for (uint64_t i = log->first_block; first->bad_rows && i < first->block.index; i++)
        line += r->n_lines[i];
    if (first->bad_rows)
        return hs_log_parse_strict(&first->rows, &log->layout, &log->csv, first->memory + HS_LOG_TEXT_PADDING,
            first->block.bytes, line, &first->hashed, err);
    if (err)
        *err = first->error;
    return first->status;
}

static hstu_status read_all(reader *r, hstu_error *err)
{
    while (true) {
        r->full = false;
        hs_workers_run(r->n_parsers, work, r);
        HS_TRY(tell_first(r, err));
        if (!r->full)
            break;
        HS_TRY(hs_eventsink_flush(r->sink, err));
    }
    return report(r, r->total_bytes, err);
}

static hstu_status add_sizes(reader *r, hstu_error *err)
{
    for (size_t i = 0; i < r->n_logs; i++) {
        struct stat st;
        if (stat(r->path[i].text, &st) != 0)
            return hs_fail_errno(err, errno, "cannot examine '%s'", r->path[i].text);
        r->total_bytes += (uint64_t)st.st_size;
    }
    return HSTU_OK;
}

static bool make_room(reader *r)
{
    r->log = hs_calloc(r->n_logs, sizeof *r->log);
    r->parser = hs_calloc(r->n_parsers, sizeof *r->parser);
    if (!r->log || !r->parser)
        return false;
    for (size_t i = 0; i < r->n_parsers; i++) {
        hs_dynbuf_init(&r->parser[i].hashed, 4 * (size_t)HS_KUAIRAND_ROW_BYTES);
        if (!grow_text(&r->parser[i], hs_eventsink_text_bytes(r->sink)))
            return false;
    }
    return true;
}

static void free_reader(reader *r)
{
    for (size_t i = 0; r->log && i < r->n_begun; i++) {
        hs_csv_close(&r->log[i].csv);
        hs_log_layout_free(&r->log[i].layout);
    }
    for (size_t i = 0; r->parser && i < r->n_parsers; i++) {
        hs_free(r->parser[i].memory);
        hs_eventrows_free(&r->parser[i].rows);
        hs_dynbuf_free(&r->parser[i].hashed);
    }
    hs_free(r->log);
    hs_free(r->parser);
    hs_free(r->carry);
    hs_free(r->n_lines);
    (void)pthread_mutex_destroy(&r->lock);
}

hstu_status hs_logs_read(hs_eventsink *sink, const hs_path *log, size_t n_logs, bool hashed,
    const hstu_progress *progress, hs_log_file *file, hstu_error *err)
{
    reader r = {.sink = sink,
        .path = log,
        .n_logs = n_logs,
        .hashed = hashed,
        .progress = progress,
        .file = file,
        .n_parsers = hs_eventsink_threads(sink)};
    hstu_status status = HSTU_OK;
    (void)pthread_mutex_init(&r.lock, NULL);
    if (!make_room(&r)) {
        status = hs_fail_nomem(err, n_logs * sizeof *r.log, "the readers of logs");
        goto fail;
    }
    HS_TRY_GOTO(add_sizes(&r, err));
    HS_TRY_GOTO(read_all(&r, err));
fail:
    free_reader(&r);
    return status;
}
