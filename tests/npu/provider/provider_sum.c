/* The tests' own NPU: operators whose every result needs many elements. Products are summed in fp32 over ascending places. */
#include "provider.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char no_memory[] = "no memory";

/* out[m, n] += a[m, k] b[k, n], in strips of columns whose part of b stays in the processor's cache. */
static void multiply(float *out, const float *a, const float *b, int64_t m, int64_t k, int64_t n)
{
    enum { STRIP = 512 };
    for (int64_t first = 0; first < n; first += STRIP) {
        int64_t width = n - first < STRIP ? n - first : STRIP;
        for (int64_t i = 0; i < m; i++) {
            float *row = out + i * n + first;
            for (int64_t p = 0; p < k; p++) {
                const float factor = a[i * k + p], *from = b + p * n + first;
                for (int64_t j = 0; j < width; j++)
                    row[j] += factor * from[j];
            }
        }
    }
}

/* Where an operand's matrix lies for the batch at place i of out, in elements. */
static int64_t batch_place(const vnpu_tensor *t, const vnpu_tensor *out, int64_t i)
{
    int64_t stride[VNPU_RANK], place = 0;
    vnpu_strides(t, stride);
    for (int d = out->rank - 3; d >= 0; d--) {
        int own = d - (out->rank - t->rank);
        int64_t at = i % out->size[d];
        i /= out->size[d];
        if (own >= 0 && t->size[own] != 1)
            place += at * stride[own];
    }
    return place;
}

static bool batches_fit(const vnpu_tensor *t, const vnpu_tensor *out)
{
    for (int d = 0; d < t->rank - 2; d++)
        if (t->size[d] != 1 && t->size[d] != out->size[d + out->rank - t->rank])
            return false;
    return t->rank <= out->rank && t->type == VNPU_F32;
}

const char *vnpu_run_matmul(const vnpu_call *call)
{
    const vnpu_tensor *a = call->input[0], *b = call->input[1], *out = call->output[0];
    int64_t m = a->size[a->rank - 2], k = a->size[a->rank - 1], n = b->size[b->rank - 1], n_batches = 1;
    if (out->rank < 2 || out->type != VNPU_F32 || !batches_fit(a, out) || !batches_fit(b, out) ||
        b->size[b->rank - 2] != k || out->size[out->rank - 2] != m || out->size[out->rank - 1] != n)
        return "the shapes do not fit";
    for (int d = 0; d < out->rank - 2; d++)
        n_batches *= out->size[d];
    memset(out->data, 0, vnpu_bytes(out));
    for (int64_t i = 0; i < n_batches; i++)
        multiply((float *)out->data + i * m * n, (const float *)a->data + batch_place(a, out, i),
            (const float *)b->data + batch_place(b, out, i), m, k, n);
    return NULL;
}

/* The matrix, turned over when asked, in new memory. */
static float *copy_matrix(const vnpu_tensor *t, bool turn)
{
    int64_t rows = t->size[0], columns = t->size[1];
    float *copy = malloc(vnpu_bytes(t) + 1);
    for (int64_t i = 0; copy && i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            copy[turn ? j * rows + i : i * columns + j] = ((const float *)t->data)[i * columns + j];
    return copy;
}

/* out = alpha * out + beta * c, c [m, n] or broadcast to it. */
static void add_scaled(const vnpu_tensor *out, const vnpu_tensor *c, float alpha, float beta)
{
    int64_t m = out->size[0], n = out->size[1];
    int64_t columns = c && c->rank > 0 ? c->size[c->rank - 1] : 1, rows = c && c->rank > 1 ? c->size[0] : 1;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float *to = (float *)out->data + i * n + j;
            *to *= alpha;
            if (c)
                *to += beta * ((const float *)c->data)[(rows == 1 ? 0 : i * columns) + (columns == 1 ? 0 : j)];
        }
}

