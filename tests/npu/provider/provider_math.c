/* The tests' own NPU: operators that compute element by element. Integers wrap around as the machine's do. */
#include "provider.h"

#include <math.h>
#include <string.h>

typedef float (*float_pair)(float x, float y);
typedef int64_t (*integer_pair)(int64_t x, int64_t y);

/* Walks through out's elements in order: place[0], place[1] are where the operands' elements lie. */
typedef struct walk {
    const vnpu_tensor *out;
    int64_t at[VNPU_RANK], stride[2][VNPU_RANK], place[2];
} walk;

/* false: an operand does not broadcast to out. */
static bool start_walk(walk *w, const vnpu_tensor *out, const vnpu_tensor *const *operand)
{
    memset(w, 0, sizeof *w);
    w->out = out;
    for (int k = 0; k < 2; k++) {
        int64_t stride[VNPU_RANK];
        int missing = out->rank - operand[k]->rank;
        if (missing < 0)
            return false;
        vnpu_strides(operand[k], stride);
        for (int d = 0; d < operand[k]->rank; d++) {
            if (operand[k]->size[d] != 1 && operand[k]->size[d] != out->size[missing + d])
                return false;
            w->stride[k][missing + d] = operand[k]->size[d] == 1 ? 0 : stride[d];
        }
    }
    return true;
}

static void step_walk(walk *w)
{
    for (int d = w->out->rank - 1; d >= 0; d--) {
        w->place[0] += w->stride[0][d];
        w->place[1] += w->stride[1][d];
        if (++w->at[d] < w->out->size[d])
            return;
        w->place[0] -= w->stride[0][d] * w->at[d];
        w->place[1] -= w->stride[1][d] * w->at[d];
        w->at[d] = 0;
    }
}

static void put_integer(const vnpu_tensor *t, int64_t i, int64_t number)
{
    if (t->type == VNPU_I64)
        ((int64_t *)t->data)[i] = number;
    else if (t->type == VNPU_I32)
        ((int32_t *)t->data)[i] = (int32_t)(uint32_t)(uint64_t)number;
    else
        ((uint8_t *)t->data)[i] = (uint8_t)(uint64_t)number;
}

static const char *run_pairs(const vnpu_call *call, float_pair of_floats, integer_pair of_integers)
{
    const vnpu_tensor *x = call->input[0], *y = call->input[1], *out = call->output[0];
    int64_t n = vnpu_elements(out);
    walk w;
    if (x->type != y->type || (out->type != x->type && out->type != VNPU_BOOL))
        return "the operands differ in type";
    if (!start_walk(&w, out, call->input))
        return "an operand does not broadcast to the result";
    for (int64_t i = 0; i < n; i++) {
        if (x->type != VNPU_F32) {
            put_integer(out, i, of_integers(vnpu_get_integer(x, w.place[0]), vnpu_get_integer(y, w.place[1])));
        } else {
            float number = of_floats(((const float *)x->data)[w.place[0]], ((const float *)y->data)[w.place[1]]);
            if (out->type == VNPU_BOOL)
                ((uint8_t *)out->data)[i] = number != 0;
            else
                ((float *)out->data)[i] = number;
        }
        step_walk(&w);
    }
    return NULL;
}

static float add_floats(float x, float y)
{
    return x + y;
}

static int64_t add_integers(int64_t x, int64_t y)
{
    return (int64_t)((uint64_t)x + (uint64_t)y);
}

const char *vnpu_run_add(const vnpu_call *call)
{
    return run_pairs(call, add_floats, add_integers);
}

static float sub_floats(float x, float y)
{
    return x - y;
}

static int64_t sub_integers(int64_t x, int64_t y)
{
    return (int64_t)((uint64_t)x - (uint64_t)y);
}

const char *vnpu_run_sub(const vnpu_call *call)
{
    return run_pairs(call, sub_floats, sub_integers);
}

static float mul_floats(float x, float y)
{
    return x * y;
}

static int64_t mul_integers(int64_t x, int64_t y)
{
    return (int64_t)((uint64_t)x * (uint64_t)y);
}

const char *vnpu_run_mul(const vnpu_call *call)
{
    return run_pairs(call, mul_floats, mul_integers);
}

