/* The candidates file: original item ids, one a line. */
#include "cli/run.h"

#include "base/alloc.h"
#include "base/error.h"
#include "cli/json_scan.h"
#include "cli/line_reader.h"

#include <stdlib.h>

enum { MAX_ID_LINE = 64 };

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static hstu_status read_ids(const hs_run *run, hs_line_reader *reader, hs_ids *ids, hstu_error *err)
{
    const int64_t min = run->info.min_item_id - run->item_offset, max = run->info.max_item_id - run->item_offset;
    for (;;) {
        bool got = false;
        int64_t id = 0;
        HS_TRY(hs_line_reader_next(reader, &got, err));
        if (!got)
            break;
        if (reader->text.len == 0)
            continue;
        /* A NUL byte ends the text early and is refused with it. */
        if (!hs_parse_int(reader->text.data, INT64_MIN, INT64_MAX, &id))
            return hs_fail(err, HSTU_EFORMAT, reader->line, "%s: line %llu: expected an item id, found '%.40s'",
                reader->path, (unsigned long long)reader->line, reader->text.data);
        if (id < min || id > max)
            return hs_fail(err, HSTU_EINVAL, reader->line,
                "%s: line %llu: item %lld is not in the model's item table (ids %lld to %lld)", reader->path,
                (unsigned long long)reader->line, (long long)id, (long long)min, (long long)max);
        if (!hs_ids_push(ids, id + run->item_offset))
            return hs_fail_nomem(err, (ids->n + 1) * sizeof id, reader->path);
    }
    if (ids->n == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: expected item ids, one a line, found none", reader->path);
    return HSTU_OK;
}

hstu_status hs_run_read_candidates(hs_run *run, hstu_error *err)
{
    hs_line_reader reader = {0};
    hs_ids ids = {0};
    hstu_status status = hs_line_reader_open(&reader, run->candidates_path, MAX_ID_LINE, err);
    if (status == HSTU_OK)
        status = read_ids(run, &reader, &ids, err);
    hs_line_reader_close(&reader);
    if (status != HSTU_OK) {
        hs_ids_free(&ids);
        return status;
    }
    qsort(ids.data, ids.n, sizeof *ids.data, ascending);
    size_t n = 1;
    for (size_t i = 1; i < ids.n; i++) {
        if (ids.data[i] != ids.data[n - 1])
            ids.data[n++] = ids.data[i];
    }
    run->candidate = ids.data;
    run->n_candidates = n;
    return HSTU_OK;
}
