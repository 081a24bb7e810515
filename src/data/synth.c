/* hstu_synth: options, places, room on the disk, and the files one period after the other. */
#define _POSIX_C_SOURCE 200809L

#include "data/synth.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/outfile.h"
#include "base/system.h"
#include "data/feedback.h"
#include "data/ordered.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static const int64_t max_users = 100000000, max_items = 1000000000, max_events = 4294967294;

enum {
    CHUNK_EVENTS = 2 * HS_SYNTH_BLOCK_EVENTS,
    CHUNK_MAX_EVENTS = CHUNK_EVENTS + HS_SYNTH_BLOCK_EVENTS,
    CHUNK_USERS = 1 << 14,
    MAX_THREADS = HS_ORDERED_MAX_THREADS,
    TYPICAL_ROW_BYTES = 70,
    SLACK_BYTES = 64 /* rows are put together of pieces of fixed length, the last of which may reach past its end */
};

typedef struct synth_job {
    const hstu_synth_options *options;
    hstu_synth_report *report;
    hs_synth_plan plan;
    uint64_t rows_done;
    /* The period at work. */
    int period, first_file;
    size_t n_parts;
    hs_outfile *file[HS_SYNTH_MAX_PARTS];
    hs_synth_block *chunk; /* [n_chunks + 1] where the chunks begin */
    size_t n_chunks;
} synth_job;

void hstu_synth_options_init(hstu_synth_options *options)
{
    *options = (hstu_synth_options){.size = sizeof *options, .like = "KuaiRand-1K", .data_root = "tmp_data", .seed = 1};
}

static hstu_status check_range(const char *name, int64_t x, int64_t max, hstu_error *err)
{
    if (x < 0 || x > max)
        return hs_fail(err, HSTU_EINVAL, 0, "%s must be from 1 to %lld (0: as the real set), not %lld", name,
            (long long)max, (long long)x);
    return HSTU_OK;
}

static hstu_status decide_sizes(
    hstu_synth_report *report, const hstu_synth_options *options, const hs_synth_shape *shape, hstu_error *err)
{
    HS_TRY(check_range("users", options->users, max_users, err));
    HS_TRY(check_range("items", options->items, max_items, err));
    HS_TRY(check_range("events", options->events, max_events, err));
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return hs_fail(err, HSTU_EINVAL, 0, "threads must be from 0 to %d, not %d", MAX_THREADS, options->threads);
    report->events = options->events ? options->events : shape->events;
    report->users = options->users ? options->users : shape->users;
    if (!options->users && report->users > report->events)
        report->users = report->events;
    if (report->events < report->users)
        return hs_fail(err, HSTU_EINVAL, 0, "%lld events are too few for %lld users: each has at least one",
            (long long)report->events, (long long)report->users);
    const double items = (double)shape->items * ((double)report->events / (double)shape->events);
    report->items = items > (double)max_items ? max_items : items < 1 ? 1 : (int64_t)items;
    report->items = options->items ? options->items : report->items;
    return HSTU_OK;
}

static hstu_status make_folder(const char *path, hstu_error *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return HSTU_OK;
    return hs_fail_errno(err, errno, "cannot make the folder '%s'", path);
}

static hstu_status make_folders(hs_path *folder, const char *data_root, const char *set, hstu_error *err)
{
    HS_TRY(make_folder(data_root, err));
    HS_TRY(hs_path_join(folder, data_root, set, err));
    HS_TRY(make_folder(folder->text, err));
    HS_TRY(hs_path_join(folder, folder->text, "data", err));
    return make_folder(folder->text, err);
}

static hstu_status name_files(synth_job *job, const hs_kuairand_set *set, hstu_error *err)
{
    hstu_synth_report *report = job->report;
    hs_path folder, path;
    HS_TRY(make_folders(&folder, job->options->data_root, set->name, err));
    for (report->n_files = 0;; report->n_files++) {
        char name[96];
        const char *log = set->log[report->n_files];
        (void)snprintf(name, sizeof name, log ? "%s.csv" : "user_features_%s.csv", log ? log : set->suffix);
        HS_TRY(hs_path_join(&path, folder.text, name, err));
        struct stat st;
        if (!job->options->overwrite && lstat(path.text, &st) == 0)
            return hs_fail(
                err, HSTU_EIO, 0, "'%s' exists: choose another --data_root, or replace it with --force", path.text);
        hs_outfile_sweep(path.text);
        (void)memcpy(report->path[report->n_files], path.text, sizeof path.text);
        if (!log)
            break;
    }
    report->n_files++;
    return HSTU_OK;
}