const char *vnpu_run_gemm(const vnpu_call *call)
{
    const vnpu_tensor *a = call->input[0], *b = call->input[1], *c = call->n_inputs > 2 ? call->input[2] : NULL;
    const vnpu_tensor *out = call->output[0];
    bool turn_a = vnpu_integer(call, "transA", 0) != 0, turn_b = vnpu_integer(call, "transB", 0) != 0;
    if (a->rank != 2 || b->rank != 2 || out->rank != 2 || b->type != VNPU_F32 || (c && c->type != VNPU_F32))
        return "the operands are not matrices of one type";
    int64_t m = a->size[turn_a], k = a->size[!turn_a], n = b->size[!turn_b];
    if (b->size[turn_b] != k || out->size[0] != m || out->size[1] != n || (c && c->rank > 2) ||
        (c && c->rank > 0 && c->size[c->rank - 1] != 1 && c->size[c->rank - 1] != n) ||
        (c && c->rank > 1 && c->size[0] != 1 && c->size[0] != m))
        return "the shapes do not fit";
    float *a_copy = copy_matrix(a, turn_a), *b_copy = copy_matrix(b, turn_b);
    if (a_copy && b_copy) {
        memset(out->data, 0, vnpu_bytes(out));
        multiply(out->data, a_copy, b_copy, m, k, n);
        add_scaled(out, c, vnpu_float(call, "alpha", 1), vnpu_float(call, "beta", 1));
    }
    const char *wrong = a_copy && b_copy ? NULL : no_memory;
    free(a_copy);
    free(b_copy);
    return wrong;
}

/* ---- along axes ------------------------------------------------------------------------------------------------------ */

/* A tensor as [before, n, after] around one axis. */
typedef struct axis_view {
    int64_t before, n, after;
} axis_view;

static axis_view view_axis(const vnpu_tensor *t, int axis)
{
    axis_view v = {1, t->size[axis], 1};
    for (int d = 0; d < axis; d++)
        v.before *= t->size[d];
    for (int d = axis + 1; d < t->rank; d++)
        v.after *= t->size[d];
    return v;
}

static void softmax_line(float *out, const float *x, int64_t n, int64_t stride)
{
    float largest = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        largest = x[i * stride] > largest ? x[i * stride] : largest;
    for (int64_t i = 0; i < n; i++) {
        out[i * stride] = expf(x[i * stride] - largest);
        sum += (double)out[i * stride];
    }
    for (int64_t i = 0; i < n; i++)
        out[i * stride] = (float)((double)out[i * stride] / sum);
}

const char *vnpu_run_softmax(const vnpu_call *call)
{
    const vnpu_tensor *x = call->input[0], *out = call->output[0];
    int axis = vnpu_axis(vnpu_integer(call, "axis", -1), x->rank);
    if (axis < 0 || vnpu_elements(x) != vnpu_elements(out))
        return "axis is outside";
    axis_view v = view_axis(x, axis);
    for (int64_t i = 0; i < v.before; i++)
        for (int64_t j = 0; j < v.after; j++) {
            int64_t place = i * v.n * v.after + j;
            softmax_line((float *)out->data + place, (const float *)x->data + place, v.n, v.after);
        }
    return NULL;
}

/* Strides of the result for every dimension of x, 0 for those that are reduced; *n elements meet in each result. */
static const char *reduced_strides(const vnpu_call *call, int64_t *stride, int64_t *n)
{
    const vnpu_tensor *x = call->input[0];
    const vnpu_attribute *axes = vnpu_attribute_named(call, "axes");
    bool reduced[VNPU_RANK] = {false};
    int64_t size = 1;
    for (int i = 0; axes && i < axes->n; i++) {
        int axis = vnpu_axis(axes->integer[i], x->rank);
        if (axis < 0)
            return "an axis is outside";
        reduced[axis] = true;
    }
    *n = 1;
    for (int d = x->rank - 1; d >= 0; d--) {
        bool here = reduced[d] || !axes;
        stride[d] = here ? 0 : size;
        *(here ? n : &size) *= x->size[d];
    }
    return size == vnpu_elements(call->output[0]) ? NULL : "the result has another size";
}

