/* Retrieval metrics from ranks. Definitions: Meta generative-recommenders, research/data/eval.py. */
#include "hstu/metric.h"

#include <math.h>

typedef double (*rank_value)(int64_t rank, int64_t k);

static double hit(int64_t rank, int64_t k)
{
    return rank <= k ? 1.0 : 0.0;
}

static double gain(int64_t rank, int64_t k)
{
    return rank <= k ? 1.0 / log2((double)rank + 1.0) : 0.0;
}

static double reciprocal(int64_t rank, int64_t k)
{
    (void)k;
    return 1.0 / (double)rank;
}

static hstu_estimate estimate(const int64_t *rank, size_t n, int64_t k, rank_value value)
{
    if (n == 0)
        return (hstu_estimate){0};
    double sum = 0, sum_of_squares = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t miss = (int64_t)HSTU_MAX_RANK + 1;
        const double x = value(rank[i] < 1 || rank[i] > miss ? miss : rank[i], k);
        sum += x;
        sum_of_squares += x * x;
    }
    const double mean = sum / (double)n;
    if (n == 1)
        return (hstu_estimate){.mean = mean};
    const double variance = (sum_of_squares - (double)n * mean * mean) / (double)(n - 1);
    return (hstu_estimate){.mean = mean, .standard_error = sqrt(fmax(variance, 0.0) / (double)n)};
}

/* A miss (rank 2501) is never a hit, however large k is. */
static int64_t at_most_max_rank(int64_t k)
{
    return k < HSTU_MAX_RANK ? k : HSTU_MAX_RANK;
}

hstu_estimate hstu_hit_rate(const int64_t *rank, size_t n, int64_t k)
{
    return estimate(rank, n, at_most_max_rank(k), hit);
}

hstu_estimate hstu_ndcg(const int64_t *rank, size_t n, int64_t k)
{
    return estimate(rank, n, at_most_max_rank(k), gain);
}

hstu_estimate hstu_mrr(const int64_t *rank, size_t n)
{
    return estimate(rank, n, 0, reciprocal);
}
