/* Products with AMX in blocks of up to 32 x 32 sums, and what the vector units do meanwhile: rows of blocks that are summed up
 * already become values. Both kinds of unit work at the same time only where their instructions alternate. */
#ifndef HS_DEVICE_CPU_X86_BLOCK_AMX_H
#define HS_DEVICE_CPU_X86_BLOCK_AMX_H

#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/tiles_amx.h"

#include <stddef.h>

enum { HS_PIPE_MOST = 4 };

/* Where a block of sums belongs; `whole`: none of its columns needs a mask. */
typedef struct hs_pipe_block {
    int64_t row, col, n_rows;
    bool whole;
    char *claim; /* for the owner's use */
} hs_pipe_block;

/* Turns row r of a block of sums into values. `whole`, a literal: as the block says. */
typedef void hs_pipe_finish(
    const void *task, const hs_pipe_block *block, int64_t r, const float *sum, const bool whole);

/* Blocks of sums in the order of their making, whose rows are finished one by one. */
typedef struct hs_pipe {
    const void *task;
    hs_pipe_finish *finish;   /* out of line; where rows stand between products it is called by name, and inlined */
    float (*sum)[SIDE][SIDE]; /* [n], 64-byte aligned */
    int64_t n;                /* <= HS_PIPE_MOST */
    int64_t first, count;     /* the oldest block, and how many there are */
    int64_t next;             /* row of the oldest one */
    int each;                 /* rows for a step of a block: 1, 2, 4 or 8 */
    bool quick;               /* the oldest one is there, is whole, and has `each` rows left */
    hs_pipe_block block[HS_PIPE_MOST];
} hs_pipe;

/* How many rows to finish with each of `steps`, so that `rows` of them are through: what hs_pipe.each may be. */
int hs_pipe_each(int64_t rows, int64_t steps);
/* Memory for the sums of the next block; in a full pipe the oldest one is finished first. */
float *hs_pipe_place(hs_pipe *p);
/* The sums of the next block are in their place. */
void hs_pipe_push(hs_pipe *p, int64_t row, int64_t col, int64_t n_rows, bool whole, char *claim);
/* Finishes up to n rows. */
void hs_pipe_finish_rows(hs_pipe *p, int64_t n);
/* Fewer than `each` rows of the oldest block are left. */
void hs_pipe_turn(hs_pipe *p);

/* c = from + a b of one block; distances in bytes. */
typedef struct hs_block {
    const hs_gemm *g; /* its right side, and k */
    const hs_gemm_columns *cols;
    const char *a;
    const char *from; /* or NULL: 0 */
    char *c;
    int64_t lda, ldfrom, ldc;
    int64_t n_rows, n_cols; /* c and from hold whole tiles, and a rows of them */
} hs_block;

void hs_block_run(const hs_block *s);
/* Sets up the tiles of its sums, two columns of them. */
void hs_block_begin(const hs_block *s);

/* s becomes block (row, columns) of a product; with g->accumulate its sums begin with what g->c holds. Returns whether it consists of
 * whole tiles, as hs_block_run wants it. */
bool hs_block_of(hs_block *s, const hs_gemm *g, const hs_gemm_columns *cols, int64_t row);
/* s's sums move to `sums`, which holds whole tiles; and from there to c, rows ldc bytes apart. In place, for a copy of the block would wait
 * for all stores before it (bench/LOG.md). */
void hs_block_divert(hs_block *s, float sums[SIDE * SIDE]);
void hs_block_restore(const hs_block *s, char *c, int64_t ldc);
/* Any such block. */
void hs_block_gemm(const hs_gemm *g, const hs_gemm_columns *cols, int64_t row);

/* Steps of k of a block of R rows and two columns of tiles, and with each of them rows of the pipe. R, each = p->each and `again`, as in
 * hs_tiles_step, are literals. */
HS_INLINE void hs_block_steps(
    const hs_block *s, hs_pipe *p, hs_pipe_finish *finish, const int R, const int each, const bool again)
{
    const hs_gemm *g = s->g;
    const int64_t word = sizeof(uint32_t), lda = s->lda, ldb = g->ldb * word, panel = g->panel * word;
    const char *a = s->a;
    for (int64_t left = g->k, page = 0; left > 0; left -= s->cols->page_k, page++) {
        const char *b = (const char *)hs_gemm_words(g, s->cols, page);
        int64_t k = left < s->cols->page_k ? left : s->cols->page_k;
        for (; k > 0; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb) {
            if (p->quick) {
                const hs_pipe_block *block = &p->block[p->first];
                float(*const sum)[SIDE] = p->sum[p->first] + p->next;
                int row = 0, product = 0;
                HS_TILES_STEP(a, lda, b, ldb, panel, R, 2, again, {
                    product++;
                    for (; row * 2 * R < product * each; row++)
                        finish(p->task, block, p->next + row, sum[row], true);
                });
                p->next += each;
                if (p->next + each > block->n_rows)
                    hs_pipe_turn(p);
            } else {
                HS_TILES_STEP(a, lda, b, ldb, panel, R, 2, again, (void)0);
                hs_pipe_finish_rows(p, each);
            }
        }
    }
}

HS_INLINE void hs_block_steps_of(const hs_block *s, hs_pipe *p, hs_pipe_finish *finish, const int R, const bool again)
{
    if (p->each == 8)
        hs_block_steps(s, p, finish, R, 8, again);
    else if (p->each == 4)
        hs_block_steps(s, p, finish, R, 4, again);
    else if (p->each == 2)
        hs_block_steps(s, p, finish, R, 2, again);
    else
        hs_block_steps(s, p, finish, R, 1, again);
}

/* A block, and rows of the pipe on the way. */
HS_INLINE void hs_block_piped(const hs_block *s, hs_pipe *p, hs_pipe_finish *finish)
{
    if (s->n_cols <= TILE || s->n_cols % TILE || s->g->k % HS_PAIR_STEP) {
        hs_block_run(s);
        return;
    }
    hs_block_begin(s);
    if (s->n_rows <= TILE)
        hs_block_steps_of(s, p, finish, 1, false);
    else if (s->g->again)
        hs_block_steps_of(s, p, finish, 2, true);
    else
        hs_block_steps_of(s, p, finish, 2, false);
    hs_tiles_store(s->c, s->ldc, s->n_rows <= TILE ? 1 : 2, 2);
    TILES_WRITTEN;
}

#endif
