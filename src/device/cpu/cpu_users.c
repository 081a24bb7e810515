/* Tasks over a jagged batch, ordered by cost. */
#include "device/cpu/cpu_users.h"

#include "device/cpu/cpu_int.h"

enum { N_CLASSES = 64 };

int64_t hs_user_tasks_count(const hs_jagged *users, const int64_t *candidates, int64_t chunk)
{
    int64_t n = 0;
    for (int64_t b = 0; b < users->n_users; b++)
        n += hs_ceil_div_i64(hs_user_all_rows(users, candidates, b), chunk);
    return n;
}

/* 0 for the costliest class. */
static int class_of(int64_t rows, int64_t tokens)
{
    const double cost = (double)rows * (double)(tokens > 0 ? tokens : 1);
    const uint64_t whole = cost < 4e18 ? (uint64_t)cost : UINT64_MAX;
    return __builtin_clzll(whole | 1);
}

void hs_user_tasks_list(
    hs_user_task *tasks, const hs_jagged *users, const int64_t *candidates, const int64_t *history, int64_t chunk)
{
    int64_t place[N_CLASSES] = {0};
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t b = 0; b < users->n_users; b++) {
            const int64_t rows = hs_user_all_rows(users, candidates, b);
            const int64_t before = history ? history[b] - hs_user_rows(users, b) : 0;
            for (int64_t first = 0; first < rows; first += chunk) {
                const int64_t end = hs_min_i64(first + chunk, rows);
                const int64_t at = place[class_of(end - first, before + end)]++;
                if (pass == 1)
                    tasks[at] = (hs_user_task){.user = b, .first = first, .end = end};
            }
        }
        int64_t begin = 0;
        for (int c = 0; pass == 0 && c < N_CLASSES; c++) {
            const int64_t count = place[c];
            place[c] = begin;
            begin += count;
        }
    }
}
