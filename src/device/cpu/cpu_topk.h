/* A bounded heap of scored candidates, the worst at its root. One is a word: its score's bits, so that they ascend with it, over its
 * index's, inverted, so that of equal scores the smaller index comes first. Comparing words takes no branch. */
#ifndef HS_DEVICE_CPU_CPU_TOPK_H
#define HS_DEVICE_CPU_CPU_TOPK_H

#include <stdint.h>
#include <string.h>

typedef uint64_t hs_scored; /* the larger comes first in the order of top-k */

/* score is no NaN; -0 becomes 0. index < HS_TOPK_MOST. */
static inline hs_scored hs_scored_of(float score, int64_t index)
{
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31;
    return (uint64_t)bits << 32 | (uint32_t)~index;
}

static inline float hs_scored_score(hs_scored x)
{
    const uint32_t high = (uint32_t)(x >> 32), bits = high ^ (high >> 31 ? UINT32_C(1) << 31 : UINT32_MAX);
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static inline int64_t hs_scored_index(hs_scored x)
{
    return (uint32_t)~x;
}

/* Adds x to a heap of n entries that has room for one more. */
static inline void hs_scored_push(hs_scored *heap, int64_t n, hs_scored x)
{
    int64_t at = n;
    while (at > 0 && x < heap[(at - 1) / 2]) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = x;
}

/* Puts x in the place of the root of a heap of n entries; n may be 0. */
static inline void hs_scored_replace_worst(hs_scored *heap, int64_t n, hs_scored x)
{
    int64_t at = 0, child = 1;
    if (n == 0)
        return;
    for (; child + 1 < n; child = 2 * at + 1) {
        child += heap[child + 1] < heap[child];
        if (x <= heap[child])
            break;
        heap[at] = heap[child];
        at = child;
    }
    if (child + 1 == n && heap[child] < x) {
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

#endif
