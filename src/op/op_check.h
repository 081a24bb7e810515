/* The checks that operations share. Every failure is HSTU_EINVAL with the operation's name. */
#ifndef HS_OP_OP_CHECK_H
#define HS_OP_OP_CHECK_H

#include "device/device.h"

/* Rows, columns and elements stay below this, so that no index inside a device overflows. */
#define HS_OP_MAX_ELEMENTS (INT64_C(1) << 48)

/* m is a matrix of these sizes; -1 leaves a size open. */
hstu_status hs_op_check_mat(
    const char *op, const char *what, const hs_mat *m, int64_t rows, int64_t cols, hstu_error *err);
/* p may be NULL only when n is 0. */
hstu_status hs_op_check_pointer(const char *op, const char *what, const void *p, int64_t n, hstu_error *err);
/* Offsets begin at 0, never fall, and end at `rows`. */
hstu_status hs_op_check_users(const char *op, const hs_jagged *users, int64_t rows, hstu_error *err);
/* All that kv_write asks of its arguments. */
hstu_status hs_op_check_kv_write(const char *op, const hs_kv_write_args *a, hstu_error *err);
/* low <= value <= high. */
hstu_status hs_op_check_range(
    const char *op, const char *what, int64_t value, int64_t low, int64_t high, hstu_error *err);
/* Neither infinite nor NaN. */
hstu_status hs_op_check_finite(const char *op, const char *what, double value, hstu_error *err);
/* Every id in 0 .. n_rows - 1. */
hstu_status hs_op_check_ids(
    const char *op, const char *what, const int64_t *id, int64_t n, int64_t n_rows, hstu_error *err);
/* Two matrices that must share no element: equal or crossing column slices of one matrix are found. */
hstu_status hs_op_check_apart(
    const char *op, const char *what_a, const hs_mat *a, const char *what_b, const hs_mat *b, hstu_error *err);

#endif
