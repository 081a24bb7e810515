/* Dense and jagged views that operations take. They own nothing. */
#ifndef HS_TENSOR_MAT_H
#define HS_TENSOR_MAT_H

#include <stdbool.h>
#include <stdint.h>

/* A matrix, row-major: element [r, c] is data[r * ld + c], or, of one of bfloat16 values, half[r * ld + c]. On a recording
 * device `data` is a handle.
 * Devices that store bfloat16 read whole blocks of such a matrix: HS_MAT_BLOCK columns from any multiple of it below `cols` on,
 * and as many rows from any row on. What they read behind the matrix counts for nothing, but the columns must be finite numbers. */
typedef struct hs_mat {
    union {
        float *data;
        uint16_t *half;
    };
    int64_t rows, cols;
    int64_t ld; /* >= cols */
    bool bf16;  /* which of the two */
} hs_mat;

enum { HS_MAT_BLOCK = 32 };

/* Elements from one row of bfloat16 values to the next: whole cache lines, and an odd number of them, so that rows that are read
 * together lie in different sets of the cache. */
static inline int64_t hs_mat_half_ld(int64_t cols)
{
    return ((cols + HS_MAT_BLOCK - 1) / HS_MAT_BLOCK | 1) * HS_MAT_BLOCK;
}

/* Rows of all users one behind the other: user b owns rows offset[b] .. offset[b + 1] - 1. */
typedef struct hs_jagged {
    int64_t n_users;
    const int64_t *offset; /* [n_users + 1], offset[0] == 0, nondecreasing */
} hs_jagged;

static inline hs_mat hs_mat_of(float *data, int64_t rows, int64_t cols)
{
    return (hs_mat){.data = data, .rows = rows, .cols = cols, .ld = cols};
}

/* The matrix's rows row .. row + rows - 1, columns col .. col + cols - 1. */
static inline hs_mat hs_mat_part(hs_mat m, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    const int64_t at = row * m.ld + col;
    hs_mat part = {.rows = rows, .cols = cols, .ld = m.ld, .bf16 = m.bf16};
    if (m.bf16)
        part.half = m.half + at;
    else
        part.data = m.data + at;
    return part;
}

static inline hs_mat hs_mat_cols(hs_mat m, int64_t first, int64_t cols)
{
    return hs_mat_part(m, 0, m.rows, first, cols);
}

static inline hs_mat hs_mat_rows(hs_mat m, int64_t first, int64_t rows)
{
    return hs_mat_part(m, first, rows, 0, m.cols);
}

#endif
