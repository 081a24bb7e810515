/* What top-k multiplies: items as rows, queries as packed blocks, and their scores by the kernels that the job has chosen. */
#include "base/half.h"
#include "device/cpu/cpu_topk_int.h"

#include <string.h>

/* Pieces of a product by gemm: whole register tiles of all instruction sets; queries of such a depth stay in the nearest cache. */
enum { PIECE_ROWS = 24, PIECE_DEPTH = 128, LINE = 64 };

void hs_topk_copy_row(const topk_job *job, char *dst, int64_t id)
{
    const char *row = (const char *)job->a->table + id * job->row_bytes;
    if (job->widen)
        job->kernels->embed((float *)(void *)dst, row, HS_BF16, 1.0f, NULL, false, job->a->query.cols);
    else
        memcpy(dst, row, (size_t)job->row_bytes);
}

const char *hs_topk_rows(const topk_job *job, const topk_room *room, int64_t begin, int64_t n)
{
    const hs_topk_args *a = job->a;
    const int64_t id = hs_topk_id(a, begin);
    if (!job->widen && hs_topk_id(a, begin + n - 1) - id == n - 1)
        return (const char *)a->table + id * job->row_bytes;
    for (int64_t j = 0; j < n; j++)
        hs_topk_copy_row(job, room->rows + j * job->stride, hs_topk_id(a, begin + j));
    return room->rows;
}

void hs_topk_pack_query(const topk_job *job, char *block, const float *x, int64_t lane)
{
    const int64_t d = job->a->query.cols, width = job->width;
    float *const words = (float *)(void *)block;
    uint16_t *const halves = (uint16_t *)(void *)block;
    if (job->scores->pairs && job->a->table_type == HS_BF16) {
        for (int64_t t = 0; t < d; t++)
            halves[(t / 2 * width + lane) * 2 + t % 2] = hs_f32_to_bf16(x[t]);
    } else if (job->a->table_type == HS_BF16) {
        for (int64_t t = 0; t < d; t++)
            words[t * width + lane] = hs_bf16_to_f32(hs_f32_to_bf16(x[t]));
    } else {
        for (int64_t t = 0; t < d; t++)
            words[t * width + lane] = x[t];
    }
}

/* By gemm, in pieces, so that what is read next comes in the meantime. */
static void multiply(const topk_job *job, const hs_score_tile *t)
{
    const char *ahead = t->ahead, *const end = ahead ? ahead + t->n_items * t->ahead_stride : NULL;
    for (int64_t from = 0; from < t->d; from += PIECE_DEPTH) {
        const int64_t depth = hs_min_i64(PIECE_DEPTH, t->d - from);
        for (int64_t row = 0; row < t->n_items; row += PIECE_ROWS) {
            const int64_t rows = hs_min_i64(PIECE_ROWS, t->n_items - row);
            const char *const enough = ahead ? ahead + rows * depth * t->ahead_stride / t->d : NULL;
            for (; ahead < enough && ahead < end; ahead += LINE)
                __builtin_prefetch(ahead, 0, 2);
            job->kernels->gemm(&(hs_gemm){.c = t->score + row * t->ld,
                .ldc = t->ld,
                .a = (const float *)(const void *)((const char *)t->item + row * t->stride) + from,
                .lda = t->stride / (int64_t)sizeof(float),
                .b = (const float *)t->query + from * HS_PANEL,
                .ldb = HS_PANEL,
                .panel = job->block_bytes / (int64_t)sizeof(float),
                .rows = rows,
                .k = depth,
                .n = t->n * HS_SCORE_BLOCK,
                .accumulate = from > 0});
        }
    }
}

void hs_topk_score(const topk_job *job, const topk_room *room, const char *item, int64_t n, int64_t block, int n_blocks,
    const char *ahead)
{
    const int64_t d = job->a->query.cols;
    const hs_score_tile t = {.score = room->score,
        .ld = job->few ? job->tile : n_blocks * HS_SCORE_BLOCK,
        .item = item,
        .stride = job->stride,
        .query = room->query + block * job->block_bytes,
        .n_items = n,
        .d = d,
        .n = job->few ? (int)job->a->query.rows : n_blocks,
        .ahead = ahead,
        .ahead_stride = job->row_bytes};
    if (job->few) {
        job->few(&t);
    } else if (job->many) {
        job->many(&t);
    } else {
        multiply(job, &t);
    }
}
