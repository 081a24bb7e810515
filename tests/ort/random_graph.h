/* Graphs of random operators over small tensors. */
#ifndef TESTS_ORT_RANDOM_GRAPH_H
#define TESTS_ORT_RANDOM_GRAPH_H

#include "ort/run_graph.h"

#include <stdio.h>

/* Values of a random graph, all within about -1 .. 1. Exact ones are inputs or moved inputs: what must not turn on rounding may
 * look at these only. */
typedef struct grower {
    hs_graph *g;
    uint32_t seed;
    hs_value pool[64];
    bool exact[64];
    int n;
} grower;

static inline void keep(grower *r, hs_value v, bool exact)
{
    assert_true(r->n < 64);
    r->pool[r->n] = v;
    r->exact[r->n++] = exact;
}

static inline hs_value number(grower *r, double d)
{
    return hs_graph_number(r->g, HS_F32, d);
}

static inline hs_value noise_constant(grower *r, hs_dims dims, float factor)
{
    float data[512];
    size_t n = hs_dims_elements(&dims);
    assert_true(n <= 512);
    for (size_t i = 0; i < n; i++)
        data[i] = factor * noise(&r->seed);
    return hs_graph_constant_copy(r->g, HS_F32, dims, data);
}

static inline hs_dims dims_of(const grower *r, hs_value v)
{
    return hs_graph_at(r->g, v)->dims;
}

/* Something that broadcasts to x's shape: another value, a constant with some dimensions of 1, or fewer of them. */
static inline hs_value partner(grower *r, hs_value x)
{
    hs_dims dims = dims_of(r, x), other;
    hs_value v = r->pool[pick(&r->seed, r->n)];
    other = dims_of(r, v);
    if (hs_dims_equal(&dims, &other))
        return v;
    int dropped = pick(&r->seed, dims.rank);
    hs_dims few = {.rank = dims.rank - dropped};
    for (int i = 0; i < few.rank; i++)
        few.size[i] = pick(&r->seed, 2) ? dims.size[i + dropped] : 1;
    return noise_constant(r, few, 1);
}

static inline hs_value grow_arithmetic(grower *r, hs_value x)
{
    hs_graph *g = r->g;
    hs_value y = partner(r, x);
    switch (pick(&r->seed, 7)) {
    case 0:
        return hs_graph_mul(g, hs_graph_add(g, x, y), number(r, 0.5));
    case 1:
        return hs_graph_mul(g, number(r, 0.5), hs_graph_sub(g, y, x));
    case 2:
        return hs_graph_mul(g, x, y);
    case 3:
        return hs_graph_div(g, x, hs_graph_add(g, hs_graph_abs(g, y), number(r, 1)));
    case 4:
        return hs_graph_max(g, x, y);
    case 5:
        return hs_graph_min(g, y, x);
    default:
        return hs_graph_sub(g, hs_graph_sqrt(g, hs_graph_add(g, hs_graph_abs(g, x), number(r, 1))), number(r, 1));
    }
}

static inline hs_value grow_function(grower *r, hs_value x)
{
    hs_graph *g = r->g;
    switch (pick(&r->seed, 6)) {
    case 0:
        return hs_graph_mul(g, x, hs_graph_sigmoid(g, x));
    case 1:
        return hs_graph_relu(g, x);
    case 2:
        return hs_graph_erf(g, x);
    case 3:
        return hs_graph_softmax(g, x);
    case 4:
        return hs_graph_sub(g, x, hs_graph_mean(g, x));
    default:
        return hs_graph_mul(g, x, hs_graph_reduce_max(g, x));
    }
}

/* By a constant matrix, with a bias at times, or by itself turned over. */
static inline hs_value grow_product(grower *r, hs_value x)
{
    hs_graph *g = r->g;
    hs_dims dims = dims_of(r, x);
    int64_t k = dims.size[dims.rank - 1];
    if (pick(&r->seed, 3) == 0) {
        int perm[HS_GRAPH_RANK];
        for (int i = 0; i < dims.rank; i++)
            perm[i] = i < dims.rank - 2 ? i : 2 * dims.rank - 3 - i;
        return hs_graph_mul(g, hs_graph_matmul(g, x, hs_graph_transpose(g, x, perm)), number(r, 1 / (double)k));
    }
    int64_t n = 1 + pick(&r->seed, 6);
    hs_value product = hs_graph_matmul(g, x, noise_constant(r, hs_dims_2(k, n), 1 / (float)k));
    return pick(&r->seed, 2) ? hs_graph_add(g, product, noise_constant(r, hs_dims_1(n), 0.1f)) : product;
}

