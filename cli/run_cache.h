/* The KV cache of a run: opened, loaded, kept away from warm-up, measured, verified, saved. Every function is right for
 * a run without cache, where it does nothing. */
#ifndef HS_CLI_RUN_CACHE_H
#define HS_CLI_RUN_CACHE_H

#include "cli/json_writer.h"
#include "cli/run.h"
#include "cli/run_verify.h"

/* Opens run->cache as it was asked for, on the run's model and session. HSTU_ENOENT, HSTU_EFORMAT, HSTU_EINVAL of a
 * file to load; HSTU_EINVAL, HSTU_ENOMEM of the budget; HSTU_EIO, HSTU_ENOENT of a place to save to. Damaged entries
 * are a warning. */
hstu_status hs_run_cache_open(hs_run *run, hstu_error *err);
void hs_run_cache_close(hs_run *run);
/* From here on the session answers with the cache, or without. */
hstu_status hs_run_cache_use(hs_run *run, bool on, hstu_error *err);

/* Around the n_timed batches, 0 where latencies are not wanted: counters begin anew; each batch is noted behind its
 * answer. */
hstu_status hs_run_cache_begin(hs_run *run, int64_t n_timed, hstu_error *err);
hstu_status hs_run_cache_note(hs_run *run, size_t n_users, double latency_s, hstu_error *err);
/* Fills stats and latency_s, and saves the cache where that was asked for. */
hstu_status hs_run_cache_end(hs_run *run, hstu_error *err);

/* Whether the batch noted last is one that is answered once more without the cache. */
bool hs_run_cache_is_due(const hs_run *run);
/* Compares the two answers of a batch of n_users, and counts. HSTU_EDEVICE names the first difference, in a sentence
 * that begins with what `name` writes of user `user` of the batch. */
typedef void hs_name_user(void *ctx, size_t user, char *text, size_t size);
hstu_status hs_run_cache_verify(hs_run *run, const hs_answer_part *part, size_t n_parts, size_t n_users,
    hs_name_user *name, void *ctx, hstu_error *err);
/* The same for samples first .. first + n_users - 1 of the run. */
hstu_status hs_run_cache_verify_samples(
    hs_run *run, const hs_answer_part *part, size_t n_parts, size_t n_users, int64_t first, hstu_error *err);

/* The key kv_cache of a report, if the run has a cache. */
void hs_report_put_cache(hs_json_writer *w, const hs_run *run);
/* The same in a few lines for a person. */
void hs_report_print_cache(FILE *out, const hs_run *run);

#endif
