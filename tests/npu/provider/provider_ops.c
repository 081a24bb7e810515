/* The tests' own NPU: the list of operators, element types, and what operators share. */
#include "provider.h"

#include <string.h>

static const vnpu_op ops[] = {
    {"Add", VNPU_NUMBERS, 2, 2, 0, vnpu_run_add},
    {"Sub", VNPU_NUMBERS, 2, 2, 0, vnpu_run_sub},
    {"Mul", VNPU_NUMBERS, 2, 2, 0, vnpu_run_mul},
    {"Div", VNPU_NUMBERS, 2, 2, 0, vnpu_run_div},
    {"Max", VNPU_NUMBERS, 2, 2, 0, vnpu_run_max},
    {"Min", VNPU_NUMBERS, 2, 2, 0, vnpu_run_min},
    {"LessOrEqual", VNPU_NUMBERS, 2, 2, 0, vnpu_run_less_equal},
    {"Sqrt", VNPU_FLOATS, 1, 1, 0, vnpu_run_sqrt},
    {"Abs", VNPU_FLOATS, 1, 1, 0, vnpu_run_abs},
    {"Sigmoid", VNPU_FLOATS, 1, 1, 0, vnpu_run_sigmoid},
    {"Relu", VNPU_FLOATS, 1, 1, 0, vnpu_run_relu},
    {"Erf", VNPU_FLOATS, 1, 1, 0, vnpu_run_erf},
    {"Cast", VNPU_NUMBERS, 1, 1, 0, vnpu_run_cast},
    {"Softmax", VNPU_FLOATS, 1, 1, 1, vnpu_run_softmax},
    {"ReduceMean", VNPU_FLOATS, 1, 1, 0, vnpu_run_mean},
    {"ReduceMax", VNPU_FLOATS, 1, 1, 0, vnpu_run_reduce_max},
    {"MatMul", VNPU_FLOATS, 2, 2, 2, vnpu_run_matmul},
    {"Gemm", VNPU_FLOATS, 2, 3, 2, vnpu_run_gemm},
    {"TopK", VNPU_FLOATS, 2, 2, 1, vnpu_run_top_k},
    {"Identity", VNPU_BYTES, 1, 1, 0, vnpu_run_copy},
    {"Reshape", VNPU_BYTES, 2, 2, 0, vnpu_run_copy},
    {"Squeeze", VNPU_BYTES, 1, 2, 0, vnpu_run_copy},
    {"Unsqueeze", VNPU_BYTES, 1, 2, 0, vnpu_run_copy},
    {"Flatten", VNPU_BYTES, 1, 1, 0, vnpu_run_copy},
    {"Transpose", VNPU_BYTES, 1, 1, 0, vnpu_run_transpose},
    {"Concat", VNPU_BYTES, 1, SIZE_MAX, 1, vnpu_run_concat},
    {"Split", VNPU_BYTES, 1, 2, 0, vnpu_run_split},
    {"Slice", VNPU_BYTES, 3, 5, 0, vnpu_run_slice},
    {"Gather", VNPU_BYTES, 2, 2, 0, vnpu_run_gather},
};

const vnpu_op *vnpu_find_op(const char *name)
{
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    return NULL;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

size_t vnpu_type_bytes(int type)
{
    switch (type) {
    case VNPU_F32:
    case VNPU_I32:
        return 4;
    case VNPU_I64:
        return 8;
    case VNPU_F16:
        return 2;
    case VNPU_U8:
    case VNPU_BOOL:
        return 1;
    default:
        return 0;
    }
}

int64_t vnpu_elements(const vnpu_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->size[i];
    return n;
}

size_t vnpu_bytes(const vnpu_tensor *t)
{
    return (size_t)vnpu_elements(t) * vnpu_type_bytes(t->type);
}

int64_t vnpu_get_integer(const vnpu_tensor *t, int64_t i)
{
    switch (t->type) {
    case VNPU_I64:
        return ((const int64_t *)t->data)[i];
    case VNPU_I32:
        return ((const int32_t *)t->data)[i];
    default:
        return ((const uint8_t *)t->data)[i];
    }
}

int vnpu_axis(int64_t axis, int rank)
{
    if (axis < 0)
        axis += rank;
    return axis < 0 || axis >= rank ? -1 : (int)axis;
}

void vnpu_strides(const vnpu_tensor *t, int64_t *stride)
{
    int64_t n = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= t->size[i];
    }
}

float vnpu_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
    float number;
    if (exponent == 0) { /* zero and the numbers below 2^-14, in units of 2^-24 */
        number = (float)fraction * 0x1p-24f;
        memcpy(&bits, &number, sizeof bits);
        bits |= sign;
    } else {
        bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    }
    memcpy(&number, &bits, sizeof number);
    return number;
}

uint16_t vnpu_float_to_half(float number)
{
    uint32_t bits, size, rest, half;
    memcpy(&bits, &number, sizeof bits);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    size = bits & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (size >= 0x477ff000u) /* 65520, from which on the nearest is infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (size < 0x33000000u) /* below half of the smallest */
        return sign;
    uint32_t exponent = size >> 23, shift = exponent < 113 ? 126 - exponent : 13;
    uint32_t fraction = (size & 0x7fffffu) | 0x800000u;
    half = fraction >> shift;
    rest = fraction & ((1u << shift) - 1);
    if (exponent >= 113)
        half += (exponent - 113) << 10; /* the leading bit of the fraction adds the last one */
    half += rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1));
    return (uint16_t)(sign | half);
}

/* ---- attributes ------------------------------------------------------------------------------------------------------ */

const vnpu_attribute *vnpu_attribute_named(const vnpu_call *call, const char *name)
{
    for (int i = 0; i < call->n_attributes; i++)
        if (strcmp(call->attribute[i].name, name) == 0)
            return &call->attribute[i];
    return NULL;
}

int64_t vnpu_integer(const vnpu_call *call, const char *name, int64_t otherwise)
{
    const vnpu_attribute *attribute = vnpu_attribute_named(call, name);
    return attribute && attribute->n > 0 ? attribute->integer[0] : otherwise;
}

float vnpu_float(const vnpu_call *call, const char *name, float otherwise)
{
    const vnpu_attribute *attribute = vnpu_attribute_named(call, name);
    return attribute && attribute->n == 0 ? attribute->number : otherwise;
}