static const char *reduce(const vnpu_call *call, bool mean)
{
    const vnpu_tensor *x = call->input[0], *out = call->output[0];
    int64_t stride[VNPU_RANK], at[VNPU_RANK] = {0}, place = 0, n = 1, n_results = vnpu_elements(out);
    const char *wrong = reduced_strides(call, stride, &n);
    if (wrong)
        return wrong;
    double *result = malloc((size_t)n_results * sizeof *result + 1);
    if (!result)
        return no_memory;
    for (int64_t i = 0; i < n_results; i++)
        result[i] = mean ? 0 : -INFINITY;
    for (int64_t i = 0, n_x = vnpu_elements(x); i < n_x; i++) {
        double number = (double)((const float *)x->data)[i];
        if (mean)
            result[place] += number;
        else if (number > result[place] || isnan(number))
            result[place] = number;
        for (int d = x->rank - 1; d >= 0; d--) {
            place += stride[d];
            if (++at[d] < x->size[d])
                break;
            place -= stride[d] * at[d];
            at[d] = 0;
        }
    }
    for (int64_t i = 0; i < n_results; i++)
        ((float *)out->data)[i] = (float)(mean ? result[i] / (double)n : result[i]);
    free(result);
    return NULL;
}

const char *vnpu_run_mean(const vnpu_call *call)
{
    return reduce(call, true);
}

const char *vnpu_run_reduce_max(const vnpu_call *call)
{
    return reduce(call, false);
}

/* ---- the largest ----------------------------------------------------------------------------------------------------- */

typedef struct ranked {
    float key; /* smaller comes first */
    int64_t place;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->key != y->key && !(isnan(x->key) && isnan(y->key)))
        return isnan(x->key) || x->key > y->key ? 1 : -1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static void top_line(const vnpu_call *call, ranked *list, int64_t n, int64_t k, int64_t stride, int64_t in, int64_t out)
{
    float *values = call->output[0] ? (float *)call->output[0]->data + out : NULL;
    int64_t *places = call->output[1] ? (int64_t *)call->output[1]->data + out : NULL;
    float sign = vnpu_integer(call, "largest", 1) != 0 ? -1.0f : 1.0f;
    for (int64_t i = 0; i < n; i++)
        list[i] = (ranked){sign * ((const float *)call->input[0]->data)[in + i * stride], i};
    qsort(list, (size_t)n, sizeof *list, compare_ranked);
    for (int64_t i = 0; i < k; i++) {
        if (values)
            values[i * stride] = ((const float *)call->input[0]->data)[in + list[i].place * stride];
        if (places)
            places[i * stride] = list[i].place;
    }
}

const char *vnpu_run_top_k(const vnpu_call *call)
{
    const vnpu_tensor *x = call->input[0];
    int axis = vnpu_axis(vnpu_integer(call, "axis", -1), x->rank);
    int64_t k = vnpu_elements(call->input[1]) == 1 ? vnpu_get_integer(call->input[1], 0) : -1;
    if (axis < 0 || k < 0 || k > x->size[axis] || call->n_outputs != 2)
        return "the axis or k does not fit";
    for (int i = 0; i < 2; i++)
        if (call->output[i] && (call->output[i]->size[axis] != k || call->output[i]->rank != x->rank))
            return "a result has another shape";
    axis_view v = view_axis(x, axis);
    ranked *list = malloc((size_t)v.n * sizeof *list + 1);
    if (!list)
        return no_memory;
    for (int64_t i = 0; i < v.before; i++)
        for (int64_t j = 0; j < v.after; j++)
            top_line(call, list, v.n, k, v.after, i * v.n * v.after + j, i * k * v.after + j);
    free(list);
    return NULL;
}
