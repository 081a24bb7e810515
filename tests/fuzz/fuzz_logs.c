/* A KuaiRand log, read in ranges by the fast and the strict way, against the strict CSV reader from the first row to the last:
 * the same rows, or the same error. */
#include "fuzz_file.h"

#include "base/path.h"
#include "data/csv.h"
#include "data/kuairand_log.h"
#include "data/log_layout.h"

#include <string.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* Sums over all rows, in which no order counts. */
typedef struct sums {
    uint64_t n, user, item, time_ms, action;
} sums;

static hstu_status add_block(void *ctx, const hs_event_block *block, hstu_error *err)
{
    sums *s = ctx;
    const hs_event_view *view = &block->view;
    (void)err;
    for (int64_t u = 0; u < view->n_users; u++) {
        for (int64_t i = view->offset[u]; i < view->offset[u + 1]; i++) {
            s->n++;
            s->user += (uint64_t)view->user_id[u];
            s->item += (uint64_t)view->item[i];
            s->time_ms += (uint64_t)view->time_ms[i];
            s->action += view->action[i];
        }
    }
    return HSTU_OK;
}

static hstu_status read_in_ranges(sums *s, const char *path, hstu_error *err)
{
    const hs_eventsink_options options = {.memory_limit = 16 << 20, .threads = 1, .folder = "/dev/shm"};
    const hs_block_consumer consumer = {.ctx = s, .in_turn = add_block};
    hs_eventsink *sink = NULL;
    hs_path log;
    hs_log_file file;
    check(hs_eventsink_open(&sink, &options, err) == HSTU_OK);
    (void)snprintf(log.text, sizeof log.text, "%s", path);
    hstu_status status = hs_logs_read(sink, &log, 1, true, NULL, &file, err);
    if (status == HSTU_OK)
        status = hs_eventsink_finish(sink, err);
    if (status == HSTU_OK)
        status = hs_eventsink_visit(sink, &consumer, NULL, err);
    hs_eventsink_close(sink);
    return status;
}

static hstu_status strict_row(sums *s, const hs_csv *csv, const hs_log_layout *l, hstu_error *err)
{
    int64_t user = 0, item = 0, time_ms = 0, value = 0;
    hstu_status status = hs_csv_int(csv, l->user, 0, INT64_MAX, &user, err);
    if (status == HSTU_OK)
        status = hs_csv_int(csv, l->item, 0, INT64_MAX - 1, &item, err);
    if (status == HSTU_OK)
        status = hs_csv_int(csv, l->time_ms, INT64_MIN, INT64_MAX, &time_ms, err);
    if (status == HSTU_OK)
        status = hs_csv_int(csv, l->play_time_ms, INT32_MIN, INT32_MAX, &value, err);
    if (status == HSTU_OK)
        status = hs_csv_int(csv, l->duration_ms, INT32_MIN, INT32_MAX, &value, err);
    for (unsigned k = 0; status == HSTU_OK && k < HS_LOG_ACTIONS; k++) {
        status = hs_csv_int(csv, l->action[k], INT64_MIN, INT64_MAX, &value, err);
        s->action += (uint64_t)(value != 0) << k;
    }
    s->n++;
    s->user += (uint64_t)user;
    s->item += (uint64_t)item;
    s->time_ms += (uint64_t)time_ms;
    return status;
}

static hstu_status read_strictly(sums *s, const char *path, hstu_error *err)
{
    hs_csv csv = {0};
    hs_log_layout layout = {0};
    bool more = true;
    hstu_status status = hs_csv_open(&csv, path, HS_KUAIRAND_ROW_BYTES, err);
    if (status == HSTU_OK)
        status = hs_log_layout_find(&layout, &csv, &csv, err);
    while (status == HSTU_OK && more) {
        status = hs_csv_next(&csv, &more, err);
        if (status == HSTU_OK && more)
            status = strict_row(s, &csv, &layout, err);
    }
    hs_log_layout_free(&layout);
    hs_csv_close(&csv);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 && data[0] == 0x1f && data[1] == 0x8b)
        return 0; /* of a damaged archive, which rows are read before the error depends on the ranges */
    const char *path = fuzz_file(data, size);
    sums ranges = {0}, strict = {0};
    hstu_error err = {0}, expected = {0};
    const hstu_status status = read_in_ranges(&ranges, path, &err);
    check(status == read_strictly(&strict, path, &expected));
    if (status == HSTU_OK)
        check(memcmp(&ranges, &strict, sizeof ranges) == 0);
    else
        check(status == HSTU_EFORMAT && err.pos == expected.pos && strcmp(err.msg, expected.msg) == 0);
    return 0;
}
