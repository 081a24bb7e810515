/* The tests' own NPU: operators that move elements of any type without looking at them. */
#include "provider.h"

#include <string.h>

const char *vnpu_run_copy(const vnpu_call *call)
{
    const vnpu_tensor *in = call->input[0], *out = call->output[0];
    if (vnpu_bytes(in) != vnpu_bytes(out))
        return "input and output differ in size";
    memcpy(out->data, in->data, vnpu_bytes(out));
    return NULL;
}

/* Copies to out, row by row, what lies in memory of `in` at `first` with these strides for out's dimensions. */
static void copy_strided(const vnpu_tensor *out, const vnpu_tensor *in, int64_t first, const int64_t *stride)
{
    const char *from = in->data;
    char *to = out->data;
    size_t bytes = vnpu_type_bytes(out->type);
    int64_t at[VNPU_RANK] = {0}, n = vnpu_elements(out), place = first;
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + (size_t)i * bytes, from + (size_t)place * bytes, bytes);
        for (int d = out->rank - 1; d >= 0; d--) {
            place += stride[d];
            if (++at[d] < out->size[d])
                break;
            place -= stride[d] * at[d];
            at[d] = 0;
        }
    }
}

const char *vnpu_run_transpose(const vnpu_call *call)
{
    const vnpu_tensor *in = call->input[0], *out = call->output[0];
    const vnpu_attribute *perm = vnpu_attribute_named(call, "perm");
    int64_t in_stride[VNPU_RANK], stride[VNPU_RANK];
    if (perm && perm->n != in->rank)
        return "perm has another length than the input's rank";
    vnpu_strides(in, in_stride);
    for (int i = 0; i < in->rank; i++) {
        int from = vnpu_axis(perm ? perm->integer[i] : in->rank - 1 - i, in->rank);
        if (from < 0 || in->size[from] != out->size[i])
            return "perm does not fit the shapes";
        stride[i] = in_stride[from];
    }
    copy_strided(out, in, 0, stride);
    return NULL;
}

/* Bytes of one step along the axis of t, and how many steps of all axes in front there are. */
static size_t bytes_from(const vnpu_tensor *t, int axis)
{
    size_t bytes = vnpu_type_bytes(t->type);
    for (int i = axis; i < t->rank; i++)
        bytes *= (size_t)t->size[i];
    return bytes;
}

static size_t n_before(const vnpu_tensor *t, int axis)
{
    size_t n = 1;
    for (int i = 0; i < axis; i++)
        n *= (size_t)t->size[i];
    return n;
}

const char *vnpu_run_concat(const vnpu_call *call)
{
    const vnpu_tensor *out = call->output[0];
    int axis = vnpu_axis(vnpu_integer(call, "axis", 0), out->rank);
    if (axis < 0)
        return "axis is outside";
    size_t n = n_before(out, axis), row = bytes_from(out, axis), done = 0;
    for (int i = 0; i < call->n_inputs; i++) {
        const vnpu_tensor *in = call->input[i];
        size_t part = bytes_from(in, axis);
        if (done + part > row || n_before(in, axis) != n)
            return "the inputs do not fit the output";
        for (size_t j = 0; j < n; j++)
            memcpy((char *)out->data + j * row + done, (const char *)in->data + j * part, part);
        done += part;
    }
    return done == row ? NULL : "the inputs do not fill the output";
}

const char *vnpu_run_split(const vnpu_call *call)
{
    const vnpu_tensor *in = call->input[0];
    int axis = vnpu_axis(vnpu_integer(call, "axis", 0), in->rank);
    if (axis < 0)
        return "axis is outside";
    size_t n = n_before(in, axis), row = bytes_from(in, axis), done = 0;
    for (int i = 0; i < call->n_outputs; i++) {
        const vnpu_tensor *out = call->output[i];
        if (!out)
            return "an output is left out";
        size_t part = bytes_from(out, axis);
        if (done + part > row || n_before(out, axis) != n)
            return "the outputs do not fit the input";
        for (size_t j = 0; j < n; j++)
            memcpy((char *)out->data + j * part, (const char *)in->data + j * row + done, part);
        done += part;
    }
    return done == row ? NULL : "the outputs do not cover the input";
}

/* Start of a slice, moved into the axis as ONNX has it. */
static int64_t clamp_start(int64_t start, int64_t size, int64_t step)
{
    int64_t last = step < 0 ? size - 1 : size;
    if (start < 0)
        start += size;
    return start < 0 ? 0 : start > last ? last : start;
}

const char *vnpu_run_slice(const vnpu_call *call)
{
    const vnpu_tensor *in = call->input[0], *out = call->output[0], *starts = call->input[1];
    const vnpu_tensor *axes = call->n_inputs > 3 ? call->input[3] : NULL;
    const vnpu_tensor *steps = call->n_inputs > 4 ? call->input[4] : NULL;
    int64_t stride[VNPU_RANK], first = 0, n = vnpu_elements(starts);
    if ((axes && vnpu_elements(axes) != n) || (steps && vnpu_elements(steps) != n) || out->rank != in->rank)
        return "starts, axes and steps differ in length";
    vnpu_strides(in, stride);
    for (int64_t i = 0; i < n; i++) {
        int axis = vnpu_axis(axes ? vnpu_get_integer(axes, i) : i, in->rank);
        int64_t step = steps ? vnpu_get_integer(steps, i) : 1;
        if (axis < 0 || step == 0 || step > INT32_MAX || step < -INT32_MAX)
            return "an axis or step is outside";
        int64_t start = clamp_start(vnpu_get_integer(starts, i), in->size[axis], step);
        int64_t last = start + (out->size[axis] - 1) * step;
        if (out->size[axis] > 0 && (last < 0 || last >= in->size[axis]))
            return "the slice reaches outside";
        first += start * stride[axis];
        stride[axis] *= step;
    }
    copy_strided(out, in, first, stride);
    return NULL;
}

const char *vnpu_run_gather(const vnpu_call *call)
{
    const vnpu_tensor *in = call->input[0], *index = call->input[1], *out = call->output[0];
    int axis = vnpu_axis(vnpu_integer(call, "axis", 0), in->rank);
    if (axis < 0 || (index->type != VNPU_I32 && index->type != VNPU_I64))
        return "the axis or the type of the index does not fit";
    size_t part = bytes_from(in, axis + 1);
    size_t n = n_before(in, axis), rows = (size_t)in->size[axis], n_index = (size_t)vnpu_elements(index);
    if (n * n_index * part != vnpu_bytes(out))
        return "the output has another shape";
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < n_index; i++) {
            int64_t row = vnpu_get_integer(index, (int64_t)i);
            row += row < 0 ? in->size[axis] : 0;
            if (row < 0 || row >= in->size[axis])
                return "an index is outside";
            memcpy((char *)out->data + (j * n_index + i) * part,
                (const char *)in->data + (j * rows + (size_t)row) * part, part);
        }
    return NULL;
}
