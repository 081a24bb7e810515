/* Random weights from a counter-based generator: element i of a weight comes from block i / 4 of its stream, whatever thread
 * computes it. */
#include "model/init.h"

#include "base/random.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 1 << 16, /* elements of one task */
    GROUP = 64       /* elements that are made together: the compiler turns loops of this length into vectors */
};

typedef struct fill {
    float *out;
    int64_t n;
    hs_init init;
    float scale;
    uint64_t seed, stream;
} fill;

/* In (-1/2, 1/2), never an end: 24 bits, each value in the middle of its cell. */
static inline float centred(uint32_t bits)
{
    return ((float)(int32_t)(bits >> 8) + 0.5f) * 0x1p-24f - 0.5f;
}

/* z with Phi(z) - 1/2 = q for |q| <= erf(sqrt(2)) / 2, where |z| <= 2: a rational function of q^2 times q, fitted to 6e-7. */
static inline float truncated_quantile(float q)
{
    const float s = q * q;
    const float above = 2.50661583f + s * (-20.4403037f + s * (49.7790571f + s * (-29.4869396f + s * -8.80522219f)));
    const float below = 1.0f + s * (-9.20214068f + s * (27.2045076f + s * -25.4516711f));
    return q * above / below;
}

static void truncated_normals(float z[GROUP], const uint32_t bits[GROUP], float scale)
{
    const float share = 0.954499736f; /* of a normal distribution within two standard deviations */
    for (int j = 0; j < GROUP; j++)
        z[j] = scale * truncated_quantile(share * centred(bits[j]));
}

static void uniforms(float z[GROUP], const uint32_t bits[GROUP], float scale)
{
    for (int j = 0; j < GROUP; j++)
        z[j] = 2.0f * scale * centred(bits[j]);
}

/* Box and Muller's pairs. */
static void normals(float z[GROUP], const uint32_t bits[GROUP], float scale)
{
    const double turn = 6.283185307179586;
    for (int j = 0; j < GROUP; j += 2) {
        const double radius = sqrt(-2.0 * log(((double)bits[j] + 0.5) * 0x1p-32));
        const double angle = turn * ((double)bits[j + 1] * 0x1p-32);
        z[j] = scale * (float)(radius * cos(angle));
        z[j + 1] = scale * (float)(radius * sin(angle));
    }
}

static void fill_chunk(void *ctx, int64_t chunk)
{
    const fill *f = ctx;
    const int64_t first = chunk * CHUNK;
    const int64_t end = f->n - first < CHUNK ? f->n : first + CHUNK;
    for (int64_t i = first; i < end; i += GROUP) {
        uint32_t bits[GROUP];
        float z[GROUP];
        for (int j = 0; j < GROUP; j += 4)
            hs_random_block(bits + j, f->seed, f->stream, (uint64_t)(i + j) / 4);
        if (f->init == HS_INIT_TRUNCATED_NORMAL)
            truncated_normals(z, bits, f->scale);
        else if (f->init == HS_INIT_NORMAL)
            normals(z, bits, f->scale);
        else
            uniforms(z, bits, f->scale);
        memcpy(f->out + i, z, sizeof(float) * (size_t)(end - i < GROUP ? end - i : GROUP));
    }
}

void hs_init_fill(hs_device *dev, float *out, int64_t n, hs_init init, double scale, uint64_t seed, uint64_t stream)
{
    if (init == HS_INIT_ZERO || init == HS_INIT_ONE) {
        for (int64_t i = 0; i < n; i++)
            out[i] = init == HS_INIT_ONE ? 1.0f : 0.0f;
        return;
    }
    fill f = {.out = out, .n = n, .init = init, .scale = (float)scale, .seed = seed, .stream = stream};
    hs_op_parallel(dev, n / CHUNK + (n % CHUNK != 0), fill_chunk, &f);
}
