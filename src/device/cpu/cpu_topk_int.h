/* What the files of top-k share: the job, and the room of a thread. */
#ifndef HS_DEVICE_CPU_CPU_TOPK_INT_H
#define HS_DEVICE_CPU_CPU_TOPK_INT_H

#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_score.h"
#include "device/cpu/cpu_topk.h"

enum { HS_TOPK_TILE = 256 }; /* items of a tile at most */

/* State of one (part, query). */
typedef struct query_state {
    int64_t n_best, n_before; /* entries in the heap; candidates that come before the target */
    int64_t seen;             /* next index into seen[] */
    bool found;               /* the target has a score */
} query_state;

typedef struct topk_job {
    const hs_cpu_kernels *kernels;
    const hs_score_kernels *scores;
    const hs_topk_args *a;
    void (*few)(const hs_score_tile *t), (*many)(const hs_score_tile *t); /* both NULL: gemm over float32 rows */
    bool widen;                                                           /* items become float32 first */
    int64_t width, block_bytes;                                           /* queries of a packed block, and its bytes */
    int64_t row_bytes, stride; /* of the table's rows; of the rows that kernels read */
    int64_t tile;              /* items */
    int64_t k;                 /* at most the number of candidates */
    int64_t n_groups, group;   /* of queries; queries in each but the last */
    int64_t n_parts, keep;     /* of candidates; entries of a part's heaps but those of the first, which hold k */
    hs_scored *best;           /* [n, k], then [n_parts - 1, n, keep] */
    query_state *state;        /* [n_parts, n] */
    _Atomic float *bound;      /* [n]: k scores that are as high or higher have been seen */
    hs_cpu_space space;
} topk_job;

/* A thread's room, for `group` queries rounded up to whole blocks. */
typedef struct topk_room {
    char *query, *rows;
    float *score, *norm, *bias;
    float *floor;          /* no score that is as low or lower is among the best k */
    float *worst, *target; /* the floor, or the worst that is kept; NaN: all are wanted; no target */
    int64_t *target_index; /* candidates in front of it */
    int32_t *target_at, *before;
    uint16_t *hit;
} topk_room;

/* A group of queries and a part of the candidates. */
typedef struct topk_part {
    topk_room room;
    int64_t first, n; /* queries */
    hs_scored *best;  /* [n, keep] */
    query_state *state;
    int64_t keep;
} topk_part;

static inline int64_t hs_topk_id(const hs_topk_args *a, int64_t index)
{
    return a->candidate ? a->candidate[index] : a->first + index;
}

/* The first index in begin .. end whose id is >= id. */
int64_t hs_topk_lower_bound(const int64_t *ids, int64_t begin, int64_t end, int64_t id);

/* A row as kernels want it. */
void hs_topk_copy_row(const topk_job *job, char *dst, int64_t id);
/* Those of candidates begin .. begin + n - 1: in the table if they lie there in one piece. */
const char *hs_topk_rows(const topk_job *job, const topk_room *room, int64_t begin, int64_t n);
/* A query [D] becomes lane `lane` of a packed block, whose other lanes stay. */
void hs_topk_pack_query(const topk_job *job, char *block, const float *x, int64_t lane);
/* Scores of n items with the blocks from `block` on: for few queries room->score[q * tile + j], else
 * room->score[j * 16 n_blocks + ...]. `ahead`, where not NULL, is read next. */
void hs_topk_score(const topk_job *job, const topk_room *room, const char *item, int64_t n, int64_t block, int n_blocks,
    const char *ahead);

/* Keeps the best of the candidates begin .. end - 1, one or more. */
void hs_topk_run_part(const topk_job *job, const topk_part *p, int64_t begin, int64_t end);

#endif
