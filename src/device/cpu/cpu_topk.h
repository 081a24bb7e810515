/* A bounded heap of scored items, the worst at its root. */
#ifndef HS_DEVICE_CPU_CPU_TOPK_H
#define HS_DEVICE_CPU_CPU_TOPK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hs_scored {
    int64_t id;
    float score; /* never NaN */
} hs_scored;

/* a comes after b in the order of top-k: smaller score, or the same score and the larger id. */
static inline bool hs_scored_worse(hs_scored a, hs_scored b)
{
    return a.score < b.score || (a.score == b.score && a.id > b.id);
}

/* Adds x to a heap of n entries that has room for one more. */
static inline void hs_scored_push(hs_scored *heap, int64_t n, hs_scored x)
{
    int64_t at = n;
    while (at > 0 && hs_scored_worse(x, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = x;
}

/* Puts x in the place of the root of a heap of n entries; n may be 0. */
static inline void hs_scored_replace_worst(hs_scored *heap, int64_t n, hs_scored x)
{
    if (n == 0)
        return;
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && hs_scored_worse(heap[child + 1], heap[child]))
            child++;
        if (!hs_scored_worse(heap[child], x))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

#endif
