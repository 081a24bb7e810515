/* Products with AMX in blocks of up to 32 x 32 sums, and what the vector units do meanwhile: rows of blocks that are summed up
 * already become values. Both kinds of unit work at the same time only where their instructions alternate. */
#ifndef HS_DEVICE_CPU_X86_BLOCK_AMX_H
#define HS_DEVICE_CPU_X86_BLOCK_AMX_H

#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/pairs_avx512bf16.h"
#include "device/cpu/x86/tiles_amx.h"

#include <stddef.h>

enum { HS_PIPE_MOST = 4 };

/* A block of sums; `whole`: its rows need no masks. */
typedef struct hs_pipe_block {
    hs_rows rows;
    int64_t n_rows;
    bool whole;
} hs_pipe_block;

/* Turns the rows r .. end - 1 of a block of sums into values. */
typedef void hs_pipe_finish(const hs_rows *rows, bool whole, int64_t r, int64_t end, float (*sum)[SIDE]);
/* n steps of k of a block of one or two rows of tiles and two columns of them, and with each step so many rows, from r on, of a whole
 * block whose sums are `sum`. Operands as in hs_tiles_step; a single row of tiles does not look at `again`. */
typedef void hs_pipe_steps(const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, bool again, int64_t n,
    const hs_rows *rows, int64_t r, float (*sum)[SIDE]);

/* What a pipe's owner does with sums: with one and two rows of tiles, and with 1, 2, 4 and 8 rows a step. */
typedef struct hs_pipe_kind {
    hs_pipe_finish *finish;
    hs_pipe_steps *steps[2][4];
} hs_pipe_kind;

/* Blocks of sums in the order of their making, whose rows are finished one by one. */
typedef struct hs_pipe {
    const hs_pipe_kind *kind;
    float (*sum)[SIDE][SIDE]; /* [n], 64-byte aligned */
    int64_t n;                /* <= HS_PIPE_MOST */
    int64_t first, count;     /* the oldest block, and how many there are */
    int64_t next;             /* row of the oldest one */
    int64_t quick;            /* for so many steps the oldest one, which is whole, has rows */
    int each_bits;            /* 2^each_bits rows for a step of a block */
    hs_pipe_block block[HS_PIPE_MOST];
} hs_pipe;

/* How many rows to finish with each of `steps`, so that `rows` of them are through: what hs_pipe.each_bits may be. */
int hs_pipe_each_bits(int64_t rows, int64_t steps);
/* Memory for the sums of the next block; in a full pipe the oldest one is finished first. */
float *hs_pipe_place(hs_pipe *p);
/* To be filled in with what becomes of them. */
hs_rows *hs_pipe_rows(hs_pipe *p);
/* The sums of the next block are in their place. */
void hs_pipe_push(hs_pipe *p, int64_t n_rows, bool whole);
/* Finishes up to n rows. */
void hs_pipe_finish_rows(hs_pipe *p, int64_t n);

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
/* The same, and rows of the pipe on the way. */
void hs_block_piped(const hs_block *s, hs_pipe *p);

/* s becomes block (row, columns) of a product; with g->accumulate its sums begin with what g->c holds. Returns whether it consists of
 * whole tiles, as hs_block_run wants it. */
bool hs_block_of(hs_block *s, const hs_gemm *g, const hs_gemm_columns *cols, int64_t row);
/* s's sums move to `sums`, which holds whole tiles; and from there to c, rows ldc bytes apart. In place, for a copy of the block would wait
 * for all stores before it (bench/LOG.md). */
void hs_block_divert(hs_block *s, float sums[SIDE * SIDE]);
void hs_block_restore(const hs_block *s, char *c, int64_t ldc);
/* Any such block. */
void hs_block_gemm(const hs_gemm *g, const hs_gemm_columns *cols, int64_t row);

/* The steps of an hs_pipe_steps. finish, R, each and `again` are literals; finish(rows, r, sum, true) turns a row of a whole block into
 * values. It sees a copy of *rows: a store of values might change the original, so that every row would read all of it again. Each is a
 * function of its own, straight and without a look at the pipe: anything else between products takes time from them (bench/LOG.md). */
#define HS_PIPE_STEPS_OF(finish, R, each, again)                                                                       \
    for (; n > 0; n--, r += each, a += STEP_BYTES, b += PAIRS * ldb) {                                                 \
        int product = 0;                                                                                               \
        HS_TILES_STEP(a, lda, b, ldb, panel, R, 2, again, {                                                            \
            HS_UNROLL                                                                                                  \
            for (int row = 0; row < (each); row++) {                                                                   \
                if (row * 2 * (R) / (each) == product)                                                                 \
                    finish(&own, r + row, sum[r + row], true);                                                         \
            }                                                                                                          \
            product++;                                                                                                 \
        });                                                                                                            \
    }

#define HS_PIPE_STEPS(name, finish, R, each)                                                                           \
    static void name(const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, bool stream, int64_t n,    \
        const hs_rows *rows, int64_t r, float(*sum)[SIDE])                                                             \
    {                                                                                                                  \
        const hs_rows own = *rows;                                                                                     \
        if ((R) == 2 && stream)                                                                                        \
            HS_PIPE_STEPS_OF(finish, R, each, true)                                                                    \
        else                                                                                                           \
            HS_PIPE_STEPS_OF(finish, R, each, false)                                                                   \
    }

/* An hs_pipe_kind `name`. */
#define HS_PIPE_KIND(name, finish)                                                                                     \
    static void name##_rows(const hs_rows *rows, bool whole, int64_t r, int64_t end, float(*sum)[SIDE])                \
    {                                                                                                                  \
        const hs_rows own = *rows;                                                                                     \
        for (; whole && r < end; r++)                                                                                  \
            finish(&own, r, sum[r], true);                                                                             \
        for (; r < end; r++)                                                                                           \
            finish(&own, r, sum[r], false);                                                                            \
    }                                                                                                                  \
    HS_PIPE_STEPS(name##_1_1, finish, 1, 1)                                                                            \
    HS_PIPE_STEPS(name##_1_2, finish, 1, 2)                                                                            \
    HS_PIPE_STEPS(name##_1_4, finish, 1, 4)                                                                            \
    HS_PIPE_STEPS(name##_1_8, finish, 1, 8)                                                                            \
    HS_PIPE_STEPS(name##_2_1, finish, 2, 1)                                                                            \
    HS_PIPE_STEPS(name##_2_2, finish, 2, 2)                                                                            \
    HS_PIPE_STEPS(name##_2_4, finish, 2, 4)                                                                            \
    HS_PIPE_STEPS(name##_2_8, finish, 2, 8)                                                                            \
    static const hs_pipe_kind name = {name##_rows,                                                                     \
        {{name##_1_1, name##_1_2, name##_1_4, name##_1_8}, {name##_2_1, name##_2_2, name##_2_4, name##_2_8}}}

#endif
