/* Batches out of samples: the part of every evaluation that comes before the answer. */
#ifndef HS_CLI_RUN_ASSEMBLE_H
#define HS_CLI_RUN_ASSEMBLE_H

#include "cli/run.h"

static inline int64_t hs_min_int(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Room for one batch of the run's samples at a time. */
typedef struct hs_batch_room {
    const hs_run *run;
    const int64_t **feature; /* [info.n_context] each contextual feature's ids by place; NULL: the user id */
    int64_t *offset, *target_offset, *context;
    int64_t *item, *time, *action;
    int64_t n_targets; /* the most that any batch has */
} hs_batch_room;

/* HSTU_ENOMEM; HSTU_EINVAL names a contextual feature that the samples lack. On failure hs_batch_room_close still is
 * right. */
hstu_status hs_batch_room_open(hs_batch_room *room, const hs_run *run, hstu_error *err);
void hs_batch_room_close(hs_batch_room *room);

/* Samples first .. first + n - 1, at most a batch, their histories cut to the run's window. Of a ranking model the
 * targets are candidates. Borrows the room. */
hstu_batch hs_batch_room_fill(const hs_batch_room *room, int64_t first, int64_t n);
/* [n_users + 1] of the batch that was filled last: where each user's targets begin, from 0. NULL: one each. */
const int64_t *hs_batch_room_targets(const hs_batch_room *room);

#endif