static float div_floats(float x, float y)
{
    return x / y;
}

/* By zero, which no graph may do, gives 0. */
static int64_t div_integers(int64_t x, int64_t y)
{
    return y == 0 ? 0 : y == -1 ? sub_integers(0, x) : x / y;
}

const char *vnpu_run_div(const vnpu_call *call)
{
    return run_pairs(call, div_floats, div_integers);
}

/* NaN when either is. */
static float max_floats(float x, float y)
{
    return x > y || isnan(x) ? x : y;
}

static int64_t max_integers(int64_t x, int64_t y)
{
    return x > y ? x : y;
}

const char *vnpu_run_max(const vnpu_call *call)
{
    return run_pairs(call, max_floats, max_integers);
}

static float min_floats(float x, float y)
{
    return x < y || isnan(x) ? x : y;
}

static int64_t min_integers(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

const char *vnpu_run_min(const vnpu_call *call)
{
    return run_pairs(call, min_floats, min_integers);
}

static float less_equal_floats(float x, float y)
{
    return x <= y;
}

static int64_t less_equal_integers(int64_t x, int64_t y)
{
    return x <= y;
}

const char *vnpu_run_less_equal(const vnpu_call *call)
{
    if (call->output[0]->type != VNPU_BOOL)
        return "the result is not of type bool";
    return run_pairs(call, less_equal_floats, less_equal_integers);
}

/* ---- of one operand -------------------------------------------------------------------------------------------------- */

static const char *run_single(const vnpu_call *call, float (*of_float)(float x))
{
    const vnpu_tensor *x = call->input[0], *out = call->output[0];
    int64_t n = vnpu_elements(out);
    if (x->type != VNPU_F32 || out->type != VNPU_F32 || vnpu_elements(x) != n)
        return "the result has another type or size than the operand";
    for (int64_t i = 0; i < n; i++)
        ((float *)out->data)[i] = of_float(((const float *)x->data)[i]);
    return NULL;
}

const char *vnpu_run_sqrt(const vnpu_call *call)
{
    return run_single(call, sqrtf);
}

const char *vnpu_run_abs(const vnpu_call *call)
{
    return run_single(call, fabsf);
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

const char *vnpu_run_sigmoid(const vnpu_call *call)
{
    return run_single(call, sigmoid);
}

static float relu(float x)
{
    return x < 0 ? 0 : x;
}

const char *vnpu_run_relu(const vnpu_call *call)
{
    return run_single(call, relu);
}

const char *vnpu_run_erf(const vnpu_call *call)
{
    return run_single(call, erff);
}

/* ---- casts ----------------------------------------------------------------------------------------------------------- */

/* Towards zero; what does not fit becomes the nearest that does, NaN becomes 0. */
static int64_t to_integer(float x, int type)
{
    float low = type == VNPU_I64 ? -0x1p63f : type == VNPU_I32 ? -0x1p31f : 0.0f;
    float high = type == VNPU_I64 ? 0x1p63f : type == VNPU_I32 ? 0x1p31f : 256.0f;
    if (type == VNPU_BOOL)
        return x != 0;
    if (isnan(x))
        return 0;
    if (x >= high)
        return type == VNPU_I64 ? INT64_MAX : type == VNPU_I32 ? INT32_MAX : 255;
    return (int64_t)(x < low ? low : x);
}

const char *vnpu_run_cast(const vnpu_call *call)
{
    const vnpu_tensor *x = call->input[0], *out = call->output[0];
    int64_t n = vnpu_elements(out);
    if (vnpu_elements(x) != n)
        return "the result has another size than the operand";
    for (int64_t i = 0; i < n; i++) {
        if (x->type == VNPU_F32 && out->type == VNPU_F32)
            ((float *)out->data)[i] = ((const float *)x->data)[i];
        else if (x->type == VNPU_F32)
            put_integer(out, i, to_integer(((const float *)x->data)[i], out->type));
        else if (out->type == VNPU_F32)
            ((float *)out->data)[i] = (float)vnpu_get_integer(x, i);
        else
            put_integer(out, i, out->type == VNPU_BOOL ? vnpu_get_integer(x, i) != 0 : vnpu_get_integer(x, i));
    }
    return NULL;
}
