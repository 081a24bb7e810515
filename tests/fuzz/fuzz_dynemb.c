/* libFuzzer target: the key and value files of one dynamic table. Byte 0: ranks, 1 to 4; byte 1: the expected width, 0 for
 * none; then for each rank two 16-bit sizes; then the bytes of each rank's keys and values. Every key that a table was
 * opened with must lead to a row, every float of which is read. */
#include "base/alloc.h"
#include "ckpt/dynemb.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 4 };

static const uint8_t *at, *end;

static size_t take_size(void)
{
    if (end - at < 2)
        return 0;
    const size_t size = (size_t)at[0] | (size_t)at[1] << 8;
    at += 2;
    return size;
}

/* A copy, so that a read past its end is seen. */
static hs_mapfile take_file(size_t size)
{
    const size_t left = (size_t)(end - at), n = size < left ? size : left;
    unsigned char *data = n ? malloc(n) : NULL;
    if (!data)
        return (hs_mapfile){0};
    memcpy(data, at, n);
    at += n;
    return (hs_mapfile){.data = data, .size = n};
}

static void check_rows(const hs_dynemb *t)
{
    volatile float sum = 0.0f;
    for (uint32_t r = 0; r < t->world_size; r++) {
        for (uint64_t i = 0; i < t->table.part[r].n_rows; i++) {
            int64_t key;
            memcpy(&key, t->rank[r].keys.data + 8 * i, sizeof key);
            const float *row = hs_table_row(&t->table, key);
            if ((const unsigned char *)row != t->rank[r].values.data + 4 * t->table.dim * i)
                __builtin_trap();
            for (uint64_t d = 0; d < t->table.dim; d++)
                sum += row[d];
        }
    }
    (void)sum;
    (void)hs_table_row(&t->table, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hstu_error err;
    size_t sizes[2 * MAX_RANKS];
    if (size < 2)
        return 0;
    at = data + 2;
    end = data + size;
    hs_dynemb t = {.folder = hs_strndup("fuzz", 4), .name = hs_strndup("t", 1), .world_size = 1 + data[0] % MAX_RANKS};
    t.rank = hs_calloc(t.world_size, sizeof *t.rank);
    for (uint32_t i = 0; i < 2 * t.world_size; i++)
        sizes[i] = take_size();
    for (uint32_t r = 0; r < t.world_size; r++) {
        t.rank[r].keys = take_file(sizes[2 * r]);
        t.rank[r].values = take_file(sizes[2 * r + 1]);
    }
    if (hs_dynemb_index(&t, data[1], &err) == HSTU_OK)
        check_rows(&t);
    for (uint32_t r = 0; r < t.world_size; r++) {
        free((void *)(uintptr_t)t.rank[r].keys.data);
        free((void *)(uintptr_t)t.rank[r].values.data);
        t.rank[r] = (hs_dynemb_rank){0}; /* no maps: close must not unmap them */
    }
    hs_dynemb_close(&t);
    return 0;
}