static inline hs_value grow_move(grower *r, hs_value x)
{
    hs_graph *g = r->g;
    hs_dims dims = dims_of(r, x);
    int axis = pick(&r->seed, dims.rank), perm[HS_GRAPH_RANK];
    switch (pick(&r->seed, 5)) {
    case 0:
        return hs_graph_reshape(g, x, hs_dims_2(dims.size[0], (int64_t)hs_dims_elements(&dims) / dims.size[0]));
    case 1:
        for (int i = 0; i < dims.rank; i++)
            perm[i] = (i + axis) % dims.rank;
        return hs_graph_transpose(g, x, perm);
    case 2:
        return hs_graph_concat(g, axis, (const hs_value[]){x, hs_graph_slice(g, x, axis, 0, 1), x}, 3);
    case 3:
        return hs_graph_slice(g, x, axis, dims.size[axis] / 2, dims.size[axis] - dims.size[axis] / 2);
    default: {
        const int64_t rows[3] = {dims.size[0] - 1, 0, dims.size[0] / 2};
        return hs_graph_gather(g, x, hs_graph_constant_copy(g, HS_I64, hs_dims_1(3), rows));
    }
    }
}

/* Comparisons, places and casts to integers: of exact values. Those for TopK are rounded at times, so that there are ties. */
static inline hs_value grow_choice(grower *r, hs_value x)
{
    hs_graph *g = r->g;
    hs_dims dims = dims_of(r, x);
    if (pick(&r->seed, 3) == 0)
        return hs_graph_cast(g, hs_graph_less_equal(g, x, number(r, 0.25)), HS_F32);
    if (pick(&r->seed, 2) == 0) {
        hs_value scaled = hs_graph_cast(g, hs_graph_mul(g, x, number(r, 8)), pick(&r->seed, 2) ? HS_I32 : HS_I64);
        return hs_graph_mul(g, hs_graph_cast(g, hs_graph_max(g, scaled, scaled), HS_F32), number(r, 0.125));
    }
    hs_value values = HS_NO_VALUE, places = HS_NO_VALUE;
    if (pick(&r->seed, 2) == 0)
        x = hs_graph_cast(g, hs_graph_cast(g, hs_graph_mul(g, x, number(r, 2)), HS_I32), HS_F32);
    hs_value flat = hs_graph_reshape(g, x, hs_dims_2(dims.size[0], (int64_t)hs_dims_elements(&dims) / dims.size[0]));
    hs_graph_top_k(g, flat, (dims.size[0] + 1) / 2, &values, &places);
    hs_value share = hs_graph_mul(g, hs_graph_cast(g, places, HS_F32), number(r, 1 / (double)dims.size[0]));
    return hs_graph_mul(g, values, share);
}

static inline void grow_one(grower *r)
{
    int at = pick(&r->seed, r->n);
    hs_value x = r->pool[at];
    hs_dims dims = dims_of(r, x);
    bool small = hs_dims_elements(&dims) <= 256;
    switch (pick(&r->seed, 5)) {
    case 0:
        keep(r, grow_function(r, x), false);
        break;
    case 1:
        if (dims.rank >= 2 && dims.size[dims.rank - 1] <= 64 && small)
            keep(r, grow_product(r, x), false);
        break;
    case 2:
        if (small)
            keep(r, grow_move(r, x), r->exact[at]);
        break;
    case 3:
        if (r->exact[at])
            keep(r, grow_choice(r, x), false);
        break;
    default:
        if (small)
            keep(r, grow_arithmetic(r, x), false);
    }
}

static inline hs_graph *random_graph(uint32_t seed)
{
    grower r = {.g = hs_graph_new(), .seed = seed * 2654435761u};
    assert_non_null(r.g);
    keep(&r, hs_graph_input(r.g, "a", HS_F32, hs_dims_3(2, 3, 4)), true);
    keep(&r, hs_graph_input(r.g, "b", HS_F32, hs_dims_2(5, 7)), true);
    keep(&r, hs_graph_input(r.g, "c", HS_F32, hs_dims_4(2, 2, 1, 3)), true);
    for (int i = 0; i < 24; i++)
        grow_one(&r);
    for (int i = 3; i < r.n; i++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", i);
        if (i == r.n - 1 || pick(&r.seed, 3) == 0)
            hs_graph_output(r.g, name, r.pool[i]);
    }
    return r.g;
}

#endif
