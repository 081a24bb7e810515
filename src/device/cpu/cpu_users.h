/* Cutting a jagged batch into tasks for threads: runs of rows of one user. */
#ifndef HS_DEVICE_CPU_CPU_USERS_H
#define HS_DEVICE_CPU_CPU_USERS_H

#include "tensor/mat.h"

/* Rows first .. end - 1 of a user, counted from the user's own row 0. */
typedef struct hs_user_task {
    int64_t user, first, end;
} hs_user_task;

/* Tasks of at most `chunk` rows; users without rows have none. candidates [n_users + 1], or NULL: each user has further rows,
 * which count on behind its others. */
int64_t hs_user_tasks_count(const hs_jagged *users, const int64_t *candidates, int64_t chunk);
/* Fills tasks [hs_user_tasks_count], the costliest first within a factor of two, so that no thread starts a long task
 * when the others are done. Cost: rows times tokens up to the last, where a user's rows, but for candidates,
 * are the newest of its history[user] tokens (history NULL: all of them). Cuts lie at multiples of chunk. */
void hs_user_tasks_list(
    hs_user_task *tasks, const hs_jagged *users, const int64_t *candidates, const int64_t *history, int64_t chunk);

static inline int64_t hs_user_rows(const hs_jagged *users, int64_t user)
{
    return users->offset[user + 1] - users->offset[user];
}

/* With candidates, or NULL. */
static inline int64_t hs_user_all_rows(const hs_jagged *users, const int64_t *candidates, int64_t user)
{
    return hs_user_rows(users, user) + (candidates ? candidates[user + 1] - candidates[user] : 0);
}

#endif
