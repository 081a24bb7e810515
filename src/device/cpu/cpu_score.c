/* Scores where an instruction set has no kernels of its own. */
#include "device/cpu/cpu_score.h"

#include <stddef.h>

static bool is_hit(const float *x, const float *worst)
{
    int any = 0;
    for (int q = 0; q < HS_SCORE_BLOCK; q++)
        any |= !(x[q] <= worst[q]);
    return any;
}

static void filter(const hs_score_filter *f)
{
    for (int64_t j = 0; j < f->n; j++) {
        float x[HS_SCORE_BLOCK], *score = f->score + j * f->ld;
        unsigned hit = 0;
        for (int q = 0; q < HS_SCORE_BLOCK; q++) {
            x[q] = f->norm ? score[q] * f->norm[j] : score[q];
            x[q] = f->bias ? x[q] + f->bias[j] : x[q];
        }
        for (int q = 0; f->target && q < HS_SCORE_BLOCK; q++)
            f->before[q] += (x[q] > f->target[q]) | ((x[q] == f->target[q]) & (f->first + j < f->target_at[q]));
        if (is_hit(x, f->worst)) {
            for (int q = 0; q < HS_SCORE_BLOCK; q++) {
                hit |= (unsigned)!(x[q] <= f->worst[q]) << q;
                score[q] = x[q];
            }
        }
        f->hit[j] = (uint16_t)hit;
    }
    for (int64_t j = f->n; j % 4 != 0; j++)
        f->hit[j] = 0;
}

const hs_score_kernels hs_scores_any = {.filter = filter};
