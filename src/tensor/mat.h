/* Dense and jagged views that operations take. They own nothing. */
#ifndef HS_TENSOR_MAT_H
#define HS_TENSOR_MAT_H

#include <stdint.h>

/* A float32 matrix, row-major: element [r, c] is data[r * ld + c]. On a recording device `data` is a handle. */
typedef struct hs_mat {
    float *data;
    int64_t rows, cols;
    int64_t ld; /* >= cols */
} hs_mat;

/* Rows of all users one behind the other: user b owns rows offset[b] .. offset[b + 1] - 1. */
typedef struct hs_jagged {
    int64_t n_users;
    const int64_t *offset; /* [n_users + 1], offset[0] == 0, nondecreasing */
} hs_jagged;

/* The matrix itself, its columns first .. first + cols - 1, and its rows first .. first + rows - 1. */
static inline hs_mat hs_mat_of(float *data, int64_t rows, int64_t cols)
{
    return (hs_mat){.data = data, .rows = rows, .cols = cols, .ld = cols};
}

static inline hs_mat hs_mat_cols(hs_mat m, int64_t first, int64_t cols)
{
    return (hs_mat){.data = m.data + first, .rows = m.rows, .cols = cols, .ld = m.ld};
}

static inline hs_mat hs_mat_rows(hs_mat m, int64_t first, int64_t rows)
{
    return (hs_mat){.data = m.data + first * m.ld, .rows = rows, .cols = m.cols, .ld = m.ld};
}

#endif
