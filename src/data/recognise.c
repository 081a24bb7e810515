/* Telling sequence files from everything else by how they begin. */
#include "base/mapfile.h"
#include "data/csv.h"
#include "file/safetensors.h"
#include "hstu/dataset.h"

#include <stdbool.h>
#include <string.h>

enum { HEADER_BYTES = 1 << 20 }; /* of a line of column names; and of tensors' names, of which our files have a few */

static const char our_format[] = "\"hstu_sequences\"";

static bool says_sequences(const hs_mapfile *map)
{
    const size_t n = map->size < HEADER_BYTES ? map->size : HEADER_BYTES, len = sizeof our_format - 1;
    for (size_t i = 0; i + len <= n; i++) {
        if (memcmp(map->data + i, our_format, len) == 0)
            return true;
    }
    return false;
}

static bool has_both(const hs_csv *csv, const char *a, const char *b)
{
    return hs_csv_has_column(csv, a) && hs_csv_has_column(csv, b);
}

static bool has_columns(const char *path)
{
    hs_csv csv;
    if (hs_csv_open(&csv, path, HEADER_BYTES, NULL) != HSTU_OK)
        return false;
    const bool known = has_both(&csv, "user_id", "sequence_item_ids") || has_both(&csv, "sequence", "actions") ||
                       has_both(&csv, "video_id", "action_weights") || has_both(&csv, "movie_id", "unix_timestamp");
    hs_csv_close(&csv);
    return known;
}

int hstu_dataset_recognise(const char *path)
{
    hs_mapfile map = {0};
    if (!path || hs_mapfile_open(&map, path, NULL) != HSTU_OK)
        return 0;
    const bool tensors = hs_safetensors_recognise(&map), ours = tensors && says_sequences(&map);
    hs_mapfile_close(&map);
    return tensors ? ours : has_columns(path);
}