static hstu_status check_room(const hstu_synth_report *report, hstu_error *err)
{
    struct statvfs fs;
    hs_path folder;
    (void)memcpy(folder.text, report->path[0], sizeof folder.text);
    *strrchr(folder.text, '/') = '\0';
    if (statvfs(folder.text, &fs) != 0)
        return HSTU_OK; /* a file system that does not tell */
    const uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize, need = (uint64_t)report->events * TYPICAL_ROW_BYTES;
    if (room < need)
        return hs_fail(err, HSTU_EIO, 0,
            "the logs need about %.1f GB, but '%s' has room for %.1f GB: ask for fewer events", (double)need / 1e9,
            folder.text, (double)room / 1e9);
    return HSTU_OK;
}

/* Moves on to the user's next block, or the next user that has one in this period; false at the end. */
static bool next_block(const synth_job *job, hs_synth_block *block, int64_t *events)
{
    const int64_t n = hs_synth_period_events(&job->plan, job->period, block->user);
    const int64_t left = n - (int64_t)(block->number + 1) * HS_SYNTH_BLOCK_EVENTS;
    if (left > 0) {
        block->number++;
        *events = left < HS_SYNTH_BLOCK_EVENTS ? left : HS_SYNTH_BLOCK_EVENTS;
        return true;
    }
    block->number = 0;
    while (++block->user < job->plan.users) {
        const int64_t all = hs_synth_period_events(&job->plan, job->period, block->user);
        *events = all < HS_SYNTH_BLOCK_EVENTS ? all : HS_SYNTH_BLOCK_EVENTS;
        if (all > 0)
            return true;
    }
    return false;
}

/* Chunks depend on the plan alone, and memory for them is bounded: blocks of at least CHUNK_EVENTS, or the blocks of so many
 * users. */
static hstu_status cut_chunks(synth_job *job, hstu_error *err)
{
    const size_t most = (size_t)(job->plan.events / CHUNK_EVENTS + job->plan.users / CHUNK_USERS) + 3;
    job->chunk = hs_alloc(most, sizeof *job->chunk);
    if (!job->chunk)
        return hs_fail_nomem(err, most * sizeof *job->chunk, "the chunks");
    const int64_t of_first = hs_synth_period_events(&job->plan, job->period, 0);
    hs_synth_block block = {0, 0};
    int64_t events = of_first < HS_SYNTH_BLOCK_EVENTS ? of_first : HS_SYNTH_BLOCK_EVENTS;
    int64_t in_chunk = CHUNK_EVENTS, user_of_chunk = 0;
    job->n_chunks = 0;
    bool more = of_first > 0 || next_block(job, &block, &events);
    while (more) {
        if (in_chunk >= CHUNK_EVENTS || block.user - user_of_chunk >= CHUNK_USERS) {
            job->chunk[job->n_chunks++] = block;
            in_chunk = 0;
            user_of_chunk = block.user;
        }
        in_chunk += events;
        more = next_block(job, &block, &events);
    }
    job->chunk[job->n_chunks] = (hs_synth_block){job->plan.users, 0};
    return HSTU_OK;
}

static void make_chunk(void *ctx, void *slot, size_t piece)
{
    const synth_job *job = ctx;
    hs_synth_text *text = slot;
    const hs_synth_block end = job->chunk[piece + 1];
    hs_synth_block block = job->chunk[piece];
    int64_t events;
    for (size_t part = 0; part < job->n_parts; part++)
        text->n[part] = text->rows[part] = 0;
    do {
        hs_synth_rows(text, &job->plan, job->period, job->n_parts, block);
    } while (next_block(job, &block, &events) && !(block.user == end.user && block.number == end.number));
}

static hstu_status take_chunk(void *ctx, const void *slot, size_t piece, hstu_error *err)
{
    synth_job *job = ctx;
    const hs_synth_text *text = slot;
    (void)piece;
    for (size_t part = 0; part < job->n_parts; part++) {
        HS_TRY(hs_outfile_write(job->file[part], text->data[part], text->n[part], err));
        job->report->bytes += text->n[part];
        job->report->rows[job->first_file + (int)part] += text->rows[part];
        job->rows_done += text->rows[part];
    }
    hs_progress_step(&job->options->progress, "rows", job->rows_done, (uint64_t)job->plan.events);
    return hs_progress_check(&job->options->progress, err);
}

static void free_slots(void **slot, size_t n)
{
    for (size_t i = 0; slot && i < n; i++) {
        hs_synth_text *text = slot[i];
        for (size_t part = 0; text && part < HS_SYNTH_MAX_PARTS; part++)
            hs_free(text->data[part]);
        hs_free(text);
    }
    hs_free(slot);
}

static void **make_slots(size_t n, size_t n_parts)
{
    bool whole = true;
    void **slot = hs_calloc(n, sizeof *slot);
    for (size_t i = 0; slot && whole && i < n; i++) {
        hs_synth_text *text = slot[i] = hs_calloc(1, sizeof *text);
        whole = text != NULL;
        for (size_t part = 0; whole && part < n_parts; part++)
            whole = (text->data[part] = hs_alloc(CHUNK_MAX_EVENTS * HS_SYNTH_ROW_BYTES + SLACK_BYTES, 1)) != NULL;
    }
    if (whole)
        return slot;
    free_slots(slot, n);
    return NULL;
}

