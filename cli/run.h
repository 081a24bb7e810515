/* One `hstu run`: what was asked, what is open, what came out. */
#ifndef HS_CLI_RUN_H
#define HS_CLI_RUN_H

#include "base/dynbuf.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/run_samples.h"
#include "cli/stage_times.h"
#include "hstu/cache.h"
#include "hstu/hstu.h"
#include "hstu/metric.h"
#include "hstu/npu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Batches by what they took from the cache: every user that has a history reused rows, none did, or some. */
enum { HS_BATCH_HIT, HS_BATCH_MISS, HS_BATCH_MIXED, HS_N_BATCH_KINDS };

/* The cache of a run (cli/run_cache.h). */
typedef struct hs_run_cache {
    /* asked */
    bool on;
    hstu_cache_options options;
    int64_t verify_every;              /* batches; 0: none is answered twice */
    const char *load_path, *save_path; /* or NULL */
    /* open */
    hstu_cache *cache;   /* NULL: the run has none */
    hstu_session *plain; /* without the cache, for verification; or NULL */
    /* what came out */
    hstu_cache_stats stats;
    hstu_cache_loaded loaded;
    int64_t n_batches; /* answered so far: the timed ones, or those of requests */
    int64_t n_verified_batches, n_verified_requests;
    double *latency_s; /* [HS_N_BATCH_KINDS, n_timed] with n_of_kind each, ascending at the end; NULL for requests */
    int64_t n_timed, n_of_kind[HS_N_BATCH_KINDS];
} hs_run_cache;

/* The NPU of a run (cli/run_npu.h). */
typedef struct hs_run_npu {
    /* asked */
    bool on; /* the device is not the processor */
    hstu_npu_options options;
    bool warm_up;
    int selftest; /* HS_RUN_SELFTEST_AUTO, ... */
    /* what came out */
    const char *selftest_result; /* "passed", "known", "off" */
    hstu_self_test tested;       /* errors NAN where no test ran */
    double warmup_s;             /* NAN without one */
    double compiled_before_s;    /* compile_s when the measured part began */
    hstu_npu_stats stats;        /* of the measured part */
    int64_t n_requests;          /* in it */
} hs_run_npu;

typedef struct hs_run {
    hs_console console;
    /* asked, with the defaults of options and preset filled in */
    const char *checkpoint;                                    /* NULL: random weights */
    const char *candidates_path, *requests_path, *output_path; /* or NULL */
    hstu_history_options history;                              /* the model's rules with the command line's changes */
    int64_t batch_size;
    int64_t steps;      /* batches; 0: all */
    int64_t window;     /* newest events of a history that are given to the model */
    int64_t slide_step; /* hs_window_start */
    int64_t warmup;     /* batches that run once before the timed ones */
    int64_t top_k[HS_MAX_OPTION_VALUES];
    size_t n_top_k;
    int64_t k; /* the largest of top_k */
    uint64_t seed;
    bool filter_seen, dump_logits, profile;
    bool pad_attention; /* histories are padded in front with item 0 up to `window` */
    bool ranking;       /* the model's family; then `rules` instead of history, top_k, k and filter_seen */
    hstu_ranking_options rules;
    bool replay; /* the protocol; then replay_rules instead of history.protocol, or of rules */
    hstu_replay_options replay_rules;
    int64_t micro_batch; /* 0: the library's */
    /* open */
    hstu_model *model;
    hstu_model_options model_options; /* that opened it */
    hstu_model_info info;
    hstu_session *session;
    hstu_dataset *dataset; /* NULL for requests */
    hstu_dataset_info dataset_info;
    hstu_histories *histories; /* one of these three, by the protocol */
    hstu_ranking_samples *ranking_samples;
    hstu_replay *replayed;
    hs_samples samples;  /* what it is made of; those of requests are none */
    int64_t item_offset; /* original id = model id - item_offset */
    int64_t *candidate;  /* model ids, ascending, each once; NULL: every item */
    size_t n_candidates;
    hs_run_cache cache;
    hs_run_npu npu;
} hs_run;

/* Metrics of one task of a ranking model. */
typedef struct hs_task {
    hstu_auc auc;
    hstu_gauc gauc;
    hstu_log_loss loss;
} hs_task;

typedef struct hs_run_result {
    int64_t n_batches, n_requests;
    int64_t n_targets;     /* of all requests; of a ranking model candidates */
    double total_s;        /* of the timed batches: assembling and answering, without compiling */
    double *latency_s;     /* [n_batches] from tokens to top-k or logits, without compiling, ascending */
    hs_stage_times stages; /* of the timed batches, with --profile */
    int64_t *rank;         /* [n_targets] as hstu_recommend gives it */
    int64_t *popular_rank; /* [n_targets] of the most-popular baseline, by the same rules */
    /* ranking */
    float *logits; /* [n_targets, info.n_classes] */
    hs_task *task; /* [info.n_tasks] where tasks are sigmoids, else NULL */
    hstu_multiclass multiclass;
} hs_run_result;

void hs_run_result_free(hs_run_result *result);

/* Reads run->candidates_path, original ids, one a line. */
hstu_status hs_run_read_candidates(hs_run *run, hstu_error *err);
/* Answers every sample once, in order. */
hstu_status hs_run_evaluate(hs_run *run, hs_run_result *result, hstu_error *err);
/* Fills rank [targets of the first n samples] when items are ranked by their count over all histories, uncut, ties to
 * the smaller id; candidates, filter and window as in the run. An event that stands in several histories of its user
 * counts once. */
hstu_status hs_run_rank_by_popularity(const hs_run *run, size_t n, int64_t *rank, hstu_error *err);
/* Answers run->requests_path on standard output, one JSON line each, in order. */
hstu_status hs_run_answer_requests(hs_run *run, hstu_error *err);

/* With a ranking model: scores every candidate of every sample once, in order, and measures. */
hstu_status hs_run_rank(hs_run *run, hs_run_result *result, hstu_error *err);
/* With a ranking model: logits and probabilities of each request's candidates. */
hstu_status hs_run_rank_requests(hs_run *run, hstu_error *err);
/* An error sentence of a batch of one user, behind its "user 0: ": who calls knows a better name. */
const char *hs_run_without_user(const char *sentence);
/* probability [n_classes] of one candidate's logits, in fp32: sigmoids, or a softmax where the model has one task. */
void hs_run_probabilities(const hstu_model_info *info, const float *logits, float *probability);

/* The result as JSON, into `out`. HSTU_ENOMEM. */
hstu_status hs_report_json(hs_dynbuf *out, const hs_run *run, const hs_run_result *result, hstu_error *err);
/* The same figures for a person. */
void hs_report_table(FILE *out, const hs_run *run, const hs_run_result *result);
/* For qsort. */
int hs_ascending(const void *a, const void *b);
/* The p-quantile of ascending x [n], n >= 1: linear between the two nearest order statistics (numpy's default; the
 * median of an even count is the mean of the middle two). */
double hs_quantile(const double *x, size_t n, double p);

#endif
