/* The checks that operations share. */
#include "op/op_check.h"

#include "base/error.h"

#include <inttypes.h>
#include <math.h>

hstu_status hs_op_check_range(
    const char *op, const char *what, int64_t value, int64_t low, int64_t high, hstu_error *err)
{
    if (value < low || value > high)
        return hs_fail(err, HSTU_EINVAL, 0, "op %s: %s must be %" PRId64 " to %" PRId64 ", but is %" PRId64, op, what,
            low, high, value);
    return HSTU_OK;
}

hstu_status hs_op_check_finite(const char *op, const char *what, double value, hstu_error *err)
{
    if (!isfinite(value))
        return hs_fail(err, HSTU_EINVAL, 0, "op %s: %s must be finite, but is %g", op, what, value);
    return HSTU_OK;
}

hstu_status hs_op_check_pointer(const char *op, const char *what, const void *p, int64_t n, hstu_error *err)
{
    if (!p && n > 0)
        return hs_fail(err, HSTU_EINVAL, 0, "op %s: %s is missing", op, what);
    return HSTU_OK;
}

hstu_status hs_op_check_mat(
    const char *op, const char *what, const hs_mat *m, int64_t rows, int64_t cols, hstu_error *err)
{
    const bool sane = m->rows >= 0 && m->cols >= 0 && m->ld >= m->cols && m->rows <= HS_OP_MAX_ELEMENTS &&
                      m->ld <= HS_OP_MAX_ELEMENTS && (m->ld == 0 || m->rows <= HS_OP_MAX_ELEMENTS / m->ld);
    if (!sane)
        return hs_fail(err, HSTU_EINVAL, 0,
            "op %s: %s has impossible sizes [%" PRId64 ", %" PRId64 "] with row distance %" PRId64, op, what, m->rows,
            m->cols, m->ld);
    if ((rows >= 0 && m->rows != rows) || (cols >= 0 && m->cols != cols))
        return hs_fail(err, HSTU_EINVAL, 0,
            "op %s: %s must be [%" PRId64 ", %" PRId64 "], but is [%" PRId64 ", %" PRId64 "]", op, what,
            rows >= 0 ? rows : m->rows, cols >= 0 ? cols : m->cols, m->rows, m->cols);
    return hs_op_check_pointer(op, what, m->data, m->rows * m->cols, err);
}

hstu_status hs_op_check_users(const char *op, const hs_jagged *users, int64_t rows, hstu_error *err)
{
    HS_TRY(hs_op_check_range(op, "the number of users", users->n_users, 0, HS_OP_MAX_ELEMENTS, err));
    HS_TRY(hs_op_check_pointer(op, "the users' offsets", users->offset, 1, err));
    if (users->offset[0] != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "op %s: the users' offsets must begin at 0, but begin at %" PRId64, op,
            users->offset[0]);
    for (int64_t b = 0; b < users->n_users; b++) {
        if (users->offset[b + 1] < users->offset[b])
            return hs_fail(err, HSTU_EINVAL, 0,
                "op %s: the users' offsets must not fall, but user %" PRId64 " has %" PRId64 " to %" PRId64, op, b,
                users->offset[b], users->offset[b + 1]);
    }
    if (users->offset[users->n_users] != rows)
        return hs_fail(err, HSTU_EINVAL, 0,
            "op %s: the users' offsets must end at the number of rows, %" PRId64 ", but end at %" PRId64, op, rows,
            users->offset[users->n_users]);
    return HSTU_OK;
}

hstu_status hs_op_check_ids(
    const char *op, const char *what, const int64_t *id, int64_t n, int64_t n_rows, hstu_error *err)
{
    HS_TRY(hs_op_check_pointer(op, what, id, n, err));
    for (int64_t i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= n_rows)
            return hs_fail(err, HSTU_EINVAL, 0,
                "op %s: %s must be at least 0 and below %" PRId64 ", but at %" PRId64 " it is %" PRId64, op, what,
                n_rows, i, id[i]);
    }
    return HSTU_OK;
}

hstu_status hs_op_check_apart(
    const char *op, const char *what_a, const hs_mat *a, const char *what_b, const hs_mat *b, hstu_error *err)
{
    if (a->rows == 0 || a->cols == 0 || b->rows == 0 || b->cols == 0)
        return HSTU_OK;
    const int64_t size_a = a->bf16 ? 2 : 4, size_b = b->bf16 ? 2 : 4;
    const uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    const uintptr_t a1 = a0 + (uintptr_t)(((a->rows - 1) * a->ld + a->cols) * size_a);
    const uintptr_t b1 = b0 + (uintptr_t)(((b->rows - 1) * b->ld + b->cols) * size_b);
    if (a1 <= b0 || b1 <= a0)
        return HSTU_OK;
    /* The address ranges cross. Only slices with the same row distance can still be apart: the first columns differ by
     * less than a row, and neither slice reaches the other. */
    if (a->ld == b->ld && a->bf16 == b->bf16) {
        const int64_t ld = a->ld;
        const int64_t elements = ((int64_t)b0 - (int64_t)a0) / size_a;
        const int64_t shift = (elements % ld + ld) % ld; /* b's first column, counted from a's */
        if (shift >= a->cols && shift + b->cols <= ld)
            return HSTU_OK;
    }
    return hs_fail(err, HSTU_EINVAL, 0, "op %s: %s and %s overlap", op, what_a, what_b);
}