static hstu_status write_chunks(synth_job *job, hstu_error *err)
{
    const int threads = job->options->threads ? job->options->threads : hs_system_cpus();
    hs_ordered work = {.ctx = job, .n = job->n_chunks, .make = make_chunk, .take = take_chunk};
    work.threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    work.n_slots = 2 * (size_t)work.threads;
    work.slot = make_slots(work.n_slots, job->n_parts);
    if (!work.slot)
        return hs_fail_nomem(err, work.n_slots * CHUNK_MAX_EVENTS * HS_SYNTH_ROW_BYTES, "rows");
    const hstu_status status = hs_ordered_run(&work, err);
    free_slots(work.slot, work.n_slots);
    return status;
}

/* The period's files stay open, and nothing has its name yet. */
static hstu_status write_period(synth_job *job, hs_outfile **file, hstu_error *err)
{
    const size_t header = strlen(hs_synth_log_header);
    for (size_t part = 0; part < job->n_parts; part++) {
        HS_TRY(hs_outfile_open(&file[part], job->report->path[job->first_file + (int)part], err));
        HS_TRY(hs_outfile_write(file[part], hs_synth_log_header, header, err));
        job->report->bytes += header;
        job->file[part] = file[part];
    }
    HS_TRY(cut_chunks(job, err));
    const hstu_status status = write_chunks(job, err);
    hs_free(job->chunk);
    job->chunk = NULL;
    return status;
}

static hstu_status write_users(synth_job *job, hs_outfile **file, hstu_error *err)
{
    char row[HS_SYNTH_USER_BYTES];
    const int last = job->report->n_files - 1;
    HS_TRY(hs_outfile_open(file, job->report->path[last], err));
    HS_TRY(hs_outfile_write(*file, hs_synth_users_header, strlen(hs_synth_users_header), err));
    job->report->bytes += strlen(hs_synth_users_header);
    for (int64_t user = 0; user < job->plan.users; user++) {
        const size_t n = hs_synth_user_row(row, job->plan.seed, user);
        HS_TRY(hs_outfile_write(*file, row, n, err));
        job->report->bytes += n;
        if (user % 4096 == 0)
            HS_TRY(hs_progress_check(&job->options->progress, err));
    }
    job->report->rows[last] = (uint64_t)job->plan.users;
    return HSTU_OK;
}

static hstu_status write_files(synth_job *job, hstu_error *err)
{
    hs_outfile *file[HSTU_SYNTH_MAX_FILES] = {NULL};
    hstu_status status = HSTU_OK;
    job->n_parts = (size_t)(job->report->n_files - 1) / HS_SYNTH_PERIODS;
    for (job->period = 0; job->period < HS_SYNTH_PERIODS; job->period++) {
        job->first_file = job->period * (int)job->n_parts;
        HS_TRY_GOTO(write_period(job, &file[job->first_file], err));
    }
    HS_TRY_GOTO(write_users(job, &file[job->report->n_files - 1], err));
    /* All of them are on the disk before the first gets its name. */
    for (int i = 0; i < job->report->n_files; i++)
        HS_TRY_GOTO(hs_outfile_finish(file[i], err));
    for (int i = 0; i < job->report->n_files; i++) {
        hs_outfile *whole = file[i];
        file[i] = NULL;
        HS_TRY_GOTO(hs_outfile_commit(whole, err));
    }
fail:
    for (int i = 0; i < job->report->n_files; i++)
        hs_outfile_discard(file[i]);
    return status;
}

hstu_status hstu_synth(const hstu_synth_options *options, hstu_synth_report *report, hstu_error *err)
{
    const hs_kuairand_set *set = NULL;
    if (!options || !report || options->size != sizeof *options || !options->like || !options->data_root)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_synth wants a report, and options from hstu_synth_options_init");
    synth_job job = {.options = options};
    hstu_synth_report *filled = hs_calloc(1, sizeof *filled);
    if (!filled)
        return hs_fail_nomem(err, sizeof *filled, "the report");
    hstu_status status = HSTU_OK;
    job.report = filled;
    HS_TRY_GOTO(hs_kuairand_find(&set, options->like, err));
    HS_TRY_GOTO(decide_sizes(filled, options, hs_synth_shape_of(set), err));
    HS_TRY_GOTO(name_files(&job, set, err));
    HS_TRY_GOTO(check_room(filled, err));
    HS_TRY_GOTO(hs_synth_plan_init(
        &job.plan, hs_synth_shape_of(set), filled->users, filled->items, filled->events, options->seed, err));
    HS_TRY_GOTO(write_files(&job, err));
    *report = *filled;
fail:
    hs_synth_plan_free(&job.plan);
    hs_free(filled);
    return status;
}
